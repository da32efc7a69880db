"""How large a death of an edge is played, and what it came to: as a record, and in words."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.machine import described
from bench.report import percentile
from tests.faults.run import Verdict


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it. Times in seconds."""

    clients: int = 10_000
    away: int = 300  # of those on the edge that dies
    subjects: int = 300
    per_second: float = 100.0  # messages, in all
    warm_s: float = 5.0  # of messages before the kill
    grace_s: float = 15.0  # after the death of an edge; the default
    seed: int = 1


@dataclass(slots=True)
class Outcome:
    """What it came to. Times in seconds since the kill."""

    size: Size
    verdict: Verdict
    wrong: list[str]  # beyond what the checker looks for
    came_s: float  # until all had connected, at first
    were_there: int  # on the edge that died
    connected_s: list[float]  # of everybody who came back
    synced_s: list[float]
    attempts: list[int]
    disturbed: int  # at the other edges, who had to connect again
    surprises: dict[str, int]
    cpu: dict[str, float]  # seconds by kind of process, from the kill until the last was synced
    usual: dict[str, float]  # the same of as long a time before the kill
    others: float  # share of the machine that went to programs of others meanwhile

    @property
    def good(self) -> bool:
        """Whether every promise held."""
        return self.verdict.good and not self.wrong

    def record(self) -> dict[str, Any]:
        """For other programs."""
        times = {"connected_s": self.connected_s, "synced_s": self.synced_s}
        return {
            "good": self.good, "size": asdict(self.size), "wrong": self.wrong,
            "broken": dict(self.verdict.broken.counts), "came_s": self.came_s,
            "were_there": self.were_there, "disturbed": self.disturbed,
            "came_back": len(self.synced_s), "cpu": self.cpu, "usual": self.usual,
            "others": self.others, "surprises": self.surprises, "machine": described(),
            **{f"{name}_p{at * 100:.0f}": percentile(values, at)
               for name, values in times.items() for at in (0.5, 0.9, 0.99, 1.0) if values},
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [
            str(self.verdict),
            f"{self.size.clients} clients connected in {self.came_s:.1f} s; {self.were_there} were "
            f"on the edge that died, {self.size.away} of them stayed away",
            f"connected again: {_spread(self.connected_s)}",
            f"synced: {_spread(self.synced_s)}",
            f"connections tried: {sum(self.attempts)}, at most {max(self.attempts, default=0)}; "
            f"besides {self.surprises}; {self.disturbed} were disturbed at the other edges",
            "CPU seconds until then, and of them what the messages cost as before: "
            + ", ".join(
                f"{name} {seconds:.1f} ({self.usual[name]:.1f})"
                for name, seconds in self.cpu.items()
            )
            + f"; others' share of the machine {self.others:.2f}",
            *self.wrong,
        ]
        return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "nobody"
    marks = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (1.0, "last"))
    told = ", ".join(f"{name} {percentile(values, at):.2f} s" for at, name in marks)
    return f"{len(values)}, {told}"
