"""The gRPC face of presence: `Report` for coordinators, queries for edges and operators.

Knows the contract and maps faults to statuses. A Report is applied in transactions of bounded size,
each whole: cursors and effects together.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

import grpc
import grpc.aio
from onward.coordinator.v1 import coordinator_pb2
from onward.presence.v1 import presence_pb2, presence_pb2_grpc
from onward.types.v1 import entry_pb2

from services.chassis import logs
from services.chassis.errors import Deposed, Fault, LogReplaced
from services.chassis.subjects import name_fault, partition_of, subject_fault
from services.presence import explain, metrics
from services.presence.contents import Contents
from services.presence.log_reader import LogReader
from services.presence.outbox import News
from services.presence.processing import Processing
from services.presence.store import Store, Transaction

log = logs.get(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

_LIMIT_DEFAULT, _LIMIT_MAX = 100, 1_000
# What every store can hold; no subject comes near.
_SEQ_MAX = (1 << 63) - 1


class Part(NamedTuple):
    """Entries of one partition, as its owner in `epoch` reported them."""

    partition: int
    epoch: int
    entries: Sequence[entry_pb2.Entry]


class PresenceServicer(presence_pb2_grpc.PresenceServiceServicer):
    """Takes log entries. `tell(news)` after each commit."""

    def __init__(
        self,
        store: Store,
        processing: Processing,
        contents: Contents,
        reader: LogReader,
        entries_max: int,
        tell: Callable[[News], None],
    ) -> None:
        self._store = store
        self._processing = processing
        self._contents = contents
        self._reader = reader
        self._entries_max = entries_max
        self._tell = tell

    async def Report(
        self, request: presence_pb2.ReportRequest, context: Context
    ) -> presence_pb2.ReportResponse:
        began = time.perf_counter()
        cursors: dict[int, int] = {}
        try:
            for chunk in chunks(request.partitions, self._entries_max):
                news = News()
                work = partial(self._apply, log_id=request.log_id, chunk=chunk, news=news)
                cursors |= await self._store.write(work)
                self._reader.log_id = request.log_id
                for message in news.messages:
                    self._contents.remember(message)
                self._tell(news)
        except Fault as fault:
            await _abort(context, fault)
        metrics.report_seconds.observe(time.perf_counter() - began)
        return presence_pb2.ReportResponse(
            cursors=[presence_pb2.Cursor(partition=p, pos=pos) for p, pos in cursors.items()]
        )

    def _apply(
        self,
        tx: Transaction,
        log_id: str,
        chunk: Sequence[Part],
        news: News,
    ) -> dict[int, int]:
        if not tx.log_id():
            tx.adopt_log(log_id)
        if tx.log_id() != log_id:
            raise LogReplaced(
                f"presence belongs to log {tx.log_id()}, not {log_id}; an operator must decide"
            )
        return {
            part.partition: self._processing.apply(
                tx, part.partition, part.epoch, part.entries, news
            ).pos
            for part in chunk
        }


class PresenceQueryServicer(presence_pb2_grpc.PresenceQueryServiceServicer):
    """Answers questions. `is_served(scheme)` tells whether a plugin serves a channel."""

    def __init__(
        self,
        store: Store,
        reader: LogReader,
        partitions: int,
        is_served: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._reader = reader
        self._partitions = partitions
        self._is_served = is_served

    async def Explain(
        self, request: presence_pb2.ExplainRequest, context: Context
    ) -> presence_pb2.ExplainResponse:
        wrong = name_fault(request.user) or subject_fault(request.subject)
        if not wrong and request.seq > _SEQ_MAX:
            wrong = f"A seq is at most {_SEQ_MAX}."
        if wrong:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, wrong)
        limit = min(request.limit or _LIMIT_DEFAULT, _LIMIT_MAX)
        try:
            first, last, positions = await self._messages(request.subject, request.seq, limit)
            facts = await self._store.read(
                lambda tx: self._facts(tx, request, first, last, positions)
            )
        except Fault as fault:
            await _abort(context, fault)
        return explain.story(facts)

    async def ListGoneEndpoints(
        self, request: presence_pb2.ListGoneEndpointsRequest, context: Context
    ) -> presence_pb2.ListGoneEndpointsResponse:
        uris = await self._store.read(lambda tx: tx.gone_endpoints(request.user, request.client_id))
        return presence_pb2.ListGoneEndpointsResponse(uris=uris)

    async def _messages(
        self, subject: str, seq: int, limit: int
    ) -> tuple[int, int, dict[int, int]]:
        """First and last seq to tell of, and the positions of those that the log has."""
        if seq:
            page = await self._reader.messages(subject, seq - 1, 1)
            return seq, seq, _positions(page, seq)
        head = (await self._reader.messages(subject, 0, 1)).head
        first = max(1, head - limit + 1)
        positions: dict[int, int] = {}
        after = first - 1
        while after < head:
            page = await self._reader.messages(subject, after, limit)
            if not page.messages:
                break
            positions |= _positions(page, head)
            after = page.messages[-1].message.seq
        return first, head, positions

    def _facts(
        self,
        tx: Transaction,
        request: presence_pb2.ExplainRequest,
        first: int,
        last: int,
        positions: dict[int, int],
    ) -> explain.Facts:
        user, subject = request.user, request.subject
        decided = tx.decided_in(user, subject, first, last)
        notifications = {row.notification_id for row in decided if row.notification_id}
        deliveries = {own_id: tx.deliveries_of(own_id) for own_id in notifications}
        attempts = {
            delivery.id: tx.attempts(delivery.id)
            for group in deliveries.values()
            for delivery in group
        }
        return explain.Facts(
            subject=subject,
            state=tx.load_user(user, subject),
            first=first,
            last=last,
            positions=positions,
            cursor_pos=tx.cursor(partition_of(subject, self._partitions)).pos,
            decided=decided,
            deliveries=deliveries,
            attempts=attempts,
            is_served=self._is_served,
        )


def chunks(
    partitions: Sequence[presence_pb2.PartitionEntries], entries_max: int
) -> Iterator[list[Part]]:
    """A Report cut into pieces of at most `entries_max` entries, in order; at least one piece."""
    chunk: list[Part] = []
    room = entries_max
    for part in partitions:
        entries: Sequence[entry_pb2.Entry] = part.entries
        while len(entries) > room:
            yield [*chunk, Part(part.partition, part.epoch, entries[:room])]
            entries = entries[room:]
            chunk, room = [], entries_max
        chunk.append(Part(part.partition, part.epoch, entries))
        room -= len(entries)
    yield chunk


def _positions(page: coordinator_pb2.ReadMessagesResponse, last: int) -> dict[int, int]:
    return {d.message.seq: d.pos for d in page.messages if d.message.seq <= last}


async def _abort(context: Context, fault: Fault) -> NoReturn:
    log.warning("call_failed", fault=type(fault).__name__)
    if isinstance(fault, Deposed):
        # Not this process's to do, or not any more: the caller finds out who it is now.
        await context.abort(grpc.StatusCode.UNAVAILABLE, "another presence service works now")
    await context.abort(fault.status, str(fault))
    raise AssertionError("abort always raises")
