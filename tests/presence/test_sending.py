"""The check at send: what is sent, held and cancelled, and for how long."""

from __future__ import annotations

from services.presence.sending import HOLD_S, may_send
from services.presence.state import Cancel, Held, Hold, Message, PutHold, Reason, Send
from tests.presence.entries import Ann, connected, disconnected

SEVEN, EIGHT = Message("/s", 7, 70), Message("/s", 8, 80)


def returned(start: int = 6) -> Ann:
    """Client a, which follows /s after 5, was offline and is back."""
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5}), disconnected("a", 1, {"/s": 6}))
    ann.end_graces()
    ann.take(connected("a", 2, {"/s": start}, round=4))
    return ann


def test_nobody_answers_and_it_is_sent() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5}), disconnected("a", 1, {"/s": 6}))
    ann.end_graces()
    assert may_send(ann.state, [SEVEN, EIGHT], {}, 0.0) == Send((SEVEN, EIGHT))


def test_acknowledged_messages_are_taken_out_before_the_rest_is_sent() -> None:
    ann = returned()
    ann.take(disconnected("a", 2, {"/s": 7}))
    ann.end_graces()
    assert may_send(ann.state, [SEVEN, EIGHT], {}, 0.0) == Send((EIGHT,), acknowledged=(SEVEN,))


def test_all_acknowledged_is_cancelled() -> None:
    ann = returned(start=8)
    assert may_send(ann.state, [SEVEN, EIGHT], {}, 0.0) == Cancel(Reason.ACKNOWLEDGED)


def test_a_mark_of_a_later_round_acknowledges_and_one_of_the_same_round_does_not() -> None:
    ann = returned()
    ann.mark("/s", round=4, pos=80)
    assert isinstance(may_send(ann.state, [SEVEN, EIGHT], {}, 0.0), Held)
    ann.mark("/s", round=5, pos=79)
    assert isinstance(may_send(ann.state, [SEVEN, EIGHT], {}, 0.0), Held)
    ann.mark("/s", round=5, pos=80)
    assert may_send(ann.state, [SEVEN, EIGHT], {}, 0.0) == Cancel(Reason.ACKNOWLEDGED)


def test_a_client_that_answers_holds_it_back_for_a_time() -> None:
    ann = returned()
    hold = Hold("/s", 7, "a", since=100.0, acked=6, acked_pos=0)
    assert may_send(ann.state, [SEVEN], {}, 100.0) == Held(100.0 + HOLD_S, (PutHold(hold),))
    assert may_send(ann.state, [SEVEN], {"a": hold}, 150.0) == Held(100.0 + HOLD_S, ())
    assert may_send(ann.state, [SEVEN], {"a": hold}, 100.0 + HOLD_S) == Send((SEVEN,))


def test_coming_and_going_without_acknowledging_does_not_prolong_a_hold() -> None:
    ann = returned()
    hold = Hold("/s", 7, "a", since=100.0, acked=6, acked_pos=0)
    ann.take(disconnected("a", 2), connected("a", 3, {"/s": 6}))
    assert may_send(ann.state, [SEVEN], {"a": hold}, 100.0 + HOLD_S) == Send((SEVEN,))


def test_a_hold_is_counted_anew_when_acked_moves() -> None:
    ann = returned()
    hold = Hold("/s", 7, "a", since=100.0, acked=6, acked_pos=0)
    ann.mark("/s", round=5, pos=70)
    fresh = Hold("/s", 7, "a", since=220.0, acked=6, acked_pos=70)
    verdict = may_send(ann.state, [SEVEN, EIGHT], {"a": hold}, 220.0)
    assert verdict == Held(220.0 + HOLD_S, (PutHold(fresh),))


def test_every_client_that_answers_has_a_hold_of_its_own() -> None:
    ann = returned()
    ann.take(connected("b", 1, {"/s": 7}))
    old = Hold("/s", 7, "a", since=0.0, acked=6, acked_pos=0)
    verdict = may_send(ann.state, [SEVEN, EIGHT], {"a": old}, HOLD_S)
    fresh = Hold("/s", 7, "b", since=HOLD_S, acked=7, acked_pos=0)
    assert verdict == Held(2 * HOLD_S, (PutHold(fresh),))
    assert may_send(ann.state, [SEVEN], {"a": old}, HOLD_S) == Send((SEVEN,))
