"""Publishes as an edge without sockets does: `python -m bench.uplink_load SECONDS WINDOW`.

Takes a lease, opens a stream to the coordinator, and keeps `WINDOW` publishes unanswered on it,
in batches of whatever was answered meanwhile. `ONWARD_ETCD` and `ONWARD_SECRET` say where. Prints
`start` and, after the seconds, one line of JSON.
"""

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import uvloop
from onward.coordinator.v1 import coordinator_pb2 as wire
from onward.coordinator.v1 import coordinator_pb2_grpc

from services.chassis.channel import credentials, open_channel
from services.chassis.cluster import Directory, DirectoryChange, join_edge
from services.chassis.etcd import Etcd
from services.chassis.subjects import partition_of

if TYPE_CHECKING:
    Stub = coordinator_pb2_grpc.CoordinatorServiceAsyncStub

_SUBJECTS = 200
_TEXT = "x" * 64
_TTL_S = 10
_WARM_S = 1.0


class _Load:
    def __init__(self, directory: Directory, edge_id: int, window: int) -> None:
        self._edge_id = edge_id
        self._lanes = []
        for number in range(_SUBJECTS):
            subject = f"/bench/uplink/{number}"
            partition = partition_of(subject, directory.partitions)
            owner = directory.owner(partition)
            assert owner is not None, "a partition has no owner"
            self._lanes.append((subject, partition, owner.epoch))
        self._run = f"{os.getpid()}-{time.time_ns()}"
        self._sent = 0
        self._due = window
        self._beats = 0
        self._wake = asyncio.Event()
        self._wake.set()
        self.accepted = 0
        self.refused = 0

    async def run(self, stub: "Stub", secret: str) -> None:
        """Publishes until cancelled."""
        async for response in stub.Uplink(self._requests(), metadata=credentials(secret)):
            assert not response.batch.not_owner, "a partition has another owner"
            for answer in response.batch.appended:
                self.accepted += answer.HasField("accepted")
                self.refused += answer.HasField("refusal")
            self._due += len(response.batch.appended)
            self._wake.set()

    async def _requests(self) -> AsyncIterator[wire.UplinkRequest]:
        yield wire.UplinkRequest(hello=wire.UplinkRequest.Hello(edge_id=self._edge_id))
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._due:
                yield wire.UplinkRequest(batch=self._batch())

    def _batch(self) -> wire.UplinkRequest.Batch:
        batch = wire.UplinkRequest.Batch()
        asked: dict[int, wire.PartitionRequests] = {}
        for number in range(self._sent, self._sent + self._due):
            subject, partition, epoch = self._lanes[number % _SUBJECTS]
            if partition not in asked:
                asked[partition] = batch.partitions.add(partition=partition, epoch=epoch)
            publish = asked[partition].appends.add(request=number + 1).publish
            publish.subject = subject
            publish.publisher = "bench"
            publish.publication_id = f"{self._run}-{number}"
            publish.content.text = _TEXT
        self._sent += self._due
        self._due = 0
        return batch


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _main(seconds: float, window: int) -> None:
    etcd = Etcd(os.environ["ONWARD_ETCD"])
    secret = os.environ["ONWARD_SECRET"]
    directory = Directory(etcd)
    owned = asyncio.Event()

    def look(_: DirectoryChange) -> None:
        if directory.partitions and len(directory.owners) == directory.partitions:
            owned.set()

    directory.on_change(look)
    following = asyncio.create_task(directory.run())
    await asyncio.wait_for(owned.wait(), 10)
    lease = await join_edge(etcd, "127.0.0.1:1", _TTL_S)
    keeping = asyncio.create_task(lease.keep())
    load = _Load(directory, lease.id, window)
    (address,) = directory.coordinators.values()
    async with open_channel(address, None) as channel:
        running = asyncio.create_task(
            load.run(coordinator_pb2_grpc.CoordinatorServiceStub(channel), secret)
        )
        await asyncio.wait([running], timeout=_WARM_S)
        print("start", flush=True)
        began, accepted, cpu_s = time.monotonic(), load.accepted, _cpu_s()
        await asyncio.wait([running], timeout=seconds)
        result = {
            "accepted": load.accepted - accepted,
            "refused": load.refused,
            "seconds": time.monotonic() - began,
            "cpu_s": _cpu_s() - cpu_s,
        }
        if running.done():
            running.result()
        for task in (running, following, keeping):
            task.cancel()
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    uvloop.run(_main(float(sys.argv[1]), int(sys.argv[2])))
