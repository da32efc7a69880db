"""What a routing file makes of messages, through a whole presence service and real plugins."""

from collections import Counter

import pytest
from onward.presence.v1 import users_pb2

from services.chassis.subjects import partition_of
from services.presence import timers
from services.presence.state import Standing
from tests.presence.stage import PARTITIONS, Client, FakePlugin, Stage, staged
from tests.waiting import until

MAIL, PHONE = "mailto:ann@example.org", "tel:+491700000000"
LOUD = """
routes:
  - {subject: /always/*, policy: always}
  - {subject: /own/*, policy: endpoint}
"""


def routing(tmp_path, text: str) -> dict[str, str]:
    path = tmp_path / "routing.yaml"
    path.write_text(text)
    return {"routing": str(path)}


def both() -> FakePlugin:
    return FakePlugin(mailto=True, tel=True)


def sent(plugin: FakePlugin) -> Counter[tuple[str, str, int]]:
    """What was handed over: (user, endpoint, last seq)."""
    return Counter((one.user, one.endpoint, one.last_seq) for one in plugin.deliveries)


async def nothing_open(stage: Stage) -> bool:
    def is_done(tx) -> bool:
        busy = {"pending", "held", "retry", "sending"} & set(tx.counts().deliveries)
        return not busy and not tx.open_handovers(1) and not tx.open_fanouts(1)

    return await stage.store.read(is_done)


def test_always_tells_those_online_and_those_who_have_it_once(run, tmp_path, store_settings):
    async def claim():
        plugin = both()
        files = routing(tmp_path, LOUD)
        async with staged(tmp_path, plugin, **files, **store_settings) as stage:
            ann, carl, bob = (Client(stage.log, name) for name in ("ann", "carl", "bob"))
            ann.connect("/always/1", endpoints=[MAIL])
            carl.connect("/always/1", endpoints=["mailto:carl@example.org"])
            bob.connect("/always/1", endpoints=["mailto:bob@example.org"])
            await stage.report()
            stage.log.publish("/always/1", "to all")
            stage.log.mark("/always/1", 7, 2)
            await stage.report()
            await until(lambda: len(plugin.deliveries) == 2)
            # Whoever goes later is not told again.
            ann.disconnect()
            carl.disconnect()
            await stage.report()
            await until(lambda: nothing_open(stage))
            assert sent(plugin) == {
                ("ann", MAIL, 1): 1,
                ("carl", "mailto:carl@example.org", 1): 1,
            }
            assert await stage.states("bob", "/always/1") == ["SUPPRESSED"]

    run(claim())


@pytest.mark.parametrize("pages", [2, 200])
def test_always_reaches_a_crowd_larger_than_one_page(run, tmp_path, store_settings, pages):
    async def claim():
        plugin = both()
        files = routing(tmp_path, LOUD)
        async with staged(
            tmp_path, plugin, fanout_users_max=pages, **files, **store_settings
        ) as stage:
            for number in range(7):
                fan = Client(stage.log, f"fan{number}")
                fan.connect("/always/1", endpoints=[f"mailto:fan{number}@example.org"])
                if number % 2:
                    fan.disconnect()
            await stage.report()
            stage.log.publish("/always/1", "to all")
            await stage.report()
            await until(lambda: len(plugin.deliveries) >= 7)
            await until(lambda: nothing_open(stage))
            assert set(sent(plugin).values()) == {1}
            assert len(sent(plugin)) == 7

    run(claim())


def test_who_is_found_following_only_after_the_message_is_told_of_it(run, tmp_path, store_settings):
    async def claim():
        plugin = both()
        files = routing(tmp_path, LOUD)
        async with staged(tmp_path, plugin, **files, **store_settings) as stage:
            stage.log.publish("/always/1", "before the follow took effect")
            await stage.report()
            ann = Client(stage.log, "ann")
            ann.connect("/always/1", start=0, endpoints=[MAIL])
            await stage.report()
            await until(lambda: sent(plugin) == {("ann", MAIL, 1): 1})

    run(claim())


def test_an_endpoint_is_silenced_by_its_own_clients_alone(run, tmp_path, store_settings):
    async def claim():
        plugin = both()
        files = routing(tmp_path, LOUD)
        async with staged(tmp_path, plugin, collapse_s=0.0, **files, **store_settings) as stage:
            desktop, phone = Client(stage.log, "ann", "desktop"), Client(stage.log, "ann", "phone")
            desktop.connect("/own/1", endpoints=[MAIL])
            phone.connect("/own/1", endpoints=[PHONE])
            await stage.report()
            phone.disconnect()
            await stage.report()
            await until(lambda: offline(stage, "ann", "phone"))
            stage.log.publish("/own/1", "ring")
            await stage.report()
            await until(lambda: sent(plugin) == {("ann", PHONE, 1): 1})
            stage.log.mark("/own/1", 7, 2)
            await stage.report()
            await until(lambda: nothing_open(stage))
            assert sent(plugin) == {("ann", PHONE, 1): 1}, "the desktop has it, and is not told"
            stage.log.publish("/own/1", "both are away")
            desktop.disconnect()
            await stage.report()
            await until(lambda: ("ann", MAIL, 2) in sent(plugin))

    run(claim())


async def offline(stage: Stage, user: str, client: str) -> bool:
    state_now = await stage.store.read(lambda tx: tx.load_user(user))
    return state_now.registers[client].standing is Standing.OFFLINE


def test_what_is_urgent_does_not_wait_and_what_has_expired_is_not_sent(
    run, tmp_path, store_settings
):
    async def claim():
        plugin = both()
        urgent = "routes:\n  - {subject: /*, headers: {kind: alarm}, priority: urgent}"
        files = routing(tmp_path, urgent)
        async with staged(tmp_path, plugin, **files, **store_settings) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=[MAIL])
            ann.disconnect()
            await stage.report()
            await until(lambda: offline(stage, "ann", "ann-1"))
            stage.log.publish("/a", "first")
            await stage.report()
            await until(lambda: len(plugin.deliveries) == 1)
            stage.log.publish("/a", "waits, since one was just sent")
            stage.log.publish("/a", "too late", expires_at="2001-01-01T00:00:00Z")
            stage.log.publish("/a", "now", kind="alarm")
            await stage.report()
            await until(lambda: len(plugin.deliveries) == 2)
            assert [one.last_seq for one in plugin.deliveries] == [1, 4]
            assert await stage.states("ann", "/a") == [
                "NOTIFIED",
                "PENDING",
                "SUPPRESSED",
                "NOTIFIED",
            ]

    run(claim())


def test_an_idle_client_silences_nothing_and_one_that_is_looked_at_again_does(
    run, tmp_path, store_settings
):
    async def claim():
        plugin = both()
        async with staged(
            tmp_path, plugin, away_after_s=0.05, collapse_s=0.0, **store_settings
        ) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=[MAIL])
            ann.set_activity(False)
            await stage.report()

            async def is_away() -> bool:
                state_now = await stage.store.read(lambda tx: tx.load_user("ann"))
                return state_now.registers["ann-1"].away

            await until(is_away)
            stage.log.publish("/a", "nobody looks")
            await stage.report()
            await until(lambda: sent(plugin) == {("ann", MAIL, 1): 1})
            ann.set_activity(True)
            stage.log.publish("/a", "somebody looks")
            stage.log.mark("/a", 7, 2)
            await stage.report()
            await until(lambda: nothing_open(stage))
            assert sent(plugin) == {("ann", MAIL, 1): 1}

    run(claim())


def test_clients_that_cannot_be_left_alone_yet_keep_nobody_waiting(run, tmp_path, monkeypatch):
    """More than a page of them, and longer idle: their events are not processed."""
    monkeypatch.setattr(timers, "_PAGE", 3)

    async def claim():
        async with staged(tmp_path, away_after_s=0.05) as stage:
            users = [f"fan{number}" for number in range(40)]
            blocked = partition_of(users[0], PARTITIONS)
            held = [user for user in users if partition_of(user, PARTITIONS) == blocked]
            [free, *_] = [user for user in users if user not in held]
            assert len(held) > 3
            for user in (*held, free):
                client = Client(stage.log, user)
                client.connect("/a")
                client.set_activity(False)
                await stage.report()
            # Something stands in the log that is not reported.
            Client(stage.log, held[0], "late").connect("/a")

            async def is_away() -> bool:
                state_now = await stage.store.read(lambda tx: tx.load_user(free))
                return any(one.away for one in state_now.registers.values())

            await until(is_away)
            for user in held:
                state_now = await stage.store.read(lambda tx, u=user: tx.load_user(u))
                assert not any(one.away for one in state_now.registers.values())

    run(claim())


def test_the_crowd_of_a_dead_edge_has_the_time_to_return(run, tmp_path, store_settings):
    async def claim():
        async with staged(
            tmp_path, returns_per_s=0.5, grace_dead_edge_s=1.0, **store_settings
        ) as stage:
            for number in range(10):
                Client(stage.log, f"fan{number}").connect("/a")
            await stage.report()
            before = await stage.store.read(lambda tx: tx.now())
            stage.live_edges.clear()
            stage.workers.sweep_soon()
            await until(lambda: all_in_grace(stage, 10))
            ends = await stage.store.read(lambda tx: tx.next_grace())
            assert ends is not None
            assert ends >= before + 1.0 + 10 / 0.5

    run(claim())


async def all_in_grace(stage: Stage, count: int) -> bool:
    counts = await stage.store.read(lambda tx: tx.counts())
    return counts.clients_in_grace == count


def test_categories_that_a_publisher_makes_up_do_not_keep_messages_apart(
    run, tmp_path, store_settings
):
    async def claim():
        plugin = FakePlugin(mailto=True)
        async with staged(tmp_path, plugin, collapse_s=1.0, **store_settings) as stage:
            ann, carl = Client(stage.log, "ann"), Client(stage.log, "carl")
            for one in (ann, carl):
                one.connect("/a", endpoints=[f"mailto:{one.user}@example.org"])
                one.disconnect()
            await stage.report()
            said = users_pb2.Preference(category="c5", allowed=True)
            await stage.users.UpdateProfile(
                users_pb2.UpdateProfileRequest(
                    user="carl",
                    profile=users_pb2.UserProfile(preferences=[said]),
                    parts=["preferences"],
                ),
                timeout=20,
            )
            for n in range(10):
                stage.log.publish("/a", "hello", category=f"c{n}")
            await stage.report()
            await until(lambda: sum(one.count for one in plugin.deliveries) == 20)
            told = {
                user: sorted(one.count for one in plugin.deliveries if one.user == user)
                for user in ("ann", "carl")
            }
            # To carl the sixth means something, and so it is told by itself.
            assert (sum(told["ann"]), sum(told["carl"])) == (10, 10)
            assert len(told["ann"]) <= 2
            assert len(told["carl"]) <= 3
            alone = [one for one in plugin.deliveries if one.category == "c5"]
            assert [(one.user, one.count) for one in alone] == [("carl", 1)]
            # What is of several categories has none; the first, sent at once, may be alone.
            joined = [one for one in plugin.deliveries if one.count > 1]
            assert joined
            assert {one.category for one in joined} == {""}

    run(claim())
