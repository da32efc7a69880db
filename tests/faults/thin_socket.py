"""A WebSocket as thin as ten thousand of them in one process must be.

It opens, hands on text, answers pings, and tells how it ended. What it leaves out of RFC 6455 an
edge does not do to clients: fragments, extensions, masked frames. Drive it as asyncio's Protocol.
"""

import asyncio
from collections.abc import Callable
from typing import cast

LOST = 1006  # never on the wire: it ended without a close frame
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA
_NO_MASK = bytes(4)  # masking by zeros is masking, and leaves the payload as it is
_REQUEST = (
    "GET /v1/connect?user={user} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: onward.v1.json\r\n\r\n"
)


class ThinSocket(asyncio.Protocol):
    """`opened()`, `took(text)` and `ended(code, advice_ms)` are called as it happens, the last
    exactly once. Code 0: no session could be opened; `advice_ms`: when to come back, if an edge
    turned the connection away; None: it did not."""

    __slots__ = ("_buffer", "_code", "_ended", "_is_open", "_opened", "_request", "_took",
                 "transport")  # fmt: skip

    def __init__(
        self,
        host: str,
        user: str,
        opened: Callable[[], None],
        took: Callable[[bytes], None],
        ended: Callable[[int, int | None], None],
    ) -> None:
        self._request = _REQUEST.format(user=user, host=host).encode()
        self._opened, self._took, self._ended = opened, took, ended
        self._buffer = b""
        self._is_open = False
        self._code: int | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        if not self._is_open:
            head, end, data_after = data.partition(b"\r\n\r\n")
            if not end:
                self._buffer = data
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self._end(0, _advice_ms(head))
                return
            data, self._is_open = data_after, True
            self._opened()
        self._buffer = data[self._take_frames(data) :]

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(self._code if self._code is not None else LOST if self._is_open else 0, None)

    def send(self, text: bytes) -> None:
        """A text frame."""
        self._write(_TEXT, text)

    def close(self, code: int, answer: bytes = b"") -> None:
        """Say so, and close."""
        self._code = code
        self._write(_CLOSE, answer or code.to_bytes(2, "big"))
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """End it at once, without a word."""
        if self.transport is not None:
            self.transport.abort()

    def _take_frames(self, data: bytes) -> int:
        """Take all whole frames; returns how many bytes they were."""
        at = 0
        while len(data) - at >= 2:
            size, start = data[at + 1], at + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                if len(data) < start + width:
                    break
                size, start = int.from_bytes(data[start : start + width], "big"), start + width
            if len(data) < start + size:
                break
            assert data[at] & 0x80, "an edge sends no fragments"
            opcode, payload, at = data[at] & 0x0F, data[start : start + size], start + size
            if opcode == _TEXT:
                self._took(payload)
            elif opcode == _PING:
                self._write(_PONG, payload)
            elif opcode == _CLOSE and self._code is None:
                self.close(int.from_bytes(payload[:2], "big") or LOST, payload[:2])
        return at

    def _write(self, opcode: int, payload: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        else:
            head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
        self.transport.write(head + _NO_MASK + payload)

    def _end(self, code: int, advice_ms: int | None) -> None:
        ended, self._ended = self._ended, lambda code, advice_ms: None
        self.abort()
        ended(code, advice_ms)


def _advice_ms(head: bytes) -> int | None:
    """After how long an edge that has no room advises to come back."""
    if head.split(b" ", 2)[1] not in (b"429", b"503"):
        return None
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"retry-after" and value.strip().isdigit():
            return int(value) * 1_000
    return None
