"""What a session core wants done. The connection carries the effects out in their order.

Frozen, compared by value, so that a test states a session's behaviour as a list.
"""

from dataclasses import dataclass

from onward.client.v1 import client_pb2
from onward.types.v1 import entry_pb2

from services.edge.channel import Entry


@dataclass(frozen=True, slots=True)
class Answer:
    """Send the frame, behind everything sent so far."""

    frame: client_pb2.ServerFrame


@dataclass(frozen=True, slots=True)
class Ping:
    """Send a ping of this round, behind everything sent so far."""

    round: int


@dataclass(frozen=True, slots=True)
class Close:
    """Close the socket behind everything sent so far."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class ReadClient:
    """Ask the owner of the user's partition; tell `on_client`."""

    user: str
    client_id: str


@dataclass(frozen=True, slots=True)
class AskGone:
    """Ask presence for endpoints reported gone; tell `on_gone` soon, with none if it is away."""

    user: str
    client_id: str


@dataclass(frozen=True, slots=True)
class Watch:
    """Attach the session to the subject, holding its messages back; tell `on_watched`."""

    subject: str


@dataclass(frozen=True, slots=True)
class ReadHistory:
    """Read messages after `after_seq` from the ring, else from the store; tell `on_history`.

    `up_to` is the last one needed. `fresh`: from the store, because the ring may be behind.
    """

    subject: str
    after_seq: int
    up_to: int
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class ReadRetained:
    """Read the subject's retained message from the store; tell `on_history`, with one or none."""

    subject: str


@dataclass(frozen=True, slots=True)
class AppendPresence:
    """Make the event durable; tell `on_recorded` or `on_refused`, also after the socket is gone.

    An `ending` event's subjects owe what was not acknowledged until presence has processed it.
    `after_s`: not before so many seconds have passed.
    """

    event: entry_pb2.PresenceEvent
    ending: bool = False
    after_s: float = 0


@dataclass(frozen=True, slots=True)
class AppendPublish:
    """Make the message durable, or pass it on if it is transient; tell `on_published`."""

    frame_id: str
    publisher: str
    publish: client_pb2.Publish


@dataclass(frozen=True, slots=True)
class Begin:
    """Send the backlog, what came meanwhile, `synced` if so, then messages as they come."""

    subject: str
    position: int  # the backlog ends with it
    backlog: tuple[Entry, ...]
    kind: "client_pb2.Message.Kind.ValueType"
    synced: bool


@dataclass(frozen=True, slots=True)
class Halt:
    """Send nothing more of the subjects. What the session owes there, it goes on owing."""

    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """Detach the session from the subjects."""

    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing more will come of this session: forget it."""


Effect = (
    Answer
    | Ping
    | Close
    | ReadClient
    | AskGone
    | Watch
    | ReadHistory
    | ReadRetained
    | AppendPresence
    | AppendPublish
    | Begin
    | Halt
    | Leave
    | Finished
)
