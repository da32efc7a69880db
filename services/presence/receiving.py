"""Takes what plugins learnt of deliveries after they were handed over, in one transaction.

Knows the messages of notifier.proto and the store; what follows from an event is `receipts`' to
say. To drive it: `await Receiving(…).take(messages)`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from onward.notifier.v1 import notifier_pb2

from services.chassis.times import seconds_of
from services.presence import answers, metrics
from services.presence.claims import hasten
from services.presence.notifications import (
    Delivery,
    DeliveryState,
    OptOut,
    PutDelivery,
    RemoveEndpoint,
)
from services.presence.receipts import Event, Keep, Kind, PutEarlyWord, Receipt, on_event
from services.presence.recording import Recording
from services.presence.store import Store, Transaction

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
            found.append(
                Event(
                    delivery_id=message.delivery_id,
                    kind=Kind[names.Name(message.kind)],
                    at=max(0.0, seconds_of(message.at)) if message.HasField("at") else None,
                    provider_id=answers.kept_text(message.provider_id),
                    detail=answers.kept_text(message.detail),
                )
            )
    return found


class Receiving:
    """Records events in a store. `tell()` where one of them made something due."""

    def __init__(self, store: Store, tell: Callable[[], None]) -> None:
        self._store = store
        self._tell = tell

    async def take(self, messages: Iterable[notifier_pb2.DeliveryEvent]) -> int:
        """Make them take effect, `EVENTS_MAX` in a transaction; how many were new. Raises as
        `Store.write`."""
        events = events_of(messages)
        recorded = 0
        for start in range(0, len(events), EVENTS_MAX):
            page = events[start : start + EVENTS_MAX]
            new, failed = await self._store.write(partial(record, events=page))
            recorded += new
            if failed:
                self._tell()
        return recorded


def record(tx: Transaction, events: Sequence[Event]) -> tuple[int, bool]:
    """Make the events take effect; how many were new, and whether a delivery has failed by them,
    so that another may be due in its place."""
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
    recording = Recording(tx)
    kept: list[tuple[str, Receipt]] = []
    failed: list[Delivery] = []
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
                    if changed.state is DeliveryState.FAILED:
                        failed.append(changed)
                case RemoveEndpoint() | OptOut():
                    answers.write(tx, [effect], recording)
                    # Others of the same endpoint may have been cancelled with that.
                    deliveries |= {one.id: one for one in tx.deliveries(list(deliveries))}
    tx.put_receipts(kept)
    recording.write()
    if failed:
        # An escalation goes on at once.
        found = tx.notifications([one.notification_id for one in failed])
        hasten(tx, failed, [found.get(one.notification_id) for one in failed])
    return len(kept), bool(failed)


def _put(tx: Transaction, delivery: Delivery) -> None:
    tx.put_deliveries([delivery])
    if delivery.due_at is None:
        # Nothing may join it any more, as after any end.
        tx.close_notifications([delivery.notification_id], sent=False)
