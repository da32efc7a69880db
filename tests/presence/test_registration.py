"""Plugins that come and go while presence works: registered, changed, removed, unwell."""

import asyncio

import grpc
from grpc_health.v1 import health_pb2_grpc
from onward.notifier.v1 import notifier_pb2
from onward.presence.v1 import presence_pb2

from services.presence.registry import Registration
from tests.presence.stage import Client, FakePlugin, Stage, staged
from tests.presence.test_dispatch import deliveries, in_state, send, story
from tests.presence.test_status import raising, status
from tests.waiting import until

R = notifier_pb2.Result


def register(stage: Stage, **addresses: str) -> None:
    stage.workers.registered([Registration(name, at) for name, at in addresses.items()])


def message(stage: Stage, subject="/a") -> None:
    stage.log.publish(subject, "again")


def test_a_plugin_registered_hot_gets_what_waits_and_is_told_where_to_report(run, tmp_path):
    async def claim():
        plugin = FakePlugin("late")
        address = await plugin.start()
        async with staged(tmp_path) as stage:
            await send(stage)
            await until(in_state(stage, "pending"))
            assert (await story(stage)).reason == "NO_CHANNEL"
            register(stage, late=address)
            await until(in_state(stage, "accepted"))
            assert plugin.described_to == [stage.address]
            [one] = (await status(stage)).plugins
            assert (one.name, one.registered_as, one.health) == ("late", "late", "SERVING")
        await plugin.stop()

    run(claim())


def test_a_plugin_that_is_removed_ends_its_call_and_gets_nothing_more(run, tmp_path):
    answer = asyncio.Event()

    async def slow(request, context):
        await answer.wait()
        return notifier_pb2.NotifyResponse(
            results=[R(delivery_id=d.delivery_id, outcome=R.ACCEPTED) for d in request.deliveries]
        )

    async def claim():
        plugin, other = FakePlugin("gone"), FakePlugin("other")
        plugin.script = [slow]
        address, other_address = await plugin.start(), await other.start()
        async with staged(tmp_path, collapse_s=0) as stage:
            register(stage, gone=address)
            await send(stage)
            await until(lambda: plugin.calls)
            register(stage)
            message(stage)
            await stage.report()
            [retiring] = stage.workers.plugins.retiring
            assert retiring.connected.is_set()
            answer.set()
            await until(in_state(stage, "accepted"))
            await until(lambda: not stage.workers.plugins.retiring)
            assert not retiring.connected.is_set()
            told = await status(stage)
            assert {one.state: one.count for one in told.deliveries} == {
                "accepted": 1,
                "pending": 1,
            }
            register(stage, other=other_address)
            await until(lambda: other.calls)
            assert len(plugin.calls) == 1
        await plugin.stop()
        await other.stop()

    run(claim())


def test_a_plugin_that_moved_is_called_where_it_is_now(run, tmp_path):
    async def claim():
        here, there = FakePlugin("mover"), FakePlugin("mover")
        # One for any channel must not get what is the other's while that moves.
        anybody = FakePlugin("anybody", any=True)
        async with staged(tmp_path, anybody, collapse_s=0) as stage:
            register(stage, mover=await here.start())
            await until(lambda: stage.workers.plugins.list[1].connected.is_set())
            await send(stage)
            await until(lambda: here.calls)
            register(stage, mover=await there.start())
            message(stage)
            await stage.report()
            await until(lambda: there.calls)
            assert (len(here.calls), len(anybody.calls)) == (1, 0)
        await here.stop()
        await there.stop()

    run(claim())


def told(plugins: list[FakePlugin]) -> list[int]:
    """The messages that they were handed, of all their calls."""
    handed = [delivery for plugin in plugins for delivery in plugin.deliveries]
    return [seq for one in handed for seq in range(one.first_seq, one.last_seq + 1)]


def test_plugins_come_and_go_under_load_and_nothing_is_lost_or_doubled(run, tmp_path):
    async def claim():
        plugins = [FakePlugin(f"p{n}") for n in range(2)]
        addresses = [await plugin.start() for plugin in plugins]
        async with staged(tmp_path, collapse_s=0) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=["mailto:ann@example.org"])
            ann.disconnect()
            await stage.report()
            for turn in range(30):
                register(stage, **{f"p{turn % 2}": addresses[turn % 2]})
                message(stage)
                await stage.report()
                await asyncio.sleep(0.02)
            await until(lambda: len(told(plugins)) == 30, 20)
            assert sorted(told(plugins)) == list(range(1, 31))
        for plugin in plugins:
            await plugin.stop()

    run(claim())


def test_registered_plugins_are_there_after_a_term_that_began_anew(run, tmp_path):
    async def claim():
        plugin = FakePlugin("late")
        async with staged(tmp_path, collapse_s=0) as stage:
            register(stage, late=await plugin.start())
            await send(stage)
            await until(in_state(stage, "accepted"))
            await stage.new_term()
            message(stage)
            await stage.report()
            await until(lambda: len(plugin.calls) == 2)
        await plugin.stop()

    run(claim())


def test_settings_come_before_what_is_registered_and_that_by_name(run, tmp_path):
    async def claim():
        first = FakePlugin("of-settings")
        async with staged(tmp_path, first) as stage:
            register(stage, zoe="127.0.0.1:2", abe="127.0.0.1:1")
            names = [plugin.registration.name for plugin in stage.workers.plugins.list]
            assert names == [f"127.0.0.1:{first.port}", "abe", "zoe"]

    run(claim())


def test_what_needs_a_secret_that_is_not_there_is_not_called(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            stage.workers.plugins._trust = ""
            stage.workers.registered([Registration("bare", "127.0.0.1:1", plain=True)])
            assert stage.workers.plugins.list == []

    run(claim())


def test_a_plugin_that_says_it_does_not_serve_is_called_only_when_it_does_again(run, tmp_path):
    async def claim():
        plugin = FakePlugin("unwell")
        async with staged(tmp_path, plugin) as stage:
            await plugin.set_serving(False)
            [one] = stage.workers.plugins.list
            await until(lambda: not one.serving)
            await send(stage)
            await until(raising(stage, "PLUGIN_NOT_SERVING"))
            told = await story(stage)
            assert (told.state, told.reason) == (
                presence_pb2.Outcome.PENDING,
                "PLUGIN_NOT_SERVING",
            )
            assert told.text == "Waiting: the plugin for mailto says that it does not serve now."
            assert (await status(stage)).plugins[0].health == "NOT_SERVING"
            assert (await deliveries(stage))[0].state == "pending"
            assert not plugin.calls
            await plugin.set_serving(True)
            await until(in_state(stage, "accepted"))
            await until(raising(stage))

    run(claim())


def test_a_plugin_that_does_not_serve_from_the_start_is_not_called(run, tmp_path):
    async def claim():
        plugin = FakePlugin("unwell")
        address = await plugin.start()
        await plugin.set_serving(False)
        async with staged(tmp_path) as stage:
            await send(stage)
            register(stage, unwell=address)
            await until(lambda: stage.workers.plugins.list[0].connected.is_set())
            await asyncio.sleep(0.2)
            assert not plugin.calls
            await plugin.set_serving(True)
            await until(in_state(stage, "accepted"))
        await plugin.stop()

    run(claim())


def test_a_plugin_without_health_checks_counts_as_healthy(run, tmp_path):
    class NoHealth(health_pb2_grpc.HealthServicer):
        async def Check(self, request, context):
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "what is that?")

    async def claim():
        plugin = FakePlugin("plain")
        plugin.health = NoHealth()
        async with staged(tmp_path, plugin) as stage:
            await send(stage)
            await until(in_state(stage, "accepted"))
            assert stage.workers.plugins.list[0].health == ""

    run(claim())
