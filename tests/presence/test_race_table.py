"""Late, repeated and reordered connects and disconnects give the right answer, by the cores alone.

cN and dN are the connect and disconnect of generation N of one client, in order of arrival. Real
logs hold only some of these orders; the answer must not depend on that.
"""

from __future__ import annotations

from itertools import combinations, permutations

import pytest

from services.presence import events, handover
from services.presence.state import Message, Notify, Standing
from tests.presence.entries import Ann, connected, disconnected
from tests.presence.rows import GRACES

OFFLINE_AT_THE_END = {
    "c1 d1": True,
    "c1 d1 c2": False,
    "c1 c2 d1": False,
    "c1 c2 d1 d2": True,
    "c1 c2 d2 d1": True,
    "c2 c1 d1": False,
    "c2 c1 d2": True,
    "c1 d2 c2 d1": True,
    "d1 c1": True,
    "d2 c1 d1 c2": True,
}

EVENTS = {
    "c1": connected("a", 1, {"/s": 0}),
    "d1": disconnected("a", 1),
    "c2": connected("a", 2, {"/s": 0}),
    "d2": disconnected("a", 2),
}
ALL_ORDERS = [
    order
    for size in range(1, len(EVENTS) + 1)
    for names in combinations(EVENTS, size)
    for order in permutations(names)
]


def fed(order: tuple[str, ...], graces_end_at_once: bool) -> Ann:
    ann = Ann()
    for name in order:
        ann.take(EVENTS[name])
        if graces_end_at_once:
            ann.end_graces()
    ann.end_graces()
    return ann


def is_offline(order: tuple[str, ...]) -> bool:
    """The rule behind the table: of the greatest generation, offline wins."""
    newest = max(name[1] for name in order)
    return f"d{newest}" in order


@pytest.mark.parametrize("graces_end_at_once", [False, True])
@pytest.mark.parametrize(("row", "offline"), OFFLINE_AT_THE_END.items())
def test_the_published_race_table(row: str, offline: bool, graces_end_at_once: bool) -> None:
    order = tuple(row.split())
    assert is_offline(order) is offline
    ann = fed(order, graces_end_at_once)
    assert (ann.standing("a") is Standing.OFFLINE) is offline
    assert (("/s", "a") in ann.state.waiting) is offline
    decided = handover.decide_live(ann.state, Message("/s", 1, 10))
    assert decided == ([Notify("/s", 1, 10)] if offline else [])


@pytest.mark.parametrize("graces_end_at_once", [False, True])
def test_every_permutation_of_every_choice_of_events(graces_end_at_once: bool) -> None:
    for order in ALL_ORDERS:
        ann = fed(order, graces_end_at_once)
        offline = ann.standing("a") is Standing.OFFLINE
        assert offline is is_offline(order), order


@pytest.mark.parametrize("graces_end_at_once", [False, True])
def test_a_repeat_at_any_later_place_changes_nothing(graces_end_at_once: bool) -> None:
    for order in ALL_ORDERS:
        ann = Ann()
        for count, name in enumerate(order, 1):
            ann.take(EVENTS[name])
            if graces_end_at_once:
                ann.end_graces()
            for seen in order[:count]:
                repeat = events.on_event(ann.state, EVENTS[seen], 100 + count, 50.0, 50.0, GRACES)
                assert repeat == [], (order[:count], seen)


def test_of_two_clients_one_that_is_left_answers() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 0}), connected("b", 1, {"/s": 0}), disconnected("a", 1))
    ann.end_graces()
    assert ann.standing("a") is Standing.OFFLINE
    assert handover.decide_live(ann.state, Message("/s", 1, 10)) == []
