"""How fast each of many callers may go: a bounded table of token buckets. Pure.

Beyond `callers_max` the caller heard of longest ago is forgotten, and may begin with a full bucket
when it returns: what that lets through is bounded by how fast callers can be made up.
"""

from dataclasses import dataclass

from services.edge.publishing import Rate


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Of one user's publishes over HTTP, on this edge."""

    per_s: float = 1_000.0  # over time; above: RATE_LIMITED
    burst: int = 2_000
    callers_max: int = 10_000  # users remembered


class Rates:
    """The buckets, the caller heard of longest ago first."""

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits
        self._rates: dict[str, Rate] = {}

    def __len__(self) -> int:
        """Callers remembered."""
        return len(self._rates)

    def take(self, caller: str, now: float) -> int:
        """Takes one from the caller's bucket; 0 if it may go, else the milliseconds to wait."""
        rate = self._rates.pop(caller, None)
        if rate is None:
            rate = Rate(self._limits.per_s, self._limits.burst)
            if len(self._rates) >= self._limits.callers_max:
                del self._rates[next(iter(self._rates))]
        self._rates[caller] = rate
        return rate.take(now)
