"""Counts what a history tells: messages, mails, and how long each fault kept publishers waiting.

Pure, one pass. It judges nothing; `checker` does.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]


@dataclass(slots=True)
class Tally:
    """`waits`: by (fault, service), the seconds until something published after it was accepted."""

    counts: Counter[str] = field(default_factory=Counter)
    waits: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    started_s: list[float] = field(default_factory=list)  # the whole suite, until it was ready
    asked: float = 0.0  # publishes a second that the run was to make
    slowest: float = 1.0  # how much slower than usual the machine was then
    repeated: int = 0  # mails that came again, with the same id
    checked: int = 0  # decisions on messages of users that were checked
    first_at: float = 0.0
    last_at: float = 0.0
    _sent: dict[tuple[str, int], float] = field(default_factory=dict)  # unanswered ones only
    _mails: set[str] = field(default_factory=set)
    _open: list[tuple[str, str, float]] = field(default_factory=list)

    def take(self, e: Event) -> None:
        """The next event."""
        name = e["event"]
        self.counts[name] += 1
        if name == "publish":
            self._sent[e["publisher"], e["number"]] = e["at"]
            self.first_at = self.first_at or e["at"]
            self.last_at = e["at"]
        elif name == "accepted":
            sent_at = self._sent.pop((e["publisher"], e["number"]), 0.0)
            self._accepted(sent_at, e["at"])
        elif name == "fault":
            if e["fault"] != "SIGCONT":
                self.faults[e["fault"], e["service"]] += 1
                self._open.append((e["fault"], e["service"], e["at"]))
        elif name == "run":
            self.asked = e["asked"]
        elif name == "mail":
            self.repeated += e["id"] in self._mails
            self._mails.add(e["id"])
        elif name == "up_again":
            self.started_s.append(e["seconds"])
            self.slowest = max(self.slowest, e["slowness"])

    def _accepted(self, sent_at: float, at: float) -> None:
        still = []
        for fault, service, since in self._open:
            if sent_at >= since:
                self.waits[fault, service].append(at - since)
            else:
                still.append((fault, service, since))
        self._open = still

    @property
    def per_second(self) -> float:
        """The rate of publishing that was reached."""
        return self.counts["publish"] / max(0.001, self.last_at - self.first_at)

    def __str__(self) -> str:
        counts = self.counts
        lines = [
            f"{counts['publish']} published ({self.per_second:.0f}/s of {self.asked:.0f}), "
            f"{counts['accepted']} accepted, {counts['seen']} delivered, "
            f"{counts['mail']} mails ({self.repeated} repeated), {self.checked} decisions checked"
        ]
        for (fault, service), waits in sorted(self.waits.items()):
            waited = ", ".join(f"{one:.2f}" for one in waits)
            lines.append(f"{fault} {service}: accepted again after {waited} s")
        return "\n".join(lines)
