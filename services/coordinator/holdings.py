"""What this coordinator holds: partitions, their epochs and tails, and whether it may act on them.

Knows the lease's clock, must not know etcd's keys, the store or streams. Ownership fills it, the
committer asks before it takes anything, and both may drop; who must hear of it subscribes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from services.chassis.etcd import Lease


@dataclass(slots=True)
class Held:
    """A partition whose epoch has taken effect in the store."""

    epoch: int
    tail: int


class Holdings:
    """The partitions held now."""

    def __init__(self) -> None:
        self.draining = False
        # When the store was asked what it left open, the first time (boottime); None: it answers.
        self.unanswered_since: float | None = None
        self._held: dict[int, Held] = {}
        self._lease: Lease | None = None
        self._on_take: list[Callable[[int, int], None]] = []
        self._on_drop: list[Callable[[int], None]] = []

    def subscribe(
        self, on_take: Callable[[int, int], None], on_drop: Callable[[int], None]
    ) -> None:
        """Be told of every partition taken (with its tail) and dropped."""
        self._on_take.append(on_take)
        self._on_drop.append(on_drop)

    def begin(self, lease: Lease) -> None:
        """Whatever is taken from now on is held under this lease."""
        self.drop_all()
        self._lease = lease

    def note_no_answer(self, asked_at: float) -> None:
        """The store has left open what was asked then (boottime)."""
        if self.unanswered_since is None:
            self.unanswered_since = asked_at

    def note_answer(self) -> None:
        """The store answers."""
        self.unanswered_since = None

    @property
    def valid(self) -> bool:
        """Whether this process may still act as an owner. False: everything has been dropped."""
        if self._lease is not None and self._lease.valid():
            return True
        self.drop_all()
        return False

    def accepts(self, partition: int, epoch: int) -> bool:
        """Whether requests for the partition in that epoch may be taken now."""
        held = self._held.get(partition)
        return held is not None and held.epoch == epoch and not self.draining and self.valid

    def epoch(self, partition: int) -> int | None:
        """The epoch in which the partition is held; None: it is not."""
        held = self._held.get(partition)
        return held.epoch if held else None

    def epochs(self) -> dict[int, int]:
        """Every partition held, with its epoch."""
        return {partition: held.epoch for partition, held in self._held.items()}

    def __iter__(self) -> Iterator[tuple[int, Held]]:
        return iter(list(self._held.items()))

    def __len__(self) -> int:
        return len(self._held)

    def take(self, partition: int, epoch: int, tail: int) -> None:
        """The epoch has taken effect in the store, where the log ends at `tail`."""
        self._held[partition] = Held(epoch, tail)
        for callback in self._on_take:
            callback(partition, tail)

    def advance(self, partition: int, epoch: int, tail: int) -> None:
        """A commit has moved the tail."""
        held = self._held.get(partition)
        if held is not None and held.epoch == epoch:
            held.tail = tail

    def drop(self, partition: int) -> None:
        """Hold the partition no more."""
        held = self._held.pop(partition, None)
        if held is not None:
            for callback in self._on_drop:
                callback(partition)

    def drop_all(self) -> None:
        """Hold nothing."""
        for partition in list(self._held):
            self.drop(partition)
