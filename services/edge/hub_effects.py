"""What the hub wants done. The exchange carries the effects out in their order."""

from dataclasses import dataclass

from services.edge.channel import Subscription


@dataclass(frozen=True, slots=True)
class StartWatch:
    """Watch the subject at its owner, until StopWatch; tell `watched` each time it answers."""

    partition: int
    subject: str


@dataclass(frozen=True, slots=True)
class StopWatch:
    """Watch it no longer."""

    partition: int
    subject: str


@dataclass(frozen=True, slots=True)
class FillHole:
    """Read messages with seq > `after_seq` from the store; tell `filled`.

    `again`: the last read brought nothing, so wait a little first.
    """

    subject: str
    after_seq: int
    again: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """A subscription's subject is watched; tell its session."""

    subscription: Subscription
    head: int
    floor: int


@dataclass(frozen=True, slots=True)
class TooFar:
    """The session cannot be refilled: close it (4001). `cause`: `ring` has moved on, or too many
    bytes of `backlogs` wait."""

    session_id: str
    cause: str = "ring"


@dataclass(frozen=True, slots=True)
class Reached:
    """Everything up to `pos` that this edge watches in the partition has come."""

    partition: int
    pos: int
    moved: bool  # by a message


HubEffect = StartWatch | StopWatch | FillHole | Joined | TooFar | Reached
