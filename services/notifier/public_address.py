"""Connections to hosts that users name, without a way into the operator's own network.

An endpoint that is a URL is user input: it may name a host of the operator's, or one whose name
leads there only when it is connected to. So the address is looked at, not the name, and what was
looked at is what is connected to: there is no second look-up in between. Knows addresses and
connections; must not know any channel. To use it:

    client = httpx.AsyncClient(transport=PublicTransport(allow_private=False), trust_env=False)
    try: answer = await client.post(url, …)    # raises Forbidden, and what httpx raises

`trust_env=False` belongs to it, since a proxy would look the name up by itself; redirects are
httpx's to follow, and it does not unless told to. If any address of a host is not public, the
host is refused: a name of both kinds has no honest use here.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

import httpcore
import httpx

# Names looked up at a time. A thread stays with a name until the resolver gives up, so that names
# which nobody answers for fill these, and only others of their kind wait; a name has one thread.
LOOKUPS_MAX = 8
LOOKUP_S = 5.0  # waiting for one name, then it counts as not found
ADDRESSES_TRIED_MAX = 3  # of one host, one after the other, until one is connected

# What is routed between networks (RFC 4291, section 2.4); and there, IPv4 addresses in disguise.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


class Forbidden(Exception):
    """The host has an address that is not public. Nothing was sent."""


class Resolver:
    """Looks names up, beside the threads that everything else of the process uses."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUPS_MAX, thread_name_prefix="lookup")
        # Under way. One name takes one thread, however many ask for it.
        self._asked: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def addresses(self, host: str, port: int) -> list[str]:
        """All addresses, best first. Raises OSError if there are none, or in time."""
        look_up = self._asked.get((host, port))
        if look_up is None:
            loop = asyncio.get_running_loop()
            look_up = loop.run_in_executor(self._threads, _look_up, host, port)
            self._asked[host, port] = look_up
            look_up.add_done_callback(lambda done: self._ended(host, port, done))
        try:
            async with asyncio.timeout(LOOKUP_S):
                return list(await asyncio.shield(look_up))
        except TimeoutError:
            raise OSError("the name could not be looked up in time") from None

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ended(self, host: str, port: int, done: "asyncio.Future[list[str]]") -> None:
        del self._asked[host, port]
        if not done.cancelled():
            done.exception()  # Whoever waited was told; perhaps nobody waits any more.


async def resolve_public(
    host: str, port: int, allow_private: bool, resolver: Resolver | None = None
) -> str:
    """An address of `host`. Raises Forbidden if any of them is not public, OSError if none is
    found."""
    return (await _resolve(host, port, allow_private, resolver))[0]


def is_public(address: str) -> bool:
    """Whether it is one of the internet's, also behind every form that carries another address."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, IPv4Address):
        return _is_global(parsed)
    inner = _carried(parsed)
    if inner is not None:
        return all(map(_is_global, inner))
    return parsed in _GLOBAL_UNICAST and _is_global(parsed)


class PublicTransport(httpx.AsyncHTTPTransport):
    """httpx's transport, but connecting only where `is_public`, unless private is allowed too."""

    def __init__(
        self,
        allow_private: bool,
        *,
        verify: ssl.SSLContext | None = None,
        connections_max: int = 64,
        idle_max: int = 16,
        idle_s: float = 20.0,
    ) -> None:
        """`verify`: which certificates are taken; none given: those that the system trusts."""
        context = verify or ssl.create_default_context()
        super().__init__(verify=context, trust_env=False)
        self._resolver = Resolver()
        # httpx has no parameter for where its connections come from; httpcore, below it, has.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=connections_max,
            max_keepalive_connections=idle_max,
            keepalive_expiry=idle_s,
            network_backend=_PublicBackend(allow_private, self._resolver),
        )

    async def aclose(self) -> None:
        """Close connections and threads."""
        await super().aclose()
        self._resolver.close()


class _PublicBackend(httpcore.AsyncNetworkBackend):
    """Opens TCP connections for httpcore, to addresses that were looked at."""

    def __init__(self, allow_private: bool, resolver: Resolver) -> None:
        self._allow_private = allow_private
        self._resolver = resolver
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(host, port, local_address, socket_options)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error

    async def _connect(
        self, host: str, port: int, local_address: str | None, socket_options: Any
    ) -> httpcore.AsyncNetworkStream:
        try:
            addresses = await _resolve(host, port, self._allow_private, self._resolver)
        except OSError as error:
            raise httpcore.ConnectError("the name could not be looked up") from error
        last: httpcore.ConnectError | None = None
        for address in addresses[:ADDRESSES_TRIED_MAX]:
            try:
                return await self._inner.connect_tcp(
                    address, port, None, local_address, socket_options
                )
            except httpcore.ConnectError as error:
                last = error
        raise last or httpcore.ConnectError("no address")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _resolve(
    host: str, port: int, allow_private: bool, resolver: Resolver | None
) -> list[str]:
    """All addresses of `host`, every one of them looked at; at least one."""
    own = resolver or Resolver()
    try:
        addresses = await own.addresses(host.strip("[]"), port)
    finally:
        if resolver is None:
            own.close()
    if not addresses:
        raise OSError("the name has no address")
    if not allow_private and not all(map(is_public, addresses)):
        raise Forbidden("the host has an address that is not public")
    return addresses


def _look_up(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:  # a label that is empty or too long
        raise OSError("not a host name") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _carried(address: IPv6Address) -> list[IPv4Address] | None:
    """The IPv4 addresses that a translator would go on to; None if there are none."""
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFF_FFFF)]
    if address.sixtofour is not None:
        return [address.sixtofour]
    if address.teredo is not None:
        return list(address.teredo)
    return None


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )
