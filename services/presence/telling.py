"""What an extension is called with next, of one partition. Pure.

Rules:
- Happenings go out in the order of their numbers. Those of one kind that stand together are one
  call; its last number is what its answer acknowledges.
- A message of a subject that the extension does not want is passed over.
- A number that is not there any more, or whose message the log has trimmed, is a gap, and told.

Knows: pages of happenings, the contract of extensions. Must not know: stores, calls, times. To
drive it: `next_step(page, after, …)` after each acknowledgement, until it returns None; `Read` says
which messages must be read from the log first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onward.extension.v1 import extension_pb2
from onward.types.v1 import entry_pb2

from services.presence.happenings import Happening, Page
from services.presence.patterns import covers

# (subject, seq); None: the log has trimmed it. What is absent was not read yet.
Contents = Mapping[tuple[str, int], entry_pb2.Message | None]


@dataclass(frozen=True, slots=True)
class Presences:
    """Call OnUserPresence; its answer acknowledges everything up to `last`."""

    events: Sequence[extension_pb2.UserPresence]
    last: int


@dataclass(frozen=True, slots=True)
class Messages:
    """Call OnClusterMessage; its answer acknowledges everything up to `last`."""

    messages: Sequence[extension_pb2.ClusterMessage]
    last: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Call OnGap; its answer acknowledges everything up to `last`."""

    partition: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Pass:
    """Nothing of it is for this extension: it counts as acknowledged up to `last`."""

    last: int


@dataclass(frozen=True, slots=True)
class Read:
    """Read these messages, or the first of them, and ask again."""

    wanted: Sequence[tuple[str, int]]


Call = Presences | Messages | Gap
Step = Call | Pass | Read


def next_step(
    page: Page, after: int, patterns: Sequence[str], contents: Contents, bytes_max: int
) -> Step | None:
    """What comes next above `after`; None: nothing more of this page. All but the first happening
    of a call fit into `bytes_max`."""
    rows = [row for row in page.rows if row.number > after]
    if not rows:
        # A page that has rows may have been cut; one without them says that all were deleted.
        lost = not page.rows and page.tail > after
        return Gap(page.partition, after + 1, page.tail) if lost else None
    first = rows[0]
    if first.number > after + 1:
        return Gap(page.partition, after + 1, first.number - 1)
    rows = [row for place, row in enumerate(rows) if row.number == first.number + place]
    if first.payload:
        return _presences(rows, bytes_max)
    if not _wanted(first, patterns):
        passed = _leading(rows, lambda row: _is_passed(row, patterns))
        return Pass(passed[-1].number)
    key = (first.subject, first.seq)
    if key not in contents:
        return Read([(row.subject, row.seq) for row in rows if _is_unread(row, patterns, contents)])
    if contents[key] is None:
        lost_rows = _leading(rows, lambda row: _is_lost(row, patterns, contents))
        return Gap(page.partition, first.number, lost_rows[-1].number)
    return _messages(rows, patterns, contents, bytes_max)


def _wanted(row: Happening, patterns: Sequence[str]) -> bool:
    return not patterns or any(covers(pattern, row.subject) for pattern in patterns)


def _is_passed(row: Happening, patterns: Sequence[str]) -> bool:
    return not row.payload and not _wanted(row, patterns)


def _is_unread(row: Happening, patterns: Sequence[str], contents: Contents) -> bool:
    known = row.payload or (row.subject, row.seq) in contents
    return not known and _wanted(row, patterns)


def _is_lost(row: Happening, patterns: Sequence[str], contents: Contents) -> bool:
    key = (row.subject, row.seq)
    return not row.payload and _wanted(row, patterns) and contents.get(key, _ANY) is None


def _leading(rows: Sequence[Happening], fits: Callable[[Happening], bool]) -> Sequence[Happening]:
    for place, row in enumerate(rows):
        if not fits(row):
            return rows[:place]
    return rows


def _presences(rows: Sequence[Happening], bytes_max: int) -> Presences:
    events: list[extension_pb2.UserPresence] = []
    size = 0
    for row in rows:
        size += len(row.payload)
        if not row.payload or (events and size > bytes_max):
            break
        event = extension_pb2.UserPresence.FromString(row.payload)
        event.position.CopyFrom(_position(row))
        event.at.FromNanoseconds(round(row.at * 1e9))
        events.append(event)
    return Presences(events, events[-1].position.number)


def _messages(
    rows: Sequence[Happening], patterns: Sequence[str], contents: Contents, bytes_max: int
) -> Messages:
    messages: list[extension_pb2.ClusterMessage] = []
    size, last = 0, 0
    for row in rows:
        if row.payload:
            break
        if _wanted(row, patterns):
            message = contents.get((row.subject, row.seq))
            if message is None:
                break
            size += message.ByteSize()
            if messages and size > bytes_max:
                break
            messages.append(extension_pb2.ClusterMessage(position=_position(row), message=message))
        last = row.number
    return Messages(messages, last)


def _position(row: Happening) -> extension_pb2.HappeningPosition:
    return extension_pb2.HappeningPosition(partition=row.partition, number=row.number)


# Stands for a message that was not read, where None would say that it was trimmed.
_ANY = entry_pb2.Message()
