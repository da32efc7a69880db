"""Whom to report what next: replicas that are slow, dead, new, or not (yet) the owner."""

from services.chassis.claimants import Owner
from services.coordinator.turns import NOT_HELD_PAUSE_S, Ask, Pause, Processed, Turns

A = Owner(1, "p1", "a")
A_AGAIN = Owner(7, "p1", "a")
B = Owner(2, "p2", "b")


def asked(turns: Turns, address: str, now: float = 0.0) -> list[Ask]:
    """A call to the replica with everything that is due."""
    asks = [turns.ask(address, partition) for partition in turns.due(address, now)]
    return [ask for ask in asks if ask is not None]


def held(*owners: Owner | None, tail: int = 5) -> Turns:
    """Partitions 0, 1, … with these owners."""
    turns = Turns()
    for partition, owner in enumerate(owners):
        turns.take(partition, tail, owner, 0.0)
    return turns


def test_each_replica_is_asked_how_far_it_has_come_in_its_own_partitions() -> None:
    turns = held(A, B, A)
    assert turns.replicas == {"a", "b"}
    assert asked(turns, "a") == [Ask(0, A, None, 5), Ask(2, A, None, 5)]
    assert asked(turns, "b") == [Ask(1, B, None, 5)]
    assert turns.due("a", 0.0) == turns.due("b", 0.0) == []


def test_what_an_answer_leaves_open_takes_its_turn_again_and_the_rest_is_at_rest() -> None:
    turns = held(A, A)
    asks = asked(turns, "a")
    assert turns.answered(asks, {0: 5, 1: 3}, 0.0) == [Processed(0, 5), Processed(1, 3)]
    assert asked(turns, "a") == [Ask(1, A, 3, 5)]
    assert turns.grow(0, 6) == A
    assert asked(turns, "a") == [Ask(0, A, 5, 6)]


def test_what_grows_while_a_call_is_under_way_is_due_after_it() -> None:
    turns = held(A)
    turns.answered(asked(turns, "a"), {0: 5}, 0.0)
    turns.grow(0, 6)
    asks = asked(turns, "a")
    turns.grow(0, 7)
    turns.answered(asks, {0: 6}, 0.0)
    assert asked(turns, "a") == [Ask(0, A, 6, 7)]


def test_a_dead_replica_holds_back_its_own_partitions_alone() -> None:
    turns = held(A, B)
    turns.failed(asked(turns, "a"), 1.0, forget_cursors=False)
    assert turns.answered(asked(turns, "b"), {1: 5}, 2.0) == [Processed(1, 5)]
    turns.failed(asked(turns, "a"), 3.0, forget_cursors=False)
    assert turns.failing_since() == 1.0
    turns.answered(asked(turns, "a"), {0: 5}, 4.0)
    assert turns.failing_since() is None


def test_a_new_owner_is_asked_anew_and_the_answer_of_the_former_counts_no_more() -> None:
    turns = held(A, A)
    turns.answered(asked(turns, "a"), {0: 5, 1: 5}, 0.0)
    turns.grow(0, 6)
    turns.grow(1, 6)
    asks = asked(turns, "a")
    turns.assign(1, B, 1.0)
    assert turns.answered(asks, {0: 6, 1: 6}, 1.0) == [Processed(0, 6)]
    assert asked(turns, "b") == [Ask(1, B, None, 6)]
    assert turns.cursor(1) == 5  # as told last, for those who only want to know


def test_a_new_term_of_the_same_replica_is_a_new_owner() -> None:
    turns = held(A)
    asks = asked(turns, "a")
    turns.assign(0, A_AGAIN, 0.0)
    assert turns.answered(asks, {0: 5}, 0.0) == []
    assert asked(turns, "a") == [Ask(0, A_AGAIN, None, 5)]


def test_the_same_owner_told_again_changes_nothing() -> None:
    turns = held(A)
    turns.answered(asked(turns, "a"), {0: 5}, 0.0)
    turns.assign(0, A, 0.0)
    assert turns.due("a", 0.0) == []


def test_a_partition_without_an_owner_waits_and_fails_until_one_answers() -> None:
    turns = held(A)
    turns.answered(asked(turns, "a"), {0: 5}, 0.0)
    turns.assign(0, None, 3.0)
    assert turns.replicas == set()
    assert turns.failing_since() == 3.0
    assert turns.grow(0, 6) is None
    turns.assign(0, B, 8.0)
    assert turns.failing_since() == 3.0
    turns.answered(asked(turns, "b"), {0: 6}, 9.0)
    assert turns.failing_since() is None


def test_what_a_replica_does_not_hold_is_asked_again_after_a_pause_and_holds_up_nothing() -> None:
    turns = held(A, A)
    asks = asked(turns, "a")
    assert turns.answered(asks, {0: 3}, 1.0) == [Processed(0, 3)]
    assert turns.due("a", 1.0) == [0]
    assert turns.answered(asked(turns, "a", 1.0), {0: 5}, 1.0) == [Processed(0, 5)]
    later = turns.next_due("a")
    assert later == 1.0 + NOT_HELD_PAUSE_S
    assert turns.failing_since() == 1.0
    assert asked(turns, "a", later) == [Ask(1, A, None, 5)]


def test_another_owner_is_asked_at_once_for_what_the_first_did_not_hold() -> None:
    turns = held(A)
    turns.answered(asked(turns, "a"), {}, 1.0)
    turns.assign(0, B, 1.01)
    assert turns.due("b", 1.01) == [0]
    assert turns.next_due("a") is None


def test_a_replica_that_takes_nothing_of_what_it_lacks_is_left_in_peace_for_a_while() -> None:
    turns = held(A)
    assert turns.answered(asked(turns, "a"), {0: 2}, 0.0) == [Processed(0, 2)]
    assert turns.answered(asked(turns, "a"), {0: 2}, 0.0) == [Processed(0, 2), Pause()]


def test_another_log_makes_the_cursors_worthless() -> None:
    turns = held(A)
    turns.answered(asked(turns, "a"), {0: 2}, 0.0)
    turns.failed(asked(turns, "a"), 0.0, forget_cursors=True)
    assert asked(turns, "a") == [Ask(0, A, None, 5)]


def test_what_is_dropped_is_reported_by_its_next_owner() -> None:
    turns = held(A, A)
    asks = asked(turns, "a")
    turns.drop(0)
    turns.drop(7)
    assert turns.answered(asks, {0: 5, 1: 5}, 0.0) == [Processed(1, 5)]
    turns.assign(0, B, 0.0)
    assert 0 not in turns
    assert turns.replicas == {"a"}
    assert turns.ask("b", 0) is None


def test_a_hole_is_told_once_until_presence_goes_on() -> None:
    turns = held(A)
    turns.answered(asked(turns, "a"), {0: 2}, 0.0)
    (ask,) = asked(turns, "a")
    assert not turns.note_hole(ask, 3)
    assert turns.note_hole(ask, 4)
    assert not turns.note_hole(ask, 4)
    assert turns.missed() == 1
    turns.answered([ask], {0: 4}, 0.0)
    assert turns.missed() == 0


def test_lag_is_what_was_told_last_even_while_nobody_owns() -> None:
    turns = held(A, B)
    turns.answered(asked(turns, "a"), {0: 4}, 0.0)
    assert turns.lag() == 1 + 5
    turns.assign(0, None, 0.0)
    assert turns.lag() == 1 + 5
