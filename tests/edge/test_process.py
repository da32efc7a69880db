"""The edge as a process, with a real coordinator and a real etcd beside it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from onward.edge.v1 import edge_pb2, edge_pb2_grpc
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from services.chassis.channel import open_channel
from services.chassis.cluster import Directory
from services.chassis.etcd import Etcd
from tests.real_etcd import running
from tests.waiting import until

ROOT = Path(__file__).parents[2]
SECRET = "a secret of sixteen characters"
Run = Callable[[Any], Any]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Pair:
    """One edge and one coordinator."""

    def __init__(self, etcd: str, data: Path) -> None:
        self.port = free_port()
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
            "ONWARD_ETCD": etcd,
            "ONWARD_SECRET": SECRET,
        }
        self._data = data
        self._children: list[subprocess.Popen[bytes]] = []
        self.coordinator = self.start_coordinator()
        self.edge = self._start(
            "edge",
            ONWARD_EDGE_ADDRESS=f"127.0.0.1:{self.port}",
            ONWARD_EDGE_ANONYMOUS="true",
            ONWARD_EDGE_DRAIN_S="0.5",
            ONWARD_LEASE_TTL_S="2",
        )

    def start_coordinator(self) -> subprocess.Popen[bytes]:
        self.coordinator = self._start(
            "coordinator",
            ONWARD_COORDINATOR_NAME="c1",
            ONWARD_COORDINATOR_DATA_DIR=str(self._data),
            ONWARD_COORDINATOR_PARTITIONS="8",
        )
        return self.coordinator

    def _start(self, service: str, **variables: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-m", f"services.{service}"],
            env=self.environ | variables,
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        self._children.append(child)
        return child

    def end(self) -> None:
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.wait()

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer:
            return bytes(answer.read())

    async def ready(self) -> None:
        def asked() -> bool:
            try:
                self.get("/readyz")
            except OSError:
                return False
            return True

        await until(asked, 20, every_s=0.05)


@contextmanager
def pair(tmp_path: Path) -> Iterator[Pair]:
    with running(tmp_path) as etcd:
        made = Pair(etcd.address, tmp_path / "log")
        try:
            yield made
        finally:
            made.end()


async def opened(edge: Pair, user: str, **fields: Any) -> tuple[ClientConnection, Any]:
    """A session of `user`, and what `connected` says."""
    client = await connect(
        f"ws://127.0.0.1:{edge.port}/v1/connect?user={user}",
        subprotocols=[Subprotocol("onward.v1.json")],
        compression=None,
    )
    frame = {"clientId": f"{user}-1", "acknowledges": "EXPLICIT"} | fields
    await client.send(json.dumps({"id": "c", "connect": frame}))
    return client, json.loads(await client.recv())["connected"]


async def status_by_etcd(edge: Pair) -> edge_pb2.GetStatusResponse:
    """What the edge tells at the gRPC address that it has registered."""
    etcd = Etcd(edge.environ["ONWARD_ETCD"])
    directory = Directory(etcd)
    following = asyncio.create_task(directory.run())
    await until(lambda: directory.edge_servers)
    [address] = directory.edge_servers.values()
    async with open_channel(address, SECRET) as channel:
        stub = edge_pb2_grpc.EdgeServiceStub(channel)
        answer: edge_pb2.GetStatusResponse = await stub.GetStatus(
            edge_pb2.GetStatusRequest(), timeout=5
        )
    following.cancel()
    await etcd.close()
    return answer


def test_a_coordinator_killed_under_load_costs_no_message_no_order_and_no_error(
    run: Run, tmp_path: Path
) -> None:
    count = 150

    async def main(edge: Pair) -> None:
        await edge.ready()
        ann, _ = await opened(edge, "ann", subscriptions={"list": [{"subject": "/k"}]})
        bob, _ = await opened(edge, "bob", subscriptions={"list": []})
        for number in range(count):
            publish = {"subject": "/k", "text": str(number)}
            await bob.send(json.dumps({"id": str(number), "publish": publish}))
            await asyncio.sleep(0.005)
            if number == count // 3:
                edge.coordinator.kill()
                edge.coordinator.wait()
                edge.start_coordinator()
        answers = [json.loads(await bob.recv()) for _ in range(count)]
        assert [one["id"] for one in answers] == [str(number) for number in range(count)]
        assert [one["published"]["seq"] for one in answers] == [
            str(number) for number in range(1, count + 1)
        ]
        messages = [json.loads(await ann.recv())["message"] for _ in range(count)]
        assert [one["text"] for one in messages] == [str(number) for number in range(count)]
        assert [int(one["seq"]) for one in messages] == list(range(1, count + 1))
        # A message whose answer was lost is accepted again, and delivered once.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ann.recv(), 0.1)
        await ann.close()
        await bob.close()

    with pair(tmp_path) as edge:
        run(main(edge))


def test_a_drained_edge_says_goodbye_and_its_sessions_can_return(run: Run, tmp_path: Path) -> None:
    async def main(edge: Pair) -> None:
        await edge.ready()
        ann, first = await opened(edge, "ann", subscriptions={"list": [{"subject": "/k"}]})
        again, second = await opened(edge, "ann", lastGeneration=first["generation"])
        with pytest.raises(ConnectionClosed):
            await ann.recv()
        assert ann.close_code == 4502
        assert second["generation"] == "2"
        assert [one["subject"] for one in second["subscriptions"]] == ["/k"]
        status = await status_by_etcd(edge)
        assert str(status.edge_id) == second["edgeId"]
        assert (status.sockets, status.subscriptions) == (1, 1)
        assert [(link.coordinator, link.up) for link in status.links] == [("c1", True)]
        assert list(status.alarms) == []
        edge.edge.send_signal(signal.SIGTERM)
        assert "goingAway" in json.loads(await again.recv())
        with pytest.raises(ConnectionClosed):
            await again.recv()
        assert again.close_code == 4000
        assert await asyncio.to_thread(edge.edge.wait, 10) == 0

    with pair(tmp_path) as edge:
        run(main(edge))


def test_an_edge_frozen_past_its_lease_is_another_edge_afterwards(run: Run, tmp_path: Path) -> None:
    async def main(edge: Pair) -> None:
        await edge.ready()
        ann, first = await opened(edge, "ann", subscriptions={"list": [{"subject": "/k"}]})
        edge.edge.send_signal(signal.SIGSTOP)
        await asyncio.sleep(2.2)  # the lease's time, which nobody refreshes
        edge.edge.send_signal(signal.SIGCONT)
        with pytest.raises(ConnectionClosed):
            await ann.recv()
        assert ann.close_code == 4004
        await edge.ready()
        again, second = await opened(edge, "ann", lastGeneration=first["generation"])
        assert second["edgeId"] != first["edgeId"]
        assert [one["subject"] for one in second["subscriptions"]] == ["/k"]
        await again.close()

    with pair(tmp_path) as edge:
        run(main(edge))
