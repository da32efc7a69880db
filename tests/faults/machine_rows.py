"""What happens to the machine under the processes: its disk, its clock."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.faults.row import Row, Run, untold
from tests.faults.timeline import Timeline

DISK = "24m"
_LEFT_BYTES = 256 * 1024
_FULL = "STORE_FULL"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


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
        disk = run.folder / "disk"
        free = os.statvfs(disk)
        room = max(1, free.f_bavail * free.f_frsize - _LEFT_BYTES)
        ballast = os.open(disk / "ballast", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(ballast, 0, room)
        os.close(ballast)

    async def heal(self, run: Run) -> None:
        (run.folder / "disk/ballast").unlink()

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        codes = {code for at, code in timeline.refused if at >= timeline.injected}
        found = [] if _FULL in codes else [f"nobody was told {_FULL}, but {codes}"]
        return [*found, *untold(run, _FULL)]


class StoreReadOnly(_Disk):
    name = "store-read-only"
    says = "the coordinator finds its store read-only when it starts again"
    must = "it says so and accepts nothing; it starts once the store can be written"
    lasts_s = 4.0

    async def inject(self, run: Run) -> None:
        for name in ("presence-1", "coordinator-1"):
            await run.stop(name)
        _run("mount", "-o", "remount,ro", run.folder / "disk")
        for name in ("presence-1", "coordinator-1"):
            run.cluster.start(name)

    async def heal(self, run: Run) -> None:
        _run("mount", "-o", "remount,rw", run.folder / "disk")

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        stale = timeline.accepted_between(timeline.injected + 0.5, timeline.healed)
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
        return "" if FAKETIME.exists() else f"{FAKETIME} is missing (Debian: faketime)"

    def prepare(self, folder: Path) -> Mapping[str, Mapping[str, str]]:
        _set(folder, "+0")
        return {
            self.member: {
                "LD_PRELOAD": str(FAKETIME),
                "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
                "FAKETIME_NO_CACHE": "1",
                # Only the time of day jumps: no kernel lets the others.
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
            }
        }

    async def inject(self, run: Run) -> None:
        _set(run.folder, run.dice.choice(["+3600", "-3600"]))

    async def heal(self, run: Run) -> None:
        _set(run.folder, "+0")


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


def _set(folder: Path, offset: str) -> None:
    (folder / "clock.new").write_text(f"{offset}\n")
    (folder / "clock.new").replace(folder / "clock")


def _run(*words: object) -> None:
    subprocess.run(list(map(str, words)), check=True, capture_output=True)


ROWS = (
    DiskFull, StoreReadOnly, CoordinatorsClock, EdgesClock, PresencesClock, NotifiersClock,
)  # fmt: skip
