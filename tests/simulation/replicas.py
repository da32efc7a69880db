"""Presence replicas of a run: each is what `services.presence.__main__` puts together.

Workers, owner, ownership and servicers are the real ones, on the store that all share. What lies
around them is simulated: etcd, that store's database, channels, and the server.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any, Protocol
from unittest.mock import patch

from onward.presence.v1 import presence_pb2

from services.chassis.cluster import Directory
from services.chassis.errors import StartError, first_of
from services.presence import __main__ as service
from services.presence.settings import Settings
from tests.simulation import notifier
from tests.simulation.channels import Context, Port, Switchboard
from tests.simulation.etcd import EtcdServer, SimulatedEtcd
from tests.simulation.members import PARTITIONS, TTL_S
from tests.simulation.network import Network
from tests.simulation.presence_store import PresenceDatabase, SimulatedPresenceStore
from tests.simulation.virtual_time import Process, VirtualLoop

REPLICAS = ("pr1", "pr2")


class Scene(Protocol):
    """What replicas live in."""

    loop: VirtualLoop
    network: Network
    switchboard: Switchboard
    etcd: EtcdServer
    presence_database: PresenceDatabase

    def record(self, event: str, **fields: Any) -> None:
        """Tell the judge."""

    def ended(self, member: Any) -> None:
        """A process has come to its end."""


class Replica:
    """One life of a presence replica, from its start to its end."""

    def __init__(self, scene: Scene, name: str) -> None:
        self.name = name
        self.process = Process(scene.loop, name)
        self.leaving = False
        self._scene = scene
        self._stop = asyncio.Event()
        self.process.spawn(self._live())

    def drain(self) -> None:
        """SIGTERM."""
        self.leaving = True
        self._stop.set()

    async def _live(self) -> None:
        fault: BaseException | None = None
        try:
            await self._work()
        except* StartError as errors:  # another runs under its name; its supervisor tries again
            fault = first_of(errors)
        except* Exception as errors:  # noqa: BLE001 - it is told to the judge
            self._scene.record("broken", who=self.name, fault=repr(first_of(errors)))
        self._scene.record("exit", who=self.name, fault=str(fault or ""))
        self._scene.ended(self)

    async def _work(self) -> None:
        scene, name, stop = self._scene, self.name, self._stop
        settings, trust = settings_of(name), ""
        etcd: Any = SimulatedEtcd(scene.etcd, scene.network, name)
        any_trust: Any = trust
        directory = Directory(etcd)
        following = asyncio.create_task(directory.run())
        store = SimulatedPresenceStore(scene.presence_database, scene.network, name)
        await service._bury(settings, etcd)
        if await service._partitions(directory, stop):
            presence = service.Presence(
                settings, any_trust, store, etcd, directory, PARTITIONS, stop
            )
            workers = presence.workers
            scene.switchboard.ports[settings.advertise] = Port(
                self.process,
                unary={
                    "Report": self._noting(workers.servicer.Report),
                    "ListGoneEndpoints": workers.query_servicer.ListGoneEndpoints,
                },
            )
            await presence.run()
        following.cancel()

    def _noting(self, report: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def noted(request: presence_pb2.ReportRequest, context: Context) -> Any:
            for part in request.partitions:
                for entry in part.entries:
                    self._scene.record(
                        "reported", partition=part.partition, pos=entry.pos,
                        entry=entry.SerializeToString(),
                    )  # fmt: skip
            return await report(request, context)

        return noted


def settings_of(name: str) -> Settings:
    """Times that a story has room for; what is told of them stands in the settings."""
    return Settings(
        name=name,
        advertise=f"{name}:1",
        store="postgresql://simulated/presence",
        plugins=(notifier.ADDRESS,),
        lease_ttl_s=TTL_S,
        grace_s=0.8,
        grace_clean_s=0.3,
        grace_dead_edge_s=1.2,
        hold_max_s=4.0,
        hold_check_s=0.3,
        collapse_s=1.0,
        retry_first_s=0.2,
        retry_longest_s=1.0,
        retry_tries_max=40,
        breaker_first_s=0.2,
        breaker_longest_s=1.0,
        notify_deadline_s=1.5,
        plugins_wait_s=1.0,
        drain_s=1.0,
    )


class _Server:
    """Stands in for `services.chassis.server.Server`: calls come by the switchboard."""

    def __init__(self, *_: Any) -> None:
        self.port = 1
        self.grpc: Any = self

    def add_generic_rpc_handlers(self, _: Any) -> None:
        """The switchboard knows them."""

    def add_registered_method_handlers(self, _: str, __: Any) -> None:
        """The switchboard knows them."""

    async def start(self) -> None:
        """It serves already."""

    async def set_serving(self, serving: bool) -> None:
        """Nobody asks for health."""

    async def drain(self, grace_s: float) -> None:
        """Its process ends."""


@contextmanager
def simulated(
    open_channel: Callable[..., Any], now: Callable[[], float], random: Random
) -> Iterator[None]:
    """What services of presence ask of the world is simulated."""
    with ExitStack() as stack:
        for module in ("log_reader", "plugins"):
            stack.enter_context(patch(f"services.presence.{module}.open_channel", open_channel))
        stack.enter_context(patch.object(service, "Server", _Server))
        stack.enter_context(patch("time.monotonic", now))
        stack.enter_context(patch("services.presence.workers.random", random))
        yield
