"""The steps of an escalation: when a further channel is used, and when it need not be. Pure.

Rules:
- A delivery of a further step is not sent if a former step is known to have arrived (`is_settled`,
  asked at its claim).
- It waits until former steps were tried (`wait_until`, asked at its claim), and from the first try
  of one on for the time in which a receipt may come (`postponed`). So what puts off the first step
  (quiet hours, a hold) puts off the next ones; its retries do not.
- Where all former steps have ended with nothing sent, nobody waits for a receipt of them: the next
  step is due at once (`hastened`).
"""

from collections.abc import Sequence
from dataclasses import replace

from services.presence.notifications import Delivery, DeliveryState

_NOT_SENT = {
    DeliveryState.FAILED,
    DeliveryState.DEAD,
    DeliveryState.EXPIRED,
    DeliveryState.CANCELLED,
}


def is_settled(delivery: Delivery, siblings: Sequence[Delivery]) -> bool:
    """Whether a former step is known to have arrived. `siblings`: all of the notification."""
    return any(
        one.step < delivery.step and one.state is DeliveryState.DELIVERED for one in siblings
    )


def wait_until(
    delivery: Delivery, siblings: Sequence[Delivery], now: float, escalate_s: float
) -> float | None:
    """Until when the delivery waits because a former step was not tried yet; None: it need not."""
    untried = [
        one.due_at
        for one in siblings
        if one.step < delivery.step and one.due_at is not None and not one.attempts
    ]
    return max([now, *untried]) + escalate_s if untried else None


def postponed(
    tried: Delivery, siblings: Sequence[Delivery], now: float, escalate_s: float
) -> list[Delivery]:
    """The deliveries of further steps that are due later, since this one is tried first now."""
    return [
        replace(one, due_at=now + (one.step - tried.step) * escalate_s)
        for one in siblings
        if one.step > tried.step and one.due_at is not None and not one.attempts
        if one.due_at < now + (one.step - tried.step) * escalate_s
    ]


def hastened(siblings: Sequence[Delivery], now: float) -> list[Delivery]:
    """The deliveries of the next step, due now, if no former one was sent or will be; else none."""
    open_steps = [one.step for one in siblings if one.due_at is not None]
    if not open_steps:
        return []
    step = min(open_steps)
    if any(one.step < step and one.state not in _NOT_SENT for one in siblings):
        return []
    return [
        replace(one, due_at=now)
        for one in siblings
        if one.step == step and step > 0 and one.due_at is not None and one.due_at > now
        # Not what has been tried, or is held. What is put off for the user is asked about again.
        if not one.attempts and not one.held
    ]
