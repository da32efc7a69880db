"""D1, D2: a reader sees each message once and in order, and what it recovers is the log. Pure."""

from collections.abc import Callable
from typing import Any

from tests.faults.check_log import LogRules

Event = dict[str, Any]


class ReaderRules:
    """How far every client has come on every subject it reads."""

    def __init__(self, log: LogRules, broken: Callable[[str, str], None]) -> None:
        self._log = log
        self._break = broken
        self._last: dict[tuple[str, str], int] = {}  # (client, subject): position
        self._settled: dict[tuple[str, str], int] = {}

    def on_subscribing(self, e: Event) -> None:
        key, after = (e["client"], e["subject"]), e["after"]
        if after is not None:
            if after > self._last.get(key, 0):
                self._break("D2", f"{key} claims {after} after {self._last.get(key)}")
            self._last[key] = after

    def on_subscribed(self, e: Event) -> None:
        if e["recovered"]:
            return
        key = (e["client"], e["subject"])
        if not e["reason"] and self._last.get(key, e["seq"]) < e["seq"] and e["asked"]:
            self._break("D2", f"{key} is at {e['seq']} and was not told why nothing is recovered")
        self._last[key] = e["seq"]

    def on_unsubscribing(self, e: Event) -> None:
        self._last.pop((e["client"], e["subject"]), None)

    def on_seen(self, e: Event) -> None:
        key, seq = (e["client"], e["subject"]), e["seq"]
        last = self._last.get(key, 0)
        if seq <= last:
            self._break("D1", f"{key} got {seq} after {last}: twice, or out of order")
        elif seq > last + 1:
            self._break("D1", f"{key} got {seq} after {last}: a hole that was not announced")
        self._last[key] = max(last, seq)
        self._log.observe(e["client"], e["subject"], seq, e["text"])

    def on_gap(self, e: Event) -> None:
        self._last[e["client"], e["subject"]] = e["to"]

    def on_synced(self, e: Event) -> None:
        last = self._last.get((e["client"], e["subject"]), 0)
        if last != e["seq"]:
            who = f"{e['client']} on {e['subject']}"
            self._break("D2", f"{who} is told to be synced at {e['seq']}, but has {last}")

    def on_settled(self, e: Event) -> None:
        self._settled[e["client"], e["subject"]] = e["seq"]

    def finish(self) -> None:
        """Who stayed has come as far as the log goes."""
        for (client, name), seq in self._settled.items():
            head = self._log.subject(name).log_head or 0
            if seq != head:
                text = f"{client} on {name} came to rest at {seq}, the head is {head}"
                self._break("D2", text)
