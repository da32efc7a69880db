"""The steps of an escalation: when a further channel is used, and when it need not be. Pure.

Rules: the deliveries of a step are due at their time unless a former step is known to have arrived
(`is_settled`, asked at their claim). Where a former step has ended with nothing sent, nobody waits
for a receipt of it: the next step is due at once (`hastened`).
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
        # Not what waits for another reason: a retry, a hold, quiet hours.
        if not one.attempts and not one.held and not one.reason
    ]
