"""When things were accepted, subject by subject, across a fault. Pure, one pass.

`injected` and `healed` in a history are the moments that times are counted from; what must not
happen during a fault is counted from `in_effect`.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]
BUCKET_S = 0.25  # of `per_bucket`


@dataclass(slots=True)
class Timeline:
    """All times in seconds of the history's clock; 0.0: not yet."""

    injected: float = 0.0
    in_effect: float = 0.0
    healed: float = 0.0
    per_bucket: Counter[int] = field(default_factory=Counter)  # number of bucket: accepted in it
    _sent: dict[tuple[str, int], float] = field(default_factory=dict)
    _subjects: set[str] = field(default_factory=set)
    waited_s: float = 0.0  # the longest time, since the fault, that a message took to be accepted
    _again: dict[str, dict[str, float]] = field(
        default_factory=lambda: {"injected": {}, "healed": {}}
    )
    accepted_at: list[float] = field(default_factory=list)
    recorded_at: list[float] = field(default_factory=list)  # when a coordinator decided, in order
    refused: list[tuple[float, str]] = field(default_factory=list)  # with its code
    mails: list[tuple[float, str]] = field(default_factory=list)  # with its address
    ended: list[tuple[float, str, int | None]] = field(default_factory=list)  # client, close code
    going_away: list[tuple[float, str]] = field(default_factory=list)  # client

    def take(self, e: Event) -> None:
        """The next event."""
        match e["event"]:
            case "injected":
                self.injected = e["at"]
            case "in_effect":
                self.in_effect = e["at"]
            case "healed":
                self.healed = e["at"]
            case "recorded":
                self.recorded_at = e["times"]
            case "refused":
                self.refused.append((e["at"], e["code"]))
            case "mail":
                self.mails.append((e["at"], e["address"]))
            case "disconnected":
                self.ended.append((e["at"], e["client"], e["code"]))
            case "going_away":
                self.going_away.append((e["at"], e["client"]))
            case "publish":
                self._sent[e["publisher"], e["number"]] = e["at"]
            case "accepted":
                sent_at = self._sent.pop((e["publisher"], e["number"]), 0.0)
                self._accepted(e["subject"], sent_at, e["at"])

    def _accepted(self, subject: str, sent_at: float, at: float) -> None:
        self.per_bucket[int(at / BUCKET_S)] += 1
        self.accepted_at.append(at)
        if self.injected:
            self.waited_s = max(self.waited_s, at - sent_at)
        for since, moment in (("injected", self.injected), ("healed", self.healed)):
            if moment and sent_at >= moment:
                self._again[since].setdefault(subject, at)
        self._subjects.add(subject)

    def again_s(self, since: str) -> float | None:
        """From `injected` or `healed` until something published after it had been accepted, on the
        subject where that took longest; None: on one, nothing was."""
        moment = self.injected if since == "injected" else self.healed
        again = self._again[since]
        if not again or set(again) != self._subjects:
            return None
        return max(again.values()) - moment

    def accepted_between(self, begin: float, end: float) -> int:
        """How many were accepted."""
        return sum(begin <= at < end for at in self.accepted_at)

    def recorded_between(self, begin: float, end: float) -> int:
        """How many of the messages in the log were decided on then, whenever it was told."""
        return sum(begin <= at < end for at in self.recorded_at)

    def points(self) -> list[tuple[float, float]]:
        """(seconds since the fault, accepted a second), without holes."""
        if not self.per_bucket:
            return []
        first, last = min(self.per_bucket), max(self.per_bucket)
        return [
            (round(n * BUCKET_S - self.injected, 2), self.per_bucket[n] / BUCKET_S)
            for n in range(first, last + 1)
        ]
