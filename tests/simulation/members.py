"""Coordinators and edges of a run, made of what production is made of.

A coordinator is its directory, ownership, holdings, committer, reporter, uplinks and servicer, as
`services.coordinator.__main__` puts them together; an edge is its directory, exchange, uplinks,
readers and term, with everything that an exchange has. What lies around them is simulated. Presence
is in `replicas`.
"""

import asyncio
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from services.chassis.cluster import Directory, Keys
from services.chassis.errors import StartError, first_of
from services.chassis.ownership import Member
from services.coordinator.committer import Committer
from services.coordinator.holdings import Holdings
from services.coordinator.metrics import Metrics
from services.coordinator.ownership import Ownership
from services.coordinator.registers import Limits
from services.coordinator.reporter import Reporter
from services.coordinator.servicer import CoordinatorServicer
from services.coordinator.store import Stamp
from services.coordinator.uplinks import Uplinks
from services.edge.exchange import TICK_S, Exchange, ExchangeLimits
from services.edge.limits import Limits as SessionLimits
from services.edge.outbox import OutboxLimits
from services.edge.readers import Readers
from services.edge.term import Term
from services.edge.tokens import Authenticator
from services.edge.uplink import Uplinks as EdgeUplinks
from tests.simulation.channels import Port, Switchboard
from tests.simulation.etcd import EtcdServer, SimulatedEtcd
from tests.simulation.log_store import Database, SimulatedStore
from tests.simulation.network import Network
from tests.simulation.virtual_time import Process, VirtualLoop

PARTITIONS = 4
TTL_S = 3
ROUND_S = 2.0
PONG_S = 1.5
# Nobody asks for numbers in a run, and to make them takes longer than a run.
_METRICS = Metrics(CollectorRegistry())


class Scene(Protocol):
    """What members live in."""

    loop: VirtualLoop
    network: Network
    switchboard: Switchboard
    etcd: EtcdServer
    database: Database

    def record(self, event: str, **fields: Any) -> None:
        """Tell the judge."""

    def ended(self, member: "Coordinator | Edge") -> None:
        """A process has come to its end."""


class Coordinator:
    """One life of a coordinator, from its start to its end."""

    def __init__(self, scene: Scene, name: str) -> None:
        self.name = name
        self.address = f"{name}:1"
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

    def _make(self) -> None:
        scene, name = self._scene, self.name
        loop = scene.loop
        store = SimulatedStore(scene.database, scene.network, name)
        etcd: Any = SimulatedEtcd(scene.etcd, scene.network, name)
        self.directory = Directory(etcd)
        self.holdings = Holdings()
        self.uplinks = Uplinks(bytes_max=1 << 24)
        any_store: Any = store
        self.reporter = Reporter(
            store=any_store,
            holdings=self.holdings,
            uplinks=self.uplinks,
            directory=self.directory,
            trust="",
            entries_max=200,
            recent_bytes_max=1 << 20,
            metrics=_METRICS,
        )
        self.committer = Committer(
            store=any_store,
            holdings=self.holdings,
            uplinks=self.uplinks,
            offer=self.reporter.offer,
            note_length=lambda partition, subject, length: None,
            metrics=_METRICS,
            limits=Limits(),
            partitions=PARTITIONS,
            stamp=lambda: Stamp(int(loop.now * 1000), int(loop.now * 1000)),
            queue_max=1_000,
            batch_max=50,
        )
        self.holdings.subscribe(self.reporter.take, self.reporter.drop)
        self.holdings.subscribe(lambda partition, tail: None, self.uplinks.drop)
        self.ownership = Ownership(
            member=Member(name, 1, TTL_S),
            etcd=etcd,
            keys=Keys(),
            directory=self.directory,
            store=any_store,
            holdings=self.holdings,
            committer=self.committer,
            on_ready=_nothing,
        )
        status: Any = None
        self._servicer: Any = CoordinatorServicer(
            name=name,
            partitions=PARTITIONS,
            store=any_store,
            uplinks=self.uplinks,
            committer=self.committer,
            status=status,
            metrics=_METRICS,
            drain=lambda: 0.0,
        )

    async def _work(self) -> None:
        self._make()
        servicer = self._servicer
        self._scene.switchboard.ports[self.address] = Port(
            self.process,
            unary={
                "ReadMessages": servicer.ReadMessages,
                "ReadRetained": servicer.ReadRetained,
                "ReadTails": servicer.ReadTails,
            },
            streams={"Uplink": servicer.Uplink},
        )
        async with asyncio.TaskGroup() as tasks:
            works = [
                tasks.create_task(self.directory.run()),
                tasks.create_task(self.committer.run()),
                tasks.create_task(self.reporter.run()),
                tasks.create_task(self.ownership.run(self.address)),
            ]
            await self._stop.wait()
            try:
                async with asyncio.timeout(5.0):
                    await self.ownership.settle()
                    await self.uplinks.flush()
            except TimeoutError:
                pass
            await self.ownership.leave()
            self.uplinks.close_all()
            for work in works:
                work.cancel()


async def _nothing(ready: bool) -> None:
    """Nobody asks for health."""


class Edge:
    """One life of an edge."""

    def __init__(self, scene: Scene, name: str) -> None:
        self.name = name
        self.process = Process(scene.loop, name)
        self.leaving = False
        self.exchange: Exchange | None = None
        self._scene = scene
        self._stop = asyncio.Event()
        self.process.spawn(self._live())

    @property
    def open(self) -> bool:
        """Whether clients are let in."""
        return self.process.alive and self.exchange is not None and not self.leaving

    def drain(self) -> None:
        """SIGTERM."""
        self.leaving = True
        self._stop.set()

    async def _live(self) -> None:
        try:
            await self._work()
        except* _Drained:
            pass
        except* Exception as errors:  # noqa: BLE001 - it is told to the judge
            self._scene.record("broken", who=self.name, fault=repr(first_of(errors)))
        self._scene.record("exit", who=self.name, fault="")
        self._scene.ended(self)

    async def _work(self) -> None:
        scene = self._scene
        etcd: Any = SimulatedEtcd(scene.etcd, scene.network, self.name)
        directory = Directory(etcd)
        readers = Readers(directory, "")
        identify = Authenticator("", anonymous=True).identify
        limits = ExchangeLimits(
            session=SessionLimits(pong_s=PONG_S), outbox=OutboxLimits(publish_wait_s=120.0)
        )
        async with asyncio.TaskGroup() as tasks:
            exchange = Exchange(limits, identify, readers, tasks)
            uplinks = EdgeUplinks(exchange.outbox, exchange, "")
            exchange.wake = uplinks.wake
            term = Term(etcd, directory, exchange, uplinks, TTL_S)
            self.exchange = exchange
            tasks.create_task(directory.run())
            tasks.create_task(uplinks.run(tasks))
            tasks.create_task(term.run(f"{self.name}:1", f"{self.name}:2"))
            tasks.create_task(self._tick(exchange))
            tasks.create_task(self._sweep(exchange))
            await self._stop.wait()
            for connection in list(exchange.connections.values()):
                connection.drain(0)
            for _ in range(60):
                if not exchange.connections and not len(exchange.outbox):
                    break
                await asyncio.sleep(0.05)
            await term.end()
            raise _Drained

    @staticmethod
    async def _tick(exchange: Exchange) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            exchange.tick(loop.time())

    @staticmethod
    async def _sweep(exchange: Exchange) -> None:
        loop = asyncio.get_running_loop()
        number = 0
        while True:
            await asyncio.sleep(ROUND_S)
            number += 1
            exchange.begin_round(loop.time(), number)
            for connection in list(exchange.connections.values()):
                connection.on_sweep(loop.time(), number, number % 2 == 0)


class _Drained(Exception):
    """Everything that was to be done is done."""
