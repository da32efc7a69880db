"""Takes what plugins learnt of deliveries after they were handed over, in one transaction.

Knows the messages of notifier.proto and the store; what follows from an event is `receipts`' to
say. To drive it: `events_of(messages)`, then `record(tx, events)` inside the store.
"""

import re
from collections.abc import Iterable, Sequence

from onward.notifier.v1 import notifier_pb2

from services.presence import answers, metrics
from services.presence.notifications import Delivery, OptOut, PutDelivery, RemoveEndpoint
from services.presence.receipts import Event, Keep, Kind, PutEarlyWord, Receipt, on_event
from services.presence.store import Transaction

# Events in one transaction, and in one call.
EVENTS_MAX = 1_000
# What a delivery's id may look like; ours are hex. Not every store takes every character.
DELIVERY_ID = re.compile("[0-9A-Za-z-]{1,64}")


def events_of(messages: Iterable[notifier_pb2.DeliveryEvent]) -> list[Event]:
    """The events, in their order; those of no known kind, or with no id, are passed over."""
    names = notifier_pb2.DeliveryEvent.Kind
    found: list[Event] = []
    for message in messages:
        known = message.kind in names.values() and message.kind != names.KIND_UNSPECIFIED
        if known and DELIVERY_ID.fullmatch(message.delivery_id):
            at = message.at
            found.append(
                Event(
                    delivery_id=message.delivery_id,
                    kind=Kind[names.Name(message.kind)],
                    # Read by field: the conversions of protobuf raise for times out of range.
                    at=max(0.0, at.seconds + at.nanos / 1e9) if message.HasField("at") else None,
                    provider_id=answers.kept_text(message.provider_id),
                    detail=answers.kept_text(message.detail),
                )
            )
    return found


def record(tx: Transaction, events: Sequence[Event]) -> int:
    """Make the events take effect; how many were new."""
    ids = list(dict.fromkeys(event.delivery_id for event in events))
    deliveries = {delivery.id: delivery for delivery in tx.deliveries(ids)}
    if tx.lock({delivery.user for delivery in deliveries.values()}):
        deliveries = {delivery.id: delivery for delivery in tx.deliveries(list(deliveries))}
    known = {
        (own_id, receipt.kind)
        for own_id, receipts in tx.receipts(list(deliveries)).items()
        for receipt in receipts
    }
    attempts = tx.last_attempts(list(deliveries))
    kept: list[tuple[str, Receipt]] = []
    for event in events:
        delivery = deliveries.get(event.delivery_id)
        if delivery is None:
            metrics.receipts.labels("UNKNOWN_ID").inc()
            continue
        last = attempts[delivery.id].provider_id if delivery.id in attempts else ""
        key = delivery.id, event.kind
        for effect in on_event(delivery, event, tx.now(), key in known, last):
            match effect:
                case Keep(receipt):
                    known.add(key)
                    kept.append((delivery.user, receipt))
                    metrics.receipts.labels(event.kind.value).inc()
                case PutEarlyWord(worded):
                    tx.put_early_words([worded])
                    deliveries[delivery.id] = worded
                case PutDelivery(changed):
                    _put(tx, changed)
                    deliveries[delivery.id] = changed
                case RemoveEndpoint() | OptOut():
                    answers.write(tx, [effect])
                    # Others of the same endpoint may have been cancelled with that.
                    deliveries |= {one.id: one for one in tx.deliveries(list(deliveries))}
    tx.put_receipts(kept)
    return len(kept)


def _put(tx: Transaction, delivery: Delivery) -> None:
    tx.put_deliveries([delivery])
    if delivery.due_at is None:
        # Nothing may join it any more, as after any end.
        tx.close_notifications([delivery.notification_id], sent=False)
