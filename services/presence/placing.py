"""Where a message that is due goes, and when: into an open notification, or a new one. Pure.

Rules: a message joins a notification only while nothing of it has been handed to a plugin, and
only one of its own plan, or one that differs in a category which a publisher made up and no
preference of the user names: it has no category from then on. A new one has a delivery for each
endpoint, due at once, after the quiet hours, after the digest's time, or when something of the
subject was sent long enough ago; further steps of an escalation later. Nothing holds back what is
urgent.

Knows plans and the limits. Must not know whether the user may be sent anything (`decision`). To
drive it: `place(…)` per user, and write what it returns in the same transaction.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from services.presence.notifications import (
    Delivery,
    DeliveryState,
    Limits,
    Notification,
    delivery_id,
    notification_id,
    scheme_of,
)
from services.presence.plan import DEFAULT_PLAN, Plan, Priority

# Why a delivery waits for a reason of the user's; told as it stands.
QUIET_HOURS = "QUIET_HOURS"
RATE_CAPPED = "RATE_CAPPED"
PUT_OFF = (QUIET_HOURS, RATE_CAPPED)
# A message joins only what has at least this share of its own time to live left.
_LEFT_LEAST = 0.5


@dataclass(frozen=True, slots=True)
class Join:
    """Record the messages as part of this notification."""

    notification_id: str
    # Which it has from then on; None: the one that it has.
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """Insert the notification and its deliveries, and record the messages as part of it."""

    notification: Notification
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class Joinable:
    """A notification of which nothing was handed to a plugin, and where it is still to be sent."""

    notification: Notification
    uris: frozenset[str]


@dataclass(frozen=True, slots=True)
class Arrival:
    """Messages that are due to a user: where, and how."""

    log_id: str
    user: str
    subject: str
    first_seq: int
    # Endpoints, each on a channel of the plan.
    uris: tuple[str, ...]
    plan: Plan = DEFAULT_PLAN
    # Quiet hours end then; 0: there are none now.
    not_before: float = 0.0
    # One of very many: others need not wait until all of them are sent.
    bulk: bool = False
    # Categories that the user's preferences name.
    named: Collection[str] = ()


def place(
    arrival: Arrival,
    joinable: Joinable | None,
    last_sent_at: float | None,
    now: float,
    limits: Limits,
) -> Join | Begin:
    """Where a message that is due goes: into the open notification of the same plan, or into a new
    one. One that has an expiry of its own always begins a new one.

    The first of a (user, subject) is due at once, or after the digest's time. One that begins
    within `collapse_s` of the last send waits until that has passed, so that those after it
    collapse into it. Endpoints of a further step of an escalation are due so much later.
    """
    plan = arrival.plan
    expiry_s = limits.expiry_s if plan.expiry_s is None else plan.expiry_s
    if joinable is not None and _takes(joinable, arrival, now, expiry_s):
        before = joinable.notification.plan
        told = before.told_with(plan)
        return Join(joinable.notification.id, None if told == before else told)
    due_at = now
    if plan.priority is not Priority.URGENT:
        collapse_s = limits.collapse_s if plan.collapse_s is None else plan.collapse_s
        since_last = 0.0 if last_sent_at is None else last_sent_at + collapse_s
        due_at = max(now + plan.digest_s, since_last, arrival.not_before)
    expires_at = now + expiry_s
    if plan.expires_at is not None:
        expires_at = min(expires_at, plan.expires_at)
    own_id = notification_id(arrival.log_id, arrival.user, arrival.subject, arrival.first_seq)
    notification = Notification(
        own_id,
        arrival.user,
        arrival.subject,
        arrival.first_seq,
        now,
        due_at,
        expires_at,
        joinable=plan.expires_at is None,
        plan=replace(plan, expires_at=None),
    )
    return Begin(notification, _deliveries(notification, arrival))


def _takes(joinable: Joinable, arrival: Arrival, now: float, expiry_s: float) -> bool:
    """Whether the message may join: nothing of it may be lost by that."""
    notification = joinable.notification
    return (
        notification.joinable
        and notification.plan.is_told_with(arrival.plan, arrival.named)
        and arrival.plan.expires_at is None
        # Not what waits for long already, and would expire before its time.
        and notification.expires_at - now >= expiry_s * _LEFT_LEAST
        # Everywhere where the message is due, it is still to be sent.
        and joinable.uris.issuperset(arrival.uris)
    )


def _deliveries(notification: Notification, arrival: Arrival) -> tuple[Delivery, ...]:
    plan = notification.plan
    step_of = {uri: plan.step_of(scheme_of(uri)) or 0 for uri in arrival.uris}
    # Steps for which the user has no endpoint are not waited for.
    places = {step: place for place, step in enumerate(sorted(set(step_of.values())))}
    return tuple(
        Delivery(
            id=delivery_id(notification.id, uri),
            notification_id=notification.id,
            user=notification.user,
            subject=notification.subject,
            uri=uri,
            state=DeliveryState.PENDING,
            due_at=notification.due_at + places[step_of[uri]] * plan.escalate_s,
            expires_at=notification.expires_at,
            step=places[step_of[uri]],
            rank=rank_of(plan.priority, arrival.bulk),
            # Further steps wait for the first one.
            reason=QUIET_HOURS
            if not places[step_of[uri]] and arrival.not_before == notification.due_at
            else "",
        )
        for uri in arrival.uris
    )


def rank_of(priority: Priority, bulk: bool) -> int:
    """The rank of a delivery: the usual ones of a large crowd come after all other usual ones."""
    return (Priority.LOW if bulk and priority is Priority.NORMAL else priority).value


def in_turn(ranked: Sequence[Sequence[Delivery]], limit: int) -> list[Delivery]:
    """At most `limit` of those due, which are given by rank: lower ranks first; but whatever there
    is of them, a quarter of the room is left to the ranks behind, so that none waits for ever."""
    taken: list[Delivery] = []
    for place, deliveries in enumerate(ranked):
        room = limit - len(taken)
        behind = any(ranked[place + 1 :])
        taken += deliveries[: room - room // 4 if behind else room]
    return taken
