import pytest

from services.edge.holding import NOTHING_OWED
from services.edge.marks import EventId, Marks

END = EventId("s1", 2)


def take(marks: Marks, high: int, owed: int | None = NOTHING_OWED) -> list[tuple[int, int]]:
    return marks.take(lambda _: high, lambda _: owed)


def test_what_did_not_move_is_not_marked() -> None:
    assert take(Marks(), 10) == []


def test_what_moved_is_marked_once() -> None:
    marks = Marks()
    marks.moved(3, 10)
    assert take(marks, 10) == [(3, 10)]
    assert take(marks, 10) == []
    marks.moved(3, 12)
    assert take(marks, 12) == [(3, 12)]


@pytest.mark.parametrize(
    ("owed", "expected"), [(NOTHING_OWED, [(3, 10)]), (7, [(3, 7)]), (0, []), (None, [])]
)
def test_a_mark_stops_at_what_is_owed(owed: int | None, expected: list[tuple[int, int]]) -> None:
    marks = Marks()
    marks.moved(3, 10)
    assert take(marks, 10, owed) == expected


def test_what_was_held_back_is_marked_when_it_is_acknowledged() -> None:
    marks = Marks()
    marks.moved(3, 10)
    assert take(marks, 10, 7) == [(3, 7)]
    assert take(marks, 10, 7) == []
    assert take(marks, 10) == [(3, 10)]


def test_a_partition_passed_over_is_marked_later() -> None:
    marks = Marks()
    marks.moved(3, 10)
    assert take(marks, 10, None) == []
    assert take(marks, 10) == [(3, 10)]


def test_a_subscription_with_something_to_recover_needs_a_mark_of_a_later_round() -> None:
    marks = Marks()
    marks.moved(3, 10)
    assert take(marks, 10) == [(3, 10)]
    marks.want(3, 10)
    assert take(marks, 10) == [(3, 10)]
    assert take(marks, 10) == []


def test_marks_never_fall() -> None:
    marks = Marks()
    marks.moved(3, 10)
    assert take(marks, 10) == [(3, 10)]
    marks.want(3, 10)
    assert take(marks, 10, 4) == []
    assert take(marks, 10, 9) == []
    assert take(marks, 10) == [(3, 10)]


def test_a_mark_that_may_be_lost_is_repeated() -> None:
    marks = Marks()
    marks.repeat(3)
    assert take(marks, 10) == []
    marks.moved(3, 10)
    assert take(marks, 10) == [(3, 10)]
    marks.repeat(3)
    assert take(marks, 10) == [(3, 10)]


def test_an_ended_subscription_owes_until_its_end_is_processed() -> None:
    marks = Marks()
    marks.moved(3, 10)
    marks.ended(END, 5, {3: 6})
    assert take(marks, 10) == [(3, 6)]
    marks.moved(3, 14)
    marks.processed(5, 99)  # not durable yet: this cannot be about it
    assert take(marks, 14) == []
    assert marks.recorded(END, 40)
    marks.processed(5, 39)
    marks.processed(4, 99)
    assert take(marks, 14) == [] and len(marks) == 1
    marks.processed(5, 40)
    assert take(marks, 14) == [(3, 14)] and len(marks) == 0


def test_the_least_of_all_that_is_owed_counts() -> None:
    marks = Marks()
    marks.moved(3, 10)
    marks.ended(END, 5, {3: 8, 4: 1})
    marks.ended(EventId("s2", 2), 5, {3: 5})
    assert take(marks, 10, 7) == [(3, 5)]


def test_an_event_refused_for_good_owes_nothing() -> None:
    marks = Marks()
    marks.moved(3, 10)
    marks.ended(END, 5, {3: 6})
    marks.dropped(END)
    assert take(marks, 10) == [(3, 10)]


def test_very_many_ends_owe_together_until_the_last_of_them_is_processed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.edge.marks.ENDED_MAX", 2)
    marks = Marks()
    for number in range(1, 9):
        marks.moved(3, 100)
        marks.ended(EventId("s", number), 5, {3: 90 - number, 4: 7})
        assert marks.recorded(EventId("s", number), 40 + number)
        assert len(marks) <= 3
    assert take(marks, 100) == [(3, 82)]
    marks.processed(5, 47)
    marks.moved(3, 101)
    assert take(marks, 101) == []
    marks.processed(5, 48)
    assert len(marks) == 0
    assert take(marks, 101) == [(3, 101)]


def test_an_end_without_subscriptions_is_not_awaited() -> None:
    marks = Marks()
    marks.ended(END, 5, {})
    assert not marks.recorded(END, 40)
