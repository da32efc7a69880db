"""A lease of etcd, and until when this process may trust it.

Knows the kernel's clock and how often to refresh. Must not know what hangs on a lease.
"""

import asyncio
import time
from typing import TYPE_CHECKING

from services.chassis.errors import Unavailable

if TYPE_CHECKING:
    from services.chassis.etcd import Etcd

# A lease is not trusted for its last second: etcd's clock and ours may count it differently.
LEASE_MARGIN_S = 1.0
# Often, so that an election of etcd, of about two seconds, may begin at any moment within the TTL.
_REFRESHES = 5
_RETRY_S = 0.2


class Lease:
    """A lease that this process refreshes from its own event loop, so that a hung process loses
    what it holds.

    `valid_until` is on CLOCK_BOOTTIME, which goes on while the machine sleeps: the moment the last
    answered refresh was *sent*, plus the TTL, less a second. Nothing that only the holder may do
    happens later. `lost` is set when that moment passes or etcd says the lease is gone; a lost
    lease stays lost.
    """

    def __init__(self, etcd: "Etcd", lease: int, ttl_s: int, sent_at: float) -> None:
        self.id = lease
        self.ttl_s = ttl_s
        self.lost = asyncio.Event()
        self.valid_until = sent_at + ttl_s - LEASE_MARGIN_S
        self._etcd = etcd

    @classmethod
    async def grant(cls, etcd: "Etcd", ttl_s: int) -> "Lease":
        """A new lease of `ttl_s` seconds. Raises Unavailable."""
        sent_at = boottime()
        return cls(etcd, await etcd.lease_grant(ttl_s), ttl_s, sent_at)

    def valid(self) -> bool:
        """Whether this process may still act as the holder."""
        if boottime() < self.valid_until and not self.lost.is_set():
            return True
        self.lost.set()
        return False

    async def keep(self) -> None:
        """Refresh five times within the TTL; returns when the lease is lost."""
        pause_s = self.ttl_s / _REFRESHES
        while self.valid():
            await self._pause(min(pause_s, self.valid_until - boottime()))
            if not self.valid():
                break
            sent_at = boottime()
            try:
                if not await self._etcd.lease_refresh(self.id):
                    break
                self.valid_until = sent_at + self.ttl_s - LEASE_MARGIN_S
                pause_s = self.ttl_s / _REFRESHES
            except Unavailable:
                pause_s = _RETRY_S
        self.lost.set()

    async def revoke(self) -> None:
        """Give the lease back: all its keys vanish together. Raises Unavailable."""
        self.lost.set()
        await self._etcd.lease_revoke(self.id)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self.lost.wait()
        except TimeoutError:
            pass


def boottime() -> float:
    """Seconds of CLOCK_BOOTTIME: monotonic, and goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
