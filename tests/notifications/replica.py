"""Presence services of a story: the real workers, each life a process on the shared store.

What `services.presence.owner` and etcd do is done by `Cast`, in a few lines: it says who holds
which partition, in ever higher epochs; when a life has ended, or is stopped for longer than its
lease, another takes what it held. A term that was closed by others ends, and another begins.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from random import Random
from typing import Any

from services.chassis.errors import Fault
from services.presence.settings import Settings
from services.presence.workers import Workers
from tests.notifications.database import StoryStore
from tests.notifications.log import ADDRESS, PARTITIONS
from tests.simulation.channels import Port
from tests.simulation.virtual_time import Process

REPLICAS = ("pr1", "pr2")
_LEASE_S = 1.0


class Replica:
    """One life of a presence service."""

    def __init__(self, scene: Any, name: str, settings: Settings) -> None:
        self.name = name
        self.address = f"{name}:1"
        self.term = 0
        self.stopped_at: float | None = None
        self._scene = scene
        self.process = Process(scene.loop, name)
        self.store = StoryStore(scene.database, name, scene.random)
        trust: Any = ""
        self.workers = self.process.context.run(
            Workers,
            settings,
            trust,
            self.store,
            PARTITIONS,
            coordinators=lambda: [ADDRESS],
            live_edges=lambda: sorted(scene.edges.live),
            edge_is_alive=self._edge_is_alive,
            is_member=scene.cast.is_member,
            drain=lambda: 0.0,
        )
        scene.switchboard.ports[self.address] = Port(
            self.process,
            unary={
                "Report": self.workers.servicer.Report,
                "Explain": self.workers.query_servicer.Explain,
            },
        )
        self.process.spawn(self._live())

    @property
    def works(self) -> bool:
        """Whether it is there as far as its lease tells."""
        if not self.process.alive or not self.term:
            return False
        return self.stopped_at is None or self._scene.loop.now < self.stopped_at + _LEASE_S

    async def _edge_is_alive(self, edge: int) -> bool:
        return edge in self._scene.edges.live

    async def _live(self) -> None:
        while True:
            term = self._scene.cast.next_term()
            try:
                await self.store.begin(term, self.name, PARTITIONS)
            except Fault:
                await asyncio.sleep(0.1)
                continue
            self.term = term
            working = asyncio.create_task(self.workers.run())
            ending = asyncio.create_task(self.store.term_ended())
            await asyncio.wait([working, ending], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                self._scene.record("broken", who=self.name, fault=repr(working.exception()))
            self.term = 0
            self.store.drop(range(PARTITIONS))
            working.cancel()
            ending.cancel()
            await asyncio.wait([working, ending])
            await asyncio.sleep(0.1)

    async def take(self, epochs: Mapping[int, int]) -> None:
        """Claim these partitions."""
        try:
            await self.store.claim(epochs)
        except Fault:
            return
        self.workers.taken()

    async def let_go(self, partitions: list[int]) -> None:
        """Release them, so that who takes them need not close this term."""
        with suppress(Fault):
            await self.store.release(partitions)


class Cast:
    """Who is there, and who holds what."""

    def __init__(self, scene: Any, random: Random, settings: Mapping[str, Settings]) -> None:
        self.replicas: dict[str, Replica | None] = dict.fromkeys(REPLICAS)
        self.lives: list[Replica] = []
        self._asked_at: dict[int, float] = {}
        self._scene = scene
        self._random = random
        self._settings = settings
        self._terms = 0
        self._epochs = 0
        self.process = Process(scene.loop, "cast")

    def begin(self) -> None:
        for name in REPLICAS:
            self.start(name)
        self.process.spawn(self._divide())

    def start(self, name: str) -> None:
        if self.replicas[name] is None:
            replica = Replica(self._scene, name, self._settings[name])
            self.replicas[name] = replica
            self.lives.append(replica)
            self._scene.record("started", who=name)

    def kill(self, name: str) -> None:
        """SIGKILL; it is started again a little later."""
        replica = self.replicas[name]
        if replica is not None:
            self._scene.record("killed", who=name)
            replica.process.kill()
            self.replicas[name] = None
            self._scene.network.later(self._random.uniform(0.1, 2.5), self.start, name)

    def stop(self, name: str, seconds: float) -> None:
        """SIGSTOP, and SIGCONT so much later."""
        replica = self.replicas[name]
        if replica is not None and replica.stopped_at is None:
            self._scene.record("stopped", who=name)
            replica.stopped_at = self._scene.loop.now
            replica.process.stop()
            self._scene.network.later(seconds, self._go_on, replica)

    def _go_on(self, replica: Replica) -> None:
        replica.stopped_at = None
        self._scene.record("goes_on", who=replica.name)
        replica.process.go_on(self._random)

    def next_term(self) -> int:
        self._terms += 1
        return self._terms

    async def is_member(self, name: str, term: int) -> bool:
        replica = self.replicas.get(name)
        return replica is not None and replica.works and replica.term == term

    def addresses(self) -> dict[int, str]:
        """Who holds each partition, as a coordinator would find it."""
        found = {}
        for partition in range(PARTITIONS):
            replica = self.holder(partition)
            if replica is not None:
                found[partition] = replica.address
        return found

    def holder(self, partition: int = 0) -> Replica | None:
        """The replica that holds a partition and runs; of several, who began its term last."""
        there = [
            one
            for one in self.replicas.values()
            if one is not None and one.term and not one.process.halted
            if partition in one.store.mine.partitions
        ]
        return max(there, key=lambda one: one.term, default=None)

    async def _divide(self) -> None:
        """Give partitions to those who work; what a living one has it lets go first, mostly."""
        while True:
            await asyncio.sleep(0.1)
            there = [one for one in self.replicas.values() if one is not None and one.works]
            for partition in range(PARTITIONS):
                if there:
                    target = there[partition % len(there)]
                    if partition not in target.store.mine.partitions:
                        self._hand(partition, target, there)

    def _hand(self, partition: int, target: Replica, there: list[Replica]) -> None:
        now = self._scene.loop.now
        if now < self._asked_at.get(partition, 0.0):
            return
        self._asked_at[partition] = now + 0.4
        for one in there:
            has_it = one is not target and partition in one.store.mine.partitions
            # Else it is taken from who has it, whose term ends with that.
            if has_it and self._random.random() < 0.9:
                one.process.spawn(one.let_go([partition]))
                return
        self._epochs += 1
        if not target.process.halted:
            target.process.spawn(target.take({partition: self._epochs}))
