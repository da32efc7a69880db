"""What the kernel tells of processes and of the machine. Linux only."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    """The pids of all processes below `pid`."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """Seconds of CPU that these processes have used: utime and stime, in ticks of 10 ms."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * _TICK_S


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, in bytes. `pss` counts a page that n processes share as one nth of it.

    So `pss` moves when other processes come and go; what one process has grown by is in `rss`.
    """

    rss: int
    pss: int
    private: int


def memory(pid: int) -> Memory:
    """Memory of a process in user space; buffers of its sockets are the kernel's, and not in it."""
    bytes_of: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, _ = line.split()
        bytes_of[name.rstrip(":")] = int(value) * 1024
    private = bytes_of["Private_Clean"] + bytes_of["Private_Dirty"]
    return Memory(bytes_of["Rss"], bytes_of["Pss"], private)


class Watch:
    """How busy this machine is with other things, between its making and `others`."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy_s = _machine_busy_s()

    def others(self, ours_s: float) -> float:
        """The share of the whole machine, 0 to 1, that went to processes other than `ours_s`."""
        elapsed_s = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return max(0.0, (_machine_busy_s() - self._busy_s - ours_s) / elapsed_s)


def _machine_busy_s() -> float:
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    idle = int(fields[3]) + int(fields[4])
    return (sum(map(int, fields[:8])) - idle) * _TICK_S


def described() -> dict[str, str]:
    """The machine in a few words."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "cores": str(os.cpu_count()),
        "cpu": model,
        "memory": f"{gib:.0f} GiB",
        "kernel": os.uname().release,
        "python": os.sys.version.split()[0],  # type: ignore[attr-defined]
    }
