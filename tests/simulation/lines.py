"""The WebSockets between clients and edges: real frames, on the simulated network."""

import json
from typing import Any, Protocol

from services.edge.socket import Handshake
from tests.simulation.members import Edge
from tests.simulation.network import Network, Pipe


class Client(Protocol):
    """Who is at the other end of a line."""

    name: str
    user: str

    def on_item(self, line: "Line", item: Any) -> None:
        """Frames have come, a ping (a tuple), or the code of the end (an int)."""

    def on_lost(self, line: "Line") -> None:
        """Nothing more comes."""


class Line:
    """One WebSocket: implements `services.edge.socket.Socket` at the edge's end."""

    def __init__(self, client: Client, edge: Edge, network: Network) -> None:
        self.edge = edge
        self.paused = False
        self.gone = False  # for the client
        self._closed = False  # for the edge
        self._clean = False  # the client has said good-bye
        self._client = client
        self._connection: Any = None
        do = edge.process.do
        self._up = Pipe(
            network, client.name, edge.name,
            lambda item: do(self._on_item, item), lambda: do(self._on_end),
        )  # fmt: skip
        self._down = Pipe(network, edge.name, client.name, self._come, self._lost)

    # The client's end.

    def write(self, frame: dict[str, Any]) -> None:
        self._up.send(json.dumps(frame).encode())

    def pong(self, payload: bytes) -> None:
        self._up.send((payload,))

    def leave(self, clean: bool = False) -> None:
        self.gone, self._clean = True, clean
        self._up.end()
        self._down.close()

    def _come(self, item: Any) -> None:
        self._client.on_item(self, item)

    def _lost(self) -> None:
        self.gone = True
        self._client.on_lost(self)

    # The edge's end, in its process.

    def _on_item(self, item: Any) -> None:
        if self._closed:
            return
        if self._connection is None:
            exchange = self.edge.exchange
            assert exchange is not None
            handshake = Handshake(self._client.user)
            self._connection = exchange.accept(self, handshake)
        if isinstance(item, tuple):
            self._connection.on_pong(item[0])
        else:
            self._connection.on_text(item)

    def _on_end(self) -> None:
        self._end(1006)

    def _end(self, code: int) -> None:
        if not self._closed:
            self._closed = True
            self._down.end()
            if self._connection is not None:
                self._connection.on_closed(self._clean, code)

    def send(self, frame: bytes) -> None:
        if not self._closed:
            self._down.send(bytes(frame))

    def charge(self, frames: int) -> None:
        """Nobody is limited."""

    def ping(self, payload: bytes) -> None:
        if not self._closed:
            self._down.send((payload,))

    def close(self, code: int, reason: str = "") -> None:
        if not self._closed:
            self._down.send(code)
            self.edge.process.do(self._end, code)

    def abort(self) -> None:
        self.edge.process.do(self._end, 1006)


def frames_in(raw: bytes) -> list[dict[str, Any]]:
    """The JSON of the WebSocket text frames, unmasked, that stand one behind another."""
    found, at = [], 0
    while at < len(raw):
        size = raw[at + 1]
        at += 2
        if size == 126:
            size, at = int.from_bytes(raw[at : at + 2], "big"), at + 2
        elif size == 127:
            size, at = int.from_bytes(raw[at : at + 8], "big"), at + 8
        found.append(json.loads(raw[at : at + size]))
        at += size
    return found
