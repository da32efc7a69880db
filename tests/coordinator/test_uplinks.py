"""Outboxes, watchers and awaited positions, without a network."""

import asyncio
from typing import Any

import pytest
from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2

from services.chassis.claimants import Owner
from services.coordinator.uplinks import Uplink, Uplinks
from tests.coordinator.harness import Run


def message(seq: int, subject: str = "/a", partition: int = 1) -> entry_pb2.Entry:
    it = entry_pb2.Entry(partition=partition, pos=seq)
    it.message.subject, it.message.seq = subject, seq
    return it


def deliver(uplinks: Uplinks, it: entry_pb2.Entry) -> None:
    uplinks.deliver(it, it.ByteSize())


async def batch(uplink: Uplink) -> coordinator_pb2.UplinkResponse.Batch:
    frame = await asyncio.wait_for(uplink.next(), 2)
    assert frame is not None
    return frame.batch


def watched(subject: str = "/a") -> coordinator_pb2.Watched:
    return coordinator_pb2.Watched(subject=subject)


def test_what_gathers_during_a_write_goes_in_one_frame(run: Run) -> None:
    async def body() -> None:
        uplink = Uplinks(10_000).open(7)
        uplink.add_heartbeat(1)
        assert (await batch(uplink)).heartbeat == 1
        uplink.add_not_owner(1, 5)
        uplink.add_processed(1, 9)
        both = await batch(uplink)
        assert len(both.not_owner) == 1 and len(both.processed) == 1

    run(body())


@pytest.mark.parametrize(
    ("owner", "told"),
    [(None, False), (Owner(4, "c2", "h:1"), False), (Owner(5, "c2", "h:1"), False),
     (Owner(6, "c2", "h:1"), True)],
    ids=["unknown", "earlier", "the same", "later"],
)  # fmt: skip
def test_who_asks_in_vain_is_told_a_later_owner_and_no_other(
    run: Run, owner: Owner | None, told: bool
) -> None:
    async def body() -> None:
        uplink = Uplinks(10_000, owner=lambda partition: owner).open(7)
        uplink.add_not_owner(1, 5)
        [not_owner] = (await batch(uplink)).not_owner
        assert (not_owner.partition, not_owner.epoch) == (1, 5)
        assert not_owner.HasField("owner") is told
        if told:
            hint = not_owner.owner
            assert (hint.coordinator, hint.address, hint.epoch) == ("c2", "h:1", 6)

    run(body())


def test_a_flush_waits_until_everything_was_written(run: Run) -> None:
    async def body() -> None:
        uplinks = Uplinks(10_000)
        uplink = uplinks.open(7)
        uplink.add_heartbeat(1)
        flush = asyncio.create_task(uplinks.flush())
        await batch(uplink)
        await asyncio.sleep(0)
        assert not flush.done(), "taken is not written"
        more: asyncio.Task[Any] = asyncio.create_task(uplink.next())
        await asyncio.wait_for(flush, 2)
        uplink.close()
        assert await more is None

    run(body())


def test_transient_messages_go_to_watchers_that_do_not_lag(run: Run) -> None:
    async def body() -> None:
        uplinks = Uplinks(10_000, transient_max=100)
        lags, reads = uplinks.open(7), uplinks.open(8)
        for uplink in (lags, reads):
            uplinks.watch(uplink.number, 1, watched())
            await batch(uplink)
        lags.add_replaced("x" * 95)
        typing = entry_pb2.Message(subject="/a", publisher="bob")
        uplinks.relay(1, typing)
        uplinks.relay(1, entry_pb2.Message(subject="/b"))
        assert list((await batch(reads)).transients) == [typing]
        assert not (await batch(lags)).transients and uplinks.transients_dropped == 1
        uplinks.relay(1, typing)
        assert list((await batch(lags)).transients) == [typing], "it has caught up"

    run(body())


def test_deliveries_go_to_watchers_of_the_subject_only(run: Run) -> None:
    async def body() -> None:
        uplinks = Uplinks(10_000)
        one, two = uplinks.open(7), uplinks.open(8)
        uplinks.watch(one.number, 1, watched("/a"))
        uplinks.watch(two.number, 1, watched("/b"))
        deliver(uplinks, message(3))
        deliver(uplinks, message(1, "/c"))
        assert [it.pos for it in (await batch(one)).deliveries] == [3]
        assert not (await batch(two)).deliveries
        uplinks.unwatch(one.number, "/a")
        deliver(uplinks, message(4))
        one.add_heartbeat(1)
        assert not (await batch(one)).deliveries

    run(body())


def test_a_closed_stream_and_a_dropped_partition_watch_nothing(run: Run) -> None:
    async def body() -> None:
        uplinks = Uplinks(10_000)
        one, two = uplinks.open(7), uplinks.open(8)
        for uplink in (one, two):
            uplinks.watch(uplink.number, 1, watched())
            uplinks.watch(uplink.number, 2, watched("/b"))
        uplinks.close(one)
        uplinks.drop(1)
        assert two.subjects == {"/b": 2}
        deliver(uplinks, message(1))
        deliver(uplinks, message(1, "/b", 2))
        assert [it.message.subject for it in (await batch(two)).deliveries] == ["/b"]
        assert await one.next() is None

    run(body())


def test_a_stream_that_falls_behind_is_closed_and_keeps_nothing(run: Run) -> None:
    async def body() -> None:
        uplinks = Uplinks(1_000)
        one = uplinks.open(7)
        uplinks.watch(one.number, 1, watched())
        for seq in range(1, 200):
            deliver(uplinks, message(seq))
        assert one.closed
        assert one._batch.ByteSize() == 0, "its last write may be stuck for long"
        await asyncio.wait_for(uplinks.flush(), 2)
        assert await one.next() is None

    run(body())


def test_awaited_positions_are_told_once_when_they_are_passed(run: Run) -> None:
    async def body() -> None:
        uplinks = Uplinks(10_000)
        one = uplinks.open(7)
        for pos in (3, 5, 9):
            uplinks.await_processed(one.number, 1, pos)
        uplinks.processed(1, 2)
        uplinks.processed(2, 99)
        uplinks.processed(1, 6)
        uplinks.processed(1, 7)
        uplinks.await_processed(one.number, 1, 4)
        told = [(it.partition, it.pos) for it in (await batch(one)).processed]
        assert told == [(1, 6), (1, 7)]
        uplinks.processed(1, 9)
        assert [it.pos for it in (await batch(one)).processed] == [9]

    run(body())


def test_awaited_positions_outlive_a_change_of_owner(run: Run) -> None:
    async def body() -> None:
        uplinks = Uplinks(10_000)
        one = uplinks.open(7)
        uplinks.await_processed(one.number, 1, 3)
        uplinks.drop(1)
        uplinks.processed(1, 3)
        assert [it.pos for it in (await batch(one)).processed] == [3]
        uplinks.drop(1)
        uplinks.await_processed(one.number, 1, 3)
        one.add_heartbeat(1)
        assert not (await batch(one)).processed, "the next owner does not know the cursor yet"

    run(body())


def test_too_many_awaited_positions_are_covered_by_the_highest(run: Run) -> None:
    async def body() -> None:
        uplinks = Uplinks(10_000_000)
        one = uplinks.open(7)
        for pos in range(1, 30_001):
            uplinks.await_processed(one.number, 1, pos)
        uplinks.processed(1, 30_000)
        assert [it.pos for it in (await batch(one)).processed] == [30_000]

    run(body())


def asked(*requests: int, epoch: int = 5) -> coordinator_pb2.PartitionRequests:
    appends = [
        coordinator_pb2.Append(request=it, publish=coordinator_pb2.Publish(subject="/a"))
        for it in requests
    ]
    return coordinator_pb2.PartitionRequests(partition=1, epoch=epoch, appends=appends)


def test_nothing_overtakes_what_was_turned_away() -> None:
    uplink = Uplinks(10_000).open(7)
    assert not uplink.overtakes(asked(1))
    uplink.turn_away(asked(1, 2))
    # Written before the edge read that it was turned away; the epoch is owned here by now.
    assert uplink.overtakes(asked(3))
    uplink.turn_away(asked(3))
    assert uplink.overtakes(asked(4))
    # It has read it, and sends everything again.
    assert not uplink.overtakes(asked(1, 2, 3, 4))
    assert not uplink.overtakes(asked(5))


def test_what_was_given_up_holds_nothing_back_for_long() -> None:
    uplink = Uplinks(10_000).open(7)
    uplink.turn_away(asked(1, 2))
    # The edge has given up the first two, and begins with the third.
    assert uplink.overtakes(asked(3))
    uplink.turn_away(asked(3))
    assert not uplink.overtakes(asked(3))


def test_another_epoch_is_asked_from_the_beginning() -> None:
    uplink = Uplinks(10_000).open(7)
    uplink.turn_away(asked(1, 2))
    assert not uplink.overtakes(asked(1, 2, 3, epoch=6))


def test_what_an_edge_does_not_repeat_holds_nothing_back() -> None:
    mark = coordinator_pb2.Append(request=1, mark=entry_pb2.Mark(round=1))
    uplink = Uplinks(10_000).open(7)
    uplink.turn_away(coordinator_pb2.PartitionRequests(partition=1, epoch=5, appends=[mark]))
    assert not uplink.overtakes(asked(2))


def test_an_ending_goes_to_every_edge_and_waits_for_those_that_have_no_stream(run: Run) -> None:
    async def body() -> None:
        uplinks = Uplinks(10_000)
        one, two = uplinks.open(1), uplinks.open(2)
        ending = coordinator_pb2.Ending(user="ann", subjects=["/a"])
        uplinks.end(ending, (2, 3))
        uplinks.end(ending, (3,))
        for uplink in (one, two):
            assert list((await batch(uplink)).endings) == [ending, ending]
        three = uplinks.open(3)
        assert list((await batch(three)).endings) == [ending], "once, though asked for twice"
        uplinks.open(3).add_heartbeat(1)
        assert not uplinks._endings

    run(body())


def test_endings_of_edges_that_stay_away_have_bounds() -> None:
    uplinks = Uplinks(10_000)
    for number in range(1_010):
        uplinks.end(coordinator_pb2.Ending(user=f"u{number}"), (1,))
    assert len(uplinks._endings[1]) == 1_000
    for edge_id in range(2, 300):
        uplinks.end(coordinator_pb2.Ending(user="ann"), (edge_id,))
    assert len(uplinks._endings) == 256 and 1 not in uplinks._endings
