"""The real process with a real etcd: who owns, who serves, how it ends."""

import asyncio
import os
import signal
import subprocess
import sys
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
from services.chassis.errors import StoreFull
from services.chassis.etcd import Etcd
from services.presence.__main__ import _term
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

    async def serving(self) -> bool:
        address = self.directory.presence_address()
        return address is not None and await is_serving(address)


async def is_serving(address: str, service: str = _REPORTS) -> bool:
    """Whether it works; with an empty `service`, whether it is well, working or standing by."""
    channel = open_channel(address, SECRET)
    try:
        request = health_pb2.HealthCheckRequest(service=service)
        check = health_pb2_grpc.HealthStub(channel).Check(request)
        return (await check).status == health_pb2.HealthCheckResponse.SERVING
    except grpc.aio.AioRpcError:
        return False
    finally:
        await channel.close()


async def report(address: str, marks: int = 0) -> int:
    """Report the first entries of a partition, all of them marks; returns presence's cursor."""
    channel = open_channel(address, SECRET)
    try:
        request = presence_pb2.ReportRequest(log_id="log")
        part = request.partitions.add(partition=1, epoch=1)
        for pos in range(1, marks + 1):
            part.entries.add(pos=pos, mark=entry_pb2.Mark(edge_id=1, round=1, pos=pos))
        response = await presence_pb2_grpc.PresenceServiceStub(channel).Report(request)
        return response.cursors[0].pos
    finally:
        await channel.close()


def test_it_serves_when_it_owns_and_ends_in_peace(run, tmp_path, etcd_address):
    async def claim():
        watcher = await Watcher(etcd_address).start()
        with presence(environ(tmp_path, etcd_address)) as process:
            await until(watcher.serving, 20)
            assert await report(watcher.directory.presence_address()) == 0
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 10) == 0
            await until(lambda: not watcher.directory.presences, 2)
            assert watcher.directory.presence_owner is None
        await watcher.stop()

    run(claim())


def test_a_killed_one_comes_back_under_its_name_without_waiting(run, tmp_path, etcd_address):
    async def claim():
        watcher = await Watcher(etcd_address).start()
        env = environ(tmp_path, etcd_address, ONWARD_LEASE_TTL_S="60")
        with presence(env):
            await until(watcher.serving, 20)
            first = watcher.directory.presence_address()
        assert watcher.directory.presence_owner == "presence-1"
        with presence(env):
            await until(lambda: watcher.directory.presence_address() not in (None, first), 20)
            await until(watcher.serving, 10)
        await watcher.stop()

    run(claim())


def test_a_second_one_waits_and_takes_over(run, tmp_path, etcd_address):
    async def claim():
        watcher = await Watcher(etcd_address).start()
        other = {
            "ONWARD_PRESENCE_NAME": "presence-2",
            "ONWARD_PRESENCE_DATA_DIR": str(tmp_path / "other"),
        }
        with presence(environ(tmp_path, etcd_address)) as first:
            # The key alone may be that of a process which an earlier test killed.
            await until(watcher.serving, 20)
            assert watcher.directory.presence_owner == "presence-1"
            with presence(environ(tmp_path, etcd_address, **other)):
                await until(lambda: "presence-2" in watcher.directory.presences, 20)
                standby = watcher.directory.presences["presence-2"]
                await until(lambda: is_serving(standby, ""))
                assert not await is_serving(standby)
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await report(watcher.directory.presences["presence-2"])
                assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
                first.send_signal(signal.SIGKILL)
                await until(lambda: watcher.directory.presence_owner == "presence-2", 10)
                await until(watcher.serving, 5)
        await watcher.stop()

    run(claim())


def test_on_one_store_a_standby_goes_on_where_the_other_stands_still(
    run, tmp_path, etcd_address, presence_url
):
    shared = {"ONWARD_PRESENCE_STORE": presence_url}
    other = shared | {"ONWARD_PRESENCE_NAME": "presence-2"}

    async def claim():
        watcher = await Watcher(etcd_address).start()

        def works(name: str):
            async def look() -> bool:
                return watcher.directory.presence_owner == name and await watcher.serving()

            return look

        with presence(environ(tmp_path, etcd_address, **shared)) as first:
            await until(works("presence-1"), 20)
            first_address = watcher.directory.presences["presence-1"]
            assert await report(first_address, marks=3) == 3
            with presence(environ(tmp_path, etcd_address, **other)) as second:
                await until(lambda: "presence-2" in watcher.directory.presences, 20)
                first.send_signal(signal.SIGSTOP)
                await until(works("presence-2"), 10)
                # It has come as far as the other one came.
                assert await report(watcher.directory.presences["presence-2"]) == 3
                first.send_signal(signal.SIGCONT)
                await until(lambda: "presence-1" in watcher.directory.presences, 10)
                again = watcher.directory.presences["presence-1"]
                await until(lambda: is_serving(again, ""))
                assert not await is_serving(again)
                second.terminate()
                await until(works("presence-1"), 10)
                assert await report(again) == 3
        await watcher.stop()

    run(claim())


def test_one_that_slept_past_its_lease_serves_again_under_a_new_one(run, tmp_path, etcd_address):
    async def claim():
        watcher = await Watcher(etcd_address).start()
        with presence(environ(tmp_path, etcd_address)) as process:
            await until(watcher.serving, 20)
            process.send_signal(signal.SIGSTOP)
            await until(lambda: watcher.directory.presence_owner is None, 15)
            process.send_signal(signal.SIGCONT)
            await until(watcher.serving, 10)
        await watcher.stop()

    run(claim())


class FullOnce:
    """A store whose disk is too full for the first claim."""

    def __init__(self) -> None:
        self.claims = 0

    async def claim(self, epoch: int, partitions: int) -> None:
        self.claims += 1
        if self.claims == 1:
            raise StoreFull("the disk is full")

    async def claim_ended(self) -> None:
        await asyncio.Event().wait()


class FakeOwnership:
    """A member that owns at once. It is its own lease."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.revoked = 0

    async def join(self):
        return self

    async def claim(self, lease, stand_by) -> int:
        return 5

    async def keep(self) -> None:
        await asyncio.Event().wait()

    async def revoke(self) -> None:
        self.revoked += 1


class FakeWork:
    """Server and workers that end the test once work begins."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.stop = stop

    async def set_serving(self, serving: bool, standing_by: bool = False) -> None:
        pass

    async def run(self) -> None:
        self.stop.set()
        await asyncio.Event().wait()

    async def drain(self) -> None:
        pass


def test_a_disk_too_full_to_begin_costs_a_term_and_not_the_process(run):
    async def claim():
        stop = asyncio.Event()
        ownership, store, work = FakeOwnership(), FullOnce(), FakeWork(stop)
        terms = 0
        while not stop.is_set():
            terms += 1
            await _term(ownership, store, PARTITIONS, work, work, stop)
        assert (terms, store.claims, ownership.revoked) == (2, 2, 2)

    run(claim())


def test_it_stops_also_while_etcd_is_away(run):
    async def claim():
        class Waiting(FakeOwnership):
            async def join(self):
                await asyncio.Event().wait()

        stop = asyncio.Event()
        work = FakeWork(stop)
        term = asyncio.create_task(_term(Waiting(), FullOnce(), PARTITIONS, work, work, stop))
        await asyncio.sleep(0)
        stop.set()
        await asyncio.wait_for(term, 2)

    run(claim())


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
