"""A subject at this edge: its newest messages, and the subscriptions of local sessions to it.

Plain data that the hub, the session cores and the marks share: the hub moves `Channel.last` and
`Subscription.sent`, the session core moves `acked`. Knows neither sockets' frames nor JSON; an
`Entry` carries a message already encoded.
"""

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.edge.limits import NOTES_MAX
from services.edge.socket import Socket


@dataclass(frozen=True, slots=True)
class Entry:
    """A message, encoded once for everybody."""

    seq: int
    pos: int
    live: bytes  # the whole wire frame of kind LIVE
    before: bytes  # the JSON text before its kind, and after it
    after: bytes

    @property
    def size(self) -> int:
        return len(self.live) + len(self.before) + len(self.after)


# An empty deque takes 0.6 KiB, and most subjects have no recent messages: they share this one,
# which can hold nothing.
_NO_ENTRIES: Final[deque[Entry]] = deque(maxlen=0)


class Ring:
    """The newest messages of one subject, contiguous, bounded by count and bytes."""

    __slots__ = ("_bytes_max", "_count_max", "_entries", "bytes")

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._entries = _NO_ENTRIES
        self._count_max = count_max
        self._bytes_max = bytes_max
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Appends the next message; the oldest go when there are too many."""
        entries = self._entries
        if not entries:
            entries = self._entries = deque()
        assert not entries or entry.seq == entries[-1].seq + 1
        entries.append(entry)
        self.bytes += entry.size
        while len(entries) > 1 and (len(entries) > self._count_max or self.bytes > self._bytes_max):
            self.bytes -= entries.popleft().size

    def shrink(self) -> int:
        """Drops all but the newest message; returns the bytes given back."""
        before = self.bytes
        while len(self._entries) > 1:
            self.bytes -= self._entries.popleft().size
        return before - self.bytes

    def clear(self) -> None:
        """Forgets everything, because what comes next is not contiguous with it."""
        self._entries = _NO_ENTRIES
        self.bytes = 0

    def get(self, seq: int) -> Entry | None:
        """The message of that number; None if it is not here."""
        entries = self._entries
        if not entries:
            return None
        at = seq - entries[0].seq
        return entries[at] if 0 <= at < len(entries) else None

    def after(self, seq: int, limit: int) -> tuple[Entry, ...] | None:
        """At most `limit` messages from `seq + 1` on; None if the ring begins later."""
        entries = self._entries
        if not entries or seq + 1 < entries[0].seq:
            return None
        first = seq + 1 - entries[0].seq
        return tuple(entries[at] for at in range(first, min(first + limit, len(entries))))


class Note(NamedTuple):
    """How far a subject had come when a round began."""

    round: int
    seq: int
    at: float


class Channel:
    """One subject. `last` is the newest seq here; below it nothing is missing."""

    __slots__ = (
        "ahead",
        "ahead_bytes",
        "answered",
        "established",
        "floor",
        "hole_to",
        "idle_since",
        "jobs",
        "last",
        "live",
        "notes",
        "notes_max",
        "partition",
        "ring",
        "subject",
        "subscriptions",
    )

    def __init__(
        self, subject: str, partition: int, ring: Ring, notes_max: int = NOTES_MAX
    ) -> None:
        self.subject = subject
        self.partition = partition
        self.ring = ring
        self.answered = False  # the present owner has answered the watch
        self.established = False  # answered, and no hole is open
        self.last = -1  # -1: the owner has never answered
        self.floor = 0
        self.hole_to = 0  # 0: no hole; else everything in (last, hole_to] is being read
        self.ahead: list[Entry] = []  # came while a hole was open
        self.ahead_bytes = 0
        self.subscriptions: dict[Subscription, None] = {}  # all, in the order of their coming
        self.live: dict[Subscription, None] = {}  # those that get each message as it comes
        self.jobs = 0  # fan-outs that are not finished
        self.notes: list[Note] = []
        self.notes_max = notes_max
        self.idle_since: float | None = None  # without subscriptions since then

    def note(self, round_number: int, at: float) -> None:
        """Keeps how far the subject has come, for the pongs of this round."""
        self.notes.append(Note(round_number, self.last, at))
        if len(self.notes) > self.notes_max:
            del self.notes[0]

    def noted(self, round_number: int) -> int:
        """How far the subject had come when that round began, as far as noted; 0: not noted."""
        at = bisect_right(self.notes, round_number, key=lambda note: note.round)
        return self.notes[at - 1].seq if at else 0

    def noted_at(self, seq: int) -> float | None:
        """When `seq` was first seen by a note; None: after the newest."""
        for note in self.notes:
            if note.seq >= seq:
                return note.at
        return None


@dataclass(eq=False, slots=True)
class Subscription:
    """One session's subscription to one subject, from the wish for it to its end."""

    channel: Channel
    socket: Socket
    session_id: str
    counts: bool  # False for an observer, whose receipt nobody waits for
    acked: int = 0  # the client has everything up to it, or does not need it
    round: int | None = None  # of its event; None: not formed yet
    begun: bool = False  # messages may be sent
    live: bool = False  # it is in `channel.live`
    sent: int = 0  # everything up to it was sent, once the backlog is
    backlog: deque[bytes] | None = None  # recovered frames to send first
    synced_due: bool = False
    replayed_to: int = 0  # the position at its begin
    begun_at: float = 0.0

    @property
    def owes(self) -> bool:
        """Whether a message came that the client has not acknowledged."""
        return self.counts and self.acked < self.channel.last

    def unacknowledged_since(self, now: float) -> float | None:
        """When the oldest unacknowledged message was sent, to a round's precision."""
        if not self.owes or not self.begun:
            return None
        if self.acked < self.replayed_to:
            return self.begun_at
        noted = self.channel.noted_at(self.acked + 1)
        return now if noted is None else max(noted, self.begun_at)

    def floor_pos(self) -> int | None:
        """The position below its oldest unacknowledged message; None: not known here."""
        entry = self.channel.ring.get(self.acked + 1)
        return entry.pos - 1 if entry else None
