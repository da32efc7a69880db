"""Copies of the tails of partitions in etcd, by which a store restored from a backup is told.

Knows the key of a partition's tail and the shape of its value; must not know who compares it with
what: the store refuses a claim whose log is shorter than its copy. A copy is written by the owner
alone, while its owner key stands.

Drive it: `run()` copies every ten seconds until cancelled; `await copy()` when about to leave.
"""

import asyncio
import json
from collections.abc import Collection

from services.chassis import logs
from services.chassis.cluster import Keys, revision_of
from services.chassis.errors import Unavailable
from services.chassis.etcd import Etcd, Put, created_at
from services.chassis.owner_keys import batches
from services.coordinator.holdings import Holdings

log = logs.get(__name__)

_PERIOD_S = 10.0


class TailCopies:
    """Those of the partitions that this process holds; and a reader of all."""

    def __init__(self, etcd: Etcd, keys: Keys, log_id: str, holdings: Holdings) -> None:
        self._etcd = etcd
        self._keys = keys
        self._log_id = log_id
        self._holdings = holdings
        self._copied: dict[int, int] = {}  # partition: the tail last copied

    def forget(self) -> None:
        """Others may have written copies since: take none of ours for the last."""
        self._copied.clear()

    async def read(self, partitions: Collection[int]) -> dict[int, int]:
        """How far each log is known to have come. Raises Unavailable."""
        prefix = self._keys.tail(0).removesuffix("0")
        tails = {}
        for kv in (await self._etcd.range(prefix)).keys:
            partition = int(kv.key.removeprefix(prefix))
            copy = json.loads(kv.value)
            if partition in partitions and copy.get("log_id") == self._log_id:
                tails[partition] = int(copy["tail"])
        return tails

    async def run(self) -> None:
        """Copy the tails that move, until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            await self.copy()

    async def copy(self) -> None:
        """Copy the tails that have moved. What etcd does not take is left for the next time."""
        moved = [
            (partition, held.epoch, held.tail)
            for partition, held in self._holdings
            if self._copied.get(partition, 0) < held.tail
        ]
        if not self._holdings.valid:
            return
        try:
            await asyncio.gather(*(self._write(batch) for batch in batches(moved)))
        except Unavailable as fault:
            log.warning("tails_not_copied", fault=str(fault))

    async def _write(self, moved: Collection[tuple[int, int, int]]) -> None:
        outcome = await self._etcd.txn(
            [created_at(self._keys.owner(p), revision_of(epoch)) for p, epoch, _ in moved],
            [Put(self._keys.tail(p), self._value(epoch, tail)) for p, epoch, tail in moved],
        )
        if outcome.succeeded:
            self._copied.update({p: tail for p, _, tail in moved})

    def _value(self, epoch: int, tail: int) -> str:
        return json.dumps({"log_id": self._log_id, "tail": tail, "epoch": epoch})
