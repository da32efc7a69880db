"""Who works: one presence service at a time, by a key in etcd and the fence in the store.

A member holds one lease. It becomes the owner by creating the owner's key on that lease; the key's
creation is its epoch, and it claims the store with it, so that whoever owned it before can write no
more. A process that comes back under its name revokes its own stale lease first. Knows etcd and the
keys; must not know what an owner does.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable

from services.chassis import etcd as etcd_client
from services.chassis import logs
from services.chassis.cluster import Keys, epoch_of, join
from services.chassis.errors import Unavailable
from services.chassis.etcd import Etcd, Lease, Put

log = logs.get(__name__)

# The owner's key is looked at this often while another process holds it.
_LOOK_EVERY_S = 0.2
_FAULT_PAUSE_S = 0.5


class Ownership:
    """This member's part in who owns presence."""

    def __init__(self, etcd: Etcd, keys: Keys, name: str, address: str, ttl_s: int, era: int):
        self._etcd = etcd
        self._keys = keys
        self._name = name
        self._address = address
        self._ttl_s = ttl_s
        self._era = era

    async def join(self) -> Lease:
        """Become a member on a new lease, whose `keep()` the caller runs; waits for etcd."""
        while True:
            try:
                return await join(
                    self._etcd, self._keys.presence(self._name), self._address, self._ttl_s
                )
            except Unavailable as fault:
                log.warning("etcd_unavailable", fault=str(fault))
                await asyncio.sleep(_FAULT_PAUSE_S)

    async def claim(self, lease: Lease, stand_by: Callable[[], Awaitable[None]]) -> int | None:
        """Wait until this member is the owner; returns its epoch, None if the lease is lost.

        `stand_by()` is called whenever another member turns out to be the owner.
        """
        key = self._keys.presence_owner
        value = json.dumps({"name": self._name})
        while lease.valid():
            try:
                await self._etcd.txn([etcd_client.absent(key)], [Put(key, value, lease.id)])
                # Read it, whatever was answered: a claim whose answer was lost is a claim too.
                found = await self._etcd.get(key)
                if found is not None and found.lease == lease.id:
                    return epoch_of(self._era, found.create_revision)
                if found is not None:
                    await stand_by()
            except Unavailable as fault:
                log.warning("etcd_unavailable", fault=str(fault))
            await asyncio.sleep(_LOOK_EVERY_S)
        return None

    async def holds(self, lease: Lease) -> bool:
        """Whether etcd says, now, that this member is the owner on this lease; an etcd that does
        not answer does not say so."""
        try:
            found = await self._etcd.get(self._keys.presence_owner)
        except Unavailable:
            return False
        return found is not None and found.lease == lease.id and lease.valid()
