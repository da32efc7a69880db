"""Two plugins serve one channel: the second stands by while the first is ready."""

from collections.abc import Awaitable, Callable

import pytest

from tests.presence.stage import Client, FakePlugin, Stage, staged
from tests.presence.test_dispatch import MAIL, R, answer, deliveries, in_state, send
from tests.waiting import until

Lose = Callable[[FakePlugin], Awaitable[None]]


async def stops(plugin: FakePlugin) -> None:
    await plugin.stop()


async def says_so(plugin: FakePlugin) -> None:
    await plugin.set_serving(False)


async def publish(stage: Stage, subject: str) -> None:
    stage.log.publish(subject, "hello")
    await stage.report()


def all_ready(stage: Stage) -> Callable[[], bool]:
    return lambda: all(plugin.ready for plugin in stage.workers.plugins.list)


def first_ready(stage: Stage) -> Callable[[], bool]:
    return lambda: stage.workers.plugins.list[0].ready


@pytest.mark.parametrize("lose", [stops, says_so])
def test_the_second_is_called_while_the_first_is_not_ready_and_only_then(run, tmp_path, lose: Lose):
    async def claim():
        first, second = FakePlugin("first"), FakePlugin("second")
        async with staged(tmp_path, first, second, collapse_s=0) as stage:
            await until(all_ready(stage))
            ann = Client(stage.log, "ann")
            ann.connect("/a", "/b", "/c", endpoints=[MAIL])
            ann.disconnect()
            await publish(stage, "/a")
            await until(lambda: first.calls)
            await lose(first)
            await until(lambda: not first_ready(stage)())
            await publish(stage, "/b")
            await until(lambda: second.calls)
            if lose is stops:
                await first.start()
            else:
                await first.set_serving(True)
            await until(first_ready(stage))
            await publish(stage, "/c")
            await until(lambda: len(first.calls) == 2)
            assert [d.subject for d in first.deliveries] == ["/a", "/c"]
            assert [d.subject for d in second.deliveries] == ["/b"]

    run(claim())


def test_what_waited_for_the_first_goes_to_the_second_with_the_same_id(run, tmp_path):
    async def claim():
        first, second = FakePlugin("first"), FakePlugin("second")
        first.script = [answer(outcome=R.RETRY)] * 1_000
        async with staged(tmp_path, first, second, retry_tries_max=100) as stage:
            await until(all_ready(stage))
            await send(stage)
            await until(lambda: first.calls)
            await first.stop()
            await until(in_state(stage, "accepted"))
            [delivery] = await deliveries(stage)
            assert delivery.attempts[-1].outcome == "ACCEPTED"
            assert {d.delivery_id for d in second.deliveries} == {
                d.delivery_id for d in first.deliveries
            }

    run(claim())
