"""Makes log entries take effect: the work of one transaction of a Report.

Rules: entries of a partition take effect in order of pos and without a hole, each exactly once,
because the partition's cursor moves in the same transaction. A presence event goes to the core; a
message is decided for every user who waits for its subject; a mark is kept.

Users are locked before anything of theirs is read: those whom events name, and those who wait for
the messages' subjects; or who follow them, where a message is due to users who are online too. Of
a crowd only the first page is; the rest, and messages beyond what one transaction locks, are left
to `fanouts`.

Runs inside the store, on its thread. Knows entries and cores. Must not know gRPC or timers. What
others should look at after the commit is gathered in `News`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from onward.types.v1 import entry_pb2

from services.chassis.times import seconds_of
from services.presence import metrics
from services.presence.endpoint_rows import moves
from services.presence.events import on_event
from services.presence.handover import backlog_of_new_follows, is_due
from services.presence.notifications import Span
from services.presence.outbox import News, Origin, Outbox
from services.presence.plan import Plan, Policy
from services.presence.recording import Recording
from services.presence.routing import Routing
from services.presence.state import Effect, Graces, Message, PutFollow
from services.presence.store import Cursor, FanOut, Transaction

# Whom one transaction decides for; a page of each of the subjects asked for at once comes on top.
_USERS_MAX = 5_000
_SUBJECTS_AT_ONCE = 64


class Part(NamedTuple):
    """Entries of one partition, as its owner in `epoch` reported them."""

    partition: int
    epoch: int
    entries: Sequence[entry_pb2.Entry]


class Processing:
    """Applies entries. `fanout_users_max`: users of one message decided in one transaction;
    `routing()` is the routing of now."""

    def __init__(
        self,
        outbox: Outbox,
        graces: Graces,
        fanout_users_max: int,
        routing: Callable[[], Routing] = Routing,
    ) -> None:
        self._outbox = outbox
        self._graces = graces
        self._users_max = fanout_users_max
        self._routing = routing

    def apply(self, tx: Transaction, parts: Sequence[Part], news: News) -> dict[int, int]:
        """Apply what follows on each partition's cursor; returns the cursors after it. Each
        partition once."""
        entries = [entry for part in parts for entry in part.entries]
        subjects = {one.message.subject for one in entries if one.HasField("message")}
        tx.read_in_advance([part.partition for part in parts], list(subjects))
        crowd = self._lock(tx, entries, subjects)
        recording = Recording(tx)
        cursors = {
            part.partition: self._apply(tx, part, crowd, recording, news).pos for part in parts
        }
        recording.write()
        return cursors

    def _lock(
        self, tx: Transaction, entries: Sequence[entry_pb2.Entry], subjects: Collection[str]
    ) -> Mapping[str, Sequence[str]]:
        """Lock everybody concerned; returns, by subject, the first users who wait for it.

        Who begins to wait later is not among them; the handover row that always comes with a
        waiting row reads the log after this moment, and finds these messages there.
        """
        events = [one.presence for one in entries if one.HasField("presence")]
        users = {event.user for event in events}
        uris = {uri for event in events for uri in _registered(event) if moves(uri)}
        locked = users | (set(tx.users_of(sorted(uris))) if uris else set())
        routing = self._routing()
        following = {
            one.message.subject
            for one in entries
            if one.HasField("message") and _plan(routing, one.message).policy is not Policy.USER
        }
        awaited = sorted(following.union(tx.waiting_subjects(list(subjects))))
        # Beyond the bound nobody is decided here, and all are left to `fanouts`.
        crowd: dict[str, Sequence[str]] = dict.fromkeys(awaited, ())
        for start in range(0, len(awaited), _SUBJECTS_AT_ONCE):
            if len(locked) >= _USERS_MAX:
                break
            asked = awaited[start : start + _SUBJECTS_AT_ONCE]
            found = tx.crowds(asked, self._users_max, following)
            crowd |= found
            locked.update(user for users in found.values() for user in users)
        if locked:
            tx.lock(locked, uris)
            tx.read_users_in_advance(sorted(users))
        return crowd

    def _apply(
        self,
        tx: Transaction,
        part: Part,
        crowd: Mapping[str, Sequence[str]],
        recording: Recording,
        news: News,
    ) -> Cursor:
        partition, epoch = part.partition, part.epoch
        cursor = tx.cursor(partition)
        if epoch < cursor.epoch:
            return cursor
        new = _contiguous(part.entries, cursor.pos)
        kinds: Counter[str] = Counter()
        for entry in new:
            kind = entry.WhichOneof("body")
            if kind == "presence":
                event, before = entry.presence, tx.load_user(entry.presence.user)
                at = seconds_of(entry.appended_at)
                effects = on_event(before, event, entry.pos, at, tx.now(), self._graces)
                recording.user(before, effects, event.client_id)
                if any(self._routing().concerns_all(subject) for subject in _followed(effects)):
                    effects += backlog_of_new_follows(effects, entry.pos)
                self._outbox.write(tx, event.user, effects, news=news)
            elif kind == "message":
                recording.message(entry.message)
                if entry.message.subject in crowd:
                    news.messages.append(entry.message)
                    self._message(tx, entry, crowd[entry.message.subject], news)
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

    def fan_out(self, tx: Transaction, fanouts: Sequence[FanOut], news: News) -> int:
        """Decide messages for the next users who wait for their subjects, and note how far: as many
        of the messages as have a page of users together, at least one. Returns how many."""
        pages: list[tuple[FanOut, Sequence[str]]] = []
        locked: set[str] = set()
        for fanout in fanouts:
            if len(locked) >= self._users_max:
                break
            find = tx.users_waiting if _by_waiting(fanout.plan) else tx.users_following
            users = find(fanout.subject, fanout.after_user, self._users_max)
            pages.append((fanout, users))
            locked.update(users)
        tx.lock(locked)
        for fanout, users in pages:
            self._decide(tx, fanout, users, news)
        return len(pages)

    def _decide(self, tx: Transaction, fanout: FanOut, users: Sequence[str], news: News) -> None:
        message = Message(fanout.subject, fanout.seq, fanout.pos)
        states = tx.load_followers(users, fanout.subject)
        due = [user for user in users if is_due(states[user], message, fanout.plan.policy)]
        span = Span(fanout.seq, fanout.seq, fanout.pos)
        metrics.fanout_users.observe(len(users))
        more = len(users) >= self._users_max
        origin = Origin(fanout.publisher, fanout.plan, bulk=more or bool(fanout.after_user))
        self._outbox.notify_all(tx, due, fanout.subject, span, origin, news)
        if not more:
            tx.drop_fanout(fanout.subject, fanout.seq)
            return
        news.fanouts = True
        tx.put_fanout(replace(fanout, after_user=users[-1]))

    def _message(
        self, tx: Transaction, entry: entry_pb2.Entry, users: Sequence[str], news: News
    ) -> None:
        message = entry.message
        plan = _plan(self._routing(), message)
        whole = FanOut(message.subject, message.seq, entry.pos, message.publisher, "", plan)
        if users:
            self._decide(tx, whole, users, news)
        else:
            news.fanouts = True
            tx.put_fanout(whole)


def _plan(routing: Routing, message: entry_pb2.Message) -> Plan:
    return routing.plan(message.subject, message.content.headers)


def _by_waiting(plan: Plan) -> bool:
    """Whether those who wait for the subject are all to whom the message may be due."""
    return plan.policy is Policy.USER


def _followed(effects: Sequence[Effect]) -> set[str]:
    """The subjects of follows that are written."""
    return {one.follow.subject for one in effects if isinstance(one, PutFollow)}


def _registered(event: entry_pb2.PresenceEvent) -> Sequence[str]:
    """The endpoints that an event says are its user's."""
    if event.HasField("endpoint_added"):
        return [event.endpoint_added.uri]
    return event.connected.endpoints if event.HasField("connected") else ()


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
