"""How a long backlog is read, and how the rest of it is cut into stretches."""

from services.presence.handovers import stretches
from services.presence.notifications import Span
from services.presence.state import Follow, UserState
from tests.presence.stage import Client, FakePlugin, staged
from tests.waiting import until


def state(*follows: Follow) -> UserState:
    return UserState("ann", follows={follow.key: follow for follow in follows})


def test_without_a_rest_there_is_nothing():
    assert stretches(state(), None) == []


def test_with_one_client_the_rest_is_one_stretch():
    mine = Follow("/a", "c", 1, base=0, acked=5)
    assert stretches(state(mine), Span(101, 500, 900)) == [Span(101, 500, 900)]


def test_it_is_cut_where_another_client_began_and_where_its_acknowledgements_end():
    mine = Follow("/a", "c", 1, base=0, acked=5)
    other = Follow("/a", "d", 2, base=200, acked=300)
    assert stretches(state(mine, other), Span(101, 500, 900)) == [
        Span(101, 200, 900),
        Span(201, 300, 900),
        Span(301, 500, 900),
    ]


def test_cuts_at_its_ends_make_no_empty_stretch():
    other = Follow("/a", "d", 2, base=100, acked=500)
    assert stretches(state(other), Span(101, 500, 900)) == [Span(101, 500, 900)]


MAIL = "mailto:ann@example.org"


def test_a_long_backlog_that_a_mark_covers_is_read_past(run, tmp_path, store_settings):
    """Else the 17 read messages and the 3 unread ones would be one record of 20."""

    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, handover_messages_max=5, **store_settings) as stage:
            stage.live_edges.add(9)
            ann = Client(stage.log, "ann", edge_id=9)
            ann.connect("/a", endpoints=[MAIL])
            for number in range(1, 18):
                stage.log.publish("/a", f"m{number}")
            stage.log.mark("/a", edge_id=9, round_=2)
            for number in range(18, 21):
                stage.log.publish("/a", f"m{number}")
            await stage.report()
            stage.live_edges.discard(9)
            await until(lambda: plugin.calls)
            [delivery] = plugin.deliveries
            assert (delivery.first_seq, delivery.last_seq, delivery.count) == (18, 20, 3)

    run(claim())


def test_a_range_is_told_without_what_was_acknowledged_since(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, handover_messages_max=5) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=[MAIL])
            ann.disconnect(a=0)
            for number in range(1, 21):
                stage.log.publish("/a", f"m{number}")
            # What is due waits for a plugin that does not answer yet.
            await plugin.stop()
            await stage.report()
            await until(lambda: decided(stage, 20))
            ann.connect("/a", start=0)
            ann.disconnect(a=15)
            await stage.report()
            await plugin.start()
            await until(lambda: plugin.calls)
            [delivery] = plugin.deliveries
            assert (delivery.first_seq, delivery.last_seq, delivery.count) == (16, 20, 5)

    run(claim())


async def decided(stage, seq: int) -> bool:
    return bool(await stage.store.read(lambda tx: tx.decided_in("ann", "/a", seq, seq)))


def test_what_is_older_than_the_records_is_not_notified_a_second_time(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, records_keep_s=60, handover_messages_max=3) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=["mailto:ann@example.org"])
            for _ in range(7):
                stage.log.publish("/a", "old", age_s=100)
            stage.log.publish("/a", "new", age_s=10)
            ann.disconnect()
            await stage.report()
            await until(lambda: plugin.deliveries)
            [sent] = plugin.deliveries
            assert (sent.first_seq, sent.count) == (8, 1)
            states = await stage.states("ann", "/a")
            assert states[0] == "SUPPRESSED"
            await until(_notified(stage))

    run(claim())


def _notified(stage):
    async def reached() -> bool:
        return (await stage.states("ann", "/a"))[-1] == "NOTIFIED"

    return reached


def test_what_was_suppressed_for_a_follow_that_had_ended_is_due_to_the_one_that_began_since(
    run, tmp_path, store_settings
):
    """The log of messages is read to its head, that of the user's events is behind."""

    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, collapse_s=0.0, **store_settings) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=["mailto:ann@example.org"])
            ann.unfollow("/a", acked=0)
            held_back = stage.log.request()
            # She follows it again from its head on, and then it is published.
            ann.follow("/a", start=0)
            stage.log.publish("/a", "to a follower")
            # Presence comes to the first events alone, and hands over what they have ended.
            await stage.report(held_back)
            await until(lambda: suppressed(stage))
            await stage.report()
            ann.disconnect()
            await stage.report()
            await until(lambda: [one.last_seq for one in plugin.deliveries] == [1])
            assert await stage.states("ann", "/a") == ["NOTIFIED"]

    async def suppressed(stage) -> bool:
        rows = await stage.store.read(lambda tx: tx.decided_in("ann", "/a", 1, 9))
        return [row.reason for row in rows] == ["UNSUBSCRIBED"]

    run(claim())
