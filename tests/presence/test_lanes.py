"""A plugin, or one channel of a plugin, that does badly keeps none of the others waiting."""

import asyncio
import statistics
import time

import grpc
import pytest
from onward.notifier.v1 import notifier_pb2

from tests.presence.stage import Client, FakePlugin, Stage, staged
from tests.waiting import until

R = notifier_pb2.Result


def accept(request):
    return notifier_pb2.NotifyResponse(
        results=[R(delivery_id=d.delivery_id, outcome=R.ACCEPTED) for d in request.deliveries]
    )


async def hang(request, context):
    await asyncio.sleep(60)


async def refuse(request, context):
    await context.abort(grpc.StatusCode.INTERNAL, "no")


async def crawl(request, context):
    await asyncio.sleep(0.5)
    return accept(request)


class Always(list):
    """A script that never ends."""

    def pop(self, _):
        return self[0]


async def crowd(stage: Stage, scheme: str, users: int, subject: str) -> None:
    """Users who are away from the subject, each with an endpoint of the scheme."""
    for number in range(users):
        one = Client(stage.log, f"{scheme}{number}")
        one.connect(subject, endpoints=[f"{scheme}:{number}@example.org"])
        one.disconnect()
    await stage.report()
    await until(lambda: waiting(stage, users, subject))


async def waiting(stage: Stage, users: int, subject: str) -> bool:
    return len(await stage.store.read(lambda tx: tx.users_waiting(subject))) == users


async def latencies(stage: Stage, plugin: FakePlugin, subject: str, count: int) -> list[float]:
    """Seconds from the Report of a message to the call of the plugin, one after another."""
    found = []
    for _ in range(count):
        before = len(plugin.calls)
        stage.log.publish(subject, "hello")
        began = asyncio.get_running_loop().time()
        await stage.report()
        await until(lambda b=before: len(plugin.calls) > b, every_s=0.001)
        found.append(asyncio.get_running_loop().time() - began)
    return found


@pytest.mark.parametrize("bad", [hang, refuse, crawl])
def test_a_plugin_that_does_badly_leaves_the_latency_of_another_as_it_was(run, tmp_path, bad):
    async def claim():
        ill, well = FakePlugin("ill"), FakePlugin("well", tel=False)
        ill.batch_max = 10
        async with staged(tmp_path, ill, well, collapse_s=0) as stage:
            await crowd(stage, "tel", 1, "/phones")
            await crowd(stage, "mailto", 100, "/mails")
            alone = await latencies(stage, well, "/phones", 20)
            ill.script = Always([bad])
            stage.log.publish("/mails", "to everybody")
            await stage.report()
            await until(lambda: ill.calls)
            [told] = [p for p in (await stage.workers._status.response()).plugins if p.queue]
            assert (told.name, told.calls <= 4) == ("ill", True), "the queue is the store"
            beside = await latencies(stage, well, "/phones", 20)
            # Ten times is far from the seconds that waiting for the other would take.
            assert statistics.median(beside) < 10 * statistics.median(alone) + 0.02

    run(claim())


def test_a_channel_that_hangs_leaves_the_other_channels_of_its_plugin_alone(run, tmp_path):
    async def claim():
        async def by_channel(request, context):
            if request.deliveries[0].endpoint.startswith("mailto:"):
                await asyncio.sleep(60)
            return accept(request)

        plugin = FakePlugin("both", mailto=True, tel=False)
        plugin.batch_max = 1
        plugin.script = Always([by_channel])
        async with staged(tmp_path, plugin, collapse_s=0) as stage:
            await crowd(stage, "mailto", 20, "/mails")
            await crowd(stage, "tel", 20, "/phones")
            stage.log.publish("/mails", "to everybody")
            await stage.report()
            await until(lambda: len(plugin.calls) == 3)
            stage.log.publish("/phones", "to everybody")
            await stage.report()

            async def sent() -> bool:
                return (await stage.store.read(lambda tx: tx.counts())).deliveries.get(
                    "accepted"
                ) == 20

            await until(sent)
            lanes = stage.workers.plugins.list[0].lanes
            assert len(lanes["mailto"].calls) == 3, "of four, one is left to the other channel"

    run(claim())


def test_a_channel_that_is_set_up_wrongly_leaves_the_other_channels_of_its_plugin_alone(
    run, tmp_path
):
    async def claim():
        def by_channel(request, _):
            wrong = request.deliveries[0].endpoint.startswith("mailto:")
            outcome = R.MISCONFIGURED if wrong else R.ACCEPTED
            return notifier_pb2.NotifyResponse(
                results=[R(delivery_id=d.delivery_id, outcome=outcome) for d in request.deliveries]
            )

        plugin = FakePlugin("both", mailto=True, tel=False)
        plugin.script = Always([by_channel])
        long = {"breaker_first_s": 60.0, "breaker_longest_s": 60.0}
        async with staged(tmp_path, plugin, **long) as stage:
            await crowd(stage, "mailto", 3, "/a")
            stage.log.publish("/a", "hello")
            await stage.report()
            lanes = stage.workers.plugins.list[0].lanes
            await until(lambda: not lanes["mailto"].breaker.closed)
            await crowd(stage, "tel", 3, "/b")
            stage.log.publish("/b", "hello")
            await stage.report()

            async def counted() -> bool:
                found = (await stage.store.read(lambda tx: tx.counts())).deliveries
                return dict(found) == {"retry": 3, "accepted": 3}

            await until(counted)
            assert lanes["tel"].breaker.closed

    run(claim())


def test_one_delivery_that_is_refused_among_others_leaves_the_channel_open(run, tmp_path):
    async def claim():
        def but_one(request, _):
            return notifier_pb2.NotifyResponse(
                results=[
                    R(
                        delivery_id=d.delivery_id,
                        outcome=R.MISCONFIGURED if "mailto:1@" in d.endpoint else R.ACCEPTED,
                    )
                    for d in request.deliveries
                ]
            )

        plugin = FakePlugin()
        plugin.script = [but_one]
        async with staged(tmp_path, plugin, retry_first_s=0.05) as stage:
            await crowd(stage, "mailto", 3, "/a")
            stage.log.publish("/a", "hello")
            await stage.report()

            async def all_sent() -> bool:
                found = (await stage.store.read(lambda tx: tx.counts())).deliveries
                return dict(found) == {"accepted": 3}

            await until(all_sent)
            assert stage.workers.plugins.lanes[0].fault == ""
            assert [len(call.deliveries) for call in plugin.calls] == [3, 1]

    run(claim())


@pytest.mark.parametrize("outcome", [R.MISCONFIGURED, R.PROVIDER_UNAVAILABLE])
def test_one_that_is_refused_alone_again_and_again_waits_by_itself_while_others_are_sent(
    run, tmp_path, outcome
):
    async def claim():
        def but_one(request, _):
            return notifier_pb2.NotifyResponse(
                results=[
                    R(
                        delivery_id=d.delivery_id,
                        outcome=outcome if "mailto:0@" in d.endpoint else R.ACCEPTED,
                    )
                    for d in request.deliveries
                ]
            )

        plugin = FakePlugin()
        plugin.script = Always([but_one])
        retries = {"retry_first_s": 500.0, "retry_longest_s": 500.0}
        bounds = {"breaker_first_s": 0.02, "breaker_longest_s": 0.02, **retries}
        async with staged(tmp_path, plugin, collapse_s=0, **bounds) as stage:
            stage.workers._dispatcher._caller._chance = lambda: 0.5
            await crowd(stage, "mailto", 1, "/bad")
            stage.log.publish("/bad", "hello")
            await stage.report()

            def refused() -> int:
                return sum("mailto:0@" in one.endpoint for one in plugin.deliveries)

            # As long as nothing shows that the channel works, it is the probe.
            await until(lambda: refused() >= 3)
            client = Client(stage.log, "ann")
            client.connect("/good", endpoints=["mailto:ann@example.org"])
            client.disconnect()

            async def sent(count: int) -> bool:
                found = dict((await stage.store.read(lambda tx: tx.counts())).deliveries)
                return found.get("accepted") == count

            async def waits_by_itself() -> bool:
                [(due_at, tries)] = await stage.store.read(
                    lambda tx: tx.db.rows(
                        "SELECT due_at, tries FROM deliveries WHERE subject = '/bad'", ()
                    )
                )
                return due_at is not None and tries == 0 and due_at > time.time() + 100

            stage.log.publish("/good", "hello 0")
            await stage.report()
            await until(waits_by_itself)
            before = refused()
            for number in range(1, 4):
                stage.log.publish("/good", f"hello {number}")
                await stage.report()
                await until(lambda n=number: sent(n + 1))
            assert refused() == before
            assert stage.workers.plugins.lanes[0].breaker.closed

    run(claim())


def test_a_batch_of_large_messages_is_cut_to_the_bytes_of_its_plugin(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, plugin_bytes_max=4 * 100_000) as stage:
            await crowd(stage, "mailto", 6, "/a")
            stage.log.publish("/a", "x" * 40_000)
            await stage.report()
            await until(lambda: len(plugin.deliveries) == 6)
            assert max(len(call.deliveries) for call in plugin.calls) == 2

    run(claim())


def test_a_new_process_takes_no_refusal_for_one_s_own_before_anything_was_served(run, tmp_path):
    async def claim():
        bounds = {"breaker_first_s": 0.02, "breaker_longest_s": 0.02}
        plugin = FakePlugin()
        plugin.script = Always([R.MISCONFIGURED])
        for _ in range(2):
            async with staged(tmp_path, plugin, **bounds) as stage:
                if not plugin.calls:
                    await crowd(stage, "mailto", 1, "/a")
                    stage.log.publish("/a", "hello")
                    await stage.report()
                before = len(plugin.calls)
                await until(lambda b=before: len(plugin.calls) > b + 2)
                await until(lambda s=stage: not s.workers.plugins.lanes[0].breaker.closed)
                assert stage.workers.plugins.lanes[0].fault

    run(claim())
