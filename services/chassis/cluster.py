"""Who is there and who owns what: Onward's keys in etcd, and the directory that follows them.

Knows key names and the shape of their values (JSON), and how an epoch is made. Must not know what
is done with ownership, nor messages.

    config                JSON {"partitions": 256}: written once, at the first start
    coordinators/<name>   JSON {"address"}, on the coordinator's lease
    owners/<partition>    JSON {"name", "era"}, on the owner's lease
    tails/<partition>     JSON {"log_id", "tail", "epoch"}, kept: a copy of what the store held
    edges/<lease id>      JSON {"address", "grpc", "draining"}, on the edge's lease: where clients
                          and services find it; true once it is stopping and takes nobody new
    presence/<name>       JSON {"address"}, on the lease of a presence service
    presence-owner        JSON {"name"}, on the lease of the one presence service that works

Drive it: `await join(…)` or `await join_edge(…)` makes this process a member and returns its
lease, whose `keep()` the caller runs. `Directory(etcd, keys)` is fed by its own `run()`; read its
answers at any time, or be called back after each change.
"""

import json
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from services.chassis import etcd as etcd_client
from services.chassis import logs
from services.chassis.errors import StartError
from services.chassis.etcd import Changes, Delete, Etcd, KeyValue, Lease, Put, Snapshot

log = logs.get(__name__)

PREFIX = "/onward/"
# An epoch is era << 48 | create_revision of the owner's key: etcd can write for a thousand years
# at a million revisions a second before the two meet.
_ERA_SHIFT = 48


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of the keys under one prefix."""

    prefix: str = PREFIX

    @property
    def config(self) -> str:
        return f"{self.prefix}config"

    @property
    def presence_owner(self) -> str:
        return f"{self.prefix}presence-owner"

    def coordinator(self, name: str) -> str:
        return f"{self.prefix}coordinators/{name}"

    def owner(self, partition: int) -> str:
        return f"{self.prefix}owners/{partition}"

    def tail(self, partition: int) -> str:
        return f"{self.prefix}tails/{partition}"

    def edge(self, lease: int) -> str:
        return f"{self.prefix}edges/{lease}"

    def presence(self, name: str) -> str:
        return f"{self.prefix}presence/{name}"


def epoch_of(era: int, create_revision: int) -> int:
    """The term of ownership that began when the owner's key was created."""
    return era << _ERA_SHIFT | create_revision


def revision_of(epoch: int) -> int:
    """The revision of etcd at which that term began; who knows etcd's keys up to it knows it."""
    return epoch & ((1 << _ERA_SHIFT) - 1)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a partition: appends go to `address` and name `epoch`."""

    epoch: int
    coordinator: str
    address: str


@dataclass(frozen=True, slots=True)
class DirectoryChange:
    """What one step of the directory changed."""

    owners: frozenset[int] = frozenset()  # partitions whose owner, epoch or address changed
    edges: frozenset[int] = frozenset()  # edges that appeared or vanished
    presences: bool = False  # presence services, or which of them works
    coordinators: bool = False


async def freeze_partitions(etcd: Etcd, partitions: int, keys: Keys | None = None) -> int:
    """Write the number of partitions unless it is written; returns the number that holds."""
    keys = keys or Keys()
    await etcd.txn(
        [etcd_client.absent(keys.config)],
        [Put(keys.config, json.dumps({"partitions": partitions}))],
    )
    found = await etcd.get(keys.config)
    count = _object(found).get("partitions") if found else None
    if not isinstance(count, int) or count < 1:
        raise StartError(f"the key {keys.config} in etcd is damaged; restore it from a backup")
    return count


async def join(etcd: Etcd, key: str, address: str, ttl_s: int) -> Lease:
    """Make this process the member `key` (a stable name) at `address`, on a new lease."""
    lease = await Lease.grant(etcd, ttl_s)
    await take_name(etcd, key, address, lease)
    return lease


async def take_name(etcd: Etcd, key: str, address: str, lease: Lease) -> None:
    """Make this process the member `key` at `address`, on its lease."""
    await bury(etcd, key, lease.id)
    await etcd.put(key, json.dumps({"address": address}), lease.id)


async def bury(etcd: Etcd, key: str, lease: int = 0) -> None:
    """Revoke the lease that holds the member `key`, if it is another than `lease`.

    So a restart need not wait for its own corpse: its keys vanish, and whoever still runs under the
    name finds its lease lost.
    """
    present = await etcd.get(key)
    if present is not None and present.lease not in (0, lease):
        log.info("member_replaced", key=key, lease=present.lease)
        await etcd.lease_revoke(present.lease)


async def join_edge(
    etcd: Etcd, address: str, ttl_s: int, keys: Keys | None = None, *, grpc_address: str = ""
) -> Lease:
    """Make this process an edge at `address`; the id of the lease returned is the edge's id.

    `grpc_address`: where other services reach its gRPC server; empty: nowhere.
    """
    lease = await Lease.grant(etcd, ttl_s)
    await tell_edge(etcd, lease.id, address, keys, grpc_address=grpc_address)
    return lease


async def tell_edge(
    etcd: Etcd,
    edge_id: int,
    address: str,
    keys: Keys | None = None,
    *,
    grpc_address: str = "",
    draining: bool = False,
) -> None:
    """Say where an edge is, as in `join_edge`; `draining`: that nobody new is to be sent there.

    Its key stays until its lease ends: presence takes the sessions of an edge without one for lost.
    """
    value = json.dumps({"address": address, "grpc": grpc_address, "draining": draining})
    await etcd.put((keys or Keys()).edge(edge_id), value, edge_id)


@dataclass(slots=True)
class _View:
    partitions: int = 0
    presence_owner: str | None = None
    claims: dict[int, tuple[int, str]] = field(default_factory=dict)  # partition: epoch, name
    coordinators: dict[str, str] = field(default_factory=dict)
    presences: dict[str, str] = field(default_factory=dict)
    edges: dict[int, str] = field(default_factory=dict)
    edge_servers: dict[int, str] = field(default_factory=dict)
    draining_edges: set[int] = field(default_factory=set)


class Directory:
    """Follows the keys of the cluster. Always a little late; the store decides who may append."""

    def __init__(self, etcd: Etcd, keys: Keys | None = None) -> None:
        self._etcd = etcd
        self._keys = keys or Keys()
        self._view = _View()
        self._owners: dict[int, Owner] = {}
        self._callbacks: list[Callable[[DirectoryChange], None]] = []
        self.revision = 0  # 0: nothing is known yet

    @property
    def partitions(self) -> int:
        """How many partitions there are; 0: not known yet."""
        return self._view.partitions

    @property
    def owners(self) -> Mapping[int, Owner]:
        """Partitions with an owner that can be reached."""
        return self._owners

    @property
    def claims(self) -> Mapping[int, tuple[int, str]]:
        """Every owners key: partition to epoch and name, also where the address is unknown."""
        return self._view.claims

    @property
    def coordinators(self) -> Mapping[str, str]:
        """Live coordinators: name to address."""
        return self._view.coordinators

    @property
    def presences(self) -> Mapping[str, str]:
        """Live presence services: name to address."""
        return self._view.presences

    @property
    def presence_owner(self) -> str | None:
        """The name of the presence service that works now."""
        return self._view.presence_owner

    @property
    def edges(self) -> Mapping[int, str]:
        """Live edges: id to address for clients."""
        return self._view.edges

    @property
    def edge_servers(self) -> Mapping[int, str]:
        """Live edges: id to the address of their gRPC server; an edge that tells none is absent."""
        return self._view.edge_servers

    @property
    def draining_edges(self) -> Set[int]:
        """Those of the live edges that are stopping: nobody new is to be sent there."""
        return self._view.draining_edges

    def owner(self, partition: int) -> Owner | None:
        """Who holds the partition now; None: nobody that can be reached."""
        return self._owners.get(partition)

    def presence_address(self) -> str | None:
        """Where the presence service that works now can be reached."""
        name = self._view.presence_owner
        return self._view.presences.get(name) if name is not None else None

    def on_change(self, callback: Callable[[DirectoryChange], None]) -> None:
        """Call `callback` after each change, on the loop of `run`; it must not block."""
        self._callbacks.append(callback)

    async def run(self) -> None:
        """Follow etcd for ever; cancel it to stop."""
        async for news in self._etcd.follow(self._keys.prefix):
            self.apply(news)

    def apply(self, news: Snapshot | Changes) -> DirectoryChange:
        """Take in what etcd told, and call back if anything changed. `run` does this."""
        before = self._copy()
        owners_before = dict(self._owners)
        if isinstance(news, Snapshot):
            self._view = _View()
            for kv in news.keys:
                self._put(kv)
        else:
            for event in news.events:
                if isinstance(event, Delete):
                    self._delete(event.key)
                else:
                    self._put(event)
        self.revision = news.revision
        change = self._compare(before, owners_before)
        if change != DirectoryChange() or isinstance(news, Snapshot):
            for callback in self._callbacks:
                callback(change)
        return change

    def _copy(self) -> _View:
        view = self._view
        return _View(
            view.partitions,
            view.presence_owner,
            dict(view.claims),
            dict(view.coordinators),
            dict(view.presences),
            dict(view.edges),
            dict(view.edge_servers),
            set(view.draining_edges),
        )

    def _compare(self, before: _View, owners_before: dict[int, Owner]) -> DirectoryChange:
        view = self._view
        self._owners = {
            partition: Owner(epoch, name, view.coordinators[name])
            for partition, (epoch, name) in view.claims.items()
            if name in view.coordinators
        }
        changed = {
            partition
            for partition in self._owners.keys() | owners_before.keys()
            if self._owners.get(partition) != owners_before.get(partition)
        }
        # A claim whose owner's address is not known yet is news too: somebody holds it.
        changed |= {
            partition
            for partition in view.claims.keys() | before.claims.keys()
            if view.claims.get(partition) != before.claims.get(partition)
        }
        return DirectoryChange(
            owners=frozenset(changed),
            edges=frozenset(view.edges.keys() ^ before.edges.keys()),
            presences=(view.presences, view.presence_owner)
            != (before.presences, before.presence_owner),
            coordinators=view.coordinators != before.coordinators,
        )

    def _put(self, kv: KeyValue) -> None:
        view, value = self._view, _object(kv)
        kind, name = self._split(kv.key)
        address = str(value.get("address", ""))
        if kind == "owners" and name.isdigit():
            epoch = epoch_of(int(value.get("era") or 0), kv.create_revision)
            view.claims[int(name)] = (epoch, str(value.get("name", "")))
        elif kind == "coordinators":
            view.coordinators[name] = address
        elif kind == "presence":
            view.presences[name] = address
        elif kind == "edges" and name.isdigit():
            view.edges[int(name)] = address
            view.edge_servers.pop(int(name), None)
            view.draining_edges.discard(int(name))
            if value.get("draining") is True:
                view.draining_edges.add(int(name))
            if server := str(value.get("grpc") or ""):
                view.edge_servers[int(name)] = server
        elif kind == "presence-owner":
            view.presence_owner = str(value.get("name", ""))
        elif kind == "config":
            view.partitions = int(value.get("partitions") or 0)

    def _delete(self, key: str) -> None:
        view = self._view
        kind, name = self._split(key)
        if kind == "owners" and name.isdigit():
            view.claims.pop(int(name), None)
        elif kind == "coordinators":
            view.coordinators.pop(name, None)
        elif kind == "presence":
            view.presences.pop(name, None)
        elif kind == "edges" and name.isdigit():
            view.edges.pop(int(name), None)
            view.edge_servers.pop(int(name), None)
            view.draining_edges.discard(int(name))
        elif kind == "presence-owner":
            view.presence_owner = None

    def _split(self, key: str) -> tuple[str, str]:
        kind, _, name = key.removeprefix(self._keys.prefix).partition("/")
        return kind, name


def _object(kv: KeyValue) -> dict[str, Any]:
    """The JSON object of a key; an empty one if it holds anything else."""
    try:
        value = json.loads(kv.value)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}
