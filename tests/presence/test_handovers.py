"""How the rest of a long backlog is cut into stretches."""

from services.presence.handovers import stretches
from services.presence.notifications import Span
from services.presence.state import Follow, UserState


def state(*follows: Follow) -> UserState:
    return UserState("ann", follows={follow.key: follow for follow in follows})


def test_without_a_rest_there_is_nothing():
    assert stretches(state(), None) == []


def test_with_one_client_the_rest_is_one_stretch():
    mine = Follow("/a", "c", 1, base=0, acked=5)
    assert stretches(state(mine), Span(101, 500, 900)) == [Span(101, 500, 900)]


def test_it_is_cut_where_another_client_began_and_where_its_acknowledgements_end():
    mine = Follow("/a", "c", 1, base=0, acked=5)
    other = Follow("/a", "d", 2, base=200, acked=300)
    assert stretches(state(mine, other), Span(101, 500, 900)) == [
        Span(101, 200, 900),
        Span(201, 300, 900),
        Span(301, 500, 900),
    ]


def test_cuts_at_its_ends_make_no_empty_stretch():
    other = Follow("/a", "d", 2, base=100, acked=500)
    assert stretches(state(other), Span(101, 500, 900)) == [Span(101, 500, 900)]
