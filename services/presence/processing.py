"""Makes log entries take effect: the work of one transaction of a Report.

Rules: entries of a partition take effect in order of pos and without a hole, each exactly once,
because the partition's cursor moves in the same transaction. A presence event goes to the core; a
message is decided for every user who waits for its subject; a mark is kept.

Runs inside the store, on its thread. Knows entries and cores. Must not know gRPC or timers. What
others should look at after the commit is gathered in `News`.
"""

from collections import Counter
from collections.abc import Sequence

from onward.types.v1 import entry_pb2

from services.presence import handover, metrics
from services.presence.events import on_event
from services.presence.notifications import Span
from services.presence.outbox import News, Outbox
from services.presence.state import Graces, Message
from services.presence.store import Cursor, FanOut, Transaction


class Processing:
    """Applies entries. `fanout_users_max`: users of one message decided in one transaction."""

    def __init__(self, outbox: Outbox, graces: Graces, fanout_users_max: int) -> None:
        self._outbox = outbox
        self._graces = graces
        self._users_max = fanout_users_max

    def apply(
        self,
        tx: Transaction,
        partition: int,
        epoch: int,
        entries: Sequence[entry_pb2.Entry],
        news: News,
    ) -> Cursor:
        """Apply what follows on the partition's cursor; returns the cursor after it."""
        cursor = tx.cursor(partition)
        if epoch < cursor.epoch:
            return cursor
        new = _contiguous(entries, cursor.pos)
        # A waiting row that this batch inserts is not among them; the handover row that always
        # comes with it reads the log after this commit, and finds the batch's messages there.
        awaited = tx.waiting_subjects(
            list({entry.message.subject for entry in new if entry.HasField("message")})
        )
        kinds: Counter[str] = Counter()
        for entry in new:
            kind = entry.WhichOneof("body")
            if kind == "presence":
                user = entry.presence.user
                effects = on_event(
                    tx.load_user(user), entry.presence, entry.pos, tx.now(), self._graces
                )
                self._outbox.write(tx, user, effects, news=news)
            elif kind == "message" and entry.message.subject in awaited:
                news.messages.append(entry.message)
                self._message(tx, entry, news)
            elif kind == "mark":
                tx.put_mark(entry.mark.edge_id, partition, entry.mark.round, entry.mark.pos)
            kinds[kind or "unknown"] += 1
        for name, count in kinds.items():
            metrics.entries.labels(name).inc(count)
        pos = new[-1].pos if new else cursor.pos
        moved = Cursor(pos, epoch)
        if moved != cursor:
            tx.put_cursor(partition, moved)
        return moved

    def fan_out(self, tx: Transaction, fanout: FanOut, news: News) -> None:
        """Decide a message for the next users who wait for its subject, and note how far."""
        users = tx.users_waiting(fanout.subject, fanout.after_user, self._users_max)
        message = Message(fanout.subject, fanout.seq, fanout.pos)
        states = tx.load_followers(users, fanout.subject)
        due = [user for user in users if handover.is_due(states[user], message)]
        span = Span(fanout.seq, fanout.seq, fanout.pos)
        metrics.fanout_users.observe(len(users))
        self._outbox.notify_all(tx, due, fanout.subject, span, fanout.publisher, news)
        if len(users) < self._users_max:
            tx.drop_fanout(fanout.subject, fanout.seq)
            return
        news.fanouts = True
        rest = FanOut(fanout.subject, fanout.seq, fanout.pos, fanout.publisher, users[-1])
        tx.put_fanout(rest)

    def _message(self, tx: Transaction, entry: entry_pb2.Entry, news: News) -> None:
        message = entry.message
        whole = FanOut(message.subject, message.seq, entry.pos, message.publisher, "")
        self.fan_out(tx, whole, news)


def _contiguous(entries: Sequence[entry_pb2.Entry], pos: int) -> list[entry_pb2.Entry]:
    """The entries that follow on `pos` without a hole."""
    new: list[entry_pb2.Entry] = []
    for entry in entries:
        if entry.pos == pos + 1:
            new.append(entry)
            pos = entry.pos
        elif entry.pos > pos:
            break
    return new
