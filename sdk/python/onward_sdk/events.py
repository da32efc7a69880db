"""What an application is told: messages, and how the connection and its subjects stand.

Plain facts, in the order in which they became true; a status never overtakes a message.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server takes, as it told when the session began; 0: it did not tell."""

    content_bytes_max: int = 0
    frame_bytes_max: int = 0
    headers_bytes_max: int = 0
    subscriptions_max: int = 0
    publishes_per_s: int = 0
    dedupe_window_ms: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a subscribed subject, once and in order."""

    subject: str
    seq: int  # contiguous within the subject; 0: transient, it has no number
    epoch: int  # the ownership term that accepted it
    kind: str  # LIVE, RECOVERED, HISTORY, SNAPSHOT or TRANSIENT
    publisher: str
    text: str | None = None  # one of text and data is set
    data: bytes | None = None
    content_type: str = ""
    accepted_at: str = ""  # RFC 3339
    headers: Mapping[str, str] = field(default_factory=dict)
    log_id: str = ""  # the store that the seq belongs to


@dataclass(frozen=True, slots=True)
class Connected:
    """The session is open."""

    session_id: str
    generation: int
    client_id: str
    user: str
    log_id: str
    edge_id: str
    log_replaced: bool = False  # true: earlier positions mean nothing any more
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The session is over, or an attempt at one failed."""

    reason: str  # a sentence
    will_retry: bool  # false: the client is closed
    code: int = 0  # WebSocket close code; 0: there was no connection
    retry_in_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Subscribed:
    """Where a subscription stands, after connecting or subscribing."""

    subject: str
    seq: int  # live messages start above it
    recovered: bool | None = None  # None: recovery was not asked for


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """The server ended a subscription that it had granted: the token does not grant it now."""

    subject: str
    reason: str  # a sentence


@dataclass(frozen=True, slots=True)
class Synced:
    """Everything up to `seq` has been handed over."""

    subject: str
    seq: int
    recovered: int = 0  # how many messages were recovered


@dataclass(frozen=True, slots=True)
class Resynced:
    """Messages will not come; the subject goes on after `seq`."""

    subject: str
    seq: int
    reason: str  # TRIMMED, AHEAD, LOG_REPLACED or TOO_MANY
    from_seq: int = 0  # the first that will not come; 0: unknown
    to_seq: int = 0  # the last
    log_id: str = ""


@dataclass(frozen=True, slots=True)
class TokenExpiring:
    """The token expires soon; give a newer one with `refresh`."""

    expires_in_s: float


@dataclass(frozen=True, slots=True)
class EndpointGone:
    """A provider reported this external token gone; it is removed."""

    uri: str


Status = (
    Connected
    | Disconnected
    | Subscribed
    | Unsubscribed
    | Synced
    | Resynced
    | TokenExpiring
    | EndpointGone
)
Event = Message | Status
