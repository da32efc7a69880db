"""All processes of a row, started one by one, with proxies between them where the row asks.

    cluster = Cluster(folder, settings, Shape(edges=2), proxied={"coordinator-1>etcd"}, links=links)
    cluster.wait_ready()
    cluster.links["coordinator-1>etcd"].freeze()
    cluster.hold("edge-2"); os.kill(cluster.child("edge-2"), SIGKILL); …; cluster.start("edge-2")

It has the face of `Suite`, so that a stage can stand on either. `onward up` is not part of it: it
decides addresses itself, and a row needs them to be those of proxies.
"""

import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.cli import up_exec
from services.cli.up_machine import find_etcd
from tests.faults.proxy import Link, Links
from tests.path.stack import ROOT, Lines, Suite, base_environ
from tests.processes import alive
from tests.real_etcd import BINARY as ETCD
from tests.waiting import wait_for

HOST = "127.0.0.1"
SECRET = "a secret of the fault runs"
# Below the ports that Linux gives to outgoing connections: a port must be free when its process
# comes back.
_PORTS = range(20_000, 32_000)
_SERVICES = ("coordinator", "presence", "notifier", "edge")


@dataclass(frozen=True, slots=True)
class Shape:
    """How many processes of each kind, and where the stores are."""

    coordinators: int = 1
    edges: int = 1
    presences: int = 1
    etcds: int = 1
    postgres: bool = False  # both stores are in a PostgreSQL with a standby; else in SQLite

    def members(self) -> list[str]:
        """The names of all processes, in the order in which they start."""
        numbers = {"etcd": self.etcds, "coordinator": self.coordinators,
                   "presence": self.presences, "notifier": 1, "edge": self.edges}  # fmt: skip
        return [f"{kind}-{n + 1}" for kind, number in numbers.items() for n in range(number)]


class Cluster(Suite):
    """The processes. `proxied` names links as `from>to`: a member, or a kind of member (its
    connections to all of its kind, from each member), and what it reaches. `trees`: whose programs
    members run, by name; this project's, where none is named. `more`: variables of single members;
    `stores`: ports of PostgreSQL, called store-1 and store-2."""

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        shape: Shape,
        links: Links,
        proxied: Collection[str] = (),
        trees: Mapping[str, Path] | None = None,
        more: Mapping[str, Mapping[str, str]] | None = None,
        stores: Sequence[int] = (),
    ) -> None:
        self.shape, self.data_dir, self.folder = shape, folder / "data", folder
        self.members = shape.members()
        self._given, self._trees = dict(environ), dict(trees or {})
        self._ports: set[int] = set()
        self.ports = {name: self._draw() for name in self.members}
        self.peer_ports = {n: self._draw() for n in self.members if kind_of(n) == "etcd"}
        self.http_ports = {n: self._draw() for n in self.members if kind_of(n) == "edge"}
        self._stores = {f"store-{n}": port for n, port in enumerate(stores, 1)}
        self.urls = [f"http://{HOST}:{port}" for port in self.http_ports.values()]
        self.url, self.port = self.urls[0], next(iter(self.http_ports.values()))
        self.links: dict[str, Link] = {}
        self._open(links, proxied)
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._more = {name: dict(one) for name, one in (more or {}).items()}
        self._write()
        self.started_at = time.monotonic()
        self._run()

    def _run(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.keeper", str(self._plan)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=base_environ(),
        )
        self.output = Lines(self.process.stdout)
        self.errors = Lines(self.process.stderr)

    # -- what is asked of it ------------------------------------------------------------------

    def child(self, service: str) -> int:
        """The pid of a member, or of the first of a service."""
        name = service if service in self.members else f"{service}-1"
        for line in reversed(self.output.all):
            word, who, number = line.split()
            if who == name and word != "held":
                if word == "started" and alive(int(number)):
                    return int(number)
                break
        raise AssertionError(f"{name} does not run")

    def pids(self, name: str) -> set[int]:
        """The pid of a member, if it runs."""
        try:
            return {self.child(name)}
        except AssertionError:
            return set()

    def wait_ready(self, deadline_s: float = 60) -> float:
        """Wait until every edge serves, and presence answers."""
        for url in self.urls:
            wait_for(lambda url=url: ready(url), deadline_s, f"{url} is ready")  # type: ignore[misc]
        wait_for(self.explains, deadline_s, "presence answers")
        return time.monotonic() - self.started_at

    def explains(self) -> bool:
        """Whether presence answers."""
        return answers(f"{self.url}/v1/explain?user=nobody&subject=/nothing")

    def presence_without(self, victim: str) -> bool:
        """Whether presence services other than this one own all partitions."""
        try:
            told = self.get("/v1/status")
        except OSError:
            return False
        owned = {one["name"]: one["owned"] for one in told["presences"]}
        return not owned.pop(victim, 0) and sum(owned.values()) == told["partitions"]["count"]

    def alarms(self) -> list[str]:
        """The names of the alarms that an edge tells of."""
        return [one.get("name", "") for one in self.get("/v1/status").get("alarms") or []]

    # -- what is done to it -------------------------------------------------------------------

    def hold(self, name: str) -> None:
        """Do not start it again when it ends."""
        before = len(self.output.all)
        self._say("hold", name)
        wait_for(lambda: f"held {name} 0" in self.output.all[before:], 10, f"{name} is held")

    def start(self, name: str) -> None:
        """Start it again."""
        self._say("start", name)

    def change(self, name: str, **more: str) -> None:
        """Give a member further variables, from its next start on."""
        self._more.setdefault(name, {}).update(more)
        self._write()

    def move(self, name: str, tree: Path) -> None:
        """Have a member run the programs of another tree, from its next start on."""
        self._trees[name] = tree
        self._write()

    def environ_of(self, name: str) -> dict[str, str]:
        """A member's variables, as it is started with them."""
        return self._environ(name) | self._more.get(name, {})

    def wait_gone(self, name: str, deadline_s: float = 10) -> None:
        """Wait until a member that is held has ended."""
        wait_for(lambda: not self.pids(name), deadline_s, f"{name} has ended")

    def folder_of(self, name: str) -> Path:
        """Where a member keeps what it keeps."""
        return self.data_dir / name

    def log_of(self, name: str) -> str:
        """What a member has written."""
        return (self.data_dir / f"{name}.log").read_text(errors="replace")

    def _say(self, word: str, name: str) -> None:
        assert name in self.members
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word} {name}\n")
        self.process.stdin.flush()

    # -- the plan -----------------------------------------------------------------------------

    @property
    def _plan(self) -> Path:
        return self.folder / "plan.json"

    def _write(self) -> None:
        plan = {}
        for name in self.members:
            folder = self.folder_of(name)
            folder.mkdir(exist_ok=True, mode=0o700)
            plan[name] = {
                "command": self._command(name),
                "environ": self.environ_of(name),
                "log": str(self.data_dir / f"{name}.log"),
            }
        self._plan.with_suffix(".new").write_text(json.dumps(plan))
        self._plan.with_suffix(".new").replace(self._plan)

    def _command(self, name: str) -> list[str]:
        if kind_of(name) != "etcd":
            return [sys.executable, "-P", "-m", f"services.{kind_of(name)}"]
        client, peer = f"http://{HOST}:{self.ports[name]}", f"http://{HOST}:{self.peer_ports[name]}"
        cluster = ",".join(f"{n}=http://{HOST}:{p}" for n, p in self.peer_ports.items())
        options = {
            "name": name, "data-dir": str(self.folder_of(name) / "data"),
            "listen-client-urls": client, "advertise-client-urls": client,
            "listen-peer-urls": peer, "initial-advertise-peer-urls": peer,
            "initial-cluster": cluster, "log-level": "error",
            "heartbeat-interval": "50", "election-timeout": "500",
        }  # fmt: skip
        arguments = [f"--{option}={value}" for option, value in options.items()]
        # One of several may not be the one that pip brings: its version may lose data.
        binary = str(ETCD) if self.shape.etcds == 1 else find_etcd(os.environ)
        return [sys.executable, "-I", "-S", str(up_exec.__file__), "{keeper}", binary, *arguments]

    def _environ(self, name: str) -> dict[str, str]:
        environ = base_environ()
        if kind_of(name) == "etcd":
            return {k: v for k, v in environ.items() if not k.startswith("ETCD_")}
        if (tree := self._trees.get(name)) is not None:
            folders = (tree, tree / "gen", tree / "sdk/python")
            environ["PYTHONPATH"] = os.pathsep.join(map(str, folders))
        kind = kind_of(name)
        others = tuple(f"ONWARD_{one.upper()}_" for one in _SERVICES if one != kind)
        given = {k: v for k, v in self._given.items() if not k.startswith(others)}
        own = {f"ONWARD_{kind.upper()}_{k}": v for k, v in self._own(name).items()}
        shared = {"ONWARD_SECRET": SECRET, "ONWARD_DIE_WITH_PARENT": "1",
                  "ONWARD_LOG_LEVEL": "info"}  # fmt: skip
        etcd = {"ONWARD_ETCD": self._reach_all(name, "etcd")} if kind != "notifier" else {}
        return environ | shared | etcd | own | given

    def _own(self, name: str) -> dict[str, str]:
        here, kept = f"{HOST}:{self.ports[name]}", {"DATA_DIR": str(self.folder_of(name))}
        if self._stores:
            servers = ",".join(self._reach(name, store) for store in self._stores)
            options = "target_session_attrs=read-write"
            kept = {"STORE": f"postgresql://postgres@{servers}/postgres?{options}"}
        match kind_of(name):
            case "edge":
                address = f"{HOST}:{self.http_ports[name]}"
                return {"ADDRESS": address, "GRPC_ADDRESS": here, "ANONYMOUS": "true"}
            case "coordinator":
                link = self.links.get(f"edge>{name}")
                advertised = {"ADVERTISE": link.address} if link else {}
                return {"NAME": name, "LISTEN": here} | kept | advertised
            case "presence":
                link = self.links.get(f"coordinator>{name}")
                advertised = {"ADVERTISE": link.address} if link else {}
                plugin = self._reach(name, "notifier-1")
                return {"NAME": name, "LISTEN": here, "PLUGINS": plugin} | kept | advertised
        return {"LISTEN": here}

    def _reach(self, name: str, other: str) -> str:
        """The address at which a member reaches another."""
        for link in (f"{name}>{other}", f"{name}>{kind_of(other)}", f"{kind_of(name)}>{other}"):
            if link in self.links:
                return self.links[link].address
        return f"{HOST}:{(self.ports | self._stores)[other]}"

    def _reach_all(self, name: str, kind: str) -> str:
        every = [one for one in self.members if kind_of(one) == kind]
        return ",".join(self._reach(name, one) for one in every)

    def _open(self, links: Links, proxied: Collection[str]) -> None:
        for link in proxied:
            _, _, other = link.partition(">")
            ports = self.ports | self._stores
            self.links[link] = links.open(f"{HOST}:{ports.get(other) or ports[f'{other}-1']}")

    def _draw(self) -> int:
        while True:
            port = random.SystemRandom().choice(_PORTS)
            if port in self._ports:
                continue
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError:
                    continue
            self._ports.add(port)
            return port


def kind_of(name: str) -> str:
    """The kind of a member."""
    return name.rpartition("-")[0] or name


def ready(url: str) -> bool:
    """Whether an edge serves."""
    return answers(f"{url}/readyz")


def answers(url: str) -> bool:
    """Whether a GET is answered with 200, within a second."""
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
