"""What waits in the hub, and for how long: its bounds, gaps, and what is transient."""

from onward.types.v1 import entry_pb2

from services.edge.acks import acknowledge_by_pong
from services.edge.holding import NOTHING_OWED
from services.edge.hub import Hub
from services.edge.hub_effects import FillHole, StopWatch, TooFar
from services.edge.limits import HubLimits
from tests.edge.making import FakeSocket, delivery, entries
from tests.edge.test_hub import P, Stage, told, watched


def transient(text: str, subject: str = "/a") -> entry_pb2.Message:
    return entry_pb2.Message(subject=subject, content=entry_pb2.Content(text=text))


def test_a_transient_message_goes_to_who_is_live_in_one_shared_frame() -> None:
    stage = Stage(sockets=2)
    forming, lagging = FakeSocket(), stage.sockets[1]
    stage.hub.join("/a", "late", forming, True)
    stage.hub.relay([transient("t1"), transient("x", "/none")])
    stage.hub.pump()
    assert stage.sockets[0].sent[0] is lagging.sent[0]
    stage.hub.pause(stage.subscriptions[1])
    stage.hub.relay([transient("t2")])
    stage.deliver(11)
    assert told(stage.sockets[0]) == ["t1", "t2", "L11"]
    assert told(lagging) == ["t1"] and told(forming) == []
    fan_outs = stage.hub.fan_outs
    assert (fan_outs.transients, fan_outs.transients_dropped) == (3, 3)
    assert stage.hub.owed_from(P) == 109  # and what was transient is owed nobody


def test_a_transient_message_for_a_socket_that_fills_meanwhile_is_dropped_and_counted() -> None:
    stage = Stage(sockets=2)
    stage.hub.relay([transient("t1")])
    stage.hub.pause(stage.subscriptions[1])
    stage.hub.pump()
    assert told(stage.sockets[0]) == ["t1"] and told(stage.sockets[1]) == []
    assert stage.hub.fan_outs.transients_dropped == 1


def test_while_too_much_is_to_be_written_nothing_more_should_come() -> None:
    stage = Stage(sockets=3, writes_max=5)
    stage.hub.deliver([delivery("/a", 11)])
    assert not stage.hub.congested
    stage.hub.deliver([delivery("/a", 12)])
    assert stage.hub.congested
    stage.hub.relay([transient("t1")])
    while stage.hub.pump():
        pass
    assert not stage.hub.congested and stage.hub.fan_outs.writes == 0
    assert told(stage.sockets[0]) == ["L11", "L12"]
    assert stage.hub.fan_outs.transients_dropped == 3


def test_a_gap_follows_what_came_before_it_and_is_owed_nobody() -> None:
    stage = Stage(sockets=2)
    lagging = stage.subscriptions[1]
    stage.hub.deliver([delivery("/a", 11), delivery("/a", 20)])
    stage.hub.pause(lagging)
    stage.subscriptions[0].acked = 11
    stage.hub.filled("/a", entries("/a", 16, 19), 15)
    while stage.hub.pump():
        pass
    assert told(stage.sockets[0]) == ["L11", "gap12-15", "L16", "L17", "L18", "L19", "L20"]
    assert (stage.subscriptions[0].acked, stage.hub.fan_outs.gaps) == (15, 1)
    assert stage.hub.advance(lagging) == [TooFar("s1")]  # told at its return: TRIMMED


def test_who_begins_below_what_was_trimmed_meanwhile_is_not_left_with_a_silent_hole() -> None:
    stage = Stage()
    late, _ = stage.hub.join("/a", "late", FakeSocket(), True)
    stage.deliver(20)
    stage.hub.filled("/a", entries("/a", 16, 19), 15)
    assert stage.begin(late, 10) == [TooFar("late")]


def test_a_watch_whose_missed_messages_are_all_trimmed_is_a_gap() -> None:
    stage = Stage()
    stage.hub.interrupted(P)
    assert stage.hub.watched(watched(14, floor=14, epoch=9)) == [FillHole("/a", 10)]
    assert stage.hub.filled("/a", (), 14) == []
    stage.deliver(15)
    assert told(stage.sockets[0]) == ["gap11-14", "L15"]


def test_a_pong_acknowledges_a_gap_behind_which_nothing_came() -> None:
    stage = Stage()
    stage.deliver(11)
    stage.hub.begin_round(1.0, 2)
    stage.hub.interrupted(P)
    stage.hub.watched(watched(14, floor=14, epoch=9))
    stage.hub.filled("/a", (), 14)
    assert stage.hub.owed_from(P) is None
    stage.hub.begin_round(3.0, 3)
    acknowledge_by_pong(stage.subscriptions, 3)
    assert stage.subscriptions[0].acked == 14 and stage.hub.owed_from(P) == NOTHING_OWED


def test_a_read_that_brings_nothing_is_not_repeated_at_once() -> None:
    stage = Stage()
    stage.deliver(13)
    assert stage.hub.filled("/a", (), 0) == [FillHole("/a", 10, again=True)]
    assert stage.hub.filled("/a", entries("/a", 11, 11), 0)[-1] == FillHole("/a", 11)


def test_what_waits_behind_a_hole_is_bounded_in_bytes_too() -> None:
    size = entries("/a", 12, 12)[0].size
    stage = Stage(ring_bytes=3 * size)
    stage.deliver(12, 13, 14, 15)
    channel = stage.hub.channel("/a")
    assert channel is not None and channel.ahead_bytes == size and channel.hole_to == 14
    assert stage.hub.holes.again == 3
    stage.hub.filled("/a", entries("/a", 11, 14), 0)
    stage.hub.pump()
    assert told(stage.sockets[0]) == ["L11", "L12", "L13", "L14", "L15"]
    assert channel.ahead_bytes == 0


def test_recovered_messages_that_wait_for_sockets_are_bounded_in_all() -> None:
    stage = Stage(sockets=2, backlogs_bytes=1000)
    first, second = FakeSocket(), FakeSocket()
    subscriptions = []
    for socket in (first, second):
        socket.room = 1
        subscriptions.append(stage.hub.join("/a", "s", socket, True)[0])
    assert stage.begin(subscriptions[0], 10, entries("/a", 5, 10), synced=True) == []
    assert 500 < stage.hub.backlog_bytes <= 1000
    before = stage.hub.backlog_bytes
    assert stage.begin(subscriptions[1], 10, entries("/a", 5, 10)) == [TooFar("s", "backlogs")]
    assert stage.hub.backlog_bytes == before
    first.paused, first.room = False, None
    stage.hub.advance(subscriptions[0])
    assert stage.hub.backlog_bytes == 0
    assert told(first) == ["R5", "R6", "R7", "R8", "R9", "R10", "synced10"]


def test_a_session_that_leaves_takes_its_backlog_along() -> None:
    stage = Stage()
    late, _ = stage.hub.join("/a", "late", socket := FakeSocket(), True)
    socket.paused = True
    stage.begin(late, 10, entries("/a", 9, 10))
    stage.hub.leave(late, 1.0)
    assert stage.hub.backlog_bytes == 0


def test_sessions_that_come_and_go_while_nobody_owns_the_subject_leave_nothing_behind() -> None:
    hub = Hub(16, HubLimits())
    for number in range(3):
        one, _ = hub.join("/a", f"s{number}", FakeSocket(), True)
        assert hub.await_watch(one) == [] and hub.joining == 1
        hub.leave(one, 0.0)
    assert hub.joining == 0 and hub.subscriptions == 0
    assert hub.watched(watched(10)) == []


def test_subjects_that_nobody_wants_any_more_are_bounded() -> None:
    hub = Hub(16, HubLimits(lingering_max=2))
    subjects = ["/a", "/b", "/c"]
    made = [hub.join(subject, "s", FakeSocket(), True)[0] for subject in subjects]
    assert hub.leave(made[0], 1.0) == [] and hub.leave(made[1], 1.0) == []
    assert hub.leave(made[2], 1.0) == [StopWatch(P, "/a")]
    assert hub.lingering == 2 and len(hub) == 2


def test_what_belongs_to_a_replaced_log_does_not_count_in_the_new_hub() -> None:
    stage = Stage()
    fresh = Hub(16, HubLimits())
    assert fresh.leave(stage.subscriptions[0], 1.0) == []
    assert fresh.subscriptions == 0 and fresh.lingering == 0


def test_a_halted_subscription_gets_nothing_more_and_goes_on_owing() -> None:
    stage = Stage()
    stage.deliver(11)
    stage.hub.halt(stage.subscriptions[0])
    stage.deliver(12)
    assert stage.hub.advance(stage.subscriptions[0]) == []
    assert told(stage.sockets[0]) == ["L11"]
    assert stage.hub.owed_from(P) == 109


def test_the_hub_is_full_at_its_number_of_subscriptions() -> None:
    hub = Hub(16, HubLimits(subscriptions_max=1))
    assert not hub.full
    hub.join("/a", "s", FakeSocket(), True)
    assert hub.full
