"""The claim to send: what may go to a plugin now, checked and claimed in one transaction.

Runs inside the store. Asks the core's check at send (`sending.may_send`) for each delivery, and
writes its verdict: claimed, held, or cancelled. Knows rows and verdicts; must not know plugins'
calls. Commit before the call, so that no delivery is handed over twice without being called
unknown in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.presence.cover import first_unacknowledged
from services.presence.notifications import (
    Delivery,
    Notification,
    Span,
    cancel,
    claim,
    expire,
    hold,
)
from services.presence.plugins import Description
from services.presence.sending import may_send
from services.presence.state import Cancel, Held, Message, PutHold, Send, UserState
from services.presence.store import Attempt, Transaction


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery in state `sending`, the try that begins, and the messages it stands for."""

    delivery: Delivery
    attempt: Attempt
    spans: tuple[Span, ...]


def claim_deliveries(
    tx: Transaction,
    delivery_ids: Sequence[str],
    description: Description,
    hold_max_s: float,
    hold_check_s: float,
) -> list[Claimed]:
    """Claim those of the deliveries that are due and may be sent."""
    claimed: list[Claimed] = []
    for delivery_id in delivery_ids:
        delivery = tx.delivery(delivery_id)
        if delivery is None or delivery.due_at is None or delivery.due_at > tx.now():
            continue  # Somebody else saw to it since it was read.
        spans = _judge(tx, delivery, hold_max_s, hold_check_s)
        if spans:
            claimed.append(_begin(tx, delivery, spans, description))
    return claimed


def _judge(
    tx: Transaction, delivery: Delivery, hold_max_s: float, hold_check_s: float
) -> tuple[Span, ...]:
    """What of the delivery may be sent now; if nothing, what it is instead has been written."""
    notification = tx.notification(delivery.notification_id)
    spans = {span.to_seq: span for span in tx.members(delivery.notification_id)}
    if delivery.expires_at <= tx.now():
        return _end(tx, delivery, expire(delivery))
    if not tx.endpoint_is_known(delivery.user, delivery.uri):
        return _end(tx, delivery, cancel(delivery, "ENDPOINT_REMOVED"))
    if notification is None or not spans:
        return _end(tx, delivery, cancel(delivery, "ACKNOWLEDGED"))
    # A span of several messages is judged by its last one, and told without those acknowledged.
    messages = [Message(delivery.subject, span.to_seq, span.pos) for span in spans.values()]
    state_now = tx.load_user(delivery.user, delivery.subject)
    verdict = may_send(
        state_now,
        messages,
        tx.holds(delivery.user, delivery.subject, notification.first_seq),
        tx.now(),
        hold_max_s,
    )
    match verdict:
        case Send(left, acknowledged):
            _take_out(tx, notification, acknowledged)
            return tuple(
                _unacknowledged(state_now, delivery.subject, spans[message.seq]) for message in left
            )
        case Held(until, holds):
            for put in holds:
                # Under the notification's own name: its first message of now may be taken out of
                # it before its next delivery is judged.
                named = replace(put.hold, first_seq=notification.first_seq)
                tx.write_user(delivery.user, PutHold(named))
            tx.put_delivery(hold(delivery, min(until, tx.now() + hold_check_s)))
            return ()
        case Cancel(reason):
            return _end(tx, delivery, cancel(delivery, reason.value))


def _unacknowledged(state_now: UserState, subject: str, span: Span) -> Span:
    first = first_unacknowledged(state_now, subject, span.from_seq, span.to_seq)
    return span if first > span.to_seq else replace(span, from_seq=first)


def _take_out(tx: Transaction, notification: Notification, acknowledged: Sequence[Message]) -> None:
    # Once something of it was sent, its messages stay what was told to the user.
    if notification.joinable:
        for message in acknowledged:
            tx.take_out(notification.user, notification.subject, message.seq, "ACKNOWLEDGED")


def _end(tx: Transaction, delivery: Delivery, ended: Delivery) -> tuple[Span, ...]:
    tx.put_delivery(ended)
    tx.close_notification(delivery.notification_id, sent=False)
    return ()


def _begin(
    tx: Transaction, delivery: Delivery, spans: tuple[Span, ...], description: Description
) -> Claimed:
    sending = claim(delivery, description.repeats_unknown(delivery.scheme))
    attempt = Attempt(sending.id, sending.attempts, tx.now(), description.name)
    tx.put_delivery(sending)
    tx.close_notification(delivery.notification_id, sent=True)
    tx.begin_attempt(attempt)
    return Claimed(sending, attempt, spans)
