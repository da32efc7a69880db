"""A coordinator small enough to read: one process's memory for a log, over real gRPC.

Owns every partition in one epoch. Tests break its streams, depose it, and hold its answers back.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from onward.coordinator.v1 import coordinator_pb2 as pb
from onward.coordinator.v1 import coordinator_pb2_grpc
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Code
from services.chassis.server import Server
from services.chassis.subjects import partition_of

SECRET = "a secret of sixteen characters"
PARTITIONS = 4


class Log:
    """What is durable; several coordinators may share it, one after the other."""

    def __init__(self) -> None:
        self.messages: dict[str, list[pb.Delivery]] = {}
        self.publications: dict[str, int] = {}
        self.events: list[entry_pb2.PresenceEvent] = []
        self.recorded: dict[tuple[str, int], int] = {}
        self.marks: list[entry_pb2.Mark] = []
        self.generations: dict[str, int] = {}
        self.tails = [0] * PARTITIONS
        self.floors: dict[str, int] = {}
        self.retained: dict[str, pb.Delivery] = {}

    def head(self, subject: str) -> int:
        return len(self.messages.get(subject, ()))

    def next_pos(self, partition: int) -> int:
        self.tails[partition] += 1
        return self.tails[partition]

    def add(self, subject: str, text: str, publisher: str = "bob", epoch: int = 7) -> pb.Delivery:
        message = entry_pb2.Message(
            subject=subject,
            seq=self.head(subject) + 1,
            epoch=epoch,
            publisher=publisher,
            content=entry_pb2.Content(text=text),
        )
        pos = self.next_pos(partition_of(subject, PARTITIONS))
        delivery = pb.Delivery(pos=pos, message=message)
        self.messages.setdefault(subject, []).append(delivery)
        return delivery


class FakeCoordinator(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """`not_owner`: owns nothing in its epoch. `mute_events`: presence events are recorded and
    not answered. `overloaded`: every append is refused. `mute_transients`: they are taken and
    neither answered nor sent."""

    def __init__(self, log: Log | None = None, epoch: int = 7) -> None:
        self.log = log or Log()
        self.epoch = epoch
        self.not_owner = False
        self.mute_events = False
        self.overloaded = False
        self.mute_transients = False
        self.before_retained: Callable[[], None] = lambda: None  # called as one is being read
        self.refused = 0
        self.hellos: list[int] = []
        self.requests: list[pb.PartitionRequests] = []
        self.reads = 0
        self._frozen: list[object] = []
        self._streams: list[tuple[asyncio.Queue[pb.UplinkResponse | None], set[str]]] = []
        self._server = Server("127.0.0.1:0", SECRET, [])
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(self, self._server.grpc)

    async def start(self) -> str:
        await self._server.start()
        return f"127.0.0.1:{self._server.port}"

    async def stop(self) -> None:
        self.break_streams()
        await self._server.drain(0)

    def freeze(self) -> None:
        """Says nothing more on the present streams, and hears nothing."""
        self._frozen += [queue for queue, _ in self._streams]

    def break_streams(self) -> None:
        for queue, _ in self._streams:
            queue.put_nowait(None)
        self._streams.clear()

    def tell(self, **batch: Any) -> None:
        """Sends a batch of one's own making to every edge."""
        for queue, _ in self._streams:
            queue.put_nowait(pb.UplinkResponse(batch=pb.UplinkResponse.Batch(**batch)))

    def publish(self, subject: str, text: str) -> None:
        """A message that came by another edge."""
        self._deliver(self.log.add(subject, text, epoch=self.epoch))

    def processed(self) -> None:
        """Presence has come to the tail of every partition."""
        self.tell(
            processed=[pb.Processed(partition=p, pos=pos) for p, pos in enumerate(self.log.tails)]
        )

    async def Uplink(self, requests: AsyncIterator[pb.UplinkRequest], context: Any) -> Any:
        queue: asyncio.Queue[pb.UplinkResponse | None] = asyncio.Queue()
        watched: set[str] = set()

        async def read() -> None:
            async for request in requests:
                if request.HasField("hello"):
                    self.hellos.append(request.hello.edge_id)
                    hello = pb.UplinkResponse.Hello(
                        coordinator="c", log_id="L", partitions=PARTITIONS
                    )
                    queue.put_nowait(pb.UplinkResponse(hello=hello))
                    self._streams.append((queue, watched))
                elif queue not in self._frozen:
                    self._take(request.batch, queue, watched)

        reading = asyncio.create_task(read())
        try:
            while (response := await queue.get()) is not None:
                yield response
        finally:
            reading.cancel()

    async def ReadMessages(self, request: pb.ReadMessagesRequest, context: Any) -> Any:
        self.reads += 1
        messages = self.log.messages.get(request.subject, [])
        floor = self.log.floors.get(request.subject, 0)
        first = max(request.after_seq, floor)
        return pb.ReadMessagesResponse(
            messages=messages[first : first + request.limit],
            head=len(messages),
            floor=floor,
            log_id="L",
        )

    async def ReadRetained(self, request: pb.ReadRetainedRequest, context: Any) -> Any:
        self.reads += 1
        self.before_retained()
        return pb.ReadRetainedResponse(retained=self.log.retained.get(request.subject), log_id="L")

    def _take(
        self,
        batch: pb.UplinkRequest.Batch,
        queue: "asyncio.Queue[pb.UplinkResponse | None]",
        watched: set[str],
    ) -> None:
        answer = pb.UplinkResponse.Batch(heartbeat=batch.heartbeat)
        deliveries = []
        for requests in batch.partitions:
            self.requests.append(requests)
            if self.not_owner or requests.epoch != self.epoch:
                answer.not_owner.add(partition=requests.partition, epoch=requests.epoch)
                continue
            for watch in requests.watches:
                watched.add(watch.subject)
                answer.watched.add(
                    subject=watch.subject,
                    head=self.log.head(watch.subject),
                    floor=self.log.floors.get(watch.subject, 0),
                    tail=self.log.tails[requests.partition],
                    epoch=self.epoch,
                )
            watched.difference_update(requests.unwatches)
            for read in requests.read_clients:
                answer.clients.add(request=read.request, follows=["/followed"])
            for append in requests.appends:
                deliveries += self._append(requests.partition, append, answer)
        queue.put_nowait(pb.UplinkResponse(batch=answer))
        for delivery in deliveries:
            self._deliver(delivery)

    def _append(
        self, partition: int, append: pb.Append, answer: pb.UplinkResponse.Batch
    ) -> list[pb.Delivery]:
        log = self.log
        if self.overloaded:
            self.refused += 1
            answer.appended.add(request=append.request).refusal.code = Code.OVERLOADED
            return []
        if append.HasField("mark"):
            log.marks.append(append.mark)
            log.next_pos(partition)
            return []
        if append.HasField("presence"):
            event = append.presence
            key = (event.session_id, event.number)
            if key not in log.recorded:
                log.recorded[key] = log.next_pos(partition)
                log.events.append(event)
                if event.HasField("connected"):
                    log.generations[event.client_id] = log.generations.get(event.client_id, 0) + 1
            if not self.mute_events:
                answered = answer.appended.add(request=append.request)
                answered.recorded.pos = log.recorded[key]
                answered.recorded.generation = log.generations.get(event.client_id, 0)
            return []
        publish = append.publish
        if publish.transient:
            self._pass_on(append, answer)
            return []
        known = log.publications.get(publish.publication_id)
        deliveries = []
        if known is None:
            text = publish.content.text
            delivery = log.add(publish.subject, text, publish.publisher, self.epoch)
            known = log.publications[publish.publication_id] = delivery.message.seq
            deliveries.append(delivery)
            if publish.retain:
                log.retained[publish.subject] = delivery
        accepted = answer.appended.add(request=append.request).accepted
        accepted.seq, accepted.epoch, accepted.duplicate = known, self.epoch, not deliveries
        return deliveries

    def _pass_on(self, append: pb.Append, answer: pb.UplinkResponse.Batch) -> None:
        publish = append.publish
        if self.mute_transients:
            return
        answer.appended.add(request=append.request).accepted.epoch = self.epoch
        message = entry_pb2.Message(
            subject=publish.subject, publisher=publish.publisher, content=publish.content
        )
        for queue, watched in self._streams:
            if publish.subject in watched:
                batch = pb.UplinkResponse.Batch(transients=[message])
                queue.put_nowait(pb.UplinkResponse(batch=batch))

    def _deliver(self, delivery: pb.Delivery) -> None:
        for queue, watched in self._streams:
            if delivery.message.subject in watched:
                batch = pb.UplinkResponse.Batch(deliveries=[delivery])
                queue.put_nowait(pb.UplinkResponse(batch=batch))
