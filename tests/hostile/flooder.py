"""One client that sends without pause, in a process of its own.

`python -m tests.hostile.flooder PORT HOW`: connects, says so, sends as fast as the edge takes it,
and reads whatever comes, but with `refused_unread`. `report` on standard input is answered with
the frames sent so far, the answers by kind or code, and the close code if there is one.
"""

import contextlib
import json
import os
import selectors
import sys
from collections import Counter
from typing import Any

from tests.hostile.raw import PING, PONG, TEXT, RawClient, drop, frame, json_frame

CONTINUATION, BINARY = 0, 2
_CHUNK_BYTES = 64 * 1024


def frames_of(how: str) -> tuple[bytes, bytes]:
    """What is sent first, and what is sent over and over."""
    publish = {"id": "p", "publish": {"subject": "/flood", "text": "x" * 100}}
    large = {"id": "p", "publish": {"subject": "/flood", "text": "x" * 60_000}}
    many = [{"subject": f"/many/{number}"} for number in range(1_000)]
    return {
        "publish": (b"", json_frame(publish)),
        "publish_large": (b"", json_frame(large)),
        "ping": (b"", frame(PING, b"x" * 125)),
        "pong": (b"", frame(PONG, b"1")),
        "empty": (b"", frame(BINARY)),
        "tiny_fragments": (frame(TEXT, b"[", fin=False), frame(CONTINUATION, b" ", fin=False)),
        "empty_fragments": (frame(TEXT, b"[", fin=False), frame(CONTINUATION, fin=False)),
        "endless_message": (
            frame(TEXT, b"[", fin=False),
            frame(CONTINUATION, b" " * 30_000, fin=False),
        ),
        "refused": (b"", frame(TEXT, b"{")),
        "refused_unread": (b"", frame(TEXT, b"{")),
        "subscribe": (b"", json_frame({"id": "s", "subscribe": {"subscriptions": many}})),
        "acknowledge": (
            b"",
            json_frame({"ack": {"positions": [{"subject": "/flood", "seq": "1"}] * 1_000}}),
        ),
    }[how]


class Flood:
    """The client."""

    def __init__(self, port: int, how: str) -> None:
        self._reads = how != "refused_unread"
        self._client = RawClient(port, "flood", "127.0.9.9", 0 if self._reads else 4_096)
        connect = {"clientId": "flood", "subscriptions": {"list": []}}
        assert "connected" in self._client.ask(connect=connect)
        first, self._again = frames_of(how)
        times = max(1, _CHUNK_BYTES // len(self._again))
        self._frames = 0.0
        self._chunk = self._again * times
        self._rest = first + self._chunk
        self._answers: Counter[str] = Counter()

    def run(self) -> None:
        """Send until standard input ends."""
        print(json.dumps({"ready": True}), flush=True)
        os.set_blocking(0, False)
        selector = selectors.EpollSelector()
        selector.register(self._client.socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, events in selector.select(1):
                if key.fileobj is sys.stdin:
                    if not sys.stdin.readline():
                        return
                    print(json.dumps(self._report()), flush=True)
                elif not self._turn(events):
                    selector.unregister(self._client.socket)
                    drop(self._client.socket)

    def _turn(self, events: int) -> bool:
        client = self._client
        if events & selectors.EVENT_READ and self._reads:
            for text in client.read():
                self._count(json.loads(text))
        if events & selectors.EVENT_WRITE and client.closed_with is None:
            client.socket.setblocking(False)
            try:
                sent = client.socket.send(self._rest)
            except BlockingIOError:
                sent = 0
            except OSError:
                if not self._reads:
                    with contextlib.suppress(OSError):
                        while client.closed_with is None:
                            client.read()
                client.closed_with = client.closed_with or 1006
                return False
            self._frames += sent / len(self._again)
            self._rest = self._rest[sent:] or self._chunk
        return client.closed_with is None

    def _count(self, answer: dict[str, Any]) -> None:
        error = answer.get("error")
        self._answers[error["code"] if error else next(k for k in answer if k != "id")] += 1

    def _report(self) -> dict[str, Any]:
        return {
            "frames": int(self._frames),
            "answers": dict(self._answers),
            "closed_with": self._client.closed_with,
        }


if __name__ == "__main__":
    Flood(int(sys.argv[1]), sys.argv[2]).run()
