"""Workers as processes: they share an address, die alone, and end together."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from services.chassis.settings import load
from services.edge.settings import Settings
from services.edge.worker_processes import worker_count, worker_environ
from tests.edge.cluster import ROOT, SECRET, Cluster, Edge, Raw, cluster
from tests.path.stack import free_row
from tests.processes import alive, descendants
from tests.waiting import until

Run = Callable[[Any], Any]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("workers")) as made:
        made.coordinator()
        yield made


def settings(**variables: str) -> Settings:
    return load(Settings, "edge", {"ONWARD_SECRET": SECRET} | variables)


def refuses(edge: Edge) -> bool:
    """Whether nobody listens there. What is just ending still resets connections."""
    try:
        edge.get("/healthz")
    except OSError as error:
        return "refused" in str(error)
    return False


def ends_with(**variables: str) -> tuple[int, str]:
    """How a parent of two workers ends that cannot work: its exit code, and its last words."""
    done = subprocess.run(
        [sys.executable, "-m", "services.edge"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
            "ONWARD_SECRET": SECRET,
            "ONWARD_ETCD": "127.0.0.1:1",
            "ONWARD_EDGE_WORKERS": "2",
            "ONWARD_EDGE_DRAIN_S": "0",
        }
        | variables,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


def test_a_worker_that_cannot_start_as_it_is_set_up_ends_all_with_its_sentence() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        first = other.getsockname()[1] - 1  # the second worker's is taken
        code, said = ends_with(
            ONWARD_EDGE_ADDRESS="127.0.0.1:0", ONWARD_EDGE_GRPC_ADDRESS=f"127.0.0.1:{first}"
        )
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{first + 1}" in said


def test_each_worker_has_ports_of_its_own_and_the_address_of_all() -> None:
    drawn = worker_environ(settings(), 1, "127.0.0.1:8080", {"A": "b"})
    assert drawn["A"] == "b"
    assert "ONWARD_EDGE_GRPC_ADDRESS" not in drawn and "ONWARD_EDGE_METRICS_PORT" not in drawn
    fixed = settings(ONWARD_EDGE_GRPC_ADDRESS="[::1]:7000", ONWARD_EDGE_METRICS_PORT="9100")
    for number in (0, 1):
        environ = worker_environ(fixed, number, "127.0.0.1:8080", {})
        worker = load(Settings, "edge", environ | {"ONWARD_SECRET": SECRET})
        assert worker.grpc_address == f"[::1]:{7000 + number}"
        assert worker.metrics_port == 9100 + number
        assert (worker.address, worker.workers) == ("127.0.0.1:8080", 1)
        assert worker.shared_address


def test_as_many_workers_as_cores_are_asked_for_by_0() -> None:
    assert worker_count(settings(ONWARD_EDGE_WORKERS="0")) == len(os.sched_getaffinity(0))
    assert worker_count(settings(ONWARD_EDGE_WORKERS="3")) == 3


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read(), "ascii")


def test_workers_share_an_address_and_each_is_an_edge_of_its_own(
    run: Run, members: Cluster
) -> None:
    async def main() -> None:
        base = free_row(2)
        edge = members.edge(
            ONWARD_EDGE_WORKERS="2", ONWARD_EDGE_METRICS_PORT=str(base), ONWARD_EDGE_DRAIN_S="2"
        )
        await edge.ready()

        def edges() -> list[str]:
            """The ids of those that answer."""
            shown = edge.get("/v1/status")["edges"]
            assert {one["clientAddress"] for one in shown} <= {f"127.0.0.1:{edge.port}"}
            assert len({one["address"] for one in shown}) == len(shown)
            return [one["name"] for one in shown if one["answered"]]

        async def both() -> bool:
            return len(await asyncio.to_thread(edges)) == 2

        await until(both, 30, every_s=0.1)
        # The kernel deals connections out by chance: twenty at one of two is one in a million.
        clients = [Raw(f"w{number}", "/workers") for number in range(20)]
        for one in clients:
            await one.connect(edge)
        at = {one.user: one.frames[-1]["connected"]["edgeId"] for one in clients}
        assert set(at.values()) == set(edges())
        # What is one process's own is told at its own port alone.
        with pytest.raises(urllib.error.HTTPError, match="404"):
            edge.get("/metrics")
        sessions = [f"onward_edge_sessions {count}.0" for count in range(1, 20)]
        for number in (0, 1):
            assert any(one in metrics(base + number).splitlines() for one in sessions)

        edge.post("/v1/publish?user=bob", {"subject": "/workers", "text": "x"})
        await asyncio.gather(*(one.read_up_to(1) for one in clients))

        # One dies: its clients go on at the other, or at the one that takes its place.
        victim = descendants(edge.process.pid)[0]
        os.kill(victim, signal.SIGKILL)
        await until(lambda: victim not in descendants(edge.process.pid))
        ends = {one.user: asyncio.create_task(one.follow()) for one in clients}
        await asyncio.wait(ends.values(), return_when=asyncio.FIRST_COMPLETED)
        dead = {at[user] for user, end in ends.items() if end.done()}
        lost = [one for one in clients if {at[one.user]} == dead]
        for one in lost:
            assert await ends[one.user] == 1006
            await one.connect(edge)
            ends[one.user] = asyncio.create_task(one.follow())
        edge.post("/v1/publish?user=bob", {"subject": "/workers", "text": "y"})
        await until(lambda: all(one.seqs == [1, 2] for one in clients))

        await until(lambda: len(descendants(edge.process.pid)) == 2)
        edge.process.terminate()
        assert await edge.ended(30) == 0
        assert {await end for end in ends.values()} == {4000}
        await until(lambda: refuses(edge))

    run(main())


def test_workers_die_with_their_parent(run: Run, members: Cluster) -> None:
    async def main() -> None:
        edge = members.edge(ONWARD_EDGE_WORKERS="2")
        await until(lambda: edge.answers("/healthz"), 50)
        workers = descendants(edge.process.pid)
        assert len(workers) == 2
        edge.process.kill()
        await until(lambda: not any(alive(worker) for worker in workers))
        await until(lambda: refuses(edge))

    run(main())
