"""What goes wrong with presence replicas: part of `adversary`, which knows how."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random
from typing import Any

from tests.simulation import etcd, notifier, presence_store
from tests.simulation.members import TTL_S


class PresenceFaults(ABC):
    """Faults of presence replicas, of their store, and of what they call."""

    _scene: Any
    _random: Random

    def presence_acts(self) -> list[tuple[int, Callable[[], None]]]:
        """What can happen, each with its weight."""
        return [
            (3, lambda: self._crash(self._replica())),
            (3, lambda: self._stop(self._replica())),
            (2, lambda: self._drain(self._replica())),
            (5, self._replica_is_trapped),
            (3, self._replica_is_stopped_as_it_sends),
            (3, self._replica_is_stopped_in_a_transaction),
            (3, self._replica_is_cut),
            (2, self._replica_is_lossy),
            (2, self._replica_is_slow),
            (1, self._presence_full),
            (1, self._presence_down),
        ]

    def _replica(self) -> str:
        return self._random.choice(list(self._scene.replicas))

    def _replica_is_trapped(self) -> None:
        """Something happens to a replica in the midst of a transaction, a read or a call."""
        random, name = self._random, self._replica()
        asked = random.choice((presence_store.NAME, presence_store.NAME, etcd.NAME))
        moment = random.choice(("on its way", "arrived", "answered"))
        what = random.choice((self._kill, self._kill, self._stop, self._cut_off_replica))
        self._note("trap", who=name, asked=asked, moment=moment, then=what.__name__)
        self._scene.network.traps[name, asked] = (moment, lambda: what(name))

    def _replica_is_stopped_as_it_sends(self) -> None:
        """Between a claim, which is committed, and the call of the plugin, or dead there."""
        database = self._scene.presence_database
        what = self._random.choice((self._stop, self._stop, self._stop, self._kill))
        self._note("trap_at_claim", then=what.__name__)

        def spring(name: str) -> None:
            database.on_claim = lambda name: None
            self._later(0.0, lambda: what(name))

        database.on_claim = spring

    def _replica_is_stopped_in_a_transaction(self) -> None:
        """For so long that another has its partitions when it comes to the commit."""
        name, seconds = self._replica(), self._random.uniform(TTL_S + 0.5, TTL_S + 2.0)
        self._note("trap_in_transaction", who=name)
        self._scene.network.traps[name, presence_store.NAME] = (
            "answered",
            lambda: self._stop(name, seconds),
        )

    def _replica_is_cut(self) -> None:
        name = self._replica()
        others = (presence_store.NAME, etcd.NAME, notifier.NAME, self._coordinator())
        self.cut_way(name, self._random.choice(others))

    def _cut_off_replica(self, name: str) -> None:
        self.cut_way(name, self._random.choice((presence_store.NAME, etcd.NAME)))

    def _replica_is_lossy(self) -> None:
        """Transactions go wrong, some after their commit."""
        name, random = self._replica(), self._random
        way, seconds = frozenset((name, presence_store.NAME)), random.uniform(0.5, 4.0)
        self._note("lose", way=sorted(way), seconds=seconds)
        self._scene.network.lossy[way] = random.choice((0.05, 0.2))
        self._later(seconds, lambda: self._scene.network.lossy.pop(way, None) and None)

    def _replica_is_slow(self) -> None:
        name, random = self._replica(), self._random
        others = (presence_store.NAME, notifier.NAME, self._coordinator())
        way, seconds = frozenset((name, random.choice(others))), random.uniform(0.5, 4.0)
        self._note("slow", way=sorted(way), seconds=seconds)
        self._scene.network.slow[way] = random.choice((0.1, 0.5, 2.0))
        self._later(seconds, lambda: self._scene.network.slow.pop(way, None) and None)

    def _presence_full(self) -> None:
        seconds = self._random.uniform(0.1, 2.0)
        self._note("presence_full", seconds=seconds)
        self._scene.presence_database.full = True

        def room() -> None:
            self._scene.presence_database.full = False

        self._later(seconds, room)

    def _presence_down(self) -> None:
        """The store fails over, for all replicas at once."""
        seconds = self._random.uniform(0.1, 4.0)
        self._note("presence_down", seconds=seconds)
        down = self._scene.network.down
        down.add(presence_store.NAME)
        self._later(seconds, lambda: down.discard(presence_store.NAME))

    # What the adversary does to any process.

    @abstractmethod
    def _coordinator(self) -> str: ...

    @abstractmethod
    def _crash(self, name: str = "") -> None: ...

    @abstractmethod
    def _kill(self, name: str) -> None: ...

    @abstractmethod
    def _stop(self, name: str, seconds: float = 0.0) -> None: ...

    @abstractmethod
    def _drain(self, name: str = "") -> None: ...

    @abstractmethod
    def cut_way(self, one: str, other: str, seconds: float = 0.0) -> None: ...

    @abstractmethod
    def _later(self, seconds: float, act: Callable[[], None]) -> None: ...

    @abstractmethod
    def _note(self, what: str, **fields: Any) -> None: ...
