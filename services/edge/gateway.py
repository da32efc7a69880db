"""The edge's door: one TCP port for HTTP requests and WebSocket handshakes.

Knows aiohttp's server, listening sockets and their options, how many may come in, and how to stop
letting them in; must not know frames or what a request of the HTTP API means. A connection waits
at the `doorstep` for its first request, is aiohttp's then, and after a handshake our own. Drive
it: `await start()`, `tick()` several times a second, `await drain()` when the process is to end.
"""

import asyncio
import socket as tcp
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from services.chassis.refusals import Code, Refusal, code_name, refuse
from services.chassis.subjects import name_fault
from services.edge.addresses import Addresses, address_of
from services.edge.departures import Departures, departures
from services.edge.doorstep import Doorstep, DoorstepLimits
from services.edge.handoff import (
    HttpConnection,
    is_upgraded,
    switch_protocols,
    take_transport,
)
from services.edge.handshake import VERSION, Declined, read_handshake
from services.edge.http_api import HttpApi
from services.edge.http_log import http_logger
from services.edge.http_metrics import measured
from services.edge.http_origin import only_from_here
from services.edge.http_refusal import refusals_in_json, refused
from services.edge.intake import Intake
from services.edge.listening import bound_socket
from services.edge.metrics import HANDSHAKES_REFUSED
from services.edge.request_head import HEAD_BYTES_MAX
from services.edge.socket import Acceptor, Connection, Handshake
from services.edge.socket_protocol import SocketLimits, SocketProtocol, Ticker
from services.edge.sweep import Sweep

_BACKLOG: Final = 4096  # connections the kernel keeps while the loop is busy
_HEADER_BYTES_MAX: Final = 8 * 1024  # one of a request, and its first line; more: 400
_HEADERS_MAX: Final = 64  # of a request; more: 400
_DRAIN_SLICE: Final = 256  # goodbyes between two breaths of the event loop
_DISMISS_S: Final = 0.02  # how often it is looked who has overstayed
_REQUESTS_PART: Final = 0.5  # of the time of draining: what requests under way get
_RETRY_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """What the door lets in, and for how long. `shared`: others may listen at its address too."""

    shared: bool = False

    sockets_max: int = 15_000  # WebSockets; more: 503
    requests_max: int = 1_000  # connections that have asked something else; more: 503
    half_open_max: int = 2_000  # connections that have not asked yet; more: the oldest is closed
    address_connections_max: int = 1_000  # of one network address; more: 429; 0: no limit
    body_bytes_max: int = 512 * 1024  # of a request; more: 413
    request_s: float = 15.0  # without a complete request: closed
    unfinished_bytes_max: int = 128 * 1024 * 1024  # of all sockets' incomplete messages: 1008
    drain_s: float = 10.0  # what clients are given to go, in all
    drain_rate: int = 500  # of them leave in a second, unless there are more than fit
    send_buffer_bytes: int = 128 * 1024  # SO_SNDBUF
    receive_buffer_bytes: int = 128 * 1024  # SO_RCVBUF
    tcp_user_timeout_ms: int = 40_000  # TCP_USER_TIMEOUT


class Gateway:
    """Serves `api` and `GET /v1/connect` on `address` (`host:port`; port 0 draws one).

    `local_only`: answers only what this machine asks, and none of other sites' pages.
    """

    def __init__(
        self,
        address: str,
        acceptor: Acceptor,
        sweep: Sweep,
        api: HttpApi,
        limits: GatewayLimits,
        socket_limits: SocketLimits,
        *,
        local_only: bool,
    ) -> None:
        self._address = address
        self._acceptor = acceptor
        self._sweep = sweep
        self._api = api
        self._limits = limits
        self._socket_limits = socket_limits
        loop = asyncio.get_running_loop()
        self._ticker = Ticker(loop)
        self.intake = Intake(loop, limits.unfinished_bytes_max)
        self._addresses = Addresses(limits.address_connections_max)
        self.doorstep = Doorstep(
            loop,
            DoorstepLimits(limits.half_open_max, limits.requests_max, limits.request_s),
            self._addresses,
            self._make_http,
        )
        self.requests = 0  # connections that are aiohttp's
        self._server: asyncio.Server | None = None
        self._tell_lost = self._on_lost  # one bound method for all sockets
        self.draining = False
        self.port = 0
        app = web.Application(
            client_max_size=limits.body_bytes_max,
            logger=http_logger(),
            middlewares=[measured, *([only_from_here] if local_only else []), refusals_in_json],
        )
        app.add_routes(api.routes())
        app.router.add_get("/v1/connect", self._connect, allow_head=False)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=limits.request_s,
            shutdown_timeout=limits.drain_s * _REQUESTS_PART,
            logger=http_logger(),
            max_line_size=_HEADER_BYTES_MAX,
            max_field_size=_HEADER_BYTES_MAX,
            max_headers=_HEADERS_MAX,
        )

    async def start(self) -> None:
        """Listens. Raises StartError if the address cannot be had."""
        await self._runner.setup()
        listener = self._listen()
        self.port = listener.getsockname()[1]
        self._server = await asyncio.get_running_loop().create_server(
            self.doorstep.arrive, sock=listener, backlog=_BACKLOG
        )

    def tick(self) -> None:
        """Lets sockets that waited be read on, and connections that have waited too long go."""
        self.intake.tick()
        self.doorstep.tick()

    async def drain(self) -> None:
        """Lets nobody in, tells every client to go elsewhere, and cuts who is left in the end.

        Each is told a time of its own, and served until then: so the edges that stay are not
        overrun, and nobody is without an edge for longer than a reconnect takes.
        """
        self.draining = True
        if self._server is not None:
            self._server.close()
        self.doorstep.close_all()
        self._api.end_streams()
        requests = asyncio.create_task(self._runner.cleanup())
        present = list(self._sweep.connections())
        times = departures(len(present), self._limits.drain_s, self._limits.drain_rate)
        began = asyncio.get_running_loop().time()
        for number, connection in enumerate(present):
            connection.drain(round(times.leaves_s(number) * 1000))
            if number % _DRAIN_SLICE == _DRAIN_SLICE - 1:
                await asyncio.sleep(0)
        dismissing = asyncio.create_task(_dismiss(present, times, began))
        try:
            async with asyncio.timeout_at(began + times.end_s):
                await self._sweep.emptied()
        except TimeoutError:
            self._sweep.abort_all()
        dismissing.cancel()
        await requests

    def _listen(self) -> tcp.socket:
        listener = bound_socket(self._address, shared=self._limits.shared)
        # What is set here, accepted connections inherit.
        listener.setsockopt(tcp.SOL_SOCKET, tcp.SO_SNDBUF, self._limits.send_buffer_bytes)
        listener.setsockopt(tcp.SOL_SOCKET, tcp.SO_RCVBUF, self._limits.receive_buffer_bytes)
        listener.setsockopt(tcp.IPPROTO_TCP, tcp.TCP_NODELAY, 1)
        timeout_ms = self._limits.tcp_user_timeout_ms
        listener.setsockopt(tcp.IPPROTO_TCP, tcp.TCP_USER_TIMEOUT, timeout_ms)
        return listener

    def _make_http(self, address: str) -> asyncio.Protocol | Refusal:
        """The protocol of a connection whose first request is there; it counts for `address`."""
        if self.requests >= self._limits.requests_max:
            message = "This server has no room for a request."
            return refuse(Code.OVERLOADED, message, _RETRY_MS)
        server = self._runner.server
        assert server is not None
        self.requests += 1

        def on_lost() -> None:
            self.requests -= 1
            self._addresses.leave(address)

        busy_bytes_max = HEAD_BYTES_MAX + 2 * self._limits.body_bytes_max
        return HttpConnection(server, HEAD_BYTES_MAX, busy_bytes_max, on_lost)

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/connect`: the handshake, and the hand-off to a socket of our own."""
        if (busy := self._busy()) is not None:
            return _refused_handshake(503, busy)
        offered = request.headers.getall("Sec-WebSocket-Protocol", [])
        answer = read_handshake(request.headers, offered, http_1_1=request.version >= (1, 1))
        if isinstance(answer, Declined):
            return _refused_handshake(answer.status, answer.refusal)
        user = request.query.get("user", "")
        if user and (fault := name_fault(user)):
            message = f"The parameter `user` cannot be taken. {fault}"
            return _refused_handshake(400, refuse(Code.ARGUMENT_INVALID, message))
        if request.body_exists or not is_upgraded(request):
            message = "A WebSocket handshake has no body."
            return _refused_handshake(400, refuse(Code.ARGUMENT_INVALID, message))
        response = await switch_protocols(request, answer.key, answer.subprotocol)
        self._begin(request, Handshake(user))
        return response

    def _busy(self) -> Refusal | None:
        if self.draining:
            return refuse(Code.UNAVAILABLE, "This server is stopping.", _RETRY_MS)
        if len(self._sweep) >= self._limits.sockets_max:
            return refuse(Code.OVERLOADED, "This server has no room for a socket.", _RETRY_MS)
        return None

    def _begin(self, request: web.Request, handshake: Handshake) -> None:
        sweep = self._sweep
        socket = SocketProtocol(
            self._ticker,
            self.intake,
            self._socket_limits,
            sweep.next_turn(),
            self._tell_lost,
            address_of(request.get_extra_info("peername")),
        )
        taken = take_transport(request, socket)
        if taken is None:
            return
        transport, tail = taken
        self._addresses.enter(socket.address)
        sweep.add(socket)
        connection = self._acceptor.accept(socket, handshake)
        socket.attach(transport, connection, tail)
        if self.draining:  # its handshake was under way as that began
            connection.drain(0)
            connection.dismiss()

    def _on_lost(self, socket: SocketProtocol) -> None:
        self._addresses.leave(socket.address)
        self._sweep.discard(socket)


async def _dismiss(connections: list[Connection], times: Departures, began: float) -> None:
    """Sends away who does not leave at its time."""
    loop = asyncio.get_running_loop()
    for number, connection in enumerate(connections):
        wait_s = began + times.is_sent_away_s(number) - loop.time()
        if wait_s > 0:
            await asyncio.sleep(max(wait_s, _DISMISS_S))
        connection.dismiss()


def _refused_handshake(status: int, refusal: Refusal) -> web.Response:
    HANDSHAKES_REFUSED.labels(code_name(refusal)).inc()
    response = refused(refusal, status)
    if status == 426:
        response.headers["Upgrade"] = "websocket"
        response.headers["Sec-WebSocket-Version"] = VERSION
    return response
