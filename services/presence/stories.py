"""Reads what `explain` tells a story from, once, or whenever it may have changed.

A watch is woken by the commits of this process that touch its user, or the partition of its
subject; so a quiet store is hardly asked. Knows the store and the log reader; the sentences are
`explain`'s. To drive it: `story(question)`, or `async for story in watch(question)`; `end()` ends
all watches.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import grpc
from onward.coordinator.v1 import coordinator_pb2
from onward.presence.v1 import presence_pb2

from services.chassis.errors import Fault, Unavailable
from services.chassis.subjects import partition_of
from services.chassis.times import seconds_of
from services.presence import explain, metrics
from services.presence.log_reader import LogReader
from services.presence.routing import Routing
from services.presence.store import Store, Touched, Transaction

_LIMIT_DEFAULT, _LIMIT_MAX = 100, 1_000
# What changes sooner after what was told last is told with it.
_TOGETHER_S = 0.2
# A story is looked at again after this long even if nothing woke it: another replica may have
# committed something of it, the log may have been trimmed, a plugin may have come or gone.
_LOOK_EVERY_S = 1.0


class TooManyWatches(Fault):
    """As many stories are watched as may be."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED


class _Watch:
    """One watcher, and what wakes it."""

    __slots__ = ("changed", "partition", "user")

    def __init__(self, user: str, partition: int) -> None:
        self.user = user
        self.partition = partition
        self.changed = asyncio.Event()


class Stories:
    """Tells stories. `is_served(scheme)` tells whether a plugin serves a channel, `is_serving`
    whether it says that it is able to now; `routing()` is the routing of now."""

    def __init__(
        self,
        store: Store,
        reader: LogReader,
        partitions: int,
        watches_max: int,
        is_served: Callable[[str], bool],
        is_serving: Callable[[str], bool] = lambda _: True,
        routing: Callable[[], Routing] = Routing,
    ) -> None:
        self._store = store
        self._reader = reader
        self._partitions = partitions
        self._watches_max = watches_max
        self._is_served = is_served
        self._is_serving = is_serving
        self._routing = routing
        self._watches: set[_Watch] = set()
        self._ended = False
        store.on_commit(self._touched)

    async def story(self, question: presence_pb2.ExplainRequest) -> presence_pb2.ExplainResponse:
        """The story as it is now. Raises Unavailable, LogReplaced."""
        limit = min(question.limit or _LIMIT_DEFAULT, _LIMIT_MAX)
        kept = await self._messages(question.subject, question.seq, limit)
        facts = await self._store.read(lambda tx: self._facts(tx, question, kept))
        return explain.story(facts)

    async def watch(
        self, question: presence_pb2.ExplainRequest
    ) -> AsyncGenerator[presence_pb2.ExplainResponse, None]:
        """The story now, and after each change. Raises as `story` at first, and TooManyWatches."""
        if len(self._watches) >= self._watches_max:
            raise TooManyWatches(f"{self._watches_max} stories are watched; try again later")
        watch = _Watch(question.user, partition_of(question.subject, self._partitions))
        self._watches.add(watch)
        metrics.watches.set(len(self._watches))
        told: presence_pb2.ExplainResponse | None = None
        try:
            while not self._ended:
                watch.changed.clear()
                try:
                    story = await self.story(question)
                except Unavailable:
                    # No coordinator at the moment: whoever began to watch goes on watching.
                    if told is None:
                        raise
                    story = told
                if story != told:
                    told = story
                    yield story
                await _changed(watch)
        finally:
            self._watches.discard(watch)
            metrics.watches.set(len(self._watches))

    def end(self) -> None:
        """No more watches; those there are end soon."""
        self._ended = True
        for watch in self._watches:
            watch.changed.set()

    def _touched(self, touched: Touched) -> None:
        for watch in self._watches:
            if watch.user in touched.users or watch.partition in touched.partitions:
                watch.changed.set()

    # -- what a story is told from ------------------------------------------------------------

    async def _messages(self, subject: str, seq: int, limit: int) -> "_Kept":
        """What is to be told of."""
        if seq:
            kept = _Kept(seq, seq)
            kept.note(await self._reader.messages(subject, seq - 1, 1))
            return kept
        head = (await self._reader.messages(subject, 0, 1)).head
        kept = _Kept(max(1, head - limit + 1), head)
        after = kept.first - 1
        while after < head:
            page = await self._reader.messages(subject, after, limit)
            if not page.messages:
                break
            kept.note(page)
            after = page.messages[-1].message.seq
        return kept

    def _facts(
        self,
        tx: Transaction,
        question: presence_pb2.ExplainRequest,
        kept: "_Kept",
    ) -> explain.Facts:
        user, subject = question.user, question.subject
        decided = tx.decided_in(user, subject, kept.first, kept.last)
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
            first=kept.first,
            last=kept.last,
            positions=kept.positions,
            accepted=kept.accepted,
            cursor_pos=tx.cursor(partition_of(subject, self._partitions)).pos,
            decided=decided,
            deliveries=deliveries,
            attempts=attempts,
            receipts=tx.receipts(list(attempts)),
            is_served=self._is_served,
            is_serving=self._is_serving,
            told={
                own_id: sum(span.count for span in spans)
                for own_id, spans in tx.members_of(list(notifications)).items()
            },
            plans={
                own_id: one.plan for own_id, one in tx.notifications(list(notifications)).items()
            },
            passed_over=kept.passed_over(self._routing()),
            now=tx.now(),
        )


@dataclass(slots=True)
class _Kept:
    """Messages to tell of, first to last, and what the log has of them, by seq."""

    first: int
    last: int
    positions: dict[int, int] = field(default_factory=dict)
    accepted: dict[int, float] = field(default_factory=dict)
    # Those that have any.
    headers: dict[int, tuple[str, Mapping[str, str]]] = field(default_factory=dict)

    def note(self, page: coordinator_pb2.ReadMessagesResponse) -> None:
        """Take what a read has found."""
        for found in page.messages:
            message = found.message
            if message.seq <= self.last:
                self.positions[message.seq] = found.pos
                if message.content.headers:
                    self.headers[message.seq] = message.subject, message.content.headers
                if message.HasField("accepted_at"):
                    self.accepted[message.seq] = seconds_of(message.accepted_at)

    def passed_over(self, routing: Routing) -> Mapping[int, Sequence[str]]:
        """What is to be said of headers that do not count, by the routing of now."""
        said = {seq: routing.passed_over(*one) for seq, one in self.headers.items()}
        return {seq: sentences for seq, sentences in said.items() if sentences}


async def _changed(watch: _Watch) -> None:
    """Wait until the story may have changed, and a little for what comes with the change."""
    await asyncio.sleep(_TOGETHER_S)
    try:
        async with asyncio.timeout(_LOOK_EVERY_S):
            await watch.changed.wait()
    except TimeoutError:
        pass
