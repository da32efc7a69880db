"""A bare WebSocket client on the protocol, for what no well-behaved program would do."""

import json
import socket
import struct
from typing import Any

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.path.stack import Suite


def connecting(client_id: str, *subscriptions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The body of a `connect` frame with explicit acknowledgements."""
    return {
        "clientId": client_id,
        "acknowledges": "EXPLICIT",
        "subscriptions": {"list": list(subscriptions)},
        **fields,
    }


class Socket:
    """One connection. `ask` sends a frame and returns its answer; other frames are kept aside."""

    def __init__(self, suite: Suite, user: str, edge: int = 0, **options: Any) -> None:
        """`edge`: which of the suite's; `options`: of websockets' `connect`."""
        opening = connect(
            f"ws://127.0.0.1:{suite.port + edge}/v1/connect?user={user}",
            subprotocols=[Subprotocol("onward.v1.json")],
            compression=None,
            **options,
        )
        # Entered and never left: `__exit__` here, or the test, ends it as it wants it to end.
        self.connection: ClientConnection = opening.__enter__()
        self._aside: list[dict[str, Any]] = []
        self._number = 0

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def send(self, frame: dict[str, Any] | str | bytes) -> None:
        """Send a frame, or any text or bytes in its place."""
        self.connection.send(json.dumps(frame) if isinstance(frame, dict) else frame)

    def receive(self, timeout_s: float = 10) -> dict[str, Any]:
        """The next frame that was not an answer."""
        if self._aside:
            return self._aside.pop(0)
        return self._read(timeout_s)

    def ask(self, **frame: Any) -> dict[str, Any]:
        """Send a frame with an id of its own and wait for the answer to it."""
        self._number += 1
        self.send({"id": str(self._number), **frame})
        while True:
            answer = self._read(10)
            if answer.get("id") == str(self._number):
                return answer
            self._aside.append(answer)

    def drop(self) -> None:
        """End the connection with a reset, as a dying program's kernel may."""
        raw = self.connection.socket
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.shutdown(socket.SHUT_RDWR)
        raw.close()

    def _read(self, timeout_s: float) -> dict[str, Any]:
        return dict(json.loads(self.connection.recv(timeout_s)))
