"""Coordinators, edges and presence replicas of a run, made of what production is made of.

A coordinator is its directory, ownership, holdings, committer, reporter, uplinks and servicer, as
`services.coordinator.__main__` puts them together; an edge is its directory, exchange, uplinks,
readers and term, with everything that an exchange has. What lies around them is simulated. Presence
is a model: two replicas of one store that has a cursor for each partition, and passes over what it
has.
"""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from onward.presence.v1 import presence_pb2
from prometheus_client import CollectorRegistry

from services.chassis.cluster import Directory, Keys
from services.chassis.errors import StartError, first_of
from services.chassis.etcd import Delete, Put
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
from services.edge.outbox import OutboxLimits
from services.edge.readers import Readers
from services.edge.term import Term
from services.edge.tokens import Authenticator
from services.edge.uplink import Uplinks as EdgeUplinks
from tests.simulation.channels import Context, Port, Switchboard
from tests.simulation.etcd import EtcdServer, SimulatedEtcd
from tests.simulation.log_store import Database, SimulatedStore
from tests.simulation.network import Network
from tests.simulation.virtual_time import Process, VirtualLoop

PARTITIONS = 4
REPLICAS = ("pr1", "pr2")
TTL_S = 3
ROUND_S = 2.0
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
        limits = ExchangeLimits(outbox=OutboxLimits(publish_wait_s=120.0))
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
                connection.on_sweep(loop.time(), number, False)


class _Drained(Exception):
    """Everything that was to be done is done."""


class Presence:
    """A model of presence: replicas, how far their store has come, and who owns what in it.

    A replica's key in etcd comes before its claim in the store, as in truth: in between it answers
    for the partition no more than the one before it does.
    """

    def __init__(self, scene: Scene, tell: Callable[..., None]) -> None:
        self.cursors: dict[int, int] = {}
        self._epochs: dict[int, int] = {}
        self._owners: dict[int, str] = {}  # in the store
        self._scene = scene
        self._tell = tell
        self.replicas = {name: Process(scene.loop, name) for name in REPLICAS}
        for name, process in self.replicas.items():
            scene.switchboard.ports[f"{name}:1"] = Port(
                process,
                unary={"Report": partial(self._report, name), "ListGoneEndpoints": self._gone},
            )

    def start(self) -> None:
        """Both are there, and own every partition between them."""
        etcd, keys = self._scene.etcd, Keys()
        for name in REPLICAS:
            etcd.txn([], [Put(keys.presence(name), f'{{"address": "{name}:1"}}')], 0)
        for partition in range(PARTITIONS):
            self.move(partition, REPLICAS[partition % len(REPLICAS)], 0.0, 0.0)

    def owned(self, name: str) -> list[int]:
        """The partitions that a replica owns, in the store."""
        return [partition for partition, owner in self._owners.items() if owner == name]

    def move(self, partition: int, name: str, after_s: float, claim_s: float) -> None:
        """A partition loses its owner now; another has the key `after_s` later, and the claim
        `claim_s` after that."""
        etcd, later = self._scene.etcd, self._scene.network.later
        key = Keys().presence_partition(partition)
        etcd.txn([], [Delete(key)], 0)

        def take_key() -> None:
            if key not in etcd.keys:  # or it has moved once more
                etcd.txn([], [Put(key, f'{{"name": "{name}", "era": 0}}')], 0)
                later(claim_s, claim)

        def claim() -> None:
            if (found := etcd.keys.get(key)) is not None:
                self._owners[partition] = json.loads(found.value)["name"]

        later(after_s, take_key)

    async def _report(self, name: str, request: Any, context: Context) -> Any:
        response = presence_pb2.ReportResponse()
        for part in request.partitions:
            p = part.partition
            if self._owners.get(p) != name:
                continue
            if part.epoch >= self._epochs.get(p, 0):
                self._epochs[p] = part.epoch
                for entry in part.entries:
                    if entry.pos == self.cursors.get(p, 0) + 1:
                        self.cursors[p] = entry.pos
                        self._tell(
                            "processed", partition=p, pos=entry.pos, entry=entry.SerializeToString()
                        )
            response.cursors.add(partition=p, pos=self.cursors.get(p, 0))
        return response

    async def _gone(self, request: Any, context: Context) -> Any:
        return presence_pb2.ListGoneEndpointsResponse()
