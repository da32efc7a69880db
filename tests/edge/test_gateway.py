"""The door: which handshakes it takes, what it says to the others, and how it closes."""

import asyncio
import json
import logging
import socket as tcp

import pytest
from structlog.testing import capture_logs

from services.chassis.errors import StartError
from services.edge.gateway import GatewayLimits
from services.edge.socket_protocol import SocketLimits
from tests.edge.door import (
    Door,
    handshake_bytes,
    open_door,
    read_close,
    read_frame,
    read_head,
    run_on_uvloop,
)
from tests.edge.frames import CLOSE, TEXT, client_frame, close_payload
from tests.waiting import until


async def ask(door: Door, request: bytes) -> tuple[int, str, bytes]:
    """Sends a request; returns status, head and body of the answer."""
    reader, writer = await door.dial()
    writer.write(request)
    head = await read_head(reader)
    size = next(
        (
            int(line.partition(":")[2])
            for line in head.splitlines()
            if line.lower().startswith("content-length:")
        ),
        0,
    )
    body = await reader.readexactly(size)
    writer.close()
    return int(head.split(" ")[1]), head, body


async def is_cut(reader: asyncio.StreamReader) -> bool:
    """Whether the connection ends without an answer; by a reset too, which is the cheapest."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


REFUSED = {
    "a plain GET": (
        b"GET /v1/connect HTTP/1.1\r\nHost: localhost\r\n\r\n",
        426,
        b"ARGUMENT_INVALID",
    ),
    "HTTP/1.0": (handshake_bytes().replace(b"HTTP/1.1", b"HTTP/1.0"), 426, b"ARGUMENT_INVALID"),
    "another upgrade": (
        handshake_bytes("Upgrade: h2c", without="Upgrade"),
        426,
        b"ARGUMENT_INVALID",
    ),
    "no Connection": (handshake_bytes(without="Connection"), 400, b"ARGUMENT_INVALID"),
    "no key": (handshake_bytes(without="Sec-WebSocket-Key"), 400, b"ARGUMENT_INVALID"),
    "a short key": (
        handshake_bytes("Sec-WebSocket-Key: AAAA", without="Sec-WebSocket-Key"),
        400,
        b"ARGUMENT_INVALID",
    ),
    "a key that is no base64": (
        handshake_bytes("Sec-WebSocket-Key: %%%%", without="Sec-WebSocket-Key"),
        400,
        b"ARGUMENT_INVALID",
    ),
    "no version": (handshake_bytes(without="Sec-WebSocket-Version"), 426, b"ARGUMENT_INVALID"),
    "version 8": (
        handshake_bytes("Sec-WebSocket-Version: 8", without="Sec-WebSocket-Version"),
        426,
        b"ARGUMENT_INVALID",
    ),
    "an unknown subprotocol": (
        handshake_bytes("Sec-WebSocket-Protocol: chat"),
        400,
        b"UNSUPPORTED",
    ),
    "the binary subprotocol": (
        handshake_bytes("Sec-WebSocket-Protocol: onward.v1.protobuf"),
        400,
        b"UNSUPPORTED",
    ),
    "a user with a line break": (
        handshake_bytes(path="/v1/connect?user=a%0Ab"),
        400,
        b"ARGUMENT_INVALID",
    ),
    "a body": (handshake_bytes("Content-Length: 2") + b"hi", 400, b"ARGUMENT_INVALID"),
    "a POST": (
        handshake_bytes("Content-Length: 0").replace(b"GET", b"POST"),
        405,
        b"UNSUPPORTED",
    ),
    "another path": (handshake_bytes(path="/v2/connect"), 404, b"UNSUPPORTED"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_handshake_is_refused_in_json(name: str) -> None:
    request, expected, code = REFUSED[name]

    async def main() -> None:
        async with open_door() as door:
            status, head, body = await ask(door, request)
            assert status == expected
            assert "application/json" in head
            assert b'"code":"' + code + b'"' in body
            if status == 426:
                assert "Sec-WebSocket-Version: 13" in head
            assert not door.connections

    run_on_uvloop(main())


def test_a_connection_goes_on_as_http_after_a_refused_handshake() -> None:
    async def main() -> None:
        async with open_door() as door:
            reader, writer = await door.dial()
            writer.write(handshake_bytes("Sec-WebSocket-Protocol: chat"))
            assert " 400 " in await read_head(reader)
            await reader.readuntil(b"}")
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert " 200 " in await read_head(reader)
            writer.close()

    run_on_uvloop(main())


def test_the_json_subprotocol_is_agreed_on_among_others() -> None:
    async def main() -> None:
        async with open_door() as door:
            reader, writer = await door.dial()
            writer.write(
                handshake_bytes(
                    "Sec-WebSocket-Protocol: onward.v1.protobuf, onward.v1.json",
                    "Sec-WebSocket-Extensions: permessage-deflate",
                    path="/v1/connect?user=ann",
                )
            )
            head = await read_head(reader)
            assert " 101 " in head
            assert "Sec-WebSocket-Protocol: onward.v1.json" in head
            assert "Extensions" not in head
            assert door.connections[0].handshake.user == "ann"
            writer.close()

    run_on_uvloop(main())


def test_no_more_sockets_than_allowed_are_taken() -> None:
    async def main() -> None:
        async with open_door(GatewayLimits(sockets_max=1, drain_s=1)) as door:
            _, writer = await door.dial_upgraded()
            status, head, body = await ask(door, handshake_bytes())
            assert (status, b"OVERLOADED" in body) == (503, True)
            assert "Retry-After: 1" in head
            writer.write(client_frame(CLOSE, close_payload(1000)))
            await until(lambda: len(door.sweep) == 0)
            assert (await ask(door, handshake_bytes()))[0] == 101

    run_on_uvloop(main())


def test_connections_without_a_request_are_bounded_in_number_and_time() -> None:
    async def main() -> None:
        limits = GatewayLimits(half_open_max=2, request_s=0.5, drain_s=1)
        async with open_door(limits) as door:
            began = asyncio.get_running_loop().time()
            first, second = await door.dial(), await door.dial()
            second[1].write(b"GET /v1/conn")
            await until(lambda: len(door.gateway.doorstep) == 2)
            third, _ = await door.dial()
            assert await is_cut(first[0])
            assert asyncio.get_running_loop().time() - began < 0.5
            assert await is_cut(second[0])
            assert await is_cut(third)
            assert asyncio.get_running_loop().time() - began >= 0.5
            assert (await ask(door, handshake_bytes()))[0] == 101

    run_on_uvloop(main())


def test_what_a_client_sends_never_reaches_a_log(caplog: pytest.LogCaptureFixture) -> None:
    canary = b"canary-7f3a"
    attacks = [
        canary + b" nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nBad " + canary + b"\r\n\r\n",
        b"GET /v1/history?subject=/" + canary + b" HTTP/1.1\r\nHost: localhost\r\nX: \x00" + canary,
        b"\x16\x03\x01" + canary + b"\r\n\r\n",
        handshake_bytes() + client_frame(TEXT, canary, key=None),
    ]

    async def main() -> None:
        # One of them is a request that does not end, and is waited for.
        async with open_door(GatewayLimits(request_s=1.0, drain_s=1.0)) as door:
            for attack in attacks:
                reader, writer = await door.dial()
                writer.write(attack)
                await reader.read(1)
                writer.write_eof()
                await reader.read()
                writer.close()

    with caplog.at_level(logging.DEBUG):
        run_on_uvloop(main())
    assert canary.decode() not in caplog.text
    for record in caplog.records:
        assert canary.decode() not in repr(record.__dict__)


def test_a_fault_of_a_handler_is_logged_by_its_place_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with open_door() as door:
            door.backend.fault = ValueError("canary-7f3a")
            query = b"GET /v1/history?subject=/a HTTP/1.1\r\nHost: localhost\r\n\r\n"
            status, _, body = await ask(door, query)
            assert (status, json.loads(body)["code"]) == (500, "UNAVAILABLE")

    with caplog.at_level(logging.DEBUG), capture_logs() as lines:
        run_on_uvloop(main())
    assert "canary-7f3a" not in caplog.text + repr(lines)
    [line] = lines
    assert (line["event"], line["error"]) == ("request_failed", "ValueError")
    assert "door.py" in line["at"]


def test_draining_tells_everybody_and_cuts_who_stays() -> None:
    async def main() -> None:
        async with open_door(GatewayLimits(drain_s=0.3)) as door:
            polite_reader, polite = await door.dial_upgraded()
            rude_reader, _ = await door.dial_upgraded()
            draining = asyncio.create_task(door.gateway.drain())
            assert await read_frame(polite_reader) == (0x88, close_payload(4000, b"bye"))
            polite.write(client_frame(CLOSE, close_payload(4000)))
            assert await polite_reader.read() == b""
            assert await read_frame(rude_reader) == (0x88, close_payload(4000, b"bye"))
            assert not draining.done()
            await draining
            with pytest.raises(ConnectionError):
                await rude_reader.read()
                await door.dial()
            assert [c.closed for c in door.connections] == [[(False, 4000)]] * 2
            told = sorted(connection.events for connection in door.connections)
            assert told == [["leave after 0", "dismissed"], ["leave after 2", "dismissed"]]

    run_on_uvloop(main())


def test_a_drain_serves_each_client_until_its_time_and_ends_with_the_last() -> None:
    async def main() -> None:
        async with open_door(GatewayLimits(drain_s=30.0, drain_rate=4)) as door:
            clients = [await door.dial_upgraded() for _ in range(3)]
            draining = asyncio.create_task(door.gateway.drain())
            await until(lambda: all(one.events for one in door.connections))
            assert sorted(one.events for one in door.connections) == [
                ["leave after 0"],
                ["leave after 250"],
                ["leave after 500"],
            ]
            for reader, writer in clients:
                writer.write(client_frame(TEXT, b"still here"))
                assert await read_frame(reader) == (0x81, b"still here")
                writer.write(client_frame(CLOSE, close_payload(1000)))
            async with asyncio.timeout(5):
                await draining
            assert [one.closed for one in door.connections] == [[(True, 1000)]] * 3

    run_on_uvloop(main())


def test_a_handshake_that_was_under_way_as_the_drain_began_ends_with_a_goodbye() -> None:
    async def main() -> None:
        async with open_door() as door:
            busy, door.gateway._busy = door.gateway._busy, lambda: None  # type: ignore[method-assign]
            door.gateway.draining = True
            reader, _ = await door.dial_upgraded()
            assert await read_frame(reader) == (0x88, close_payload(4000, b"bye"))
            assert door.connections[0].events == ["leave after 0", "dismissed"]
            door.gateway._busy = busy  # type: ignore[method-assign]

    run_on_uvloop(main())


def test_a_draining_door_takes_no_handshake() -> None:
    async def main() -> None:
        async with open_door() as door:
            reader, writer = await door.dial()
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await read_head(reader)
            door.gateway.draining = True
            await reader.readuntil(b"}")
            writer.write(handshake_bytes())
            assert " 503 " in await read_head(reader)
            writer.close()

    run_on_uvloop(main())


def test_a_busy_port_stops_the_start_with_a_sentence() -> None:
    async def main() -> None:
        async with open_door() as door, open_door() as second:
            second.gateway._address = f"127.0.0.1:{door.gateway.port}"
            with pytest.raises(StartError, match="ONWARD_EDGE_ADDRESS"):
                second.gateway._listen().listen()

    run_on_uvloop(main())


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:http", "127.0.0.1:99999", "256.1:80"])
def test_a_wrong_address_stops_the_start_with_a_sentence(address: str) -> None:
    async def main() -> None:
        async with open_door() as door:
            door.gateway._address = address
            with pytest.raises(StartError, match="cannot listen on"):
                door.gateway._listen()

    run_on_uvloop(main())


def test_accepted_connections_have_the_options_of_the_listener() -> None:
    async def main() -> None:
        limits = GatewayLimits(send_buffer_bytes=40_000, tcp_user_timeout_ms=12_345, drain_s=1)
        async with open_door(limits, SocketLimits()) as door:
            await door.dial_upgraded()
            transport = door.connections[0].socket._transport  # type: ignore[attr-defined]
            raw = transport.get_extra_info("socket")
            assert raw.getsockopt(tcp.IPPROTO_TCP, tcp.TCP_USER_TIMEOUT) == 12_345
            assert raw.getsockopt(tcp.SOL_SOCKET, tcp.SO_SNDBUF) == 80_000  # Linux doubles it
            assert raw.getsockopt(tcp.IPPROTO_TCP, tcp.TCP_NODELAY) == 1

    run_on_uvloop(main())


def test_a_violation_closes_with_its_code_over_a_real_socket() -> None:
    async def main() -> None:
        async with open_door() as door:
            reader, writer = await door.dial_upgraded()
            writer.write(client_frame(TEXT, b"hi", key=None))
            assert await read_close(reader) == 1002
            writer.close()

    run_on_uvloop(main())


LOCAL_HOSTS = ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.8.0.1", "[::1]:8080"]
OTHER_HOSTS = ["edge.example.org", "127.0.0.1.example.org", "10.0.0.1", "", "[", "localhost@evil"]


@pytest.mark.parametrize("host", [*LOCAL_HOSTS, *OTHER_HOSTS])
@pytest.mark.parametrize("anonymous", [True, False])
def test_without_tokens_only_this_machine_is_answered(host: str, anonymous: bool) -> None:
    async def main() -> None:
        async with open_door(anonymous=anonymous) as door:
            request = handshake_bytes(f"Host: {host}", without="Host")
            status, _, body = await ask(door, request)
            if host in LOCAL_HOSTS or not anonymous:
                assert status == 101
            else:
                assert (status, b"FORBIDDEN" in body) == (403, True)

    run_on_uvloop(main())


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://localhost:8080", 101),
        ("http://localhost:9090", 403),
        ("https://evil.example.org", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_without_tokens_no_page_of_another_site_may_ask(origin: str, expected: int) -> None:
    async def main() -> None:
        async with open_door() as door:
            headers = ("Host: localhost:8080", f"Origin: {origin}")
            status, _, _ = await ask(door, handshake_bytes(*headers, without="Host"))
            assert status == expected

    run_on_uvloop(main())
