"""Well-behaved clients of one subject, in a process of their own: they check, and they measure.

`python -m tests.hostile.crowd PORT SUBJECT SUBSCRIBERS PUBLISHERS PER_SECOND BYTES`: publishers
send texts that say when they were sent; every subscriber must get every seq once, in order.
Commands are lines of standard input, and each is answered by a line of JSON:

- `mark`: begins to count anew;
- `report`: `delivered`, and `p50_ms` and `p99_ms` from publish to receipt since the mark;
- `stop`: publishes no more; waits until everybody has everything; `last` is the newest seq.
"""

import json
import selectors
import sys
import time
from typing import Any

from tests.hostile.raw import RawClient, seq_and_text, source_of


class Crowd:
    """The clients, and what they have seen."""

    def __init__(
        self, port: int, subject: str, subscribers: int, publishers: int, per_second: int, size: int
    ) -> None:
        self._subject = subject
        self._filling = b"." * max(0, size - 20)
        self._selector = selectors.EpollSelector()
        self._last: dict[RawClient, int] = {}
        for number in range(subscribers):
            client = RawClient(port, f"calm-{number}", source_of(number))
            subscription = {"list": [{"subject": subject}]}
            answer = client.ask(
                connect={"clientId": f"calm-{number}", "subscriptions": subscription}
            )
            self._last[client] = int(answer["connected"]["subscriptions"][0]["seq"])
            self._selector.register(client, selectors.EVENT_READ, client)
        self._publishers = [RawClient(port, f"pub-{n}", source_of(n)) for n in range(publishers)]
        for number, client in enumerate(self._publishers):
            client.ask(connect={"clientId": f"pub-{number}", "acknowledges": "NONE"})
            self._selector.register(client, selectors.EVENT_READ, client)
        self._every_s = 1 / per_second
        self._next_at = time.perf_counter()
        self._sent = 0
        self._accepted = 0  # the newest seq
        self._publishing = True
        self._delays: list[float] = []
        self._delivered = 0

    def run(self) -> None:
        """Serve commands until standard input ends."""
        self._selector.register(sys.stdin, selectors.EVENT_READ, None)
        print(json.dumps({"ready": True}), flush=True)
        while True:
            for key, _ in self._selector.select(self._publish_due()):
                if key.data is not None:
                    self._take(key.data)
                elif not self._obey(sys.stdin.readline().strip()):
                    return

    def _obey(self, command: str) -> bool:
        answer: dict[str, Any] = {}
        if command == "mark":
            self._delays.clear()
            self._delivered = 0
        elif command == "report":
            delays = sorted(self._delays)
            answer = {"delivered": self._delivered}
            for name, part in (("p50_ms", 0.5), ("p99_ms", 0.99)):
                answer[name] = round(delays[int(len(delays) * part)] * 1000, 2) if delays else None
        elif command == "stop":
            self._publishing = False
            end = time.monotonic() + 20
            while self._sent_unanswered() or min(self._last.values()) < self._accepted:
                assert time.monotonic() < end, "not everybody got everything"
                for key, _ in self._selector.select(0.1):
                    if key.data is not None:
                        self._take(key.data)
            answer = {"last": self._accepted}
        else:
            return False
        print(json.dumps(answer), flush=True)
        return True

    def _sent_unanswered(self) -> int:
        return self._sent - self._answered

    _answered = 0

    def _publish_due(self) -> float:
        """Publishes what is due; returns the time until the next."""
        if not self._publishing:
            return 0.1
        now = time.perf_counter()
        if now - self._next_at > 0.25:
            self._next_at = now  # nobody is served by a burst after a pause
        while self._next_at <= now:
            client = self._publishers[self._sent % len(self._publishers)]
            text = f"{time.perf_counter_ns()}" + self._filling.decode()
            client.send({"id": "p", "publish": {"subject": self._subject, "text": text}})
            self._sent += 1
            self._next_at += self._every_s
        return max(0.0, self._next_at - time.perf_counter())

    def _take(self, client: RawClient) -> None:
        for text in client.read():
            if client in self._last:
                self._take_message(client, text)
            else:
                published = json.loads(text).get("published")
                assert published, text
                self._answered += 1
                self._accepted = max(self._accepted, int(published["seq"]))
        assert client.closed_with is None, f"a calm client was closed with {client.closed_with}"

    def _take_message(self, client: RawClient, text: bytes) -> None:
        message = seq_and_text(text)
        if message is None:
            return
        seq, said = message
        assert seq == self._last[client] + 1, f"{seq} after {self._last[client]}"
        self._last[client] = seq
        self._delivered += 1
        if self._delivered % 7 == 0:
            sent = int(said.partition(b".")[0])
            self._delays.append((time.perf_counter_ns() - sent) / 1e9)


if __name__ == "__main__":
    Crowd(int(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:7])).run()
