"""What is learnt of a delivery after the plugin answered for it, or before it has. Pure.

Rules:
- Nothing is believed of a delivery that no plugin was ever given.
- That it has arrived, or was opened, is final, whatever was said before or comes later: it is
  `delivered`, and is not sent again.
- That it will not arrive ends what may have been sent (`accepted`, `unknown`); a delivery that is
  to be tried again anyway was known not to have arrived, so nothing is learnt of it. A failure that
  names another provider id than the last try is one of an earlier try, and is passed over.
- That the endpoint is gone, or unwilling, holds for the endpoint, whatever became of the delivery.
- What comes while the plugin still has the delivery (`sending`) is kept with it as an *early word*,
  and the answer is read in its light.

Knows deliveries' lives. Must not know stores, the notifier contract, or who told. To drive it:
`on_event` for each event, in the order in which they came, under the user's lock; `after_answer`
with what an answer, or the loss of one, makes of a delivery that has an early word. Times are
seconds of the store's clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from services.presence.notifications import (
    Delivery,
    DeliveryState,
    Effect,
    OptOut,
    PutDelivery,
    RemoveEndpoint,
)


class Kind(Enum):
    """What is told of a delivery; the value is the word that is kept."""

    DELIVERED = "DELIVERED"
    OPENED = "OPENED"
    FAILED = "FAILED"
    ENDPOINT_GONE = "ENDPOINT_GONE"
    OPTED_OUT = "OPTED_OUT"


@dataclass(frozen=True, slots=True)
class Event:
    """What a plugin reports. `at`: when it happened, by the provider; None: now."""

    delivery_id: str
    kind: Kind
    at: float | None = None
    provider_id: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """An event as it is kept. Primary key: (delivery_id, kind)."""

    delivery_id: str
    kind: Kind
    at: float
    provider_id: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Keep:
    """Record the receipt; one of its kind that is there stays as it is."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class PutEarlyWord:
    """Keep this word with the delivery while its claim lasts, and change nothing else of it: it is
    another process's, perhaps, and stays that one's."""

    delivery: Delivery


ReceiptEffect = Keep | PutEarlyWord | Effect

# Early words: reasons of a delivery that is `sending`, which has none otherwise.
ARRIVED = "ARRIVED"
REPORTED_FAILED = "REPORTED_FAILED"
ENDPOINT_GONE = "ENDPOINT_GONE"


# It may have been sent, and nobody has said yet that it arrived.
_OPEN_TO_FAILURE = frozenset({DeliveryState.ACCEPTED, DeliveryState.UNKNOWN})


def on_event(
    delivery: Delivery, event: Event, now: float, known: bool = False, last_provider_id: str = ""
) -> list[ReceiptEffect]:
    """What an event means; nothing: it is passed over.

    `known`: one of its kind was kept before. `last_provider_id`: the provider's name for the last
    try; empty: none, or the try has not ended.
    """
    if not delivery.attempts:
        return []
    at = now if event.at is None else min(event.at, now)
    receipt = Receipt(event.delivery_id, event.kind, at, event.provider_id, event.detail)
    kept: list[ReceiptEffect] = [] if known else [Keep(receipt)]
    match event.kind:
        case Kind.DELIVERED | Kind.OPENED:
            return kept + _arrived(delivery)
        case Kind.OPTED_OUT:
            # Known before, it may be in force no longer: the user may have asked for more since.
            return [] if known else [*kept, OptOut(delivery.user, delivery.uri)]
        case Kind.ENDPOINT_GONE:
            if known:
                return []
            gone = RemoveEndpoint(delivery.user, delivery.uri, at)
            return [*kept, *_failed(delivery, ENDPOINT_GONE), gone]
        case Kind.FAILED:
            if event.provider_id and last_provider_id not in ("", event.provider_id):
                return []
            failed = _failed(delivery, REPORTED_FAILED)
            return kept + failed if failed else []


def after_answer(effects: Sequence[Effect], early_word: str) -> list[Effect]:
    """What a claimed delivery has become, by the answer and by what was learnt before it.

    `effects` are what the answer alone makes of it; `early_word` is empty if nothing was learnt.
    """
    return [
        PutDelivery(_in_the_light(effect.delivery, early_word))
        if isinstance(effect, PutDelivery)
        else effect
        for effect in effects
    ]


def _in_the_light(answered: Delivery, early_word: str) -> Delivery:
    if early_word == ARRIVED:
        return _ended(answered, DeliveryState.DELIVERED)
    if early_word and answered.state in _OPEN_TO_FAILURE:
        return _ended(answered, DeliveryState.FAILED, early_word)
    return answered


def _arrived(delivery: Delivery) -> list[ReceiptEffect]:
    match delivery.state:
        case DeliveryState.SENDING if delivery.reason != ARRIVED:
            return [PutEarlyWord(replace(delivery, reason=ARRIVED))]
        case DeliveryState.SENDING | DeliveryState.DELIVERED:
            return []
    return [PutDelivery(_ended(delivery, DeliveryState.DELIVERED))]


def _failed(delivery: Delivery, reason: str) -> list[ReceiptEffect]:
    if delivery.state is DeliveryState.SENDING:
        return [] if delivery.reason else [PutEarlyWord(replace(delivery, reason=reason))]
    if delivery.state in _OPEN_TO_FAILURE:
        return [PutDelivery(_ended(delivery, DeliveryState.FAILED, reason))]
    return []


def _ended(delivery: Delivery, state: DeliveryState, reason: str = "") -> Delivery:
    return replace(delivery, state=state, due_at=None, held=False, reason=reason)
