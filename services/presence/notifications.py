"""The life of a notification and of its deliveries: how they are tried, retried and ended. Pure.

A notification is what is due to a user on a subject; a delivery is that notification for one
endpoint; an attempt is one try of a delivery.

    pending ─claim→ sending ─┬→ accepted | delivered
       ▲ │                   ├→ failed       (the message, or the endpoint, is at fault)
       │ └→ cancelled        ├→ retry(due) ─claim→ sending …       (known not to be sent)
   held, put off             ├→ unknown(due) ─claim→ sending …     (the channel repeats)
                             ├→ unknown      (the channel never repeats)
                             └→ dead | expired                     (tries, or time, ran out)

What is known not to be sent is dead only once it is old enough for that, too.

Rules: ids depend on the log, the user, the subject and the first message alone, so every try of
every process carries the same. Nothing here deletes an endpoint for a fault of the plugin.

Knows the rules and the limits. Must not know stores, plugins, where a notification begins
(`placing`) or whether the user may be sent anything now (`sending`, `decision`). To drive it: call
a function with rows and `now`, write its effects in one transaction. Times are seconds of the
store's clock.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import blake2b

from services.presence.plan import DEFAULT_PLAN, Plan, Priority


class DeliveryState(Enum):
    """Where a delivery is in its life; the value is the word that `explain` tells."""

    PENDING = "pending"
    SENDING = "sending"
    RETRY = "retry"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    FAILED = "failed"
    DEAD = "dead"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Outcome(Enum):
    """What a try came to: the plugin's word, or what the call itself came to."""

    ACCEPTED = "ACCEPTED"
    DELIVERED = "DELIVERED"
    RETRY = "RETRY"
    REJECTED_MESSAGE = "REJECTED_MESSAGE"
    ENDPOINT_GONE = "ENDPOINT_GONE"
    OPTED_OUT = "OPTED_OUT"
    MISCONFIGURED = "MISCONFIGURED"
    EXPIRED = "EXPIRED"
    UNKNOWN = "UNKNOWN"
    PROVIDER_UNAVAILABLE = "PROVIDER_UNAVAILABLE"
    # The plugin did not come to it, being stopped or busy with others: nothing was sent.
    NOT_BEGUN = "NOT_BEGUN"
    # The call was turned down before the plugin looked at it: nothing was sent.
    CALL_REFUSED = "CALL_REFUSED"
    # The call broke: it may or may not have been sent.
    CALL_BROKEN = "CALL_BROKEN"
    # The plugin took the call and did not answer in time: it may well have been sent.
    CALL_TIMED_OUT = "CALL_TIMED_OUT"
    # Its template gave it no words, so the plugin was not called: nothing was sent.
    TEMPLATE_FAILED = "TEMPLATE_FAILED"
    # Its template could not be run now, by no fault of its own: nothing was sent.
    NOT_RENDERED = "NOT_RENDERED"


# Why a delivery may be a dead letter: what `settle` ends one with.
DEAD_REASONS = ("TEMPLATE_FAILED", "TRIES_EXHAUSTED")

# Outcomes that speak of the plugin and not of the delivery: they open its breaker.
PLUGIN_FAULTS = frozenset(
    {
        Outcome.MISCONFIGURED,
        Outcome.PROVIDER_UNAVAILABLE,
        Outcome.CALL_REFUSED,
        Outcome.CALL_BROKEN,
        Outcome.CALL_TIMED_OUT,
    }
)
# Outcomes after which it is known that nothing went out.
NOTHING_SENT = frozenset(
    outcome.value
    for outcome in (
        Outcome.RETRY,
        Outcome.REJECTED_MESSAGE,
        Outcome.ENDPOINT_GONE,
        Outcome.OPTED_OUT,
        Outcome.MISCONFIGURED,
        Outcome.PROVIDER_UNAVAILABLE,
        Outcome.NOT_BEGUN,
        Outcome.EXPIRED,
        Outcome.CALL_REFUSED,
        Outcome.TEMPLATE_FAILED,
        Outcome.NOT_RENDERED,
    )
)
# Longest wait of a delivery that a plugin has not begun with: it may have its turn at any time.
TURN_LONGEST_S = 120.0
# Outcomes of deliveries that the plugin was not called with.
NOT_CALLED = frozenset({Outcome.TEMPLATE_FAILED, Outcome.NOT_RENDERED})
# Outcomes after which it is not known whether it went out.
_IN_DOUBT = frozenset({Outcome.UNKNOWN, Outcome.CALL_BROKEN, Outcome.CALL_TIMED_OUT})
# Outcomes that use up a try.
COUNTED = frozenset({Outcome.RETRY.value, *(one.value for one in _IN_DOUBT)})
# Outcomes that show that the plugin and its provider do their work.
PLUGIN_WORKS = frozenset(
    {
        Outcome.ACCEPTED,
        Outcome.DELIVERED,
        Outcome.REJECTED_MESSAGE,
        Outcome.ENDPOINT_GONE,
        Outcome.OPTED_OUT,
    }
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a notification's life, in seconds and tries; the settings explain them."""

    collapse_s: float = 30.0
    expiry_s: float = 86_400.0
    retry_first_s: float = 2.0
    retry_longest_s: float = 600.0
    tries_max: int = 8
    # Since its first try; a delivery that is younger is no dead letter yet.
    dead_letter_after_s: float = 3_600.0


@dataclass(frozen=True, slots=True)
class Span:
    """Messages of a subject decided together: one, or the rest of a long backlog."""

    from_seq: int
    to_seq: int
    # Position of the last one in the subject's partition.
    pos: int

    @property
    def count(self) -> int:
        """How many messages."""
        return self.to_seq - self.from_seq + 1


@dataclass(frozen=True, slots=True)
class Notification:
    """What is due to a user on a subject. Primary key: id."""

    id: str
    user: str
    subject: str
    # Gives the notification its id; never changes, also when that message is taken out.
    first_seq: int
    created_at: float
    due_at: float
    expires_at: float
    # Nothing of it has been handed to a plugin, so messages may still join.
    joinable: bool = True
    plan: Plan = DEFAULT_PLAN


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notification for one endpoint. Primary key: id."""

    id: str
    notification_id: str
    user: str
    subject: str
    uri: str
    state: DeliveryState
    # When it may next be claimed; None: never again.
    due_at: float | None
    expires_at: float
    # A client of the user held it back when it was last looked at.
    held: bool = False
    # Tries begun, and those of them that count towards `tries_max`.
    attempts: int = 0
    tries: int = 0
    # Whether its channel repeats a delivery of unknown outcome; known from the first claim on.
    repeats_unknown: bool = False
    # Why it ended as it did, or waits; empty while there is nothing to say.
    reason: str = ""
    # Of its notification's escalation, from 0.
    step: int = 0
    # Deliveries of a lower one are sent sooner.
    rank: int = Priority.NORMAL.value

    @property
    def scheme(self) -> str:
        """The channel: the part of the token before the colon."""
        return scheme_of(self.uri)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a plugin said of one delivery."""

    outcome: Outcome
    retry_after_s: float = 0.0
    # ENDPOINT_GONE: since when, by the provider; None: since now.
    gone_since: float | None = None
    provider_id: str = ""
    detail: str = ""


# -- effects -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PutDelivery:
    """Replace the delivery row."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class RemoveEndpoint:
    """Delete the user's endpoint if it was registered before `before`, and tell its clients."""

    user: str
    uri: str
    before: float


@dataclass(frozen=True, slots=True)
class OptOut:
    """Record that nothing may be sent to this endpoint any more; the endpoint stays."""

    user: str
    uri: str


Effect = PutDelivery | RemoveEndpoint | OptOut


# -- ids -----------------------------------------------------------------------------------------


def notification_id(log_id: str, user: str, subject: str, first_seq: int) -> str:
    """The same for the same first message, in every process: 32 hex characters."""
    return _digest(log_id, user, subject, str(first_seq))


def delivery_id(notification: str, uri: str) -> str:
    """The idempotency key that plugins are given: 32 hex characters."""
    return _digest(notification, uri)


def scheme_of(uri: str) -> str:
    """The channel of an external token, in lower case; empty if it has none."""
    scheme, colon, _ = uri.partition(":")
    return scheme.lower() if colon else ""


def _digest(*parts: str) -> str:
    digest = blake2b(digest_size=16)
    for part in parts:
        data = part.encode()
        # With its length, so that no two lists of parts read the same.
        digest.update(len(data).to_bytes(4, "big") + data)
    return digest.hexdigest()


# -- the rules -----------------------------------------------------------------------------------


def claim(delivery: Delivery, repeats_unknown: bool) -> Delivery:
    """The delivery as it is while a plugin has it. Commit this before the call."""
    return replace(
        delivery,
        state=DeliveryState.SENDING,
        due_at=None,
        held=False,
        attempts=delivery.attempts + 1,
        repeats_unknown=repeats_unknown,
        reason="",
    )


def hold(delivery: Delivery, again_at: float) -> Delivery:
    """The delivery while a client answers for its messages; it is looked at again by `again_at`."""
    return replace(delivery, held=True, due_at=again_at)


def defer(delivery: Delivery, until: float, reason: str) -> Delivery:
    """The delivery when it must wait for a reason of the user's."""
    return replace(delivery, held=False, due_at=until, reason=reason)


def cancel(delivery: Delivery, reason: str) -> Delivery:
    """The delivery when nothing is left to send, or nowhere to send it."""
    return replace(delivery, state=DeliveryState.CANCELLED, due_at=None, held=False, reason=reason)


def expire(delivery: Delivery) -> Delivery:
    """The delivery when its time has run out."""
    return replace(delivery, state=DeliveryState.EXPIRED, due_at=None, held=False, reason="EXPIRED")


def interrupted(delivery: Delivery, now: float) -> Delivery:
    """A delivery that a process which is gone had claimed: nobody knows whether it was sent."""
    due_at = now if delivery.repeats_unknown else None
    return replace(delivery, state=DeliveryState.UNKNOWN, due_at=due_at, reason="INTERRUPTED")


def settle(
    delivery: Delivery,
    answer: Answer,
    now: float,
    chance: float,
    limits: Limits,
    works: bool = False,
    age_s: float = math.inf,
) -> list[Effect]:
    """What an answer makes of a claimed delivery. `chance` is a random number in [0, 1); `works`
    says that the same call served others, so that a fault is not that of the whole plugin; `age_s`
    are the seconds since its first try that counts, where they are used up (`is_last_try`)."""
    match answer.outcome:
        case Outcome.ACCEPTED:
            return [_end(delivery, DeliveryState.ACCEPTED)]
        case Outcome.DELIVERED:
            return [_end(delivery, DeliveryState.DELIVERED)]
        case Outcome.REJECTED_MESSAGE:
            return [_end(delivery, DeliveryState.FAILED, "REJECTED_MESSAGE")]
        case Outcome.EXPIRED:
            return [_end(delivery, DeliveryState.EXPIRED, "EXPIRED")]
        case Outcome.OPTED_OUT:
            return [
                _end(delivery, DeliveryState.FAILED, "OPTED_OUT"),
                OptOut(delivery.user, delivery.uri),
            ]
        case Outcome.ENDPOINT_GONE:
            before = now if answer.gone_since is None else answer.gone_since
            return [
                _end(delivery, DeliveryState.FAILED, "ENDPOINT_GONE"),
                RemoveEndpoint(delivery.user, delivery.uri, before),
            ]
        case Outcome.RETRY:
            return [_again(delivery, DeliveryState.RETRY, answer, now, chance, limits, age_s)]
        case Outcome.NOT_BEGUN:
            wait_s = max(answer.retry_after_s, _turn_delay_s(delivery, chance, limits))
            return [_wait_for_plugin(delivery, DeliveryState.RETRY, answer.outcome, now + wait_s)]
        case Outcome.TEMPLATE_FAILED:
            # Other words would tell what the template may be there to hide.
            return [_end(delivery, DeliveryState.DEAD, "TEMPLATE_FAILED")]
        case Outcome.NOT_RENDERED:
            wait_s = retry_delay_s(delivery.attempts, chance, limits)
            return [_wait_for_plugin(delivery, DeliveryState.RETRY, answer.outcome, now + wait_s)]
        case Outcome.MISCONFIGURED | Outcome.PROVIDER_UNAVAILABLE if works:
            # No breaker spares the plugin this one, so it waits by itself.
            wait_s = retry_delay_s(delivery.attempts, chance, limits)
            return [_wait_for_plugin(delivery, DeliveryState.RETRY, answer.outcome, now + wait_s)]
        case Outcome.MISCONFIGURED | Outcome.PROVIDER_UNAVAILABLE | Outcome.CALL_REFUSED:
            return [_wait_for_plugin(delivery, DeliveryState.RETRY, answer.outcome, now)]
        case _ if answer.outcome in _IN_DOUBT and delivery.repeats_unknown:
            # Counted, also where the plugin is at fault: one that sends and then hangs or dies must
            # not send the same again at each probe until the delivery expires; nor for as long as
            # what is known not to be sent is tried. Unless it says when to ask again: it may be
            # sending still.
            if not answer.retry_after_s:
                age_s = math.inf
            return [_again(delivery, DeliveryState.UNKNOWN, answer, now, chance, limits, age_s)]
        case _:
            assert answer.outcome in _IN_DOUBT, answer.outcome
            return [_end(delivery, DeliveryState.UNKNOWN, answer.outcome.value)]


def is_last_try(delivery: Delivery, limits: Limits) -> bool:
    """Whether its tries are used up if the one that is under way counts."""
    return delivery.tries + 1 >= limits.tries_max


def is_suspect(delivery: Delivery) -> bool:
    """Whether it was in a call that broke: it may be what broke it, and is tried alone."""
    broken = (Outcome.CALL_BROKEN.value, Outcome.CALL_TIMED_OUT.value)
    return delivery.state is DeliveryState.UNKNOWN and delivery.reason in broken


def _end(delivery: Delivery, state: DeliveryState, reason: str = "") -> PutDelivery:
    return PutDelivery(replace(delivery, state=state, due_at=None, held=False, reason=reason))


def _wait_for_plugin(
    delivery: Delivery, state: DeliveryState, outcome: Outcome, due_at: float
) -> PutDelivery:
    # Mostly due at once: the plugin's breaker says when it is asked again, for all of its
    # deliveries. The try does not count, since it says nothing of this delivery.
    return PutDelivery(replace(delivery, state=state, due_at=due_at, reason=outcome.value))


def _again(
    delivery: Delivery,
    state: DeliveryState,
    answer: Answer,
    now: float,
    chance: float,
    limits: Limits,
    age_s: float = math.inf,
) -> PutDelivery:
    tries = delivery.tries + 1
    counted = replace(delivery, tries=tries)
    # A provider may be out for a while; where nothing was sent, a further try harms nobody.
    if is_last_try(delivery, limits) and age_s >= limits.dead_letter_after_s:
        return _end(counted, DeliveryState.DEAD, "TRIES_EXHAUSTED")
    due_at = now + max(answer.retry_after_s, retry_delay_s(tries, chance, limits))
    if due_at >= delivery.expires_at:
        return _end(counted, DeliveryState.EXPIRED, "EXPIRED")
    return PutDelivery(replace(counted, state=state, due_at=due_at, reason=answer.outcome.value))


def retry_delay_s(tries: int, chance: float, limits: Limits) -> float:
    """Full jitter: anything from nothing to the doubled delay, so that retries do not gather."""
    doublings = min(tries - 1, 64)  # Beyond it a float would overflow in the end.
    longest = min(limits.retry_longest_s, limits.retry_first_s * 2.0**doublings)
    return chance * longest


def _turn_delay_s(delivery: Delivery, chance: float, limits: Limits) -> float:
    """Until a plugin that has not begun with it is given it again: never at once, and longer the
    oftener it was in vain, yet soon."""
    in_vain = min(delivery.attempts - delivery.tries - 1, 64)
    longest = min(TURN_LONGEST_S, limits.retry_longest_s, limits.retry_first_s * 2.0**in_vain)
    return longest * (0.5 + chance / 2)
