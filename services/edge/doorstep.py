"""Where a TCP connection waits until its first request is there; the request goes to aiohttp.

Most of what a hostile network sends ends here, before it costs a task, a timer or a parser: who
says nothing, who says it slowly, who speaks no HTTP, who comes too often from one address. Knows
transports, addresses and counts; must not know paths. Drive it: `Doorstep.arrive` makes the
protocol of each new connection; `tick` looks at the times.

The connections that wait are kept in the order of their arrival. If there are too many, the one
that has waited longest goes: who means it has its request here within a moment. Those whose
request is there are let in a few in each tick of the event loop, since a handshake takes long
beside a message, and a thousand at once would hold up everybody who is inside.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from services.chassis.refusals import Code, Refusal, refuse
from services.edge.addresses import Addresses, address_of
from services.edge.http_refusal import refusal_bytes
from services.edge.metrics import CONNECTIONS_REFUSED
from services.edge.request_head import HEAD_BYTES_MAX, Head, judge_head

# So many of an address's connections beyond its limit are told why; those after them are closed
# unread, which costs least.
_TOLD_MAX: Final = 64
_LEAVE_S: Final = 1.0  # what a refused peer is given to read its answer and hang up
_RETRY_MS: Final = 1_000
_ADMITTED_IN_A_TICK: Final = 8


@dataclass(frozen=True, slots=True)
class DoorstepLimits:
    """Who may wait, and for how long."""

    half_open_max: int = 2_000  # connections without a request; more: the oldest is closed
    requests_max: int = 1_000  # connections whose request is not taken yet; more: 503
    request_s: float = 15.0  # without a complete request: closed


class Doorstep:
    """The connections that have not asked anything yet.

    `make_http()` makes the protocol that takes the connection of a complete request, or a refusal.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: DoorstepLimits,
        addresses: Addresses,
        make_http: Callable[[str], asyncio.Protocol | Refusal],
    ) -> None:
        self.addresses = addresses
        self.make_http = make_http
        self._loop = loop
        self._limits = limits
        self._waiting: dict[_Waiting, None] = {}
        self._leaving: dict[_Waiting, None] = {}
        self._ready: deque[_Waiting] = deque()
        self._armed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def arrive(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return _Waiting(self)

    def tick(self) -> None:
        """Closes who has waited too long; to be called several times a second."""
        now = self._loop.time()
        for waiting in _overdue(self._waiting, now - self._limits.request_s):
            self.close(waiting, "request_s")
        for leaving in _overdue(self._leaving, now - _LEAVE_S):
            self.gone(leaving)
            leaving.cut()

    def close_all(self) -> None:
        """The edge is stopping."""
        for waiting in [*self._waiting, *self._leaving, *self._ready]:
            self.gone(waiting)
            waiting.cut()

    # What a connection that waits calls.

    def enter(self, waiting: "_Waiting", beyond: int) -> None:
        """It has arrived; `beyond`: by how many its address is beyond its limit."""
        if beyond > _TOLD_MAX:
            self.close(waiting, "address_connections_max")
            return
        waiting.since = self._loop.time()
        self._waiting[waiting] = None
        if len(self._waiting) > self._limits.half_open_max:
            self.close(next(iter(self._waiting)), "half_open_max")

    def admit(self, waiting: "_Waiting") -> None:
        """Its request is there."""
        self.gone(waiting)
        if len(self._ready) >= self._limits.requests_max:
            message = "This server has too many requests to begin with."
            waiting.refuse("requests_max", refuse(Code.OVERLOADED, message, _RETRY_MS))
            return
        waiting.pause()
        self._ready.append(waiting)
        self._arm()

    def gone(self, waiting: "_Waiting") -> None:
        """It waits no longer."""
        self._waiting.pop(waiting, None)
        self._leaving.pop(waiting, None)

    def close(self, waiting: "_Waiting", limit: str) -> None:
        """Closes it without a word, for the limit of that name."""
        CONNECTIONS_REFUSED.labels(limit).inc()
        self.gone(waiting)
        waiting.cut()

    def leave(self, waiting: "_Waiting", limit: str) -> None:
        """It has its answer; closes it as soon as the peer does, or after a moment."""
        CONNECTIONS_REFUSED.labels(limit).inc()
        self.gone(waiting)
        waiting.since = self._loop.time()
        self._leaving[waiting] = None
        if len(self._leaving) > self._limits.half_open_max:
            oldest = next(iter(self._leaving))
            self.gone(oldest)
            oldest.cut()

    def _arm(self) -> None:
        if not self._armed and self._ready:
            self._armed = True
            self._loop.call_soon(self._admit_some)

    def _admit_some(self) -> None:
        self._armed = False
        for _ in range(min(_ADMITTED_IN_A_TICK, len(self._ready))):
            self._ready.popleft().pass_on()
        self._arm()


class _Waiting(asyncio.Protocol):
    """One connection, until its first request is complete."""

    __slots__ = ("_address", "_beyond", "_complete", "_doorstep", "_head", "_transport", "since")

    def __init__(self, doorstep: Doorstep) -> None:
        self.since = 0.0
        self._doorstep = doorstep
        self._address = ""
        self._beyond = 0
        self._head: bytearray | None = bytearray()  # None: what comes is dropped
        self._complete = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._address = address_of(transport.get_extra_info("peername"))
        self._beyond = self._doorstep.addresses.enter(self._address)
        self._doorstep.enter(self, self._beyond)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = self._head = None
        self._doorstep.gone(self)
        self._doorstep.addresses.leave(self._address)

    def data_received(self, data: bytes) -> None:
        head = self._head
        if head is None:
            return
        if self._complete:
            head += data  # read before the pause began
            return
        seen = len(head)
        head += data
        verdict = judge_head(head, seen)
        if verdict is Head.UNFINISHED:
            return
        if verdict is Head.COMPLETE and not self._beyond:
            self._complete = True
            self._doorstep.admit(self)
        elif verdict is Head.GARBAGE:
            self._doorstep.close(self, "not_http")
        elif verdict is Head.TOO_LARGE:
            message = f"Request line and headers have at most {HEAD_BYTES_MAX} bytes together."
            self.refuse("head_bytes_max", refuse(Code.HEADERS_TOO_LARGE, message), 431)
        else:
            message = "Your network address has too many connections to this server."
            refusal = refuse(Code.TOO_MANY_CONNECTIONS, message, _RETRY_MS)
            self.refuse("address_connections_max", refusal)

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def cut(self) -> None:
        """Closes it, dropping whatever is unsent."""
        self._head = None
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Reads no more until it is passed on."""
        assert self._transport is not None
        self._transport.pause_reading()

    def refuse(self, limit: str, refusal: Refusal, status: int = 0) -> None:
        """Answers, and drops whatever comes."""
        self._head = None
        assert self._transport is not None
        self._transport.write(refusal_bytes(refusal, status))
        self._transport.write_eof()
        self._doorstep.leave(self, limit)

    def pass_on(self) -> None:
        """Gives the connection, and what came on it, to the HTTP server; unless it is gone."""
        if self._head is None or self._transport is None:
            return
        http = self._doorstep.make_http(self._address)
        self._transport.resume_reading()
        if isinstance(http, Refusal):
            self.refuse("requests_max", http)
            return
        transport, self._transport = self._transport, None
        transport.set_protocol(http)
        http.connection_made(transport)
        http.data_received(bytes(self._head))


def _overdue(queue: dict[_Waiting, None], since: float) -> list[_Waiting]:
    """Those at the front of `queue` who came before `since`."""
    found = []
    for waiting in queue:
        if waiting.since > since:
            break
        found.append(waiting)
    return found
