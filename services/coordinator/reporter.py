"""Hands committed entries to presence, from presence's own cursors.

Knows how to read entries and to call the presence replicas; whom to tell what next says `turns`.
One call is in flight per replica, so its commit time does the batching, and one that is slow or
dead holds back its own partitions alone. A cursor is what presence answers, never what was sent:
after a fault the same entries are sent again, and presence passes over what it has. While presence
is away nothing is lost, only late: entries are read from the store again.

Drive it: `take`, `drop`, `offer` as holdings and commits tell; `run()` reports until cancelled.
"""

import asyncio
from collections.abc import Sequence
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
from services.chassis.tasks import lasting
from services.chassis.tls import Trust
from services.coordinator.holdings import Holdings
from services.coordinator.metrics import Metrics
from services.coordinator.recent import Recent
from services.coordinator.store import LogStore
from services.coordinator.turns import Ask, Pause, Turns
from services.coordinator.uplinks import Uplinks

if TYPE_CHECKING:
    Stub = presence_pb2_grpc.PresenceServiceAsyncStub

log = logs.get(__name__)

_REPORT_DEADLINE_S = 10.0
_REPORT_BYTES_MAX = 4 * 1024 * 1024
_BACKOFF_S = 0.1
_BACKOFF_MAX_S = 1.0


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
        self._turns = Turns()
        self._moved = asyncio.Event()  # other replicas may be concerned than before
        self._wakes: dict[str, asyncio.Event] = {}  # by the address of a replica
        directory.on_change(self._changed)

    def take(self, partition: int, tail: int) -> None:
        """The partition is held now, and its log ends at `tail`."""
        self._turns.take(partition, tail, self._directory.presence_owner(partition), boottime())
        self._look_around()

    def drop(self, partition: int) -> None:
        """The partition is not held any more: its next owner reports it."""
        self._turns.drop(partition)
        self._recent.drop(partition)
        self._look_around()

    def offer(self, entry: entry_pb2.Entry, size: int) -> None:
        """An entry has been committed."""
        if entry.partition in self._turns:
            self._recent.add(entry, size)
            owner = self._turns.grow(entry.partition, entry.pos)
            if owner is not None and (wake := self._wakes.get(owner.address)) is not None:
                wake.set()

    def lag(self) -> int:
        """Entries that presence has not processed, as far as is known."""
        return self._turns.lag()

    def recent_bytes(self) -> int:
        """Bytes of the entries kept in memory."""
        return self._recent.bytes

    def cursor(self, partition: int) -> int:
        """How far presence has come in a partition held here, as it told last; 0: not known."""
        return self._turns.cursor(partition)

    def silent_s(self) -> float:
        """For how long there has been a partition with something to report, or to ask, and nobody
        who answers."""
        since = self._turns.failing_since()
        return 0.0 if since is None else boottime() - since

    def missed(self) -> int:
        """Partitions of which the log no longer has what presence wants next."""
        return self._turns.missed()

    async def run(self) -> None:
        """Report until cancelled: one task for each replica that owns a partition held here."""
        reporting: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._moved.clear()
                replicas = self._turns.replicas
                for address in reporting.keys() - replicas:
                    reporting.pop(address).cancel()
                    del self._wakes[address]
                for address in sorted(replicas - reporting.keys()):
                    wake = self._wakes[address] = asyncio.Event()
                    reporting[address] = tasks.create_task(self._report_to(address, wake))
                await self._moved.wait()

    def _changed(self, change: DirectoryChange) -> None:
        for partition in change.presence_owners:
            self._turns.assign(partition, self._directory.presence_owner(partition), boottime())
        if change.presence_owners:
            self._look_around()

    def _look_around(self) -> None:
        """Partitions have come, gone or moved."""
        self._moved.set()
        for wake in self._wakes.values():
            wake.set()

    # One replica.

    async def _report_to(self, address: str, wake: asyncio.Event) -> None:
        """Report to one replica whatever it lacks, until cancelled."""
        await lasting(self._go_on(address, wake))

    async def _go_on(self, address: str, wake: asyncio.Event) -> None:
        backoff_s = _BACKOFF_S
        channel = open_channel(address, self._trust)
        try:
            stub: Stub = presence_pb2_grpc.PresenceServiceStub(channel)
            while True:
                await self._until_due(address, wake)
                if await self._report(address, stub):
                    backoff_s = _BACKOFF_S
                    continue
                backoff_s = min(backoff_s * 2, _BACKOFF_MAX_S)
                await asyncio.sleep(backoff_s)
        finally:
            await channel.close()

    async def _until_due(self, address: str, wake: asyncio.Event) -> None:
        while True:
            wake.clear()
            now = boottime()
            if self._turns.due(address, now):
                return
            next_due = self._turns.next_due(address)
            try:
                async with asyncio.timeout(None if next_due is None else next_due - now):
                    await wake.wait()
            except TimeoutError:
                pass

    async def _report(self, address: str, stub: "Stub") -> bool:
        """One call, if there is anything to say; False: wait before the next one."""
        request = presence_pb2.ReportRequest(log_id=self._store.log_id)
        asks: list[Ask] = []
        try:
            await self._collect(address, request, asks)
            if not asks:
                return True
            began = boottime()
            response = await stub.Report(request, timeout=_REPORT_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            self._metrics.report_failures.labels(error.code().name).inc()
            log.warning("report_failed", status=error.code().name, address=address)
            other_log = error.code() is grpc.StatusCode.FAILED_PRECONDITION
            self._turns.failed(asks, boottime(), forget_cursors=other_log)
            return False
        except Fault as fault:
            log.warning("report_unread", fault=str(fault))
            self._turns.failed(asks, boottime(), forget_cursors=False)
            return False
        self._measure(request, boottime() - began)
        return self._advance(asks, response)

    def _measure(self, request: presence_pb2.ReportRequest, seconds: float) -> None:
        self._metrics.report_s.observe(seconds)
        self._metrics.report_entries.observe(sum(len(it.entries) for it in request.partitions))
        self._metrics.report_bytes.observe(request.ByteSize())

    async def _collect(
        self, address: str, request: presence_pb2.ReportRequest, asks: list[Ask]
    ) -> None:
        """Fill the request with what the replica lacks; `asks`: what is in it, or was to be."""
        room, size = self._entries_max, _REPORT_BYTES_MAX
        for partition in self._turns.due(address, boottime()):
            if room <= 0 or size <= 0:
                break
            epoch = self._holdings.epoch(partition)
            if epoch is None:
                self._turns.drop(partition)
                continue
            if (ask := self._turns.ask(address, partition)) is None:
                continue  # It has moved while others were read.
            asks.append(ask)
            part = presence_pb2.PartitionEntries(partition=partition, epoch=epoch)
            if ask.cursor is not None and ask.cursor < ask.tail:
                part.entries.extend(await self._read(partition, ask.cursor, room, size))
                self._look_for_hole(ask, part.entries)
                room -= len(part.entries)
                size -= part.ByteSize()
            request.partitions.append(part)

    def _look_for_hole(self, ask: Ask, entries: Sequence[entry_pb2.Entry]) -> None:
        """Alarm, once: only a store of presence that is older than what the log keeps can want
        entries which the log does not have."""
        if entries and self._turns.note_hole(ask, entries[0].pos):
            log.error(
                "presence_missed_entries",
                partition=ask.partition,
                after=ask.cursor,
                next=entries[0].pos,
            )

    async def _read(
        self, partition: int, cursor: int, limit: int, bytes_max: int
    ) -> list[entry_pb2.Entry]:
        recent = self._recent.after(partition, cursor, limit, bytes_max)
        if recent is not None:
            return recent
        stored = await self._store.read_entries(partition, cursor, limit, bytes_max)
        return [entry_pb2.Entry.FromString(it.entry) for it in stored]

    def _advance(self, asks: Sequence[Ask], response: presence_pb2.ReportResponse) -> bool:
        cursors = {cursor.partition: cursor.pos for cursor in response.cursors}
        goes_on = True
        for effect in self._turns.answered(asks, cursors, boottime()):
            match effect:
                case Pause():
                    goes_on = False
                case _:
                    self._recent.pass_over(effect.partition, effect.pos)
                    self._uplinks.processed(effect.partition, effect.pos)
        return goes_on
