"""The coordinator as a process: starting, stopping, being killed, and what leaves it when."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis.channel import open_channel
from services.chassis.cluster import Directory
from services.chassis.etcd import Etcd
from services.chassis.subjects import partition_of
from tests.coordinator.harness import PARTITIONS, SECRET, Edge, Run, publish
from tests.processes import slowness
from tests.real_etcd import EtcdServer
from tests.waiting import until

ROOT = Path(__file__).parents[2]


class Process:
    """`python -m services.coordinator` on a port of its own."""

    def __init__(self, etcd: str, data: Path, **variables: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
            "ONWARD_ETCD": etcd,
            "ONWARD_SECRET": SECRET,
            "ONWARD_COORDINATOR_LISTEN": self.address,
            "ONWARD_COORDINATOR_NAME": "c1",
            "ONWARD_COORDINATOR_DATA_DIR": str(data),
            "ONWARD_COORDINATOR_PARTITIONS": str(PARTITIONS),
            **variables,
        }
        self._children: list[subprocess.Popen[str]] = []

    def start(self, *wrapper: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [*wrapper, sys.executable, "-m", "services.coordinator"],
            env=self.environ,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._children.append(child)
        return child

    def end(self) -> None:
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.communicate()

    async def serving(self) -> None:
        """Returns once it reports SERVING."""
        channel = open_channel(self.address, SECRET)
        stub = health_pb2_grpc.HealthStub(channel)

        async def asked() -> bool:
            try:
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.aio.AioRpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

        await until(asked, 15, every_s=0.02)
        await channel.close()


@asynccontextmanager
async def process(etcd: EtcdServer, data: Path, **variables: str) -> AsyncIterator[Process]:
    it = Process(etcd.address, data, **variables)
    try:
        yield it
    finally:
        it.end()


async def epoch_at(etcd: EtcdServer, partition: int) -> int:
    client = Etcd(etcd.address)
    directory = Directory(client)
    directory.apply(await client.range("/onward/"))
    await client.close()
    owner = directory.owner(partition)
    assert owner is not None
    return owner.epoch


def failing(etcd: str, data: Path, **variables: str) -> tuple[int, str]:
    it = Process(etcd, data, **variables)
    child = it.start()
    try:
        _, said = child.communicate(timeout=20)
    finally:
        it.end()
    return child.returncode, said


def test_a_wrong_setting_stops_the_start_with_one_sentence(tmp_path: Path) -> None:
    code, said = failing("x", tmp_path, ONWARD_COORDINATOR_PARTITIONS="many")
    assert code == 2
    assert said.splitlines() == [
        "ONWARD_COORDINATOR_PARTITIONS is 'many'; set it to a whole number"
    ]


def test_an_unusable_data_directory_stops_the_start_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = failing("127.0.0.1:1", tmp_path / "file")
    assert code == 2
    (line,) = said.splitlines()
    assert str(tmp_path / "file") in line and "ONWARD_COORDINATOR_DATA_DIR" in line


def test_a_busy_port_stops_the_start_with_one_sentence(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        code, said = failing(etcd.address, tmp_path, ONWARD_COORDINATOR_LISTEN=address)
    assert code == 2
    assert said.splitlines() == [
        f"cannot listen on {address}; is another process there? choose another"
    ]


def test_sigterm_drains_and_leaves_nothing_in_etcd(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with process(etcd, tmp_path) as it:
            child = it.start()
            await it.serving()
            began = time.monotonic()
            child.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(child.wait, 10) == 0
            assert time.monotonic() - began < 3
            client = Etcd(etcd.address)
            assert not (await client.range("/onward/owners/")).keys
            assert not (await client.range("/onward/coordinators/")).keys
            await client.close()

    run(body())


def test_a_killed_coordinator_is_back_under_its_name_within_two_seconds_with_everything(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        # A lease far longer than the bound: only revoking it lets the restart be quick.
        async with process(etcd, tmp_path, ONWARD_LEASE_TTL_S="60") as it:
            child = it.start()
            await it.serving()
            partition = partition_of("/a", PARTITIONS)
            before = await epoch_at(etcd, partition)
            one = Edge(it.address, 7)
            await one.open()
            append = one.append(publish=publish("/a", "x", "p1"))
            await one.ask(before, partition, appends=[append])
            assert (await one.answers(append.request))[0].accepted.seq == 1
            child.kill()
            await one.ended.wait()
            await one.close()
            child.wait()
            began = time.monotonic()
            it.start()
            await it.serving()
            took = time.monotonic() - began
            after = await epoch_at(etcd, partition)
            assert after > before
            two = Edge(it.address, 7)
            await two.open()
            again, new = (two.append(publish=publish("/a", t, t)) for t in ("p1", "p2"))
            again.publish.CopyFrom(publish("/a", "x", "p1"))
            await two.ask(after, partition, appends=[again, new])
            first, second = await two.answers(again.request, new.request)
            assert (first.accepted.seq, first.accepted.duplicate) == (1, True)
            assert second.accepted.seq == 2
            await two.close()
            assert took < 2.0 * slowness(), f"{took:.2f} s"

    run(body())


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed here")
def test_no_acceptance_leaves_the_process_before_its_fdatasync(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    """In a system call trace: between a publish's bytes written to the log and the next bytes of
    the marker of its answer on a socket, the log was synced."""

    async def body() -> None:
        trace = tmp_path / "trace"
        calls = "trace=openat,close,pwrite64,write,fdatasync,fsync,sendmsg,sendto,writev"
        async with process(etcd, tmp_path / "data") as it:
            # With -D the traced process is our child, and strace its child.
            child = it.start("strace", "-D", "-f", "-s", "65536", "-e", calls, "-o", str(trace))
            await it.serving()
            partition = partition_of("/a", PARTITIONS)
            epoch = await epoch_at(etcd, partition)
            one = Edge(it.address, 7)
            await one.open()
            for n in range(20):
                append = one.append(publish=publish("/a", f"content-{n:04}-", f"p{n}"))
                append.request = marker(n)
                await one.ask(epoch, partition, appends=[append])
                await one.answers(append.request)
            await one.close()
            child.send_signal(signal.SIGTERM)
            await asyncio.to_thread(child.wait, 10)
            await until(lambda: "+++ exited with 0 +++" in last_line(trace))
        check_trace(trace.read_text(errors="replace"))

    run(body())


def last_line(path: Path) -> str:
    return path.read_text(errors="replace").splitlines()[-1]


def marker(n: int) -> int:
    """A request number whose varint is eight printable bytes and an end, found in a trace."""
    text = b"ANSW%04d" % n
    return sum((byte & 0x7F) << (7 * i) for i, byte in enumerate(text))


def check_trace(trace: str) -> None:
    """Each answer is sent after a sync of the log that follows the writing of its content."""
    needles = {n: needle(marker(n)) for n in range(20)}
    written: dict[int, int] = {}
    synced: list[int] = []
    sent: dict[int, int] = {}
    logs: set[str] = set()
    for number, line in enumerate(trace.splitlines()):
        opened = re.search(r'openat\(.*log\.sqlite3-wal".*\) = (\d+)', line)
        if opened:
            logs.add(opened[1])
        call = re.search(r"(\w+)\((\d+)", line)
        if not call:
            if "resumed" in line and "sync" in line:
                synced.append(number)
            continue
        name, descriptor = call[1], call[2]
        if name in ("fdatasync", "fsync") and descriptor in logs and "unfinished" not in line:
            synced.append(number)
        elif name == "pwrite64" and descriptor in logs:
            for n in needles:
                if f"content-{n:04}-" in line:
                    written.setdefault(n, number)
        elif name in ("sendmsg", "sendto", "write", "writev"):
            # gRPC cuts its bytes into vectors wherever it likes.
            bases = re.findall(r'iov_base="((?:[^"\\]|\\.)*)"', line)
            for n, text in needles.items():
                if text in ("".join(bases) or line):
                    sent.setdefault(n, number)
    assert len(written) == 20, f"the log's writes are not all in the trace: {len(written)}"
    assert len(sent) == 20, f"the answers are not all in the trace: {len(sent)}"
    for n in needles:
        between = [at for at in synced if written[n] < at < sent[n]]
        assert between, f"answer {n} left at line {sent[n]}, written at {written[n]}"


def needle(number: int) -> str:
    """How strace prints the varint of a number: octal escapes, shortest form."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return "".join(f"\\{byte:o}" if byte > 0x7E or byte < 0x20 else chr(byte) for byte in out)
