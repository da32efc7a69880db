"""What happens to the machine under the processes: its disk, its clock."""

import asyncio
import contextlib
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.faults.row import Row, Run, untold
from tests.faults.timeline import Timeline

DISK = "24m"
_PAGE_BYTES = 4096
_FULL = "STORE_FULL"
_SHIM = Path(__file__).with_name("clock.c")
_HOUR_S = 3_600


class _Disk(Row):
    """The coordinator's and presence's stores on a small disk of their own."""

    def why_not(self) -> str:
        if os.geteuid() != 0 or not sys.platform.startswith("linux"):
            return "only root can mount a tmpfs"
        return ""

    def prepare(self, folder: Path) -> Mapping[str, Mapping[str, str]]:
        disk, data = folder / "disk", folder / "data"
        disk.mkdir()
        data.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", disk)
        for name in ("coordinator-1", "presence-1"):
            (disk / name).mkdir(mode=0o700)
            (data / name).symlink_to(disk / name)
        return {}

    def clean_up(self, folder: Path) -> None:
        _run("umount", "-l", folder / "disk")


class DiskFull(_Disk):
    name = "disk-full"
    says = "the disk under both stores is full, then has room again"
    must = "refused with STORE_FULL, an alarm; it recovers by itself"
    bound_s, bound, since = 2.0, "2 s after there is room", "healed"
    lasts_s = 5.0

    async def inject(self, run: Run) -> None:
        await asyncio.to_thread(_fill, run.folder / "disk")

    async def heal(self, run: Run) -> None:
        (run.folder / "disk/ballast").unlink()

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        codes = {code for at, code in timeline.refused if at >= timeline.injected}
        found = [] if _FULL in codes else [f"nobody was told {_FULL}, but {codes}"]
        return [*found, *untold(run, _FULL)]


def _made_read_only(disk: Path) -> bool:
    done = subprocess.run(["mount", "-o", "remount,ro", disk], capture_output=True, check=False)
    return done.returncode == 0


class StoreReadOnly(_Disk):
    name = "store-read-only"
    says = "the coordinator finds its store read-only when it starts again"
    must = "it says so and accepts nothing; it starts once the store can be written"
    lasts_s = 4.0

    async def inject(self, run: Run) -> None:
        for name in ("presence-1", "coordinator-1"):
            await run.stop(name)
        # What the killed ones had open may still be being closed.
        await run.stage.wait(lambda: _made_read_only(run.folder / "disk"), "it is read-only", 10.0)
        for name in ("presence-1", "coordinator-1"):
            run.cluster.start(name)

    async def heal(self, run: Run) -> None:
        _run("mount", "-o", "remount,rw", run.folder / "disk")

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        stale = timeline.accepted_between(timeline.in_effect, timeline.healed)
        found = [f"{stale} messages were accepted without a store"] if stale else []
        said = "cannot be used" in run.cluster.log_of("coordinator-1")
        return found if said else [*found, "no sentence told of it"]


class _Clock(Row):
    """One service's clock is set by an hour, forward or back, and then right again."""

    member = ""
    must = "no promise is broken, and nobody waits"
    bound_s, bound = 1.0, "1 s"
    lasts_s = 5.0

    def why_not(self) -> str:
        return "" if shutil.which("cc") else "there is no C compiler (on Debian: gcc)"

    def prepare(self, folder: Path) -> Mapping[str, Mapping[str, str]]:
        shim, clock = folder / "clock.so", folder / "clock"
        _run("cc", "-O2", "-shared", "-fPIC", "-o", shim, _SHIM, "-ldl")
        _set(clock, 0)
        return {self.member: {"LD_PRELOAD": str(shim), "FAULT_CLOCK": str(clock)}}

    async def inject(self, run: Run) -> None:
        _set(run.folder / "clock", run.dice.choice([_HOUR_S, -_HOUR_S]))

    async def heal(self, run: Run) -> None:
        _set(run.folder / "clock", 0)


class CoordinatorsClock(_Clock):
    name = "clock-coordinator"
    member = "coordinator-1"
    says = "the coordinator's clock set by an hour, and right again"


class EdgesClock(_Clock):
    name = "clock-edge"
    member = "edge-1"
    says = "the edge's clock set by an hour, and right again"


class PresencesClock(_Clock):
    name = "clock-presence"
    member = "presence-1"
    says = "presence's clock set by an hour, and right again"


class NotifiersClock(_Clock):
    name = "clock-notifier"
    member = "notifier-1"
    says = "the notifier's clock set by an hour, and right again"


def _fill(disk: Path) -> None:
    """Take all the space there is, while others take some too."""
    with (disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(_PAGE_BYTES))


def _set(clock: Path, ahead_s: int) -> None:
    """In place: the process has it in its memory."""
    file = os.open(clock, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(file, struct.pack("=q", ahead_s * 1_000_000_000))
    os.close(file)


def _run(*words: object) -> None:
    subprocess.run(list(map(str, words)), check=True, capture_output=True)


ROWS = (
    DiskFull, StoreReadOnly, CoordinatorsClock, EdgesClock, PresencesClock, NotifiersClock,
)  # fmt: skip
