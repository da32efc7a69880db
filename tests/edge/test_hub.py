from typing import Any

import pytest
from onward.client.v1 import client_pb2
from onward.coordinator.v1 import coordinator_pb2

from services.chassis.subjects import partition_of
from services.edge.channel import Entry, Subscription
from services.edge.effects import Begin
from services.edge.holding import NOTHING_OWED
from services.edge.hub import Hub
from services.edge.hub_effects import FillHole, Joined, Reached, StartWatch, StopWatch, TooFar
from services.edge.limits import HubLimits
from tests.edge.making import FakeSocket, delivery, entries, payload

Kind = client_pb2.Message.Kind
P = partition_of("/a", 16)


def told(socket: FakeSocket) -> list[str]:
    """What the socket got, in short: `L5` is message 5, LIVE."""
    short = []
    for frame in socket.sent:
        value = payload(frame)
        if "message" in value:
            short.append(value["message"]["kind"][0] + value["message"]["seq"])
            if value["message"]["kind"] == "TRANSIENT":
                short[-1] = value["message"]["text"]
        elif "synced" in value:
            short.append("synced" + value["synced"]["seq"])
        else:
            short.append("gap{fromSeq}-{toSeq}".format(**value["gap"]))
    socket.sent.clear()
    return short


def watched(head: int, floor: int = 0, epoch: int = 7) -> coordinator_pb2.Watched:
    return coordinator_pb2.Watched(subject="/a", head=head, floor=floor, tail=head, epoch=epoch)


class Stage:
    """A hub with one subject, whose sockets are subscribed from its head on."""

    def __init__(self, sockets: int = 1, head: int = 10, **limits: Any) -> None:
        self.hub = Hub(16, HubLimits(**limits))
        self.sockets = [FakeSocket() for _ in range(sockets)]
        self.subscriptions: list[Subscription] = []
        for number, socket in enumerate(self.sockets):
            subscription, _ = self.hub.join("/a", f"s{number}", socket, True)
            self.subscriptions.append(subscription)
        self.hub.watched(watched(head))
        for subscription in self.subscriptions:
            subscription.acked, subscription.round = head, 1
            self.begin(subscription, head)

    def begin(
        self,
        subscription: Subscription,
        position: int,
        backlog: tuple[Entry, ...] = (),
        synced: bool = False,
    ) -> list[Any]:
        begin = Begin("/a", position, backlog, Kind.RECOVERED, synced)
        return self.hub.begin(subscription, begin, 5.0)

    def deliver(self, *seqs: int) -> list[Any]:
        effects = self.hub.deliver([delivery("/a", seq, seq * 10) for seq in seqs])
        while self.hub.pump():
            pass
        return effects


def test_a_subject_is_watched_once_for_all_its_subscriptions() -> None:
    hub = Hub(16, HubLimits())
    one, effects = hub.join("/a", "s1", FakeSocket(), True)
    assert effects == [StartWatch(P, "/a")]
    two, effects = hub.join("/a", "s2", FakeSocket(), True)
    assert effects == []
    assert hub.watched(watched(10, 4)) == [Joined(one, 10, 4), Joined(two, 10, 4)]
    three, effects = hub.join("/a", "s3", FakeSocket(), True)
    assert effects == [Joined(three, 10, 4)]


def test_a_session_that_left_before_the_watch_was_answered_is_not_told() -> None:
    hub = Hub(16, HubLimits())
    one, _ = hub.join("/a", "s1", FakeSocket(), True)
    hub.leave(one, 0.0)
    assert hub.watched(watched(10)) == []


def test_a_subject_is_unwatched_a_while_after_its_last_subscription() -> None:
    stage = Stage(linger_s=10)
    stage.hub.leave(stage.subscriptions[0], 100.0)
    stage.hub.leave(stage.subscriptions[0], 100.0)
    assert stage.hub.begin_round(109.0, 1) == []
    again, _ = stage.hub.join("/a", "s9", FakeSocket(), True)
    assert stage.hub.begin_round(111.0, 2) == []
    stage.hub.leave(again, 112.0)
    assert stage.hub.begin_round(122.0, 3) == [StopWatch(P, "/a")]
    assert stage.deliver(11) == [] and len(stage.hub) == 0


def test_everybody_gets_the_same_bytes_in_order() -> None:
    stage = Stage(sockets=3)
    assert stage.deliver(11, 12) == [Reached(P, 120, True)]
    stage.deliver(13)
    first = stage.sockets[0].given
    assert all(
        a is b for other in stage.sockets[1:] for a, b in zip(first, other.given, strict=True)
    )
    assert told(stage.sockets[0]) == ["L11", "L12", "L13"]


def test_messages_that_come_together_go_out_in_one() -> None:
    stage = Stage(sockets=2)
    stage.deliver(11, 12, 13)
    assert [len(socket.given) for socket in stage.sockets] == [1, 1]
    assert told(stage.sockets[1]) == ["L11", "L12", "L13"]
    assert [one.sent for one in stage.subscriptions] == [13, 13]


def test_who_has_the_first_of_them_already_gets_the_rest_one_by_one() -> None:
    stage = Stage(sockets=2)
    stage.subscriptions[0].sent = 11
    stage.deliver(11, 12, 13)
    assert [told(socket) for socket in stage.sockets] == [["L12", "L13"], ["L11", "L12", "L13"]]


def test_large_messages_that_come_together_go_out_one_by_one() -> None:
    stage = Stage(sockets=1)
    text = "x" * 40_000
    stage.hub.deliver([delivery("/a", 11, text=text), delivery("/a", 12, text=text)])
    stage.hub.pump()
    assert len(stage.sockets[0].given) == 2


def test_what_is_told_twice_is_sent_once() -> None:
    stage = Stage()
    stage.deliver(11, 11, 10, 12)
    stage.deliver(12, 11)
    assert told(stage.sockets[0]) == ["L11", "L12"]


def test_a_long_fan_out_is_sliced_and_keeps_order() -> None:
    stage = Stage(sockets=10)
    stage.hub.deliver([delivery("/a", 11)])
    assert stage.hub.pump(4) and stage.subscriptions[0].channel.jobs == 1
    stage.hub.deliver([delivery("/a", 12)])
    stage.hub.leave(stage.subscriptions[8], 0.0)
    while stage.hub.pump(4):
        pass
    assert [told(socket) for socket in stage.sockets[:8]] == [["L11", "L12"]] * 8
    assert told(stage.sockets[8]) == [] and told(stage.sockets[9]) == ["L11", "L12"]
    assert stage.subscriptions[0].channel.jobs == 0


def test_a_delivery_past_a_hole_waits_until_the_hole_is_read() -> None:
    stage = Stage()
    assert stage.deliver(13) == [FillHole("/a", 10)]
    assert stage.deliver(14) == []
    assert told(stage.sockets[0]) == []
    assert stage.hub.owed_from(P) is None
    effects = stage.hub.filled("/a", entries("/a", 11, 13), 0)
    stage.hub.pump()
    assert Reached(P, 140, True) in effects
    assert told(stage.sockets[0]) == ["L11", "L12", "L13", "L14"]
    assert stage.hub.owed_from(P) is not None


def test_a_watch_that_finds_a_newer_head_reads_what_was_missed_first() -> None:
    stage = Stage()
    stage.hub.interrupted(P)
    assert stage.hub.owed_from(P) is None
    assert stage.hub.watched(watched(12, epoch=9)) == [FillHole("/a", 10)]
    assert stage.deliver(13) == []
    stage.hub.filled("/a", entries("/a", 11, 12), 0)
    stage.hub.pump()
    assert told(stage.sockets[0]) == ["L11", "L12", "L13"]


def test_a_watch_that_finds_nothing_new_goes_on_at_once() -> None:
    stage = Stage()
    stage.hub.interrupted(P)
    assert stage.hub.watched(watched(10, epoch=9)) == []
    stage.deliver(11)
    assert told(stage.sockets[0]) == ["L11"]


def test_a_change_of_owner_while_a_hole_is_read_does_not_close_it() -> None:
    stage = Stage()
    stage.deliver(13)
    stage.hub.interrupted(P)
    assert stage.hub.watched(watched(13, epoch=9)) == []
    stage.hub.filled("/a", entries("/a", 11, 13), 0)
    stage.hub.pump()
    assert told(stage.sockets[0]) == ["L11", "L12", "L13"]
    assert stage.hub.channel("/a").established  # type: ignore[union-attr]


def test_a_hole_closed_before_the_new_owner_answers_is_not_yet_all() -> None:
    stage = Stage()
    stage.deliver(13)
    stage.hub.interrupted(P)
    stage.hub.filled("/a", entries("/a", 11, 12), 0)
    assert stage.hub.owed_from(P) is None
    assert stage.hub.watched(watched(14, epoch=9)) == [FillHole("/a", 13)]
    stage.hub.filled("/a", entries("/a", 14, 14), 0)
    stage.hub.pump()
    assert told(stage.sockets[0]) == ["L11", "L12", "L13", "L14"]


def test_a_hole_of_a_subject_that_is_watched_anew_is_no_longer_of_interest() -> None:
    stage = Stage()
    stage.hub.deliver([delivery("/a", 12)])
    stage.hub.leave(stage.subscriptions[0], 0)
    assert stage.hub.begin_round(10, 2) == [StopWatch(P, "/a")]
    subscription, _ = stage.hub.join("/a", "s2", FakeSocket(), True)
    assert stage.hub.filled("/a", entries("/a", 11, 11), 0) == []
    assert stage.hub.watched(watched(12)) == [Joined(subscription, 12, 0)]


def test_a_long_hole_is_read_in_pages() -> None:
    stage = Stage()
    stage.deliver(15)
    assert stage.hub.filled("/a", entries("/a", 11, 12), 0)[-1] == FillHole("/a", 12)
    stage.hub.filled("/a", entries("/a", 13, 14), 0)
    stage.hub.pump()
    assert told(stage.sockets[0]) == ["L11", "L12", "L13", "L14", "L15"]


def test_too_much_waiting_behind_a_hole_is_read_again() -> None:
    stage = Stage(ring_messages=3)
    stage.deliver(12)
    stage.deliver(13, 14, 15, 16)
    after = 10
    for _ in range(5):
        effects = stage.hub.filled("/a", entries("/a", after + 1, after + 1), 0)
        stage.hub.pump()
        after += 1
        if not any(isinstance(effect, FillHole) for effect in effects):
            break
    stage.hub.pump()
    assert told(stage.sockets[0]) == ["L11", "L12", "L13", "L14", "L15", "L16"]


def test_a_hole_that_was_trimmed_is_announced() -> None:
    stage = Stage()
    stage.deliver(20)
    stage.hub.filled("/a", entries("/a", 16, 19), 15)
    stage.hub.pump()
    assert told(stage.sockets[0]) == ["gap11-15", "L16", "L17", "L18", "L19", "L20"]


def test_a_full_socket_gets_nothing_more_until_it_takes_more() -> None:
    stage = Stage()
    (socket,), (one,) = stage.sockets, stage.subscriptions
    stage.deliver(11)
    socket.paused = True
    stage.hub.pause(one)
    stage.deliver(12, 13)
    assert told(socket) == ["L11"] and one.sent == 11
    assert stage.hub.advance(one) == [] and told(socket) == []
    socket.paused = False
    assert stage.hub.advance(one) == []
    stage.deliver(14)
    assert told(socket) == ["L12", "L13", "L14"]


def test_a_session_that_the_ring_has_left_behind_is_too_far() -> None:
    stage = Stage(ring_messages=2)
    (socket,), (one,) = stage.sockets, stage.subscriptions
    socket.paused = True
    stage.hub.pause(one)
    stage.deliver(11, 12, 13)
    socket.paused = False
    assert stage.hub.advance(one) == [TooFar("s0")]


def test_a_recovery_is_sent_first_then_what_came_meanwhile_then_synced() -> None:
    stage = Stage(sockets=1)
    socket = FakeSocket()
    late, _ = stage.hub.join("/a", "late", socket, True)
    stage.deliver(11, 12)
    assert told(socket) == []
    stage.begin(late, 10, entries("/a", 9, 10), synced=True)
    stage.deliver(13)
    assert told(socket) == ["R9", "R10", "L11", "L12", "synced12", "L13"]


def test_a_recovery_stops_at_a_full_socket_and_goes_on_later() -> None:
    stage = Stage()
    socket = FakeSocket()
    late, _ = stage.hub.join("/a", "late", socket, True)
    socket.room = 2
    stage.begin(late, 10, entries("/a", 8, 10), synced=True)
    stage.deliver(11)
    assert told(socket) == ["R8", "R9"] and not late.live
    socket.paused, socket.room = False, None
    stage.hub.advance(late)
    assert told(socket) == ["R10", "L11", "synced11"]


def test_a_client_ahead_of_this_edge_gets_nothing_twice() -> None:
    stage = Stage()
    socket = FakeSocket()
    ahead, _ = stage.hub.join("/a", "ahead", socket, True)
    stage.begin(ahead, 12, (), synced=True)
    stage.deliver(11, 12, 13)
    assert told(socket) == ["synced12", "L13"]


def test_a_subscription_that_starts_anew_gets_what_it_asks_for_again() -> None:
    stage = Stage()
    stage.deliver(11, 12)
    told(stage.sockets[0])
    stage.begin(stage.subscriptions[0], 11, (), synced=True)
    assert told(stage.sockets[0]) == ["L12", "synced12"]


@pytest.mark.parametrize(("acked", "owed"), [(12, NOTHING_OWED), (11, 119), (10, 109)])
def test_what_is_owed_begins_below_the_oldest_unacknowledged(acked: int, owed: int) -> None:
    stage = Stage(sockets=2)
    stage.deliver(11, 12)
    stage.subscriptions[0].acked = 12
    stage.subscriptions[1].acked = acked
    assert stage.hub.owed_from(P) == owed
    assert stage.hub.high(P) == 120


def test_a_subscription_owes_from_the_moment_its_event_is_formed() -> None:
    stage = Stage()
    stage.subscriptions[0].acked = 99
    late, _ = stage.hub.join("/a", "late", FakeSocket(), True)
    stage.deliver(11)
    assert stage.hub.owed_from(P) == NOTHING_OWED
    late.acked, late.round = 10, 1
    assert stage.hub.owed_from(P) == 109
    late.acked = 3  # below what the ring reaches: nothing can be said
    assert stage.hub.owed_from(P) is None


def test_a_busy_subject_knows_since_when_a_message_is_owed_in_all_its_notes() -> None:
    stage = Stage(notes_max=100)
    for seq in range(11, 111):
        stage.hub.deliver([delivery("/a", seq)])
        stage.hub.begin_round(float(seq), seq)
    assert stage.subscriptions[0].unacknowledged_since(200.0) == 11.0


def test_observers_owe_nothing() -> None:
    stage = Stage()
    stage.subscriptions[0].acked = 99
    watcher, _ = stage.hub.join("/a", "w", FakeSocket(), False)
    watcher.acked, watcher.round = 3, 1
    stage.deliver(11)
    assert stage.hub.owed_from(P) == NOTHING_OWED


def test_all_rings_together_are_bounded() -> None:
    stage = Stage(rings_bytes=1500)
    stage.deliver(*range(11, 20))
    made = stage.hub.channel("/a")
    assert made is not None and len(made.ring) < 9 and made.ring.get(19) is not None


def test_the_ring_answers_only_what_it_has_in_full() -> None:
    stage = Stage(ring_messages=4)
    stage.deliver(*range(11, 17))
    assert [entry.seq for entry in stage.hub.after("/a", 13, 16, 100)] == [14, 15, 16]
    assert stage.hub.after("/a", 11, 16, 100) == ()
    assert stage.hub.after("/a", 13, 17, 100) == ()
    assert stage.hub.after("/none", 0, 1, 100) == ()
