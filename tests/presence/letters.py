"""Deliveries as tests of what becomes of them put them into a store."""

from dataclasses import replace

from services.presence.notifications import Delivery, DeliveryState, Notification, Span
from services.presence.store_outbox import Attempt, Decided

NOW = 1_000.0
MAIL = "mailto:ann@example.org"


def put(tx, own_id: str, state: DeliveryState, user: str = "ann", **fields) -> None:
    """A delivery in this state, of a notification of its own, tried once. The users are locked."""
    delivery = Delivery(
        id=own_id,
        notification_id=f"n-{own_id}",
        user=user,
        subject="/a",
        uri=fields.pop("uri", f"mailto:{user}@example.org"),
        state=state,
        due_at=fields.pop("due_at", None),
        expires_at=fields.pop("expires_at", NOW + 500.0),
        attempts=1,
        tries=8,
        reason=fields.pop("reason", ""),
    )
    delivery = replace(delivery, **fields)
    notification = Notification(
        f"n-{own_id}", user, "/a", 1, 1.0, 1.0, delivery.expires_at, joinable=False
    )
    tx.begin_all([notification], [delivery])
    tx.put_decided(user, "/a", Decided(Span(1, 3, 30), f"n-{own_id}", "", 1.0))
    if delivery.attempts:
        tx.put_attempts([Attempt(own_id, delivery.attempts, 900.0, "mailer", "RETRY", 901.0)])


async def one(store, own_id: str) -> Delivery:
    [found] = await store.read(lambda tx: tx.deliveries([own_id]))
    return found
