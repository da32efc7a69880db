"""What presence logs at its most talkative: nothing that a user wrote, nothing that reaches one."""

import io

import structlog
from onward.notifier.v1 import notifier_pb2

from services.chassis import logs
from services.notifier import harness
from tests.presence.stage import Client, FakePlugin, staged
from tests.waiting import until

R = notifier_pb2.Result
SECRETS = ("ann@example.org", "a most private word", "fcm-token-of-ann", "header-of-bob")


def test_debug_logs_of_good_and_bad_deliveries_hold_no_token_and_no_content(run, tmp_path):
    said = io.StringIO()

    def breaks(request, context):
        raise RuntimeError(f"cannot send {request}")

    def garbage(request, _):
        return notifier_pb2.NotifyResponse(
            results=[R(delivery_id=str(request), outcome=99, detail=str(request))]
        )

    async def claim():
        plugin = FakePlugin(mailto=True, fcm=True)
        plugin.script = [breaks, garbage, R.MISCONFIGURED, R.RETRY, R.ENDPOINT_GONE, R.UNKNOWN]
        async with staged(tmp_path, plugin, collapse_s=0) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=["mailto:ann@example.org", "fcm:fcm-token-of-ann"])
            ann.disconnect()
            for _ in range(5):
                stage.log.publish("/a", "a most private word, header-of-bob")
                await stage.report()
            await until(lambda: not plugin.script)
            await stage.explain("ann", "/a")
            await stage.new_term()
            request = stage.log.request()
            request.partitions[0].entries.add(pos=10**6)
            await stage.presence.Report(request, timeout=20)

    try:
        logs.configure("presence", "debug", said)
        run(claim())
    finally:
        structlog.reset_defaults()
    lines = said.getvalue()
    assert "plugin_left_alone" in lines, "something was logged"
    assert not [secret for secret in SECRETS if secret in lines]


def test_a_channel_by_a_name_of_another_is_logged_with_the_right_one(run, tmp_path):
    said = io.StringIO()

    async def claim():
        async with staged(tmp_path, FakePlugin(sms=True, tel=True)):
            await until(lambda: "plugin_connected" in said.getvalue())

    try:
        logs.configure("presence", "info", said)
        run(claim())
    finally:
        structlog.reset_defaults()
    [line] = [line for line in said.getvalue().splitlines() if "plugin_channel_refused" in line]
    assert "channel=sms" in line
    assert "write `tel`" in line


def test_a_plugin_that_breaks_is_logged_by_the_name_of_its_error_alone(run):
    said = io.StringIO()

    class Careless:
        name = "careless"
        channels = (harness.Channel(scheme="mailto", repeats_unknown=True),)
        concurrency = 1

        async def send(self, delivery):
            raise ValueError(f"no way to reach {delivery.endpoint}: {delivery.messages}")

        async def close(self):
            pass

    async def claim():
        notifier = harness.Notifier([Careless()], "careless")
        delivery = harness.Delivery(delivery_id="d", endpoint="mailto:ann@example.org")
        delivery.messages.add(text="a most private word")

        class Context:
            def time_remaining(self):
                return None

        request = notifier_pb2.NotifyRequest(deliveries=[delivery])
        answer = await notifier.Notify(request, Context())
        assert answer.results[0].detail == "the plugin raised ValueError"

    try:
        logs.configure("notifier", "debug", said)
        run(claim())
    finally:
        structlog.reset_defaults()
    assert "ValueError" in said.getvalue()
    assert not [secret for secret in SECRETS if secret in said.getvalue()]
