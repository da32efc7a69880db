"""When clients of an edge that stops leave: spread evenly, at a bounded rate, in bounded time."""

import pytest

from services.edge.departures import Departures, departures


def test_few_clients_leave_as_fast_as_the_rate_allows() -> None:
    plan = departures(100, 10.0, 200)
    assert plan == Departures(100, window_s=0.5, overstay_s=0.5, end_s=2.0)
    assert [plan.leaves_s(number) for number in (0, 1, 99)] == [0.0, 0.005, 0.495]
    assert plan.is_sent_away_s(1) == 0.505


def test_many_clients_have_all_left_in_the_time_that_there_is() -> None:
    plan = departures(15_000, 10.0, 200)
    assert (plan.window_s, plan.end_s) == (8.5, 10.0)
    assert plan.leaves_s(14_999) < 8.5


def test_nobody_is_waited_for_where_nobody_is() -> None:
    assert departures(0, 10.0, 200).window_s == 0.0


@pytest.mark.parametrize("in_all_s", [0.0, 0.3, 1.2, 2.0])
def test_a_short_time_is_never_exceeded_and_half_of_it_spreads(in_all_s: float) -> None:
    plan = departures(10_000, in_all_s, 200)
    assert plan.end_s == pytest.approx(in_all_s)
    assert plan.window_s == pytest.approx(in_all_s / 2)
