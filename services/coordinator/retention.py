"""Removes what is no longer kept: old ids, old entries, surplus messages of long subjects.

Knows how long and how many; must not know how the store does it. Everything goes in small slices
with pauses, because a removal and a commit wait for one another. Nothing that presence has not
processed is removed: while presence is away the log grows.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from onward.types.v1 import entry_pb2

from services.chassis import logs
from services.chassis.errors import Fault
from services.coordinator.holdings import Holdings
from services.coordinator.store import Keep, LogStore, Stamp

log = logs.get(__name__)

YOUNG_S = 600  # whatever their number, messages younger than this are kept
_PERIOD_S = 30.0
_PAUSE_S = 0.02
_IDS_SLICE = 1_000
_ENTRIES_SLICE = 500
_LONG_SUBJECTS_MAX = 10_000  # beyond it a subject waits for its next message to be noted
_SLACK = 1.1  # a subject is shortened once it is a tenth too long


@dataclass(frozen=True, slots=True)
class Rule:
    """What is kept."""

    dedupe_window_s: int
    retain_s: int
    retain_messages: int


class Retention:
    """The one remover of this process."""

    def __init__(
        self,
        *,
        rule: Rule,
        store: LogStore,
        holdings: Holdings,
        cursor: Callable[[int], int],
        stamp: Callable[[], Stamp],
    ) -> None:
        self._rule = rule
        self._store = store
        self._holdings = holdings
        self._cursor = cursor
        self._stamp = stamp
        self._long: dict[tuple[int, str], int] = {}  # how many messages each keeps

    def offer(self, entry: entry_pb2.Entry) -> None:
        """Of no concern here."""

    def note_length(self, partition: int, subject: str, kept: int) -> None:
        """A subject now keeps so many messages."""
        limit = self._rule.retain_messages * _SLACK
        if kept > limit and len(self._long) < _LONG_SUBJECTS_MAX:
            self._long[(partition, subject)] = kept

    async def run(self) -> None:
        """Remove, until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD_S)
            try:
                await self.remove_due()
            except Fault as fault:
                log.warning("retention_delayed", fault=str(fault))

    async def remove_due(self) -> None:
        """Remove everything that is due now."""
        before_ms = self._stamp().steady_ms - self._rule.dedupe_window_s * 1_000
        await _in_slices(lambda: self._store.forget_ids(before_ms, _IDS_SLICE))
        for partition, held in self._holdings:
            await self._sweep(partition, held.epoch)
        long, self._long = self._long, {}
        for (partition, subject), kept in long.items():
            epoch = self._holdings.epoch(partition)
            if epoch is not None:
                removed = await self._shorten(partition, epoch, subject)
                # What was too young, or not processed by presence, has its turn later.
                self.note_length(partition, subject, kept - removed)

    async def _sweep(self, partition: int, epoch: int) -> None:
        keep = self._keep(partition)
        await _in_slices(lambda: self._store.sweep(partition, epoch, keep, _ENTRIES_SLICE))

    async def _shorten(self, partition: int, epoch: int, subject: str) -> int:
        keep = self._keep(partition)
        return await _in_slices(
            lambda: self._store.shorten(partition, epoch, subject, keep, _ENTRIES_SLICE)
        )

    def _keep(self, partition: int) -> Keep:
        now_ms = self._stamp().steady_ms
        return Keep(
            since_ms=now_ms - self._rule.retain_s * 1_000,
            messages=self._rule.retain_messages,
            young_since_ms=now_ms - YOUNG_S * 1_000,
            below_pos=self._cursor(partition),
        )


async def _in_slices(remove: Callable[[], Awaitable[int]]) -> int:
    """Remove slice after slice until nothing is left, letting commits pass between them."""
    total = removed = await remove()
    while removed:
        await asyncio.sleep(_PAUSE_S)
        removed = await remove()
        total += removed
    return total
