"""The whole door against another implementation of RFC 6455: the client of `websockets`."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from tests.edge.door import open_door, run_on_uvloop
from tests.waiting import until

JSON = [Subprotocol("onward.v1.json")]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 500_000, 524_288])
def test_texts_of_every_size_come_back(size: int) -> None:
    async def main() -> None:
        async with open_door() as door, connect(door.ws_url, max_size=None) as client:
            text = ("añ€😀" * (size // 10 + 1)).encode()[:size].decode(errors="ignore")
            await client.send(text)
            assert await client.recv() == text

    run_on_uvloop(main())


def test_a_fragmented_text_comes_back_whole_with_a_ping_between() -> None:
    async def main() -> None:
        async with open_door() as door, connect(door.ws_url) as client:
            pongs: list[asyncio.Future[float]] = []

            async def fragments() -> AsyncIterator[str]:
                for part in ("one ", "€uro ", "", "three"):
                    yield part
                    pongs.append(asyncio.ensure_future(await client.ping()))  # type: ignore[arg-type]

            await client.send(fragments())
            assert await client.recv() == "one €uro three"
            await asyncio.gather(*pongs)

    run_on_uvloop(main())


def test_many_messages_keep_their_order() -> None:
    async def main() -> None:
        async with open_door() as door, connect(door.ws_url, subprotocols=JSON) as client:
            assert client.subprotocol == "onward.v1.json"

            async def send_all() -> None:
                for i in range(2000):
                    await client.send(str(i))

            sending = asyncio.create_task(send_all())
            for i in range(2000):
                assert await client.recv() == str(i)
            await sending

    run_on_uvloop(main())


def test_binary_is_answered_and_the_connection_stays() -> None:
    async def main() -> None:
        async with open_door() as door, connect(door.ws_url) as client:
            await client.send(os.urandom(70_000))
            assert await client.recv() == "binary"
            await client.send("text")
            assert await client.recv() == "text"

    run_on_uvloop(main())


def test_pings_of_both_sides_are_answered() -> None:
    async def main() -> None:
        async with open_door() as door, connect(door.ws_url) as client:
            for payload in (b"", b"x", b"y" * 125):
                await (await client.ping(payload))
            door.connections[0].socket.ping(b"from the server")
            await until(lambda: door.connections[0].pongs == [b"from the server"])

    run_on_uvloop(main())


def test_no_extension_is_agreed_on() -> None:
    async def main() -> None:
        async with open_door() as door, connect(door.ws_url, compression="deflate") as client:
            assert client.response is not None
            assert "Sec-WebSocket-Extensions" not in client.response.headers
            await client.send("a" * 1000)
            assert await client.recv() == "a" * 1000

    run_on_uvloop(main())


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3333, 4999])
def test_a_close_of_the_client_is_answered_with_its_code(code: int) -> None:
    async def main() -> None:
        async with open_door() as door, connect(door.ws_url) as client:
            await client.close(code, "tschüß")
            assert client.close_code == code
            assert door.connections[0].closed == [(True, code)]

    run_on_uvloop(main())


@pytest.mark.parametrize("code", [1000, 4000, 4001, 4002, 4003, 4004, 4500, 4501, 4502, 4503])
def test_a_close_of_the_server_reaches_the_client(code: int) -> None:
    async def main() -> None:
        async with open_door() as door, connect(door.ws_url) as client:
            door.connections[0].socket.close(code, "why")
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert (client.close_code, client.close_reason) == (code, "why")
            await until(lambda: door.connections[0].closed == [(False, code)])

    run_on_uvloop(main())


async def code_after(client: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed):
        await client.recv()
    return client.close_code


def test_a_message_too_big_is_told_so() -> None:
    async def main() -> None:
        async with open_door() as door, connect(door.ws_url) as client:
            await client.send("x" * 524_289)
            assert await code_after(client) == CloseCode.MESSAGE_TOO_BIG

    run_on_uvloop(main())


def test_fragments_too_big_together_are_told_so() -> None:
    async def main() -> None:
        async with open_door() as door, connect(door.ws_url) as client:

            async def fragments() -> AsyncIterator[str]:
                for _ in range(6):
                    yield "x" * 100_000

            try:
                await client.send(fragments())
            except ConnectionClosed:
                pass  # the server's verdict may come before the last fragment is sent
            assert await code_after(client) == CloseCode.MESSAGE_TOO_BIG

    run_on_uvloop(main())


def test_text_that_is_no_utf_8_is_told_so() -> None:
    async def main() -> None:
        async with open_door() as door, connect(door.ws_url) as client:
            await client.send(b"\xff\xfe", text=True)
            assert await code_after(client) == CloseCode.INVALID_DATA

    run_on_uvloop(main())


def test_an_unknown_subprotocol_is_refused() -> None:
    async def main() -> None:
        async with open_door() as door:
            with pytest.raises(InvalidStatus) as refused:
                await connect(door.ws_url, subprotocols=[Subprotocol("graphql-ws")])
            assert refused.value.response.status_code == 400

    run_on_uvloop(main())


def test_a_hundred_clients_at_once() -> None:
    async def main() -> None:
        async with open_door() as door:

            async def one(name: str) -> None:
                async with connect(door.ws_url) as client:
                    for i in range(5):
                        await client.send(f"{name}-{i}")
                        assert await client.recv() == f"{name}-{i}"

            await asyncio.gather(*(one(str(n)) for n in range(100)))
            await until(lambda: len(door.sweep) == 0)
            assert all(c.closed == [(True, 1000)] for c in door.connections)

    run_on_uvloop(main())
