"""When a plugin may be called, after it failed as a whole. Pure.

    closed ──failure──▶ open(until) ──time──▶ half open: one probe ──success──▶ closed
                           ▲                          │
                           └──────failure, doubled────┘

A single failure opens it: a plugin that is set up wrongly, or whose process is gone, fails for
every delivery, and each further call could only harm. Knows nothing of plugins or calls. To drive
it: ask `may_call`, call `begin`, then `succeed` or `fail`; every method returns the new breaker.
Times are seconds of one clock, the caller's.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """How long a plugin is left alone: the first time, and at most."""

    first_s: float = 1.0
    longest_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """The breaker of one plugin, closed at first."""

    limits: BreakerLimits = BreakerLimits()
    # Failures since the last success; 0: closed.
    failures: int = 0
    open_until: float = 0.0
    # A probe is under way: until it ends, nothing else may be called.
    probing: bool = False

    @property
    def closed(self) -> bool:
        """Nothing has failed since the last success."""
        return self.failures == 0

    def may_call(self, now: float) -> bool:
        """Whether a call may begin; one that may while not closed is the probe."""
        return self.closed or (not self.probing and now >= self.open_until)

    def begin(self, now: float) -> "Breaker":
        """A call begins. Only if `may_call`."""
        assert self.may_call(now)
        return self if self.closed else replace(self, probing=True)

    def succeed(self) -> "Breaker":
        """A call said something about its deliveries: the plugin works."""
        return Breaker(self.limits)

    def fail(self, now: float, chance: float) -> "Breaker":
        """A call failed as a whole. `chance` in [0, 1) spreads the probes of many processes.

        A failure that was under way when another opened the breaker does not double the time.
        """
        if not self.closed and not self.probing:
            return self
        doublings = min(self.failures, 64)  # Beyond it a float would overflow in the end.
        longest = min(self.limits.longest_s, self.limits.first_s * 2.0**doublings)
        until = now + longest * (0.5 + chance / 2)
        return Breaker(self.limits, self.failures + 1, until)

    def release(self) -> "Breaker":
        """A probe ended without calling the plugin: nothing was learnt."""
        return replace(self, probing=False)
