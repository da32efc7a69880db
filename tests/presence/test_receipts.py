"""What is learnt of a delivery late, early, twice or out of order: a table for each kind."""

from dataclasses import replace

import pytest

from services.presence.notifications import (
    Delivery,
    DeliveryState,
    OptOut,
    PutDelivery,
    RemoveEndpoint,
)
from services.presence.receipts import (
    Event,
    Keep,
    Kind,
    PutEarlyWord,
    Receipt,
    after_answer,
    on_event,
)

S = DeliveryState
NOW = 1_000.0
MAIL = "mailto:ann@example.org"
ANY = Delivery("d1", "n1", "ann", "/a", MAIL, S.ACCEPTED, None, 2_000.0, attempts=1)
DUE = 1_010.0


def of(state: S, reason: str = "", due_at: float | None = None, **fields) -> Delivery:
    return replace(ANY, state=state, reason=reason, due_at=due_at, **fields)


def kept(kind: Kind, at: float = NOW) -> Keep:
    return Keep(Receipt("d1", kind, at))


# Before, and what it is then: a state, or a word while it is `sending`; None: as it was.
ARRIVALS = [
    (of(S.ACCEPTED), of(S.DELIVERED)),
    (of(S.UNKNOWN, "CALL_TIMED_OUT"), of(S.DELIVERED)),
    (of(S.UNKNOWN, "CALL_TIMED_OUT", DUE), of(S.DELIVERED)),
    # What was to be tried again has arrived: it must not arrive twice.
    (of(S.RETRY, "RETRY", DUE), of(S.DELIVERED)),
    (of(S.RETRY, "RETRY", DUE, held=True), of(S.DELIVERED)),
    (of(S.FAILED, "REPORTED_FAILED"), of(S.DELIVERED)),
    (of(S.FAILED, "DROPPED"), of(S.DELIVERED)),
    (of(S.DEAD, "TRIES_EXHAUSTED"), of(S.DELIVERED)),
    (of(S.EXPIRED, "EXPIRED"), of(S.DELIVERED)),
    (of(S.CANCELLED, "ACKNOWLEDGED"), of(S.DELIVERED)),
    (of(S.DELIVERED), None),
    (of(S.SENDING), of(S.SENDING, "ARRIVED")),
    (of(S.SENDING, "REPORTED_FAILED"), of(S.SENDING, "ARRIVED")),
    (of(S.SENDING, "ARRIVED"), None),
]


@pytest.mark.parametrize("kind", [Kind.DELIVERED, Kind.OPENED])
@pytest.mark.parametrize(("before", "then"), ARRIVALS)
def test_what_has_arrived_is_delivered_for_good(kind, before, then):
    put = PutEarlyWord if before.state is S.SENDING else PutDelivery
    changes = [] if then is None else [put(then)]
    assert on_event(before, Event("d1", kind), NOW) == [kept(kind), *changes]
    assert on_event(before, Event("d1", kind), NOW, known=True) == changes


FAILURES = [
    (of(S.ACCEPTED), of(S.FAILED, "REPORTED_FAILED")),
    (of(S.UNKNOWN, "UNKNOWN"), of(S.FAILED, "REPORTED_FAILED")),
    (of(S.UNKNOWN, "UNKNOWN", DUE), of(S.FAILED, "REPORTED_FAILED")),
    (of(S.SENDING), of(S.SENDING, "REPORTED_FAILED")),
]
NOTHING_LEARNT = [
    of(S.SENDING, "ARRIVED"),
    of(S.SENDING, "REPORTED_FAILED"),
    of(S.DELIVERED),
    of(S.RETRY, "RETRY", DUE),
    of(S.FAILED, "REJECTED_MESSAGE"),
    of(S.DEAD, "TRIES_EXHAUSTED"),
    of(S.EXPIRED, "EXPIRED"),
    of(S.CANCELLED, "ACKNOWLEDGED"),
]


@pytest.mark.parametrize(("before", "then"), FAILURES)
def test_what_may_have_been_sent_and_did_not_arrive_has_failed(before, then):
    put = PutEarlyWord if before.state is S.SENDING else PutDelivery
    assert on_event(before, Event("d1", Kind.FAILED), NOW) == [kept(Kind.FAILED), put(then)]


@pytest.mark.parametrize("before", NOTHING_LEARNT)
def test_a_failure_of_what_arrived_or_has_ended_or_is_tried_again_anyway_is_passed_over(before):
    # Not kept either: the failure of a later try is then no repeat of it.
    assert on_event(before, Event("d1", Kind.FAILED), NOW) == []


def test_a_failure_of_an_earlier_try_says_nothing_of_the_last_one():
    early = Event("d1", Kind.FAILED, provider_id="SM1")
    assert on_event(of(S.ACCEPTED), early, NOW, last_provider_id="SM2") == []
    for last in ("SM1", ""):
        assert len(on_event(of(S.ACCEPTED), early, NOW, last_provider_id=last)) == 2


@pytest.mark.parametrize(("before", "then"), FAILURES)
def test_an_endpoint_that_is_gone_fails_the_delivery_and_is_removed(before, then):
    put = PutEarlyWord if before.state is S.SENDING else PutDelivery
    event = Event("d1", Kind.ENDPOINT_GONE, at=900.0)
    assert on_event(before, event, NOW) == [
        kept(Kind.ENDPOINT_GONE, 900.0),
        put(replace(then, reason="ENDPOINT_GONE")),
        RemoveEndpoint("ann", MAIL, 900.0),
    ]


@pytest.mark.parametrize("before", NOTHING_LEARNT)
def test_an_endpoint_that_is_gone_is_removed_whatever_became_of_the_delivery(before):
    assert on_event(before, Event("d1", Kind.ENDPOINT_GONE), NOW) == [
        kept(Kind.ENDPOINT_GONE),
        RemoveEndpoint("ann", MAIL, NOW),
    ]


@pytest.mark.parametrize("state", [s for s in S if s is not S.PENDING])
def test_who_opts_out_is_heard_once_and_the_delivery_stays_what_it_is(state):
    event = Event("d1", Kind.OPTED_OUT)
    opted_out = [kept(Kind.OPTED_OUT), OptOut("ann", MAIL)]
    assert on_event(of(state), event, NOW) == opted_out
    assert on_event(of(state), event, NOW, known=True) == []


def test_a_repeat_does_not_remove_an_endpoint_that_was_registered_anew():
    assert on_event(of(S.FAILED), Event("d1", Kind.ENDPOINT_GONE), NOW, known=True) == []


@pytest.mark.parametrize("kind", Kind)
def test_nothing_is_believed_of_what_no_plugin_was_given(kind):
    for state in (S.PENDING, S.DEAD, S.EXPIRED, S.CANCELLED):
        assert on_event(of(state, attempts=0), Event("d1", kind), NOW) == []


def test_what_happened_in_the_future_happened_now():
    [receipt, _] = on_event(of(S.ACCEPTED), Event("d1", Kind.DELIVERED, at=NOW + 60), NOW)
    assert receipt == kept(Kind.DELIVERED, NOW)


# The early word, what the answer alone makes of it, and what it is in the light of both.
ANSWERS = [
    ("ARRIVED", of(S.ACCEPTED), of(S.DELIVERED)),
    ("ARRIVED", of(S.DELIVERED), of(S.DELIVERED)),
    ("ARRIVED", of(S.RETRY, "RETRY", DUE), of(S.DELIVERED)),
    ("ARRIVED", of(S.UNKNOWN, "CALL_BROKEN", DUE), of(S.DELIVERED)),
    ("ARRIVED", of(S.UNKNOWN, "INTERRUPTED"), of(S.DELIVERED)),
    ("ARRIVED", of(S.DEAD, "TRIES_EXHAUSTED"), of(S.DELIVERED)),
    ("REPORTED_FAILED", of(S.ACCEPTED), of(S.FAILED, "REPORTED_FAILED")),
    ("REPORTED_FAILED", of(S.UNKNOWN, "UNKNOWN", DUE), of(S.FAILED, "REPORTED_FAILED")),
    ("REPORTED_FAILED", of(S.DELIVERED), of(S.DELIVERED)),
    # The plugin knows of its own try that nothing was sent.
    ("REPORTED_FAILED", of(S.RETRY, "RETRY", DUE), of(S.RETRY, "RETRY", DUE)),
    ("REPORTED_FAILED", of(S.DEAD, "TRIES_EXHAUSTED"), of(S.DEAD, "TRIES_EXHAUSTED")),
    ("ENDPOINT_GONE", of(S.ACCEPTED), of(S.FAILED, "ENDPOINT_GONE")),
    ("", of(S.ACCEPTED), of(S.ACCEPTED)),
    ("", of(S.RETRY, "RETRY", DUE), of(S.RETRY, "RETRY", DUE)),
]


@pytest.mark.parametrize(("word", "answered", "then"), ANSWERS)
def test_an_answer_is_read_in_the_light_of_what_came_before_it(word, answered, then):
    gone = RemoveEndpoint("ann", MAIL, NOW)
    assert after_answer([PutDelivery(answered), gone], word) == [PutDelivery(then), gone]
