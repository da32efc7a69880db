"""Who is let in to ask: over real sockets, with limits that are soon reached."""

import asyncio
import json

from services.edge.gateway import GatewayLimits
from services.edge.metrics import CONNECTIONS_REFUSED
from tests.edge.door import Door, handshake_bytes, open_door, read_head, run_on_uvloop
from tests.waiting import until

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def count(limit: str) -> float:
    return CONNECTIONS_REFUSED.labels(limit)._value.get()


async def ask(door: Door, request: bytes) -> tuple[int, dict[str, object]]:
    """Sends a request; returns the status and the JSON. The edge must hang up."""
    reader, writer = await door.dial()
    writer.write(request)
    head = await read_head(reader)
    body = await reader.read()
    writer.close()
    return int(head.split(" ")[1]), json.loads(body)


async def is_closed_at_once(door: Door, data: bytes) -> bool:
    reader, writer = await door.dial()
    writer.write(data)
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


def test_garbage_is_closed_without_an_answer() -> None:
    async def main() -> None:
        async with open_door() as door:
            before = count("not_http")
            for data in (b"\x16\x03\x01\x02\x00\x01", b"hello\r\n\r\n", b"\x00" * 100_000):
                assert await is_closed_at_once(door, data)
            assert count("not_http") - before == 3
            assert len(door.gateway.doorstep) == 0

    run_on_uvloop(main())


def test_a_head_too_large_is_told_so() -> None:
    async def main() -> None:
        async with open_door() as door:
            status, refusal = await ask(door, b"GET /" + b"x" * 40_000)
            assert (status, refusal["code"]) == (431, "HEADERS_TOO_LARGE")

    run_on_uvloop(main())


def test_a_head_too_large_is_cut_on_a_connection_that_asked_before() -> None:
    async def main() -> None:
        async with open_door() as door:
            reader, writer = await door.dial()
            writer.write(HEALTH)
            await reader.readuntil(b"}")
            before = count("head_bytes_max")
            writer.write(b"GET / HTTP/1.1\r\n")
            for _ in range(10):
                writer.write(b"X: " + b"y" * 4_000 + b"\r\n")
                await asyncio.sleep(0)
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass
            assert count("head_bytes_max") - before == 1

    run_on_uvloop(main())


def test_an_address_has_so_many_connections_of_every_kind() -> None:
    async def main() -> None:
        async with open_door(GatewayLimits(address_connections_max=3, drain_s=1)) as door:
            _, upgraded = await door.dial_upgraded()
            reader, asking = await door.dial()
            asking.write(HEALTH)
            await reader.readuntil(b"}")
            _, silent = await door.dial()
            await until(lambda: len(door.gateway.doorstep) == 1)
            status, refusal = await ask(door, handshake_bytes())
            assert (status, refusal["code"]) == (429, "TOO_MANY_CONNECTIONS")
            assert refusal["retryAfterMs"] == 1000
            for writer in (upgraded, asking, silent):
                writer.close()
                await until(lambda: len(door.gateway._addresses) <= 1)

                async def is_let_in() -> bool:
                    reader, writer = await door.dial()
                    writer.write(handshake_bytes())
                    inside = " 101 " in await read_head(reader)
                    writer.close()
                    return inside

                await until(is_let_in)

    run_on_uvloop(main())


def test_no_connection_is_counted_once_it_is_gone() -> None:
    async def main() -> None:
        async with open_door(GatewayLimits(address_connections_max=2, drain_s=1)) as door:
            for request in (HEALTH, handshake_bytes(), b"", b"\x00", b"GET / HT", b"GET /" * 9999):
                _, writer = await door.dial()
                writer.write(request)
                await asyncio.sleep(0.01)  # some are refused by then, others not; both are good
                writer.close()
                await until(lambda: len(door.gateway._addresses) == 0)
            assert door.gateway.requests == 0

    run_on_uvloop(main())


def test_no_more_requests_than_allowed_are_taken() -> None:
    async def main() -> None:
        async with open_door(GatewayLimits(requests_max=1, drain_s=1)) as door:
            reader, writer = await door.dial()
            writer.write(HEALTH)
            await reader.readuntil(b"}")
            status, refusal = await ask(door, HEALTH)
            assert (status, refusal["code"]) == (503, "OVERLOADED")
            writer.close()
            await until(lambda: door.gateway.requests == 0)
            _, upgraded = await door.dial_upgraded()
            assert door.gateway.requests == 0
            upgraded.close()

    run_on_uvloop(main())


def test_a_slow_second_request_is_cut_as_the_first_would_be() -> None:
    async def main() -> None:
        async with open_door(GatewayLimits(request_s=0.3, drain_s=1)) as door:
            reader, writer = await door.dial()
            writer.write(HEALTH)
            await reader.readuntil(b"}")
            began = asyncio.get_running_loop().time()
            ended = asyncio.create_task(reader.read())
            for byte in HEALTH * 3:
                if ended.done():
                    break
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05)
            assert ended.done()
            assert asyncio.get_running_loop().time() - began < 3

    run_on_uvloop(main())


def test_many_requests_at_once_are_all_answered() -> None:
    async def main() -> None:
        async with open_door() as door:
            pairs = [await door.dial() for _ in range(100)]
            for _, writer in pairs:
                writer.write(handshake_bytes())
            for reader, writer in pairs:
                assert " 101 " in await read_head(reader)
                writer.close()

    run_on_uvloop(main())
