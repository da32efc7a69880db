"""A small cluster of real processes for tests of the edge: coordinators and edges over one etcd."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.processes import alive, descendants
from tests.real_etcd import running
from tests.waiting import until

ROOT = Path(__file__).parents[2]
SECRET = "a secret of sixteen characters"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Edge:
    """A process of an edge, and where clients find it."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=2) as answer:
            return json.loads(answer.read())

    def post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.loads(answer.read())

    def answers(self, path: str) -> bool:
        """Whether it does, and well."""
        try:
            self.get(path)
        except OSError:
            return False
        return True

    async def ready(self) -> None:
        await until(lambda: self.answers("/readyz"), 50, every_s=0.05)

    async def ended(self, deadline_s: float = 15) -> int:
        """Its exit code."""
        return await asyncio.to_thread(self.process.wait, deadline_s)


class Cluster:
    """What runs over one etcd; all of it ends with the test."""

    def __init__(self, etcd: str, data: Path) -> None:
        self.data = data
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
            "ONWARD_ETCD": etcd,
            "ONWARD_SECRET": SECRET,
        }
        self.children: list[subprocess.Popen[bytes]] = []

    def start(self, service: str, **variables: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-m", f"services.{service}"],
            env=self.environ | variables,
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        self.children.append(child)
        return child

    def coordinator(self, name: str = "c1", **variables: str) -> subprocess.Popen[bytes]:
        return self.start(
            "coordinator",
            ONWARD_COORDINATOR_NAME=name,
            ONWARD_COORDINATOR_DATA_DIR=str(self.data / name),
            ONWARD_COORDINATOR_PARTITIONS="8",
            **variables,
        )

    def edge(self, **variables: str) -> Edge:
        port = free_port()
        own = {"ONWARD_EDGE_ADDRESS": f"127.0.0.1:{port}", "ONWARD_EDGE_ANONYMOUS": "true"}
        return Edge(self.start("edge", **own | variables), port)

    def end(self) -> None:
        left = [pid for child in self.children for pid in descendants(child.pid)]
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        for pid in left:
            if alive(pid):
                os.kill(pid, 9)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster without members, whose data lies below `folder`."""
    with running(folder) as etcd:
        made = Cluster(etcd.address, folder)
        try:
            yield made
        finally:
            made.end()


@dataclass
class Raw:
    """A client that speaks the protocol by itself: one subject, explicit acknowledgements.

    It goes on from the last message that it has, and takes no notice of `goingAway`.
    """

    user: str
    subject: str
    seqs: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    frames: list[dict[str, Any]] = field(default_factory=list)  # all others
    generation: str = "0"
    recovered: bool | None = None
    socket: ClientConnection | None = None

    async def connect(self, edge: Edge) -> None:
        self.socket = await connect(
            f"ws://127.0.0.1:{edge.port}/v1/connect?user={self.user}",
            subprotocols=[Subprotocol("onward.v1.json")],
            compression=None,
            close_timeout=1,
        )
        start = {"afterSeq": str(self.seqs[-1])} if self.seqs else {}
        connect_frame = {
            "clientId": f"{self.user}-1",
            "acknowledges": "EXPLICIT",
            "lastGeneration": self.generation,
            "subscriptions": {"list": [{"subject": self.subject, **start}]},
        }
        await self.socket.send(json.dumps({"id": "c", "connect": connect_frame}))
        while "connected" not in (frame := await self.read()):
            assert "error" not in frame, frame
        self.generation = frame["connected"]["generation"]
        self.recovered = frame["connected"]["subscriptions"][0].get("recovered")

    async def read(self) -> dict[str, Any]:
        """The next frame; messages are noted, and acknowledged."""
        assert self.socket is not None
        frame: dict[str, Any] = json.loads(await self.socket.recv())
        if "message" in frame:
            self.seqs.append(int(frame["message"]["seq"]))
            self.kinds.append(frame["message"]["kind"])
            position = {"subject": self.subject, "seq": frame["message"]["seq"]}
            await self.socket.send(json.dumps({"ack": {"positions": [position]}}))
        else:
            self.frames.append(frame)
        return frame

    async def follow(self) -> int:
        """Reads until the connection ends; returns its close code."""
        assert self.socket is not None
        try:
            while True:
                await self.read()
        except ConnectionClosed:
            return self.socket.close_code or 0

    async def read_up_to(self, seq: int) -> None:
        while not self.seqs or self.seqs[-1] < seq:
            await asyncio.wait_for(self.read(), 10)

    def cut(self) -> None:
        """Ends the connection without a word."""
        assert self.socket is not None
        self.socket.transport.abort()
