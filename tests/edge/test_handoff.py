"""The hand-off from aiohttp to our socket loses no byte, whenever the bytes come."""

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from services.edge.gateway import GatewayLimits
from services.edge.socket_protocol import SocketProtocol
from tests.edge.door import (
    Door,
    handshake_bytes,
    open_door,
    read_frame,
    read_head,
    run_on_uvloop,
)
from tests.edge.frames import CLOSE, TEXT, client_frame, close_payload
from tests.waiting import until


def hold_back(door: Door) -> tuple[asyncio.Event, asyncio.Event]:
    """Makes every request wait, as slow authentication would: (a request came, let it go on)."""
    came, go_on = asyncio.Event(), asyncio.Event()

    @web.middleware
    async def wait(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        came.set()
        await go_on.wait()
        return await handler(request)

    app = door.gateway._runner.app
    app._middlewares = [*app._middlewares, wait]  # type: ignore[attr-defined]
    app._middlewares_handlers = tuple(app._prepare_middleware())  # type: ignore[attr-defined]
    app._run_middlewares = True  # type: ignore[attr-defined]
    return came, go_on


def test_a_frame_in_the_segment_of_the_handshake_arrives() -> None:
    async def main() -> None:
        async with open_door() as door:
            reader, writer = await door.dial()
            writer.write(handshake_bytes() + client_frame(TEXT, b"early"))
            head = await read_head(reader)
            assert head.startswith("HTTP/1.1 101 ")
            assert "Sec-WebSocket-Accept: " in head
            assert "Sec-WebSocket-Protocol" not in head
            assert await read_frame(reader) == (0x81, b"early")
            writer.close()

    run_on_uvloop(main())


@pytest.mark.parametrize("cut", [1, 2, 5, 6, 8])
def test_a_frame_cut_in_half_by_the_hand_off_arrives(cut: int) -> None:
    async def main() -> None:
        async with open_door() as door:
            reader, writer = await door.dial()
            frame = client_frame(TEXT, b"halves")
            writer.write(handshake_bytes() + frame[:cut])
            await read_head(reader)
            writer.write(frame[cut:] + client_frame(TEXT, b"next"))
            assert await read_frame(reader) == (0x81, b"halves")
            assert await read_frame(reader) == (0x81, b"next")
            writer.close()

    run_on_uvloop(main())


def test_frames_sent_while_the_request_is_still_judged_arrive_in_order() -> None:
    async def main() -> None:
        async with open_door() as door:
            came, go_on = hold_back(door)
            reader, writer = await door.dial()
            writer.write(handshake_bytes() + client_frame(TEXT, b"0"))
            await came.wait()
            for number in range(1, 6):
                writer.write(client_frame(TEXT, b"%d" % number))
                await writer.drain()
                await asyncio.sleep(0.01)  # a segment of its own; nothing depends on it
            assert not door.connections
            go_on.set()
            await read_head(reader)
            for number in range(6):
                assert await read_frame(reader) == (0x81, b"%d" % number)
            writer.close()

    run_on_uvloop(main())


@pytest.mark.parametrize("slow", [False, True])
def test_200_kilobytes_behind_the_handshake_arrive(slow: bool) -> None:
    async def main() -> None:
        async with open_door() as door:
            came, go_on = hold_back(door)
            reader, writer = await door.dial()
            # A slow answer lets aiohttp hold so much that it stops reading.
            count = 3000 if slow else 1000
            frames = [client_frame(TEXT, b"%05d" % i + b"x" * 195) for i in range(count)]
            if not slow:
                go_on.set()
            writer.write(handshake_bytes() + b"".join(frames))
            if slow:
                await came.wait()
                [old] = door.gateway._runner.server.connections  # type: ignore[union-attr]
                await until(lambda: old._buffer_paused)
                go_on.set()
            await read_head(reader)
            for i in range(count):
                first, payload = await read_frame(reader)
                assert (first, payload[:5]) == (0x81, b"%05d" % i)
            writer.write(client_frame(TEXT, b"still reading"))
            assert await read_frame(reader) == (0x81, b"still reading")
            writer.close()

    run_on_uvloop(main())


def test_a_client_that_leaves_before_its_answer_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with open_door() as door:
            came, go_on = hold_back(door)
            _, writer = await door.dial()
            writer.write(handshake_bytes())
            await came.wait()
            [old] = door.gateway._runner.server.connections  # type: ignore[union-attr]
            writer.transport.abort()
            await until(lambda: old.transport is None)
            go_on.set()
            await until(lambda: not door.gateway._runner.server.connections)  # type: ignore[union-attr]
            assert len(door.sweep) == 0
            assert not door.connections

    run_on_uvloop(main())


def test_aiohttp_keeps_nothing_of_a_socket() -> None:
    def census() -> Counter[str]:
        gc.collect()
        found = Counter(type(o).__name__ for o in gc.get_objects())
        return Counter({kind: found[kind] - before.get(kind, 0) for kind in kinds})

    kinds = (SocketProtocol.__name__, "RequestHandler", "Request")
    before: dict[str, int] = {}
    before = census()

    async def main() -> None:
        async with open_door() as door:
            pairs = [await door.dial_upgraded() for _ in range(5)]
            await until(lambda: not door.gateway._runner.server.connections)  # type: ignore[union-attr]
            assert len(asyncio.all_tasks()) <= 3  # the test's two, and the sweep
            assert census() == Counter(SocketProtocol=5)
            for _, writer in pairs:
                writer.write(client_frame(CLOSE, close_payload(1000)))
            await until(lambda: len(door.sweep) == 0)
            pairs.clear()
            door.connections.clear()
            assert census() == Counter()

    run_on_uvloop(main())


def test_the_handed_over_socket_outlives_the_keepalive_of_http() -> None:
    async def main() -> None:
        async with open_door(GatewayLimits(request_s=0.2, drain_s=1)) as door:
            reader, writer = await door.dial_upgraded()
            idle_reader, _ = await door.dial()
            assert await idle_reader.read() == b""  # cut after 0.2 s without a request
            writer.write(client_frame(TEXT, b"here"))
            assert await read_frame(reader) == (0x81, b"here")
            writer.close()

    run_on_uvloop(main())
