"""The newest entries of partitions, in memory, for those who follow the log closely. Pure.

A partition's entries are contiguous and end with its tail. Memory is bounded over all partitions:
a partition that would exceed it starts over, and whoever is further behind reads the store.
"""

from collections import deque
from dataclasses import dataclass

from onward.types.v1 import entry_pb2


@dataclass(frozen=True, slots=True)
class _Kept:
    entry: entry_pb2.Entry
    size: int


class Recent:
    """Entries that were appended, and not yet passed over."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes = 0
        self._bytes_max = bytes_max
        self._kept: dict[int, deque[_Kept]] = {}

    def add(self, entry: entry_pb2.Entry, size: int) -> None:
        """An entry of `size` bytes follows the one added before it in its partition."""
        kept = self._kept.setdefault(entry.partition, deque())
        if self.bytes + size > self._bytes_max or (kept and kept[-1].entry.pos + 1 != entry.pos):
            self.drop(entry.partition)
            if size > self._bytes_max - self.bytes:
                return
            kept = self._kept.setdefault(entry.partition, deque())
        kept.append(_Kept(entry, size))
        self.bytes += size

    def after(
        self, partition: int, pos: int, limit: int, bytes_max: int
    ) -> list[entry_pb2.Entry] | None:
        """The entries right after `pos`, one at least; None if the next one is not here."""
        kept = self._kept.get(partition)
        if not kept or kept[0].entry.pos > pos + 1:
            return None
        found: list[entry_pb2.Entry] = []
        size = 0
        for it in kept:
            if it.entry.pos <= pos:
                continue
            size += it.size
            if found and (len(found) >= limit or size > bytes_max):
                break
            found.append(it.entry)
        return found or None

    def pass_over(self, partition: int, pos: int) -> None:
        """Nobody will ask for entries up to `pos` any more."""
        kept = self._kept.get(partition)
        while kept and kept[0].entry.pos <= pos:
            self.bytes -= kept.popleft().size
        if not kept:
            self._kept.pop(partition, None)

    def drop(self, partition: int) -> None:
        """Forget the partition's entries."""
        for it in self._kept.pop(partition, ()):
            self.bytes -= it.size
