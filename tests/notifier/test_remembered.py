"""What is remembered of deliveries, and for how long."""

from services.notifier import results
from services.notifier.remembered import Remembered


def test_what_was_sent_is_remembered_and_a_failure_is_not() -> None:
    kept = Remembered(9)
    kept.keep("a", results.accepted("p"), untold=False)
    kept.keep("b", results.retry(), untold=False)
    assert kept.get("a") == results.accepted("p")
    assert kept.get("b") is None
    assert len(kept) == 1


def test_a_failure_that_nobody_heard_of_is_told_once() -> None:
    kept = Remembered(9)
    kept.keep("a", results.rejected_message("no"), untold=True)
    assert kept.get("a") == results.rejected_message("no")
    kept.told("a")
    assert kept.get("a") is None


def test_a_success_that_nobody_heard_of_outlasts_all_that_are_sent_meanwhile() -> None:
    kept = Remembered(2)
    kept.keep("late", results.accepted(), untold=True)
    for number in range(9):
        kept.keep(f"other-{number}", results.accepted(), untold=False)
    assert kept.get("late") == results.accepted()
    assert kept.get("other-0") is None
    kept.told("late")
    assert kept.get("late") == results.accepted(), "as any other that was sent"


def test_of_each_kind_the_oldest_are_forgotten_first() -> None:
    kept = Remembered(2)
    for own_id in "abc":
        kept.keep(own_id, results.accepted(), untold=False)
        kept.keep(f"{own_id}-untold", results.retry(), untold=True)
    assert [kept.get(one) is None for one in ("a", "b", "c")] == [True, False, False]
    assert [kept.get(f"{one}-untold") is None for one in "abc"] == [True, False, False]
    assert len(kept) == 4
