import pytest
from onward_sdk.edges import BACKOFF_MAX_S, Edge, Edges, backoff_s


def test_no_edge_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Edges([])


def test_the_first_choice_is_by_chance_and_weight() -> None:
    edges = Edges([Edge("a", weight=1), Edge("b", weight=3)])
    assert [edges.choose(chance) for chance in (0.0, 0.24, 0.26, 0.99)] == ["a", "a", "b", "b"]


def test_a_failed_edge_is_set_aside_until_all_have_failed() -> None:
    edges = Edges(["a", "b", "c"])
    edges.failed("a")
    assert {edges.choose(chance / 10) for chance in range(10)} == {"b", "c"}
    edges.failed("b")
    assert {edges.choose(chance / 10) for chance in range(10)} == {"c"}
    edges.failed("c")
    assert edges.exhausted
    assert {edges.choose(chance / 10) for chance in range(10)} == {"a", "b"}


def test_when_one_after_the_other_has_been_restarted_the_first_is_tried_again() -> None:
    """Each is left as it stops; the last to stop is not there now."""
    edges = Edges(["a", "b"])
    for stopping, left in (("a", {"b"}), ("b", {"a"}), ("a", {"b"})):
        edges.failed(stopping)
        assert {edges.choose(chance / 10) for chance in range(10)} == left


def test_the_only_edge_is_tried_again_whatever_has_happened() -> None:
    edges = Edges(["a"])
    edges.failed("a")
    assert edges.exhausted
    assert edges.choose(0.5) == "a"


def test_an_edge_that_worked_is_no_longer_set_aside() -> None:
    edges = Edges(["a", "b"])
    edges.failed("a")
    edges.worked("a")
    assert {edges.choose(chance / 10) for chance in range(10)} == {"a", "b"}


def test_backoff_doubles_from_200_ms_to_20_s_with_full_jitter() -> None:
    assert [backoff_s(n, 0.5) for n in (1, 2, 3)] == [0.1, 0.2, 0.4]
    assert backoff_s(1, 0.0) == 0.0
    assert backoff_s(10_000, 1.0) == BACKOFF_MAX_S
