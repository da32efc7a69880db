import pytest
from onward.client.v1 import client_pb2

from services.edge import acks
from services.edge.channel import Subscription
from tests.edge.making import FakeSocket, channel

Position = client_pb2.Position


def subscribed(last: int = 10, **fields: int) -> Subscription:
    """A live subscription with everything sent."""
    made = Subscription(channel("/a", last), FakeSocket(), "s1", True)
    made.begun = made.live = True
    made.sent, made.round = last, 3
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("acked", "seq", "expected"),
    [(4, 7, 7), (7, 4, 7), (4, 99, 10), (4, 10, 10), (0, 0, 0)],
)
def test_an_ack_raises_up_to_what_was_sent_and_never_falls(
    acked: int, seq: int, expected: int
) -> None:
    one = subscribed(acked=acked)
    acks.acknowledge({"/a": one}, [Position(subject="/b", seq=9), Position(subject="/a", seq=seq)])
    assert one.acked == expected


def test_an_ack_before_anything_was_sent_counts_for_nothing() -> None:
    one = subscribed(acked=2)
    one.begun = False
    acks.acknowledge({"/a": one}, [Position(subject="/a", seq=9)])
    assert one.acked == 2


def test_a_pong_acknowledges_what_was_noted_when_its_round_began() -> None:
    one = subscribed(acked=4)
    made = one.channel
    for number, last in ((5, 6), (7, 8), (8, 10)):
        made.last = last
        made.note(number, float(number))
    for number, acked in ((4, 4), (5, 6), (6, 6), (7, 8), (5, 8), (9, 10)):
        acks.acknowledge_by_pong([one], number)
        assert one.acked == acked, number


def test_a_pong_of_a_round_before_the_subscription_says_nothing_of_it() -> None:
    one = subscribed(acked=4, round=6, replayed_to=9)
    one.channel.note(5, 0.0)
    acks.acknowledge_by_pong([one], 6)
    assert one.acked == 4
    acks.acknowledge_by_pong([one], 7)
    assert one.acked == 10


def test_a_pong_acknowledges_what_was_replayed_in_a_quiet_subject() -> None:
    one = subscribed(acked=4, round=6, replayed_to=10)
    acks.acknowledge_by_pong([one], 7)
    assert one.acked == 10


def test_a_session_that_lags_or_is_being_fanned_out_to_is_not_vouched_for() -> None:
    one, other = subscribed(), subscribed()
    assert acks.may_vouch([one, other])
    other.live = False
    assert not acks.may_vouch([one, other])
    other.live = True
    one.channel.jobs = 1
    assert not acks.may_vouch([one, other])


def test_only_pongs_that_were_asked_for_count() -> None:
    pings = acks.Pings()
    pings.sent(5, 10.0)
    pings.sent(6, 12.0)
    for payload in (b"", b"7", b"-5", b"5 ", b"9" * 30, b"\xff"):
        assert pings.answered(payload) is None
    assert not pings.late(20.0, 10) and pings.late(20.1, 10)
    assert pings.answered(b"6") == 6
    assert pings.answered(b"5") is None
    assert not pings.late(99.0, 10)


def test_the_oldest_unacknowledged_is_dated_by_notes_and_replay() -> None:
    one = subscribed(last=10, acked=10, begun_at=50)
    assert acks.oldest_unacknowledged([one], 100.0) is None
    one.channel.last = 11  # came since the newest round
    assert acks.oldest_unacknowledged([one], 100.0) == 100.0
    one.channel.note(9, 60.0)
    one.channel.last = 12
    one.channel.note(10, 62.0)
    assert acks.oldest_unacknowledged([one], 100.0) == 60.0
    one.acked = 11
    assert acks.oldest_unacknowledged([one], 100.0) == 62.0
    replayed = subscribed(last=10, acked=4, begun_at=40, replayed_to=10)
    assert acks.oldest_unacknowledged([one, replayed], 100.0) == 40.0
    replayed.counts = False
    assert acks.oldest_unacknowledged([one, replayed], 100.0) == 62.0
