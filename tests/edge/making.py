"""What tests of the session core, the hub and the exchange are made of."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from onward.client.v1 import client_pb2
from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2, refusal_pb2

from services.chassis.refusals import Code, refuse
from services.edge.channel import Channel, Entry, Ring, Subscription
from services.edge.effects import Answer
from services.edge.frames import entry_of
from services.edge.limits import Limits
from services.edge.session import Session
from services.edge.session_state import Place

EDGE = 77
NOW = 1000.0


class FakeSocket:
    """Keeps what it is given; `paused` and `room` (frames until it pauses) are set by tests."""

    def __init__(self) -> None:
        self.paused = False
        self.room: int | None = None
        self.sent: list[bytes] = []
        self.given: list[bytes] = []  # the same, as it was given: perhaps several frames in one
        self.pings: list[bytes] = []
        self.charged = 0
        self.closed: list[tuple[int, str]] = []
        self.connection: Any = None

    def send(self, frame: bytes) -> None:
        self.given.append(frame)
        frames = split(frame)
        self.sent += frames
        if self.room is not None:
            self.room -= len(frames)
            if self.room <= 0:
                self.paused = True
                if self.connection is not None:
                    self.connection.on_paused()

    def charge(self, frames: int) -> None:
        self.charged += frames

    def ping(self, payload: bytes) -> None:
        self.pings.append(payload)

    def close(self, code: int, reason: str = "") -> None:
        self.closed.append((code, reason))

    def abort(self) -> None:
        self.closed.append((1006, ""))


def split(sent: bytes) -> list[bytes]:
    """The frames that were sent in one."""
    frames = []
    while sent:
        size, start = sent[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(sent[2:start], "big")
        frames.append(sent[: start + size])
        sent = sent[start + size :]
    return frames


def payload(sent: bytes) -> Any:
    """The JSON of a frame as the server wrote it."""
    return json.loads(sent[{126: 4, 127: 10}.get(sent[1], 2) :])


def frame(frame_id: str = "", **kind: Any) -> client_pb2.ClientFrame:
    """A client frame from JSON-like values."""
    return json_format.ParseDict({"id": frame_id, **kind}, client_pb2.ClientFrame())


def down(frame_id: str = "", **kind: Any) -> Answer:
    """The effect that sends a server frame of JSON-like values."""
    return Answer(json_format.ParseDict({"id": frame_id, **kind}, client_pb2.ServerFrame()))


def delivery(subject: str, seq: int, pos: int = 0, text: str = "") -> coordinator_pb2.Delivery:
    message = entry_pb2.Message(subject=subject, seq=seq, epoch=7, publisher="bob")
    message.accepted_at.FromMilliseconds(1_700_000_000_000 + seq)
    message.content.text = text or f"m{seq}"
    return coordinator_pb2.Delivery(pos=pos or seq, message=message)


def entry(subject: str, seq: int, pos: int = 0, text: str = "") -> Entry:
    return entry_of(delivery(subject, seq, pos, text))


def entries(subject: str, first: int, last: int) -> tuple[Entry, ...]:
    return tuple(entry(subject, seq) for seq in range(first, last + 1))


def channel(subject: str, last: int, floor: int = 0) -> Channel:
    """An established subject."""
    made = Channel(subject, 0, Ring(256, 1 << 20))
    made.last, made.floor = last, floor
    made.answered = made.established = True
    return made


@dataclass(frozen=True)
class Known:
    """An `identity.Identity` made of what a test says."""

    user: str
    expires_at: float | None
    may_subscribe: Callable[[str], bool]
    may_publish: Callable[[str], bool]
    may_register: Callable[[str], bool]


def identify(token: str, client_id: str) -> Known | refusal_pb2.Refusal:
    """`bad` is no token, `old` has expired, `ann2` may do less; anything else is ann's."""
    if token == "bad":
        return refuse(Code.TOKEN_INVALID, "No.")
    if token == "unnamed":
        return refuse(Code.CLIENT_ID_INVALID, "Too long.")
    if token == "old":
        return refuse(Code.TOKEN_EXPIRED, "Too late.")
    return Known(
        user="bob" if token == "bob" else "ann",
        expires_at=5000.0 if token == "soon" else None,
        may_subscribe=lambda subject: (
            not subject.startswith("/secret") and not (token == "less" and subject == "/b")
        ),
        may_publish=lambda subject: (
            not subject.startswith("/read") and not (token == "less" and subject == "/b")
        ),
        may_register=lambda uri: uri != "mailto:eve@example.org",
    )


class Script:
    """A session core with what its shell would hold."""

    def __init__(self, limits: Limits | None = None, log_id: str = "L") -> None:
        self.place = Place(EDGE, log_id, 3)
        self.socket = FakeSocket()
        self.session = Session("s1", self.place, limits or Limits(), identify, NOW)
        self.channels: dict[str, Channel] = {}
        self.held: dict[str, Subscription] = {}

    def say(self, frame_id: str = "", **kind: Any) -> list[Any]:
        return self.session.on_frame(frame(frame_id, **kind), NOW)

    def watched(self, subject: str, head: int, floor: int = 0) -> list[Any]:
        """Tells the session that its subject is watched, as the hub does."""
        made = self.channels.setdefault(subject, channel(subject, head, floor))
        subscription = self.held.get(subject)
        if subscription is None:
            counts = not self.session.observes
            subscription = Subscription(made, self.socket, "s1", counts)
            made.subscriptions[subscription] = None
            self.held[subject] = subscription
        return self.session.on_watched(subscription, head, floor)

    def begun(self, subject: str) -> Subscription:
        """Marks the subscription as begun and live, as the hub does."""
        subscription = self.held[subject]
        subscription.begun = subscription.live = True
        subscription.sent = max(subscription.channel.last, 0)
        subscription.replayed_to = subscription.sent
        subscription.begun_at = NOW
        return subscription

    def open(self, *subjects: str, head: int = 10, **connect: Any) -> None:
        """Brings the session to OPEN with these subscriptions, begun."""
        listed = {"list": [{"subject": subject} for subject in subjects]}
        self.say("c", connect={"clientId": "c1", "subscriptions": listed, **connect})
        self.session.on_gone([])
        for subject in subjects:
            self.watched(subject, head)
        self.session.on_recorded(1, 5)
        for subject in subjects:
            self.begun(subject)
