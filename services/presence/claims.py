"""The claim to send: what may go to a plugin now, checked and claimed in one transaction.

Runs inside the store. Asks the core's check at send (`sending.may_send`) for each delivery, and
writes its verdict: claimed, held, or cancelled. Knows rows and verdicts; must not know plugins'
calls. Commit before the call, so that no delivery is handed over twice without being called
unknown in between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.presence import metrics
from services.presence.cover import first_unacknowledged
from services.presence.entitlement import Judged, entitled
from services.presence.notifications import (
    NOTHING_SENT,
    Delivery,
    DeliveryState,
    Notification,
    Span,
    cancel,
    claim,
    expire,
    hold,
)
from services.presence.plan import DEFAULT_PLAN, Plan
from services.presence.plugins import Description
from services.presence.profile import NO_PROFILE, Profile
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
from services.presence.store import Attempt, Transaction


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery in state `sending`, the try that begins, and the messages it stands for."""

    delivery: Delivery
    attempt: Attempt
    spans: tuple[Span, ...]
    plan: Plan = DEFAULT_PLAN
    profile: Profile = NO_PROFILE


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the batch's deliveries are judged by, read at once."""

    notifications: Mapping[str, Notification]
    members: Mapping[str, Sequence[Span]]
    # By (user, subject).
    states: Mapping[tuple[str, str], UserState]
    uris: Mapping[str, Mapping[str, bool]]


def claim_deliveries(
    tx: Transaction,
    deliveries: Sequence[Delivery],
    description: Description,
    hold_max_s: float,
    hold_check_s: float,
    judged: Judged | None = None,
) -> list[Claimed]:
    """Claim those of the deliveries, as this transaction has read them, that are due and may be
    sent. `judged`: who is entitled; None: nobody is asked."""
    now = tx.now()
    due = [one for one in deliveries if one.due_at is not None and one.due_at <= now]
    rows = _read(tx, due)
    claimed: list[Claimed] = []
    ended: list[Delivery] = []
    for delivery in due:
        found = _judge(tx, delivery, rows, hold_max_s, hold_check_s, judged)
        if isinstance(found, Delivery):
            ended.append(found)
        elif found:
            claimed.append(_begin(delivery, found, description, now))
    tx.put_deliveries([*ended, *(one.delivery for one in claimed)])
    tx.close_notifications([one.notification_id for one in ended], sent=False)
    tx.close_notifications([one.delivery.notification_id for one in claimed], sent=True)
    tx.put_attempts([one.attempt for one in claimed])
    for delivery in due:
        metrics.wait_seconds.observe(now - (delivery.due_at or now))
    return claimed


def _read(tx: Transaction, deliveries: Sequence[Delivery]) -> _Rows:
    ids = list(dict.fromkeys(delivery.notification_id for delivery in deliveries))
    users_of: dict[str, dict[str, None]] = {}
    for delivery in deliveries:
        users_of.setdefault(delivery.subject, {})[delivery.user] = None
    states = {
        (user, subject): state_now
        for subject, users in users_of.items()
        for user, state_now in tx.load_followers(list(users), subject).items()
    }
    return _Rows(
        notifications=tx.notifications(ids),
        members=tx.members_of(ids),
        states=states,
        uris=tx.uris_of(list({delivery.user for delivery in deliveries})),
    )


def _judge(
    tx: Transaction,
    delivery: Delivery,
    rows: _Rows,
    hold_max_s: float,
    hold_check_s: float,
    judged: Judged | None,
) -> Delivery | tuple[Span, ...]:
    """What of the delivery may be sent now; the delivery as it has ended; or, if it is held,
    nothing: that has been written."""
    notification = rows.notifications.get(delivery.notification_id)
    spans = {span.to_seq: span for span in rows.members[delivery.notification_id]}
    if delivery.expires_at <= tx.now():
        return expire(delivery)
    if rows.uris.get(delivery.user, {}).get(delivery.uri, True):
        return cancel(delivery, "ENDPOINT_REMOVED")
    if notification is None or not spans:
        return cancel(delivery, "ACKNOWLEDGED")
    # A span of several messages is judged by its last one, and told without those acknowledged.
    messages = [Message(delivery.subject, span.to_seq, span.pos) for span in spans.values()]
    state_now = rows.states[delivery.user, delivery.subject]
    holds = _holds(tx, state_now, notification)
    match may_send(state_now, messages, holds, tx.now(), hold_max_s):
        case Send(left, acknowledged):
            refused = entitled(tx, delivery, judged)
            if refused is not None:
                return refused
            _take_out(tx, notification, acknowledged)
            return tuple(
                _unacknowledged(state_now, delivery.subject, spans[message.seq]) for message in left
            )
        case Held(until, puts):
            for put in puts:
                # Under the notification's own name: its first message of now may be taken out of
                # it before its next delivery is judged.
                named = replace(put.hold, first_seq=notification.first_seq)
                tx.write_user(delivery.user, PutHold(named))
            tx.put_deliveries([hold(delivery, min(until, tx.now() + hold_check_s))])
            return ()
        case Cancel(reason):
            return cancel(delivery, reason.value)


def _holds(tx: Transaction, state_now: UserState, notification: Notification) -> Mapping[str, Hold]:
    if all(one.standing is Standing.OFFLINE for one in state_now.registers.values()):
        return {}  # Nobody answers, so nobody can hold it: spare the query.
    return tx.holds(notification.user, notification.subject, notification.first_seq)


def _unacknowledged(state_now: UserState, subject: str, span: Span) -> Span:
    first = first_unacknowledged(state_now, subject, span.from_seq, span.to_seq)
    return span if first > span.to_seq else replace(span, from_seq=first)


def _take_out(tx: Transaction, notification: Notification, acknowledged: Sequence[Message]) -> None:
    # Once something of it may have been sent, its messages stay what was told to the user.
    if acknowledged and (notification.joinable or not _may_have_been_sent(tx, notification)):
        for message in acknowledged:
            tx.take_out(notification.user, notification.subject, message.seq, "ACKNOWLEDGED")


def _may_have_been_sent(tx: Transaction, notification: Notification) -> bool:
    return any(
        delivery.state is DeliveryState.SENDING or attempt.outcome not in NOTHING_SENT
        for delivery in tx.deliveries_of(notification.id)
        for attempt in tx.attempts(delivery.id)
    )


def _begin(
    delivery: Delivery, spans: tuple[Span, ...], description: Description, now: float
) -> Claimed:
    sending = claim(delivery, description.repeats_unknown(delivery.scheme))
    attempt = Attempt(sending.id, sending.attempts, now, description.name)
    return Claimed(sending, attempt, spans)
