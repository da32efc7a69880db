"""What the core asks of the shell. Carry effects out in the order of their list."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onward_sdk.errors import OnwardError
from onward_sdk.events import Event
from onward_sdk.protocol import Frame


@dataclass(frozen=True, slots=True)
class Identity:
    """What a client must keep to go on after a restart: who it is, and how far it has come."""

    client_id: str
    generation: int = 0  # of its newest session; 0: none known
    log_id: str = ""  # the store that the positions belong to; empty: none known
    positions: Mapping[str, int] = field(default_factory=dict)  # subject → last seq handled


@dataclass(frozen=True, slots=True)
class Send:
    """Write a frame to the open connection."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class Emit:
    """Queue an event for the application; when it has handled it, report `handled`."""

    event: Event


@dataclass(frozen=True, slots=True)
class Keep:
    """Make the identity durable, if somebody keeps it, before any later effect."""

    identity: Identity


@dataclass(frozen=True, slots=True)
class Settle:
    """Give a request its answer."""

    request_id: str
    answer: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fail:
    """Give a request the error that it ends with."""

    request_id: str
    error: OnwardError


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection with this WebSocket code, and report `closed` when it is over."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Open a connection after so long; `other_edge`: set the present edge aside first."""

    delay_s: float
    other_edge: bool


@dataclass(frozen=True, slots=True)
class RenewToken:
    """Ask the application for a newer token, and `refresh` the session with it.

    If there is none to be had, tell it that the present one expires in so many seconds.
    """

    expires_in_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """The client is over; `error` says why, None if it was asked to."""

    error: OnwardError | None


Effect = Send | Emit | Keep | Settle | Fail | Close | Reconnect | RenewToken | Stop
