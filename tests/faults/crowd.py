"""Thousands of clients in one process. What each does, the core of the Python SDK decides.

    one = Member(crowd, "user-7", ["/crowd/3"]); one.come()

Around that core (`onward_sdk.state`, `edges`) stands a thin socket in place of aiohttp's, so that
ten thousand fit on half a core. Acknowledging, waiting with jitter, asking another edge, recovering
after the last position: all of it is the SDK's. Every message is written down as it came on the
wire, before the core could drop it.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from onward_sdk import effects as do
from onward_sdk.connection import ANSWER_WAIT_S, OPEN_WAIT_S
from onward_sdk.edges import Edges
from onward_sdk.events import Message, Resynced
from onward_sdk.options import Options
from onward_sdk.protocol import Subscription, decode, encode
from onward_sdk.state import Identity, Phase, State

from tests.faults.history import History
from tests.faults.thin_socket import ThinSocket

ADDRESSES = 64  # of the clients, on loopback: an edge takes 1,000 connections of each


class Crowd:
    """What the members share."""

    def __init__(self, urls: Sequence[str], history: History, dice: random.Random) -> None:
        self.urls, self.write, self.dice = list(urls), history.write, dice
        self.members: list[Member] = []
        self.surprises: dict[str, int] = {}  # errors and close codes that members were told

    def note(self, what: str) -> None:
        """Count something out of the ordinary."""
        self.surprises[what] = self.surprises.get(what, 0) + 1


class Member:
    """One client of a user of its own, with an e-mail address."""

    def __init__(self, crowd: Crowd, user: str, subjects: Sequence[str]) -> None:
        self.user, self.client, self.subjects = user, f"{user}-1", list(subjects)
        self.address = f"{user}@example.org"
        self.gone = False  # it does not come back once its connection ends
        self.positions: dict[str, int] = {}  # as seen on the wire
        self.url = ""  # of the edge it is connected to, or tries
        self.attempts = 0  # connections tried, in all
        self.connected_at = 0.0
        self.synced: dict[str, float] = {}  # when each subject was, since it connected last
        self._crowd = crowd
        self._from = f"127.0.1.{1 + len(crowd.members) % ADDRESSES}"
        self._edges = Edges(crowd.urls)
        self._state = State(Identity(self.client), Options())
        self._state.set_external_token(f"mailto:{self.address}", "", 0.0)
        self._state.subscribe([Subscription(subject) for subject in self.subjects], 0.0)
        self._socket: ThinSocket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self._registered = False
        crowd.members.append(self)

    @property
    def online(self) -> bool:
        """Whether its session is open."""
        return self._state.phase is Phase.ONLINE

    @property
    def recovered(self) -> bool:
        """Whether it has been told, since it connected last, that it has everything."""
        return self.online and len(self.synced) == len(self.subjects)

    def come(self) -> None:
        """Connect, to any edge."""
        self.url = self._edges.choose(self._crowd.dice.random())
        self._opening = asyncio.get_running_loop().create_task(self._open())

    def leave(self) -> None:
        """End it for good, without a word."""
        self.gone = True
        for timer in (self._timer, self._patience):
            if timer is not None:
                timer.cancel()
        if self._opening is not None:
            self._opening.cancel()
        if self._socket is not None:
            self._socket.abort()

    async def _open(self) -> None:
        self.attempts += 1
        address = urlsplit(self.url)
        host, port = str(address.hostname), address.port
        loop = asyncio.get_running_loop()
        one = ThinSocket(address.netloc, self.user, self._on_open, self._on_text, self._on_end)
        self._socket = one
        self._wait(OPEN_WAIT_S)
        try:
            async with asyncio.timeout(OPEN_WAIT_S):
                await loop.create_connection(
                    lambda: one, host, port, local_addr=(self._from, 0)
                )  # fmt: skip
        except (OSError, TimeoutError):
            self._on_end(0, None)

    def _wait(self, seconds: float) -> None:
        """Give the connection up unless it comes further in time."""
        if self._patience is not None:
            self._patience.cancel()
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(seconds, self._socket.abort) if seconds else None

    def _on_open(self) -> None:
        self._wait(ANSWER_WAIT_S)
        self._act(self._state.opened("", time.monotonic()))

    def _on_text(self, text: bytes) -> None:
        frame = decode(text)
        self._write_down(frame)
        self._act(self._state.received(frame, time.monotonic()))
        if "connected" in frame:
            self._wait(0)
            self._edges.worked(self.url)

    def _on_end(self, code: int, advice_ms: int | None) -> None:
        for timer in (self._timer, self._patience):
            if timer is not None:
                timer.cancel()
        self._socket, self.synced = None, {}
        if code:
            self._crowd.write("disconnected", client=self.client, code=code)
        if self.gone:
            return
        self._crowd.note(f"closed with {code}" if code else "not let in")
        chance = self._crowd.dice.random()
        effects = self._state.closed(code, "", time.monotonic(), chance, "", advice_ms or 0)
        again = next(one for one in effects if isinstance(one, do.Reconnect))
        if again.other_edge:
            self._edges.failed(self.url)
        asyncio.get_running_loop().call_later(again.delay_s, self._come_again)

    def _come_again(self) -> None:
        if not self.gone:
            self.come()

    # -- what the core asks for ---------------------------------------------------------------

    def _act(self, effects: list[do.Effect]) -> None:
        handled = []
        for effect in effects:
            match effect:
                case do.Send(frame):
                    self._send(frame)
                case do.Close(code):
                    if self._socket is not None:
                        self._socket.close(code)
                case do.Emit(Message() | Resynced() as event):
                    handled.append(event)
                case do.Fail(_, error):
                    self._crowd.note(f"failed with {error}")
                case do.Stop(error):
                    raise AssertionError(f"{self.client} has stopped: {error}")
        if handled:  # at once, as a program does that has little to do
            self._act(self._state.handled(handled, time.monotonic()))
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (at := self._state.next_deadline()) is not None and self._socket is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, at - time.monotonic()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._act(self._state.tick(time.monotonic()))

    def _send(self, frame: dict[str, Any]) -> None:
        for body in (frame.get("connect", {}).get("subscriptions", {}).get("list", ()),
                     frame.get("subscribe", {}).get("subscriptions", ())):  # fmt: skip
            for one in body:
                after = int(one["afterSeq"]) if "afterSeq" in one else None
                self._say("subscribing", one["subject"], after=after)
        for one in frame.get("ack", {}).get("positions", ()):
            self._say("ack", one["subject"], seq=int(one["seq"]))
        assert self._socket is not None
        self._socket.send(encode(frame).encode())

    # -- what is told -------------------------------------------------------------------------

    def _say(self, event: str, subject: str, **fields: Any) -> None:
        self._crowd.write(event, user=self.user, client=self.client, subject=subject, **fields)

    def _write_down(self, frame: dict[str, Any]) -> None:
        if "message" in frame:
            message = frame["message"]
            subject, seq = message["subject"], int(message["seq"])
            if subject in self.positions:  # before the answer, nothing live counts
                self._crowd.write(
                    "seen", client=self.client, subject=subject, seq=seq, text=message["text"]
                )
                self.positions[subject] = max(seq, self.positions[subject])
        elif "synced" in frame:
            subject, seq = frame["synced"]["subject"], int(frame["synced"]["seq"])
            self._crowd.write("synced", client=self.client, subject=subject, seq=seq)
            self.synced[subject] = time.monotonic()
        elif "connected" in frame or "subscribed" in frame:
            answer = frame.get("connected") or frame["subscribed"]
            if "connected" in frame:
                self._on_connected(answer)
            for one in answer["subscriptions"]:
                self._on_subscribed(one)
        elif "gap" in frame:
            subject, to = frame["gap"]["subject"], int(frame["gap"]["toSeq"])
            self._crowd.write("gap", client=self.client, subject=subject, to=to)
            self.positions[subject] = to
        elif "error" in frame:
            self._crowd.note(frame["error"]["code"])

    def _on_connected(self, frame: dict[str, Any]) -> None:
        self.connected_at, self.synced = time.monotonic(), {}
        if not self._registered:
            self._registered = True
            self._crowd.write("endpoint", user=self.user, address=self.address)
        self._crowd.write(
            "connected", client=self.client, generation=int(frame["generation"]), url=self.url
        )

    def _on_subscribed(self, state: dict[str, Any]) -> None:
        subject, seq = state["subject"], int(state["seq"])
        asked, recovered = subject in self.positions, state.get("recovered", False)
        self._say(
            "subscribed", subject, seq=seq, recovered=recovered, reason=state.get("reason", ""),
            asked=asked,
        )  # fmt: skip
        if not recovered:
            self.positions[subject] = seq
