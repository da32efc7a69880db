"""Whether a person looks at a client: said by its newest session, and only while it is online."""

from itertools import permutations

import pytest

from services.presence.events import on_idle
from services.presence.handover import is_due
from services.presence.state import Message, Standing, Wake
from tests.presence.entries import Ann, activity, connected, disconnected, followed


def looks(ann: Ann, client: str = "a") -> tuple[Standing, bool, float]:
    register = ann.state.registers[client]
    return register.standing, register.active, register.since


def test_a_session_begins_in_the_foreground_and_says_when_it_leaves_it() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {}), now=10.0)
    assert looks(ann) == (Standing.ONLINE, True, 10.0)
    ann.take(activity("a", 1, False, number=2), now=20.0)
    assert looks(ann) == (Standing.ONLINE, False, 20.0)
    ann.take(activity("a", 1, False, number=3), now=30.0)
    assert looks(ann) == (Standing.ONLINE, False, 20.0)
    ann.take(activity("a", 1, True, number=4), now=40.0)
    assert looks(ann) == (Standing.ONLINE, True, 40.0)


def test_a_client_that_is_gone_is_looked_at_by_nobody() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {}), now=10.0)
    ann.take(disconnected("a", 1), now=20.0)
    assert looks(ann) == (Standing.GRACE, False, 20.0)
    ann.take(activity("a", 1, True, number=100), now=25.0)
    assert looks(ann) == (Standing.GRACE, False, 20.0)
    ann.end_graces(now=50.0)
    assert looks(ann) == (Standing.OFFLINE, False, 50.0)


def test_an_older_session_and_a_repeat_change_nothing() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {}), connected("a", 2, {}))
    assert ann.take(activity("a", 1, False, number=2)) == []
    assert ann.take(activity("a", 2, False, number=2)) != []
    assert ann.take(activity("a", 2, True, number=2)) == []
    assert looks(ann)[:2] == (Standing.ONLINE, False)


def test_a_return_while_online_goes_on_as_it_was() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {}), now=10.0)
    ann.take(connected("a", 2, {}), now=20.0)
    assert looks(ann) == (Standing.ONLINE, True, 10.0)


def test_every_order_of_two_sessions_events_ends_as_the_newest_session_said() -> None:
    events = [
        connected("a", 1, {}),
        activity("a", 1, False, number=2),
        connected("a", 2, {}),
        activity("a", 2, False, number=2),
        activity("a", 2, True, number=3),
    ]
    for order in permutations(events):
        ann = Ann()
        ann.take(*order)
        numbers = [e.number for e in order if e.generation == 2 and e.HasField("activity_changed")]
        # A log never puts 3 before 2; if something did, what was numbered last still stands.
        assert ann.state.registers["a"].active, numbers


# -- away ------------------------------------------------------------------------------------------


def idle_ann() -> Ann:
    """Ann's client follows /a, has acknowledged message 1 by a mark, and is looked at by nobody
    since 20."""
    ann = Ann()
    ann.take(connected("a", 1, {"/a": 0}), now=10.0)
    ann.take(activity("a", 1, False, number=2), now=20.0)
    ann.mark("/a", round=2, pos=1)
    return ann


def leave(ann: Ann, now: float, after_s: float = 300.0) -> list:
    effects = on_idle(ann.state, "a", now, after_s)
    ann.apply(effects)
    return effects


def test_a_client_is_away_only_after_its_time():
    ann = idle_ann()
    assert leave(ann, 319.0) == []
    assert leave(ann, 320.0) != []
    assert ann.state.registers["a"].away
    assert leave(ann, 400.0) == [], "it is away already"


def test_messages_are_decided_as_if_an_away_client_were_offline():
    ann = idle_ann()
    leave(ann, 320.0)
    assert ann.state.waiting == {("/a", "a")}
    assert not is_due(ann.state, Message("/a", 1, 1)), "it had that before"
    assert is_due(ann.state, Message("/a", 2, 2))


def test_what_an_away_client_acknowledges_silences_nobody_until_somebody_looks():
    ann = idle_ann()
    leave(ann, 320.0)
    ann.mark("/a", round=3, pos=2)
    two = Message("/a", 2, 2)
    assert is_due(ann.state, two)
    effects = ann.take(activity("a", 1, True, number=3), now=330.0)
    assert Wake("/a") in effects
    assert ann.state.waiting == frozenset()
    assert not is_due(ann.state, two)


def test_an_away_client_that_goes_has_no_grace():
    ann = idle_ann()
    leave(ann, 320.0)
    ann.take(disconnected("a", 1), now=330.0)
    assert looks(ann) == (Standing.OFFLINE, False, 330.0)
    assert not ann.state.registers["a"].away


def test_a_new_session_of_an_away_client_answers():
    ann = idle_ann()
    leave(ann, 320.0)
    ann.take(connected("a", 2, {"/a": 0}), now=330.0)
    assert ann.state.waiting == frozenset()
    assert not is_due(ann.state, Message("/a", 3, 3))


def test_what_an_away_client_follows_waits_at_once():
    ann = idle_ann()
    leave(ann, 320.0)
    ann.take(followed("a", 1, {"/b": 0}, number=3), now=330.0)
    assert ("/b", "a") in ann.state.waiting


@pytest.mark.parametrize("gone", ["active", "offline", "unknown"])
def test_nobody_else_is_away(gone):
    ann = Ann()
    if gone != "unknown":
        ann.take(connected("a", 1, {"/a": 0}), now=10.0)
    if gone == "offline":
        ann.take(disconnected("a", 1), now=20.0)
    assert leave(ann, 1e6) == []
