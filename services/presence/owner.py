"""This process as an owner of partitions: its term in the store, and what it holds under it.

A term begins with a membership and carries its lease's id. While it lasts, `workers` run; the store
refuses whatever comes after another service has closed it. How partitions are divided and claimed
in etcd is `services.chassis.ownership`'s to know; what is done with them is not known here.

Drive it: hand it to an `Ownership`, which calls it as its `Holder`; `await leave()` at the end.
"""

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Final

from services.chassis import logs
from services.chassis.errors import Fault, Unavailable
from services.chassis.etcd import Lease, boottime
from services.presence import metrics
from services.presence.store import Store
from services.presence.workers import Workers

log = logs.get(__name__)

_REFUSED: Final = (
    "the presence store knows a newer owner of it than etcd does; if etcd was restored or "
    "replaced, set ONWARD_PRESENCE_ERA one higher"
)
# A claim that was refused is tried again more often than that.
_REFUSED_TOLD_S: Final = 30.0
_STORE_SILENT_S: Final = 2.9  # nothing was answered for so long: others may do better
# How long to wait before another term when a fault ended one, as a disk that was too full for it.
_FAULT_PAUSE_S: Final = 1.0


class Owner:
    """A `services.chassis.ownership.Holder` of partitions of presence."""

    def __init__(self, store: Store, workers: Workers, name: str, partitions: int) -> None:
        self._store = store
        self._workers = workers
        self._name = name
        self._partitions = partitions
        self._held: dict[int, int] = {}
        self._lease: Lease | None = None
        # When the store refused a partition, at last; what others take meanwhile is forgotten.
        self._refused: dict[int, float] = {}
        self._working: asyncio.Task[None] | None = None
        # What ended the workers, if it was a bug.
        self._bug: Exception | None = None

    async def begin(self, lease: Lease) -> None:
        await self.ended()  # Of a term whose membership has not begun.
        try:
            await self._store.begin(lease.id, self._name, self._partitions)
        except Fault as fault:
            log.warning("term_not_begun", fault=type(fault).__name__, reason=str(fault))
            await asyncio.sleep(_FAULT_PAUSE_S)
            raise Unavailable(str(fault)) from None
        self._lease = lease
        self._working = asyncio.create_task(self._work(lease))
        log.info("term_begun", term=lease.id)

    def held(self) -> Mapping[int, int]:
        return self._held

    async def take_up(self, claims: Mapping[int, int]) -> Mapping[int, str]:
        try:
            taken = await self._store.claim(claims)
        except Fault as fault:
            raise Unavailable(str(fault)) from None
        if self._lease is None or not self._lease.valid():
            return {}
        self._held |= {partition: claims[partition] for partition in taken}
        metrics.partitions_held.set(len(self._held))
        refused = set(claims) - taken
        now = boottime()
        self._refused = {p: at for p, at in self._refused.items() if now - at < _REFUSED_TOLD_S}
        self._refused |= dict.fromkeys(refused, now)
        for partition in taken:
            self._refused.pop(partition, None)
        self._workers.taken(self._refused)
        return {partition: _REFUSED for partition in claims if partition not in taken}

    def drop(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            self._held.pop(partition, None)
        self._store.drop(partitions)
        metrics.partitions_held.set(len(self._held))

    async def release(self, partitions: Collection[int]) -> None:
        self.drop(partitions)
        try:
            await self._store.release(partitions)
        except Fault as fault:
            raise Unavailable(str(fault)) from None

    async def ended(self) -> None:
        """Raises what ended the workers, unless it was a fault, which may pass."""
        self.drop(list(self._held))
        working, self._working = self._working, None
        if working is not None:
            working.cancel()
            await asyncio.wait([working])
            if not working.cancelled():
                working.result()
        if self._bug is not None:
            raise self._bug

    def gives_way(self) -> bool:
        since = self._store.unanswered_since
        return since is not None and time.monotonic() - since >= _STORE_SILENT_S

    async def leave(self) -> None:
        """Close the term, so that whoever takes over need not."""
        try:
            await self._store.end()
        except Fault as fault:
            log.warning("term_left_open", fault=type(fault).__name__)

    async def _work(self, lease: Lease) -> None:
        """Work until cancelled, or until the term is over: then the lease goes too."""
        working = asyncio.create_task(self._workers.run())
        ending = asyncio.create_task(self._store.term_ended())
        try:
            await asyncio.wait([working, ending], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
            log.warning("term_ended", term=lease.id)
        except Fault as fault:
            log.error("term_ended", term=lease.id, fault=type(fault).__name__, reason=str(fault))
            await asyncio.sleep(_FAULT_PAUSE_S)
        except Exception as error:  # noqa: BLE001  # a bug, which `ended` raises
            # Kept here: whoever ends the term cancels this task, while it gives back its lease.
            log.error("workers_failed", term=lease.id, error=type(error).__name__)
            self._bug = error
        finally:
            working.cancel()
            ending.cancel()
            await asyncio.wait([working, ending])
            await _give_back(lease)


async def _give_back(lease: Lease) -> None:
    """The membership ends with its term; another one begins with another."""
    if lease.valid():
        try:
            await lease.revoke()
        except Unavailable:
            log.warning("lease_left_to_expire")
