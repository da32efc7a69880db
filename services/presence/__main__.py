"""Runs a presence service: `python -m services.presence`, all settings from the environment."""

import asyncio
import os

from onward.presence.v1 import presence_pb2, presence_pb2_grpc

from services.chassis import logs, process
from services.chassis import metrics as metrics_port
from services.chassis.cluster import Directory, DirectoryChange, Keys
from services.chassis.errors import Deposed, Fault, StartError, Unavailable
from services.chassis.etcd import Etcd, Lease
from services.chassis.server import Server
from services.chassis.settings import load
from services.chassis.tls import Trust, trust_of
from services.presence import metrics
from services.presence.owner import Ownership
from services.presence.postgres_store import PostgresStore
from services.presence.serial_store import SerialStore
from services.presence.settings import Settings
from services.presence.sqlite_store import SqliteStore
from services.presence.store import Store
from services.presence.workers import Workers

log = logs.get(__name__)

# How long to wait before another term when a fault ended one, as a disk that was too full to begin
# it; and before another look for a store that does not answer.
_FAULT_PAUSE_S = 1.0
_SERVICES = [
    presence_pb2.DESCRIPTOR.services_by_name[name].full_name
    for name in ("PresenceService", "PresenceQueryService")
]


async def main(stop: asyncio.Event) -> None:
    """Build the service, own presence while it can be had, drain at the end."""
    settings = load(Settings, "presence", os.environ)
    logs.configure("presence", settings.log_level)
    trust = trust_of(settings, "presence")
    metrics_port.serve(settings.metrics_port, settings.metrics_host)
    etcd, keys = Etcd(settings.etcd, access=settings.etcd_access()), Keys()
    store = _store(settings)
    directory = Directory(etcd, keys)
    following = asyncio.create_task(directory.run())
    try:
        if not await _opened(store, stop):
            return
        partitions = await _partitions(directory, stop)
        if partitions:
            await _serve(settings, trust, store, etcd, keys, directory, partitions, stop)
    finally:
        following.cancel()
        await store.close()
        await etcd.close()


def _store(settings: Settings) -> SerialStore:
    if settings.store:
        return PostgresStore(settings.store, settings.store_answer_s)
    return SqliteStore(settings.data_dir)


async def _opened(store: SerialStore, stop: asyncio.Event) -> bool:
    """Open the store, however long it does not answer; False: asked to stop before."""
    while not stop.is_set():
        try:
            await store.open()
            return True
        except Unavailable as fault:
            log.warning("store_unavailable", fault=str(fault))
            await _pause(stop)
    return False


async def _pause(stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_FAULT_PAUSE_S):
            await stop.wait()
    except TimeoutError:
        pass


async def _partitions(directory: Directory, stop: asyncio.Event) -> int:
    """The number of partitions, which the first coordinator freezes; 0: stopped before."""
    known = asyncio.Event()

    def look(_: DirectoryChange | None = None) -> None:
        if directory.partitions:
            known.set()

    directory.on_change(look)
    look()
    waits = [asyncio.create_task(event.wait()) for event in (known, stop)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    return 0 if stop.is_set() else directory.partitions


async def _serve(
    settings: Settings,
    trust: Trust,
    store: Store,
    etcd: Etcd,
    keys: Keys,
    directory: Directory,
    partitions: int,
    stop: asyncio.Event,
) -> None:
    async def edge_is_alive(edge_id: int) -> bool:
        return await etcd.get(keys.edge(edge_id)) is not None

    def drain() -> float:
        stop.set()
        return 2 * settings.drain_s  # for calls to plugins, then for calls from others

    workers = Workers(
        settings,
        trust,
        store,
        partitions,
        coordinators=lambda: list(directory.coordinators.values()),
        live_edges=lambda: list(directory.edges) if directory.revision else None,
        edge_is_alive=edge_is_alive,
        drain=drain,
    )

    def on_change(change: DirectoryChange) -> None:
        if change.edges:
            workers.sweep_soon()

    directory.on_change(on_change)
    server = Server(settings.listen, trust, _SERVICES)
    presence_pb2_grpc.add_PresenceServiceServicer_to_server(workers.servicer, server.grpc)
    presence_pb2_grpc.add_PresenceQueryServiceServicer_to_server(
        workers.query_servicer, server.grpc
    )
    await server.start()
    host = settings.listen.rpartition(":")[0]
    address = settings.advertise or f"{host}:{server.port}"
    ownership = Ownership(etcd, keys, settings.name, address, settings.lease_ttl_s, settings.era)
    try:
        while not stop.is_set():
            await _term(ownership, store, partitions, workers, server, stop)
    finally:
        await server.drain(settings.drain_s)
        await workers.close()


async def _term(
    ownership: Ownership,
    store: Store,
    partitions: int,
    workers: Workers,
    server: Server,
    stop: asyncio.Event,
) -> None:
    """One membership: until the lease is lost, or the process is asked to stop."""
    lease = await _join(ownership, stop)
    if lease is None:
        return
    keeping = asyncio.create_task(lease.keep())
    owning = asyncio.create_task(_own(ownership, lease, store, partitions, workers, server))
    ends = [asyncio.create_task(stop.wait()), asyncio.create_task(lease.lost.wait()), owning]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if owning.done():
            await _look_at_end(owning, stop)
        await server.set_serving(False)
        if stop.is_set():
            await workers.drain()
    finally:
        for task in (*ends, keeping):
            task.cancel()
        await asyncio.gather(*ends, keeping, return_exceptions=True)
        metrics.owner.set(0)
        try:
            await lease.revoke()
        except Unavailable:
            log.warning("lease_left_to_expire")


async def _join(ownership: Ownership, stop: asyncio.Event) -> Lease | None:
    """A new membership, however long etcd is away; None: asked to stop before."""
    joining = asyncio.create_task(ownership.join())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([joining, stopping], return_when=asyncio.FIRST_COMPLETED)
        return joining.result() if joining.done() else None
    finally:
        joining.cancel()
        stopping.cancel()


async def _look_at_end(owning: asyncio.Task[None], stop: asyncio.Event) -> None:
    """Raises what ended the work, unless it was a fault: no space, or no store; that may pass."""
    try:
        owning.result()
    except Fault as fault:
        log.error("term_ended", fault=type(fault).__name__, reason=str(fault))
        await _pause(stop)


async def _own(
    ownership: Ownership,
    lease: Lease,
    store: Store,
    partitions: int,
    workers: Workers,
    server: Server,
) -> None:
    """Wait to be the owner, claim the store, and work until cancelled, or until the claim ends."""

    async def stand_by() -> None:
        await server.set_serving(False, standing_by=True)

    epoch = await ownership.claim(lease, stand_by)
    if epoch is None:
        return
    try:
        await store.claim(epoch, partitions)
    except Deposed as fault:
        if not await ownership.holds(lease):
            return  # Another one became the owner meanwhile.
        raise StartError(
            f"{fault}; if etcd was restored or replaced, set ONWARD_PRESENCE_ERA one higher"
        ) from None
    log.info("presence_owned", epoch=epoch)
    metrics.owner.set(1)
    await server.set_serving(True)
    working = asyncio.create_task(workers.run())
    ending = asyncio.create_task(store.claim_ended())
    try:
        await asyncio.wait([working, ending], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        log.warning("presence_claim_ended", epoch=epoch)
    finally:
        working.cancel()
        ending.cancel()
        await asyncio.gather(working, ending, return_exceptions=True)


if __name__ == "__main__":
    process.run(main)
