"""What a term that is over left to do is done by another."""

import asyncio

from onward.notifier.v1 import notifier_pb2

from services.presence import succession
from tests.presence.stage import Client, FakePlugin, staged
from tests.waiting import until

MAIL = "mailto:ann@example.org"


def test_what_was_claimed_and_not_settled_in_a_term_that_ended_is_unknown_and_goes_on(
    run, tmp_path, store_settings
):
    async def claim():
        plugin = FakePlugin()
        hanging = asyncio.Event()

        async def hang(request, _):
            hanging.set()
            await asyncio.Event().wait()

        plugin.script = [lambda request, context: hang(request, context)]
        async with staged(tmp_path, plugin, **store_settings) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=[MAIL])
            ann.disconnect()
            await stage.report()
            stage.log.publish("/a", "hello")
            await stage.report()
            await hanging.wait()
            await stage.new_term()
            await until(lambda: len(plugin.calls) == 2)
            [again] = plugin.calls[1].deliveries
            assert again.delivery_id == plugin.calls[0].deliveries[0].delivery_id

            async def forgotten() -> bool:
                terms = await stage.store.read(lambda tx: tx.db.rows("SELECT id FROM terms"))
                return terms == [(stage.store.mine.term,)]

            await until(forgotten)

    run(claim())


def test_a_term_without_partitions_whose_member_vanished_is_closed_and_inherited(
    run, tmp_path, monkeypatch, presence_url
):
    monkeypatch.setattr(succession, "_JOIN_S", 0.3)
    monkeypatch.setattr(succession, "_LOOK_EVERY_S", 0.1)

    async def claim():
        plugin = FakePlugin()
        plugin.script = [notifier_pb2.Result.RETRY] * 3
        async with staged(tmp_path, plugin, store=presence_url) as stage:
            there, gone = 5_001, 5_002

            def open_two(tx):
                tx.db.execute("INSERT INTO terms VALUES (?, 'is there', 7, 0)", (there,))
                tx.db.execute("INSERT INTO terms VALUES (?, 'is gone', 8, 0)", (gone,))

            stage.members.add(there)
            await stage.store.write(open_two)

            async def closed() -> bool:
                terms = await stage.store.read(lambda tx: tx.open_terms())
                return set(terms) == {there, stage.store.mine.term}

            await until(closed)

    run(claim())
