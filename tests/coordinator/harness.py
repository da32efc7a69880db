"""A coordinator in this process, and an edge that speaks to it over real gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import grpc.aio
from onward.coordinator.v1 import coordinator_pb2, coordinator_pb2_grpc
from onward.types.v1 import entry_pb2
from prometheus_client import CollectorRegistry

from services.chassis.channel import credentials, open_channel
from services.chassis.cluster import freeze_partitions
from services.chassis.etcd import Etcd
from services.chassis.subjects import partition_of
from services.chassis.tls import Trust
from services.coordinator.__main__ import Coordinator
from services.coordinator.clock import steady_offset_ms
from services.coordinator.metrics import Metrics
from services.coordinator.settings import Settings
from services.coordinator.sqlite_store import SqliteStore
from tests.waiting import until

SECRET = "a secret of the tests"
PARTITIONS = 4
TASKS: WeakKeyDictionary[Coordinator, asyncio.Task[None]] = WeakKeyDictionary()


@asynccontextmanager
async def coordinator(
    etcd_address: str,
    directory: Path,
    name: str = "c1",
    shared: SqliteStore | None = None,
    **settings: Any,
) -> AsyncIterator[Coordinator]:
    """A coordinator that has taken its place; drained at the end. `shared`: a store that others
    use too."""
    store = shared or SqliteStore.open(directory)
    etcd = Etcd(etcd_address)
    partitions = await freeze_partitions(etcd, PARTITIONS)
    it = Coordinator(
        Settings(
            etcd=etcd_address,
            secret=SECRET,
            name=name,
            data_dir=str(directory),
            **{"lease_ttl_s": 2, **settings},
        ),
        Trust(SECRET),
        store,
        etcd,
        partitions,
        Metrics(CollectorRegistry()),
        await steady_offset_ms(store),
    )
    stop = asyncio.Event()
    task = TASKS[it] = asyncio.create_task(it.run(stop))
    try:
        await until(
            lambda: task.done() or (it.server.port and (shared or len(it.holdings) == partitions))
        )
        if task.done():
            await task
        yield it
    finally:
        stop.set()
        try:
            await task
        finally:
            await etcd.close()
            if shared is None:
                await store.close()


class Edge:
    """One uplink of an edge, in the hands of a test. Everything received is kept."""

    def __init__(self, address: str, edge_id: int) -> None:
        self.edge_id = edge_id
        self.hello: coordinator_pb2.UplinkResponse.Hello | None = None
        self.received = coordinator_pb2.UplinkResponse.Batch()
        self.ended = asyncio.Event()
        self.channel = open_channel(address, SECRET)
        self.stub = coordinator_pb2_grpc.CoordinatorServiceStub(self.channel)
        self._request = 0
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._call = self.stub.Uplink(metadata=credentials(SECRET))
        hello = coordinator_pb2.UplinkRequest.Hello(edge_id=self.edge_id)
        await self._call.write(coordinator_pb2.UplinkRequest(hello=hello))
        self.hello = (await self._call.read()).hello
        self._reader = asyncio.create_task(self._read())

    async def close(self) -> None:
        self._call.cancel()
        assert self._reader is not None
        await self._reader
        await self.channel.close()

    async def _read(self) -> None:
        try:
            while (frame := await self._call.read()) is not grpc.aio.EOF:
                self.received.MergeFrom(frame.batch)
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            pass
        self.ended.set()

    async def send(self, *requests: coordinator_pb2.PartitionRequests, heartbeat: int = 0) -> None:
        batch = coordinator_pb2.UplinkRequest.Batch(partitions=requests, heartbeat=heartbeat)
        await self._call.write(coordinator_pb2.UplinkRequest(batch=batch))

    async def ask(
        self, epoch: int, partition: int, **fields: Any
    ) -> coordinator_pb2.PartitionRequests:
        asked = coordinator_pb2.PartitionRequests(partition=partition, epoch=epoch, **fields)
        await self.send(asked)
        return asked

    def append(self, **body: Any) -> coordinator_pb2.Append:
        self._request += 1
        return coordinator_pb2.Append(request=self._request, **body)

    async def answers(self, *requests: int) -> list[coordinator_pb2.Appended]:
        """The answers to these requests, in their order, once all are there."""

        def found() -> list[coordinator_pb2.Appended]:
            by_request = {it.request: it for it in self.received.appended}
            return [by_request[it] for it in requests] if by_request.keys() >= set(requests) else []

        return await until(found)

    async def got(self, field: str, count: int = 1) -> list[Any]:
        """The items of a list of what was received, once there are `count`."""
        items: Any = getattr(self.received, field)
        await until(lambda: len(items) >= count)
        return list(items)

    async def publish(
        self, it: Coordinator, subject: str, *texts: str, publisher: str = "bob", ids: str = ""
    ) -> list[coordinator_pb2.Appended]:
        """Publish in one frame, and wait for the answers."""
        appends = [
            self.append(publish=publish(subject, text, (ids + text)[:100], publisher))
            for text in texts
        ]
        await self.ask(*owned(it, subject), appends=appends)
        return await self.answers(*(append.request for append in appends))

    async def record(
        self, it: Coordinator, *events: entry_pb2.PresenceEvent
    ) -> list[coordinator_pb2.Appended]:
        """Send events of one user in one frame, and wait for the answers."""
        appends = [self.append(presence=event) for event in events]
        await self.ask(*owned(it, events[0].user), appends=appends)
        return await self.answers(*(append.request for append in appends))


@asynccontextmanager
async def edge(it: Coordinator, edge_id: int = 7) -> AsyncIterator[Edge]:
    one = Edge(f"127.0.0.1:{it.server.port}", edge_id)
    await one.open()
    try:
        yield one
    finally:
        await one.close()


def owned(it: Coordinator, key: str) -> tuple[int, int]:
    """(epoch, partition) of a subject or user at a coordinator that owns everything."""
    partition = partition_of(key, PARTITIONS)
    epoch = it.holdings.epoch(partition)
    assert epoch is not None
    return epoch, partition


def publish(
    subject: str, text: str, publication_id: str, publisher: str = "bob"
) -> coordinator_pb2.Publish:
    return coordinator_pb2.Publish(
        subject=subject,
        publisher=publisher,
        publication_id=publication_id,
        content=entry_pb2.Content(text=text),
    )


def event(
    number: int,
    *,
    user: str = "ann",
    client: str = "c",
    session: str = "s1",
    generation: int = 0,
    edge_id: int = 7,
    **kind: Any,
) -> entry_pb2.PresenceEvent:
    return entry_pb2.PresenceEvent(
        user=user,
        client_id=client,
        session_id=session,
        number=number,
        generation=generation,
        edge_id=edge_id,
        **kind,
    )


def connected(
    *follows: str, last: int = 0, replaces: bool = True, acknowledges: bool = True, **more: Any
) -> entry_pb2.PresenceEvent.Connected:
    return entry_pb2.PresenceEvent.Connected(
        last_generation=last,
        replaces_follows=replaces,
        follows=[entry_pb2.FollowStart(subject=subject) for subject in follows],
        acknowledges=acknowledges,
        **more,
    )


DISCONNECTED = entry_pb2.PresenceEvent.Disconnected()
Run = Callable[[Any], Any]
