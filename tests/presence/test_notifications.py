"""The life of notifications and deliveries, as lists of effects."""

from dataclasses import replace

import pytest

from services.presence.notifications import (
    TURN_LONGEST_S,
    Answer,
    Delivery,
    DeliveryState,
    Limits,
    OptOut,
    Outcome,
    PutDelivery,
    RemoveEndpoint,
    claim,
    delivery_id,
    interrupted,
    is_suspect,
    notification_id,
    retry_delay_s,
    settle,
)

LIMITS = Limits(collapse_s=30, expiry_s=1_000, retry_first_s=2, retry_longest_s=600, tries_max=3)
MAIL = "mailto:ann@example.org"


def delivery(**changes) -> Delivery:
    own_id = notification_id("log", "ann", "/a", 7)
    pending = Delivery(
        delivery_id(own_id, MAIL), own_id, "ann", "/a", MAIL, DeliveryState.PENDING, 100.0, 1_100.0
    )
    return replace(pending, **changes)


def sending(repeats_unknown=True, **changes) -> Delivery:
    return claim(delivery(**changes), repeats_unknown)


def settled(outcome: Outcome, of: Delivery, chance=0.5, age_s=LIMITS.dead_letter_after_s, **answer):
    return settle(of, Answer(outcome, **answer), 200.0, chance, LIMITS, age_s=age_s)


def test_ids_are_those_of_the_first_message_and_the_endpoint_alone():
    own_id = notification_id("log", "ann", "/a", 7)
    assert own_id == notification_id("log", "ann", "/a", 7)
    assert delivery_id(own_id, MAIL) == delivery_id(own_id, MAIL) != delivery_id(own_id, "tel:+1")
    assert len(own_id) == len(delivery_id(own_id, MAIL)) == 32


def test_ids_differ_where_parts_could_run_together():
    assert notification_id("log", "ann", "/a", 7) != notification_id("loga", "nn", "/a", 7)
    assert notification_id("log", "ann", "/a1", 7) != notification_id("log", "ann", "/a", 17)


def test_a_claim_counts_the_attempt_and_is_not_due_again():
    assert claim(delivery(held=True), True) == delivery(
        state=DeliveryState.SENDING, due_at=None, attempts=1, repeats_unknown=True
    )


@pytest.mark.parametrize(
    ("outcome", "state", "reason"),
    [
        (Outcome.ACCEPTED, DeliveryState.ACCEPTED, ""),
        (Outcome.DELIVERED, DeliveryState.DELIVERED, ""),
        (Outcome.REJECTED_MESSAGE, DeliveryState.FAILED, "REJECTED_MESSAGE"),
        (Outcome.EXPIRED, DeliveryState.EXPIRED, "EXPIRED"),
    ],
)
def test_outcomes_that_end_a_delivery(outcome, state, reason):
    one = sending()
    assert settled(outcome, one) == [PutDelivery(replace(one, state=state, reason=reason))]


def test_a_retry_waits_for_the_jittered_time():
    one = sending()
    assert settled(Outcome.RETRY, one, chance=0.25) == [
        PutDelivery(replace(one, state=DeliveryState.RETRY, due_at=200.5, tries=1, reason="RETRY"))
    ]


@pytest.mark.parametrize("outcome", [Outcome.RETRY, Outcome.UNKNOWN])
def test_retry_after_is_a_floor(outcome):
    [put] = settled(outcome, sending(), retry_after_s=60.0)
    assert put.delivery.due_at == 260.0


def test_the_last_try_leaves_a_dead_letter():
    one = sending(tries=2)
    assert settled(Outcome.RETRY, one) == [
        PutDelivery(replace(one, state=DeliveryState.DEAD, tries=3, reason="TRIES_EXHAUSTED"))
    ]


def test_what_is_known_not_to_be_sent_is_tried_on_until_it_is_old_enough_for_a_dead_letter():
    one, young = sending(tries=2), LIMITS.dead_letter_after_s - 1
    [put] = settled(Outcome.RETRY, one, chance=1.0, age_s=young)
    assert put.delivery == replace(
        one, state=DeliveryState.RETRY, due_at=208.0, tries=3, reason="RETRY"
    )
    [put] = settled(Outcome.RETRY, sending(tries=90), chance=1.0, age_s=young)
    assert (put.delivery.state, put.delivery.due_at) == (DeliveryState.RETRY, 800.0), "the longest"
    [put] = settled(Outcome.RETRY, sending(tries=90))
    assert put.delivery.state is DeliveryState.DEAD
    [put] = settled(Outcome.RETRY, one, age_s=young, retry_after_s=5_000.0)
    assert put.delivery.state is DeliveryState.EXPIRED


def test_what_may_have_been_sent_is_tried_no_longer_than_its_tries():
    [put] = settled(Outcome.UNKNOWN, sending(tries=2), age_s=0.0)
    assert (put.delivery.state, put.delivery.reason) == (DeliveryState.DEAD, "TRIES_EXHAUSTED")


def test_what_may_be_under_way_still_is_asked_about_on_until_it_is_old_enough():
    """A plugin that names a time to ask again has not given up; a dead letter would be a lie."""
    ask_again = {"retry_after_s": 5.0}
    [put] = settled(Outcome.UNKNOWN, sending(tries=2), age_s=1.0, **ask_again)
    assert (put.delivery.state, put.delivery.tries) == (DeliveryState.UNKNOWN, 3)
    [put] = settled(Outcome.UNKNOWN, sending(tries=2), **ask_again)
    assert put.delivery.state is DeliveryState.DEAD


def test_a_retry_that_would_come_after_the_expiry_expires_now():
    [put] = settled(Outcome.RETRY, sending(), retry_after_s=5_000.0)
    assert put.delivery.state is DeliveryState.EXPIRED


def test_jitter_is_full_doubles_and_is_bounded():
    assert [retry_delay_s(n, 1.0, LIMITS) for n in (1, 2, 3, 30)] == [2.0, 4.0, 8.0, 600.0]
    assert retry_delay_s(5, 0.0, LIMITS) == 0.0


@pytest.mark.parametrize("outcome", [Outcome.MISCONFIGURED, Outcome.CALL_REFUSED])
def test_a_fault_of_the_plugin_deletes_nothing_and_uses_up_no_try(outcome):
    one = sending(tries=2, repeats_unknown=False)
    assert settled(outcome, one) == [
        PutDelivery(replace(one, state=DeliveryState.RETRY, due_at=200.0, reason=outcome.value))
    ]


def test_what_a_plugin_has_not_begun_waits_for_its_turn_and_uses_up_no_try():
    one = sending(tries=2, attempts=2, repeats_unknown=False)
    assert settled(Outcome.NOT_BEGUN, one) == [
        PutDelivery(replace(one, state=DeliveryState.RETRY, due_at=201.5, reason="NOT_BEGUN"))
    ]
    [put] = settled(Outcome.NOT_BEGUN, one, retry_after_s=60.0)
    assert put.delivery.due_at == 260.0


def test_what_is_never_begun_waits_longer_each_time_and_never_dies_of_it():
    def due(in_vain: int, chance: float) -> float:
        [put] = settled(Outcome.NOT_BEGUN, sending(attempts=in_vain - 1), chance)
        return put.delivery.due_at - 200.0

    assert [due(n, 0.0) for n in (1, 2, 3)] == [1.0, 2.0, 4.0], "never at once"
    assert (due(1_000, 0.0), due(1_000, 1.0)) == (TURN_LONGEST_S / 2, TURN_LONGEST_S)


def test_a_broken_call_is_repeated_where_the_channel_repeats_and_uses_up_a_try():
    one = sending(tries=1)
    [put] = settled(Outcome.CALL_BROKEN, one, chance=0.5)
    # Shown as what it is: it may have been sent already.
    assert (put.delivery.state, put.delivery.due_at, put.delivery.tries) == (
        DeliveryState.UNKNOWN,
        202.0,
        2,
    )
    assert is_suspect(put.delivery)
    [put] = settled(Outcome.CALL_BROKEN, sending(tries=2))
    assert put.delivery.state is DeliveryState.DEAD


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.CALL_BROKEN, Outcome.CALL_TIMED_OUT])
def test_an_unknown_outcome_is_never_repeated_where_the_channel_does_not(outcome):
    one = claim(delivery(), repeats_unknown=False)
    assert settled(outcome, one) == [
        PutDelivery(replace(one, state=DeliveryState.UNKNOWN, reason=outcome.value))
    ]


def test_a_plugin_that_hangs_is_given_a_delivery_so_many_times_and_no_more():
    one = sending(tries=LIMITS.tries_max - 2)
    [put] = settled(Outcome.CALL_TIMED_OUT, one)
    assert (put.delivery.state, put.delivery.tries) == (DeliveryState.UNKNOWN, one.tries + 1)
    [put] = settled(Outcome.CALL_TIMED_OUT, replace(put.delivery, state=DeliveryState.SENDING))
    assert (put.delivery.state, put.delivery.reason) == (DeliveryState.DEAD, "TRIES_EXHAUSTED")


def test_an_unknown_outcome_is_repeated_with_the_same_id_where_the_channel_does():
    one = sending()
    assert settled(Outcome.UNKNOWN, one) == [
        PutDelivery(
            replace(one, state=DeliveryState.UNKNOWN, due_at=201.0, tries=1, reason="UNKNOWN")
        )
    ]


def test_a_gone_endpoint_fails_the_delivery_and_is_removed_if_registered_before():
    one = sending()
    failed = PutDelivery(replace(one, state=DeliveryState.FAILED, reason="ENDPOINT_GONE"))
    assert settled(Outcome.ENDPOINT_GONE, one) == [failed, RemoveEndpoint("ann", MAIL, 200.0)]
    assert settled(Outcome.ENDPOINT_GONE, one, gone_since=150.0) == [
        failed,
        RemoveEndpoint("ann", MAIL, 150.0),
    ]


def test_an_opt_out_is_kept_for_the_endpoint():
    one = sending()
    assert settled(Outcome.OPTED_OUT, one) == [
        PutDelivery(replace(one, state=DeliveryState.FAILED, reason="OPTED_OUT")),
        OptOut("ann", MAIL),
    ]


def test_a_claim_whose_process_is_gone_is_unknown_and_repeated_by_channel():
    assert interrupted(sending(), 300.0).due_at == 300.0
    assert interrupted(claim(delivery(), False), 300.0).due_at is None
    assert interrupted(sending(), 300.0).state is DeliveryState.UNKNOWN
