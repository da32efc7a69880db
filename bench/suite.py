"""The suite under measurement: `onward up` as an operator starts it, with real etcd and a log."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.machine import cpu_s, descendants

_ONWARD = str(Path(sys.executable).with_name("onward"))
_SERVICES = ("edge", "coordinator", "presence", "notifier")
_READY_S = 60.0
# What would stop a load program that stands for thousands of people.
_OPEN = {
    "ONWARD_EDGE_PUBLISH_RATE": "1000000",
    "ONWARD_EDGE_PUBLISH_BURST": "1000000",
}


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Suite:
    """The processes below one `onward up`."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self.port = free_port()
        self._log = directory / "up.log"
        given = {k: v for k, v in os.environ.items() if not k.startswith("ONWARD_")}
        arguments = ["up", "--data-dir", str(directory / "data"), "--port", str(self.port)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [_ONWARD, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=given | _OPEN | dict(environ),
            )

    def wait_ready(self) -> None:
        """Until the edge takes sessions."""
        end = time.monotonic() + _READY_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > end:
                raise AssertionError(self._log.read_text())
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=1):
                return True
        except OSError:
            return False

    @property
    def pids(self) -> list[int]:
        """All of it: the four services, etcd, and `onward up` itself."""
        return [self._process.pid, *descendants(self._process.pid)]

    def child(self, service: str) -> int:
        """The pid of one service."""
        for pid in self.pids:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if f"services.{service}".encode() in words:
                return pid
        raise AssertionError(f"no process runs {service}")

    def cpu_s(self) -> float:
        """CPU seconds used by all of it so far."""
        return cpu_s(self.pids)

    def cpu_by_service(self) -> dict[str, float]:
        """CPU seconds used by each service so far."""
        return {service: cpu_s([self.child(service)]) for service in _SERVICES}

    def environ(self, service: str) -> dict[str, str]:
        """The environment that a service was started with."""
        pairs = Path(f"/proc/{self.child(service)}/environ").read_text().split("\0")
        return dict(pair.split("=", 1) for pair in pairs if pair)

    def end(self) -> None:
        """Stops it, by force if it takes long."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            for pid in self.pids:
                os.kill(pid, signal.SIGKILL)
            self._process.wait()


@contextmanager
def running(directory: Path, **environ: str) -> Iterator[Suite]:
    """A suite that is ready, and ends with the block. `environ`: settings, by their names."""
    directory.mkdir(parents=True, exist_ok=True)
    suite = Suite(directory, environ)
    try:
        suite.wait_ready()
        yield suite
    finally:
        suite.end()
