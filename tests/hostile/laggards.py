"""Subscribers that stop reading, and later read on, return, and want everything."""

import json
import time
import urllib.request

from tests.hostile.raw import RawClient, drop, seq_and_text, source_of
from tests.path.stack import Suite

_PAGE = 1_000


class Laggard:
    """One client of a subject. It counts what it gets, and gets each seq once, in order."""

    def __init__(self, suite: Suite, subject: str, number: int) -> None:
        self._suite = suite
        self._subject = subject
        self._name = f"slow-{number}"
        self._source = source_of(number)
        subscription = {"list": [{"subject": subject}]}
        self.client = RawClient(suite.port, self._name, self._source, 4_096)
        answer = self.client.ask(connect={"clientId": self._name, "subscriptions": subscription})
        self.last = int(answer["connected"]["subscriptions"][0]["seq"])

    def read_out(self) -> int:
        """Read what is there until the connection ends; returns the close code."""
        end = time.monotonic() + 20
        while self.client.closed_with is None:
            assert time.monotonic() < end, "it is not closed"
            self._take(self.client.read())
        drop(self.client.socket)
        return self.client.closed_with

    def come_back(self) -> bool:
        """Connect again after the last seq; what is too much to recover is read as history.

        Returns whether it was recovered.
        """
        again = {"list": [{"subject": self._subject, "afterSeq": str(self.last)}]}
        self.client = RawClient(self._suite.port, self._name, self._source)
        answer = self.client.ask(connect={"clientId": self._name, "subscriptions": again})
        [state] = answer["connected"]["subscriptions"]
        if not state["recovered"]:
            self._page_up_to(int(state["seq"]))
        return bool(state["recovered"])

    def catch_up(self, last: int) -> None:
        """Read on until that seq has come."""
        end = time.monotonic() + 60
        while self.last < last:
            assert time.monotonic() < end, f"{self._name} has {self.last} of {last}"
            self._take(self.client.read())
        drop(self.client.socket)

    def _take(self, texts: list[bytes]) -> None:
        for text in texts:
            message = seq_and_text(text)
            if message is not None:
                self._next(message[0])

    def _next(self, seq: int) -> None:
        assert seq == self.last + 1, f"{seq} after {self.last}"
        self.last = seq

    def _page_up_to(self, seq: int) -> None:
        while self.last < seq:
            limit = min(_PAGE, seq - self.last)
            query = f"subject={self._subject}&user={self._name}&after={self.last}&limit={limit}"
            url = f"{self._suite.url}/v1/history?{query}"
            with urllib.request.urlopen(url, timeout=60) as answer:
                for message in json.load(answer)["messages"]:
                    self._next(int(message["seq"]))
