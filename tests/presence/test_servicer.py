"""The whole path through a presence service: events and messages in, notifications out."""

import asyncio
from dataclasses import replace

import grpc
import grpc.aio
import pytest
from onward.presence.v1 import presence_pb2
from onward.types.v1 import entry_pb2

from services.presence.servicer import chunks
from tests.presence.stage import Client, FakePlugin, staged
from tests.waiting import until

MAIL = "mailto:ann@example.org"


async def gone(stage, subject="/a", acked=0) -> Client:
    """Ann follows the subject, has an e-mail address, and is offline."""
    ann = Client(stage.log, "ann")
    ann.connect(subject, endpoints=[MAIL])
    ann.disconnect(**{subject[1:]: acked})
    await stage.report()
    await until(lambda: offline(stage))
    return ann


async def offline(stage, user="ann") -> bool:
    state = await stage.store.read(lambda tx: tx.load_user(user))
    return all(r.standing.value == "offline" for r in state.registers.values()) and not (
        state.handovers
    )


def test_messages_missed_in_the_grace_are_one_notification(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=[MAIL])
            stage.log.publish("/a", "one")
            ann.disconnect(a=1)
            for text in ("two", "three", "four"):
                stage.log.publish("/a", text)
            await stage.report()
            await until(lambda: plugin.calls)
            [delivery] = plugin.deliveries
            assert (delivery.endpoint, delivery.user, delivery.subject) == (MAIL, "ann", "/a")
            assert (delivery.first_seq, delivery.last_seq, delivery.count) == (2, 4, 3)
            assert [message.text for message in delivery.messages] == ["two", "three", "four"]
            await until(lambda: settled(stage))
            assert await stage.states("ann", "/a") == ["ACKNOWLEDGED", *["NOTIFIED"] * 3]
            await asyncio.sleep(0.1)
            assert len(plugin.calls) == 1

    run(claim())


async def settled(stage) -> bool:
    return not await stage.store.read(
        lambda tx: tx.db.rows("SELECT 1 FROM deliveries WHERE state = 'sending'")
    )


def test_a_live_message_reaches_who_is_offline_without_reading_the_log(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            await gone(stage)
            reads = stage.log.reads
            stage.log.publish("/a", "hello")
            await stage.report()
            await until(lambda: plugin.calls)
            assert [m.text for m in plugin.deliveries[0].messages] == ["hello"]
            assert stage.log.reads == reads

    run(claim())


def test_later_messages_wait_for_the_collapse_time_and_go_together(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, collapse_s=0.4) as stage:
            await gone(stage)
            stage.clock.halt()
            for _ in range(4):
                stage.log.publish("/a", "x")
                await stage.report()
                await until(lambda: plugin.calls)
            stage.clock.go_on()
            await until(lambda: len(plugin.calls) == 2)
            assert [(d.first_seq, d.last_seq, d.count) for d in plugin.deliveries] == [
                (1, 1, 1),
                (2, 4, 3),
            ]

    run(claim())


def test_a_return_within_the_grace_sends_nothing(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, grace_s=0.2) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=[MAIL])
            ann.disconnect(a=0)
            stage.log.publish("/a", "one")
            stage.clock.halt()
            await stage.report()
            ann.connect("/a", start=0)
            await stage.report()
            stage.clock.go_on()
            await asyncio.sleep(0.4)
            assert plugin.calls == []
            assert await stage.states("ann", "/a") == ["ANSWERED_FOR"]

    run(claim())


def test_a_grace_does_not_end_before_a_return_that_the_log_has_is_processed(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=[MAIL])
            ann.disconnect(a=0)
            stage.log.publish("/a", "one")
            before = stage.log.request()
            ann.connect("/a", start=0)  # in the log, and not reported
            await stage.report(before)
            await asyncio.sleep(0.3)
            state = await stage.store.read(lambda tx: tx.load_user("ann"))
            assert state.registers["ann-1"].standing.value == "grace"
            await stage.report()
            await asyncio.sleep(0.2)
            assert plugin.calls == []

    run(claim())


def test_what_is_pending_is_held_on_return_and_cancelled_when_acknowledged(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, collapse_s=0.3) as stage:
            ann = await gone(stage)
            stage.log.publish("/a", "one")
            stage.clock.halt()
            await stage.report()
            await until(lambda: plugin.calls)
            stage.log.publish("/a", "two")
            await stage.report()
            ann.connect("/a", start=1)
            await stage.report()
            stage.clock.go_on()
            await until(lambda: states_are(stage, "NOTIFIED", "HELD"))
            stage.log.mark("/a", edge_id=7, round_=2)
            await stage.report()
            await until(lambda: states_are(stage, "NOTIFIED", "ACKNOWLEDGED"))
            assert len(plugin.calls) == 1

    run(claim())


async def states_are(stage, *states: str) -> bool:
    return await stage.states("ann", "/a") == list(states)


def test_a_hold_without_acknowledgement_ends(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [3]  # RETRY: it is due again while ann is back
        async with staged(tmp_path, plugin, hold_max_s=0.3, retry_first_s=0.2) as stage:
            ann = await gone(stage)
            stage.log.publish("/a", "one")
            await stage.report()
            await until(lambda: plugin.calls)
            ann.connect("/a", start=0)
            await stage.report()
            await until(lambda: len(plugin.calls) == 2)
            assert [d.attempt for d in plugin.deliveries] == [1, 2]

    run(claim())


def test_back_and_gone_again_before_reading_is_notified_once(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=[MAIL])
            ann.disconnect(a=0)
            stage.log.publish("/a", "one")
            ann.connect("/a", start=0)
            ann.disconnect(a=0)
            await stage.report()
            await until(lambda: plugin.calls)
            await until(lambda: offline(stage))
            assert [d.count for d in plugin.deliveries] == [1]

    run(claim())


def test_an_own_message_and_a_missing_endpoint_are_suppressed_with_their_reasons(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a")
            ann.disconnect()
            await stage.report()
            await until(lambda: offline(stage))
            stage.log.publish("/a", "mine", publisher="ann")
            stage.log.publish("/a", "yours")
            await stage.report()
            story = await stage.explain("ann", "/a")
            assert [outcome.reason for outcome in story.outcomes] == ["PUBLISHER", "NO_ENDPOINT"]
            kept = await stage.store.read(lambda tx: tx.suppressions("ann", "/a", 10))
            assert sorted((s.reason, s.from_seq, s.count) for s in kept) == [
                ("NO_ENDPOINT", 2, 1),
                ("PUBLISHER", 1, 1),
            ]

    run(claim())


def test_messages_of_an_ended_follow_are_suppressed(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=[MAIL])
            stage.log.publish("/a", "unread")
            ann.unfollow("/a", acked=0)
            await stage.report()
            await until(lambda: states_are(stage, "SUPPRESSED"))
            [outcome] = (await stage.explain("ann", "/a")).outcomes
            assert outcome.reason == "UNSUBSCRIBED"

    run(claim())


def test_a_long_backlog_is_decided_one_by_one_up_to_the_bound_and_the_rest_as_one(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, handover_messages_max=5) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=[MAIL])
            ann.disconnect(a=0)
            for number in range(1, 31):
                stage.log.publish("/a", f"m{number}")
            await stage.report()
            await until(lambda: plugin.calls)
            [delivery] = plugin.deliveries
            assert (delivery.first_seq, delivery.last_seq, delivery.count) == (1, 30, 30)
            assert [m.text for m in delivery.messages] == [f"m{n}" for n in range(21, 31)]
            rows = await stage.store.read(lambda tx: tx.decided_in("ann", "/a", 1, 30))
            assert [(row.span.from_seq, row.span.to_seq) for row in rows] == [
                *[(n, n) for n in range(1, 6)],
                (6, 30),
            ]

    run(claim())


def test_a_trimmed_backlog_is_one_record(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=[MAIL])
            ann.disconnect(a=0)
            for _ in range(4):
                stage.log.publish("/a", "x")
            stage.log.floors["/a"] = 3
            await stage.report()
            await until(lambda: plugin.calls)
            rows = await stage.store.read(lambda tx: tx.decided_in("ann", "/a", 1, 4))
            assert [(r.span.from_seq, r.span.to_seq, r.reason) for r in rows] == [
                (1, 3, "TRIMMED"),
                (4, 4, ""),
            ]

    run(claim())


def test_a_crowd_is_decided_page_by_page_each_user_once(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, fanout_users_max=3) as stage:
            for number in range(10):
                fan = Client(stage.log, f"fan{number}")
                fan.connect("/a", endpoints=[f"mailto:fan{number}@example.org"])
                fan.disconnect()
            await stage.report()
            await until(lambda: everybody_waits(stage, 10))
            stage.log.publish("/a", "to all")
            await stage.report()
            await until(lambda: len(plugin.deliveries) == 10)
            assert len({delivery.user for delivery in plugin.deliveries}) == 10
            assert await stage.store.read(lambda tx: tx.open_fanouts(1)) == []

    run(claim())


async def everybody_waits(stage, count: int) -> bool:
    users = await stage.store.read(lambda tx: tx.users_waiting("/a"))
    handovers = await stage.store.read(lambda tx: tx.open_handovers(1))
    return len(users) == count and not handovers


def test_clients_of_a_dead_edge_go_offline_and_marks_still_speak_for_them(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            ann = Client(stage.log, "ann", edge_id=9)
            stage.live_edges.add(9)
            ann.connect("/a", endpoints=[MAIL])
            stage.log.publish("/a", "read")
            stage.log.mark("/a", edge_id=9, round_=2)
            stage.log.publish("/a", "unread")
            await stage.report()
            await asyncio.sleep(0.15)
            assert not await offline(stage)
            stage.live_edges.discard(9)
            await until(lambda: plugin.calls)
            [delivery] = plugin.deliveries
            assert [message.text for message in delivery.messages] == ["unread"]
            assert (await stage.states("ann", "/a"))[0] == "ACKNOWLEDGED"

    run(claim())


def test_entries_reported_again_change_nothing(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            await gone(stage)
            stage.log.publish("/a", "once")
            request = stage.log.request()
            for partition in request.partitions:
                del partition.entries[:]
                partition.entries.extend(stage.log.entries[partition.partition])
            for _ in range(3):
                await stage.presence.Report(request)
            await until(lambda: plugin.calls)
            await asyncio.sleep(0.1)
            assert len(plugin.deliveries) == 1

    run(claim())


def test_seqs_beyond_all_bounds_take_effect_and_hold_nothing_up(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", start=2**64 - 1)
            ann.unfollow("/a", 2**64 - 1)
            ann.connect("/a", start=2**64 - 1)
            ann.disconnect(a=2**64 - 1)
            await stage.report()
            for partition, log in stage.log.entries.items():
                assert stage.log.cursors[partition] == len(log)

    run(claim())


def test_a_hole_is_not_applied_and_the_cursor_says_so(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            for text in ("1", "2", "3"):
                stage.log.publish("/a", text)
            request = stage.log.request()
            [partition] = request.partitions
            del partition.entries[1]
            response = await stage.presence.Report(request)
            assert [cursor.pos for cursor in response.cursors] == [1]

    run(claim())


def test_entries_of_a_deposed_owner_are_not_applied(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            stage.log.publish("/a", "1")
            request = stage.log.request()
            request.partitions[0].epoch = 5
            await stage.presence.Report(request)
            stage.log.publish("/a", "2")
            request = stage.log.request()
            request.partitions[0].epoch = 4
            response = await stage.presence.Report(request)
            assert [cursor.pos for cursor in response.cursors] == [1]

    run(claim())


def test_another_log_is_refused(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            await stage.presence.Report(presence_pb2.ReportRequest(log_id="log-1"))
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stage.presence.Report(presence_pb2.ReportRequest(log_id="log-2"))
            assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION

    run(claim())


def test_a_presence_that_was_deposed_takes_nothing(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            # As if another process had closed the term since.
            stage.store.mine = replace(stage.store.mine, term=99_999)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stage.presence.Report(stage.log.request())
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE

    run(claim())


def test_a_restart_between_the_two_steps_of_a_handover_resumes_it(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=[MAIL])
            ann.disconnect(a=0)
            stage.log.publish("/a", "one")
            stage.log.messages_down = True
            await stage.report()
            await until(lambda: has_handover(stage))
            await stage.restart()
            stage.log.messages_down = False
            await until(lambda: plugin.calls)
            assert [delivery.count for delivery in plugin.deliveries] == [1]
            assert not await has_handover(stage)

    run(claim())


def test_a_restart_sends_what_was_pending_and_nothing_twice(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, plugins_wait_s=30) as stage:
            await until(lambda: stage.workers.plugins.routes())
            await plugin.stop()
            await gone(stage)
            stage.log.publish("/a", "one")
            await stage.report()
            await stage.restart()
            assert await stage.states("ann", "/a") == ["PENDING"]
            await plugin.start()
            await until(lambda: states_are(stage, "NOTIFIED"))
            await stage.restart()
            await asyncio.sleep(0.1)
            assert len(plugin.calls) == 1

    run(claim())


def test_a_notification_waits_while_its_messages_cannot_be_read(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, plugins_wait_s=30) as stage:
            await until(lambda: stage.workers.plugins.routes())
            await plugin.stop()
            await gone(stage)
            stage.log.publish("/a", "one")
            await stage.report()
            await stage.restart()  # forgets the message that was just reported
            stage.log.messages_down = True
            await plugin.start()
            await asyncio.sleep(0.2)
            assert plugin.calls == []
            stage.log.messages_down = False
            await until(lambda: plugin.calls)
            [delivery] = plugin.deliveries
            assert (delivery.attempt, [m.text for m in delivery.messages]) == (1, ["one"])

    run(claim())


async def has_handover(stage) -> bool:
    return bool(await stage.store.read(lambda tx: tx.open_handovers(1)))


def test_explain_checks_its_arguments(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            for user, subject, seq in (("", "/a", 0), ("ann", "a", 0), ("ann", "/a", 2**64 - 1)):
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await stage.explain(user, subject, seq)
                assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(claim())


def test_a_report_is_cut_into_pieces_of_bounded_size():
    def part(partition: int, *positions: int) -> presence_pb2.PartitionEntries:
        entries = [entry_pb2.Entry(pos=pos) for pos in positions]
        return presence_pb2.PartitionEntries(partition=partition, epoch=1, entries=entries)

    def cut(*parts, entries_max=3):
        return [
            [(piece.partition, [entry.pos for entry in piece.entries]) for piece in chunk]
            for chunk in chunks(parts, entries_max)
        ]

    assert cut() == [[]]
    assert cut(part(1), part(2)) == [[(1, []), (2, [])]]
    assert cut(part(1, 1, 2, 3)) == [[(1, [1, 2, 3])]]
    assert cut(part(1, 1, 2), part(2, 5, 6, 7, 8, 9)) == [
        [(1, [1, 2]), (2, [5])],
        [(2, [6, 7, 8])],
        [(2, [9])],
    ]


def test_a_large_report_takes_effect_whole(run, tmp_path):
    async def claim():
        async with staged(tmp_path, report_entries_max=7) as stage:
            for _ in range(50):
                stage.log.publish("/a", "x")
                stage.log.publish("/b", "x")
            await stage.report()
            for partition, log in stage.log.entries.items():
                assert stage.log.cursors[partition] == len(log)

    run(claim())


def test_a_connect_that_is_processed_after_its_edge_died_ends_too(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            await asyncio.sleep(0.1)  # a look for dead edges has passed
            ann = Client(stage.log, "ann", edge_id=9)
            ann.connect("/a", endpoints=[MAIL])
            stage.log.publish("/a", "never read")
            await stage.report()
            await until(lambda: plugin.calls)

    run(claim())
