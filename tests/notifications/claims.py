"""What a claim to send may be, and what it may tell of: part of `judge`, told anew. Pure.

Also the rows of notifications and deliveries, as `deliveries` keeps them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.notifications.standing import YES
from tests.notifications.wanted import Plan, channel_of, muted, quiet_end, rate_of, wants

Record = Mapping[str, Any]
# What a try came to: nothing was sent; or nobody knows.
NOT_SENT = frozenset(
    {
        "RETRY", "REJECTED_MESSAGE", "ENDPOINT_GONE", "OPTED_OUT", "MISCONFIGURED", "EXPIRED",
        "PROVIDER_UNAVAILABLE", "CALL_REFUSED",
    }
)  # fmt: skip
IN_DOUBT = frozenset({"UNKNOWN", "CALL_BROKEN", "CALL_TIMED_OUT", ""})
# States of a delivery that has ended with nothing sent.
FRUITLESS = frozenset({"failed", "dead", "expired", "cancelled"})
# Seconds that two clocks of floats may differ by.
EPSILON_S = 2e-3


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
    # When the first of its deliveries fell due, as it began.
    due: float = 0.0


def was_read(delivery: Delivery) -> bool:
    """Before it was sent, where it goes."""
    return delivery.state == "cancelled" and delivery.reason == "ACKNOWLEDGED"


class Claims:
    """Part of a `Judge`, which it asks for people, messages and plans."""

    def __init__(self, judge: Any) -> None:
        self._judge = judge
        # When something of a (user, subject) was last claimed.
        self.sent: dict[tuple[str, str], float] = {}
        # By user and channel: what is left of the rate, surely and at most, and when.
        self._paces: dict[tuple[str, str], tuple[float, float, float]] = {}

    def _break(self, rule: str, what: str) -> None:
        self._judge.break_(rule, what)

    @property
    def _now(self) -> float:
        return float(self._judge.people.now)

    def check(self, delivery: Delivery, attempt: int) -> None:
        judge, of = self._judge, delivery.notification
        judge.checked["claimed"] += 1
        if len({plan.policy for plan in of.plans}) == 1:
            judge.checked[f"claimed by {next(iter(of.plans)).policy}"] += 1
        what = name(delivery)
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
            left = self.left(delivery, take=True)
            if left is not None and left[1] < 1.0:
                self._break("N1", f"{what} was sent beyond the rate of {delivery.channel}")
        lower = [one for one in of.deliveries if one.step < delivery.step]
        if any(one.state == "delivered" for one in lower):
            self._break("N1", f"{what} was sent, and a receipt of a former step is there")
        if any(map(was_read, lower)):
            self._break("N1", f"{what} was sent, and it was read where a former step goes")
        delivery.claims[attempt] = self._check_voices(delivery, what)
        self._check_repeat(delivery, attempt, what)
        of.claimed = True
        self.sent[of.user, of.subject] = self._now

    def due(self, of: Notification, plan: Plan, quiet_until: float = 0.0) -> float:
        """When the notification falls due by the plan."""
        if plan.urgent:
            return of.created
        due = of.created + plan.digest_s
        if of.last_sent is not None:
            usual_s = self._judge.settings["collapse_s"]
            due = max(due, of.last_sent + (usual_s if plan.collapse_s is None else plan.collapse_s))
        return max(due, quiet_until) if plan.quiet_hours == "defer" else due

    def _check_time(self, delivery: Delivery) -> None:
        """Not before it is due: a digest's time, that of the last send, the step's."""
        of = delivery.notification
        dues = []
        for plan in of.plans:
            due = self.due(of, plan)
            lower = [one for one in of.deliveries if one.step < delivery.step]
            if any(one.state not in FRUITLESS for one in lower):
                due += delivery.step * plan.escalate_s
            dues.append(due)
        if dues and self._now < min(dues) - EPSILON_S:
            early_s = min(dues) - self._now
            self._break("N1", f"{name(delivery)} was sent {early_s:.3f} s before it was due")

    def left(self, delivery: Delivery, take: bool = False) -> tuple[float, float] | None:
        """How many more the rate surely allows, and at most: a bucket that fills evenly. None: it
        does not concern this one."""
        of = delivery.notification
        rate = rate_of(self._judge.routings[0], delivery.channel)
        urgent = {plan.urgent for plan in of.plans}
        if rate is None or urgent == {True}:
            return None
        most = float(rate["at_most"])
        per_s = most / rate["per_s"]
        sure, perhaps, since = self._paces.get((of.user, delivery.channel), (most, most, self._now))
        more = (self._now - since) * per_s
        sure, perhaps = min(most, sure + more), min(most, perhaps + more)
        if take:
            # Of one that may be urgent, or not, it is not known whether it counts.
            left = max(sure - 1.0, 0.0), max(perhaps - (urgent == {False}), 0.0)
            self._paces[of.user, delivery.channel] = *left, self._now
        return sure, perhaps + EPSILON_S * per_s if urgent == {False} else most

    def voices(self, delivery: Delivery) -> list[Sequence[str] | None]:
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
        voices = self.voices(delivery)
        told = Told(set(), set(), any(row.first < row.last for row in of.rows))
        for row in of.rows:
            known = [
                {
                    sure: people.acknowledged(
                        of.user, of.subject, row.last, judge.pos(of.subject, row, sure), sure,
                        clients,
                    )
                    for sure in (True, False)
                }
                for clients in voices
            ]  # fmt: skip
            seqs = range(row.first, row.last + 1)
            if not all(one[True] for one in known):
                told.perhaps.update(seqs)
            if not any(one[False] for one in known) and row.first == row.last:
                told.sure.update(seqs)
        if not told.perhaps:
            self._break("N3", f"{what} was sent, and all of it is known to be acknowledged")
            return told
        # Whoever answers holds it, but not for ever.
        young = self._now < of.created + judge.settings["hold_max_s"] - EPSILON_S
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
        if outcome not in NOT_SENT and not (outcome in IN_DOUBT and repeats):
            self._break("N2", f"{what} was sent again after {attempt - 1}, which was {outcome}")


def name(delivery: Delivery) -> str:
    of = delivery.notification
    seqs = ",".join(str(row.last) for row in of.rows)
    return f"{of.subject} {seqs} to {of.user} at {delivery.uri} ({delivery.id[:6]})"
