"""What a plugin is given, as the contract says it."""

from onward.notifier.v1 import notifier_pb2
from onward.types.v1 import entry_pb2

from services.presence.answers import (
    batches,
    delivery_message,
    in_words,
    of_failure,
    of_response,
    telling,
    told,
)
from services.presence.claims import Claimed
from services.presence.notifications import Delivery, DeliveryState, Outcome, Span
from services.presence.plan import Plan, Priority
from services.presence.profile import Profile
from services.presence.render_worker import Failure
from services.presence.store_outbox import Attempt
from services.presence.wording import Told, Words


def claimed(**fields) -> Claimed:
    delivery = Delivery("d", "n", "ann", "/a", "fcm:x", DeliveryState.SENDING, None, 7.5)
    return Claimed(delivery, Attempt("d", 1, 0.0, "p"), (Span(2, 4, 9),), **fields)


def message(seq: int, publisher: str = "bob", **content) -> entry_pb2.Message:
    return entry_pb2.Message(
        subject="/a", seq=seq, publisher=publisher, content=entry_pb2.Content(**content)
    )


def test_acknowledged_messages_and_own_ones_are_not_told() -> None:
    read = [message(1), message(2), message(3, "ann"), message(4), message(5)]
    assert [one.seq for one in told(claimed(), read)] == [2, 4]


def test_words_are_made_of_what_is_told_and_of_the_plan_and_the_profile() -> None:
    plan, profile = Plan(category="talk", priority=Priority.HIGH), Profile(locale="de")
    messages = in_words([message(2, text="hi")])
    made = telling(claimed(plan=plan, profile=profile), messages, "https://m")
    assert (made.user, made.subject, made.count, made.expires_at) == ("ann", "/a", 3, 7.5)
    assert (made.category, made.priority, made.locale) == ("talk", "high", "de")
    assert made.mute_url == "https://m"
    assert list(made.messages) == [Told(2, "bob", 0.0, text="hi")]
    [data] = in_words([message(2, data=b"\xff", content_type="image/png")])
    assert (data.text, data.content_type) == (None, "image/png")


def test_every_priority_is_one_of_the_contract() -> None:
    for priority in Priority:
        sent = delivery_message(claimed(plan=Plan(priority=priority)), [], Words("t"))
        assert notifier_pb2.Delivery.Priority.Name(sent.priority) == priority.name


def test_deliveries_are_parted_where_a_request_would_be_too_large() -> None:
    one = notifier_pb2.Delivery(delivery_id="d", body="x" * 100)
    size = one.ByteSize()
    assert [len(batch) for batch in batches([one] * 5, 2 * size)] == [2, 2, 1]
    assert [len(batch) for batch in batches([one] * 2, 1)] == [1, 1]
    assert batches([], 1) == []


def test_not_begun_is_heard_of_a_retry_alone() -> None:
    R = notifier_pb2.Result
    for outcome in R.Outcome.values():
        result = R(delivery_id="d", outcome=outcome, not_begun=True)
        answers = of_response(notifier_pb2.NotifyResponse(results=[result]), ["d"])
        assert (answers["d"].outcome is Outcome.NOT_BEGUN) == (outcome == R.RETRY)


def test_a_failure_names_the_template_and_nothing_else() -> None:
    assert of_failure(Failure.TEMPLATE, "chat").outcome is Outcome.TEMPLATE_FAILED
    assert of_failure(Failure.TEMPLATE, "chat").detail == "the template chat"
    assert of_failure(Failure.MACHINE, "chat").outcome is Outcome.NOT_RENDERED
