"""Between deliveries and the notifier contract: what a plugin is given, what its answers mean.

Knows the messages of notifier.proto, and that a plugin may answer anything: answers nobody asked
for are passed over, missing ones are UNKNOWN, texts are cut.
"""

from collections.abc import Sequence
from dataclasses import replace

import grpc
from onward.notifier.v1 import notifier_pb2
from onward.types.v1 import entry_pb2

from services.presence.claims import Claimed
from services.presence.notifications import (
    Answer,
    Effect,
    OptOut,
    Outcome,
    PutDelivery,
    RemoveEndpoint,
)
from services.presence.recording import Recording
from services.presence.store import Attempt, Transaction

_TEXT_MAX = 256
# gRPC statuses that are given before a plugin's own code runs: nothing was sent.
_REFUSED = frozenset({grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAUTHENTICATED})


def delivery_message(
    claimed: Claimed, contents: Sequence[entry_pb2.Message]
) -> notifier_pb2.Delivery:
    """A claimed delivery as plugins are given it."""
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
        messages=[
            _notified(one)
            for one in contents
            # What was acknowledged since it was read, and own messages, are not told.
            if _within(one.seq, claimed) and one.publisher != delivery.user
        ],
        collapse_key=delivery.notification_id,
    )
    message.expires_at.FromNanoseconds(int(delivery.expires_at * 1e9))
    return message


def of_error(status: grpc.StatusCode) -> Answer:
    """What a failed call says of each of its deliveries."""
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        outcome = Outcome.CALL_TIMED_OUT
    else:
        outcome = Outcome.CALL_REFUSED if status in _REFUSED else Outcome.CALL_BROKEN
    return Answer(outcome, detail=f"the call to the plugin ended with {status.name}")


def of_response(response: notifier_pb2.NotifyResponse, asked: Sequence[str]) -> dict[str, Answer]:
    """The answer for each delivery that was asked about."""
    answers = dict.fromkeys(asked, Answer(Outcome.UNKNOWN, detail="the plugin did not answer"))
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


def write(tx: Transaction, effects: Sequence[Effect]) -> None:
    """Write what `notifications.settle` returned."""
    tx.put_deliveries([one.delivery for one in effects if isinstance(one, PutDelivery)])
    recording = Recording(tx)
    for effect in effects:
        match effect:
            case PutDelivery():
                pass  # Written above, all at once; none of the others is of its row.
            case RemoveEndpoint(user, uri, before):
                if tx.remove_gone_endpoint(user, uri, before):
                    recording.gone(user, uri)
            case OptOut(user, uri):
                tx.opt_out(user, uri)
    recording.write()


def kept_text(text: str) -> str:
    """A plugin's words as they are kept: cut, and harmless on a terminal."""
    return "".join(c if c.isprintable() else " " for c in text[:_TEXT_MAX])


def _answer(result: notifier_pb2.Result) -> Answer:
    names = notifier_pb2.Result.Outcome
    known = result.outcome in names.values() and result.outcome != names.OUTCOME_UNSPECIFIED
    # Read by field: the conversions of protobuf raise for times out of their range.
    since = result.gone_since if result.HasField("gone_since") else None
    wait = result.retry_after
    return Answer(
        outcome=Outcome[names.Name(result.outcome)] if known else Outcome.UNKNOWN,
        retry_after_s=max(0.0, wait.seconds + wait.nanos / 1e9),
        gone_since=None if since is None else since.seconds + since.nanos / 1e9,
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
