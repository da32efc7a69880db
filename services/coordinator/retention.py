"""Removes what is no longer kept: old ids, old entries, surplus messages, unused subjects, clients.

Knows how long, how many and how much; must not know how the store does it. Everything goes in small
slices with pauses, because a removal and a commit wait for one another. Nothing that presence has
not processed is removed, and nothing young for number's or bytes' sake: where bytes exceed their
limit all the same, `exceeded` says so, and far above it `refuses`: better than a full disk.

A client is forgotten by an entry in its user's partition, so that presence ends what it follows in
the same way as after a logout.

Drive it: `run()` until cancelled; `note_length` as subjects grow.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

from services.chassis import logs
from services.chassis.errors import Fault
from services.coordinator.effects import Forget
from services.coordinator.holdings import Holdings
from services.coordinator.metrics import Metrics
from services.coordinator.store import Keep, LogStore, Stamp, Unseen

log = logs.get(__name__)

_PERIOD_S: Final = 30.0
_BYTES_PERIOD_S: Final = 2.0
_PAUSE_S: Final = 0.02
_IDS_SLICE: Final = 1_000
_ENTRIES_SLICE: Final = 500
# Subjects and clients looked at in a period: a million in a day.
_SUBJECTS_PAGE: Final = 500
_CLIENTS_PAGE: Final = 500
_LONG_SUBJECTS_MAX: Final = 10_000  # beyond it a subject waits for its next message to be noted
_SLACK: Final = 1.1  # a subject is shortened once it is a tenth too long
# Oldest first, over all partitions, is exact to this part of the time that the log spans.
_BYTES_STEP: Final = 0.01
# Times the bytes that may be kept: beyond it nothing is accepted.
REFUSE_RATIO: Final = 1.25


@dataclass(frozen=True, slots=True)
class Rule:
    """What is kept."""

    dedupe_window_s: int
    retain_s: int
    retain_messages: int
    retain_bytes: int
    retain_min_s: int
    subject_ttl_s: int
    clients_forget_s: int


class Retention:
    """The one remover of this process. `forget(partition, epoch, clients)` has clients forgotten;
    `live_edges()`: those known, None while nothing is."""

    def __init__(
        self,
        *,
        rule: Rule,
        store: LogStore,
        holdings: Holdings,
        cursor: Callable[[int], int],
        stamp: Callable[[], Stamp],
        metrics: Metrics,
        forget: Callable[[int, int, list[Forget]], None],
        live_edges: Callable[[], Collection[int] | None],
    ) -> None:
        self.exceeded = False
        self.refuses = False
        self._rule = rule
        self._store = store
        self._holdings = holdings
        self._cursor = cursor
        self._stamp = stamp
        self._metrics = metrics
        self._forget = forget
        self._live_edges = live_edges
        self._long: dict[tuple[int, str], int] = {}  # how many messages each keeps
        self._after_subject = ""
        self._after_client = ("", "")

    def note_length(self, partition: int, subject: str, kept: int) -> None:
        """A subject now keeps so many messages."""
        limit = self._rule.retain_messages * _SLACK
        if kept > limit and len(self._long) < _LONG_SUBJECTS_MAX:
            self._long[(partition, subject)] = kept

    async def run(self) -> None:
        """Remove, until cancelled."""
        everything_at = time.monotonic() + _PERIOD_S
        while True:
            await asyncio.sleep(_BYTES_PERIOD_S)
            try:
                await self.fit_bytes()
                if time.monotonic() >= everything_at:
                    everything_at = time.monotonic() + _PERIOD_S
                    await self.remove_due()
            except Fault as fault:
                log.warning("retention_delayed", fault=str(fault))

    async def remove_due(self) -> None:
        """Remove everything that is due now, but for bytes' sake."""
        with self._metrics.retention_s.time():
            await self._forget_ids()
            for partition, held in self._holdings:
                keep = self._keep(partition)
                removed = await self._sweep(partition, held.epoch, keep)
                self._metrics.removed.labels("age").inc(removed)
            long, self._long = self._long, {}
            for (partition, subject), kept in long.items():
                epoch = self._holdings.epoch(partition)
                if epoch is not None:
                    removed = await self._shorten(partition, epoch, subject)
                    # What was too young, or not processed by presence, has its turn later.
                    self.note_length(partition, subject, kept - removed)
            await self._forget_subjects()
            await self._forget_clients()

    async def fit_bytes(self) -> None:
        """Remove the oldest entries while there are more bytes than may be."""
        stuck: set[int] = set()
        first = None
        while (size := await self._store.log_bytes()) > self._rule.retain_bytes:
            removed = await self._remove_oldest(size - self._rule.retain_bytes, stuck)
            if removed is None:
                break
            self._metrics.removed.labels("bytes").inc(removed)
            if removed:
                # Where more is accepted than goes at the same time, this never comes to its end.
                first = first or size
                self.refuses = size > max(first, self._rule.retain_bytes * REFUSE_RATIO)
            await asyncio.sleep(_PAUSE_S)
        self.exceeded = size > self._rule.retain_bytes
        self.refuses = size > self._rule.retain_bytes * REFUSE_RATIO

    async def _remove_oldest(self, size: int, stuck: set[int]) -> int | None:
        """Remove a slice, at least `size` bytes if they are there, of the partition with the
        oldest entry; None: nothing can go now.

        A partition of which nothing could be removed is added to `stuck`.
        """
        held = self._holdings.epochs()
        oldest = await self._store.oldest([p for p in held if p not in stuck])
        young_ms = self._stamp().steady_ms - self._rule.retain_min_s * 1_000
        ages = sorted((at_ms, partition) for partition, at_ms in oldest.items())
        if not ages or ages[0][0] >= young_ms:
            return None
        at_ms, partition = ages[0]
        next_ms = ages[1][0] if len(ages) > 1 else young_ms
        step_ms = int((young_ms - at_ms) * _BYTES_STEP)
        keep = self._keep(partition, since_ms=min(young_ms, next_ms + step_ms + 1))
        removed = await self._store.sweep(partition, held[partition], keep, _ENTRIES_SLICE, size)
        if not removed:
            stuck.add(partition)
        return removed

    async def _forget_ids(self) -> None:
        before_ms = self._before(self._rule.dedupe_window_s)
        removed = await _in_slices(lambda: self._store.forget_ids(before_ms, _IDS_SLICE))
        self._metrics.removed.labels("id").inc(removed)

    async def _sweep(self, partition: int, epoch: int, keep: Keep) -> int:
        return await _in_slices(lambda: self._store.sweep(partition, epoch, keep, _ENTRIES_SLICE))

    async def _shorten(self, partition: int, epoch: int, subject: str) -> int:
        keep = self._keep(partition)
        removed = await _in_slices(
            lambda: self._store.shorten(partition, epoch, subject, keep, _ENTRIES_SLICE)
        )
        self._metrics.removed.labels("count").inc(removed)
        return removed

    async def _forget_subjects(self) -> None:
        """Look at the next page of subjects; the next pass goes on after it."""
        removed, after = await self._store.forget_subjects(
            self._holdings.epochs(),
            self._after_subject,
            self._before(self._rule.subject_ttl_s),
            _SUBJECTS_PAGE,
        )
        self._after_subject = after or ""
        self._metrics.removed.labels("subject").inc(removed)

    async def _forget_clients(self) -> None:
        """Look at the next page of clients, likewise."""
        edges = self._live_edges()
        if edges is None:
            return
        before_ms = self._before(self._rule.clients_forget_s)
        page = await self._store.unseen_clients(self._after_client, before_ms, _CLIENTS_PAGE)
        self._after_client = page.after or ("", "")
        groups: dict[int, list[Forget]] = {}
        for client in page.clients:
            if not _is_there(client, edges):
                forget = Forget(client.user, client.client_id, client.generation)
                groups.setdefault(client.partition, []).append(forget)
        for partition, clients in groups.items():
            epoch = self._holdings.epoch(partition)
            if epoch is not None:
                self._forget(partition, epoch, clients)
                self._metrics.removed.labels("client").inc(len(clients))

    def _keep(self, partition: int, since_ms: int | None = None) -> Keep:
        return Keep(
            since_ms=self._before(self._rule.retain_s) if since_ms is None else since_ms,
            messages=self._rule.retain_messages,
            young_since_ms=self._before(self._rule.retain_min_s),
            below_pos=self._cursor(partition),
        )

    def _before(self, seconds: int) -> int:
        return self._stamp().steady_ms - seconds * 1_000


def _is_there(client: Unseen, edges: Collection[int]) -> bool:
    """A client that stays connected for months need not write anything."""
    return client.online and client.edge_id in edges


async def _in_slices(remove: Callable[[], Awaitable[int]]) -> int:
    """Remove slice after slice until nothing is left, letting commits pass between them."""
    total = removed = await remove()
    while removed:
        await asyncio.sleep(_PAUSE_S)
        removed = await remove()
        total += removed
    return total
