"""What a Report makes due is claimed in the Report's own transaction, and called for."""

import asyncio
import time
from dataclasses import replace

import grpc
import grpc.aio
import pytest
from onward.notifier.v1 import notifier_pb2

from tests.presence.stage import Client, FakePlugin, Stage, staged
from tests.waiting import until

MAIL = "mailto:ann@example.org"


async def away(stage: Stage) -> None:
    """Ann waits for /a, and her plugin is there."""
    ann = Client(stage.log, "ann")
    ann.connect("/a", endpoints=[MAIL])
    ann.disconnect()
    await stage.report()

    async def waits() -> bool:
        return await stage.store.read(
            lambda tx: bool(tx.users_waiting("/a")) and not tx.open_handovers(1)
        )

    await until(waits)
    await until(lambda: [lane for lane in lanes(stage) if lane.may_call(time.monotonic())])


def lanes(stage: Stage):
    return stage.workers.plugins.lanes


async def accepted(stage: Stage) -> bool:
    return (await stage.states("ann", "/a"))[-1:] == ["NOTIFIED"]


def test_one_transaction_lies_between_a_report_and_the_call(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            await away(stage)
            committed = []
            stage.store.on_commit(lambda touched: committed.extend(touched.users))

            def called(request, _):
                committed.append("the call")
                return notifier_pb2.NotifyResponse()

            plugin.script = [called]
            stage.log.publish("/a", "hello")
            await stage.report()
            await until(lambda: plugin.calls)
            assert committed[:2] == ["ann", "the call"]
            assert [message.text for message in plugin.deliveries[0].messages] == ["hello"]

    run(claim())


def test_a_caller_that_gives_up_leaves_nothing_claimed_without_its_call(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            await away(stage)
            stage.log.publish("/a", "hello")
            busy = asyncio.create_task(stage.store.read(lambda tx: time.sleep(0.4)))
            await asyncio.sleep(0)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stage.presence.Report(stage.log.request(), timeout=0.2)
            assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await busy
            await until(lambda: accepted(stage))
            assert len(plugin.calls) == 1

    run(claim())


def test_a_report_that_fails_gives_its_calls_back(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            await away(stage)
            stage.log.publish("/a", "hello")
            mine = stage.store.mine
            # As if another process had closed the term since.
            stage.store.mine = replace(mine, term=99_999)
            with pytest.raises(grpc.aio.AioRpcError):
                await stage.report()
            assert [lane.reserved for lane in lanes(stage)] == [0]
            stage.store.mine = mine
            await stage.report()
            await until(lambda: accepted(stage))

    run(claim())


def test_a_report_claims_nothing_for_a_plugin_that_has_no_call_to_spare(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            await away(stage)
            [lane] = lanes(stage)
            free = lane.plugin.description.concurrency_max
            under_way = [asyncio.create_task(asyncio.sleep(60)) for _ in range(free)]
            lane.calls |= set(under_way)
            stage.log.publish("/a", "hello")
            await stage.report()
            assert (await stage.states("ann", "/a")) == ["PENDING"]
            lane.calls.clear()
            lane.wake.set()
            await until(lambda: accepted(stage))
            for one in under_way:
                one.cancel()

    run(claim())
