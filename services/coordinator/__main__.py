"""Runs a coordinator: `python -m services.coordinator`, set up by `ONWARD_COORDINATOR_…`."""

import asyncio
import gc
import os
from pathlib import Path

from onward.coordinator.v1 import coordinator_pb2_grpc
from prometheus_client import REGISTRY

from services.chassis import logs, metrics, process
from services.chassis.cluster import Directory, Keys, freeze_partitions
from services.chassis.errors import Unavailable
from services.chassis.etcd import Etcd
from services.chassis.server import Server
from services.chassis.settings import load
from services.coordinator.clock import stamps
from services.coordinator.committer import Committer
from services.coordinator.holdings import Holdings
from services.coordinator.metrics import Metrics
from services.coordinator.ownership import Member, Ownership
from services.coordinator.registers import Limits
from services.coordinator.reporter import Reporter
from services.coordinator.retention import Retention, Rule
from services.coordinator.servicer import CoordinatorServicer
from services.coordinator.settings import Settings
from services.coordinator.sqlite_store import SqliteStore
from services.coordinator.uplinks import Uplinks

log = logs.get(__name__)

SERVICE = "onward.coordinator.v1.CoordinatorService"
_ETCD_PAUSE_S = 0.3


async def main(stop: asyncio.Event) -> None:
    """Build the coordinator, run it until `stop`, drain it."""
    settings = load(Settings, "coordinator", os.environ)
    logs.configure("coordinator", settings.log_level)
    metrics.serve(settings.metrics_port)
    server = Server(settings.listen, settings.secret, [SERVICE])
    store = SqliteStore.open(Path(settings.data_dir))
    etcd, keys = Etcd(settings.etcd), Keys()
    try:
        partitions = await _partitions(etcd, settings.partitions, keys, stop)
        if partitions:
            await _serve(settings, server, store, etcd, keys, partitions, stop)
    finally:
        await etcd.close()
        await store.close()


async def _serve(
    settings: Settings,
    server: Server,
    store: SqliteStore,
    etcd: Etcd,
    keys: Keys,
    partitions: int,
    stop: asyncio.Event,
) -> None:
    stamp = stamps()
    directory = Directory(etcd, keys)
    holdings = Holdings()
    uplinks = Uplinks(settings.uplink_bytes_max)
    reporter = Reporter(
        store=store,
        holdings=holdings,
        uplinks=uplinks,
        directory=directory,
        secret=settings.secret,
        entries_max=settings.report_entries_max,
        recent_bytes_max=settings.recent_bytes_max,
    )
    holdings.subscribe(reporter.take, reporter.drop)
    holdings.subscribe(lambda partition, tail: None, uplinks.drop)
    retention = Retention(
        rule=Rule(settings.dedupe_window_s, settings.retain_s, settings.retain_messages),
        store=store,
        holdings=holdings,
        cursor=reporter.cursor,
        stamp=stamp,
    )
    seen = Metrics(REGISTRY)
    seen.report_lag.set_function(reporter.lag)
    seen.partitions.set_function(lambda: len(holdings))
    seen.uplinks.set_function(lambda: len(uplinks))
    committer = Committer(
        store=store,
        holdings=holdings,
        uplinks=uplinks,
        takers=[reporter, retention],
        metrics=seen,
        limits=Limits(settings.clients_max, settings.external_tokens_max, settings.follows_max),
        partitions=partitions,
        stamp=stamp,
        queue_max=settings.queue_appends_max,
        batch_max=settings.batch_appends_max,
    )
    ownership = Ownership(
        member=Member(settings.name, settings.era, settings.lease_ttl_s),
        etcd=etcd,
        keys=keys,
        directory=directory,
        store=store,
        holdings=holdings,
        settled=committer.settled,
        on_ready=server.set_serving,
    )
    servicer = CoordinatorServicer(
        name=settings.name,
        partitions=partitions,
        store=store,
        uplinks=uplinks,
        committer=committer,
    )
    coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(servicer, server.grpc)
    await server.start()
    address = settings.advertise or f"{settings.listen.rpartition(':')[0]}:{server.port}"
    log.info("listening", address=address, name=settings.name, partitions=partitions)
    gc.freeze()
    async with asyncio.TaskGroup() as tasks:
        works = [
            tasks.create_task(work)
            for work in (
                directory.run(),
                committer.run(),
                reporter.run(),
                retention.run(),
                ownership.run(address),
            )
        ]
        await stop.wait()
        log.info("draining")
        await server.set_serving(False)
        await _drain(ownership, uplinks, settings.drain_s)
        uplinks.close_all()
        await server.drain(0.5)
        for work in works:
            work.cancel()
    log.info("stopped")


async def _drain(ownership: Ownership, uplinks: Uplinks, drain_s: float) -> None:
    """Finish commits, push what they answered, then let the keys go."""
    try:
        async with asyncio.timeout(drain_s):
            await ownership.settle()
            await uplinks.flush()
            await ownership.leave()
    except TimeoutError:
        log.warning("drain_cut_short")


async def _partitions(etcd: Etcd, wanted: int, keys: Keys, stop: asyncio.Event) -> int:
    """The frozen number of partitions; waits for etcd as long as it takes. 0: stopped."""
    while not stop.is_set():
        try:
            return await freeze_partitions(etcd, wanted, keys)
        except Unavailable as fault:
            log.warning("waiting_for_etcd", fault=str(fault))
            await asyncio.sleep(_ETCD_PAUSE_S)
    return 0


if __name__ == "__main__":
    process.run(main)
