"""What one session may ask for, and what the hub keeps. The settings fill it, cores obey it."""

from dataclasses import dataclass
from typing import Final

# A note a round of 2 s for 35 s of unacknowledged messages, and some rounds to spare.
NOTES_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a session, each with its consequence. Sizes in bytes, times in seconds."""

    content_bytes_max: int = 65_536  # above: CONTENT_TOO_LARGE
    headers_bytes_max: int = 4_096  # above: HEADERS_TOO_LARGE; of `info`: ARGUMENT_INVALID
    subscriptions_max: int = 1_000  # above: TOO_MANY_SUBSCRIPTIONS
    external_tokens_max: int = 16  # of a connect frame; above: TOO_MANY_EXTERNAL_TOKENS
    frame_bytes_max: int = 524_288  # told to clients; the socket keeps it (1009)
    frames_waiting_max: int = 64  # frames behind one that is being made durable: OVERLOADED
    frames_waiting_bytes_max: int = 524_288  # of them together, likewise
    publishes_per_s: float = 100  # above, after the burst: RATE_LIMITED
    publishes_burst: int = 200
    recovery_messages_max: int = 1_000  # above, per subject: recovered false, TOO_MANY
    recovery_bytes_max: int = 1024 * 1024
    recoveries_bytes_max: int = 16 * 1024 * 1024  # of one frame's subscriptions, likewise
    history_max: int = 1_000  # above: ARGUMENT_INVALID
    connect_s: float = 15  # without `connect`: close 4501; unanswered by its owner: close 4004
    pong_s: float = 10  # without the pong: close 4002
    ack_s: float = 35  # oldest message unacknowledged for longer: close 4002
    lag_s: float = 30  # socket full for longer: close 4001
    activity_s: float = 1.0  # between two events that tell of activity; changes meanwhile wait
    dedupe_window_ms: int = 3_600_000  # told to clients; the coordinator keeps it
    ping_interval_ms: int = 24_000  # told to clients


@dataclass(frozen=True, slots=True)
class HubLimits:
    """What the hub keeps."""

    subscriptions_max: int = 1_000_000  # of all sessions; above: further ones OVERLOADED
    ring_messages: int = 256  # per subject; a session further behind is closed (4001)
    ring_bytes: int = 1024 * 1024  # per subject, likewise
    rings_bytes: int = 256 * 1024 * 1024  # of all; above: the quietest subject gives its ring up
    backlogs_bytes: int = 256 * 1024 * 1024  # recovered, and waiting for sockets; above: 4001
    writes_max: int = 65_536  # of fan-outs that are not finished; above: `congested`
    notes_max: int = NOTES_MAX  # rounds, per subject; must last for a session's `ack_s`
    linger_s: float = 10.0  # a subject nobody subscribes to is watched this much longer
    lingering_max: int = 10_000  # such subjects; above: the first of them is unwatched at once
