"""What one session is at the moment, and the few things that every part of its core does. Pure.

Plain data of `session` and `forming`; the rules stand there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

from onward.client.v1 import client_pb2
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Refusal
from services.edge.channel import Subscription
from services.edge.effects import Answer, AppendPresence, Close, Effect
from services.edge.former_log import forget_positions
from services.edge.identity import Identity
from services.edge.job import Job
from services.edge.limits import Limits

Connect = client_pb2.Connect
ServerFrame = client_pb2.ServerFrame


class Phase(Enum):
    """Where a session stands in its life."""

    NEW = auto()
    CONNECTING = auto()
    OPEN = auto()
    ENDED = auto()  # logged out, or the socket is gone and the rest is bookkeeping


@dataclass(slots=True)
class Place:
    """Facts about this edge that the shell keeps up to date and all its sessions read."""

    edge_id: int = 0
    log_id: str = ""
    round: int = 0
    full: bool = False  # no further subscription fits


@dataclass(slots=True)
class SessionState:
    """One session."""

    session_id: str
    place: Place
    limits: Limits
    phase: Phase = Phase.NEW
    edge_id: int = 0  # the edge's name when the session began
    log_id: str = ""  # the log that its positions are of; empty: it has none yet
    client_id: str = ""
    identity: Identity | None = None
    acknowledges: "Connect.Acknowledges.ValueType" = Connect.PONG
    generation: int = 0
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    job: Job | None = None  # what is being made durable
    number: int = 0  # of the newest event
    ending: int = 0  # of the event that ends the session; 0: not formed
    closing: bool = False  # a close was asked for: nothing more is said
    gone_clean: bool | None = None  # set once the socket is gone
    ended: frozenset[str] = frozenset()  # subjects ended from elsewhere, until they are left

    @property
    def user(self) -> str:
        return self.identity.user if self.identity else ""

    @property
    def observes(self) -> bool:
        """True: no follows and no events, and nobody waits for its acknowledgements."""
        return self.acknowledges == Connect.NONE

    def may_have(self, subject: str) -> bool:
        """Whether a subscription may go on: granted, and not ended from elsewhere."""
        assert self.identity is not None
        return self.identity.may_subscribe(subject) and subject not in self.ended

    def append(self, event: entry_pb2.PresenceEvent, *, ending: bool = False) -> AppendPresence:
        """Numbers the event and says whose it is."""
        self.number += 1
        event.user = self.user
        event.client_id = self.client_id
        event.session_id = self.session_id
        event.number = self.number
        event.generation = self.generation
        event.edge_id = self.edge_id
        if self.log_id not in ("", self.place.log_id):
            forget_positions(event)
        if self.job is not None:
            self.job.number = self.number
        if event.HasField("disconnected") or event.HasField("logged_out"):
            self.ending = self.number
        return AppendPresence(event, ending)

    def acked(self, subjects: Iterable[str]) -> list[entry_pb2.Position]:
        """What the client has acknowledged of those subjects whose event was formed."""
        return [
            entry_pb2.Position(subject=subject, seq=self.subscriptions[subject].acked)
            for subject in subjects
            if self.subscriptions[subject].round is not None
        ]

    def close(self, code: int, reason: str) -> list[Effect]:
        """Says nothing more, and closes."""
        self.closing = True
        return [Close(code, reason)]

    def refuse(self, frame_id: str, refusal: Refusal) -> list[Effect]:
        """The error that answers a frame, also one without an id."""
        return [] if self.closing else [Answer(ServerFrame(id=frame_id, error=refusal))]

    def done(self, frame_id: str) -> list[Effect]:
        """`done`, if an answer is wanted."""
        return self.answer(frame_id, done=client_pb2.Done())

    def done_all(self, frame_ids: Iterable[str]) -> list[Effect]:
        """`done` to each frame that wants an answer."""
        return [effect for frame_id in frame_ids for effect in self.done(frame_id)]

    def answer(
        self,
        frame_id: str,
        *,
        subscribed: client_pb2.Subscribed | None = None,
        published: client_pb2.Published | None = None,
        done: client_pb2.Done | None = None,
    ) -> list[Effect]:
        """An answer, if one is wanted."""
        if not frame_id or self.closing:
            return []
        return [
            Answer(ServerFrame(id=frame_id, subscribed=subscribed, published=published, done=done))
        ]
