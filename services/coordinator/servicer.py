"""CoordinatorService over gRPC: the edges' streams, and reads for anybody.

Knows the frames of coordinator.proto and which status a fault has; must not know how requests are
decided. A stream is read into the committer and written from its uplink's outbox, each by one
task; neither waits for the other.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio
from onward.coordinator.v1 import coordinator_pb2, coordinator_pb2_grpc
from onward.types.v1 import entry_pb2

from services.chassis import logs
from services.chassis.errors import Fault
from services.chassis.subjects import name_fault, partition_of, subject_fault
from services.coordinator.committer import Committer
from services.coordinator.effects import Body, EndFollows, ForgetUser, LogOutUser, Outcome
from services.coordinator.metrics import Metrics
from services.coordinator.status import Status
from services.coordinator.store import LogStore
from services.coordinator.uplinks import Uplink, Uplinks

log = logs.get(__name__)

SEQ_MAX = (1 << 63) - 1  # what a column of the store can hold
READ_LIMIT_MAX = 1_000
READ_BYTES_DEFAULT = 1024 * 1024
READ_BYTES_MAX = 16 * 1024 * 1024
TAILS_MAX = 1_024
ENDED_SUBJECTS_MAX = 100
# For the sessions of a user who is forgotten to end by themselves. One that ends later than that
# has presence know its client again.
LOGOUT_WAIT_S = 2.0
_LOOK_EVERY_S = 0.05

Context = grpc.aio.ServicerContext[Any, Any]
Stream = Uplink  # inside the class below, Uplink is the name of the call


class CoordinatorServicer(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Serves edges and readers.

    `drain()` begins the end of this process, and tells how many seconds that may take.
    """

    def __init__(
        self,
        *,
        name: str,
        partitions: int,
        store: LogStore,
        uplinks: Uplinks,
        committer: Committer,
        status: Status,
        metrics: Metrics,
        drain: Callable[[], float],
    ) -> None:
        self._name = name
        self._partitions = partitions
        self._store = store
        self._uplinks = uplinks
        self._committer = committer
        self._status = status
        self._metrics = metrics
        self._drain = drain

    async def Uplink(
        self,
        request_iterator: AsyncIterator[coordinator_pb2.UplinkRequest],
        context: Context,
    ) -> AsyncIterator[coordinator_pb2.UplinkResponse]:
        first = await anext(request_iterator, None)
        if first is None or not first.hello.edge_id:
            await _invalid(context, "The first frame is hello, with an edge id.")
        uplink = self._uplinks.open(first.hello.edge_id)
        log.info("uplink_opened", edge_id=uplink.edge_id)
        reader = asyncio.create_task(self._read(uplink, request_iterator))
        try:
            hello = coordinator_pb2.UplinkResponse.Hello(
                coordinator=self._name, log_id=self._store.log_id, partitions=self._partitions
            )
            yield coordinator_pb2.UplinkResponse(hello=hello)
            while (frame := await uplink.next()) is not None:
                yield frame
        finally:
            reader.cancel()
            self._uplinks.close(uplink)
            log.info("uplink_closed", edge_id=uplink.edge_id)

    async def _read(
        self, uplink: Stream, frames: AsyncIterator[coordinator_pb2.UplinkRequest]
    ) -> None:
        try:
            async for frame in frames:
                if uplink.closed:
                    return
                batch = frame.batch
                if batch.heartbeat:
                    uplink.add_heartbeat(batch.heartbeat)
                for asked in batch.partitions:
                    for pos in asked.await_processed:
                        self._uplinks.await_processed(uplink.number, asked.partition, pos)
                    self._committer.submit(uplink.number, asked)
        except (asyncio.CancelledError, grpc.aio.BaseError):
            pass  # The stream is broken; its other half notices too.
        except Exception:  # the end of a task: a bug must not leave a stream that is never read
            log.exception("uplink_reader_failed", edge_id=uplink.edge_id)
        finally:
            uplink.close()

    async def ReadMessages(
        self, request: coordinator_pb2.ReadMessagesRequest, context: Context
    ) -> coordinator_pb2.ReadMessagesResponse:
        fault = subject_fault(request.subject)
        if fault is not None:
            await _invalid(context, fault)
        if not 1 <= request.limit <= READ_LIMIT_MAX:
            await _invalid(context, f"limit is 1 to {READ_LIMIT_MAX}.")
        if request.after_seq > SEQ_MAX:
            await _invalid(context, f"after_seq is at most {SEQ_MAX}.")
        partition = partition_of(request.subject, self._partitions)
        bytes_max = min(request.bytes_max or READ_BYTES_DEFAULT, READ_BYTES_MAX)
        try:
            with self._metrics.read_s.labels("messages").time():
                page = await self._store.read_messages(
                    partition, request.subject, request.after_seq, request.limit, bytes_max
                )
        except Fault as error:
            await context.abort(error.status, str(error))
        response = coordinator_pb2.ReadMessagesResponse(
            head=page.head, floor=page.floor, log_id=self._store.log_id
        )
        for stored in page.messages:
            entry = entry_pb2.Entry.FromString(stored.entry)
            response.messages.add(pos=stored.pos, message=entry.message)
        return response

    async def ReadRetained(
        self, request: coordinator_pb2.ReadRetainedRequest, context: Context
    ) -> coordinator_pb2.ReadRetainedResponse:
        fault = subject_fault(request.subject)
        if fault is not None:
            await _invalid(context, fault)
        try:
            with self._metrics.read_s.labels("retained").time():
                stored = await self._store.read_retained(request.subject)
        except Fault as error:
            await context.abort(error.status, str(error))
        response = coordinator_pb2.ReadRetainedResponse(log_id=self._store.log_id)
        if stored is not None:
            response.retained.pos = stored.pos
            response.retained.message.CopyFrom(entry_pb2.Entry.FromString(stored.entry).message)
        return response

    async def EndFollows(
        self, request: coordinator_pb2.EndFollowsRequest, context: Context
    ) -> coordinator_pb2.EndFollowsResponse:
        partition = await self._partition_of_user(request.user, context)
        if fault := name_fault(request.call_id):
            await _invalid(context, f"`call_id` cannot be taken. {fault}")
        if len(request.subjects) > ENDED_SUBJECTS_MAX:
            await _invalid(context, f"At most {ENDED_SUBJECTS_MAX} subjects.")
        for subject in request.subjects:
            if fault := subject_fault(subject):
                await _invalid(context, fault)
        body = EndFollows(request.user, tuple(dict.fromkeys(request.subjects)), request.call_id)
        outcome = await self._decided(partition, body, context)
        return coordinator_pb2.EndFollowsResponse(
            ended=outcome.count, partition=partition, pos=outcome.pos
        )

    async def ForgetUser(
        self, request: coordinator_pb2.ForgetUserRequest, context: Context
    ) -> coordinator_pb2.ForgetUserResponse:
        partition = await self._partition_of_user(request.user, context)
        clock = asyncio.get_running_loop()
        until = clock.time() + LOGOUT_WAIT_S
        while (await self._decided(partition, LogOutUser(request.user), context)).count:
            if clock.time() >= until:
                log.info("user_forgotten_while_online")
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        outcome = await self._decided(partition, ForgetUser(request.user), context)
        return coordinator_pb2.ForgetUserResponse(partition=partition, pos=outcome.pos)

    async def _partition_of_user(self, user: str, context: Context) -> int:
        if fault := name_fault(user):
            await _invalid(context, f"`user` cannot be taken. {fault}")
        return partition_of(user, self._partitions)

    async def _decided(self, partition: int, body: Body, context: Context) -> Outcome:
        """What came of it, as the owner of the partition; else the call ends."""
        outcome = await self._committer.call(partition, body)
        if outcome is None:
            not_owner = "This coordinator does not own the user's partition."
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, not_owner)
        if not isinstance(outcome, Outcome):
            await context.abort(grpc.StatusCode.UNAVAILABLE, outcome.message)
            raise AssertionError("abort raises")
        return outcome

    async def GetStatus(
        self, request: coordinator_pb2.GetStatusRequest, context: Context
    ) -> coordinator_pb2.GetStatusResponse:
        try:
            return await self._status.response()
        except Fault as error:
            await context.abort(error.status, str(error))
            raise AssertionError("abort raises") from None

    async def Drain(
        self, request: coordinator_pb2.DrainRequest, context: Context
    ) -> coordinator_pb2.DrainResponse:
        log.info("drain_asked")
        return coordinator_pb2.DrainResponse(at_most_ms=round(self._drain() * 1000))

    async def ReadTails(
        self, request: coordinator_pb2.ReadTailsRequest, context: Context
    ) -> coordinator_pb2.ReadTailsResponse:
        partitions = list(request.partitions) or list(range(self._partitions))
        if len(request.partitions) > TAILS_MAX:
            await _invalid(context, f"At most {TAILS_MAX} partitions.")
        if max(partitions) >= self._partitions:
            await _invalid(context, f"There are {self._partitions} partitions.")
        try:
            with self._metrics.read_s.labels("tails").time():
                tails = await self._store.read_tails(partitions)
        except Fault as error:
            await context.abort(error.status, str(error))
        response = coordinator_pb2.ReadTailsResponse(log_id=self._store.log_id)
        for partition in partitions:
            response.tails.add(partition=partition, pos=tails[partition])
        return response


async def _invalid(context: Context, message: str) -> NoReturn:
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
    raise AssertionError("abort raises")
