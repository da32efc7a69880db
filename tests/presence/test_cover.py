"""Who has acknowledged a message, and who answers for it."""

from __future__ import annotations

from services.presence import cover, events
from services.presence.state import Message
from tests.presence.entries import EDGE, Ann, connected, disconnected
from tests.presence.rows import GRACES

SEVEN = Message("/s", 7, 70)


def clients(ann: Ann) -> list[str]:
    return [follow.client_id for follow in cover.answering(ann.state, SEVEN)]


def test_a_client_answers_online_and_in_its_grace_and_not_offline() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 6}), connected("b", 1, {"/s": 7, "/t": 0}))
    assert clients(ann) == ["a"]
    ann.take(disconnected("a", 1))
    assert clients(ann) == ["a"]
    ann.end_graces()
    assert clients(ann) == []


def test_a_mark_speaks_for_a_dead_edge_until_the_end_of_the_session_is_processed() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 6}, round=3))
    ann.mark("/s", round=4, pos=70)
    ann.apply(events.on_edge_dead(ann.state, EDGE, 0.0, GRACES))
    ann.end_graces()
    assert cover.is_acknowledged(ann.state, SEVEN)
    ann.take(disconnected("a", 1, {"/s": 6}))
    assert not cover.is_acknowledged(ann.state, SEVEN)


def test_a_mark_says_nothing_of_messages_at_or_below_the_base() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 7}, round=3))
    ann.mark("/s", round=4, pos=70)
    assert not cover.is_acknowledged(ann.state, SEVEN)


def test_a_mark_says_nothing_of_a_follow_that_the_session_did_not_subscribe_with() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 6}, round=3), connected("a", 2, {}, round=3))
    ann.mark("/s", round=4, pos=70)
    assert not cover.is_acknowledged(ann.state, SEVEN)


def test_a_range_is_cut_where_acknowledgements_end() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 0}), disconnected("a", 1, {"/s": 5}))
    ann.take(connected("b", 1, {"/s": 4}), disconnected("b", 1, {"/s": 8}))
    ann.take(connected("c", 1, {"/t": 0}), disconnected("c", 1, {"/t": 99}))
    cut = [cover.first_unacknowledged(ann.state, "/s", 1, to) for to in (3, 8, 20)]
    assert cut == [4, 9, 9]
    assert cover.first_unacknowledged(ann.state, "/s", 12, 20) == 12
