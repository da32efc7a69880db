"""What may become of notifications and their deliveries: part of `judge`, told anew. Pure.

A delivery is looked at whenever a transaction changes it: begun, held, put off, claimed, settled,
cancelled, expired. Whatever was claimed is compared with what a plugin was handed and answered.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.notifications.claims import (
    EPSILON_S,
    FRUITLESS,
    IN_DOUBT,
    NOT_SENT,
    Claims,
    Delivery,
    Notification,
    name,
    was_read,
)
from tests.notifications.standing import NO
from tests.notifications.wanted import may_join, muted, quiet_end, rate_of, together, wants

Record = Mapping[str, Any]
_OPEN = frozenset({"pending", "retry", "unknown"})
_UNHEARD = IN_DOUBT | {"CALL_REFUSED"}
# After which outcomes a delivery may end so.
_ENDS = {
    "accepted": {"ACCEPTED"},
    "delivered": {"DELIVERED"},
    "failed": {"REJECTED_MESSAGE", "ENDPOINT_GONE", "OPTED_OUT"},
    "retry": NOT_SENT,
    "unknown": IN_DOUBT,
    "dead": {"RETRY", *IN_DOUBT},
}
_LEAVES = {"ENDPOINT_REMOVED", "ENDPOINT_MOVED", "ENDPOINT_GONE", "OPTED_OUT"}


class Deliveries:
    """Part of a `Judge`, which it asks for people, messages and plans."""

    def __init__(self, judge: Any) -> None:
        self._judge = judge
        self._notifications: dict[str, Notification] = {}
        self._all: dict[str, Delivery] = {}
        self._claims = Claims(judge)
        self._told: dict[tuple[str, str, str, int], str] = {}
        self._touched: list[tuple[Delivery, str]] = []
        self._ended: dict[str, Notification] = {}

    def _break(self, rule: str, what: str) -> None:
        self._judge.break_(rule, what)

    @property
    def _now(self) -> float:
        return float(self._judge.people.now)

    # -- what the store says ------------------------------------------------------------------

    def note(self, kind: str, values: Sequence[Any]) -> None:
        if kind == "notification":
            own_id, user, subject, _ = values
            last_sent = self._claims.sent.get((user, subject))
            self._notifications[own_id] = Notification(own_id, user, subject, self._now, last_sent)
        elif kind == "delivery":
            self._delivery(*values)
        elif kind == "claimed":
            delivery, attempt = self._all[values[0]], values[1]
            if attempt not in delivery.claims:
                self._break("N2", f"{name(delivery)} was tried as {attempt}, and never claimed")
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
            wish = self._judge.people.users[user].wish
            notification.plans = frozenset(
                together(one, p)
                for one in notification.plans
                for p in plans
                if may_join(one, p, wish)
            )
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
        end = quiet_end(judge.people.users[notification.user].wish, self._now)
        for delivery in notification.deliveries:
            delivery.waited = end is not None
        dues = [self._claims.due(notification, plan, end or 0.0) for plan in row.plans]
        if dues and min(abs(notification.due - due) for due in dues) > EPSILON_S:
            self._break("N1", f"{what} is due at {notification.due}, not at {dues}")
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
            of.due = min(due_at or 0.0, of.due or float("inf"))
            if state != "pending":
                self._break("N1", f"{name(delivery)} began as {state}")
        before, moved = delivery.state, delivery.due_at != due_at
        # What the user had it wait for may be told on while it waits for something else.
        put_off = moved and reason != delivery.reason
        delivery.state, delivery.due_at, delivery.reason = state, due_at, reason
        was_held, delivery.held = delivery.held, bool(held)
        if state == "sending" and delivery.tried_from is None:
            delivery.tried_from = self._now
        if state == "dead":
            delivery.died = self._now
        if state in FRUITLESS and before not in FRUITLESS:
            self._ended[notification] = delivery.notification
        if held and not was_held:
            self._hold(delivery)
        if state == "sending" and before != "sending":
            self._claims.check(delivery, attempts)
        elif state == "cancelled" and before != "cancelled":
            self._touched.append((delivery, before))
        elif state == "expired" and before in _OPEN:
            self._expire(delivery)
        elif put_off and not held and state in _OPEN and reason in ("QUIET_HOURS", "RATE_CAPPED"):
            self._touched.append((delivery, before))

    def committed(self) -> None:
        """Look at what was cancelled or put off in this commit, all of which is known now."""
        for notification in self._ended.values():
            self._check_next_step(notification)
        self._ended.clear()
        touched, self._touched = self._touched, []
        for delivery, before in touched:
            if delivery.state == "cancelled":
                self._cancelled(delivery, before)
            elif (delivery.due_at or 0.0) > self._now + EPSILON_S:
                # Else it is to be asked about again at once.
                self._put_off(delivery)

    # -- what else may become of it -----------------------------------------------------------

    def _hold(self, delivery: Delivery) -> None:
        judge, of = self._judge, delivery.notification
        judge.checked["held"] += 1
        delivery.waited = True
        answering = [
            judge.people.answers(of.user, of.subject, row.last, clients)
            for row in of.rows
            for clients in self._claims.voices(delivery)
        ]
        if all(one == NO for one in answering):
            self._break("N1", f"{name(delivery)} is held, and no client answers for it")

    def _put_off(self, delivery: Delivery) -> None:
        of, now = delivery.notification, self._now
        self._judge.checked[f"put off {delivery.reason}"] += 1
        delivery.waited = True
        what = f"{name(delivery)} waits ({delivery.reason})"
        if all(plan.urgent for plan in of.plans):
            self._break("N1", f"{what}, and is urgent")
        elif delivery.reason == "QUIET_HOURS":
            end = quiet_end(self._judge.people.users[of.user].wish, now)
            if end is None or all(plan.quiet_hours != "defer" for plan in of.plans):
                self._break("N1", f"{what}, and there are none")
            elif abs((delivery.due_at or 0.0) - end) > EPSILON_S:
                self._break("N1", f"{what} until {delivery.due_at}, and they end at {end}")
        elif (left := self._claims.left(delivery)) is None or left[0] >= 1.0:
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
            self._break("N1", f"{name(delivery)} expired before its time")

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
            right = self._is_acknowledged(delivery) or any(
                one.step < delivery.step and was_read(one) for one in of.deliveries
            )
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
            left = self._claims.left(delivery)
            right = rate.get("then") == "drop" and left is not None and left[0] < 1.0
        else:
            right = False
        if not right:
            self._break("N1", f"{name(delivery)} was cancelled, as {reason}")

    def _check_next_step(self, of: Notification) -> None:
        """Where a step has ended with nothing sent, nobody waits for a receipt of it."""
        waiting = [one for one in of.deliveries if one.due_at is not None]
        step = min((one.step for one in waiting), default=0)
        former = [one for one in of.deliveries if one.step < step]
        if any(one.state not in FRUITLESS or was_read(one) for one in former):
            return
        for one in waiting:
            fresh = one.state == "pending" and not one.held and not one.reason
            if one.step == step > 0 and fresh and (one.due_at or 0.0) > max(self._now, of.due) + 1:
                self._break("N1", f"{name(one)} waits for a step that has ended unsent")

    def _is_acknowledged(self, delivery: Delivery) -> bool:
        """Everything of it, by those who may silence it."""
        judge, of = self._judge, delivery.notification
        return all(
            any(
                judge.people.acknowledged(
                    of.user, of.subject, row.last, judge.messages[of.subject, row.last].pos,
                    False, clients,
                )
                for clients in self._claims.voices(delivery)
            )
            for row in of.rows
        )  # fmt: skip

    def _outcome(self, delivery: Delivery, attempt: int, outcome: str) -> None:
        of, what = delivery.notification, name(delivery)
        delivery.outcomes[attempt] = outcome
        said, since = delivery.answers.get(attempt, ("", None))
        if outcome not in _UNHEARD and outcome != said:
            self._break("N2", f"{what}: {outcome} was recorded, and {said or 'nothing'} was said")
        if outcome == "ENDPOINT_GONE":
            self._judge.people.gone(of.user, delivery.uri, since)
        elif outcome == "OPTED_OUT":
            self._judge.people.opt_out(of.user, delivery.uri)
        if outcome in NOT_SENT or outcome in IN_DOUBT:
            delivery.waited = True

    # -- what plugins say ---------------------------------------------------------------------

    def handed(self, r: Record) -> None:
        """N2 and N3, as the plugin sees it."""
        delivery = self._all[r["delivery"]]
        self._judge.checked["handed"] += 1
        what = f"{name(delivery)}, try {r['attempt']},"
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
        what, state = name(delivery), delivery.state
        last = delivery.outcomes.get(len(delivery.outcomes), "")
        if (state in _OPEN and delivery.due_at is not None) or state == "sending":
            self._break("N1", f"{what} is {state} at the end")
        elif state in _ENDS and last not in _ENDS[state]:
            self._break("N1", f"{what} ended as {state} after {last}")
        elif state == "unknown" and self._judge.settings["channels"][delivery.channel]:
            self._break("N1", f"{what} is unknown at the end, and may be repeated")
        elif state == "dead":
            tries = sum(one in IN_DOUBT or one == "RETRY" for one in delivery.outcomes.values())
            if tries < self._judge.settings["retry_tries_max"]:
                self._break("N1", f"{what} was given up after {tries} tries")
            age_s = delivery.died - (delivery.tried_from or 0.0)
            if last == "RETRY" and age_s < self._judge.settings["dead_letter_after_s"] - EPSILON_S:
                self._break("N1", f"{what} was given up {age_s:.1f} s after its first try")
        elif state == "expired":
            short = any(
                plan.expires_at or plan.expiry_s
                for row in delivery.notification.rows
                for plan in row.plans
            )
            if not (delivery.waited or delivery.step or short or last == "EXPIRED"):
                self._break("N1", f"{what} expired, and nothing had kept it waiting")
        self._judge.checked[f"ended {state}"] += 1
