"""How presence says it stands: owner, cursors, plugins, counts and alarms."""

import grpc
import pytest
from onward.notifier.v1 import notifier_pb2
from onward.presence.v1 import presence_pb2
from onward.types.v1 import entry_pb2

from services.chassis.errors import StoreFull
from tests.presence.stage import PARTITIONS, Client, FakePlugin, Stage, staged
from tests.waiting import until

R = notifier_pb2.Result


async def status(stage: Stage) -> presence_pb2.GetStatusResponse:
    return await stage.query.GetStatus(presence_pb2.GetStatusRequest(), timeout=20)


def raising(stage: Stage, *names: str):
    async def reached() -> bool:
        return [alarm.name for alarm in (await status(stage)).alarms] == list(names)

    return reached


def counted(told: presence_pb2.GetStatusResponse) -> dict[str, int]:
    return {one.state: one.count for one in told.deliveries}


def test_an_owner_tells_its_term_its_plugins_and_how_many_of_everything(run, tmp_path):
    async def claim():
        plugin = FakePlugin("mailer", mailto=True)
        async with staged(tmp_path, plugin) as stage:
            ann, bob, eve = (Client(stage.log, user) for user in ("ann", "bob", "eve"))
            ann.connect("/a", "/b", endpoints=["mailto:ann@example.org"])
            bob.connect("/a")
            eve.connect("/a", endpoints=["tel:+491700000000"])
            ann.disconnect()
            eve.disconnect()
            stage.log.publish("/a", "hello")
            await stage.report()

            async def sent() -> bool:
                return counted(await status(stage)) == {"accepted": 1, "pending": 1}

            await until(sent)
            told = await status(stage)
            assert (told.name, told.term, list(told.partitions)) == ("presence-1", 1, [0, 1, 2, 3])
            assert {c.partition: c.pos for c in told.cursors if c.pos} == {
                partition: pos for partition, pos in stage.log.cursors.items() if pos
            }
            [one] = told.plugins
            assert (one.name, one.connected, list(one.channels)) == ("mailer", True, ["mailto"])
            assert (one.breaker, one.queue, one.calls, one.fault) == ("closed", 0, 0, "")
            assert (told.clients_online, told.clients_in_grace, told.clients_offline) == (1, 0, 2)
            assert (told.handovers, told.fanouts) == (0, 0)
            assert [alarm.name for alarm in told.alarms] == ["NO_PLUGIN_FOR_CHANNEL"]
            ann.connect("/a")
            await stage.report()
            assert (await status(stage)).clients_offline == 1

    run(claim())


def test_a_plugin_that_fails_as_a_whole_is_told_with_its_reason_until_it_works(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [
            lambda request, _: notifier_pb2.NotifyResponse(
                results=[
                    R(delivery_id=d.delivery_id, outcome=R.MISCONFIGURED, detail="session 535")
                    for d in request.deliveries
                ]
            )
        ]
        slow = {"breaker_first_s": 1.0, "breaker_longest_s": 1.0}
        async with staged(tmp_path, plugin, **slow) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=["mailto:ann@example.org"])
            ann.disconnect()
            stage.log.publish("/a", "hello")
            await stage.report()
            await until(raising(stage, "PLUGIN_BREAKER_OPEN"))
            told = await status(stage)
            [one] = told.plugins
            assert (one.breaker, one.queue) == ("open", 1)
            assert one.fault == "mailto: MISCONFIGURED session 535"
            assert one.breaker_until.ToSeconds() > 0
            assert counted(told) == {"retry": 1}
            await until(raising(stage))
            assert (await status(stage)).plugins[0].breaker == "closed"

    run(claim())


def test_a_hole_in_what_is_reported_is_an_alarm_until_it_is_filled(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            request = presence_pb2.ReportRequest(log_id=stage.log.log_id)
            mark = entry_pb2.Mark(edge_id=1, round=1, pos=1)
            request.partitions.add(
                partition=3, epoch=1, entries=[entry_pb2.Entry(pos=2, mark=mark)]
            )
            await stage.presence.Report(request, timeout=20)
            await until(raising(stage, "CURSOR_BLOCKED"))
            request.partitions[0].entries.insert(0, entry_pb2.Entry(pos=1, mark=mark))
            await stage.presence.Report(request, timeout=20)
            await until(raising(stage))

    run(claim())


def test_a_channel_that_no_plugin_claims_is_an_alarm_until_one_does(run, tmp_path):
    async def claim():
        file = tmp_path / "routing.yaml"
        file.write_text(
            "routes: [{subject: /a, channels: [mailto, slack]}]\n"
            "rates: {mqtt+tls: {at_most: 1, per_s: 1}}\n"
        )
        plugin = FakePlugin(mailto=True, slack=True)
        async with staged(tmp_path, plugin, routing=str(file)) as stage:
            await until(raising(stage, "ROUTING_NAMES_NO_PLUGIN"))
            [alarm] = (await status(stage)).alarms
            assert "serves: mqtt+tls. Register" in alarm.text
            file.write_text("routes: [{subject: /a, channels: [mailto, slack]}]\n")
            await until(raising(stage))
            file.write_text("routes: [{subject: /a, channels: [mailto, other]}]\n")
            await until(raising(stage, "ROUTING_NAMES_NO_PLUGIN"))
            assert "other" in (await status(stage)).alarms[0].text
            plugin.channels = {"*": True}
            await plugin.stop()
            await plugin.start()
            await until(raising(stage))

    run(claim())


def test_another_log_is_an_alarm(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            stage.log.publish("/a", "hello")
            await stage.report()
            request = presence_pb2.ReportRequest(log_id="another")
            with pytest.raises(grpc.aio.AioRpcError):
                await stage.presence.Report(request, timeout=20)
            await until(raising(stage, "LOG_REPLACED"))

    run(claim())


def test_a_store_without_space_is_an_alarm_that_goes_with_the_next_write(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:

            def fill(tx):
                tx.db.execute("PRAGMA max_page_count = 1")
                tx.db.execute("INSERT INTO meta VALUES ('filler', zeroblob(1000000))")

            with pytest.raises(StoreFull):
                await stage.store.write(fill)
            await until(raising(stage, "STORE_FULL"))
            await stage.store.read(lambda tx: tx.db.execute("PRAGMA max_page_count = 1000000"))
            stage.log.publish("/a", "hello")
            await stage.report()
            await until(raising(stage))

    run(claim())


def test_a_process_without_partitions_says_so(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            await stage.store.release(range(PARTITIONS))
            told = await status(stage)
            assert list(told.partitions) == []

    run(claim())
