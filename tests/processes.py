"""What tests ask of the kernel about processes."""

import subprocess
import sys
import time
from pathlib import Path

# What a quiet machine of two cores takes to start Python with our largest import.
_USUAL_START_S = 0.3


def descendants(pid: int) -> list[int]:
    """The pids of all processes below `pid`; without those that vanish while they are looked at."""
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in task.read_text().split():
                found += [int(child), *descendants(int(child))]
    except OSError:
        pass
    return found


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def slowness() -> float:
    """How much slower than usual this machine starts Python now, at least 1.

    For the few bounds in seconds that are promises of the product: a busy machine stretches them.
    """
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import grpc.aio"], check=True)
    return max(1.0, (time.monotonic() - began) / _USUAL_START_S)
