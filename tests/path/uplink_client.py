"""An edge without sockets: takes a lease, speaks the uplink, and sends what a test tells it to."""

import asyncio
import json
from collections.abc import AsyncIterator

from onward.coordinator.v1 import coordinator_pb2 as wire
from onward.coordinator.v1 import coordinator_pb2_grpc
from onward.types.v1 import entry_pb2

from services.chassis.channel import credentials, open_channel
from services.chassis.cluster import epoch_of, join_edge
from services.chassis.etcd import Etcd, Lease
from services.chassis.subjects import partition_of


class LoneEdge:
    """One user with one client, whose attempts to connect are numbered from 1.

    Attempt 0 is a session that came before, so that attempts have a generation to name.
    """

    def __init__(self, lease: Lease, user: str, secret: str, token: str = "") -> None:
        self._lease = lease
        self._user = user
        self._token = token  # an external token that every connect registers
        self._secret = credentials(secret)
        self._generations: dict[int, int] = {}  # attempt: given by the coordinator
        self._sent: set[int] = set()
        self._requests = 0
        self._last_pos = 0
        self._processed = 0
        self._answers: asyncio.Queue[wire.Appended] = asyncio.Queue()
        self._outgoing: asyncio.Queue[wire.UplinkRequest] = asyncio.Queue()

    @classmethod
    async def join(cls, etcd: Etcd, secret: str, user: str, token: str = "") -> "LoneEdge":
        """Become an edge, and open a stream to the owner of the user's partition."""
        lease = await join_edge(etcd, "127.0.0.1:1", 10)
        edge = cls(lease, user, secret, token)
        config = await etcd.get("/onward/config")
        assert config is not None
        edge._partition = partition_of(user, json.loads(config.value)["partitions"])
        owner = await etcd.get(f"/onward/owners/{edge._partition}")
        assert owner is not None
        claim = json.loads(owner.value)
        edge._epoch = epoch_of(claim["era"], owner.create_revision)
        member = await etcd.get(f"/onward/coordinators/{claim['name']}")
        assert member is not None
        edge._channel = open_channel(json.loads(member.value)["address"], secret)
        edge._tasks = [asyncio.create_task(lease.keep()), asyncio.create_task(edge._stream())]
        return edge

    async def leave(self) -> None:
        """Close the stream; the lease runs out by itself, as a dead edge's does."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()

    async def begin(self, subject: str) -> None:
        """The session before all attempts: connected, and following the subject."""
        self._subject = subject
        await self.send("c0")

    async def send(self, event: str) -> None:
        """Append `cN` or `dN` and wait for the answer."""
        attempt = int(event[1:])
        answer = await self._append(self._event(event[0], attempt))
        if answer.HasField("recorded"):
            self._last_pos = max(self._last_pos, answer.recorded.pos)
            if event[0] == "c":
                self._generations[attempt] = answer.recorded.generation
        self._sent.add(attempt)

    def processed(self) -> bool:
        """Whether presence has processed everything sent; asks the coordinator to tell."""
        request = self._request()
        request.await_processed.append(self._last_pos)
        self._put(request)
        return self._processed >= self._last_pos

    def _event(self, kind: str, attempt: int) -> entry_pb2.PresenceEvent:
        first = self._generations.get(0, 0)
        event = entry_pb2.PresenceEvent(
            user=self._user,
            client_id="racer",
            session_id=f"{self._user}-{attempt}",
            number=1 if kind == "c" else 2,
            edge_id=self._lease.id,
            round=1,
        )
        if kind == "c":
            # What the client knew when it formed the attempt: the newest one answered before it.
            known = [g for n, g in self._generations.items() if n < attempt]
            event.connected.last_generation = max(known, default=first)
            event.connected.acknowledges = True
            event.connected.replaces_follows = True
            event.connected.follows.add(subject=self._subject)
            event.connected.endpoints.extend([self._token] if self._token else [])
        else:
            presumed = first if attempt in self._sent else first + attempt
            event.generation = self._generations.get(attempt, presumed)
            event.disconnected.acked.add(subject=self._subject)
        return event

    async def _append(self, event: entry_pb2.PresenceEvent) -> wire.Appended:
        self._requests += 1
        request = self._request()
        request.appends.add(request=self._requests, presence=event)
        self._put(request)
        answer = await asyncio.wait_for(self._answers.get(), 10)
        assert answer.request == self._requests
        return answer

    def _request(self) -> wire.PartitionRequests:
        return wire.PartitionRequests(partition=self._partition, epoch=self._epoch)

    def _put(self, request: wire.PartitionRequests) -> None:
        batch = wire.UplinkRequest.Batch(partitions=[request])
        self._outgoing.put_nowait(wire.UplinkRequest(batch=batch))

    async def _requests_out(self) -> AsyncIterator[wire.UplinkRequest]:
        yield wire.UplinkRequest(hello=wire.UplinkRequest.Hello(edge_id=self._lease.id))
        while True:
            yield await self._outgoing.get()

    async def _stream(self) -> None:
        stub = coordinator_pb2_grpc.CoordinatorServiceStub(self._channel)
        async for response in stub.Uplink(self._requests_out(), metadata=self._secret):
            assert not response.batch.not_owner, "the partition has another owner"
            for answer in response.batch.appended:
                self._answers.put_nowait(answer)
            for processed in response.batch.processed:
                self._processed = max(self._processed, processed.pos)
