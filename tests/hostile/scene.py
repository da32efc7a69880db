"""A suite under attack: the processes around it, and what the kernel and the edge say of it."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.path.stack import ROOT, Suite, ended
from tests.waiting import wait_for

FULL = os.environ.get("ONWARD_FULL") == "1"
# What Python and the allocator keep for themselves after a peak.
SLACK_BYTES = 24 << 20


def edge_memory(suite: Suite) -> int:
    """The edge's resident memory in bytes."""
    status = Path(f"/proc/{suite.child('edge')}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def metric(suite: Suite, name: str) -> float:
    """The value of a metric of the edge, with its labels as they are printed; 0: not there."""
    with urllib.request.urlopen(f"{suite.url}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    found = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(found[0].split()[-1]) if found else 0.0


def refused(suite: Suite, limit: str) -> float:
    """How many connections the edge has refused for the limit of that name."""
    return metric(suite, f'onward_edge_connections_refused_total{{limit="{limit}"}}')


def closed(suite: Suite, code: str) -> float:
    """How many sockets have ended with that code."""
    return metric(suite, f'onward_edge_sockets_closed_total{{code="{code}"}}')


class Watcher:
    """The peak of a suite's edge memory while a block runs, asked for by whoever waits."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self.before = self.peak = edge_memory(suite)

    def look(self) -> None:
        """Look once."""
        self.peak = max(self.peak, edge_memory(self._suite))

    def rest(self, seconds: float) -> None:
        """Look for that long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(0.1)

    def wait_back(self, slack: int = SLACK_BYTES, deadline_s: float = 30) -> int:
        """Wait until the memory is back where it was; returns what it is."""
        bound = self.before + slack

        def back() -> bool:
            return edge_memory(self._suite) <= bound

        wait_for(back, deadline_s, f"the edge's memory is back at {bound >> 20} MiB")
        return edge_memory(self._suite)


class Process:
    """A program of this package, spoken to by lines."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.hostile.{module}", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"},
        )

    def read(self) -> dict[str, Any]:
        """The next line it prints; fails if it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self._process.args} ended with {self._process.wait(10)}"
        return dict(json.loads(line))

    def ask(self, command: str) -> dict[str, Any]:
        """Give a command and return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self.read()

    def end(self) -> None:
        """Ends it, however it is."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def process(module: str, *arguments: object) -> Iterator[Process]:
    """A program that has said that it is ready, ended with the block."""
    one = Process(module, *arguments)
    try:
        assert one.read() == {"ready": True}
        yield one
    finally:
        one.end()


@contextmanager
def suite_with(folder: Path, **settings: object) -> Iterator[Suite]:
    """`onward up` with settings of the edge, by their names in lower case."""
    environ = {f"ONWARD_EDGE_{name.upper()}": str(value) for name, value in settings.items()}
    up = Suite(folder, environ)
    with ended(up):
        up.wait_ready()
        yield up


def tell(**numbers: object) -> None:
    """Prints what a run has measured."""
    print(json.dumps(numbers), flush=True)
