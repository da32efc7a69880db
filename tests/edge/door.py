"""A real gateway on a free port with a connection that echoes, for tests over real sockets."""

import asyncio
import base64
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import uvloop
from google.protobuf.message import Message
from onward.client.v1 import client_pb2
from onward.presence.v1 import presence_pb2, users_pb2
from onward.types.v1 import entry_pb2, refusal_pb2

from services.edge import websocket
from services.edge.backend import Accepted, Draining, History
from services.edge.cluster_status import Picture
from services.edge.gateway import Gateway, GatewayLimits
from services.edge.http_api import HttpApi
from services.edge.http_callbacks import CallbackLimits
from services.edge.http_story import StoryLimits
from services.edge.socket import Connection, Handshake, Socket
from services.edge.socket_protocol import SocketLimits
from services.edge.sweep import Sweep
from services.edge.tokens import Authenticator

T = TypeVar("T")
KEY = base64.b64encode(bytes(range(16))).decode()
SECRET = "a key of tests, thirty-two bytes at least"
LINK_KEY = "a key of tests that signs links"


def run_on_uvloop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on the loop that production uses, within 60 s."""

    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await coroutine

    return uvloop.run(bounded())


class Echo:
    """A connection that sends every text back and remembers what happened."""

    def __init__(self, socket: Socket, handshake: Handshake) -> None:
        self.socket = socket
        self.handshake = handshake
        self.texts: list[bytes] = []
        self.pongs: list[bytes] = []
        self.events: list[str] = []
        self.sweeps: list[tuple[int, bool]] = []
        self.closed: list[tuple[bool, int]] = []
        self.echoes = True

    def on_text(self, text: bytes) -> None:
        assert not self.closed
        self.texts.append(text)
        if self.echoes:
            self.socket.send(websocket.text_frame(text))

    def on_binary(self) -> None:
        self.socket.send(websocket.text_frame(b"binary"))

    def on_pong(self, payload: bytes) -> None:
        self.pongs.append(payload)

    def on_paused(self) -> None:
        self.events.append("paused")

    def on_resumed(self) -> None:
        self.events.append("resumed")

    def on_sweep(self, now: float, round_number: int, in_turn: bool) -> None:
        self.sweeps.append((round_number, in_turn))

    def drain(self, reconnect_after_ms: int) -> None:
        self.events.append(f"leave after {reconnect_after_ms}")

    def dismiss(self) -> None:
        self.events.append("dismissed")
        self.socket.close(4000, "bye")

    def on_closed(self, clean: bool, code: int) -> None:
        self.closed.append((clean, code))


class FakeBackend:
    """Answers the HTTP API from memory."""

    def __init__(self) -> None:
        self.ready = True
        self.published: list[tuple[str, client_pb2.Publish]] = []
        self.refusal: refusal_pb2.Refusal | None = None
        self.fault: Exception | None = None
        self.asked: list[presence_pb2.ExplainRequest] = []
        self.delivery_calls: list[tuple[str, Any]] = []
        self.delivery_answers: dict[str, Any] = {}
        self.head = 20
        self.floor = 3
        self.cluster = Picture(2, {}, {0: (9, "p1")}, [])
        self.drained: list[str] = []
        self.registry: list[tuple[str, Any]] = []
        self.registry_answers: dict[str, Any] = {}
        # What each watch of a story tells; a watch waits for what is put in later.
        self.watches: list[asyncio.Queue[presence_pb2.ExplainResponse | refusal_pb2.Refusal]] = []
        self.watches_ended = 0
        # What UserService was asked, and what it answers, by method; else an empty answer.
        self.asked_users: list[tuple[str, str, Message]] = []
        self.users_answers: dict[str, Message | refusal_pb2.Refusal] = {}
        self.presence_asked: list[presence_pb2.GetPresenceRequest] = []
        self.presences: list[presence_pb2.GetPresenceResponse | refusal_pb2.Refusal] = []

    async def presence(
        self, request: presence_pb2.GetPresenceRequest
    ) -> presence_pb2.GetPresenceResponse | refusal_pb2.Refusal:
        self._fail()
        self.presence_asked.append(request)
        return self.refusal or self.presences[0]

    async def watch_presence(
        self, request: presence_pb2.GetPresenceRequest
    ) -> AsyncIterator[presence_pb2.GetPresenceResponse | refusal_pb2.Refusal]:
        self.presence_asked.append(request)
        for one in self.presences:
            yield one
        await asyncio.Event().wait()

    async def users(self, method: str, user: str, request: Message) -> Any:
        self._fail()
        self.asked_users.append((method, user, request))
        response = getattr(users_pb2, f"{method}Response")
        return self.refusal or self.users_answers.get(method, response())

    async def publish(
        self, publisher: str, publish: client_pb2.Publish
    ) -> Accepted | refusal_pb2.Refusal:
        self._fail()
        self.published.append((publisher, publish))
        return self.refusal or Accepted(seq=7, epoch=1 << 48, duplicate=False)

    async def read_messages(
        self, subject: str, after_seq: int, limit: int
    ) -> History | refusal_pb2.Refusal:
        self._fail()
        first = max(after_seq, self.floor) + 1
        seqs = range(first, min(self.head + 1, first + limit))
        messages = [
            entry_pb2.Message(
                subject=subject,
                seq=seq,
                epoch=1,
                publisher="bob",
                content=entry_pb2.Content(text=f"m{seq}"),
            )
            for seq in seqs
        ]
        return self.refusal or History(messages, self.head, self.floor, "log-1")

    async def explain(
        self, request: presence_pb2.ExplainRequest
    ) -> presence_pb2.ExplainResponse | refusal_pb2.Refusal:
        self._fail()
        self.asked.append(request)
        outcome = presence_pb2.Outcome(
            from_seq=1, to_seq=1, state=presence_pb2.Outcome.State.NOTIFIED
        )
        return self.refusal or presence_pb2.ExplainResponse(outcomes=[outcome])

    async def watch_story(
        self, request: presence_pb2.ExplainRequest
    ) -> AsyncIterator[presence_pb2.ExplainResponse | refusal_pb2.Refusal]:
        self._fail()
        self.asked.append(request)
        told: asyncio.Queue[presence_pb2.ExplainResponse | refusal_pb2.Refusal] = asyncio.Queue()
        self.watches.append(told)
        try:
            while True:
                story = await told.get()
                yield story
                if isinstance(story, refusal_pb2.Refusal):
                    return
        finally:
            self.watches_ended += 1

    async def ask_registry(self, method: str, request: Any) -> Any:
        self._fail()
        self.registry.append((method, request))
        return self.refusal or self.registry_answers[method]

    async def ask_deliveries(self, method: str, request: Any) -> Any:
        self._fail()
        self.delivery_calls.append((method, request))
        if self.refusal is not None:
            return self.refusal
        answer = self.delivery_answers.get(method)
        return await answer if asyncio.isfuture(answer) else answer

    async def picture(self) -> Picture:
        self._fail()
        return self.cluster

    async def drain(self, member: str) -> Draining | refusal_pb2.Refusal:
        self._fail()
        self.drained.append(member)
        return self.refusal or Draining("coordinator", member, "h:1", 2_500)

    def _fail(self) -> None:
        if self.fault:
            raise self.fault


class Door:
    """The gateway, and every connection it made."""

    def __init__(
        self,
        *,
        limits: GatewayLimits,
        sockets: SocketLimits,
        anonymous: bool,
        round_s: float,
        page: bool,
        stories: StoryLimits,
        callbacks: CallbackLimits,
        body_s: float,
    ) -> None:
        self.connections: list[Echo] = []
        self.rounds: list[int] = []
        self.backend = FakeBackend()
        self.sweep = Sweep(self.begin_round, round_s, rounds=3)
        authenticator = Authenticator(SECRET, anonymous=anonymous)
        api = HttpApi(
            self.backend,
            authenticator,
            lambda: self.backend.ready,
            body_s=body_s,
            page=page,
            stories=stories,
            callbacks=callbacks,
            link_key=LINK_KEY,
        )
        self.gateway = Gateway(
            "127.0.0.1:0", self, self.sweep, api, limits, sockets, local_only=anonymous
        )

    def accept(self, socket: Socket, handshake: Handshake) -> Connection:
        self.connections.append(Echo(socket, handshake))
        return self.connections[-1]

    def begin_round(self, now: float, round_number: int) -> None:
        self.rounds.append(round_number)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.gateway.port}/v1/connect"

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.gateway.port)

    async def dial_upgraded(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.dial()
        writer.write(handshake_bytes())
        await read_head(reader)
        return reader, writer


@asynccontextmanager
async def open_door(
    limits: GatewayLimits = GatewayLimits(drain_s=1.0),  # noqa: B008 - frozen
    sockets: SocketLimits = SocketLimits(),  # noqa: B008 - frozen
    *,
    anonymous: bool = True,
    round_s: float = 60.0,
    page: bool = False,
    stories: StoryLimits = StoryLimits(),  # noqa: B008 - frozen
    callbacks: CallbackLimits = CallbackLimits(),  # noqa: B008 - frozen
    body_s: float = 0.5,
) -> AsyncIterator[Door]:
    door = Door(
        limits=limits,
        sockets=sockets,
        anonymous=anonymous,
        round_s=round_s,
        page=page,
        stories=stories,
        callbacks=callbacks,
        body_s=body_s,
    )
    await door.gateway.start()
    sweeping = asyncio.create_task(door.sweep.run())
    ticking = asyncio.create_task(_tick(door.gateway))
    try:
        yield door
    finally:
        await door.gateway.drain()
        for task in (sweeping, ticking):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _tick(gateway: Gateway) -> None:
    while True:
        await asyncio.sleep(0.05)
        gateway.tick()


def handshake_bytes(*extra: str, path: str = "/v1/connect", without: str = "") -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
    ]
    kept = [line for line in lines if not without or not line.startswith(f"{without}:")]
    return ("\r\n".join([*kept, *extra]) + "\r\n\r\n").encode()


async def read_head(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode()


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next frame of the server: first byte and payload."""
    first, second = await reader.readexactly(2)
    assert not second & 0x80, "a server must not mask"
    size = second
    if second == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    elif second == 127:
        size = int.from_bytes(await reader.readexactly(8), "big")
    return first, await reader.readexactly(size)


async def read_close(reader: asyncio.StreamReader) -> int:
    """Reads up to the close frame; returns its code. The connection must then end."""
    while True:
        first, payload = await read_frame(reader)
        if first == 0x88:
            assert await reader.read() == b""
            return int.from_bytes(payload[:2], "big") if payload else websocket.CODE_ABSENT
