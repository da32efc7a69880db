"""Brings handovers to their end: reads backlogs from the log and has them decided.

A handover row is there until its last decision is recorded, in the same transaction; so a start
finds every one that was under way, and goes on. The log is never read before the row is committed:
what is accepted later finds the user waiting. A backlog that begins with acknowledged messages is
read on; of what is left, messages are decided one by one up to a bound, and the rest is one record
for each stretch on which nothing changes for any client.

Knows the store, the log reader and the core. Must not know plugins. To drive it: `run()`, and
`wake()` after a commit that inserted handover rows.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from onward.types.v1 import entry_pb2

from services.chassis import logs
from services.chassis.errors import Fault
from services.chassis.tasks import lasting
from services.presence import metrics, state
from services.presence.contents import MESSAGES_MAX, Contents
from services.presence.cover import is_acknowledged
from services.presence.handover import decide_backlog, read_after
from services.presence.log_reader import LogReader
from services.presence.notifications import Span
from services.presence.outbox import News, Origin, Outbox
from services.presence.routing import Routing
from services.presence.state import FollowKey, Handover, Message, UserState
from services.presence.store import Store, Transaction

log = logs.get(__name__)

_LOOK_EVERY_S = 5.0
_FAULT_PAUSE_S = 0.5
# Enough for the messages that are decided one by one to be whole in one read, even if large.
_READ_BYTES_MAX = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Backlog:
    """What the log has of a subject above a seq."""

    # The first of them, to be decided one by one.
    messages: Sequence[entry_pb2.Message]
    positions: Sequence[int]
    # All further ones; None: there are none.
    rest: Span | None
    # Everything up to this seq is trimmed.
    floor: int


class Handovers:
    """Runs handovers, `at_once` at a time; `tell(news)` after each commit;
    `routing()` is the routing of now."""

    def __init__(
        self,
        store: Store,
        reader: LogReader,
        contents: Contents,
        outbox: Outbox,
        routing: Callable[[], Routing],
        at_once: int,
        messages_max: int,
        records_keep_s: float,
        tell: Callable[[News], None],
    ) -> None:
        self._records_keep_s = records_keep_s
        self._store = store
        self._reader = reader
        self._contents = contents
        self._outbox = outbox
        self._routing = routing
        self._at_once = at_once
        self._messages_max = messages_max
        self._tell = tell
        self._wake = asyncio.Event()
        self._in_hand: set[tuple[str, FollowKey]] = set()

    def wake(self) -> None:
        """There may be rows to work on."""
        self._wake.set()

    async def run(self) -> None:
        """Work for ever; cancel to stop, at any point."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                for user, row in await self._open():
                    if len(self._in_hand) < self._at_once:
                        self._start(group, user, row.key)
                try:
                    async with asyncio.timeout(_LOOK_EVERY_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _open(self) -> Sequence[tuple[str, Handover]]:
        """Some rows; none if the store does not answer."""
        try:
            return await self._store.read(lambda tx: tx.open_handovers(2 * self._at_once))
        except Fault as fault:
            log.warning("handover_fault", fault=type(fault).__name__)
            return []

    def _start(self, group: asyncio.TaskGroup, user: str, key: FollowKey) -> None:
        if (user, key) in self._in_hand:
            return
        self._in_hand.add((user, key))
        metrics.handovers_running.set(len(self._in_hand))

        def done(_: asyncio.Task[None]) -> None:
            self._in_hand.discard((user, key))
            metrics.handovers_running.set(len(self._in_hand))
            self._wake.set()

        group.create_task(lasting(self._hand_over(user, key))).add_done_callback(done)

    async def _hand_over(self, user: str, key: FollowKey) -> None:
        try:
            while not await self._step(user, key):
                pass  # The row has changed since the log was read: read again.
            metrics.handovers.inc()
        except Fault as fault:
            # The row stays. Waiting here keeps its place, so that a log which cannot be read is
            # not asked for at the pace of the loop.
            log.warning("handover_fault", fault=type(fault).__name__)
            await asyncio.sleep(_FAULT_PAUSE_S)

    async def _step(self, user: str, key: FollowKey) -> bool:
        """Decide the backlog, or a first part of it; True once the row is gone."""

        def begin(tx: Transaction) -> tuple[Handover, int, float] | None:
            # The follow is read before the handover, without which nobody deletes it.
            state_now = tx.load_user(user, key.subject)
            row = state_now.handovers.get(key)
            if row is None:
                return None
            after = read_after(state_now, row)
            return row, after, tx.now() - self._records_keep_s

        begun = await self._store.read(begin)
        if begun is None:
            return True
        row, after, since = begun
        backlog = await self._read(key.subject, after, since)
        decided = await self._store.write(lambda tx: self._decide(tx, user, row, backlog))
        if decided is None:
            return False
        for message in backlog.messages[-MESSAGES_MAX:]:
            self._contents.remember(message)
        news, last = decided
        self._tell(news)
        return last

    async def _read(self, subject: str, after: int, since: float) -> Backlog:
        """What the log has above `after`; messages from before `since` count as trimmed.

        Whether they were decided is not known any more, and they must not be told twice.
        """
        forgotten = 0
        while True:
            response = await self._reader.messages(
                subject, after, self._messages_max, _READ_BYTES_MAX
            )
            kept = [d for d in response.messages if _is_from(d.message, since)]
            if len(kept) < len(response.messages):
                forgotten = max(d.message.seq for d in response.messages if d not in kept)
            if kept or not response.messages or forgotten >= response.head:
                break
            after = forgotten
        messages = [d.message for d in kept if d.message.seq > forgotten]
        positions = [d.pos for d in kept if d.message.seq > forgotten]
        floor = max(response.floor, forgotten)
        reached = messages[-1].seq if messages else max(after, floor)
        rest = None
        if messages and reached < response.head:
            newest = (await self._reader.messages(subject, response.head - 1, 1)).messages
            if newest:
                rest = Span(reached + 1, newest[0].message.seq, newest[0].pos)
        return Backlog(messages, positions, rest, floor)

    def _decide(
        self, tx: Transaction, user: str, row: Handover, backlog: Backlog
    ) -> tuple[News, bool] | None:
        """Record the decisions, and whether they were the last; None if the row has changed."""
        subject = row.key.subject
        tx.lock([user])
        state_now = tx.load_user(user, subject)
        messages = [
            Message(subject, message.seq, pos)
            for message, pos in zip(backlog.messages, backlog.positions, strict=True)
        ]
        # After the death of an edge, most of a backlog is acknowledged by its last mark, which
        # ends at a position: summed up with what follows it, it would be notified all the same.
        last = backlog.rest is None or not is_acknowledged(state_now, messages[-1])
        spans = {span.to_seq: span for span in stretches(state_now, backlog.rest) if last}
        messages += [Message(subject, span.to_seq, span.pos) for span in spans.values()]
        routing = self._routing()
        origins = {
            message.seq: Origin(message.publisher, routing.plan(subject, message.content.headers))
            for message in backlog.messages
        }
        # The rest of a long backlog is not read: what its messages' headers say is not known.
        rest = Origin(None, routing.plan(subject))

        def origin_of(seq: int) -> Origin:
            return rest if seq in spans else origins[seq]

        effects = decide_backlog(
            state_now, row, messages, backlog.floor, last, lambda seq: origin_of(seq).plan.policy
        )
        if not effects:
            return None
        return self._record(tx, user, effects, spans, origin_of), last

    def _record(
        self,
        tx: Transaction,
        user: str,
        effects: Sequence[state.Effect],
        spans: Mapping[int, Span],
        origin_of: Callable[[int], Origin],
    ) -> News:
        news = News()
        for effect in effects:
            match effect:
                case state.Notify(subject, seq, _) if seq in spans:
                    self._outbox.notify(tx, user, subject, spans[seq], origin_of(seq), news)
                case state.Suppress(_, from_seq, to_seq, _) if from_seq == to_seq in spans:
                    whole = replace(effect, from_seq=spans[to_seq].from_seq)
                    self._outbox.write(tx, user, [whole], news=news)
                case _:
                    self._outbox.write(tx, user, [effect], origin_of, news)
        return news


def _is_from(message: entry_pb2.Message, since: float) -> bool:
    return not message.HasField("accepted_at") or message.accepted_at.seconds >= since


def stretches(state_now: UserState, rest: Span | None) -> list[Span]:
    """`rest`, cut where a client's follow begins or its acknowledgements end.

    On each piece what holds for the last message holds for all, so it is decided as one. The
    position is that of the last message of all: too high for earlier pieces, which at worst leaves
    a mark unused that would have covered them.
    """
    if rest is None:
        return []
    cuts = {seq for follow in state_now.follows.values() for seq in (follow.base, follow.acked)}
    ends = sorted(seq for seq in cuts if rest.from_seq <= seq < rest.to_seq)
    pieces: list[Span] = []
    first = rest.from_seq
    for end in [*ends, rest.to_seq]:
        pieces.append(Span(first, end, rest.pos))
        first = end + 1
    return pieces
