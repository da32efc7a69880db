"""What may become of notifications and their deliveries: part of `judge`, told anew. Pure.

A delivery is looked at whenever a transaction changes it: begun, held, put off, claimed, settled,
cancelled, expired. Whatever was claimed is compared with what a plugin was handed and answered.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.notifications.standing import NO, YES
from tests.notifications.wanted import Plan, channel_of, muted, quiet_end, rate_of, wants

Record = Mapping[str, Any]
_OPEN = frozenset({"pending", "retry", "unknown"})
# What a try came to: nothing was sent; or nobody knows.
_NOT_SENT = frozenset(
    {
        "RETRY", "REJECTED_MESSAGE", "ENDPOINT_GONE", "OPTED_OUT", "MISCONFIGURED", "EXPIRED",
        "PROVIDER_UNAVAILABLE", "CALL_REFUSED",
    }
)  # fmt: skip
_IN_DOUBT = frozenset({"UNKNOWN", "CALL_BROKEN", "CALL_TIMED_OUT", ""})
_UNHEARD = _IN_DOUBT | {"CALL_REFUSED"}
# States of a delivery that has ended with nothing sent.
_FRUITLESS = frozenset({"failed", "dead", "expired", "cancelled"})
_ENDS = {
    "accepted": {"ACCEPTED"},
    "delivered": {"DELIVERED"},
    "failed": {"REJECTED_MESSAGE", "ENDPOINT_GONE", "OPTED_OUT"},
    "retry": _NOT_SENT,
    "unknown": _IN_DOUBT,
    "dead": {"RETRY", *_IN_DOUBT},
}
_LEAVES = {
    "ENDPOINT_REMOVED", "ENDPOINT_MOVED", "ENDPOINT_GONE", "OPTED_OUT",
}  # fmt: skip
# Seconds that two clocks of floats may differ by.
_EPSILON_S = 2e-3


@dataclass
class Told:
    """What one claim may tell of: surely, and at most; and how many messages at most."""

    sure: set[int]
    perhaps: set[int]
    # Ranges of a long backlog among them, whose middle is not looked at.
    ranges: bool


@dataclass
class Delivery:
    """One notification for one endpoint."""

    id: str
    notification: "Notification"
    uri: str
    step: int
    state: str = ""
    due_at: float | None = None
    reason: str = ""
    held: bool = False
    claims: dict[int, Told] = field(default_factory=dict)
    outcomes: dict[int, str] = field(default_factory=dict)
    answers: dict[int, tuple[str, float | None]] = field(default_factory=dict)
    handed: list[Record] = field(default_factory=list)
    # It waited for something: a retry, quiet hours, a rate, a client.
    waited: bool = False

    @property
    def channel(self) -> str:
        return channel_of(self.uri)


@dataclass
class Notification:
    """What is due to a user on a subject."""

    id: str
    user: str
    subject: str
    created: float
    # When something of the (user, subject) was last claimed, then.
    last_sent: float | None
    plans: frozenset[Plan] = field(default_factory=frozenset)
    expires: float = 0.0
    rows: list[Any] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    claimed: bool = False


class Deliveries:
    """Part of a `Judge`, which it asks for people, messages and plans."""

    def __init__(self, judge: Any) -> None:
        self._judge = judge
        self.moody = False
        self._notifications: dict[str, Notification] = {}
        self._all: dict[str, Delivery] = {}
        self._sent: dict[tuple[str, str], float] = {}
        # By user and channel: what is left of the rate, surely and at most, and when.
        self._paces: dict[tuple[str, str], tuple[float, float, float]] = {}
        self._told: dict[tuple[str, str, str, int], str] = {}
        self._touched: list[tuple[Delivery, str]] = []

    def _break(self, rule: str, what: str) -> None:
        self._judge.break_(rule, what)

    @property
    def _now(self) -> float:
        return float(self._judge.people.now)

    # -- what the store says ------------------------------------------------------------------

    def note(self, kind: str, values: Sequence[Any]) -> None:
        if kind == "notification":
            own_id, user, subject, _ = values
            last_sent = self._sent.get((user, subject))
            self._notifications[own_id] = Notification(own_id, user, subject, self._now, last_sent)
        elif kind == "delivery":
            self._delivery(*values)
        elif kind == "claimed":
            delivery, attempt = self._all[values[0]], values[1]
            if attempt not in delivery.claims:
                self._break("N2", f"{_name(delivery)} was tried as {attempt}, and never claimed")
        elif kind == "outcome":
            self._outcome(self._all[values[0]], values[1], values[2])

    def decided(self, own_id: str, user: str, subject: str, row: Any, what: str) -> None:
        """A message begins, or joins, a notification."""
        notification = self._notifications[own_id]
        plans = frozenset(plan.shared for plan in row.plans)
        if not notification.rows:
            notification.plans = plans
            self._begin(notification, row, what)
        else:
            notification.plans &= plans
            if notification.claimed:
                self._break("N1", f"{what} joined what had been handed to a plugin")
            if not notification.plans or all(plan.expires_at is not None for plan in row.plans):
                self._break("N1", f"{what} joined a notification of another plan")
        notification.rows.append(row)

    def _begin(self, notification: Notification, row: Any, what: str) -> None:
        judge = self._judge
        there = {delivery.uri: delivery.step for delivery in notification.deliveries}
        right = [judge.wanted(notification.user, plan) for plan in row.plans]
        if set(there) not in right:
            self._break("N1", f"{what} goes to {sorted(there)}, not to {right}")
        if quiet_end(judge.people.users[notification.user].wish, self._now) is not None:
            for delivery in notification.deliveries:
                delivery.waited = True
        notification.expires = max(
            min(
                self._now
                + (judge.settings["expiry_s"] if plan.expiry_s is None else plan.expiry_s),
                float("inf") if plan.expires_at is None else plan.expires_at,
            )
            for plan in row.plans
        )

    def taken_out(self, own_id: str, row: Any) -> None:
        notification = self._notifications[own_id]
        notification.rows = [one for one in notification.rows if one is not row]

    def _delivery(
        self,
        own_id: str,
        notification: str,
        user: str,
        subject: str,
        uri: str,
        state: str,
        due_at: float | None,
        reason: str,
        attempts: int,
        held: int,
        step: int,
    ) -> None:
        delivery = self._all.get(own_id)
        if delivery is None:
            of = self._notifications[notification]
            delivery = self._all[own_id] = Delivery(own_id, of, uri, step)
            of.deliveries.append(delivery)
            if state != "pending":
                self._break("N1", f"{_name(delivery)} began as {state}")
        before, moved = delivery.state, delivery.due_at != due_at
        delivery.state, delivery.due_at, delivery.reason = state, due_at, reason
        was_held, delivery.held = delivery.held, bool(held)
        if held and not was_held:
            self._hold(delivery)
        if state == "sending" and before != "sending":
            self._claim(delivery, attempts)
        elif state == "cancelled" and before != "cancelled":
            self._touched.append((delivery, before))
        elif state == "expired" and before in _OPEN:
            self._expire(delivery)
        elif moved and not held and state in _OPEN and reason in ("QUIET_HOURS", "RATE_CAPPED"):
            self._touched.append((delivery, before))

    def committed(self) -> None:
        """Look at what was cancelled or put off in this commit, all of which is known now."""
        touched, self._touched = self._touched, []
        for delivery, before in touched:
            if delivery.state == "cancelled":
                self._cancelled(delivery, before)
            else:
                self._put_off(delivery)

    # -- claims -------------------------------------------------------------------------------

    def _claim(self, delivery: Delivery, attempt: int) -> None:
        judge, of = self._judge, delivery.notification
        judge.checked["claimed"] += 1
        what = _name(delivery)
        user = judge.people.users[of.user]
        endpoint = user.endpoints.get(delivery.uri)
        if endpoint is None or endpoint.opted_out:
            self._break("N1", f"{what} was sent to an endpoint that the user does not have")
        if self._now >= of.expires:
            self._break("N1", f"{what} was sent after it had expired")
        if muted(user.wish, of.subject, self._now):
            self._break("N1", f"{what} was sent, and the subject is muted")
        if not any(wants(user.wish, plan, delivery.channel) for plan in of.plans):
            self._break("N1", f"{what} was sent, and the user does not want it there")
        quiet = quiet_end(user.wish, self._now) is not None
        if quiet and not any(plan.urgent or plan.quiet_hours == "pass" for plan in of.plans):
            self._break("N1", f"{what} was sent in quiet hours")
        if attempt == 1:
            self._check_time(delivery)
            left = self._left(delivery, take=True)
            if left is not None and left[1] < 1.0:
                self._break("N1", f"{what} was sent beyond the rate of {delivery.channel}")
        lower = [one for one in of.deliveries if one.step < delivery.step]
        if any(one.state == "delivered" for one in lower):
            self._break("N1", f"{what} was sent, and a receipt of a former step is there")
        delivery.claims[attempt] = self._check_voices(delivery, what)
        self._check_repeat(delivery, attempt, what)
        of.claimed = True
        self._sent[of.user, of.subject] = self._now

    def _check_time(self, delivery: Delivery) -> None:
        """Not before it is due: a digest's time, that of the last send, the step's."""
        of, judge = delivery.notification, self._judge
        dues = []
        for plan in of.plans:
            due = of.created
            if not plan.urgent:
                due += plan.digest_s
                collapse_s = (
                    judge.settings["collapse_s"] if plan.collapse_s is None else plan.collapse_s
                )
                if of.last_sent is not None:
                    due = max(due, of.last_sent + collapse_s)
            lower = [one for one in of.deliveries if one.step < delivery.step]
            if any(one.state not in _FRUITLESS for one in lower):
                due += delivery.step * plan.escalate_s
            dues.append(due)
        if dues and self._now < min(dues) - _EPSILON_S:
            early_s = min(dues) - self._now
            self._break("N1", f"{_name(delivery)} was sent {early_s:.3f} s before it was due")

    def _left(self, delivery: Delivery, take: bool = False) -> tuple[float, float] | None:
        """How many more the rate surely allows, and at most: a bucket that fills evenly. None: it
        does not concern this one."""
        of = delivery.notification
        rate = rate_of(self._judge.routings[0], delivery.channel)
        urgent = {plan.urgent for plan in of.plans}
        if rate is None or urgent == {True}:
            return None
        most = float(rate["at_most"])
        per_s = most / rate["per_s"]
        sure, perhaps, since = self._paces.get(
            (of.user, delivery.channel), (most, most, self._now)
        )
        more = (self._now - since) * per_s
        sure, perhaps = min(most, sure + more), min(most, perhaps + more)
        if take:
            # Of one that may be urgent, or not, it is not known whether it counts.
            left = max(sure - 1.0, 0.0), max(perhaps - (urgent == {False}), 0.0)
            self._paces[of.user, delivery.channel] = *left, self._now
        slack = _EPSILON_S * per_s
        return sure - slack, perhaps + slack if urgent == {False} else most

    def _voices(self, delivery: Delivery) -> list[Sequence[str] | None]:
        """Which clients may silence it: those, or None, all; one for each policy it may have."""
        of = delivery.notification
        endpoint = self._judge.people.users[of.user].endpoints.get(delivery.uri)
        found: list[Sequence[str] | None] = []
        for policy in sorted({plan.policy for plan in of.plans}):
            if policy == "user":
                found.append(None)
            elif policy == "endpoint":
                found.append(sorted(endpoint.clients) if endpoint else ())
            else:
                found.append(())
        return found

    def _check_voices(self, delivery: Delivery, what: str) -> Told:
        """N3, and what the claim may tell of."""
        judge, of, people = self._judge, delivery.notification, self._judge.people
        voices = self._voices(delivery)
        told = Told(set(), set(), any(row.first < row.last for row in of.rows))
        for row in of.rows:
            pos = judge.messages[of.subject, row.last].pos
            known = [
                {
                    sure: people.acknowledged(of.user, of.subject, row.last, pos, sure, clients)
                    for sure in (True, False)
                }
                for clients in voices
            ]
            seqs = range(row.first, row.last + 1)
            if not all(one[True] for one in known):
                told.perhaps.update(seqs)
            if not any(one[False] for one in known) and row.first == row.last:
                told.sure.update(seqs)
        if not told.perhaps:
            self._break("N3", f"{what} was sent, and all of it is known to be acknowledged")
            return told
        # Whoever answers holds it, but not for ever.
        young = self._now < of.created + judge.settings["hold_max_s"] - _EPSILON_S
        last = max(told.perhaps)
        answering = [people.answers(of.user, of.subject, last, clients) for clients in voices]
        if young and all(one == YES for one in answering):
            self._break("N3", f"{what} was sent, while a client answers for it")
        return told

    def _check_repeat(self, delivery: Delivery, attempt: int, what: str) -> None:
        """N2: a further try needs one before that sent nothing, or one in doubt."""
        if attempt == 1:
            return
        outcome = delivery.outcomes.get(attempt - 1, "")
        repeats = self._judge.settings["channels"].get(delivery.channel, False)
        if outcome not in _NOT_SENT and not (outcome in _IN_DOUBT and repeats):
            self._break("N2", f"{what} was sent again after {attempt - 1}, which was {outcome}")

    # -- what else may become of it -----------------------------------------------------------

    def _hold(self, delivery: Delivery) -> None:
        judge, of = self._judge, delivery.notification
        delivery.waited = True
        answering = [
            judge.people.answers(of.user, of.subject, row.last, clients)
            for row in of.rows
            for clients in self._voices(delivery)
        ]
        if all(one == NO for one in answering):
            self._break("N1", f"{_name(delivery)} is held, and no client answers for it")

    def _put_off(self, delivery: Delivery) -> None:
        of, now = delivery.notification, self._now
        delivery.waited = True
        what = f"{_name(delivery)} waits ({delivery.reason})"
        if all(plan.urgent for plan in of.plans):
            self._break("N1", f"{what}, and is urgent")
        elif delivery.reason == "QUIET_HOURS":
            end = quiet_end(self._judge.people.users[of.user].wish, now)
            if end is None or all(plan.quiet_hours != "defer" for plan in of.plans):
                self._break("N1", f"{what}, and there are none")
            elif abs((delivery.due_at or 0.0) - end) > _EPSILON_S:
                self._break("N1", f"{what} until {delivery.due_at}, and they end at {end}")
        elif (left := self._left(delivery)) is None or left[0] >= 1.0:
            self._break("N1", f"{what}, and is within the rate")

    def _expire(self, delivery: Delivery) -> None:
        of = delivery.notification
        shortest = min(
            of.created + (self._judge.settings["expiry_s"] if p.expiry_s is None else p.expiry_s)
            for p in of.plans
        )
        asked = any(
            plan.expires_at is not None and plan.expires_at <= self._now
            for row in of.rows[:1]
            for plan in row.plans
        )
        if self._now < shortest and not asked:
            self._break("N1", f"{_name(delivery)} expired before its time")

    def _cancelled(self, delivery: Delivery, before: str) -> None:
        judge, of, reason = self._judge, delivery.notification, delivery.reason
        user, now = judge.people.users[of.user], self._now
        judge.checked[f"cancelled {reason}"] += 1
        if before not in _OPEN:
            right = False
        elif reason in _LEAVES:
            endpoint = user.endpoints.get(delivery.uri)
            right = (of.user, delivery.uri) in judge.people.left
            right |= endpoint is None or endpoint.opted_out
        elif reason == "ACKNOWLEDGED":
            right = self._is_acknowledged(delivery)
        elif reason == "RECEIPTED":
            right = any(
                one.step < delivery.step and one.state == "delivered" for one in of.deliveries
            )
        elif reason == "MUTED":
            right = muted(user.wish, of.subject, now)
        elif reason == "PREFERENCE":
            right = not all(wants(user.wish, plan, delivery.channel) for plan in of.plans)
        elif reason == "QUIET_HOURS":
            drops = any(plan.quiet_hours == "drop" and not plan.urgent for plan in of.plans)
            right = drops and quiet_end(user.wish, now) is not None
        elif reason == "RATE_CAPPED":
            rate = rate_of(judge.routings[0], delivery.channel) or {}
            left = self._left(delivery)
            right = rate.get("then") == "drop" and left is not None and left[0] < 1.0
        else:
            right = False
        if not right:
            self._break("N1", f"{_name(delivery)} was cancelled, as {reason}")

    def _is_acknowledged(self, delivery: Delivery) -> bool:
        """Everything of it, by those who may silence it."""
        judge, of = self._judge, delivery.notification
        return all(
            any(
                judge.people.acknowledged(
                    of.user, of.subject, row.last, judge.messages[of.subject, row.last].pos,
                    False, clients,
                )
                for clients in self._voices(delivery)
            )
            for row in of.rows
        )  # fmt: skip

    def _outcome(self, delivery: Delivery, attempt: int, outcome: str) -> None:
        of, what = delivery.notification, _name(delivery)
        delivery.outcomes[attempt] = outcome
        said, since = delivery.answers.get(attempt, ("", None))
        if outcome not in _UNHEARD and outcome != said:
            self._break("N2", f"{what}: {outcome} was recorded, and {said or 'nothing'} was said")
        if outcome == "ENDPOINT_GONE":
            self._judge.people.gone(of.user, delivery.uri, since)
        elif outcome == "OPTED_OUT":
            self._judge.people.opt_out(of.user, delivery.uri)
        if outcome in _NOT_SENT or outcome in _IN_DOUBT:
            delivery.waited = True

    # -- what plugins say ---------------------------------------------------------------------

    def handed(self, r: Record) -> None:
        """N2 and N3, as the plugin sees it."""
        delivery = self._all[r["delivery"]]
        self._judge.checked["handed"] += 1
        what = f"{_name(delivery)}, try {r['attempt']},"
        told = delivery.claims.get(r["attempt"])
        if told is None:
            self._break("N2", f"{what} was handed over, and never claimed")
            return
        if any(one["attempt"] == r["attempt"] for one in delivery.handed):
            self._break("N2", f"{what} was handed over twice")
        delivery.handed.append(r)
        own = [
            seq
            for seq in r["seqs"]
            if self._judge.messages[r["subject"], seq].publisher == r["user"]
        ]
        if own:
            self._break("N1", f"{what} told the user's own {own}")
        named = {*r["seqs"], r["last"]} | (set() if told.ranges else {r["first"]})
        if not named <= told.perhaps:
            self._break("N3", f"{what} told of {sorted(named - told.perhaps)}, acknowledged before")
        if not len(told.sure) <= r["count"] <= len(told.perhaps):
            count = f"{len(told.sure)} to {len(told.perhaps)}"
            self._break("N3", f"{what} told of {r['count']} messages, not {count}")
        for seq in named:
            other = self._told.setdefault((r["user"], r["uri"], r["subject"], seq), delivery.id)
            if other != delivery.id:
                self._break("N2", f"{what} told of {seq}, which was told before")

    def answered(self, r: Record) -> None:
        self._all[r["delivery"]].answers[r["attempt"]] = r["outcome"], r["since"]

    # -- at the end ---------------------------------------------------------------------------

    def states(self, own_id: str) -> set[str]:
        return {delivery.state for delivery in self._notifications[own_id].deliveries}

    def finish(self) -> None:
        for delivery in self._all.values():
            self._check_end(delivery)

    def _check_end(self, delivery: Delivery) -> None:
        what, state = _name(delivery), delivery.state
        last = delivery.outcomes.get(len(delivery.outcomes), "")
        if state in _OPEN and delivery.due_at is not None or state == "sending":
            self._break("N1", f"{what} is {state} at the end")
        elif state in _ENDS and last not in _ENDS[state]:
            self._break("N1", f"{what} ended as {state} after {last}")
        elif state == "unknown" and self._judge.settings["channels"][delivery.channel]:
            self._break("N1", f"{what} is unknown at the end, and may be repeated")
        elif state == "dead":
            tries = sum(one in _IN_DOUBT or one == "RETRY" for one in delivery.outcomes.values())
            if tries < self._judge.settings["retry_tries_max"]:
                self._break("N1", f"{what} was given up after {tries} tries")
        elif state == "expired":
            short = any(plan.expires_at or plan.expiry_s for row in delivery.notification.rows for plan in row.plans)
            if not (delivery.waited or delivery.step or short or last == "EXPIRED"):
                self._break("N1", f"{what} expired, and nothing had kept it waiting")
        self._judge.checked[f"ended {state}"] += 1


def _name(delivery: Delivery) -> str:
    of = delivery.notification
    seqs = ",".join(str(row.last) for row in of.rows)
    return f"{of.subject} {seqs} to {of.user} at {delivery.uri} ({delivery.id[:6]})"
