"""What edges ask of partitions whose claim is under way: kept until it is known what became of it.

An edge sees the key of a new owner as soon as the owner itself does, which then has yet to claim
the store. To turn the edge away would have it ask again a little later, for how much later it can
only guess. Pure; must not know what is asked. What would be more than `requests_max` is not kept.

Drive it: `expect(partitions)` before a claim; `keep(…)` what comes; `end(partitions)` after it
returns what was kept, in the order in which it came.
"""

from collections.abc import Iterable

from onward.coordinator.v1 import coordinator_pb2

Early = tuple[int, coordinator_pb2.PartitionRequests]  # the number of a stream, and what it asks


class EarlyRequests:
    """By partition. A partition that is not expected keeps nothing."""

    def __init__(self, requests_max: int) -> None:
        self._requests_max = requests_max
        self._requests = 0
        self._kept: dict[int, list[Early]] = {}

    def expect(self, partitions: Iterable[int]) -> None:
        """Their claim begins."""
        for partition in partitions:
            self._kept.setdefault(partition, [])

    def keep(self, number: int, asked: coordinator_pb2.PartitionRequests, requests: int) -> bool:
        """False: it is not kept, because the partition is not expected or there are too many."""
        kept = self._kept.get(asked.partition)
        if kept is None or self._requests + requests > self._requests_max:
            return False
        kept.append((number, asked))
        self._requests += requests
        return True

    def end(self, partitions: Iterable[int]) -> list[Early]:
        """Their claim has ended, this way or that."""
        early = [one for p in partitions for one in self._kept.pop(p, ())]
        if not self._kept:
            self._requests = 0
        return early
