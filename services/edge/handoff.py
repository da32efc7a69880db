"""aiohttp's protocol with our limits, and how to take its transport away after the handshake.

aiohttp goes on reading until the hand-off: what a client sends behind its handshake piles up in
the request's protocol, which stops reading when that is much. So both are taken, the transport
and what piled up, in one step of the event loop. This leans on names that are aiohttp's own
affair; they stand in this module alone, and the tests of the hand-off fail if a new version
changes what they mean.
"""

import asyncio
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha1
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from services.edge.metrics import CONNECTIONS_REFUSED

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class HttpConnection(RequestHandler):
    """aiohttp's protocol, which closes a connection that sends too much before its answer.

    `idle_bytes_max`: of a request's head; `busy_bytes_max`: with the body, and with requests that
    come before the answer to the one before. `on_lost` is called once, also at a hand-off.
    """

    __slots__ = ("_busy_bytes_max", "_idle_bytes_max", "_on_lost", "_unanswered")

    def __init__(
        self,
        server: web.Server,
        idle_bytes_max: int,
        busy_bytes_max: int,
        on_lost: Callable[[], None],
    ) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **server._kwargs)
        self._idle_bytes_max = idle_bytes_max
        self._busy_bytes_max = busy_bytes_max
        self._on_lost = on_lost
        self._unanswered = 0  # bytes since the newest answer

    def data_received(self, data: bytes) -> None:
        idle = self._waiter is not None
        if not idle and self._current_request is None and self._request_count:
            super().data_received(data)  # the rest of a body that nobody wants: it is dropped
            return
        self._unanswered += len(data)
        if self._unanswered > (self._idle_bytes_max if idle else self._busy_bytes_max):
            complete = idle and b"\r\n\r\n" in data
            if not complete or self._unanswered > self._busy_bytes_max:
                CONNECTIONS_REFUSED.labels("head_bytes_max").inc()
                self.force_close()
                return
        super().data_received(data)

    def log_access(self, *_: Any) -> None:
        """Called after each answer."""
        self._unanswered = 0

    def connection_lost(self, exc: BaseException | None) -> None:
        on_lost, self._on_lost = self._on_lost, _nothing
        super().connection_lost(exc)
        on_lost()


def _nothing() -> None:
    """What `on_lost` is after it was called."""


class _Switched(web.StreamResponse):
    """A response that ends with its headers: what follows them is not HTTP."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Writes nothing: the transport is somebody else's by now."""


def is_upgraded(request: web.Request) -> bool:
    """Whether aiohttp has stopped parsing HTTP behind this request."""
    return bool(_protocol(request)._upgraded)


async def switch_protocols(request: web.Request, key: str, subprotocol: str) -> web.StreamResponse:
    """Answers the handshake with 101; return the response to aiohttp after `take_transport`.

    `key`: the client's `Sec-WebSocket-Key`. `subprotocol`: the one agreed on; empty: none. Raises
    ConnectionError, which aiohttp expects of a handler, if the client has gone.
    """
    response = _Switched(status=101)
    response.headers["Upgrade"] = "websocket"
    response.headers["Connection"] = "Upgrade"
    accept = sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    response.headers["Sec-WebSocket-Accept"] = b64encode(accept).decode()
    if subprotocol:
        response.headers["Sec-WebSocket-Protocol"] = subprotocol
    response.force_close()  # aiohttp waits for no further request on this connection
    await response.prepare(request)
    return response


def take_transport(
    request: web.Request, protocol: asyncio.Protocol
) -> tuple[asyncio.Transport, bytes] | None:
    """Makes `protocol` the receiver of the connection of a request that was answered with 101.

    Returns the transport and the bytes that came on it already, which `protocol` must take before
    the event loop goes on; None if the client has gone.
    """
    old = _protocol(request)
    transport: asyncio.Transport | None = old.transport
    if transport is None or transport.is_closing():
        return None
    tail, old._message_tail = old._message_tail, b""
    was_paused = old._buffer_paused
    transport.set_protocol(protocol)
    # Without its transport the old protocol cannot close it. Told that the connection is lost, it
    # leaves aiohttp's list of connections, drops its keep-alive timer, and ends its task.
    old.transport = None
    old.connection_lost(None)
    if was_paused:
        transport.resume_reading()
    return transport, bytes(tail)


def _protocol(request: web.Request) -> Any:
    """The request's protocol, whose attributes aiohttp does not promise."""
    return request.protocol
