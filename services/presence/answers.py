"""Between deliveries and the notifier contract: what a plugin is given, what its answers mean.

Knows the messages of notifier.proto, and that a plugin may answer anything: answers nobody asked
for are passed over, missing ones are UNKNOWN, texts are cut.
"""

from collections.abc import Sequence
from dataclasses import replace

import grpc
from onward.notifier.v1 import notifier_pb2
from onward.types.v1 import entry_pb2

from services.chassis.times import seconds_of
from services.presence.claims import Claimed
from services.presence.notifications import (
    Answer,
    Effect,
    OptOut,
    Outcome,
    PutDelivery,
    RemoveEndpoint,
)
from services.presence.plan import Priority
from services.presence.recording import Recording
from services.presence.render_worker import Failure
from services.presence.store import Transaction
from services.presence.store_outbox import Attempt
from services.presence.wording import Telling, Told, Words

_TEXT_MAX = 256
_PRIORITIES = {one: notifier_pb2.Delivery.Priority.Value(one.name) for one in Priority}
_PRIORITY_WORDS = {one: one.name.lower() for one in Priority}
# gRPC statuses that are given before a plugin's own code runs: nothing was sent.
_REFUSED = frozenset({grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAUTHENTICATED})


def told(claimed: Claimed, contents: Sequence[entry_pb2.Message]) -> list[entry_pb2.Message]:
    """Those of the messages that are told: what was acknowledged since it was read is not, nor are
    the user's own."""
    return [
        one
        for one in contents
        if _within(one.seq, claimed) and one.publisher != claimed.delivery.user
    ]


def in_words(messages: Sequence[entry_pb2.Message]) -> tuple[Told, ...]:
    """Messages as words are made of them."""
    return tuple(
        Told(
            one.seq,
            one.publisher,
            seconds_of(one.accepted_at),
            dict(one.content.headers),
            one.content.content_type,
            None if one.content.HasField("data") else one.content.text,
        )
        for one in messages
    )


def telling(claimed: Claimed, messages: Sequence[Told], mute_url: str) -> Telling:
    """What words are made of, for a claimed delivery and the messages that are told."""
    delivery = claimed.delivery
    return Telling(
        user=delivery.user,
        subject=delivery.subject,
        count=sum(span.count for span in claimed.spans),
        messages=messages,
        category=claimed.plan.category,
        priority=_PRIORITY_WORDS[claimed.plan.priority],
        locale=claimed.profile.locale,
        mute_url=mute_url,
        expires_at=delivery.expires_at,
    )


def delivery_message(
    claimed: Claimed, messages: Sequence[entry_pb2.Message], words: Words, mute_url: str = ""
) -> notifier_pb2.Delivery:
    """A claimed delivery as plugins are given it, with the messages that are told."""
    delivery = claimed.delivery
    first, last = claimed.spans[0].from_seq, claimed.spans[-1].to_seq
    message = notifier_pb2.Delivery(
        delivery_id=delivery.id,
        notification_id=delivery.notification_id,
        attempt=delivery.attempts,
        endpoint=delivery.uri,
        user=delivery.user,
        subject=delivery.subject,
        first_seq=first,
        last_seq=last,
        count=sum(span.count for span in claimed.spans),
        messages=[_notified(one) for one in messages],
        collapse_key=delivery.notification_id,
        title=words.title,
        body=words.body,
        html=words.html,
        url=words.url,
        category=claimed.plan.category,
        priority=_PRIORITIES[claimed.plan.priority],
        locale=claimed.profile.locale,
        mute_url=mute_url,
        templated=bool(claimed.plan.template),
    )
    message.expires_at.FromNanoseconds(int(delivery.expires_at * 1e9))
    return message


def batches(
    deliveries: Sequence[notifier_pb2.Delivery], bytes_max: int
) -> list[list[notifier_pb2.Delivery]]:
    """The deliveries in as many requests as keep each within so many bytes, or at one delivery."""
    found: list[list[notifier_pb2.Delivery]] = []
    room = 0
    for delivery in deliveries:
        size = delivery.ByteSize()
        room -= size
        if not found or room < 0:
            found.append([])
            room = bytes_max - size
        found[-1].append(delivery)
    return found


def of_failure(failure: Failure, template: str) -> Answer:
    """What becomes of a delivery that got no words."""
    if failure is Failure.TEMPLATE:
        return Answer(Outcome.TEMPLATE_FAILED, detail=f"the template {template}")
    return Answer(Outcome.NOT_RENDERED, detail=f"the template {template} could not be run now")


def of_error(status: grpc.StatusCode) -> Answer:
    """What a failed call says of each of its deliveries."""
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        outcome = Outcome.CALL_TIMED_OUT
    else:
        outcome = Outcome.CALL_REFUSED if status in _REFUSED else Outcome.CALL_BROKEN
    return Answer(outcome, detail=f"the call to the plugin ended with {status.name}")


def of_response(response: notifier_pb2.NotifyResponse, asked: Sequence[str]) -> dict[str, Answer]:
    """The answer for each delivery that was asked about. Where there is none for any of them, the
    plugin itself is broken."""
    answered = {result.delivery_id for result in response.results}
    outcome = Outcome.CALL_BROKEN if answered.isdisjoint(asked) else Outcome.UNKNOWN
    answers = dict.fromkeys(asked, Answer(outcome, detail="the plugin did not answer"))
    for result in response.results:
        if result.delivery_id in answers:
            answers[result.delivery_id] = _answer(result)
    return answers


def ended(attempt: Attempt, answer: Answer, now: float) -> Attempt:
    """The try, with what it came to."""
    return replace(
        attempt,
        outcome=answer.outcome.value,
        ended_at=now,
        provider_id=answer.provider_id,
        detail=answer.detail,
    )


def write(tx: Transaction, effects: Sequence[Effect], recording: Recording) -> None:
    """Write what `notifications.settle` returned."""
    tx.put_deliveries([one.delivery for one in effects if isinstance(one, PutDelivery)])
    for effect in effects:
        match effect:
            case PutDelivery():
                pass  # Written above, all at once; none of the others is of its row.
            case RemoveEndpoint(user, uri, before):
                if tx.remove_gone_endpoint(user, uri, before):
                    recording.gone(user, uri)
            case OptOut(user, uri):
                tx.opt_out(user, uri)


def kept_text(text: str) -> str:
    """A plugin's words as they are kept: cut, and harmless on a terminal."""
    return "".join(c if c.isprintable() else " " for c in text[:_TEXT_MAX])


def _answer(result: notifier_pb2.Result) -> Answer:
    names = notifier_pb2.Result.Outcome
    known = result.outcome in names.values() and result.outcome != names.OUTCOME_UNSPECIFIED
    outcome = Outcome[names.Name(result.outcome)] if known else Outcome.UNKNOWN
    if outcome is Outcome.RETRY and result.not_begun:
        outcome = Outcome.NOT_BEGUN
    return Answer(
        outcome=outcome,
        retry_after_s=max(0.0, seconds_of(result.retry_after)),
        gone_since=seconds_of(result.gone_since) if result.HasField("gone_since") else None,
        provider_id=kept_text(result.provider_id),
        detail=kept_text(result.detail),
    )


def _within(seq: int, claimed: Claimed) -> bool:
    return any(span.from_seq <= seq <= span.to_seq for span in claimed.spans)


def _notified(message: entry_pb2.Message) -> notifier_pb2.NotifiedMessage:
    content = message.content
    notified = notifier_pb2.NotifiedMessage(
        seq=message.seq,
        publisher=message.publisher,
        accepted_at=message.accepted_at,
        content_type=content.content_type,
        headers=content.headers,
    )
    if content.HasField("data"):
        notified.data = content.data
    else:
        notified.text = content.text
    return notified
