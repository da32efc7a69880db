"""What goes wrong in a run, and when: drawn from the seed alone.

Everything it does is undone again after a while, and all of it at the end, in `heal`.
"""

from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from tests.simulation import etcd, log_store
from tests.simulation.clients import Client
from tests.simulation.etcd import EtcdServer
from tests.simulation.log_store import Database
from tests.simulation.members import Coordinator, Edge
from tests.simulation.network import Network
from tests.simulation.presence_faults import PresenceFaults
from tests.simulation.presence_store import PresenceDatabase
from tests.simulation.replicas import Replica
from tests.simulation.virtual_time import Process

_FUSE_MAX = 80  # steps until a process dies that is to die
FAULTS_MAX = 9
PRESENCE_FAULTS_MAX = 4


class Scene(Protocol):
    """What can be broken."""

    network: Network
    etcd: EtcdServer
    database: Database
    coordinators: dict[str, Coordinator | None]
    edges: dict[str, Edge | None]
    replicas: dict[str, Replica | None]
    presence_database: PresenceDatabase
    clients: list[Client]

    def record(self, event: str, **fields: Any) -> None:
        """Tell whoever reads the story."""

    def start(self, name: str) -> None:
        """A member of that name starts, unless it runs."""

    def kill(self, name: str) -> None:
        """The member of that name dies now."""


class Adversary(PresenceFaults):
    """One plan for one run."""

    def __init__(self, scene: Scene, random: Random, begin_s: float, end_s: float) -> None:
        self._scene = scene
        self._random = random
        self._stopped: list[Process] = []
        self._over = False
        self.draw(begin_s, end_s)

    def draw(self, begin_s: float, end_s: float) -> None:
        """What goes wrong between these times."""
        scene, random = self._scene, self._random
        acts: list[tuple[int, Callable[[], None]]] = [
            (3, self._crash),
            (3, lambda: self._stop(self._any_name())),
            (6, self._trap),
            (4, self._cut),
            (4, self._slow),
            (3, self._lose),
            (3, self._stick),
            (2, self._drain),
            (1, self._etcd_down),
            (1, self._etcd_forgets),
            (1, self._store_down),
            (1, self._store_full),
            (2, self._hang_up),
        ]
        weights = [weight for weight, _ in acts]
        for _ in range(random.randint(2, FAULTS_MAX)):
            (act,) = random.choices([act for _, act in acts], weights)
            scene.network.later(random.uniform(begin_s, end_s), self._do, act)
        # Presence has its faults beside those of the others, for theirs to be no fewer.
        presence = self.presence_acts()
        weights = [weight for weight, _ in presence]
        for _ in range(random.randint(0, PRESENCE_FAULTS_MAX)):
            (act,) = random.choices([act for _, act in presence], weights)
            scene.network.later(random.uniform(begin_s, end_s), self._do, act)

    def heal(self) -> None:
        """Everything works again, everybody is there."""
        self._over = True
        scene = self._scene
        scene.record("heal")
        scene.database.full = False
        scene.presence_database.full = False
        scene.presence_database.on_claim = lambda name: None
        if etcd.NAME in scene.network.down:
            scene.etcd.restart()
        scene.network.heal()
        for process in self._stopped:
            process.go_on(self._random)
        members = (*scene.coordinators.values(), *scene.edges.values(), *scene.replicas.values())
        for member in members:
            if member is not None:
                member.process.fuse = 0
        for name in (*scene.coordinators, *scene.edges, *scene.replicas):
            scene.start(name)

    def _do(self, act: Callable[[], None]) -> None:
        if not self._over:
            act()

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._scene.network.later(seconds, self._do, act)

    def _note(self, what: str, **fields: Any) -> None:
        self._scene.record("fault", what=what, **fields)

    def _coordinator(self) -> str:
        return self._random.choice(list(self._scene.coordinators))

    def _edge(self) -> str:
        return self._random.choice(list(self._scene.edges))

    def _any_name(self) -> str:
        return self._coordinator() if self._random.random() < 0.7 else self._edge()

    def _member(self, name: str) -> Coordinator | Edge | Replica | None:
        scene = self._scene
        return scene.coordinators.get(name) or scene.edges.get(name) or scene.replicas.get(name)

    def _way(self) -> tuple[str, str]:
        draw = self._random.random()
        if draw < 0.4:
            return self._coordinator(), log_store.NAME
        if draw < 0.65:
            return self._coordinator(), etcd.NAME
        if draw < 0.85:
            return self._edge(), self._coordinator()
        if draw < 0.92:
            return self._edge(), etcd.NAME
        if draw < 0.96:
            return self._coordinator(), self._replica()
        return self._random.choice(self._scene.clients).name, self._edge()

    # What can happen.

    def _crash(self, name: str = "") -> None:
        name, random = name or self._any_name(), self._random
        member = self._member(name)
        if member is None:
            return
        steps = random.randint(1, _FUSE_MAX)
        self._note("crash", who=name, steps=steps)
        member.process.on_fuse = lambda: self._kill(name)
        member.process.fuse = steps

    def _kill(self, name: str) -> None:
        self._scene.kill(name)
        self._later(self._random.uniform(0.05, 5.0), lambda: self._scene.start(name))

    def _stop(self, name: str, seconds: float = 0.0) -> None:
        seconds = seconds or self._random.uniform(0.1, 7.0)
        member = self._member(name)
        if member is None or member.process.halted:
            return
        process = member.process
        self._note("pause", who=name, seconds=seconds)
        process.stop()
        self._stopped.append(process)

        def wake() -> None:
            if process.alive:
                self._note("go_on", who=name)
                process.go_on(self._random)

        self._later(seconds, wake)

    def _trap(self) -> None:
        """Something happens to a coordinator in the midst of a question to the store, or etcd."""
        random, name = self._random, self._coordinator()
        asked = random.choice((log_store.NAME, log_store.NAME, etcd.NAME))
        moment = random.choice(("on its way", "arrived", "answered"))
        what = random.choice((self._kill, self._stop, self._stop, self._cut_off))
        self._note("trap", who=name, asked=asked, moment=moment, then=what.__name__)
        self._scene.network.traps[name, asked] = (moment, lambda: what(name))

    def _cut_off(self, name: str) -> None:
        """From the store or etcd, or both."""
        others = self._random.choice(((log_store.NAME,), (etcd.NAME,), (log_store.NAME, etcd.NAME)))
        for other in others:
            self.cut_way(name, other)

    def _cut(self) -> None:
        self.cut_way(*self._way())

    def cut_way(self, one: str, other: str, seconds: float = 0.0) -> None:
        """Two hear no more of each other for a while; 0: as long as chance has it."""
        seconds = seconds or self._random.uniform(0.2, 6.0)
        self._note("cut", way=(one, other), seconds=seconds)
        self._scene.network.cuts.add(frozenset((one, other)))
        if etcd.NAME in (one, other) and self._random.random() < 0.5:
            self._scene.etcd.break_watches(one)
        self._later(seconds, lambda: self._scene.network.open_way(one, other))

    def _slow(self) -> None:
        way = self._way()
        random = self._random
        if random.random() < 0.4:
            way = (self._edge(), self._coordinator())
        (one, other) = way
        seconds, by_s = random.uniform(0.5, 5.0), random.choice((0.02, 0.2, 1.0, 3.0, 6.0))
        self._note("slow", way=(one, other), seconds=seconds, by_s=by_s)
        slow = self._scene.network.slow
        slow[frozenset((one, other))] = by_s
        self._later(seconds, lambda: slow.pop(frozenset((one, other)), None) and None)

    def _lose(self) -> None:
        name, random = self._coordinator(), self._random
        way = (name, random.choice((etcd.NAME, log_store.NAME, log_store.NAME)))
        seconds, share = random.uniform(0.5, 5.0), random.choice((0.1, 0.3, 0.6))
        self._note("lose", way=way, seconds=seconds, share=share)
        lossy = self._scene.network.lossy
        lossy[frozenset(way)] = share
        self._later(seconds, lambda: lossy.pop(frozenset(way), None) and None)

    def _stick(self) -> None:
        """Some of a coordinator's statements reach the store when nobody expects them any more."""
        name, random = self._coordinator(), self._random
        way, seconds = frozenset((name, log_store.NAME)), random.uniform(0.5, 4.0)
        self._note("stick", who=name, seconds=seconds)
        self._scene.network.stuck[way] = random.choice((0.1, 0.3))
        self._later(seconds, lambda: self._scene.network.stuck.pop(way, None) and None)

    def _drain(self, name: str = "") -> None:
        name = name or self._any_name()
        member = self._member(name)
        if member is not None:
            self._note("drain", who=name)
            member.process.do(member.drain)

    def _etcd_down(self) -> None:
        seconds = self._random.uniform(0.1, 5.0)
        self._note("etcd_down", seconds=seconds)
        self._scene.network.down.add(etcd.NAME)
        self._scene.etcd.break_watches()

        def back() -> None:
            self._scene.network.down.discard(etcd.NAME)
            self._scene.etcd.restart()

        self._later(seconds, back)

    def _etcd_forgets(self) -> None:
        self._note("etcd_compacts")
        self._scene.etcd.compact()
        self._scene.etcd.break_watches()

    def _store_down(self) -> None:
        seconds = self._random.uniform(0.1, 4.0)
        self._note("store_down", seconds=seconds)
        self._scene.network.down.add(log_store.NAME)
        self._later(seconds, lambda: self._scene.network.down.discard(log_store.NAME))

    def _store_full(self) -> None:
        seconds = self._random.uniform(0.1, 3.0)
        self._note("store_full", seconds=seconds)
        self._scene.database.full = True

        def room() -> None:
            self._scene.database.full = False

        self._later(seconds, room)

    def _hang_up(self) -> None:
        self._random.choice(self._scene.clients).hang_up()
