"""Publishers that keep a rate over WebSocket and remember what was accepted."""

import asyncio
import json
from dataclasses import dataclass, field

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol


@dataclass
class Publisher:
    """Publishes numbered texts on a subject until the connection breaks."""

    url: str  # ws://host:port
    subject: str
    user: str
    per_second: int
    sent: int = 0
    accepted: dict[int, str] = field(default_factory=dict)  # seq: text
    broken: bool = False

    async def run(self) -> None:
        """Send at the rate and read the answers, until the connection ends."""
        try:
            async with connect(
                f"{self.url}/v1/connect?user={self.user}",
                subprotocols=[Subprotocol("onward.v1.json")],
                compression=None,
            ) as socket:
                frame = {"id": "c", "connect": {"clientId": self.user, "acknowledges": "NONE"}}
                await socket.send(json.dumps(frame))
                await socket.recv()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._send(socket))
                    group.create_task(self._receive(socket))
        except* (OSError, WebSocketException):
            self.broken = True

    async def _send(self, socket) -> None:  # type: ignore[no-untyped-def]
        while True:
            text = f"{self.user}-{self.sent}"
            frame = {"id": str(self.sent), "publish": {"subject": self.subject, "text": text}}
            self.sent += 1
            await socket.send(json.dumps(frame))
            await asyncio.sleep(1 / self.per_second)

    async def _receive(self, socket) -> None:  # type: ignore[no-untyped-def]
        async for text in socket:
            frame = json.loads(text)
            assert "published" in frame, frame
            self.accepted[int(frame["published"]["seq"])] = f"{self.user}-{frame['id']}"
