"""Which workers run: what happens when they die, cannot start, are drained, or take too long."""

from services.edge.crew import Crew, CrewLimits, Effect, End, Kill, Start, Terminate

LIMITS = CrewLimits(stop_s=10.0)


def crew(count: int = 2) -> Crew:
    made = Crew(count, LIMITS)
    assert made.start(0.0) == [Start(number) for number in range(count)]
    return made


def test_a_worker_that_keeps_dying_is_started_ever_later_and_the_others_run_on() -> None:
    made, now, waits = crew(), 0.0, []
    for _ in range(9):
        assert made.ended(1, -9, now) == []
        at = made.next_deadline()
        assert at is not None
        assert made.tick(at - 0.01) == []
        assert made.tick(at) == [Start(1)]
        waits.append(at - now)
        now = at
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_deaths_are_forgotten_by_whoever_has_run_for_long() -> None:
    made = crew()
    made.ended(0, 1, 1.0)
    made.tick(1.5)
    made.ended(0, 1, 32.0)
    assert made.next_deadline() == 32.5


def test_a_setting_that_is_wrong_ends_all_with_code_2() -> None:
    made = crew(3)
    assert made.ended(1, 2, 0.3) == [Terminate(0), Terminate(2)]
    assert made.ended(0, 2, 0.4) == []
    assert made.ended(2, 0, 0.5) == [End(2)]


def test_code_2_of_a_worker_that_took_the_place_of_one_is_a_death() -> None:
    """Its port may be taken for a moment; the settings were good before."""
    made = crew()
    made.ended(0, 1, 40.0)
    assert made.tick(40.5) == [Start(0)]
    assert made.ended(0, 2, 41.0) == []
    assert made.next_deadline() == 42.0


def test_a_worker_that_was_drained_is_not_started_again_and_the_last_one_ends_all() -> None:
    made = crew()
    assert made.ended(0, 0, 5.0) == []
    assert made.next_deadline() is None
    assert made.ended(1, 0, 9.0) == [End(0)]


def test_the_last_one_does_not_end_all_while_another_is_to_be_started() -> None:
    made = crew()
    made.ended(0, 1, 5.0)
    assert made.ended(1, 0, 5.1) == []
    assert made.tick(5.5) == [Start(0)]


def test_a_stop_ends_all_at_once_and_starts_nobody_again() -> None:
    made = crew(3)
    made.ended(2, -9, 1.0)
    assert made.stop(1.2) == [Terminate(0), Terminate(1)]
    assert made.stop(1.3) == []
    assert made.tick(2.0) == []
    assert made.ended(0, 0, 3.0) == []
    assert made.ended(1, -9, 4.0) == [End(0)]


def test_a_stop_with_nobody_left_is_the_end() -> None:
    made = crew(1)
    made.ended(0, -11, 1.0)
    assert made.stop(1.1) == [End(0)]


def test_who_does_not_end_in_time_is_killed() -> None:
    made = crew()
    made.stop(1.0)
    made.ended(0, 0, 2.0)
    assert made.next_deadline() == 11.0
    expected: list[Effect] = [Kill(1)]
    assert made.tick(11.0) == expected
