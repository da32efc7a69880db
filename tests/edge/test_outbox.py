from typing import Any

import pytest
from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Code, Refusal
from services.edge.outbox import (
    NOT_OWNER_FIRST_RETRY_S,
    NOT_OWNER_RETRY_S,
    Outbox,
    OutboxLimits,
    Target,
)

P = 3


def publish(text: str = "x") -> coordinator_pb2.Publish:
    return coordinator_pb2.Publish(
        subject="/a", publication_id=text, content=entry_pb2.Content(text=text)
    )


def owned(limits: OutboxLimits | None = None) -> Outbox:
    """Partition 3 is c1's in epoch 7, and c1's stream is up."""
    outbox = Outbox(limits or OutboxLimits())
    outbox.owner(P, Target("c1", 7), 7)
    outbox.link_up("c1")
    return outbox


def sent(outbox: Outbox, coordinator: str = "c1") -> list[Any]:
    """What the next write holds: (epoch, requests of appends) per partition."""
    batch = outbox.batch(coordinator)
    return [
        (one.epoch, [append.request for append in one.appends])
        for one in (batch.partitions if batch else ())
    ]


def add(outbox: Outbox, now: float = 0.0) -> int:
    request = outbox.publish(P, publish(), now)
    assert isinstance(request, int)
    return request


def test_whatever_queued_goes_in_one_write_and_only_once() -> None:
    outbox = owned()
    requests = [add(outbox), add(outbox)]
    assert list(outbox.waiting()) == ["c1"]
    assert sent(outbox) == [(7, requests)]
    assert sent(outbox) == [] and list(outbox.waiting()) == []
    assert sent(outbox, "c2") == []


def test_without_an_owner_or_a_stream_everything_waits() -> None:
    outbox = Outbox(OutboxLimits())
    request = add(outbox)
    assert list(outbox.waiting()) == []
    outbox.owner(P, Target("c1", 7), 7)
    assert outbox.batch("c1") is None
    outbox.link_up("c1")
    assert sent(outbox) == [(7, [request])]


def test_a_change_of_owner_sends_all_unanswered_in_order_before_anything_newer() -> None:
    outbox = owned()
    first, second = add(outbox), add(outbox)
    sent(outbox)
    third = add(outbox)
    assert outbox.appended(first)
    assert outbox.owner(P, Target("c2", 9), 9)
    assert sent(outbox) == []
    outbox.link_up("c2")
    fourth = add(outbox)
    assert sent(outbox, "c2") == [(9, [second, third, fourth])]


def test_the_same_owner_is_no_change() -> None:
    outbox = owned()
    add(outbox)
    sent(outbox)
    assert not outbox.owner(P, Target("c1", 7), 7)
    assert sent(outbox) == []


def test_a_broken_stream_sends_all_unanswered_again() -> None:
    outbox = owned()
    requests = [add(outbox), add(outbox)]
    sent(outbox)
    assert outbox.link_down("c1") == [P]
    assert outbox.batch("c1") is None
    outbox.link_up("c1")
    assert sent(outbox) == [(7, requests)]


def test_an_owner_that_is_none_is_asked_again_a_little_later() -> None:
    outbox = owned()
    requests = [add(outbox)]
    sent(outbox)
    assert not outbox.not_owner(P, 6, 1.0)  # of an epoch asked before
    assert outbox.not_owner(P, 7, 1.0)
    requests.append(add(outbox))
    assert sent(outbox) == []
    outbox.tick(1.0 + NOT_OWNER_FIRST_RETRY_S / 2)
    assert sent(outbox) == []
    outbox.tick(1.0 + NOT_OWNER_FIRST_RETRY_S)
    assert sent(outbox) == [(7, requests)]


def test_who_goes_on_being_none_is_asked_ever_later_up_to_a_limit() -> None:
    outbox = owned()
    add(outbox)
    waits, now = [], 1.0
    for _ in range(20):
        outbox.not_owner(P, 7, now)
        began, now = now, now + 0.001
        while not sent(outbox):
            now += 0.001
            outbox.tick(now)
        waits.append(round(now - began, 2))
    assert waits[:4] == [0.02, 0.04, 0.08, NOT_OWNER_RETRY_S]
    assert set(waits[4:]) == {NOT_OWNER_RETRY_S}


def test_a_hint_at_a_later_owner_is_followed_at_once_in_order() -> None:
    outbox = owned()
    outbox.link_up("c2")
    requests = [add(outbox), add(outbox)]
    sent(outbox)
    assert outbox.not_owner(P, 7, 1.0, Target("c2", 9))
    assert outbox.epoch(P) == 9
    requests.append(add(outbox))
    assert sent(outbox) == []
    assert sent(outbox, "c2") == [(9, requests)]


@pytest.mark.parametrize(
    "hint",
    [None, Target("c2", 7), Target("c2", 6), Target("c3", 9)],
    ids=["none", "the same term", "an earlier one", "an owner without a stream"],
)
def test_any_other_hint_is_none(hint: Target | None) -> None:
    outbox = owned()
    outbox.link_up("c2")
    request = add(outbox)
    sent(outbox)
    assert outbox.not_owner(P, 7, 1.0, hint)
    assert outbox.epoch(P) == 7
    assert sent(outbox) == sent(outbox, "c2") == []
    outbox.tick(1.0 + NOT_OWNER_RETRY_S)
    assert sent(outbox) == [(7, [request])]


def test_what_etcd_told_before_a_hint_does_not_undo_it_and_what_it_tells_later_does() -> None:
    outbox = owned()
    outbox.link_up("c2")
    request = add(outbox)
    outbox.not_owner(P, 7, 1.0, Target("c2", 9))
    assert sent(outbox, "c2") == [(9, [request])]
    assert not outbox.owner(P, None, 8)  # the key of the former owner has gone
    assert not outbox.owner(P, Target("c2", 9), 9)
    assert sent(outbox, "c2") == []  # nothing is sent twice for that
    assert outbox.owner(P, None, 12)
    assert outbox.epoch(P) == 0


def test_a_hint_across_eras_is_compared_by_the_revision_alone() -> None:
    outbox = owned()
    outbox.link_up("c2")
    later = (1 << 48) | 9
    assert outbox.not_owner(P, 7, 1.0, Target("c2", later))
    assert not outbox.owner(P, None, 8)
    assert outbox.owner(P, None, 9)


def test_a_new_owner_need_not_wait_for_that() -> None:
    outbox = owned()
    request = add(outbox)
    outbox.link_up("c2")
    outbox.not_owner(P, 7, 1.0)
    outbox.owner(P, Target("c2", 9), 9)
    assert sent(outbox, "c2") == [(9, [request])]
    outbox.tick(2.0)
    assert sent(outbox) == [] and sent(outbox, "c2") == []


def test_an_answer_counts_once() -> None:
    outbox = owned()
    request = add(outbox)
    assert outbox.appended(request)
    assert not outbox.appended(request) and not outbox.appended(999)
    assert len(outbox) == 0 and outbox.publish_bytes == 0


def test_a_publish_waits_for_a_bounded_time() -> None:
    outbox = owned(OutboxLimits(publish_wait_s=10))
    early, late = add(outbox, 100.0), add(outbox, 105.0)
    assert outbox.tick(109.9) == []
    assert outbox.tick(110.0) == [early]
    assert sent(outbox) == [(7, [late])]
    assert not outbox.appended(early)
    outbox.appended(late)
    assert outbox.tick(999.0) == []


def test_too_many_or_too_large_publishes_are_refused() -> None:
    outbox = owned(OutboxLimits(publishes_max=2, publish_bytes_max=1000))
    big = outbox.publish(P, publish("x" * 1000), 0.0)
    assert isinstance(big, Refusal) and big.code == Code.OVERLOADED
    add(outbox)
    request = add(outbox)
    full = outbox.publish(P, publish(), 0.0)
    assert isinstance(full, Refusal) and full.code == Code.OVERLOADED
    outbox.appended(request)
    add(outbox)


def test_new_sessions_are_refused_when_too_many_events_wait_but_never_an_end() -> None:
    outbox = owned(OutboxLimits(events_max=1))
    begin, end = entry_pb2.PresenceEvent(), entry_pb2.PresenceEvent()
    begin.connected.SetInParent()
    end.disconnected.SetInParent()
    assert isinstance(outbox.event(P, begin), int)
    assert isinstance(outbox.event(P, begin), Refusal)
    assert isinstance(outbox.event(P, end), int)
    assert outbox.tick(1e9) == []  # an event waits for ever


def test_watches_look_ups_and_awaited_positions_are_sent_again_on_a_new_stream() -> None:
    outbox = owned()
    outbox.watch(P, "/a")
    outbox.watch(P, "/b")
    outbox.unwatch(P, "/b")
    read = outbox.read_client(P, "ann", "c1")
    outbox.await_processed(P, 40)
    outbox.await_processed(P, 50)
    for again in (False, True):
        batch = outbox.batch("c1")
        assert batch is not None
        requests = batch.partitions[0]
        assert [one.subject for one in requests.watches] == ["/a"]
        assert list(requests.unwatches) == ([] if again else ["/b"])
        assert [one.request for one in requests.read_clients] == [read]
        assert list(requests.await_processed) == [40, 50]
        assert outbox.batch("c1") is None
        outbox.link_down("c1")
        outbox.link_up("c1")
    assert outbox.client_read(read) and not outbox.client_read(read)
    outbox.processed(P, 40)
    batch = outbox.batch("c1")
    assert batch is not None and list(batch.partitions[0].await_processed) == [50]
    assert not batch.partitions[0].read_clients


def test_of_many_awaited_positions_the_highest_are_kept() -> None:
    outbox = owned()
    for pos in range(1, 1_201):
        outbox.await_processed(P, pos)
    batch = outbox.batch("c1")
    assert batch is not None
    assert list(batch.partitions[0].await_processed) == list(range(201, 1_201))


def test_a_mark_is_sent_or_dropped_but_never_kept() -> None:
    outbox = Outbox(OutboxLimits())
    assert not outbox.mark(P, entry_pb2.Mark(pos=1))
    outbox = owned()
    assert outbox.mark(P, entry_pb2.Mark(pos=1))
    batch = outbox.batch("c1")
    assert batch is not None and batch.partitions[0].appends[0].mark.pos == 1
    outbox.link_down("c1")
    outbox.link_up("c1")
    assert outbox.batch("c1") is None and len(outbox) == 0


def test_a_large_backlog_goes_in_several_writes_in_order() -> None:
    outbox = owned()
    requests = [add(outbox) for _ in range(12_000)]
    outbox.owner(4, Target("c1", 8), 8)
    outbox.watch(4, "/other")
    written: list[int] = []
    batches = 0
    while (batch := outbox.batch("c1")) is not None:
        batches += 1
        for one in batch.partitions:
            written += [append.request for append in one.appends]
    assert written == requests and batches > 1


def transient(outbox: Outbox, now: float = 0.0) -> int | Refusal:
    message = publish()
    message.transient = True
    return outbox.publish(P, message, now)


def test_a_transient_message_waits_for_no_owner() -> None:
    outbox = Outbox(OutboxLimits())
    for reached in (lambda: None, lambda: outbox.owner(P, Target("c1", 7), 7)):
        reached()
        refused = transient(outbox)
        assert isinstance(refused, Refusal) and refused.code == Code.UNAVAILABLE
    outbox.link_up("c1")
    request = transient(outbox)
    assert sent(outbox) == [(7, [request])]
    outbox.not_owner(P, 7, 1.0)
    assert isinstance(transient(outbox), Refusal)
    assert outbox.tick(1.0) == [request]
    assert len(outbox) == 0 and outbox.publish_bytes == 0


def test_a_transient_message_is_sent_at_most_once_and_keeps_its_place_until_then() -> None:
    outbox = owned()
    first, passing, second = add(outbox), transient(outbox), add(outbox)
    assert sent(outbox) == [(7, [first, passing, second])]
    outbox.link_down("c1")
    outbox.link_up("c1")
    assert sent(outbox) == [(7, [first, second])]
    assert outbox.tick(0.0) == [passing] and outbox.tick(0.0) == []
    assert not outbox.appended(passing)  # an answer that comes late is nobody's


def test_a_transient_message_not_written_yet_is_given_up_too() -> None:
    outbox = owned()
    passing = transient(outbox)
    outbox.owner(P, Target("c2", 9), 9)
    outbox.link_up("c2")
    assert sent(outbox, "c2") == [] and outbox.tick(0.0) == [passing]


def test_an_answered_transient_message_is_over() -> None:
    outbox = owned()
    passing = transient(outbox)
    assert isinstance(passing, int) and outbox.appended(passing)
    outbox.link_down("c1")
    assert outbox.tick(99.0) == []


def test_what_was_watched_and_awaited_in_a_replaced_log_is_of_no_interest() -> None:
    outbox = owned()
    outbox.watch(P, "/a")
    outbox.await_processed(P, 5)
    outbox.batch("c1")
    request = add(outbox)
    outbox.log_replaced()
    batch = outbox.batch("c1")
    assert batch is not None
    assert list(batch.partitions[0].unwatches) == ["/a"]
    outbox.link_down("c1")
    outbox.link_up("c1")
    assert sent(outbox) == [(7, [request])]


def test_events_that_wait_say_nothing_of_positions_in_a_replaced_log() -> None:
    outbox = owned()
    event = entry_pb2.PresenceEvent(user="ann")
    event.disconnected.acked.add(subject="/a", seq=5)
    outbox.event(P, event)
    outbox.log_replaced()
    batch = outbox.batch("c1")
    assert batch is not None
    (append,) = batch.partitions[0].appends
    assert append.presence.disconnected.acked[0].seq == 0


def test_the_fill_is_that_of_the_fullest_part() -> None:
    outbox = owned(OutboxLimits(publishes_max=4, publish_bytes_max=1000, events_max=10))
    assert outbox.fill == 0
    add(outbox)
    assert outbox.fill == 0.25
