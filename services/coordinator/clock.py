"""The coordinator's clocks: what is told to people, and what counts ages."""

import time
from collections.abc import Callable
from pathlib import Path

from services.chassis import logs
from services.chassis.errors import Fault
from services.chassis.etcd import boottime
from services.coordinator.store import LogStore, Stamp

log = logs.get(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


async def steady_offset_ms(store: LogStore) -> int:
    """What is added to the time since boot to give the steady time.

    The steady time starts at the wall clock's, and then does not follow its jumps, nor does a
    restart of the process: a clock set forward must not make an id look old while a publisher
    still repeats it. Only the first process of a boot asks the wall clock, and does not follow one
    that has gone back, as on a machine that forgets the time: nothing would be old enough to go.
    A store that several machines share has them agree, and is asked instead of the wall clock.
    """
    since_boot_ms = int(boottime() * 1_000)
    offset_ms = int(time.time() * 1_000) - since_boot_ms
    try:
        return await store.adopt_clock(_boot_id(), since_boot_ms, offset_ms)
    except (Fault, OSError) as fault:
        log.warning("clock_not_adopted", fault=type(fault).__name__)
        return offset_ms


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def stamps(offset_ms: int) -> Callable[[], Stamp]:
    """A source of stamps, for an offset of `steady_offset_ms`."""

    def stamp() -> Stamp:
        return Stamp(
            wall_ms=time.time_ns() // 1_000_000, steady_ms=int(boottime() * 1_000) + offset_ms
        )

    return stamp
