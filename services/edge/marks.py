"""Which marks to append after a round: how far this edge's clients have acknowledged. Pure.

Knows positions of partitions; must not know subscriptions, which the caller sums up. A mark
(round, pos) of a partition says: every subscription formed before the round has acknowledged
everything up to pos, or presence has processed its ending event. The rules:

1. A mark is taken at one moment, as its round begins, over all subscriptions formed by then.
2. An ended subscription owes what it had not acknowledged, and whatever came later, until
   presence has processed its ending event: its floor stays.
3. A partition is passed over while any of its subjects may have missed a message.
4. Only what moved is marked, and partitions where a subscription had something to recover.
5. A partition's marks never fall.
6. Ends that presence has not processed are kept one by one up to `ENDED_MAX`. Beyond it those of
   one user's partition owe together, until the last of them is processed: marks come later.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

ENDED_MAX: Final = 10_000


class EventId(NamedTuple):
    """Names an ending event."""

    session_id: str
    number: int


@dataclass(slots=True)
class _Progress:
    wanted: int = 0  # a mark should reach it
    marked: int = -1  # by the newest mark since something was last wanted anew
    top: int = -1  # the highest mark ever


@dataclass(slots=True)
class _Ended:
    floors: dict[int, int]  # partition → pos up to which nothing is owed
    user_partition: int
    pos: int = 0  # of the ending event; 0: not durable yet


class Marks:
    """The marks of one edge."""

    def __init__(self) -> None:
        self._progress: dict[int, _Progress] = {}
        self._ended: dict[EventId, _Ended] = {}

    def __len__(self) -> int:
        """Ended subscriptions' events that presence has not processed."""
        return len(self._ended)

    def moved(self, partition: int, pos: int) -> None:
        """A message came."""
        progress = self._progress.setdefault(partition, _Progress())
        progress.wanted = max(progress.wanted, pos)

    def want(self, partition: int, pos: int) -> None:
        """A new mark up to `pos` is needed, whatever was marked before: something is to be
        recovered there, or earlier marks may be lost."""
        progress = self._progress.setdefault(partition, _Progress())
        progress.wanted = max(progress.wanted, pos)
        progress.marked = -1

    def repeat(self, partition: int) -> None:
        """The newest mark may be lost."""
        progress = self._progress.get(partition)
        if progress is not None and progress.top >= 0:
            progress.marked = -1

    def ended(self, event: EventId, user_partition: int, floors: dict[int, int]) -> None:
        """Subscriptions end by this event; `floors`: partition → pos up to which they owe none."""
        if floors:
            self._ended[event] = _Ended(floors, user_partition)

    def recorded(self, event: EventId, pos: int) -> bool:
        """The event is durable at `pos` of its user's partition. True: it is awaited."""
        ended = self._ended.get(event)
        if ended is None:
            return False
        ended.pos = pos
        if len(self._ended) > ENDED_MAX:
            self._merge(event, ended)
        return True

    def dropped(self, event: EventId) -> None:
        """The event was refused for good: its subscriptions were never known."""
        self._ended.pop(event, None)

    def processed(self, partition: int, pos: int) -> None:
        """Presence has processed the partition up to `pos`."""
        done = [
            event
            for event, ended in self._ended.items()
            if ended.user_partition == partition and 0 < ended.pos <= pos
        ]
        for event in done:
            del self._ended[event]

    def take(
        self, high: Callable[[int], int], owed_from: Callable[[int], int | None]
    ) -> list[tuple[int, int]]:
        """The marks of the round that begins: (partition, pos).

        `high(p)`: everything up to it has come. `owed_from(p)`: up to it every subscription that
        is formed and has not ended has acknowledged; None: not to be said now.
        """
        floors: dict[int, int] = {}
        for ended in self._ended.values():
            for partition, floor in ended.floors.items():
                floors[partition] = min(floor, floors.get(partition, floor))
        marks = []
        for partition, progress in self._progress.items():
            if progress.wanted <= progress.marked:
                continue
            owed = owed_from(partition)
            if owed is None:
                continue
            pos = min(high(partition), owed, floors.get(partition, owed))
            if pos > progress.marked and pos >= max(progress.top, 1):
                progress.marked = progress.top = pos
                marks.append((partition, pos))
        return marks

    def _merge(self, event: EventId, ended: _Ended) -> None:
        """Has a durable end owe together with others of its user's partition."""
        del self._ended[event]
        merged = self._ended.setdefault(EventId("", ended.user_partition), ended)
        for partition, floor in ended.floors.items():
            merged.floors[partition] = min(floor, merged.floors.get(partition, floor))
        merged.pos = max(merged.pos, ended.pos)
