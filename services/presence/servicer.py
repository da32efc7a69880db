"""The gRPC face of presence for coordinators: `Report`. Queries are served by `query_servicer`.

Knows the contract and maps faults to statuses. A Report is applied in transactions of bounded size,
each whole: cursors and effects together.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import grpc
import grpc.aio
from onward.presence.v1 import presence_pb2, presence_pb2_grpc
from onward.types.v1 import entry_pb2

from services.chassis import logs
from services.chassis.errors import Deposed, Fault, LogReplaced
from services.presence import metrics
from services.presence.contents import Contents
from services.presence.dispatch import Dispatcher, Found, Reserved
from services.presence.log_reader import LogReader
from services.presence.outbox import News
from services.presence.plugins import Lane
from services.presence.processing import Part, Processing
from services.presence.store import Store, Transaction

log = logs.get(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class PresenceServicer(presence_pb2_grpc.PresenceServiceServicer):
    """Takes log entries. `tell(news)` after each commit; `accepted(message)` of each message."""

    def __init__(
        self,
        store: Store,
        processing: Processing,
        contents: Contents,
        reader: LogReader,
        entries_max: int,
        dispatcher: Dispatcher,
        tell: Callable[[News], None],
        accepted: Callable[[entry_pb2.Message], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._processing = processing
        self._contents = contents
        self._reader = reader
        self._entries_max = entries_max
        self._dispatcher = dispatcher
        self._tell = tell
        self._accepted = accepted
        self._taking: set[asyncio.Task[dict[int, int]]] = set()
        self._blocked: dict[int, None] = {}
        # The last Report was of another log.
        self.log_replaced = False

    @property
    def blocked(self) -> list[int]:
        """Partitions of this process whose entries were reported and cannot take effect."""
        return sorted(self._blocked.keys() & set(self._store.mine.partitions))

    async def Report(
        self, request: presence_pb2.ReportRequest, context: Context
    ) -> presence_pb2.ReportResponse:
        began = time.perf_counter()
        try:
            cursors = await self._take(request)
        except Fault as fault:
            self.log_replaced = isinstance(fault, LogReplaced)
            await abort(context, fault)
        except Exception as error:  # noqa: BLE001  # the handler's task ends here
            # A bug: these entries cannot take effect, and will be reported again and again.
            self._block(request.partitions, {part.partition: 0 for part in request.partitions})
            log.error("report_failed", error=type(error).__name__)
            await context.abort(grpc.StatusCode.INTERNAL, "the entries could not take effect")
        self.log_replaced = False
        self._block(request.partitions, cursors)
        metrics.report_seconds.observe(time.perf_counter() - began)
        return presence_pb2.ReportResponse(
            cursors=[presence_pb2.Cursor(partition=p, pos=pos) for p, pos in cursors.items()]
        )

    async def _take(self, request: presence_pb2.ReportRequest) -> dict[int, int]:
        """Applies the entries, piece by piece; returns the cursors."""
        metrics.report_entries.observe(sum(len(part.entries) for part in request.partitions))
        cursors: dict[int, int] = {}
        for chunk in chunks(request.partitions, self._entries_max):
            # A caller that gives up must not come between a claim and its call.
            taking = asyncio.create_task(self._take_chunk(request.log_id, chunk))
            self._taking.add(taking)
            taking.add_done_callback(self._taking.discard)
            cursors |= await asyncio.shield(taking)
        return cursors

    async def _take_chunk(self, log_id: str, chunk: Sequence[Part]) -> dict[int, int]:
        """Applies the entries in one transaction, and begins to send what they make due."""
        news = News()
        live = any(entry.HasField("message") for part in chunk for entry in part.entries)
        reserved = self._dispatcher.reserve() if live else Reserved()
        found: Mapping[Lane, Found] = {}

        def work(tx: Transaction) -> tuple[dict[int, int], Mapping[Lane, Found]]:
            cursors = self._apply(tx, log_id, chunk, news)
            if not reserved.lanes or not news.schemes:
                return cursors, {}
            return cursors, self._dispatcher.claim_new(tx, reserved, news.schemes, news.messages)

        try:
            cursors, found = await self._store.write(work)
            self._reader.log_id = log_id
            for message in news.messages:
                self._contents.remember(message)
            for part in chunk:
                for entry in part.entries:
                    if entry.HasField("message"):
                        self._accepted(entry.message)
        finally:
            self._dispatcher.begin(reserved, found)
        # Of what the dispatcher looked at in the transaction it has woken whom it must.
        news.schemes = {
            scheme for scheme in news.schemes if self._dispatcher.lane_for(scheme) not in found
        }
        self._tell(news)
        return cursors

    def _block(
        self, reported: Sequence[presence_pb2.PartitionEntries], cursors: Mapping[int, int]
    ) -> None:
        """Notes the partitions of this process whose cursor is not at the last entry reported."""
        for part in reported:
            last = part.entries[-1].pos if part.entries else 0
            if cursors.get(part.partition, last) < last:
                self._blocked[part.partition] = None
            else:
                self._blocked.pop(part.partition, None)
        metrics.blocked_partitions.set(len(self.blocked))

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
        mine = [part for part in chunk if part.partition in tx.mine.partitions]
        return self._processing.apply(tx, mine, news)


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


async def abort(context: Context, fault: Fault) -> NoReturn:
    """End the call with the fault's status and sentence."""
    log.warning("call_failed", fault=type(fault).__name__)
    if isinstance(fault, Deposed):
        # Not this process's to do, or not any more: the caller finds out who it is now.
        await context.abort(grpc.StatusCode.UNAVAILABLE, "another presence service works now")
    await context.abort(fault.status, str(fault))
    raise AssertionError("abort always raises")
