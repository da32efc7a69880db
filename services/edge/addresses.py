"""How many connections each network address has. Pure.

Knows addresses as the kernel tells them, and counts; must not know what the connections are for.
"""

import ipaddress
from typing import Final

_NETWORK_BITS: Final = 64  # of an IPv6 address: what one customer of a provider has


class Addresses:
    """Counts by address; `limit` 0: no limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def enter(self, address: str) -> int:
        """Counts one more connection; returns by how many the address is beyond its limit."""
        count = self._counts.get(address, 0) + 1
        self._counts[address] = count
        return max(0, count - self._limit) if self._limit else 0

    def leave(self, address: str) -> None:
        """One connection of the address is gone."""
        count = self._counts[address] - 1
        if count:
            self._counts[address] = count
        else:
            del self._counts[address]


def address_of(peername: object) -> str:
    """Whom a connection is counted for: an IPv4 address, or an IPv6 network of 64 bits.

    `peername`: as the transport tells it; None if the peer has gone already.
    """
    host = str(peername[0]) if isinstance(peername, tuple) else ""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> _NETWORK_BITS << _NETWORK_BITS, 64)))
