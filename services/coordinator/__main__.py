"""Runs a coordinator: `python -m services.coordinator`, set up by `ONWARD_COORDINATOR_…`."""

import asyncio
import gc
import os
from collections.abc import Callable
from pathlib import Path

from onward.coordinator.v1 import coordinator_pb2_grpc
from prometheus_client import REGISTRY

from services.chassis import logs, metrics, process
from services.chassis.cluster import Directory, Keys, bury_former, freeze_partitions
from services.chassis.errors import StartError, Unavailable, first_of
from services.chassis.etcd import Etcd
from services.chassis.ownership import Member
from services.chassis.server import Server
from services.chassis.settings import load
from services.chassis.tasks import lasting
from services.chassis.tls import Trust, trust_of
from services.coordinator.clock import stamps, steady_offset_ms
from services.coordinator.committer import Committer
from services.coordinator.holdings import Holdings
from services.coordinator.metrics import Metrics
from services.coordinator.ownership import Ownership
from services.coordinator.registers import Limits
from services.coordinator.reporter import Reporter
from services.coordinator.retention import Retention, Rule
from services.coordinator.servicer import CoordinatorServicer
from services.coordinator.settings import Settings, check
from services.coordinator.sqlite_store import SqliteStore
from services.coordinator.status import Status
from services.coordinator.store import LogStore, Stamp
from services.coordinator.uplinks import Uplinks

log = logs.get(__name__)

SERVICE = "onward.coordinator.v1.CoordinatorService"
_ETCD_PAUSE_S = 0.3
_STORE_PAUSE_S = 0.5
# A commit makes tens of thousands of objects that live until it is told, none of them in cycles.
# To collect as often as by default was measured to take a quarter of a message's CPU.
_GC_THRESHOLDS = (50_000, 20, 100)
_CALLS_GRACE_S = 0.3


async def main(stop: asyncio.Event) -> None:
    """Build the coordinator, run it until `stop`, drain it."""
    settings = load(Settings, "coordinator", os.environ)
    logs.configure("coordinator", settings.log_level)
    check(settings)
    trust = trust_of(settings, "coordinator")
    metrics.serve(settings.metrics_port, settings.metrics_host)
    etcd = Etcd(settings.etcd, access=settings.etcd_access())
    store, _ = await asyncio.gather(_store(settings, stop), _bury(settings, etcd))
    if store is None:
        return
    seen = Metrics(REGISTRY)
    try:
        partitions = await _partitions(etcd, settings.partitions, stop)
        if partitions:
            offset_ms = await steady_offset_ms(store)
            await Coordinator(settings, trust, store, etcd, partitions, seen, offset_ms).run(stop)
    finally:
        seen.close()
        await etcd.close()
        await store.close()


class Coordinator:
    """All parts of a coordinator over a store and an etcd, wired."""

    def __init__(
        self,
        settings: Settings,
        trust: Trust,
        store: LogStore,
        etcd: Etcd,
        partitions: int,
        seen: Metrics,
        clock_offset_ms: int,
    ) -> None:
        self.settings = settings
        self._stop = asyncio.Event()  # set: the process is to end; that of `run` takes its place
        self.seen = seen
        self.server = Server(settings.listen, trust, [SERVICE])
        self.directory = Directory(etcd)
        self.holdings = Holdings()
        self.uplinks = Uplinks(
            settings.uplink_bytes_max, settings.uplink_transient_bytes_max, self.directory.owner
        )
        stamp = stamps(clock_offset_ms)
        self.reporter = Reporter(
            store=store,
            holdings=self.holdings,
            uplinks=self.uplinks,
            directory=self.directory,
            trust=trust,
            entries_max=settings.report_entries_max,
            recent_bytes_max=settings.recent_bytes_max,
            metrics=seen,
        )
        self._retain(store, seen, stamp)
        self.committer = Committer(
            store=store,
            holdings=self.holdings,
            uplinks=self.uplinks,
            offer=self.reporter.offer,
            note_length=self.retention.note_length,
            metrics=seen,
            limits=Limits(settings.clients_max, settings.external_tokens_max, settings.follows_max),
            partitions=partitions,
            stamp=stamp,
            queue_max=settings.queue_appends_max,
            batch_max=settings.batch_appends_max,
            log_full=lambda: self.retention.refuses,
        )
        self._own(store, etcd)
        self._tell(store, seen)
        self._listen(store, partitions)
        self._observe(seen)

    def _retain(self, store: LogStore, seen: Metrics, stamp: Callable[[], Stamp]) -> None:
        settings = self.settings
        self.retention = Retention(
            rule=Rule(
                settings.dedupe_window_s,
                settings.retain_s,
                settings.retain_messages,
                settings.retain_bytes,
                settings.retain_min_s,
                settings.subject_ttl_s,
                settings.clients_forget_s,
            ),
            store=store,
            holdings=self.holdings,
            cursor=self.reporter.cursor,
            stamp=stamp,
            metrics=seen,
            forget=lambda partition, epoch, them: self.committer.forget(partition, epoch, them),
            live_edges=lambda: self.directory.edges if self.directory.revision else None,
        )

    def _own(self, store: LogStore, etcd: Etcd) -> None:
        self.holdings.subscribe(self.reporter.take, self.reporter.drop)
        self.holdings.subscribe(lambda partition, tail: None, self.uplinks.drop)
        settings = self.settings
        self.ownership = Ownership(
            member=Member(settings.name, settings.era, settings.lease_ttl_s),
            etcd=etcd,
            keys=Keys(),
            directory=self.directory,
            store=store,
            holdings=self.holdings,
            committer=self.committer,
            on_ready=self.server.set_serving,
        )

    def _tell(self, store: LogStore, seen: Metrics) -> None:
        settings = self.settings
        self.status = Status(
            name=settings.name,
            store=store,
            holdings=self.holdings,
            uplinks=self.uplinks,
            committer=self.committer,
            reporter=self.reporter,
            ownership=self.ownership,
            metrics=seen,
            log_bytes_max=settings.retain_bytes,
            bytes_kept=lambda: (self.retention.exceeded, self.retention.refuses),
        )

    def _listen(self, store: LogStore, partitions: int) -> None:
        servicer = CoordinatorServicer(
            name=self.settings.name,
            partitions=partitions,
            store=store,
            uplinks=self.uplinks,
            committer=self.committer,
            status=self.status,
            metrics=self.seen,
            drain=self.drain,
        )
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(servicer, self.server.grpc)

    def _observe(self, seen: Metrics) -> None:
        settings = self.settings
        ask = seen.ask
        ask("report_lag_entries", "Entries that presence has not processed", self.reporter.lag)
        ask("recent_bytes", "Entries kept in memory for presence", self.reporter.recent_bytes)
        ask("partitions_held", "Partitions held", lambda: len(self.holdings))
        ask("uplinks", "Edges connected", lambda: len(self.uplinks))
        ask("watches", "Subjects that edges watch", self.uplinks.watches)
        seen.limits(
            {
                "queue_appends": settings.queue_appends_max,
                "batch_appends": settings.batch_appends_max,
                "uplink_bytes": settings.uplink_bytes_max,
                "uplink_transient_bytes": settings.uplink_transient_bytes_max,
                "recent_bytes": settings.recent_bytes_max,
                "report_entries": settings.report_entries_max,
                "log_bytes": settings.retain_bytes,
            }
        )

    def drain(self) -> float:
        """Ends this process as SIGTERM does; returns the seconds that it may take."""
        self._stop.set()
        return self.settings.drain_s + _CALLS_GRACE_S

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then drain. Raises StartError if port or name cannot be had."""
        self._stop = stop
        await self.server.start()
        host = self.settings.listen.rpartition(":")[0]
        address = self.settings.advertise or f"{host}:{self.server.port}"
        log.info("listening", address=address, name=self.settings.name)
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        fault: BaseException | None = None
        try:
            await self._work(address, stop)
        except* StartError as errors:
            fault = first_of(errors)
        if fault is not None:
            await self.server.drain(0)
            raise fault
        log.info("stopped")

    async def _work(self, address: str, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            works = [
                tasks.create_task(lasting(self.directory.run())),
                tasks.create_task(lasting(self.committer.run())),
                tasks.create_task(lasting(self.reporter.run())),
                tasks.create_task(lasting(self.retention.run())),
                tasks.create_task(lasting(self.ownership.run(address))),
                tasks.create_task(lasting(self.status.run())),
            ]
            await stop.wait()
            log.info("draining")
            await self.server.set_serving(False)
            await self._drain()
            self.uplinks.close_all()
            await self.server.drain(_CALLS_GRACE_S)
            for work in works:
                work.cancel()

    async def _drain(self) -> None:
        """Finish commits, push what they answered, then let the keys go."""
        try:
            async with asyncio.timeout(self.settings.drain_s):
                await self.ownership.settle()
                await self.uplinks.flush()
        except TimeoutError:
            log.warning("drain_cut_short")
        await self.ownership.leave()


async def _bury(settings: Settings, etcd: Etcd) -> None:
    if settings.store:  # Else there are no others.
        await bury_former(etcd, Keys().coordinator(settings.name))


async def _store(settings: Settings, stop: asyncio.Event) -> LogStore | None:
    """The log store; waits for PostgreSQL as long as it takes. None: stopped."""
    if not settings.store:
        return SqliteStore.open(Path(settings.data_dir))
    # Here, since only a cluster has to pay for the driver, at every start.
    from services.coordinator.postgres_store import PostgresStore

    while not stop.is_set():
        try:
            return await PostgresStore.open(settings.store, settings.store_answer_s)
        except Unavailable as fault:
            log.warning("waiting_for_store", fault=str(fault))
            await asyncio.sleep(_STORE_PAUSE_S)
    return None


async def _partitions(etcd: Etcd, wanted: int, stop: asyncio.Event) -> int:
    """The frozen number of partitions; waits for etcd as long as it takes. 0: stopped."""
    while not stop.is_set():
        try:
            return await freeze_partitions(etcd, wanted)
        except Unavailable as fault:
            log.warning("waiting_for_etcd", fault=str(fault))
            await asyncio.sleep(_ETCD_PAUSE_S)
    return 0


if __name__ == "__main__":
    process.run(main)
