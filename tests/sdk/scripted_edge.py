"""An edge whose every answer is written by the test: aiohttp on a loopback port of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web

Frame = dict[str, Any]


class Visit:
    """One connection of a client: what it sends, and what the test answers."""

    def __init__(self, socket: web.WebSocketResponse, user: str) -> None:
        self.socket = socket
        self.user = user
        self.frames: asyncio.Queue[Frame | None] = asyncio.Queue()
        self.over = asyncio.Event()

    async def next(self, kind: str) -> Frame:
        """The next frame, which has to be of this kind (or an ack alone)."""
        async with asyncio.timeout(10):
            frame = await self.frames.get()
        assert frame is not None, f"closed ({self.socket.close_code}) instead of {kind}"
        assert kind in frame, f"{frame} instead of {kind}"
        return frame

    async def end(self) -> int | None:
        """Waits for the end of the connection; returns its close code."""
        async with asyncio.timeout(10):
            while (frame := await self.frames.get()) is not None:
                assert set(frame) == {"ack"}, f"{frame} instead of the end"
        return self.socket.close_code

    async def send(self, *frames: Frame) -> None:
        for frame in frames:
            await self.socket.send_str(json.dumps(frame))

    async def accept(self, *states: Frame, **fields: Any) -> Frame:
        """Answers `connect`; a subscription asked for afterSeq is recovered, at the seq given."""
        frame = await self.next("connect")
        connect = frame["connect"]
        connected = {
            "sessionId": "s",
            "generation": str(int(connect.get("lastGeneration", 0)) + 1),
            "logId": "log-1",
            "edgeId": "7",
            "user": self.user,
            "clientId": connect["clientId"],
            "subscriptions": list(states),
        } | fields
        await self.send({"id": frame["id"], "connected": connected})
        return connect

    async def message(self, subject: str, seq: int, kind: str = "LIVE", text: str = "") -> None:
        await self.send({"message": message(subject, seq, kind, text)})

    async def cut(self) -> None:
        """Ends the connection without a close frame."""
        assert self.socket._req is not None
        assert self.socket._req.transport is not None
        self.socket._req.transport.abort()


def message(subject: str, seq: int, kind: str = "LIVE", text: str = "") -> Frame:
    return {
        "subject": subject,
        "seq": str(seq),
        "epoch": "1",
        "kind": kind,
        "text": text or f"m{seq}",
        "publisher": "bob",
        "acceptedAt": "2026-11-22T12:00:00Z",
        "headers": {},
    }


class ScriptedEdge:
    """The edge: `await visit()` for each connection; `answers[path]` for plain HTTP."""

    def __init__(self) -> None:
        self.url = ""
        self.turn_away = 0  # so many handshakes, with the advice to come back in a second
        self.visits: asyncio.Queue[Visit] = asyncio.Queue()
        self.answers: dict[str, tuple[int, Any]] = {}
        self.requests: list[tuple[str, dict[str, str], Any]] = []  # path, query, body

    async def visit(self) -> Visit:
        async with asyncio.timeout(10):
            return await self.visits.get()

    async def _connect(self, request: web.Request) -> web.WebSocketResponse:
        if self.turn_away:
            self.turn_away -= 1
            raise web.HTTPServiceUnavailable(headers={"Retry-After": "1"})
        socket = web.WebSocketResponse(protocols=("onward.v1.json",))
        await socket.prepare(request)
        visit = Visit(socket, request.query.get("user", ""))
        await self.visits.put(visit)
        async for received in socket:
            if received.type is WSMsgType.TEXT:
                await visit.frames.put(json.loads(received.data))
        await visit.frames.put(None)
        return socket

    async def _call(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.path, dict(request.query), body))
        status, answer = self.answers[request.path]
        return web.json_response(answer, status=status)


@asynccontextmanager
async def scripted_edge() -> AsyncIterator[ScriptedEdge]:
    edge = ScriptedEdge()
    app = web.Application()
    app.router.add_get("/v1/connect", edge._connect)
    app.router.add_route("*", "/v1/{rest:.*}", edge._call)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    edge.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield edge
    finally:
        await runner.cleanup()
