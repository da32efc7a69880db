"""An etcd in memory, and its client as `services.chassis.etcd.Etcd` offers it.

Keys, revisions, transactions, leases, watches that resume, compaction. Leases end when etcd's clock
says so, which may be up to the margin sooner than their holder's; a restart starts them anew.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from services.chassis.errors import Unavailable
from services.chassis.etcd import (
    Changes,
    Compare,
    Delete,
    KeyValue,
    Put,
    Snapshot,
    TxnOutcome,
)
from tests.simulation.network import LostError, Network, Pipe
from tests.simulation.virtual_time import WORLD

NAME = "etcd"
_EARLY_S, _LATE_S = 0.9, 1.0  # how much sooner and later than told a lease ends


@dataclass(slots=True)
class _Lease:
    ttl_s: int
    ends_at: float = 0.0
    keys: set[str] = field(default_factory=set)


class EtcdServer:
    """The one etcd of a run."""

    def __init__(self, network: Network, random: Random) -> None:
        self._network = network
        self._random = random
        self.revision = 1
        self.keys: dict[str, KeyValue] = {}
        self.leases: dict[int, _Lease] = {}
        self._past: list[tuple[int, list[KeyValue | Delete]]] = []
        self._compacted = 0
        self._watches: list[_Watch] = []
        self._next_lease = 1000
        self.on_owner: Callable[[], None] = lambda: None  # a partition has a new owner's key

    # What clients ask.

    def range(self, prefix: str) -> Snapshot:
        found = sorted(key for key in self.keys if key.startswith(prefix))
        return Snapshot(self.revision, [self.keys[key] for key in found])

    def txn(self, when: Sequence[Compare], then: Sequence[Put | Delete], lease: int) -> TxnOutcome:
        if not all(self._holds(one) for one in when):
            return TxnOutcome(False, self.revision)
        self._write([self._on_lease(one, lease) for one in then])
        return TxnOutcome(True, self.revision)

    def grant(self, ttl_s: int) -> int:
        self._next_lease += 1
        self.leases[self._next_lease] = _Lease(ttl_s)
        self._begin(self._next_lease)
        return self._next_lease

    def refresh(self, lease: int) -> bool:
        if lease not in self.leases:
            return False
        self._begin(lease)
        return True

    def revoke(self, lease: int) -> None:
        standing = self.leases.pop(lease, None)
        if standing is not None:
            self._write([Delete(key) for key in sorted(standing.keys)])

    def watch(self, client: str, prefix: str, revision: int, watch: "_Watch") -> bool:
        """False: what is wanted is compacted away."""
        if revision <= self._compacted:
            return False
        self._watches.append(watch)
        for at, events in self._past:
            if at >= revision:
                watch.tell(at, events)
        return True

    # What operators and fate do.

    def compact(self) -> None:
        """Forget all revisions but the newest."""
        self._compacted = self.revision
        self._past.clear()

    def break_watches(self, client: str | None = None) -> None:
        """Watches end: of one client, or all."""
        for watch in self._watches:
            if client is None or watch.client == client:
                watch.pipe.end()
        self._watches = [watch for watch in self._watches if not watch.pipe.over]

    def restart(self) -> None:
        """It comes back, and gives every lease its full time."""
        self.break_watches()
        for lease in self.leases:
            self._begin(lease)

    # Parts.

    def _begin(self, lease: int) -> None:
        standing = self.leases[lease]
        skew = self._random.uniform(-_EARLY_S, _LATE_S)
        standing.ends_at = self._network.loop.now + standing.ttl_s + skew
        self._network.loop.call_at(
            standing.ends_at, self._end, lease, standing.ends_at, context=WORLD
        )

    def _end(self, lease: int, ends_at: float) -> None:
        standing = self.leases.get(lease)
        if standing is None or standing.ends_at != ends_at:
            return
        if NAME in self._network.down:  # nobody counts
            self._begin(lease)
            return
        self.revoke(lease)

    def _holds(self, one: Compare) -> bool:
        standing = self.keys.get(one.key)
        if one.create_revision is not None:
            return (standing.create_revision if standing else 0) == one.create_revision
        if one.mod_revision is not None:
            return (standing.mod_revision if standing else 0) == one.mod_revision
        return standing is not None and standing.value == one.value

    def _on_lease(self, one: Put | Delete, lease: int) -> Put | Delete:
        if isinstance(one, Delete):
            return one
        lease = one.lease or lease
        if lease and lease not in self.leases:
            raise Unavailable("etcd says: requested lease not found")
        return Put(one.key, one.value, lease)

    def _write(self, changes: Sequence[Put | Delete]) -> None:
        events: list[KeyValue | Delete] = []
        revision = self.revision + 1
        for change in changes:
            before = self.keys.pop(change.key, None)
            if before is not None and before.lease in self.leases:
                self.leases[before.lease].keys.discard(change.key)
            if isinstance(change, Put):
                created = before.create_revision if before else revision
                after = KeyValue(change.key, change.value, created, revision, change.lease)
                self.keys[change.key] = after
                if change.lease:
                    self.leases[change.lease].keys.add(change.key)
                events.append(after)
            elif before is not None:
                events.append(Delete(change.key))
        if events:
            self.revision = revision
            self._past.append((revision, events))
            for watch in self._watches:
                watch.tell(revision, events)
        if any(isinstance(change, Put) and "/owners/" in change.key for change in changes):
            self.on_owner()


class _Watch:
    """One watch: what comes by the pipe, for a task that reads it."""

    def __init__(self, network: Network, client: str, prefix: str) -> None:
        self.client = client
        self.prefix = prefix
        self.pipe = Pipe(network, NAME, client, self._take, self._end)
        self._news: list[Changes | None] = []
        self._ready = asyncio.Event()

    def tell(self, revision: int, events: Sequence[KeyValue | Delete]) -> None:
        wanted = [event for event in events if event.key.startswith(self.prefix)]
        if wanted:
            self.pipe.send(Changes(revision, wanted))

    async def next(self) -> Changes:
        await self._ready.wait()
        changes = self._news.pop(0)
        if not self._news:
            self._ready.clear()
        if changes is None:
            raise LostError("etcd ended a watch")
        return changes

    def _take(self, item: Any) -> None:
        self._news.append(item)
        self._ready.set()

    def _end(self) -> None:
        self._take(None)


class SimulatedEtcd:
    """What `services.chassis.etcd.Etcd` offers, for one process."""

    def __init__(self, server: EtcdServer, network: Network, name: str) -> None:
        self.address = NAME
        self.deadline_s = 1.0
        self._server = server
        self._network = network
        self._name = name

    async def close(self) -> None:
        """Nothing is open."""

    async def get(self, key: str) -> KeyValue | None:
        return await self._ask(lambda: self._server.keys.get(key))

    async def range(self, prefix: str) -> Snapshot:
        return await self._ask(lambda: self._server.range(prefix))

    async def put(self, key: str, value: str, lease: int = 0) -> int:
        outcome = await self.txn([], [Put(key, value)], lease)
        return outcome.revision

    async def delete(self, key: str) -> None:
        await self.txn([], [Delete(key)])

    async def txn(
        self, when: Sequence[Compare], then: Sequence[Put | Delete], lease: int = 0
    ) -> TxnOutcome:
        return await self._ask(lambda: self._server.txn(when, then, lease))

    async def lease_grant(self, ttl_s: int) -> int:
        return await self._ask(lambda: self._server.grant(ttl_s))

    async def lease_revoke(self, lease: int) -> None:
        await self._ask(lambda: self._server.revoke(lease))

    async def lease_time_to_live(self, lease: int) -> int:
        return await self._ask(lambda: 1 if lease in self._server.leases else -1)

    async def lease_refresh(self, lease: int) -> bool:
        return await self._ask(lambda: self._server.refresh(lease))

    async def follow(self, prefix: str) -> AsyncGenerator[Snapshot | Changes, None]:
        revision: int | None = None
        while True:
            try:
                if revision is None:
                    snapshot = await self.range(prefix)
                    revision = snapshot.revision
                    yield snapshot
                watch = _Watch(self._network, self._name, prefix)
                if not await self._ask(self._watching(watch, revision + 1)):
                    revision = None
                    continue
                while True:
                    changes = await watch.next()
                    revision = changes.revision
                    yield changes
            except (Unavailable, LostError):
                await asyncio.sleep(0.1)

    def _watching(self, watch: _Watch, revision: int) -> Callable[[], bool]:
        return lambda: self._server.watch(self._name, watch.prefix, revision, watch)

    async def _ask(self, work: Callable[[], Any]) -> Any:
        try:
            return await self._network.ask(self._name, NAME, work, self.deadline_s)
        except LostError as error:
            raise Unavailable(str(error)) from error
