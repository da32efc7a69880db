"""The keys in etcd by which a member owns partitions: making them and removing them, many at once.

Knows how many keys one transaction of etcd may have, and how an epoch comes of it. Must not know
who should own what.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from services.chassis import logs
from services.chassis.cluster import epoch_of, revision_of
from services.chassis.errors import Unavailable
from services.chassis.etcd import Delete, Etcd, Lease, Put, absent, created_at

T = TypeVar("T")
log = logs.get(__name__)

KEYS_PER_TXN = 64


class OwnerKeys:
    """Those of one member, in one era. `key` names that of a partition."""

    def __init__(self, etcd: Etcd, key: Callable[[int], str], name: str, era: int) -> None:
        self._etcd = etcd
        self._key = key
        self._era = era
        self._value = json.dumps({"name": name, "era": era})

    async def create(self, partitions: Sequence[int], lease: Lease) -> dict[int, int]:
        """Create the keys of partitions that have none; returns the epochs of those that are ours
        now. Of the others somebody was faster, or etcd has not answered: the directory will show.
        """
        created = await asyncio.gather(*(self._create(it, lease) for it in batches(partitions)))
        return {p: epoch for epochs in created for p, epoch in epochs.items()}

    async def _create(self, partitions: Sequence[int], lease: Lease) -> Mapping[int, int]:
        """All of them or none."""
        keys = [self._key(partition) for partition in partitions]
        try:
            outcome = await self._etcd.txn(
                [absent(key) for key in keys], [Put(key, self._value) for key in keys], lease.id
            )
        except Unavailable as fault:
            log.warning("ownership_delayed", fault=str(fault))
            return {}
        if not outcome.succeeded:
            return {}
        return dict.fromkeys(partitions, epoch_of(self._era, outcome.revision))

    async def remove(self, epochs: Mapping[int, int]) -> list[int]:
        """Remove the keys of these partitions, as far as they are of these epochs; returns those
        that were. Raises Unavailable: nobody knows which."""
        removed: list[int] = []
        for batch in batches(list(epochs)):
            if await self._remove({p: epochs[p] for p in batch}):
                removed += batch
            else:  # One is not as we know it, which must not keep the others.
                removed += [p for p in batch if await self._remove({p: epochs[p]})]
        return removed

    async def _remove(self, epochs: Mapping[int, int]) -> bool:
        """All of them or none."""
        outcome = await self._etcd.txn(
            [created_at(self._key(p), revision_of(epoch)) for p, epoch in epochs.items()],
            [Delete(self._key(p)) for p in epochs],
        )
        return outcome.succeeded


def batches(keys: Sequence[T]) -> list[Sequence[T]]:
    """What stands for a key each, in as many as a transaction may have."""
    return [keys[at : at + KEYS_PER_TXN] for at in range(0, len(keys), KEYS_PER_TXN)]
