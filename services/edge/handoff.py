"""Takes a transport away from aiohttp after the handshake, without losing a byte.

aiohttp goes on reading until the hand-off: what a client sends behind its handshake piles up in
the request's protocol, which stops reading when that is much. So both are taken, the transport
and what piled up, in one step of the event loop. This leans on names that are aiohttp's own
affair; they stand in this module alone, and the tests of the hand-off fail if a new version
changes what they mean.
"""

import asyncio
from base64 import b64encode
from hashlib import sha1
from typing import Any

from aiohttp import web

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


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
