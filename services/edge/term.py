"""The edge's lease: its id is the edge's name, and without it no session may go on.

Knows etcd's lease and the directory; must not know sessions beyond "begin" and "end". A lease
that is lost is followed by a new one, and that is a new edge.
"""

import asyncio
from typing import Final

from services.chassis import logs
from services.chassis.cluster import Directory, DirectoryChange, join_edge, tell_edge
from services.chassis.errors import Unavailable
from services.chassis.etcd import Etcd, Lease
from services.edge.exchange import Exchange
from services.edge.outbox import Target
from services.edge.uplink import Uplinks

_RETRY_S: Final = 0.5
log = logs.get(__name__)


class Term:
    """Keeps the edge a member, and its uplinks where the directory says."""

    def __init__(
        self, etcd: Etcd, directory: Directory, exchange: Exchange, uplinks: Uplinks, ttl_s: int
    ) -> None:
        self._address = self._grpc_address = ""
        self._etcd = etcd
        self._directory = directory
        self._exchange = exchange
        self._uplinks = uplinks
        self._ttl_s = ttl_s
        self._lease: Lease | None = None
        self._draining = False
        self._ending = False
        self._anew = False  # the lease is good, and is not wanted any more
        directory.on_change(self._on_change)

    @property
    def ready(self) -> bool:
        """Whether the edge has its lease and reaches an owner of every partition."""
        owners, up = self._directory.owners, self._uplinks.up
        return (
            self._exchange.open
            and len(owners) == self._directory.partitions
            and all(owner.name in up for owner in owners.values())
        )

    async def run(self, address: str, grpc_address: str) -> None:
        """Holds a lease, and another after it is lost, until cancelled.

        `address` is for clients, `grpc_address` for other services.
        """
        self._address, self._grpc_address = address, grpc_address
        while not self._draining:
            try:
                lease = await join_edge(self._etcd, address, self._ttl_s, grpc_address=grpc_address)
            except Unavailable:
                log.warning("lease_not_granted")
                await asyncio.sleep(_RETRY_S)
                continue
            self._lease = lease
            log.info("term_began", edge_id=lease.id)
            self._exchange.begin_term(lease.id)
            self._follow()
            await lease.keep()
            if self._ending:
                return
            # One that drains ends without a lease: its sessions are closed, and none may begin.
            if not self._anew:
                log.error("lease_lost", edge_id=lease.id)
            self._exchange.end_term()
            self._follow()
            if self._anew:
                self._anew = False
                await self._give_back(lease)

    def begin_anew(self) -> None:
        """Becomes another edge: the log is another one, and may hold sessions of this edge whose
        ends were in the former. They end with its name."""
        if self._lease is not None and not self._lease.lost.is_set():
            self._anew = True
            self._lease.lost.set()

    async def drain(self) -> None:
        """Tells who looks for an edge that this one is stopping; no other lease is asked for."""
        self._draining = True
        if self._lease is not None and not self._lease.lost.is_set():
            try:
                await tell_edge(
                    self._etcd,
                    self._lease.id,
                    self._address,
                    grpc_address=self._grpc_address,
                    draining=True,
                )
            except Unavailable:
                log.warning("draining_not_told", edge_id=self._lease.id)

    async def end(self) -> None:
        """Gives the lease back, if there is one; no other is asked for."""
        self._ending = True
        if self._lease is not None and not self._lease.lost.is_set():
            await self._give_back(self._lease)

    async def _give_back(self, lease: Lease) -> None:
        try:
            await lease.revoke()
        except Unavailable:
            log.warning("lease_not_revoked", edge_id=lease.id)

    def _follow(self) -> None:
        self._uplinks.follow(self._exchange.place.edge_id, self._directory.coordinators)

    def _on_change(self, change: DirectoryChange) -> None:
        if change.coordinators:
            self._follow()
        alive = set()
        for partition in change.owners:
            owner = self._directory.owner(partition)
            target = None
            if owner is not None:
                target = Target(owner.name, owner.epoch)
                alive.add(owner.name)
            self._exchange.set_owner(partition, target, self._directory.revision)
        self._uplinks.hurry(alive)
