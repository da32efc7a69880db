"""The steps of an escalation: when a further channel is used, and when it need not be. Pure.

Rules:
- A delivery of a further step is not sent if a former step is known to have arrived, or was not
  sent because its messages were acknowledged (`settled_as`, asked at its claim).
- It waits until former steps were tried (`wait_until`, asked at its claim), and from the first try
  of one on for the time in which a receipt may come (`postponed`). So what puts off the first step
  (quiet hours, a hold) puts off the next ones, and what brings it forward brings them forward; its
  retries do neither. A step that nobody tries although it is due, since its plugin is away, is
  waited for no longer than for a receipt.
- Where all former steps have ended with nothing sent, nobody waits for a receipt of them: the next
  step is due at once (`hastened`).
"""

from collections.abc import Sequence
from dataclasses import replace

from services.presence.notifications import Delivery, DeliveryState

RECEIPTED = "RECEIPTED"
ACKNOWLEDGED = "ACKNOWLEDGED"
_NOT_SENT = {
    DeliveryState.FAILED,
    DeliveryState.DEAD,
    DeliveryState.EXPIRED,
    DeliveryState.CANCELLED,
}


def settled_as(delivery: Delivery, siblings: Sequence[Delivery]) -> str:
    """Why nothing more need be sent, as a former step arrived: RECEIPTED, or ACKNOWLEDGED, where
    it was read before it was sent; empty: it must be. `siblings`: all of the notification."""
    former = [one for one in siblings if one.step < delivery.step]
    if any(one.state is DeliveryState.DELIVERED for one in former):
        return RECEIPTED
    return ACKNOWLEDGED if any(map(_is_read, former)) else ""


def wait_until(
    delivery: Delivery, siblings: Sequence[Delivery], now: float, escalate_s: float
) -> float | None:
    """Until when the delivery waits because a former step was not tried yet; None: it need not."""
    untried = [
        one.due_at
        for one in siblings
        if one.step < delivery.step and one.due_at is not None and not one.attempts
    ]
    until = max(untried, default=0.0) + escalate_s
    return until if untried and until > now else None


def postponed(
    tried: Delivery, siblings: Sequence[Delivery], now: float, escalate_s: float
) -> list[Delivery]:
    """The deliveries of further steps that are due at another time, since this one is tried first
    now: later, or sooner, if they have no reason of their own to wait."""
    moved = [
        replace(one, due_at=now + (one.step - tried.step) * escalate_s)
        for one in siblings
        if one.step > tried.step and one.due_at is not None and not one.attempts
    ]
    due_at = {one.id: one.due_at or 0.0 for one in siblings}
    return [
        one
        for one in moved
        if one.due_at is not None
        if one.due_at > due_at[one.id] or (one.due_at < due_at[one.id] and not one.reason)
    ]


def hastened(siblings: Sequence[Delivery], now: float) -> list[Delivery]:
    """The deliveries of the next step, due now, if no former one was sent or will be; else none."""
    open_steps = [one.step for one in siblings if one.due_at is not None]
    if not open_steps:
        return []
    step = min(open_steps)
    former = [one for one in siblings if one.step < step]
    if any(one.state not in _NOT_SENT or _is_read(one) for one in former):
        return []
    return [
        # What is put off for the user is asked about again.
        replace(one, due_at=now, reason="")
        for one in siblings
        if one.step == step and step > 0 and one.due_at is not None and one.due_at > now
        # Not what has been tried, or is held.
        if not one.attempts and not one.held
    ]


def _is_read(delivery: Delivery) -> bool:
    return delivery.state is DeliveryState.CANCELLED and delivery.reason == ACKNOWLEDGED
