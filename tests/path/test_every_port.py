"""No gRPC port of any service serves a stranger, whatever is called: the real processes, each
method of each service on each port, once with the shared secret and once with mutual TLS."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from onward.coordinator.v1 import coordinator_pb2
from onward.edge.v1 import edge_pb2
from onward.notifier.v1 import notifier_pb2
from onward.presence.v1 import presence_pb2

from services.chassis.channel import credentials, open_channel
from services.chassis.tls import Certificates, Trust
from tests.certificates import Authority
from tests.path.stack import free_port
from tests.real_etcd import running
from tests.waiting import until, wait_for

ROOT = Path(__file__).parents[2]
SECRET = "a secret of sixteen or more"
PORTS = ("edge", "coordinator", "presence", "notifier")
OURS = {
    "edge": edge_pb2.DESCRIPTOR,
    "coordinator": coordinator_pb2.DESCRIPTOR,
    "presence": presence_pb2.DESCRIPTOR,
    "notifier": notifier_pb2.DESCRIPTOR,
}
ON_EVERY_PORT = (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
Status = grpc.StatusCode


class Cluster:
    """One process of each service, and what each must be shown."""

    def __init__(self, directory: Path, etcd: str, kind: str) -> None:
        self.kind = kind
        self.stranger = Trust("another secret of sixteen")
        self.ours = Trust(SECRET)
        self.environ: dict[str, str] = {"ONWARD_SECRET": SECRET}
        if kind == "tls":
            authority = Authority(directory / "certificates")
            stranger = Authority(directory / "strangers").sign()
            self.environ = {}
            for service in PORTS:
                self.environ |= authority.sign(service).environ(service)
            self.ours = Trust("", Certificates(authority.sign("test").environ("edge")))
            self.stranger = Trust(SECRET, Certificates(stranger.environ("edge")))
            self.ca = authority.file.read_bytes()
        self.port = {service: free_port() for service in (*PORTS, "http")}
        at = {service: f"127.0.0.1:{port}" for service, port in self.port.items()}
        self.environ |= {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
            "ONWARD_ETCD": etcd,
            "ONWARD_EDGE_ADDRESS": at["http"],
            "ONWARD_EDGE_ANONYMOUS": "true",
            "ONWARD_EDGE_GRPC_ADDRESS": at["edge"],
            "ONWARD_COORDINATOR_LISTEN": at["coordinator"],
            "ONWARD_COORDINATOR_PARTITIONS": "8",
            "ONWARD_COORDINATOR_DATA_DIR": str(directory / "log"),
            "ONWARD_PRESENCE_LISTEN": at["presence"],
            "ONWARD_PRESENCE_DATA_DIR": str(directory / "presence"),
            "ONWARD_PRESENCE_PLUGINS": at["notifier"],
            "ONWARD_NOTIFIER_LISTEN": at["notifier"],
        }
        (directory / "presence").mkdir()
        self._log = (directory / "services.log").open("wb")
        self.children = [self._start(service) for service in PORTS]

    def _start(self, service: str) -> "subprocess.Popen[bytes]":
        own = ("ONWARD_" + service.upper(), "ONWARD_ETCD", "ONWARD_SECRET", "P")
        return subprocess.Popen(
            [sys.executable, "-m", f"services.{service}"],
            env={name: value for name, value in self.environ.items() if name.startswith(own)},
            cwd=ROOT,
            stdout=self._log,
            stderr=self._log,
        )

    def address(self, service: str) -> str:
        return f"127.0.0.1:{self.port[service]}"

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://{self.address('http')}{path}", data, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def works(self) -> bool:
        """Whether every service has reached those it calls."""
        try:
            told = self.ask("/v1/status")
        except OSError:
            return False
        plugins = told["plugins"]
        return not told["alarms"] and bool(plugins) and all(one["connected"] for one in plugins)

    def end(self) -> None:
        for child in self.children:
            child.kill()
            child.wait()
        self._log.close()


@pytest.fixture(scope="module", params=["secret", "tls"])
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("every-port")
    with running(directory) as etcd:
        made = Cluster(directory, etcd.address, request.param)
        try:
            wait_for(made.works, 40, "a cluster in which everybody reaches everybody")
            yield made
        finally:
            made.end()


def methods(service: str) -> list[MethodDescriptor]:
    """Every method on the port of a service."""
    files = (OURS[service], *ON_EVERY_PORT)
    found = [
        method for file in files for one in file.services_by_name.values() for method in one.methods
    ]
    assert len(found) > 3
    return found


async def outcome(
    channel: grpc.aio.Channel, method: MethodDescriptor, metadata: Sequence[tuple[str, str]]
) -> Status:
    """How a call of a method ends, with an empty request or an open stream of none."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    if method.client_streaming:
        # A request that meets the end of its call would be gRPC's own error at this end.
        stream = channel.stream_stream(path)(metadata=metadata, timeout=10)
        return Status(await stream.code())
    return Status(await channel.unary_unary(path)(b"", metadata=metadata, timeout=10).code())


async def outcomes(
    cluster: Cluster, channel: grpc.aio.Channel, service: str, shown: Trust | str
) -> set[Status]:
    metadata = credentials(shown)
    return {await outcome(channel, method, metadata) for method in methods(service)}


def test_everybody_serves_everybody(run: Any, cluster: Cluster) -> None:
    published = cluster.ask("/v1/publish?user=bob", {"subject": "/chat/1", "text": "one"})
    assert published["seq"] == "1"

    async def claim() -> None:
        for service in PORTS:
            async with open_channel(cluster.address(service), cluster.ours) as channel:
                health = health_pb2_grpc.HealthStub(channel)

                async def serves(health: Any = health) -> bool:
                    answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=10)
                    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

                await until(serves)

    run(claim())


@pytest.mark.parametrize("service", PORTS)
def test_no_method_of_any_port_is_served_to_a_stranger(
    run: Any, cluster: Cluster, service: str
) -> None:
    address = cluster.address(service)

    async def claim() -> None:
        plain = grpc.aio.insecure_channel(address)
        if cluster.kind == "secret":
            for shown in ("", cluster.stranger):
                found = await outcomes(cluster, plain, service, shown)
                assert found == {Status.UNAUTHENTICATED}
            await plain.close()
            return
        anonymous = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(cluster.ca))
        other = open_channel(address, cluster.stranger)
        async with plain, anonymous, other:
            for channel in (plain, anonymous, other):
                found = await outcomes(cluster, channel, service, cluster.stranger)
                assert found == {Status.UNAVAILABLE}, "the connection is not made"

    run(claim())


def test_no_process_listens_on_another_port(cluster: Cluster) -> None:
    inodes: dict[str, int] = {}
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                inodes[f"socket:[{words[9]}]"] = int(words[1].rpartition(":")[2], 16)
    listening = set()
    for child in cluster.children:
        for file in Path(f"/proc/{child.pid}/fd").iterdir():
            try:
                listening.add(inodes.get(str(file.readlink()), 0))
            except OSError:
                continue
    assert listening - {0} == set(cluster.port.values())
