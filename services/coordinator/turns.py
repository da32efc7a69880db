"""Which partitions are reported to which presence replica next, and from where. Pure.

Each replica that owns partitions held here has a line of its own: the partitions of which it lacks
entries, in order of turn. So one that is slow holds back its own alone. The rules:

- A cursor is what the partition's present owner has answered. With a new owner, or a new term of
  the same, it is forgotten: the new one is asked first.
- An answer counts only while the partition's owner is the one that was asked.
- A partition that is missing from an answer is not that replica's (yet, or any more): it is asked
  about again after `NOT_HELD_PAUSE_S`, or at once when the directory names another owner.
- A partition without an owner waits for one. It fails meanwhile, as one does whose owner does not
  answer.

Must not know entries, calls or the directory. Drive it: `take`, `drop`, `grow` and `assign` as
things happen; for a call, `due`, then `ask` for each partition of it, then `answered` or `failed`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.chassis.claimants import Owner

# A replica has its key in etcd a moment before its claim has taken effect in its store.
NOT_HELD_PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Ask:
    """Report entries of the partition after `cursor`; None: ask the owner how far it has come."""

    partition: int
    owner: Owner
    cursor: int | None
    tail: int


@dataclass(frozen=True, slots=True)
class Processed:
    """Presence has processed everything up to `pos`, durably: tell who waits for it."""

    partition: int
    pos: int


@dataclass(frozen=True, slots=True)
class Pause:
    """The replica took nothing of what it lacks: wait before its next call."""


Effect = Processed | Pause


@dataclass(slots=True)
class _Followed:
    tail: int
    owner: Owner | None = None
    cursor: int | None = None  # None: its owner has not been asked yet
    told: int = 0  # the last cursor that any owner told
    missed: bool = False  # the log no longer has what presence wants next, as was told
    failing_since: float | None = None
    not_before: float = 0.0


class Turns:
    """The partitions held here. A replica is known by its address; times are of one clock."""

    def __init__(self) -> None:
        self._followed: dict[int, _Followed] = {}
        self._lines: dict[str, dict[int, None]] = {}

    def take(self, partition: int, tail: int, owner: Owner | None, now: float) -> None:
        """The partition is held now, its log ends at `tail`, and its entries go to `owner`."""
        self.drop(partition)
        self._followed[partition] = _Followed(tail)
        self._give(partition, owner, now)

    def drop(self, partition: int) -> None:
        """The partition is not held any more: its next owner reports it."""
        followed = self._followed.pop(partition, None)
        if followed is not None:
            self._leave(partition, followed)

    def grow(self, partition: int, tail: int) -> Owner | None:
        """The log ends at `tail` now; returns who has something to be told."""
        followed = self._followed[partition]
        followed.tail = tail
        self._line_up(partition, followed)
        return followed.owner

    def assign(self, partition: int, owner: Owner | None, now: float) -> None:
        """The partition's entries go to `owner` from now on; None: to nobody, for now."""
        followed = self._followed.get(partition)
        if followed is not None and followed.owner != owner:
            self._leave(partition, followed)
            self._give(partition, owner, now)

    def __contains__(self, partition: int) -> bool:
        return partition in self._followed

    @property
    def replicas(self) -> set[str]:
        """Who owns partitions that are held here."""
        return {it.owner.address for it in self._followed.values() if it.owner is not None}

    # A call.

    def due(self, address: str, now: float) -> list[int]:
        """The partitions of which the replica lacks entries, in order of turn."""
        line = self._lines.get(address, {})
        return [partition for partition in line if self._followed[partition].not_before <= now]

    def next_due(self, address: str) -> float | None:
        """When something is due next if nothing is now and nothing comes; None: never."""
        line = self._lines.get(address, {})
        return min((self._followed[partition].not_before for partition in line), default=None)

    def ask(self, address: str, partition: int) -> Ask | None:
        """The partition's turn is taken; None: it is not that replica's any more."""
        followed = self._followed.get(partition)
        if followed is None or followed.owner is None or followed.owner.address != address:
            return None
        self._leave(partition, followed)
        return Ask(partition, followed.owner, followed.cursor, followed.tail)

    def answered(self, asks: Sequence[Ask], cursors: Mapping[int, int], now: float) -> list[Effect]:
        """What the replica that was asked has answered."""
        effects: list[Effect] = []
        progress = stuck = False
        for ask in asks:
            followed = self._still(ask)
            if followed is None:
                continue
            pos = cursors.get(ask.partition)
            if pos is None:
                followed.cursor = None
                followed.not_before = now + NOT_HELD_PAUSE_S
                self._fail(followed, now)
            else:
                if followed.cursor is None or pos > followed.cursor:
                    progress = True
                    followed.missed = False  # or soon told again
                else:
                    stuck = True
                followed.cursor = followed.told = pos
                followed.failing_since = None
                effects.append(Processed(ask.partition, pos))
            self._line_up(ask.partition, followed)
        if stuck and not progress and self.due(asks[0].owner.address, now):
            effects.append(Pause())
        return effects

    def failed(self, asks: Sequence[Ask], now: float, forget_cursors: bool) -> None:
        """The replica has not answered; `forget_cursors`: ask it anew how far it has come."""
        for ask in asks:
            followed = self._still(ask)
            if followed is not None:
                if forget_cursors:
                    followed.cursor = None
                self._fail(followed, now)
                self._line_up(ask.partition, followed)

    def note_hole(self, ask: Ask, first: int) -> bool:
        """The log's first entry after the cursor is at `first`. Returns whether that is to be told:
        presence applies nothing beyond a hole, so the partition stands still."""
        followed = self._still(ask)
        if followed is None or ask.cursor is None or first <= ask.cursor + 1 or followed.missed:
            return False
        followed.missed = True
        return True

    # How it stands.

    def cursor(self, partition: int) -> int:
        """How far presence has come in a partition held here, as it told last; 0: not known."""
        followed = self._followed.get(partition)
        return followed.told if followed is not None else 0

    def lag(self) -> int:
        """Entries that presence has not processed, as far as is known."""
        # A copy, because it is also read from another thread.
        return sum(max(0, it.tail - it.told) for it in list(self._followed.values()))

    def missed(self) -> int:
        """Partitions of which the log no longer has what presence wants next."""
        return sum(it.missed for it in self._followed.values())

    def failing_since(self) -> float | None:
        """Since when some partition has had nobody who answers; None: none."""
        return min(
            (it.failing_since for it in self._followed.values() if it.failing_since is not None),
            default=None,
        )

    # Parts.

    def _give(self, partition: int, owner: Owner | None, now: float) -> None:
        followed = self._followed[partition]
        followed.owner, followed.cursor, followed.not_before = owner, None, 0.0
        if owner is None:
            self._fail(followed, now)
        else:
            self._line_up(partition, followed)

    def _leave(self, partition: int, followed: _Followed) -> None:
        if followed.owner is not None:
            line = self._lines.get(followed.owner.address)
            if line is not None:
                line.pop(partition, None)
                if not line:
                    del self._lines[followed.owner.address]

    def _line_up(self, partition: int, followed: _Followed) -> None:
        lacks = followed.cursor is None or followed.cursor < followed.tail
        if lacks and followed.owner is not None:
            self._lines.setdefault(followed.owner.address, {})[partition] = None

    def _still(self, ask: Ask) -> _Followed | None:
        """The partition, if its owner is the one that was asked."""
        followed = self._followed.get(ask.partition)
        return followed if followed is not None and followed.owner == ask.owner else None

    @staticmethod
    def _fail(followed: _Followed, now: float) -> None:
        if followed.failing_since is None:
            followed.failing_since = now
