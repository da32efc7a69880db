"""Hands committed entries to presence, from presence's own cursor.

Knows which partitions are held, how far each log reaches and how far presence has come; must not
know what entries mean. One call is in flight at a time, so presence's commit time does the
batching. A cursor is what presence answers, never what was sent: after a fault the same entries
are sent again, and presence passes over what it has. While presence is away nothing is lost, only
late: entries are read from the store again.

Drive it: `take`, `drop`, `offer` as holdings and commits tell; `run()` reports until cancelled.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from onward.presence.v1 import presence_pb2, presence_pb2_grpc
from onward.types.v1 import entry_pb2

from services.chassis import logs
from services.chassis.channel import open_channel
from services.chassis.cluster import Directory, DirectoryChange
from services.chassis.errors import Fault
from services.chassis.etcd import boottime
from services.chassis.tls import Trust
from services.coordinator.holdings import Holdings
from services.coordinator.metrics import Metrics
from services.coordinator.recent import Recent
from services.coordinator.store import LogStore
from services.coordinator.uplinks import Uplinks

if TYPE_CHECKING:
    Stub = presence_pb2_grpc.PresenceServiceAsyncStub

log = logs.get(__name__)

_REPORT_DEADLINE_S = 10.0
_REPORT_BYTES_MAX = 4 * 1024 * 1024
_BACKOFF_S = 0.1
_BACKOFF_MAX_S = 1.0


@dataclass(slots=True)
class _Followed:
    tail: int
    cursor: int | None = None  # None: presence has not been asked yet
    missed: bool = False  # the log no longer has what presence wants next, as was told


class Reporter:
    """The one caller of PresenceService.Report in this process."""

    def __init__(
        self,
        *,
        store: LogStore,
        holdings: Holdings,
        uplinks: Uplinks,
        directory: Directory,
        trust: Trust | str,
        entries_max: int,
        recent_bytes_max: int,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._holdings = holdings
        self._uplinks = uplinks
        self._directory = directory
        self._trust = trust
        self._entries_max = entries_max
        self._recent = Recent(recent_bytes_max)
        self._metrics = metrics
        self._followed: dict[int, _Followed] = {}
        self._behind: dict[int, None] = {}  # partitions to report, in order of turn
        self._wake = asyncio.Event()
        self._presence_changed = asyncio.Event()
        directory.on_change(self._changed)
        self._failing_since: float | None = None
        self._address: str | None = None
        self._channel: grpc.aio.Channel | None = None
        self._stub: Stub | None = None

    def take(self, partition: int, tail: int) -> None:
        """The partition is held now, and its log ends at `tail`."""
        self._followed[partition] = _Followed(tail)
        self._mark_behind(partition)

    def drop(self, partition: int) -> None:
        """The partition is not held any more: its next owner reports it."""
        self._followed.pop(partition, None)
        self._behind.pop(partition, None)
        self._recent.drop(partition)

    def offer(self, entry: entry_pb2.Entry, size: int) -> None:
        """An entry has been committed."""
        followed = self._followed.get(entry.partition)
        if followed is not None:
            followed.tail = entry.pos
            self._recent.add(entry, size)
            self._mark_behind(entry.partition)

    def lag(self) -> int:
        """Entries that presence has not processed, as far as is known."""
        return sum(max(0, it.tail - (it.cursor or 0)) for it in list(self._followed.values()))

    def recent_bytes(self) -> int:
        """Bytes of the entries kept in memory."""
        return self._recent.bytes

    def cursor(self, partition: int) -> int:
        """How far presence has come in a partition held here; 0: not known."""
        followed = self._followed.get(partition)
        return followed.cursor or 0 if followed is not None else 0

    def silent_s(self) -> float:
        """For how long nothing has been taken although there was something to report."""
        return 0.0 if self._failing_since is None else boottime() - self._failing_since

    def missed(self) -> int:
        """Partitions of which the log no longer has what presence wants next."""
        return sum(it.missed for it in self._followed.values())

    async def run(self) -> None:
        """Report until cancelled."""
        backoff_s = _BACKOFF_S
        try:
            while True:
                await self._wake.wait()
                if await self._report():
                    backoff_s = _BACKOFF_S
                    continue
                backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)
                await self._back_off(backoff_s)
        finally:
            await self._leave()

    def _changed(self, change: DirectoryChange) -> None:
        if change.presences:
            self._presence_changed.set()

    async def _back_off(self, seconds: float) -> None:
        """Wait, but not for a presence service that has just come."""
        self._presence_changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._presence_changed.wait()
        except TimeoutError:
            pass

    async def _report(self) -> bool:
        """One call, if there is anything to say; False: wait before the next one."""
        stub = await self._presence()
        if stub is None:
            return self._fail()
        try:
            request = await self._collect()
            if not request.partitions:
                self._failing_since = None
                return True
            began = boottime()
            response = await stub.Report(request, timeout=_REPORT_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            self._metrics.report_failures.labels(error.code().name).inc()
            log.warning("report_failed", status=error.code().name)
            self._resume(forget_cursors=error.code() is grpc.StatusCode.FAILED_PRECONDITION)
            return self._fail()
        except Fault as fault:
            log.warning("report_unread", fault=str(fault))
            self._resume()
            return self._fail()
        self._failing_since = None
        self._measure(request, boottime() - began)
        return self._advance(response)

    def _fail(self) -> bool:
        if self._failing_since is None:
            self._failing_since = boottime()
        return False

    def _measure(self, request: presence_pb2.ReportRequest, seconds: float) -> None:
        self._metrics.report_s.observe(seconds)
        self._metrics.report_entries.observe(sum(len(it.entries) for it in request.partitions))
        self._metrics.report_bytes.observe(request.ByteSize())

    async def _collect(self) -> presence_pb2.ReportRequest:
        request = presence_pb2.ReportRequest(log_id=self._store.log_id)
        room, size = self._entries_max, _REPORT_BYTES_MAX
        for partition in list(self._behind):
            epoch = self._holdings.epoch(partition)
            followed = self._followed.get(partition)
            if epoch is None or followed is None:
                self._behind.pop(partition, None)
                continue
            if room <= 0 or size <= 0:
                break
            self._behind.pop(partition, None)
            part = presence_pb2.PartitionEntries(partition=partition, epoch=epoch)
            if followed.cursor is not None and followed.cursor < followed.tail:
                part.entries.extend(await self._read(partition, followed.cursor, room, size))
                self._look_for_hole(followed, part)
                room -= len(part.entries)
                size -= part.ByteSize()
            request.partitions.append(part)
        if not self._behind:
            self._wake.clear()
        return request

    @staticmethod
    def _look_for_hole(followed: _Followed, part: presence_pb2.PartitionEntries) -> None:
        """Alarm, once: presence applies nothing beyond a hole, so the partition stands still.

        Only a store of presence that is older than what the log keeps can want such entries.
        """
        first = part.entries[0].pos if part.entries else 0
        if followed.cursor is not None and first > followed.cursor + 1 and not followed.missed:
            followed.missed = True
            log.error(
                "presence_missed_entries",
                partition=part.partition,
                after=followed.cursor,
                next=first,
            )

    async def _read(
        self, partition: int, cursor: int, limit: int, bytes_max: int
    ) -> list[entry_pb2.Entry]:
        recent = self._recent.after(partition, cursor, limit, bytes_max)
        if recent is not None:
            return recent
        stored = await self._store.read_entries(partition, cursor, limit, bytes_max)
        return [entry_pb2.Entry.FromString(it.entry) for it in stored]

    def _advance(self, response: presence_pb2.ReportResponse) -> bool:
        progress = False
        for cursor in response.cursors:
            followed = self._followed.get(cursor.partition)
            if followed is None:
                continue
            if followed.cursor is None or cursor.pos > followed.cursor:
                progress = True
                followed.missed = False  # or soon told again
            followed.cursor = cursor.pos
            self._recent.pass_over(cursor.partition, cursor.pos)
            self._uplinks.processed(cursor.partition, cursor.pos)
        self._resume()
        return progress or not self._behind

    def _resume(self, forget_cursors: bool = False) -> None:
        """Whatever presence has not confirmed is to be reported (again)."""
        for partition, followed in self._followed.items():
            if forget_cursors:
                followed.cursor = None
            if followed.cursor is None or followed.cursor < followed.tail:
                self._mark_behind(partition)

    def _mark_behind(self, partition: int) -> None:
        self._behind[partition] = None
        self._wake.set()

    async def _presence(self) -> "Stub | None":
        """A stub of the presence service that works now."""
        address = self._directory.presence_address()
        if address != self._address:
            await self._leave()
            self._address = address
            if address is not None:
                self._channel = open_channel(address, self._trust)
                self._stub = presence_pb2_grpc.PresenceServiceStub(self._channel)
                self._resume(forget_cursors=True)
        return self._stub

    async def _leave(self) -> None:
        if self._channel is not None:
            await self._channel.close()
        self._channel = self._stub = self._address = None
