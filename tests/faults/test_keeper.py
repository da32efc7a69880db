"""A process is started again when it ends, unless it is held, and ends with its keeper."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.path.stack import ROOT, Lines
from tests.processes import alive
from tests.waiting import wait_for


class Kept:
    """A keeper of one process, `a-1`, which prints $WORD and then sleeps."""

    def __init__(self, folder: Path) -> None:
        self.log, self._plan = folder / "log", folder / "plan.json"
        self.write("first")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.keeper", str(self._plan)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        self.output = Lines(self.process.stdout)

    def write(self, word: str) -> None:
        command = ["sh", "-c", "echo $WORD; exec sleep 60"]
        one = {"command": command, "environ": {"WORD": word}, "log": str(self.log)}
        self._plan.write_text(json.dumps({"a-1": one}))

    def say(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def pid(self, start: int) -> int:
        """Of the start of that number."""
        started = wait_for(
            lambda: [one for one in self.output.all if one.startswith("started")][start - 1 :],
            10, f"start {start}",
        )  # fmt: skip
        return int(started[0].split()[2])

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(10) == 0


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    one = Kept(tmp_path)
    yield one
    if one.process.poll() is None:
        one.end()


def test_what_ends_is_started_again_with_what_the_plan_says_then(kept: Kept) -> None:
    first = kept.pid(1)
    kept.write("second")
    os.kill(first, SIGKILL)
    assert kept.pid(2) != first
    wait_for(lambda: kept.log.read_text() == "first\nsecond\n", 10, "both have spoken")
    assert "ended a-1 -9" in kept.output.all


def test_what_is_held_stays_away_until_it_is_started(kept: Kept) -> None:
    first = kept.pid(1)
    kept.say("hold a-1")
    wait_for(lambda: "held a-1 0" in kept.output.all, 10, "it is held")
    os.kill(first, SIGKILL)
    wait_for(lambda: "ended a-1 -9" in kept.output.all, 10, "its end is told")
    kept.say("start a-1")
    assert alive(kept.pid(2))


def test_what_runs_ends_with_its_keeper(kept: Kept) -> None:
    pid = kept.pid(1)
    kept.end()
    wait_for(lambda: not alive(pid), 10, "it has ended")
