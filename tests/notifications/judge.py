"""Decides from a history whether everybody was notified as they had to be: N1, N2, N3. Pure.

The history is a list of records in the order of what happened, each with `event` and `at`, the time
of day. It imports nothing of the services; who stands how is `standing`'s to tell, what a plan or a
wish means `wanted`'s, what may become of deliveries `deliveries`', when they may be sent `claims`'.
Records:

    settings(…)          routing(routing): the file is so now; routed: every service has read it
    message(partition, pos, subject, seq, publisher, headers)    accepted
    event(partition, pos, kind, user, client, number, generation, edge, …)    in the log
    mark(partition, pos, edge, round, up_to)
    acks(user, client, positions): received, whoever heard of it
    edge_died(edge)    trimmed(subject, floor)
    commit(who, notes): a transaction of presence; its notes in the order of its writes:
        cursor(partition, pos)    wish(user, wish)    revoked(user, subjects)
        decided(user, subject, first, last, notification, reason)
        taken_out(user, subject, last, notification, reason)
        shortened(user, subject, first, last): the first messages of it are taken out of its
            notification; they are decided next
        undecided(user, subject, last, reason): the decision is put aside for another one
        notification(id, user, subject, first)
        delivery(id, notification, user, subject, uri, state, due_at, reason, attempts, held, step)
        claimed(delivery, attempt)    outcome(delivery, attempt, outcome)
    handed(delivery, attempt, user, uri, subject, first, last, count, seqs): to a plugin
    answered(delivery, attempt, outcome, since): by a plugin; who asked may not have heard it
    mood(plugin, mood)    explained(user, subject, outcomes)    end
    broken(who, fault): the story itself noticed something

Commits are in order, so almost everything is decided exactly. Tolerances, each where the design
lets two things race: from when a client does not answer any more (`standing`); which of two routing
files was read, between `routing` and `routed`; the rest of a long backlog, which is decided in one
piece, without its headers and publishers.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.notifications.deliveries import Deliveries
from tests.notifications.standing import NO, YES, People
from tests.notifications.wanted import Plan, channel_of, objection, plan_of, wants

Record = Mapping[str, Any]
_BEYOND = 1 << 62  # every position
# Reasons that are `wanted.objection`'s to confirm.
_OBJECTIONS = frozenset({"EXPIRED", "MUTED", "NO_ROUTE", "PREFERENCE", "QUIET_HOURS"})


@dataclass
class Message:
    """An accepted one."""

    subject: str
    seq: int
    pos: int
    publisher: str
    headers: Mapping[str, str]
    # The routing files that may be asked for it begin with this one.
    routing: int
    place: int
    # It may be told in one piece with others of a long backlog.
    rest: bool


@dataclass
class Row:
    """A decision about messages first to last."""

    first: int
    last: int
    notification: str
    reason: str
    plans: frozenset[Plan] = field(default_factory=frozenset)
    # It may be a piece of the rest of a long backlog, of which only the last position is known.
    rest: bool = False


class Judge:
    """`judge(history)` tells what was broken, a line each; `checked` counts what was looked at."""

    def __init__(self) -> None:
        self.people = People()
        self.deliveries = Deliveries(self)
        self.checked: Counter[str] = Counter()
        self.broken: list[str] = []
        self.settings: Mapping[str, Any] = {}
        self.routings: list[Mapping[str, Any]] = []
        self.messages: dict[tuple[str, int], Message] = {}
        self._read = 0  # every service has read this routing, or a later one
        self._by_pos: dict[tuple[int, int], Record] = {}
        self._applied: Counter[int] = Counter()
        self._before: Counter[int] = Counter()  # as it was before this commit
        self._cursors: dict[int, int] = {}  # as this commit moves them
        # Rows that this commit puts aside; what is left of them is written anew.
        self._aside: list[tuple[str, str, Row]] = []
        # Of a transaction: what was taken out of the front of a row.
        self._cut_off: set[tuple[str, str, int, int]] = set()
        self._acks: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        self._floors: Counter[str] = Counter()
        self.rows: dict[tuple[str, str], list[Row]] = defaultdict(list)
        self._explained: list[Record] = []

    def judge(self, history: Sequence[Record]) -> list[str]:
        for place, record in enumerate(history):
            self.people.place = place
            self.people.now = record["at"]
            take: Callable[[Record], None] | None = getattr(self, f"_on_{record['event']}", None)
            if take is not None:
                take(record)
        self._finish()
        return self.broken

    def break_(self, rule: str, what: str) -> None:
        at = self.people.now % 100_000
        self.broken.append(f"{rule} at {at:.3f}: {what}")

    # -- what happened ------------------------------------------------------------------------

    def _on_settings(self, r: Record) -> None:
        self.settings = self.people.settings = r

    def _on_broken(self, r: Record) -> None:
        self.break_("story", f"{r['who']}: {r['fault']}")

    def _on_routing(self, r: Record) -> None:
        self.routings.append(r["routing"])

    def _on_routed(self, _: Record) -> None:
        self._read = len(self.routings) - 1

    def _on_message(self, r: Record) -> None:
        subject, seq = r["subject"], r["seq"]
        self._by_pos[r["partition"], r["pos"]] = r
        self.people.partitions[subject] = r["partition"]
        self.messages[subject, seq] = Message(
            subject, seq, r["pos"], r["publisher"], r["headers"], self._read, self.people.place,
            seq > self.settings["handover_messages_max"],
        )  # fmt: skip

    def _on_event(self, r: Record) -> None:
        self._by_pos[r["partition"], r["pos"]] = r

    _on_mark = _on_event

    def _on_acks(self, r: Record) -> None:
        mine = self._acks[r["user"], r["client"]]
        for subject, seq in r["positions"].items():
            mine[subject] = max(seq, mine.get(subject, 0))

    def _on_edge_died(self, r: Record) -> None:
        self.people.edge_died(r["edge"], r["at"])

    def _on_trimmed(self, r: Record) -> None:
        self._floors[r["subject"]] = r["floor"]

    def _on_handed(self, r: Record) -> None:
        self.deliveries.handed(r)

    def _on_answered(self, r: Record) -> None:
        self.deliveries.answered(r)

    def _on_explained(self, r: Record) -> None:
        self._explained.append(r)

    def _on_commit(self, r: Record) -> None:
        notes = r["notes"]
        self.people.left.clear()
        self._aside.clear()
        self._cut_off.clear()
        self._before = self._applied.copy()
        self._cursors = {p: pos for kind, *of in notes if kind == "cursor" for p, pos in [of]}
        for kind, *values in notes:
            if kind == "cursor":
                self._advance(*values)
            elif kind == "wish":
                self.people.users[values[0]].wish = values[1]
            elif kind == "revoked":
                self.people.revoke(*values)
            elif kind == "decided":
                self._catch_up(values[1], values[3])
                self._decided(*values)
            elif kind == "undecided":
                self._undecided(*values)
            elif kind == "taken_out":
                self._taken_out(*values)
            elif kind == "shortened":
                self._shortened(*values)
            else:
                self.deliveries.note(kind, values)
        self.deliveries.committed()

    def _catch_up(self, subject: str, last: int) -> None:
        """A live message is decided when the entries before it have taken effect, and its cursor
        is written with those behind it."""
        message = self.messages[subject, last]
        partition = self.people.partitions[subject]
        if self._applied[partition] < message.pos <= self._cursors.get(partition, 0):
            self._advance(partition, message.pos)

    def _advance(self, partition: int, pos: int) -> None:
        for one in range(self._applied[partition] + 1, pos + 1):
            self.people.take(self._by_pos[partition, one])
        self._applied[partition] = max(pos, self._applied[partition])

    # -- decisions ----------------------------------------------------------------------------

    def plans(self, subject: str, first: int, last: int, rest: bool) -> frozenset[Plan]:
        """How these messages may be to be notified, by the routing files that may be asked."""
        message = self.messages[subject, last]
        headers = [message.headers] if first == last else []
        if rest:
            headers.append({})
        return frozenset(
            plan_of(routing, subject, one)
            for routing in self.routings[message.routing :]
            for one in headers
        )

    def pos(self, subject: str, row: Row, sure: bool) -> int:
        """The position of the row's last message; for what is sure, above all marks if presence
        does not know it."""
        return _BEYOND if sure and row.rest else self.messages[subject, row.last].pos

    def wanted(self, user: str, plan: Plan) -> set[str]:
        """The endpoints at which the user wants it."""
        of = self.people.users[user]
        return {
            uri
            for uri, endpoint in of.endpoints.items()
            if not endpoint.opted_out
            and plan.step(channel_of(uri)) is not None
            and wants(of.wish, plan, channel_of(uri))
        }

    def _decided(
        self, user: str, subject: str, first: int, last: int, notification: str, reason: str
    ) -> None:
        self.checked["decided" if notification else reason] += 1
        rows = self.rows[user, subject]
        message = self.messages[subject, last]
        partition = self.people.partitions[subject]
        # Else from a backlog, which may reach beyond what has taken effect.
        live = self._before[partition] < message.pos <= self._cursors.get(partition, 0)
        rest = first < last or (message.rest and not live)
        plans = self.plans(subject, first, last, rest)
        row = Row(first, last, notification, reason, plans, rest)
        what = f"{first}–{last} of {subject} for {user}"
        again = [one for one in rows if one.first <= last and first <= one.last]
        # What a follow that had ended left out may be due to one that began since.
        if any(one.notification or one.reason != "UNSUBSCRIBED" for one in again):
            self.break_("N1", f"{what} was decided twice")
        rows[:] = [one for one in rows if one not in again]
        rows.append(row)
        if notification:
            self._notified(user, row, subject, what)
        else:
            self._suppressed(user, row, subject, what)

    def _notified(self, user: str, row: Row, subject: str, what: str) -> None:
        people, seq = self.people, row.last
        message = self.messages[subject, seq]
        if message.publisher == user and not row.rest:
            self.break_("N1", f"{what} is the user's own, and is notified")
        if not people.is_followed(user, subject, seq):
            self.break_("N1", f"{what} is notified, and not followed")
        uris = [u for u, e in people.users[user].endpoints.items() if not e.opted_out]
        wish = people.users[user].wish
        against = [objection(plan, wish, subject, uris, people.now) for plan in row.plans]
        if not uris or all(against):
            self.break_("N1", f"{what} is notified against {against or 'no endpoint'}")
        if all(plan.policy == "user" for plan in row.plans):
            if people.acknowledged(user, subject, seq, self.pos(subject, row, True), sure=True):
                self.break_("N1", f"{what} is notified, and was known to be acknowledged")
            if people.answers(user, subject, seq) == YES:
                self.break_("N1", f"{what} is notified, while a client answers for it")
        self.deliveries.decided(row.notification, user, subject, row, what)

    def _suppressed(self, user: str, row: Row, subject: str, what: str) -> None:
        people, reason = self.people, row.reason
        of, message = people.users[user], self.messages[subject, row.last]
        if any(
            (user, subject, reason) == (*whose, aside.reason)
            and aside.first <= row.first <= row.last <= aside.last
            for *whose, aside in self._aside
        ):
            return
        uris = [uri for uri, endpoint in of.endpoints.items() if not endpoint.opted_out]
        if reason in _OBJECTIONS:
            right = any(
                reason in objection(plan, of.wish, subject, uris, people.now) for plan in row.plans
            )
        elif reason == "ACKNOWLEDGED":
            right = (user, subject, row.first, row.last) in self._cut_off
        elif reason == "PUBLISHER":
            right = message.publisher == user
        elif reason == "NO_ENDPOINT":
            right = not of.endpoints
        elif reason == "OPTED_OUT":
            right = bool(of.endpoints) and not uris
        elif reason == "UNSUBSCRIBED":
            right = not people.is_followed(user, subject, row.last)
            right &= any(True for _ in people.follows(user, subject, row.last))
        elif reason == "TRIMMED":
            right = row.last <= self._floors[subject]
        else:
            right = False
        if not right:
            self.break_("N1", f"{what} was suppressed, as {reason}")

    def _undecided(self, user: str, subject: str, last: int, reason: str) -> None:
        """Only the end of a follow can have been too early: another one that has the message began,
        and presence had not come to it yet."""
        rows = self.rows[user, subject]
        self._aside += [(user, subject, row) for row in rows if row.last == last]
        rows[:] = [row for row in rows if row.last != last]
        if reason != "UNSUBSCRIBED" or not self.people.is_followed(user, subject, last):
            self.break_("N1", f"{last} of {subject} for {user} is not decided as {reason} any more")

    def _taken_out(
        self, user: str, subject: str, last: int, notification: str, reason: str
    ) -> None:
        row = next(one for one in self.rows[user, subject] if one.last == last)
        if not notification:
            return  # Once more, for another delivery of the same batch.
        row.notification, row.reason = "", reason
        message = self.messages[subject, last]
        known = self.people.acknowledged(user, subject, last, message.pos, sure=False)
        if reason != "ACKNOWLEDGED" or not known:
            self.break_("N1", f"{last} of {subject} for {user} was taken out, as {reason}")
        if all(plan.policy != "user" for plan in row.plans):
            self.break_("N1", f"{last} of {subject} for {user} was taken out for all endpoints")
        self.deliveries.taken_out(notification, row)

    def _shortened(self, user: str, subject: str, first: int, last: int) -> None:
        row = next(one for one in self.rows[user, subject] if one.last == last)
        what = f"{row.first}–{first - 1} of {subject} for {user}"
        for seq in range(row.first, first):
            pos = self.messages[subject, seq].pos
            if not self.people.acknowledged(user, subject, seq, pos, sure=False):
                self.break_("N1", f"{what} was taken out, and {seq} is not acknowledged")
                break
        if not row.first < first <= last or not row.notification:
            self.break_("N1", f"{what} was taken out of what has none of it")
        if all(plan.policy != "user" for plan in row.plans):
            self.break_("N1", f"{what} was taken out for all endpoints")
        self._cut_off.add((user, subject, row.first, first - 1))
        row.first = first

    # -- at the end ---------------------------------------------------------------------------

    def _finish(self) -> None:
        for user in list(self.people.users):
            for (subject, seq), message in self.messages.items():
                if any(True for _ in self.people.follows(user, subject, seq)):
                    self._check_decided(user, message)
        self.deliveries.finish()
        for r in self._explained:
            self._check_explained(r)

    def _check_decided(self, user: str, message: Message) -> None:
        """N1: acknowledged, answered for, or decided."""
        people, subject, seq = self.people, message.subject, message.seq
        self.checked["due"] += 1
        if any(row.first <= seq <= row.last for row in self.rows[user, subject]):
            return
        had = [
            follow
            for follow in people.follows(user, subject, seq)
            if follow.ended is None or follow.ended > message.place
        ]
        policies = {plan.policy for plan in self.plans(subject, seq, seq, message.rest)}
        still = any(follow.ended is None for follow in had)
        # Under other policies than `user` an open follow is enough.
        excused = "user" in policies or not still
        answered = people.answers(user, subject, seq, at_last=True) == YES
        if had and not (excused and (self._received(user, subject, seq) or answered)):
            self.break_("N1", f"{seq} of {subject} for {user} was not decided ({policies})")

    def _received(self, user: str, subject: str, seq: int) -> bool:
        """Whether a client has said so to anybody."""
        return any(
            seq <= max(self._acks[user, follow.client].get(subject, 0), follow.start)
            for follow in self.people.follows(user, subject, seq)
        )

    def _check_explained(self, r: Record) -> None:
        """What is told must be what was decided, of each message once, in order."""
        user, subject = r["user"], r["subject"]
        expected = 0
        for first, last, state, _ in r["outcomes"]:
            what = f"{first}–{last} of {subject} for {user}"
            if expected and first != expected:
                self.break_("explain", f"{what} follows on {expected - 1}")
            expected = last + 1
            rows = [one for one in self.rows[user, subject] if one.first <= last <= one.last]
            if not self._is_told(user, subject, last, state, rows[0] if rows else None):
                self.break_("explain", f"{what} is told as {state}; decided: {rows}")

    def _is_told(self, user: str, subject: str, seq: int, state: str, row: Row | None) -> bool:
        if row is None:
            pos = self.messages[subject, seq].pos
            received = self._received(user, subject, seq) or self.people.acknowledged(
                user, subject, seq, pos, sure=False
            )
            answers = self.people.answers(user, subject, seq, at_last=True) != NO
            gone = seq <= self._floors[subject]
            return (
                (state == "ACKNOWLEDGED" and received)
                or (state == "ANSWERED_FOR" and answers)
                or state in ("NOT_FOLLOWED", "NOT_YET")
                or (state == "NOT_FOUND" and gone)
            )
        if not row.notification:
            return state == ("ACKNOWLEDGED" if row.reason == "ACKNOWLEDGED" else "SUPPRESSED")
        states = self.deliveries.states(row.notification)
        if states & {"accepted", "delivered"}:
            return state == "NOTIFIED"
        return state in ("UNKNOWN", "ACKNOWLEDGED", "SUPPRESSED", "FAILED")
