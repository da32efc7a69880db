"""The claim to send: what may go to a plugin now, checked and claimed in one transaction.

Runs inside the store. Asks the cores' checks at send (`sending.may_send`, `decision.recheck`) for
each delivery, and writes their verdict: claimed, held, put off, or cancelled. Knows rows and
verdicts; must not know plugins' calls. Commit before the call, so that no delivery is handed over
twice without being called unknown in between.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.presence import metrics
from services.presence.cover import first_unacknowledged, voices
from services.presence.decision import Later, Suppressed, recheck
from services.presence.entitlement import Judged, entitled
from services.presence.escalation import (
    ACKNOWLEDGED,
    hastened,
    postponed,
    settled_as,
    wait_until,
)
from services.presence.notifications import (
    NOTHING_SENT,
    Delivery,
    DeliveryState,
    Notification,
    Span,
    cancel,
    claim,
    defer,
    expire,
    hold,
)
from services.presence.plan import DEFAULT_PLAN, Plan, Policy, Priority
from services.presence.plugins import Description
from services.presence.profile import NO_PROFILE, Profile
from services.presence.recording import Recording
from services.presence.routing import Routing
from services.presence.sending import may_send
from services.presence.state import (
    Cancel,
    Held,
    Hold,
    Message,
    PutHold,
    Send,
    Standing,
    UserState,
)
from services.presence.store import Transaction
from services.presence.store_outbox import Attempt


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery in state `sending`, the try that begins, and the messages it stands for."""

    delivery: Delivery
    attempt: Attempt
    spans: tuple[Span, ...]
    plan: Plan = DEFAULT_PLAN
    profile: Profile = NO_PROFILE


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What claims take from settings and files. `routing()` is the routing of now."""

    hold_max_s: float
    hold_check_s: float
    routing: Callable[[], Routing] = Routing


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the batch's deliveries are judged by, read at once."""

    notifications: Mapping[str, Notification]
    members: Mapping[str, Sequence[Span]]
    # By (user, subject).
    states: Mapping[tuple[str, str], UserState]
    uris: Mapping[str, Mapping[str, bool]]
    profiles: Mapping[str, Profile]
    routing: Routing
    # By (user, URI), where an endpoint is silenced by these alone.
    registrants: Mapping[tuple[str, str], Sequence[str]]
    # All deliveries of notifications of which a further step is due.
    siblings: Mapping[str, Sequence[Delivery]]
    # By (user, channel), where there are caps; those that the batch uses up are put in.
    paces: dict[tuple[str, str], float] = field(default_factory=dict)
    paced: set[tuple[str, str]] = field(default_factory=set)


def claim_deliveries(
    tx: Transaction,
    deliveries: Sequence[Delivery],
    description: Description,
    rules: ClaimRules,
    judged: Judged | None = None,
) -> list[Claimed]:
    """Claim those of the deliveries, as this transaction has read them, that are due and may be
    sent. `judged`: who is entitled; None: nobody is asked."""
    now = tx.now()
    due = [one for one in deliveries if one.due_at is not None and one.due_at <= now]
    if not due:
        return []
    rows = _read(tx, due, rules.routing())
    claimed: list[Claimed] = []
    ended: list[Delivery] = []
    recording = Recording(tx)
    for delivery in due:
        found = _judge(tx, delivery, rows, rules, judged, recording)
        if isinstance(found, Delivery):
            ended.append(found)
        elif found:
            claimed.append(_begin(delivery, found, rows, description, now))
    tx.put_deliveries([*ended, *(one.delivery for one in claimed)])
    # What waits on has been handed to nobody, so that messages go on joining it.
    over = [one for one in ended if one.due_at is None]
    tx.close_notifications([one.notification_id for one in over], sent=False)
    hasten(tx, over, [rows.notifications.get(one.notification_id) for one in over])
    tx.close_notifications([one.delivery.notification_id for one in claimed], sent=True)
    _postpone(tx, claimed)
    tx.put_attempts([one.attempt for one in claimed])
    if rows.paced:
        tx.put_paces({key: rows.paces[key] for key in rows.paced})
    # Only whoever was judged in this transaction is told of, so a Report's own is written alone.
    recording.write()
    for delivery in due:
        metrics.wait_seconds.observe(now - (delivery.due_at or now))
    return claimed


def _postpone(tx: Transaction, claimed: Sequence[Claimed]) -> None:
    """Have further steps of escalations wait for receipts of those that are tried first now."""
    first = [one for one in claimed if len(one.plan.steps) > 1 and one.delivery.attempts == 1]
    siblings = (
        tx.deliveries_of_all([one.delivery.notification_id for one in first]) if first else {}
    )
    for one in first:
        others = siblings.get(one.delivery.notification_id, ())
        tx.put_deliveries(postponed(one.delivery, others, tx.now(), one.plan.escalate_s))


def hasten(
    tx: Transaction, ended: Sequence[Delivery], notifications: Sequence[Notification | None]
) -> None:
    """Go on to the next steps of the escalations of which these deliveries have ended. After they
    were written."""
    for delivery, notification in zip(ended, notifications, strict=True):
        if notification is not None and len(notification.plan.steps) > 1:
            siblings = tx.deliveries_of(delivery.notification_id)
            tx.put_deliveries(hastened(siblings, tx.now()))


def _read(tx: Transaction, deliveries: Sequence[Delivery], routing: Routing) -> _Rows:
    ids = list(dict.fromkeys(delivery.notification_id for delivery in deliveries))
    users_of: dict[str, dict[str, None]] = {}
    for delivery in deliveries:
        users_of.setdefault(delivery.subject, {})[delivery.user] = None
    states = {
        (user, subject): state_now
        for subject, users in users_of.items()
        for user, state_now in tx.load_followers(list(users), subject).items()
    }
    users = list({delivery.user for delivery in deliveries})
    notifications = tx.notifications(ids)
    by_endpoint = any(one.plan.policy is Policy.ENDPOINT for one in notifications.values())
    escalated = [one.notification_id for one in deliveries if one.step]
    return _Rows(
        notifications=notifications,
        members=tx.members_of(ids),
        states=states,
        uris=tx.uris_of(users),
        profiles=tx.profiles(users),
        routing=routing,
        registrants=tx.registrants(users) if by_endpoint else {},
        siblings=tx.deliveries_of_all(escalated) if escalated else {},
        paces=dict(tx.paces(users)) if routing.caps else {},
    )


def _judge(
    tx: Transaction,
    delivery: Delivery,
    rows: _Rows,
    rules: ClaimRules,
    judged: Judged | None,
    recording: Recording,
) -> Delivery | tuple[Span, ...]:
    """What of the delivery may be sent now; the delivery as it has ended, or is put off; or, if it
    is held, nothing: that has been written."""
    notification = rows.notifications.get(delivery.notification_id)
    spans = {span.to_seq: span for span in rows.members[delivery.notification_id]}
    if delivery.expires_at <= tx.now():
        return expire(delivery)
    if rows.uris.get(delivery.user, {}).get(delivery.uri, True):
        return cancel(delivery, "ENDPOINT_REMOVED")
    if notification is None or not spans:
        return cancel(delivery, ACKNOWLEDGED)
    if delivery.step:
        siblings = rows.siblings.get(delivery.notification_id, ())
        if settled := settled_as(delivery, siblings):
            return cancel(delivery, settled)
        until = wait_until(delivery, siblings, tx.now(), notification.plan.escalate_s)
        if until is not None and not delivery.attempts:
            return defer(delivery, until, "")
    policy = notification.plan.policy
    registrants = rows.registrants.get((delivery.user, delivery.uri), ())
    state_now = voices(rows.states[delivery.user, delivery.subject], policy, registrants)
    # A span of several messages is judged by its last one, and told without those acknowledged.
    messages = [Message(delivery.subject, span.to_seq, span.pos) for span in spans.values()]
    holds = _holds(tx, state_now, notification)
    match may_send(state_now, messages, holds, tx.now(), rules.hold_max_s):
        case Send(left, acknowledged):
            if (refused := entitled(tx, delivery, judged, recording)) is not None:
                return refused
            if (put_off := _restrained(tx, delivery, notification.plan, rows)) is not None:
                return put_off
            told = tuple(
                _unacknowledged(state_now, delivery.subject, spans[message.seq]) for message in left
            )
            if policy is Policy.USER:
                _take_out(tx, notification, acknowledged, spans, told)
            return told
        case Held(until, puts):
            for put in puts:
                # Under the notification's own name: its first message of now may be taken out of
                # it before its next delivery is judged.
                named = replace(put.hold, first_seq=notification.first_seq)
                tx.write_user(delivery.user, PutHold(named))
            tx.put_deliveries([hold(delivery, min(until, tx.now() + rules.hold_check_s))])
            return ()
        case Cancel(reason):
            return cancel(delivery, reason.value)


def _restrained(tx: Transaction, delivery: Delivery, plan: Plan, rows: _Rows) -> Delivery | None:
    """The delivery as what the user wants makes it; None: it may go, and is within the cap."""
    user, channel = delivery.user, delivery.scheme
    # A further try of what was counted is not counted again.
    cap = rows.routing.cap(channel) if not delivery.attempts else None
    used_up_to = rows.paces.get((user, channel), 0.0)
    profile = rows.profiles.get(user, NO_PROFILE)
    now = tx.now()
    match recheck(delivery.subject, channel, plan, profile, now, cap, used_up_to):
        case Suppressed(reason):
            return cancel(delivery, reason)
        case Later(until, reason):
            return defer(delivery, until, reason)
    if cap is not None and plan.priority is not Priority.URGENT:
        rows.paces[user, channel] = cap.after(used_up_to, now)
        rows.paced.add((user, channel))
    return None


def _holds(tx: Transaction, state_now: UserState, notification: Notification) -> Mapping[str, Hold]:
    if all(one.standing is Standing.OFFLINE for one in state_now.registers.values()):
        return {}  # Nobody answers, so nobody can hold it: spare the query.
    return tx.holds(notification.user, notification.subject, notification.first_seq)


def _unacknowledged(state_now: UserState, subject: str, span: Span) -> Span:
    first = first_unacknowledged(state_now, subject, span.from_seq, span.to_seq)
    return span if first > span.to_seq else replace(span, from_seq=first)


def _take_out(
    tx: Transaction,
    notification: Notification,
    acknowledged: Sequence[Message],
    spans: Mapping[int, Span],
    told: Sequence[Span],
) -> None:
    """Take what was acknowledged out of the notification: messages, and the first ones of spans of
    which only the rest is `told`."""
    user, subject = notification.user, notification.subject
    shortened = [one for one in told if spans[one.to_seq].from_seq < one.from_seq]
    if not (acknowledged or shortened):
        return
    # Once something of it may have been sent, its messages stay what was told to the user.
    if not notification.joinable and _may_have_been_sent(tx, notification):
        return
    for message in acknowledged:
        tx.take_out(user, subject, message.seq, ACKNOWLEDGED)
    for rest in shortened:
        tx.shorten(user, subject, rest, ACKNOWLEDGED)


def _may_have_been_sent(tx: Transaction, notification: Notification) -> bool:
    return any(
        delivery.state is DeliveryState.SENDING or attempt.outcome not in NOTHING_SENT
        for delivery in tx.deliveries_of(notification.id)
        for attempt in tx.attempts(delivery.id)
    )


def _begin(
    delivery: Delivery,
    spans: tuple[Span, ...],
    rows: _Rows,
    description: Description,
    now: float,
) -> Claimed:
    sending = claim(delivery, description.repeats_unknown(delivery.scheme))
    attempt = Attempt(sending.id, sending.attempts, now, description.name)
    plan = rows.notifications[delivery.notification_id].plan
    return Claimed(sending, attempt, spans, plan, rows.profiles.get(delivery.user, NO_PROFILE))
