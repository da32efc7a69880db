from onward_sdk.positions import Track, Verdict
from onward_sdk.protocol import Subscription, SubscriptionState


def at(seq: int) -> Track:
    return Track(Subscription("/a", after_seq=seq))


def state(seq: int, recovered: bool | None = None, reason: str = "") -> SubscriptionState:
    return SubscriptionState("/a", seq, recovered, reason)


def test_what_was_handed_over_before_is_dropped() -> None:
    track = at(5)
    kinds = [("RECOVERED", 4), ("RECOVERED", 5), ("RECOVERED", 6), ("LIVE", 6), ("LIVE", 7)]
    drop, take = Verdict.DROP, Verdict.HAND_OVER
    assert [track.take(kind, seq) for kind, seq in kinds] == [drop, drop, take, drop, take]


def test_a_hole_is_asked_for_once_and_what_lies_above_it_waits() -> None:
    track = at(5)
    verdicts = [track.take("LIVE", seq) for seq in (7, 8)]
    assert verdicts == [Verdict.ASK_AGAIN, Verdict.DROP]
    assert track.answered(state(8, recovered=True)) is None
    recovered = [track.take("RECOVERED", seq) for seq in (6, 7, 8)]
    assert recovered == [Verdict.HAND_OVER] * 3
    assert track.recovered == 3


def test_a_hole_after_the_answer_is_asked_for_again() -> None:
    track = at(5)
    track.take("LIVE", 7)
    track.answered(state(7, recovered=True))
    assert track.take("RECOVERED", 7) is Verdict.ASK_AGAIN


def test_recovery_starts_after_what_was_handled_not_after_what_was_received() -> None:
    track = at(5)
    for seq in (6, 7, 8):
        track.take("LIVE", seq)
    track.done_with(6)
    assert track.subscription() == Subscription("/a", after_seq=6)
    track.lost_connection()
    assert track.take("RECOVERED", 7) is Verdict.DROP
    assert track.take("LIVE", 9) is Verdict.HAND_OVER


def test_without_a_position_the_answer_gives_it() -> None:
    track = Track(Subscription("/a", history=3))
    assert track.subscription() == Subscription("/a", history=3)
    assert track.take("LIVE", 9) is Verdict.DROP
    assert track.answered(state(8)) is None
    assert [track.take("HISTORY", seq) for seq in (6, 7, 7, 8)] == [
        Verdict.HAND_OVER,
        Verdict.HAND_OVER,
        Verdict.DROP,
        Verdict.HAND_OVER,
    ]
    assert track.take("LIVE", 9) is Verdict.HAND_OVER
    assert track.subscription() == Subscription("/a", after_seq=8)


def test_an_impossible_recovery_tells_what_is_lost_and_goes_on_behind_it() -> None:
    track = at(5)
    assert track.answered(state(9, recovered=False, reason="TRIMMED")) == (6, 9)
    assert track.handled == 5, "not before the application has been told"
    track.done_with(9)
    assert track.take("LIVE", 10) is Verdict.HAND_OVER


def test_a_position_of_another_log_or_above_the_head_is_replaced_at_once() -> None:
    for reason in ("LOG_REPLACED", "AHEAD"):
        track = at(5)
        assert track.answered(state(2, recovered=False, reason=reason)) == (0, 0)
        assert (track.received, track.handled) == (2, 2)
        assert track.take("LIVE", 3) is Verdict.HAND_OVER


def test_a_gap_is_passed_over_once() -> None:
    track = at(5)
    assert track.skip(8) == (6, 8)
    assert track.skip(8) is None
    assert track.take("LIVE", 9) is Verdict.HAND_OVER


def test_a_transient_message_has_no_order_and_moves_nothing() -> None:
    track = at(5)
    assert [track.take("TRANSIENT", 0) for _ in range(2)] == [Verdict.HAND_OVER] * 2
    track.done_with(0)
    assert (track.received, track.handled) == (5, 5)


def test_a_snapshot_at_or_below_the_position_comes_once_for_each_start() -> None:
    track = Track(Subscription("/a", snapshot=True))
    track.answered(SubscriptionState("/a", 9, None, ""))
    assert [track.take("SNAPSHOT", 4) for _ in range(2)] == [Verdict.HAND_OVER, Verdict.DROP]
    assert track.received == 9
    assert track.subscription() == Subscription("/a", after_seq=9)
