"""What a partition is asked, and what must be done about it: requests and effects. Pure.

Effects come in a list, and the order of the list is the protocol: they are carried out in their
order, and only after the decision's writes are durable. The three that every message has are not
frozen, which would cost more than the rest of their making; nobody changes them all the same.
"""

from dataclasses import dataclass, field

from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Unwatch:
    """A subject that an edge wants no longer."""

    subject: str


@dataclass(frozen=True, slots=True)
class Forget:
    """A client that was not seen for long, to be forgotten if its generation is still this."""

    user: str
    client_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class EndFollows:
    """What the clients of a user follow, of these subjects or (empty) of all, is to end."""

    user: str
    subjects: tuple[str, ...]
    call_id: str


@dataclass(frozen=True, slots=True)
class LogOutUser:
    """The sessions of a user are to end, by themselves."""

    user: str


@dataclass(frozen=True, slots=True)
class ForgetUser:
    """All clients of a user, to be forgotten, whatever their sessions do."""

    user: str


Body = (
    coordinator_pb2.Append
    | coordinator_pb2.Watch
    | coordinator_pb2.ReadClient
    | Unwatch
    | Forget
    | EndFollows
    | LogOutUser
    | ForgetUser
)


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked for; `origin` is the stream it came by, or a call of the committer's."""

    origin: int
    body: Body


@dataclass(slots=True)
class Append:
    """The entry is in the log: offer it to presence. `size`: its bytes."""

    entry: entry_pb2.Entry
    size: int = field(compare=False)


@dataclass(slots=True)
class Accept:
    """Tell the origin, if it is still there, that its publish is durable; seq 0: transient."""

    origin: int
    request: int
    seq: int
    epoch: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell the origin, if it is still there, what became of anything else it asked for."""

    origin: int
    appended: coordinator_pb2.Appended


@dataclass(slots=True)
class Deliver:
    """Send the entry's message to every stream that watches its subject. `size`: its bytes."""

    entry: entry_pb2.Entry
    size: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Relay:
    """Send the transient message to every stream that watches its subject and does not lag."""

    message: entry_pb2.Message


@dataclass(frozen=True, slots=True)
class StartWatch:
    """Answer the origin, and send it the deliveries of the effects that follow, and no other."""

    origin: int
    watched: coordinator_pb2.Watched


@dataclass(frozen=True, slots=True)
class EndWatch:
    """Send the origin no more deliveries of the subject."""

    origin: int
    subject: str


@dataclass(frozen=True, slots=True)
class TellClient:
    """Answer the origin's look-up."""

    origin: int
    state: coordinator_pb2.ClientState


@dataclass(frozen=True, slots=True)
class Replace:
    """Tell the edge, now or when it comes back, that a newer session has replaced this one."""

    edge_id: int
    session_id: str


@dataclass(frozen=True, slots=True)
class End:
    """Tell all edges what sessions may not go on with, those in `edges` also when they are back."""

    ending: coordinator_pb2.Ending
    edges: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call: how much it did, and where the partition's log ends with it."""

    count: int
    pos: int


@dataclass(frozen=True, slots=True)
class Conclude:
    """Tell the call what came of it."""

    origin: int
    outcome: Outcome | Refusal


@dataclass(frozen=True, slots=True)
class AwaitProcessed:
    """Tell the origin's edge once presence has processed the partition up to `pos`."""

    origin: int
    pos: int


Effect = (
    Append
    | Accept
    | Answer
    | Deliver
    | Relay
    | StartWatch
    | EndWatch
    | TellClient
    | Replace
    | End
    | Conclude
    | AwaitProcessed
)
