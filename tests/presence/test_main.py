"""The real process with a real etcd: who owns, who serves, how it ends."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Collection
from contextlib import contextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onward.presence.v1 import presence_pb2, presence_pb2_grpc
from onward.types.v1 import entry_pb2

from services.chassis.channel import open_channel
from services.chassis.cluster import Directory, freeze_partitions
from services.chassis.etcd import Etcd
from tests.presence.stage import PARTITIONS, SECRET
from tests.real_etcd import running
from tests.waiting import until

ROOT = Path(__file__).parents[2]
_REPORTS = "onward.presence.v1.PresenceService"


@pytest.fixture(scope="module")
def etcd_address(tmp_path_factory):
    with running(tmp_path_factory.mktemp("etcd")) as server:
        yield server.address


def environ(tmp_path, etcd: str, **variables: str) -> dict[str, str]:
    own = {
        "ONWARD_ETCD": etcd,
        "ONWARD_SECRET": SECRET,
        "ONWARD_LEASE_TTL_S": "3",
        "ONWARD_PRESENCE_DATA_DIR": str(tmp_path / "data"),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
        "PATH": os.environ["PATH"],
    }
    return own | variables


@contextmanager
def presence(env: dict[str, str]):
    process = subprocess.Popen(
        [sys.executable, "-m", "services.presence"],
        cwd=ROOT,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


class Watcher:
    """The directory, as everybody else sees it."""

    def __init__(self, address: str) -> None:
        self.etcd = Etcd(address)
        self.directory = Directory(self.etcd)

    async def start(self) -> "Watcher":
        await freeze_partitions(self.etcd, PARTITIONS)
        self._running = asyncio.create_task(self.directory.run())
        return self

    async def stop(self) -> None:
        self._running.cancel()
        await self.etcd.close()

    def of(self, name: str) -> set[int]:
        """The partitions that a member owns."""
        return {p for p, owner in self.directory.presence_owners.items() if owner.name == name}

    def serves(self, name: str, partitions: Collection[int] = range(PARTITIONS)):
        """Whether a member owns all of these and is ready, as a condition."""

        async def look() -> bool:
            if not self.of(name) >= set(partitions):
                return False
            return await is_serving(self.directory.presences[name])

        return look


async def is_serving(address: str) -> bool:
    """Whether it works."""
    channel = open_channel(address, SECRET)
    try:
        request = health_pb2.HealthCheckRequest(service=_REPORTS)
        check = health_pb2_grpc.HealthStub(channel).Check(request)
        return (await check).status == health_pb2.HealthCheckResponse.SERVING
    except grpc.aio.AioRpcError:
        return False
    finally:
        await channel.close()


async def report(address: str, partition: int, marks: int = 0) -> int | None:
    """Report the first entries of a partition, all of them marks; returns presence's cursor, None
    if it tells none."""
    channel = open_channel(address, SECRET)
    try:
        request = presence_pb2.ReportRequest(log_id="log")
        part = request.partitions.add(partition=partition, epoch=1)
        for pos in range(1, marks + 1):
            part.entries.add(pos=pos, mark=entry_pb2.Mark(edge_id=1, round=1, pos=pos))
        response = await presence_pb2_grpc.PresenceServiceStub(channel).Report(request)
        return response.cursors[0].pos if response.cursors else None
    finally:
        await channel.close()


def test_it_serves_when_it_owns_and_ends_in_peace(run, tmp_path, etcd_address):
    async def claim():
        watcher = await Watcher(etcd_address).start()
        with presence(environ(tmp_path, etcd_address)) as process:
            await until(watcher.serves("presence-1"), 20)
            assert await report(watcher.directory.presences["presence-1"], 1) == 0
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 10) == 0
            await until(lambda: not watcher.directory.presences, 2)
            assert not watcher.directory.presence_claims
        await watcher.stop()

    run(claim())


def test_a_killed_one_comes_back_under_its_name_without_waiting(run, tmp_path, etcd_address):
    async def claim():
        watcher = await Watcher(etcd_address).start()
        env = environ(tmp_path, etcd_address, ONWARD_LEASE_TTL_S="60")
        with presence(env):
            await until(watcher.serves("presence-1"), 20)
            first = watcher.directory.presences["presence-1"]
        assert watcher.of("presence-1")
        with presence(env):
            await until(lambda: watcher.directory.presences.get("presence-1", first) != first, 20)
            await until(watcher.serves("presence-1"), 10)
        await watcher.stop()

    run(claim())


def test_two_on_one_store_share_the_partitions_and_each_takes_only_its_own(
    run, tmp_path, etcd_address, presence_url
):
    shared = {"ONWARD_PRESENCE_STORE": presence_url}
    other = shared | {"ONWARD_PRESENCE_NAME": "presence-2"}

    async def claim():
        watcher = await Watcher(etcd_address).start()
        everything = set(range(PARTITIONS))

        def shares() -> bool:
            first, second = watcher.of("presence-1"), watcher.of("presence-2")
            return bool(first and second) and first | second == everything

        with presence(environ(tmp_path, etcd_address, **shared)) as first:
            await until(watcher.serves("presence-1"), 20)
            for partition in everything:
                address = watcher.directory.presences["presence-1"]
                assert await report(address, partition, marks=3) == 3
            with presence(environ(tmp_path, etcd_address, **other)) as second:
                await until(shares, 20)
                for name in ("presence-1", "presence-2"):
                    address = watcher.directory.presences[name]
                    for partition in everything:
                        # It has come as far as the other one came.
                        told = 3 if partition in watcher.of(name) else None
                        assert await report(address, partition) == told
                first.send_signal(signal.SIGSTOP)
                await until(watcher.serves("presence-2"), 10)
                first.send_signal(signal.SIGCONT)
                await until(shares, 20)
                assert first.poll() is None
                second.terminate()
                await until(watcher.serves("presence-1"), 10)
                assert await asyncio.to_thread(second.wait, 10) == 0
        await watcher.stop()

    run(claim())


def test_one_that_slept_past_its_lease_serves_again_under_a_new_one(run, tmp_path, etcd_address):
    async def claim():
        watcher = await Watcher(etcd_address).start()
        with presence(environ(tmp_path, etcd_address)) as process:
            await until(watcher.serves("presence-1"), 20)
            process.send_signal(signal.SIGSTOP)
            await until(lambda: not watcher.directory.presence_claims, 15)
            process.send_signal(signal.SIGCONT)
            await until(watcher.serves("presence-1"), 10)
        await watcher.stop()

    run(claim())


def test_it_stops_also_while_etcd_is_away(tmp_path):
    with presence(environ(tmp_path, "127.0.0.1:1", ONWARD_LOG_LEVEL="info")) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "waiting_for_partitions" in line:
                break
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"ONWARD_PRESENCE_GRACE_S": "soon"}, "ONWARD_PRESENCE_GRACE_S"),
        ({"ONWARD_PRESENCE_GRACES": "1"}, "ONWARD_PRESENCE_GRACES"),
        # A time that the contract with plugins cannot tell.
        ({"ONWARD_PRESENCE_EXPIRY_S": "1e12"}, "ONWARD_PRESENCE_EXPIRY_S"),
        ({"ONWARD_PRESENCE_DATA_DIR": "/dev/null/x"}, "ONWARD_PRESENCE_DATA_DIR"),
    ],
)
def test_a_wrong_setting_is_one_sentence_and_code_2(tmp_path, variables, sentence):
    with presence(environ(tmp_path, "127.0.0.1:1", **variables)) as process:
        assert process.wait(20) == 2
        assert process.stderr is not None
        [line] = process.stderr.read().strip().splitlines()
        assert sentence in line
