"""Runs a presence service: `python -m services.presence`, all settings from the environment."""

import asyncio
import os

from onward.presence.v1 import (
    deliveries_pb2,
    deliveries_pb2_grpc,
    presence_pb2,
    presence_pb2_grpc,
    registry_pb2,
    registry_pb2_grpc,
    users_pb2,
    users_pb2_grpc,
)

from services.chassis import logs, process
from services.chassis import metrics as metrics_port
from services.chassis.cluster import Directory, DirectoryChange, Keys, bury_former
from services.chassis.errors import StartError, Unavailable, first_of
from services.chassis.etcd import Etcd
from services.chassis.ownership import Member, Ownership, Placement
from services.chassis.server import Server
from services.chassis.settings import load
from services.chassis.tls import Trust, trust_of
from services.presence.extensions import EXTENSIONS
from services.presence.extensions_registry import ExtensionsRegistry
from services.presence.owner import Owner
from services.presence.postgres_store import PostgresStore
from services.presence.registry import NOTIFIERS, Registration, decode
from services.presence.registry_servicer import RegistryServicer
from services.presence.serial_store import SerialStore
from services.presence.settings import Settings
from services.presence.sqlite_store import SqliteStore
from services.presence.store import Store
from services.presence.workers import Workers

log = logs.get(__name__)

# How long to wait before another look for a store that does not answer.
_FAULT_PAUSE_S = 1.0
_SERVICES = [
    file.services_by_name[name].full_name
    for file, name in (
        (presence_pb2.DESCRIPTOR, "PresenceService"),
        (presence_pb2.DESCRIPTOR, "PresenceQueryService"),
        (deliveries_pb2.DESCRIPTOR, "DeliveryService"),
        (registry_pb2.DESCRIPTOR, "RegistryService"),
        (users_pb2.DESCRIPTOR, "UserService"),
    )
]


async def main(stop: asyncio.Event) -> None:
    """Build the service, own a share of the partitions, drain at the end."""
    settings = load(Settings, "presence", os.environ)
    logs.configure("presence", settings.log_level)
    trust = trust_of(settings, "presence")
    metrics_port.serve(settings.metrics_port, settings.metrics_host)
    etcd = Etcd(settings.etcd, access=settings.etcd_access())
    store = _store(settings)
    directory = Directory(etcd)
    following = asyncio.create_task(directory.run())
    try:
        opened, _ = await asyncio.gather(_opened(store, stop), _bury(settings, etcd))
        partitions = await _partitions(directory, stop) if opened else 0
        if partitions:
            await Presence(settings, trust, store, etcd, directory, partitions, stop).run()
    finally:
        following.cancel()
        await store.close()
        await etcd.close()


def _store(settings: Settings) -> SerialStore:
    if settings.store:
        return PostgresStore(settings.store, settings.store_answer_s)
    return SqliteStore(settings.data_dir)


async def _bury(settings: Settings, etcd: Etcd) -> None:
    if settings.store:  # Else there are no others.
        await bury_former(etcd, Keys().presence(settings.name))


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
    log.info("waiting_for_partitions")
    waits = [asyncio.create_task(event.wait()) for event in (known, stop)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    return 0 if stop.is_set() else directory.partitions


class Presence:
    """All parts of a presence service over a store and an etcd, wired."""

    def __init__(
        self,
        settings: Settings,
        trust: Trust,
        store: Store,
        etcd: Etcd,
        directory: Directory,
        partitions: int,
        stop: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._etcd = etcd
        self._keys = Keys()
        self._stop = stop
        self.workers = Workers(
            settings,
            trust,
            store,
            partitions,
            coordinators=lambda: list(directory.coordinators.values()),
            live_edges=lambda: list(directory.edges) if directory.revision else None,
            edge_is_alive=self._edge_is_alive,
            is_member=self._is_member,
            drain=self._drain,
            extensions=lambda: directory.registered(EXTENSIONS),
        )
        self._directory = directory
        self._store = store
        directory.on_change(self._changed)
        self._read_registry()
        self.server = self._served(trust)
        self.owner = Owner(store, self.workers, settings.name, partitions)
        self.ownership = Ownership(
            member=Member(settings.name, settings.era, settings.lease_ttl_s),
            placement=Placement(
                service="presence",
                member_key=self._keys.presence,
                owner_key=self._keys.presence_partition,
                live=lambda: directory.presences,
                claims=lambda: directory.presence_claims,
            ),
            etcd=etcd,
            directory=directory,
            holder=self.owner,
            on_ready=self.server.set_serving,
        )

    def _served(self, trust: Trust) -> Server:
        server = Server(self._settings.listen, trust, _SERVICES)
        presence_pb2_grpc.add_PresenceServiceServicer_to_server(self.workers.servicer, server.grpc)
        presence_pb2_grpc.add_PresenceQueryServiceServicer_to_server(
            self.workers.query_servicer, server.grpc
        )
        deliveries_pb2_grpc.add_DeliveryServiceServicer_to_server(
            self.workers.delivery_servicer, server.grpc
        )
        users_pb2_grpc.add_UserServiceServicer_to_server(self.workers.user_servicer, server.grpc)
        extensions = ExtensionsRegistry(
            self._store, self.workers.tellers, self._keep_extension, self._forget_extension
        )
        registry = RegistryServicer(self.workers.plugins, self._etcd, self._keys, trust, extensions)
        registry_pb2_grpc.add_RegistryServiceServicer_to_server(registry, server.grpc)
        return server

    async def run(self) -> None:
        """Work until stopped, then drain. Raises StartError if port or name cannot be had."""
        settings = self._settings
        await self.server.start()
        host = settings.listen.rpartition(":")[0]
        address = settings.advertise or f"{host}:{self.server.port}"
        self.workers.reached_at(address)
        fault: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                owning = tasks.create_task(self.ownership.run(address))
                await self._stop.wait()
                await self._leave()
                owning.cancel()
        except* StartError as errors:
            fault = first_of(errors)
        await self.owner.ended()
        await self.server.drain(settings.drain_s if fault is None else 0)
        await self.workers.close()
        if fault is not None:
            raise fault

    async def _leave(self) -> None:
        """Finish calls to plugins, close the term, then let the keys go."""
        self.ownership.stop()
        await self.server.set_serving(False)
        await self.workers.drain()
        await self.owner.leave()
        await self.ownership.leave()

    async def _edge_is_alive(self, edge_id: int) -> bool:
        return await self._etcd.get(self._keys.edge(edge_id)) is not None

    async def _is_member(self, name: str, term: int) -> bool:
        found = await self._etcd.get(self._keys.presence(name))
        return found is not None and found.lease == term

    async def _keep_extension(self, name: str, value: str) -> None:
        await self._etcd.put(self._keys.registered(EXTENSIONS, name), value)

    async def _forget_extension(self, name: str) -> None:
        await self._etcd.delete(self._keys.registered(EXTENSIONS, name))

    def _drain(self) -> float:
        self._stop.set()
        return 2 * self._settings.drain_s  # for calls to plugins, then for calls from others

    def _changed(self, change: DirectoryChange) -> None:
        if change.edges:
            self.workers.sweep_soon()
        if change.presences:
            self.workers.members_changed()
        if EXTENSIONS in change.registered:
            self.workers.extensions_changed()
        if NOTIFIERS in change.registered:
            self._read_registry()

    def _read_registry(self) -> None:
        found: list[Registration] = []
        for name, value in self._directory.registered(NOTIFIERS).items():
            if (one := decode(name, value)) is not None:
                found.append(one)
            else:
                log.warning("registration_damaged", key=self._keys.registered(NOTIFIERS, name))
        self.workers.registered(found)


if __name__ == "__main__":
    process.run(main)
