"""WebSocket clients on bare sockets, many to a thread, for load that must cost little itself."""

import base64
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

KEY = base64.b64encode(bytes(range(16))).decode()
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """A client's frame, masked with zeros, so that nothing has to be reckoned."""
    size = len(payload)
    head = bytes(((0x80 if fin else 0) | opcode,))
    if size <= 125:
        head += bytes((0x80 | size,))
    elif size < 1 << 16:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    return head + bytes(4) + payload


def json_frame(value: dict[str, Any]) -> bytes:
    """A text frame of that JSON."""
    return frame(TEXT, json.dumps(value).encode())


def handshake(user: str) -> bytes:
    """The request that opens a WebSocket."""
    return (
        f"GET /v1/connect?user={user} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    ).encode()


def dial(port: int, source: str = "", receive_bytes: int = 0) -> socket.socket:
    """A TCP connection to the edge, from `source` if that is given; it does not block later."""
    one = socket.socket()
    if receive_bytes:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    if source:
        # The kernel then picks a port when it knows the peer too, and has enough of them.
        one.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        one.bind((source, 0))
    one.settimeout(20)
    one.connect(("127.0.0.1", port))
    return one


def source_of(number: int, per_address: int = 900) -> str:
    """A loopback address for the connection of that number: so many share one."""
    return f"127.0.2.{1 + number // per_address}"


class RawClient:
    """One session. Answers pings; what comes is parsed by whoever reads `frames`."""

    def __init__(self, port: int, user: str, source: str = "", receive_bytes: int = 0) -> None:
        self.socket = dial(port, source, receive_bytes)
        self.closed_with: int | None = None  # the close code; 1006: none came
        self._buffer = b""
        self.socket.sendall(handshake(user))
        while b"\r\n\r\n" not in self._buffer:
            chunk = self.socket.recv(65_536)
            assert chunk, "the handshake was cut"
            self._buffer += chunk
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        self.status = int(head.split(b" ", 2)[1])

    def fileno(self) -> int:
        """For selectors."""
        return self.socket.fileno()

    def send(self, value: dict[str, Any]) -> None:
        """Send a frame; blocks."""
        self.socket.settimeout(20)
        self.socket.sendall(json_frame(value))

    def read(self) -> list[bytes]:
        """What has come, without waiting: the texts."""
        self.socket.setblocking(False)
        ended = False
        try:
            chunk = self.socket.recv(262_144)
            ended = not chunk
            self._buffer += chunk
        except BlockingIOError:
            pass
        except OSError:
            ended = True
        texts = list(self._texts())
        if ended:
            self.closed_with = self.closed_with or 1006
        return texts

    def ask(self, **value: Any) -> dict[str, Any]:
        """Send a frame and wait for the answer to it; drops other frames.

        Raises ConnectionError if the connection ends instead; `closed_with` says how.
        """
        try:
            return self._ask({"id": "q", **value})
        except TimeoutError:
            raise
        except OSError as error:
            self.read()  # the close frame may have come before the reset
            self.closed_with = self.closed_with or 1006
            raise ConnectionError(f"closed with {self.closed_with}") from error

    def _ask(self, value: dict[str, Any]) -> dict[str, Any]:
        self.send(value)
        while True:
            self.socket.settimeout(20)
            for text in self._texts():
                answer: dict[str, Any] = json.loads(text)
                if answer.get("id") == "q" or "error" in answer:
                    return answer
            chunk = self.socket.recv(65_536)
            if not chunk:
                raise ConnectionResetError
            self._buffer += chunk

    def _answer(self, ping: bytes) -> None:
        self.socket.settimeout(20)
        try:
            self.socket.sendall(frame(PONG, ping))
        except OSError:
            self.closed_with = self.closed_with or 1006  # what came before it is read all the same

    def _texts(self) -> Iterator[bytes]:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 2:
            opcode, size, start = buffer[at] & 15, buffer[at + 1], at + 2
            if size > 125:
                width = 2 if size == 126 else 8
                if len(buffer) < start + width:
                    break
                size = int.from_bytes(buffer[start : start + width], "big")
                start += width
            if len(buffer) < start + size:
                break
            at = start + size
            if opcode == TEXT:
                # What is read so far is given back first: the caller may stop here.
                self._buffer = buffer[at:]
                yield buffer[start:at]
                buffer, at = self._buffer, 0
            elif opcode == PING:
                self._answer(buffer[start:at])
            elif opcode == CLOSE:
                self.closed_with = int.from_bytes(buffer[start : start + 2], "big")
        self._buffer = buffer[at:]


def seq_and_text(text: bytes) -> tuple[int, bytes] | None:
    """The seq and the text of a message's frame; None for any other."""
    if not text.startswith(b'{"message"'):
        return None
    at = text.index(b'"seq":"') + 7
    seq = int(text[at : text.index(b'"', at)])
    at = text.index(b'"text":"') + 8
    return seq, text[at : text.index(b'"', at)]


def drop(one: socket.socket) -> None:
    """Close it."""
    try:
        one.close()
    except OSError:
        os.close(one.fileno())
