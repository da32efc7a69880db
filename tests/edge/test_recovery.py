from typing import Any

import pytest
from google.protobuf import json_format
from onward.client.v1 import client_pb2

from services.edge.effects import Begin, ReadHistory, ReadRetained
from services.edge.limits import Limits
from services.edge.recovery import Forming, Read
from tests.edge.making import entries, entry

Kind = client_pb2.Message.Kind
LIMITS = Limits(recovery_messages_max=100, recovery_bytes_max=1000)


def forming(same_log: bool = True, limits: Limits = LIMITS, **start: Any) -> Forming:
    wanted = json_format.ParseDict({"subject": "/a", **start}, client_pb2.Subscription())
    return Forming(wanted, same_log, limits)


def told(one: Forming) -> dict[str, Any]:
    assert one.state is not None
    return json_format.MessageToDict(one.state) | {"start": one.start}


def test_without_a_start_the_position_is_the_head() -> None:
    one = forming()
    assert one.watched(17, 3) is None
    assert told(one) == {"subject": "/a", "seq": "17", "start": 17}
    assert one.begin == Begin("/a", 17, (), Kind.HISTORY, synced=False)


def test_a_subject_without_messages_has_a_position() -> None:
    one = forming()
    one.watched(0, 0)
    assert one.start == 0 and one.state is not None and one.state.seq == 0


def test_what_was_missed_is_recovered_whole() -> None:
    one = forming(afterSeq="7")
    assert one.watched(10, 2) == ReadHistory("/a", 7, 10)
    backlog = entries("/a", 8, 10)
    assert one.read(Read(backlog, 10, 2)) is None
    assert told(one) == {"subject": "/a", "seq": "10", "recovered": True, "start": 7}
    assert one.begin == Begin("/a", 10, backlog, Kind.RECOVERED, synced=True)


def test_messages_above_the_watched_head_come_live() -> None:
    one = forming(afterSeq="7")
    one.watched(10, 2)
    one.read(Read(entries("/a", 8, 13), 13, 2))
    assert one.begin == Begin("/a", 10, entries("/a", 8, 10), Kind.RECOVERED, synced=True)


def test_nothing_missed_is_recovered_without_reading() -> None:
    one = forming(afterSeq="10")
    assert one.watched(10, 2) is None
    assert told(one) == {"subject": "/a", "seq": "10", "recovered": True, "start": 10}
    assert one.begin == Begin("/a", 10, (), Kind.RECOVERED, synced=True)


def test_recovery_from_the_floor_itself_is_whole() -> None:
    assert forming(afterSeq="2").watched(10, 2) == ReadHistory("/a", 2, 10)


@pytest.mark.parametrize(
    ("after", "same_log", "head", "floor", "reason"),
    [
        ("1", True, 10, 2, "TRIMMED"),
        ("1", False, 10, 2, "LOG_REPLACED"),
        ("99", False, 10, 2, "LOG_REPLACED"),
        ("1", True, 102, 0, "TOO_MANY"),
        (str(1 << 63), True, 10, 2, "AHEAD"),
    ],
)
def test_what_cannot_be_recovered_says_why_before_reading(
    after: str, same_log: bool, head: int, floor: int, reason: str
) -> None:
    one = forming(same_log, afterSeq=after)
    assert one.watched(head, floor) is None
    expected = {"subject": "/a", "seq": str(head), "recovered": False, "reason": reason}
    assert told(one) == expected | {"start": head}
    assert one.begin == Begin("/a", head, (), Kind.RECOVERED, synced=False)


def test_a_position_above_the_head_is_looked_up_in_the_store() -> None:
    one = forming(afterSeq="12")
    assert one.watched(10, 2) == ReadHistory("/a", 12, 12, fresh=True)
    one.read(Read((), 10, 2))
    assert told(one) == {
        "subject": "/a", "seq": "10", "recovered": False, "reason": "AHEAD", "start": 10,
    }  # fmt: skip


def test_an_edge_behind_its_client_recovers_nothing_twice() -> None:
    one = forming(afterSeq="12")
    one.watched(10, 2)
    one.read(Read(entries("/a", 13, 14), 14, 2))
    assert told(one) == {"subject": "/a", "seq": "12", "recovered": True, "start": 12}
    assert one.begin == Begin("/a", 12, (), Kind.RECOVERED, synced=True)


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (Read(entries("/a", 9, 10), 10, 8), "TRIMMED"),  # trimmed since the watch
        (Read(entries("/a", 8, 9), 10, 2), "TOO_MANY"),  # cut at the store's bytes
        (Read((), 10, 2), "TOO_MANY"),
        (Read([entry("/a", seq, text="x" * 400) for seq in (8, 9, 10)], 10, 2), "TOO_MANY"),
    ],
)
def test_a_partial_read_is_never_replayed(read: Read, reason: str) -> None:
    one = forming(afterSeq="7")
    one.watched(10, 2)
    assert one.read(read) is None
    assert one.begin == Begin("/a", 10, (), Kind.RECOVERED, synced=False)
    assert told(one)["reason"] == reason


def test_history_is_the_newest_n_and_owed_to_nobody() -> None:
    one = forming(history=3)
    assert one.watched(10, 2) == ReadHistory("/a", 7, 10)
    one.read(Read(entries("/a", 8, 11), 11, 2))
    assert told(one) == {"subject": "/a", "seq": "10", "start": 10}
    assert one.begin == Begin("/a", 10, entries("/a", 8, 10), Kind.HISTORY, synced=True)


def test_history_begins_at_the_floor() -> None:
    assert forming(history=50).watched(10, 6) == ReadHistory("/a", 6, 10)


def test_history_of_an_empty_subject_is_synced_at_once() -> None:
    one = forming(history=5)
    assert one.watched(0, 0) is None
    assert one.begin == Begin("/a", 0, (), Kind.HISTORY, synced=True)


def test_history_is_read_on_where_a_page_ended() -> None:
    one = forming(history=6)
    one.watched(10, 0)
    assert one.read(Read(entries("/a", 5, 7), 10, 0)) == ReadHistory("/a", 7, 10)
    assert one.read(Read(entries("/a", 8, 10), 10, 0)) is None
    assert one.begin is not None and [e.seq for e in one.begin.backlog] == [5, 6, 7, 8, 9, 10]


def test_history_larger_than_a_recovery_keeps_the_newest() -> None:
    one = forming(history=4)
    one.watched(10, 0)
    one.read(Read([entry("/a", seq, text="x" * 250) for seq in range(7, 11)], 10, 0))
    assert one.begin is not None and one.begin.backlog[-1].seq == 10
    assert len(one.begin.backlog) < 4


def test_a_snapshot_is_the_retained_message_and_the_position_is_the_head() -> None:
    one = forming(snapshot=True)
    assert one.watched(17, 9) == ReadRetained("/a")
    retained = entry("/a", 4)  # older than what the log keeps
    assert one.read(Read([retained])) is None
    assert told(one) == {"subject": "/a", "seq": "17", "start": 17}
    assert one.begin == Begin("/a", 17, (retained,), Kind.SNAPSHOT, synced=True)


def test_a_subject_without_a_retained_message_has_nothing_to_show() -> None:
    one = forming(snapshot=True)
    one.watched(17, 3)
    assert one.read(Read([])) is None
    assert one.begin == Begin("/a", 17, (), Kind.SNAPSHOT, synced=True)


def test_a_message_retained_while_forming_comes_live_and_not_first_too() -> None:
    one = forming(snapshot=True)
    one.watched(17, 3)
    one.read(Read([entry("/a", 18)]))
    assert one.begin == Begin("/a", 17, (), Kind.SNAPSHOT, synced=True)
    last = forming(snapshot=True)
    last.watched(18, 3)
    last.read(Read([entry("/a", 18)]))
    assert last.begin is not None and len(last.begin.backlog) == 1


def test_a_snapshot_that_is_not_wanted_is_no_start_at_all() -> None:
    one = forming(snapshot=False)
    assert one.watched(17, 3) is None
    assert one.begin == Begin("/a", 17, (), Kind.HISTORY, synced=False)
