"""The coordinator's clocks: what is told to people, and what counts ages."""

import time
from collections.abc import Callable

from services.chassis.etcd import boottime
from services.coordinator.store import Stamp


def stamps() -> Callable[[], Stamp]:
    """A source of stamps. The steady time starts at the wall clock's, and then does not follow
    its jumps: a clock set forward must not make an id look old while a publisher still repeats
    it."""
    offset_s = time.time() - boottime()

    def stamp() -> Stamp:
        return Stamp(
            wall_ms=time.time_ns() // 1_000_000, steady_ms=int((boottime() + offset_s) * 1_000)
        )

    return stamp
