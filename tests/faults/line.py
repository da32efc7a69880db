"""One WebSocket connection on the protocol, for programs of a run: frames out, frames in."""

import asyncio
import json
import socket
import struct
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

ANSWER_S = 8.0


class Broken(Exception):
    """The connection cannot be used any more."""


class Line:
    """One connection with numbered frames and their answers."""

    def __init__(self, socket_: ClientConnection) -> None:
        self.socket = socket_
        self._number = 0

    @classmethod
    async def open(cls, url: str, user: str) -> "Line":
        """Connect to `ws://host:port`. Raises Broken."""
        try:
            return cls(
                await connect(
                    f"{url}/v1/connect?user={user}",
                    subprotocols=[Subprotocol("onward.v1.json")],
                    compression=None,
                    ping_interval=None,
                    open_timeout=5,
                    close_timeout=2,
                    max_queue=64,
                )
            )
        except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed) as error:
            raise Broken from error

    def new_id(self) -> str:
        """An id for a frame, for those who must know it before its answer can come."""
        self._number += 1
        return str(self._number)

    async def send(self, frame_id: str = "", **frame: Any) -> str:
        """Send a frame; returns its id. Raises Broken."""
        frame_id = frame_id or self.new_id()
        try:
            await self.socket.send(json.dumps({"id": frame_id, **frame}))
        except ConnectionClosed as error:
            raise Broken from error
        return frame_id

    async def receive(self, timeout_s: float | None = None) -> dict[str, Any]:
        """The next frame. Raises Broken, also when none comes in time."""
        try:
            if timeout_s is None:
                return dict(json.loads(await self.socket.recv()))
            return dict(json.loads(await asyncio.wait_for(self.socket.recv(), timeout_s)))
        except (ConnectionClosed, TimeoutError) as error:
            raise Broken from error

    def reset(self) -> None:
        """End with a reset, as a dying program's kernel may."""
        raw = self.socket.transport.get_extra_info("socket")
        if raw is not None and raw.fileno() >= 0:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.transport.abort()


class Urls:
    """Where a program connects: at one edge after the other, the next when one cannot be had."""

    def __init__(self, urls: str | Sequence[str]) -> None:
        self._urls = [urls] if isinstance(urls, str) else list(urls)

    @property
    def url(self) -> str:
        """The one in use."""
        return self._urls[0]

    def turn(self) -> None:
        """Use the next one."""
        self._urls.append(self._urls.pop(0))

    async def open(self, user: str) -> Line:
        """Connect. Raises Broken, and uses the next one then."""
        try:
            return await Line.open(self.url, user)
        except Broken:
            self.turn()
            raise
