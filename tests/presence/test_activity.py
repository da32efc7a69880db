"""Whether a person looks at a client: said by its newest session, and only while it is online."""

from itertools import permutations

from services.presence.state import Standing
from tests.presence.entries import Ann, activity, connected, disconnected


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
