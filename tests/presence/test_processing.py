"""Whom a Report locks: everybody concerned, up to a bound; the rest is decided later."""

from collections import Counter

import pytest

from services.presence import processing
from tests.presence.stage import PARTITIONS, Client, FakePlugin, staged
from tests.waiting import until

SUBJECTS = ("/a", "/b", "/c", "/d")


@pytest.mark.parametrize("users_max", [1, 3, 2_000])
def test_crowds_beyond_the_bound_of_one_transaction_are_decided_once_too(
    run, tmp_path, monkeypatch, store_settings, users_max
):
    monkeypatch.setattr(processing, "_USERS_MAX", users_max)

    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, fanout_users_max=2, **store_settings) as stage:
            for number in range(5):
                fan = Client(stage.log, f"fan{number}")
                fan.connect(*SUBJECTS, endpoints=[f"mailto:fan{number}@example.org"])
                fan.disconnect()
            await stage.report()

            async def everybody_waits() -> bool:
                crowds = await stage.store.read(lambda tx: tx.crowds(SUBJECTS, 9))
                handovers = await stage.store.read(lambda tx: tx.open_handovers(1))
                return {len(users) for users in crowds.values()} == {5} and not handovers

            await until(everybody_waits)
            for subject in SUBJECTS:
                stage.log.publish(subject, "to all")
            await stage.report()
            await until(lambda: len(plugin.deliveries) == 20)
            told = Counter((one.user, one.subject) for one in plugin.deliveries)
            assert set(told.values()) == {1}
            assert await stage.store.read(lambda tx: tx.open_fanouts(1)) == []

    run(claim())


def test_a_token_that_moves_is_cancelled_for_the_user_whom_it_leaves(run, tmp_path, store_settings):
    async def claim():
        async with staged(tmp_path, **store_settings) as stage:
            ann, bob = Client(stage.log, "ann"), Client(stage.log, "bob")
            ann.connect("/a", endpoints=["fcm:abc"])
            await stage.report()
            bob.connect("/a", endpoints=["fcm:abc"])
            await stage.report()
            assert await stage.store.read(lambda tx: tx.users_of(["fcm:abc"])) == ["bob"]

    run(claim())


def test_entries_of_partitions_that_others_have_are_left_to_them(run, tmp_path, store_settings):
    async def claim():
        async with staged(tmp_path, **store_settings) as stage:
            for number in range(20):
                stage.log.publish(f"/{number}", "x")
            await stage.store.release([0, 2])
            request = stage.log.request()
            response = await stage.presence.Report(request)
            assert {one.partition for one in request.partitions} == set(range(PARTITIONS))
            assert {cursor.partition for cursor in response.cursors} == {1, 3}
            assert stage.workers.servicer.blocked == []
            await stage.take([0, 2])
            response = await stage.presence.Report(request)
            assert {cursor.partition for cursor in response.cursors} == set(range(PARTITIONS))

    run(claim())
