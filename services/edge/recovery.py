"""Where a subscription starts and what it is sent first. Pure.

Knows the rule "everything since the position, or none of it and why"; must not know sessions or
who reads the messages. Drive one `Forming` per subscription asked for: `watched(head, floor)`
with the owner's answer, then `read(…)` for each `ReadHistory` or `ReadRetained` it asks for, until
`settled`.

- no start: the position is the head, and nothing comes first;
- `history`: the newest n, as many as fit; the position is the head, and they are owed nobody;
- `snapshot`: the retained message, likewise. It is read after the position is known: if one above
  the position has taken its place meanwhile, that comes live, and nothing comes first;
- `after_seq`: everything up to the head, recovered. If that cannot be: the position is the head,
  with the reason, looked for in this order: LOG_REPLACED, AHEAD, TRIMMED, TOO_MANY.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from onward.client.v1 import client_pb2

from services.edge.channel import Entry
from services.edge.effects import Begin, ReadHistory, ReadRetained
from services.edge.limits import Limits

State = client_pb2.SubscriptionState
Kind = client_pb2.Message.Kind

# Where the newest n are more bytes than a page, pages are read; more than so many means that
# messages come faster than they are read, and history begins with what is there.
_PAGES_MAX: Final = 8
_SEQ_MAX: Final = (1 << 63) - 1  # stores count in signed 64 bits, and cannot be asked beyond


@dataclass(frozen=True, slots=True)
class Read:
    """What a read of a subject's log gave, or of its retained message: that, or none."""

    entries: Sequence[Entry]  # contiguous, oldest first
    head: int = 0
    floor: int = 0


class Forming:
    """One subscription on its way. `wanted` has been checked; `same_log`: its position counts."""

    __slots__ = (
        "_entries",
        "_limits",
        "_pages",
        "_same_log",
        "_wanted",
        "begin",
        "bytes_max",
        "head",
        "start",
        "state",
        "subject",
    )

    def __init__(self, wanted: client_pb2.Subscription, same_log: bool, limits: Limits) -> None:
        self.subject = wanted.subject
        self.head = -1  # -1: the owner has not answered
        self.state: client_pb2.SubscriptionState | None = None  # what the client is told
        self.start = 0  # the last seq that it does not need
        self.begin: Begin | None = None
        self._wanted = wanted
        self._same_log = same_log
        self._limits = limits
        self.bytes_max = limits.recovery_bytes_max  # of what comes first; less if others took it
        self._entries: list[Entry] = []
        self._pages = 0

    @property
    def settled(self) -> bool:
        return self.state is not None

    @property
    def held_bytes(self) -> int:
        """Of what it is sent first; before it is settled, of what was read for it."""
        return _bytes(self.begin.backlog if self.begin else self._entries)

    def watched(self, head: int, floor: int) -> ReadHistory | ReadRetained | None:
        """Takes the subject's last seq, and the last one no longer kept; may ask for a read."""
        self.head = head
        start = self._wanted.WhichOneof("start")
        if start == "after_seq":
            return self._recover(self._wanted.after_seq, head, floor)
        if start == "snapshot" and self._wanted.snapshot:
            return ReadRetained(self.subject)
        if start == "history":
            after = max(head - self._wanted.history, floor)
            if after < head:
                return ReadHistory(self.subject, after, head)
        self._settle(head, (), Kind.HISTORY, synced=start == "history")
        return None

    def read(self, read: Read) -> ReadHistory | None:
        """Takes what `ReadHistory` gave; may ask for more."""
        start = self._wanted.WhichOneof("start")
        if start == "history":
            return self._take_history(read)
        if start == "snapshot":
            retained = [entry for entry in read.entries if entry.seq <= self.head]
            self._settle(self.head, retained, Kind.SNAPSHOT, synced=True)
            return None
        after = self._wanted.after_seq
        if after > self.head:  # this edge was behind the client, or the client is ahead of all
            if after > read.head:
                self._fail(read.head, State.AHEAD)
            else:
                self._settle(after, (), Kind.RECOVERED, recovered=True, synced=True)
            return None
        entries = [entry for entry in read.entries if entry.seq <= self.head]
        if read.floor > after:
            self._fail(self.head, State.TRIMMED)
        elif not entries or entries[-1].seq < self.head or _bytes(entries) > self.bytes_max:
            self._fail(self.head, State.TOO_MANY)
        else:
            self._settle(self.head, entries, Kind.RECOVERED, recovered=True, synced=True)
        return None

    def _recover(self, after: int, head: int, floor: int) -> ReadHistory | None:
        if not self._same_log:
            self._fail(head, State.LOG_REPLACED)
        elif after > _SEQ_MAX:
            self._fail(head, State.AHEAD)
        elif after > head:
            return ReadHistory(self.subject, after, after, fresh=True)
        elif after < floor:
            self._fail(head, State.TRIMMED)
        elif head - after > self._limits.recovery_messages_max:
            self._fail(head, State.TOO_MANY)
        elif after < head:
            return ReadHistory(self.subject, after, head)
        else:
            self._settle(head, (), Kind.RECOVERED, recovered=True, synced=True)
        return None

    def _take_history(self, read: Read) -> ReadHistory | None:
        entries = self._entries
        for entry in read.entries:
            if entry.seq > self.head:
                break
            if entries and entry.seq != entries[-1].seq + 1:
                entries.clear()  # trimmed between two pages
            entries.append(entry)
        self._pages += 1
        short = read.entries and entries and entries[-1].seq < self.head
        if short and self._pages < _PAGES_MAX:
            return ReadHistory(self.subject, entries[-1].seq, self.head)
        if short:
            entries.clear()  # the newest are not among them
        size = _bytes(entries)
        while size > self.bytes_max and len(entries) > 1:
            size -= entries.pop(0).size
        self._settle(self.head, entries, Kind.HISTORY, synced=True)
        return None

    def _fail(self, head: int, reason: "State.Reason.ValueType") -> None:
        self._settle(head, (), Kind.RECOVERED, recovered=False, reason=reason)

    def _settle(
        self,
        position: int,
        backlog: Sequence[Entry],
        kind: "Kind.ValueType",
        *,
        recovered: bool | None = None,
        reason: "State.Reason.ValueType" = State.REASON_UNSPECIFIED,
        synced: bool = False,
    ) -> None:
        self.start = self._wanted.after_seq if recovered else position
        self.state = State(subject=self.subject, seq=position, recovered=recovered, reason=reason)
        self.begin = Begin(self.subject, position, tuple(backlog), kind, synced)


def _bytes(entries: Sequence[Entry]) -> int:
    return sum(len(entry.before) + len(entry.after) for entry in entries)
