"""Who is there and who owns what: Onward's keys in etcd, and the directory that follows them.

Knows key names and the shape of their values (JSON), and how an epoch is made. Must not know what
is done with ownership, nor messages.

    config                JSON {"partitions": 256}: written once, at the first start
    coordinators/<name>   JSON {"address"}, on the coordinator's lease
    owners/<partition>    JSON {"name", "era"}, on the owner's lease
    tails/<partition>     JSON {"log_id", "tail", "epoch"}, kept: a copy of what the store held
    edges/<lease id>      JSON {"address", "grpc", "draining"}, on the edge's lease: where clients
                          and services find it; true once it is stopping and takes nobody new
    presence/<name>       JSON {"address"}, on the lease of a presence replica
    presence-partitions/<partition>
                          JSON {"name", "era"}, on the lease of the presence replica that owns it
    notifiers/<name>      JSON, kept: a program that operators registered for presence to call, and
    extensions/<name>     likewise; what stands in it is for presence to know

Drive it: `await join(…)` or `await join_edge(…)` makes this process a member and returns its
lease, whose `keep()` the caller runs. `Directory(etcd, keys)` is fed by its own `run()`; read its
answers at any time, or be called back after each change.
"""

import json
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from services.chassis import etcd as etcd_client
from services.chassis import logs
from services.chassis.claimants import Claimants, Owner
from services.chassis.errors import StartError, Unavailable
from services.chassis.etcd import Changes, Delete, Etcd, KeyValue, Lease, Put, Snapshot

log = logs.get(__name__)

PREFIX = "/onward/"
# An epoch is era << 48 | create_revision of the owner's key: etcd can write for a thousand years
# at a million revisions a second before the two meet.
_ERA_SHIFT = 48
# What operators may register: programs that presence calls.
_REGISTERED = ("notifiers", "extensions")


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of the keys under one prefix."""

    prefix: str = PREFIX

    @property
    def config(self) -> str:
        return f"{self.prefix}config"

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

    def presence_partition(self, partition: int) -> str:
        return f"{self.prefix}presence-partitions/{partition}"

    def registered(self, kind: str, name: str) -> str:
        """`kind`: `notifiers` or `extensions`."""
        return f"{self.prefix}{kind}/{name}"


def epoch_of(era: int, create_revision: int) -> int:
    """The term of ownership that began when the owner's key was created."""
    return era << _ERA_SHIFT | create_revision


def revision_of(epoch: int) -> int:
    """The revision of etcd at which that term began; who knows etcd's keys up to it knows it."""
    return epoch & ((1 << _ERA_SHIFT) - 1)


@dataclass(frozen=True, slots=True)
class DirectoryChange:
    """What one step of the directory changed."""

    owners: frozenset[int] = frozenset()  # partitions whose owner, epoch or address changed
    edges: frozenset[int] = frozenset()  # edges that appeared or vanished
    presences: bool = False  # presence replicas, or where they are
    coordinators: bool = False
    presence_owners: frozenset[int] = frozenset()  # as `owners`, of presence
    registered: frozenset[str] = frozenset()  # kinds of which something was registered, or removed


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


async def bury_former(etcd: Etcd, key: str) -> None:
    """Let others have what a former life of this member held, while this one starts. An etcd that
    does not answer is asked again when it joins."""
    try:
        await bury(etcd, key)
    except Unavailable as fault:
        log.warning("waiting_for_etcd", fault=str(fault))


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


class Directory:
    """Follows the keys of the cluster. Always a little late; the store decides who may append.

    What its properties return changes in place, between two awaits never.
    """

    def __init__(self, etcd: Etcd, keys: Keys | None = None) -> None:
        self._etcd = etcd
        self._keys = keys or Keys()
        self._coordinators = Claimants()
        self._presences = Claimants()
        self._edges: dict[int, _Edge] = {}
        self._registered: dict[str, dict[str, Mapping[str, Any]]] = {
            kind: {} for kind in _REGISTERED
        }
        self._callbacks: list[Callable[[DirectoryChange], None]] = []
        self.partitions = 0  # how many there are; 0: not known yet
        self.revision = 0  # 0: nothing is known yet

    @property
    def owners(self) -> Mapping[int, Owner]:
        """Partitions with an owner that can be reached."""
        return self._coordinators.owners

    @property
    def claims(self) -> Mapping[int, tuple[int, str]]:
        """Every owners key: partition to epoch and name, also where the address is unknown."""
        return self._coordinators.claims

    @property
    def coordinators(self) -> Mapping[str, str]:
        """Live coordinators: name to address."""
        return self._coordinators.members

    @property
    def presence_owners(self) -> Mapping[int, Owner]:
        """Partitions with a presence replica that owns them and can be reached."""
        return self._presences.owners

    @property
    def presence_claims(self) -> Mapping[int, tuple[int, str]]:
        """Every presence-partitions key, as `claims`."""
        return self._presences.claims

    @property
    def presences(self) -> Mapping[str, str]:
        """Live presence replicas: name to address."""
        return self._presences.members

    @property
    def edges(self) -> Mapping[int, str]:
        """Live edges: id to address for clients."""
        return {edge_id: edge.address for edge_id, edge in self._edges.items()}

    @property
    def edge_servers(self) -> Mapping[int, str]:
        """Live edges: id to the address of their gRPC server; an edge that tells none is absent."""
        return {edge_id: edge.server for edge_id, edge in self._edges.items() if edge.server}

    @property
    def draining_edges(self) -> Set[int]:
        """Those of the live edges that are stopping: nobody new is to be sent there."""
        return {edge_id for edge_id, edge in self._edges.items() if edge.draining}

    def registered(self, kind: str) -> Mapping[str, Mapping[str, Any]]:
        """What operators registered of a kind: name to value. `kind`: as of `Keys.registered`."""
        return self._registered[kind]

    def owner(self, partition: int) -> Owner | None:
        """Who holds the partition now; None: nobody that can be reached."""
        return self._coordinators.owners.get(partition)

    def presence_owner(self, partition: int) -> Owner | None:
        """Which presence replica takes the partition's entries now; None: none can be reached."""
        return self._presences.owners.get(partition)

    def on_change(self, callback: Callable[[DirectoryChange], None]) -> None:
        """Call `callback` after each change, on the loop of `run`; it must not block."""
        self._callbacks.append(callback)

    async def run(self) -> None:
        """Follow etcd for ever; cancel it to stop."""
        async for news in self._etcd.follow(self._keys.prefix):
            self.apply(news)

    def apply(self, news: Snapshot | Changes) -> DirectoryChange:
        """Take in what etcd told, and call back if anything changed. `run` does this."""
        edges_before: dict[int, bool] = {}  # those touched: whether they were there
        registered_before = {kind: dict(names) for kind, names in self._registered.items()}
        if isinstance(news, Snapshot):
            self._forget_all(edges_before)
            for kv in news.keys:
                self._put(kv, edges_before)
        else:
            for event in news.events:
                if isinstance(event, Delete):
                    self._delete(event.key, edges_before)
                else:
                    self._put(event, edges_before)
        self.revision = news.revision
        owners, coordinators = self._coordinators.changed()
        presence_owners, presences = self._presences.changed()
        edges = frozenset(one for one, was in edges_before.items() if was != (one in self._edges))
        registered = frozenset(
            kind for kind, names in self._registered.items() if names != registered_before[kind]
        )
        change = DirectoryChange(
            owners, edges, presences, coordinators, presence_owners, registered
        )
        if change != DirectoryChange() or isinstance(news, Snapshot):
            for callback in self._callbacks:
                callback(change)
        return change

    def _forget_all(self, edges_before: dict[int, bool]) -> None:
        edges_before.update(dict.fromkeys(self._edges, True))
        self._edges.clear()
        self._coordinators.clear()
        self._presences.clear()
        for names in self._registered.values():
            names.clear()
        self.partitions = 0

    def _put(self, kv: KeyValue, edges_before: dict[int, bool]) -> None:
        value = _object(kv)
        kind, name = self._split(kv.key)
        address = str(value.get("address", ""))
        if (claimants := self._claimants(kind)) is not None and name.isdigit():
            epoch = epoch_of(int(value.get("era") or 0), kv.create_revision)
            claimants.put_claim(int(name), epoch, str(value.get("name", "")))
        elif (members := self._members(kind)) is not None:
            members.put_member(name, address)
        elif kind == "edges" and name.isdigit():
            edges_before.setdefault(int(name), int(name) in self._edges)
            server, draining = str(value.get("grpc") or ""), value.get("draining") is True
            self._edges[int(name)] = _Edge(address, server, draining)
        elif kind in self._registered:
            self._registered[kind][name] = value
        elif kind == "config":
            self.partitions = int(value.get("partitions") or 0)

    def _delete(self, key: str, edges_before: dict[int, bool]) -> None:
        kind, name = self._split(key)
        if (claimants := self._claimants(kind)) is not None and name.isdigit():
            claimants.delete_claim(int(name))
        elif (members := self._members(kind)) is not None:
            members.delete_member(name)
        elif kind == "edges" and name.isdigit():
            edges_before.setdefault(int(name), int(name) in self._edges)
            self._edges.pop(int(name), None)
        elif kind in self._registered:
            self._registered[kind].pop(name, None)

    def _claimants(self, kind: str) -> Claimants | None:
        """Whose claims the keys of that kind are; None: they are no claims."""
        return {"owners": self._coordinators, "presence-partitions": self._presences}.get(kind)

    def _members(self, kind: str) -> Claimants | None:
        """Whose members the keys of that kind are; None: they are no members."""
        return {"coordinators": self._coordinators, "presence": self._presences}.get(kind)

    def _split(self, key: str) -> tuple[str, str]:
        kind, _, name = key.removeprefix(self._keys.prefix).partition("/")
        return kind, name


@dataclass(frozen=True, slots=True)
class _Edge:
    address: str  # for clients
    server: str  # of its gRPC server; empty: it tells none
    draining: bool


def _object(kv: KeyValue) -> dict[str, Any]:
    """The JSON object of a key; an empty one if it holds anything else."""
    try:
        value = json.loads(kv.value)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}
