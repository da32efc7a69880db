"""Dead letters, tests, receipts and callbacks on the wire, over a real store and a real plugin."""

import asyncio
import re
from pathlib import Path

import grpc
import grpc.aio
import pytest
from onward.notifier.v1 import notifier_pb2
from onward.presence.v1 import deliveries_pb2 as pb
from onward.presence.v1 import presence_pb2

from services.presence import notifications
from tests.presence.stage import Client, FakePlugin, Stage, staged
from tests.presence.test_dispatch import MAIL, answer, deliveries, hang, in_state, send, story
from tests.waiting import until

R = notifier_pb2.Result
E = notifier_pb2.DeliveryEvent
H = notifier_pb2.HandleCallbackResponse
C = grpc.StatusCode


async def refused(call) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), error.value.details() or ""


async def report(stage: Stage, *events: E) -> int:
    response = await stage.deliveries.ReportEvents(
        pb.ReportEventsRequest(events=events), timeout=20
    )
    return response.recorded


async def delivery_id(stage: Stage) -> str:
    [delivery] = await deliveries(stage)
    return delivery.delivery_id


# -- dead letters --------------------------------------------------------------------------------


def test_a_dead_letter_is_shown_and_replayed_with_its_id_and_dies_again(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [answer(outcome=R.RETRY, detail="451 busy")] * 4
        async with staged(tmp_path, plugin, retry_tries_max=2) as stage:
            await send(stage)
            await until(in_state(stage, "dead"))
            [letter] = (await stage.deliveries.ListDeadLetters(pb.ListDeadLettersRequest())).letters
            assert (letter.user, letter.subject, letter.channel) == ("ann", "/a", "mailto")
            assert (letter.reason, letter.attempts) == ("TRIES_EXHAUSTED", 2)
            assert letter.last_attempt.detail == "451 busy"
            asked = pb.GetDeadLetterRequest(delivery_id=letter.delivery_id)
            whole = await stage.deliveries.GetDeadLetter(asked)
            assert len(whole.attempts) == 2
            assert (whole.first_seq, whole.last_seq, whole.count) == (1, 1, 1)

            everything = pb.ReplayDeadLettersRequest(filter=pb.DeadLetterFilter())
            done = await stage.deliveries.ReplayDeadLetters(everything)
            assert (done.replayed, done.expired, done.next_after_id) == (1, 0, "")
            await until(lambda: len(plugin.calls) == 4)
            await until(in_state(stage, "dead"))
            await stage.deliveries.ReplayDeadLetters(everything)
            await until(in_state(stage, "accepted"))
            assert {d.delivery_id for d in plugin.deliveries} == {letter.delivery_id}
            assert [d.attempt for d in plugin.deliveries] == [1, 2, 3, 4, 5]
            assert (await refused(stage.deliveries.GetDeadLetter(asked)))[0] is C.NOT_FOUND

    run(claim())


def test_what_was_acknowledged_meanwhile_is_not_sent_by_a_replay(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [R.RETRY]
        async with staged(tmp_path, plugin, retry_tries_max=1) as stage:
            await send(stage)
            await until(in_state(stage, "dead"))
            ann = Client(stage.log, "ann")
            ann.generation = 1
            ann.connect("/a", start=0)
            ann.disconnect(a=1)
            await stage.report()
            everything = pb.ReplayDeadLettersRequest(filter=pb.DeadLetterFilter())
            await stage.deliveries.ReplayDeadLetters(everything)
            await until(in_state(stage, "cancelled"))
            assert len(plugin.calls) == 1

    run(claim())


def test_a_dropped_letter_is_explained(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [R.RETRY]
        async with staged(tmp_path, plugin, retry_tries_max=1) as stage:
            await send(stage)
            await until(in_state(stage, "dead"))
            dropping = pb.DropDeadLettersRequest(filter=pb.DeadLetterFilter(user="ann"))
            assert (await stage.deliveries.DropDeadLetters(dropping)).dropped == 1
            assert (await stage.deliveries.DropDeadLetters(dropping)).dropped == 0
            told = await story(stage)
            assert (told.state, told.reason) == (presence_pb2.Outcome.FAILED, "DROPPED")
            assert told.text == "Given up by mailto, and dropped by an operator."

    run(claim())


BAD = [
    ("ListDeadLetters", pb.ListDeadLettersRequest(limit=1_001)),
    ("ListDeadLetters", pb.ListDeadLettersRequest(after_id="\0")),
    ("ListDeadLetters", pb.ListDeadLettersRequest(filter={"user": "a\0"})),
    ("ListDeadLetters", pb.ListDeadLettersRequest(filter={"channel": "a b"})),
    ("ListDeadLetters", pb.ListDeadLettersRequest(filter={"reason": "because"})),
    ("ListDeadLetters", pb.ListDeadLettersRequest(filter={"delivery_ids": ["'"]})),
    ("ListDeadLetters", pb.ListDeadLettersRequest(filter={"delivery_ids": ["a"] * 1_001})),
    ("ReplayDeadLetters", pb.ReplayDeadLettersRequest()),
    ("DropDeadLetters", pb.DropDeadLettersRequest()),
    ("SendTest", pb.SendTestRequest(endpoint="nowhere")),
    ("SendTest", pb.SendTestRequest(endpoint="mailto:")),
    ("SendTest", pb.SendTestRequest(endpoint="mailto:a\n")),
    ("SendTest", pb.SendTestRequest(endpoint="*:a")),
    ("SendTest", pb.SendTestRequest(endpoint="tel:" + "1" * 5_000)),
    ("SendTest", pb.SendTestRequest(endpoint=MAIL, text="x" * 1_001)),
    ("SendTest", pb.SendTestRequest(endpoint=MAIL, user="x" * 300)),
    ("ReportEvents", pb.ReportEventsRequest(events=[E()] * 1_001)),
]


def test_what_cannot_be_meant_is_refused_with_a_sentence(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            for name, request in BAD:
                code, sentence = await refused(getattr(stage.deliveries, name)(request))
                assert (code, sentence[-1:]) == (C.INVALID_ARGUMENT, "."), (name, request)
            for own_id in ("", "none", "\0", "A" * 32, "a" * 32):
                asked = pb.GetDeadLetterRequest(delivery_id=own_id)
                assert (await refused(stage.deliveries.GetDeadLetter(asked)))[0] is C.NOT_FOUND

    run(claim())


@pytest.mark.parametrize("method", ["ListDeadLetters", "ReplayDeadLetters", "DropDeadLetters"])
def test_what_is_like_an_id_or_a_reason_is_refused_and_not_taken_for_it(run, tmp_path, method):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [R.RETRY]
        async with staged(tmp_path, plugin, retry_tries_max=1) as stage:
            await send(stage)
            await until(in_state(stage, "dead"))
            own_id = await delivery_id(stage)
            call = getattr(stage.deliveries, method)
            request = getattr(pb, f"{method}Request")
            like = [own_id.upper(), f" {own_id}", f"{own_id}\n", own_id[:31], f"{own_id}0", "", "%",
                    "_" * 32, own_id[:31] + "\uff11"]  # fmt: skip
            for one in like:
                for ids in ([one], [own_id, one]):
                    code, words = await refused(call(request(filter={"delivery_ids": ids})))
                    assert (code, "`delivery_ids`" in words) == (C.INVALID_ARGUMENT, True), one
                    assert ("number 2" in words) is (len(ids) == 2)
                if one:
                    code, words = await refused(call(request(filter={}, after_id=one)))
                    assert (code, "`after_id`" in words) == (C.INVALID_ARGUMENT, True), one
            for one in ("tries_exhausted", "TRIES_EXHAUSTED ", "TRIES", "DROPPED", "EXPIRED"):
                code, words = await refused(call(request(filter={"reason": one})))
                assert (code, "`reason`" in words) == (C.INVALID_ARGUMENT, True), one
            other = request(filter={"delivery_ids": ["0" * 32]})
            assert not (await call(other)).ListFields(), "nothing is found or moved"
            await until(in_state(stage, "dead"))
            found = await call(request(filter={"delivery_ids": [own_id]}))
            assert found.ListFields()

    run(claim())


def test_every_reason_that_a_delivery_is_given_up_for_may_be_asked_for():
    source = Path(notifications.__file__).read_text()
    ended = re.findall(r'_end\(\w+, DeliveryState\.DEAD, "(\w+)"\)', source)
    assert sorted(ended) == sorted(notifications.DEAD_REASONS)
    assert source.count("DeliveryState.DEAD") == len(ended), "written in another way somewhere"


# -- a test of a channel -------------------------------------------------------------------------


def test_a_test_reaches_the_plugin_and_leaves_nothing_behind(run, tmp_path):
    async def claim():
        plugin = FakePlugin("mailer")
        plugin.script = [answer(outcome=R.ACCEPTED, provider_id="p-1", detail="250 ok")]
        async with staged(tmp_path, plugin) as stage:
            await until(lambda: stage.workers.plugins.list[0].ready)
            request = pb.SendTestRequest(endpoint=MAIL)
            told = await stage.deliveries.SendTest(request)
            assert (told.plugin, told.outcome) == ("mailer", "ACCEPTED")
            assert (told.detail, told.provider_id) == ("250 ok", "p-1")
            await stage.deliveries.SendTest(pb.SendTestRequest(endpoint=MAIL, text="hi", user="u"))
            first, second = plugin.deliveries
            assert (first.test, first.endpoint, first.user) == (True, MAIL, "test")
            assert first.title
            assert first.body
            assert (second.body, second.user) == ("hi", "u")
            assert first.delivery_id != second.delivery_id
            [[rows]] = await stage.store.read(
                lambda tx: tx.db.rows("SELECT count(*) FROM deliveries")
            )
            assert rows == 0

    run(claim())


def test_a_test_tells_what_a_plugin_fails_with_and_opens_no_breaker(run, tmp_path):
    async def claim():
        plugin = FakePlugin("mailer")
        plugin.script = [
            answer(outcome=R.MISCONFIGURED, detail="535"),
            hang,
            lambda request, _: notifier_pb2.NotifyResponse(),
        ]
        async with staged(tmp_path, plugin, notify_deadline_s=0.3) as stage:
            await until(lambda: stage.workers.plugins.list[0].ready)
            told = [
                await stage.deliveries.SendTest(pb.SendTestRequest(endpoint=MAIL)) for _ in range(3)
            ]
            outcomes = [one.outcome for one in told]
            assert outcomes == ["MISCONFIGURED", "CALL_TIMED_OUT", "CALL_BROKEN"]
            [lane] = stage.workers.plugins.lanes
            assert lane.breaker.closed
            assert not lane.plugin.busy

    run(claim())


def test_a_test_says_why_no_plugin_can_be_called(run, tmp_path):
    async def claim():
        plugin = FakePlugin("mailer")
        plugin.script = [answer(outcome=R.MISCONFIGURED, detail="535 no")] * 50
        async with staged(tmp_path, plugin, breaker_first_s=30, breaker_longest_s=30) as stage:
            [called] = stage.workers.plugins.list
            await until(lambda: called.ready)

            async def why(endpoint=MAIL) -> str:
                code, sentence = await refused(
                    stage.deliveries.SendTest(pb.SendTestRequest(endpoint=endpoint))
                )
                assert code is C.FAILED_PRECONDITION
                assert endpoint not in sentence
                return sentence

            assert "No plugin serves tel" in await why("tel:+491700000000")
            await send(stage)
            await until(lambda: not called.lanes["mailto"].breaker.closed)
            assert "MISCONFIGURED 535 no" in await why()
            await plugin.set_serving(False)
            await until(lambda: not called.serving)
            assert "does not serve" in await why()
            await plugin.stop()
            await until(lambda: not called.connected.is_set())
            assert "cannot be reached" in await why()

    run(claim())


# -- receipts ------------------------------------------------------------------------------------


def test_a_receipt_makes_it_delivered_and_explain_tells_when(run, tmp_path):
    async def claim():
        async with staged(tmp_path, FakePlugin()) as stage:
            await send(stage)
            await until(in_state(stage, "accepted"))
            own_id = await delivery_id(stage)
            events = [
                E(delivery_id=own_id, kind=E.DELIVERED, at={"seconds": 1_000_000_000}),
                E(delivery_id=own_id, kind=E.OPENED, at={"seconds": 1_000_000_060}, detail="x"),
                E(delivery_id="0" * 32, kind=E.DELIVERED),
            ]
            assert await report(stage, *events) == 2
            assert await report(stage, *events) == 0
            [delivery] = await deliveries(stage)
            assert delivery.state == "delivered"
            assert [(one.kind, one.detail) for one in delivery.receipts] == [
                ("DELIVERED", ""),
                ("OPENED", "x"),
            ]
            assert (await story(stage)).text == (
                "Delivered by mailto at 2001-09-09 01:46:40 UTC. Opened at 2001-09-09 01:47:40 UTC."
            )

    run(claim())


@pytest.mark.parametrize(
    ("kind", "answered", "state"),
    [
        (E.DELIVERED, R.ACCEPTED, "delivered"),
        (E.DELIVERED, R.RETRY, "delivered"),
        (E.DELIVERED, R.UNKNOWN, "delivered"),
        (E.FAILED, R.ACCEPTED, "failed"),
    ],
)
def test_a_receipt_that_overtakes_the_answer_is_not_lost(run, tmp_path, kind, answered, state):
    async def claim():
        answers = asyncio.Event()

        async def late(request, _):
            await answers.wait()
            return answer(outcome=answered)(request, _)

        plugin = FakePlugin()
        plugin.script = [late]
        async with staged(tmp_path, plugin) as stage:
            await send(stage)
            await until(lambda: plugin.calls)
            [handed] = plugin.deliveries
            assert await report(stage, E(delivery_id=handed.delivery_id, kind=kind)) == 1
            assert (await deliveries(stage))[0].state == "sending"
            answers.set()
            await until(in_state(stage, state))
            assert len(plugin.calls) == 1

    run(claim())


def test_what_arrived_before_its_sender_was_killed_is_not_sent_again(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [hang]
        async with staged(tmp_path, plugin) as stage:
            await send(stage)
            await until(lambda: plugin.calls)
            [handed] = plugin.deliveries
            await report(stage, E(delivery_id=handed.delivery_id, kind=E.DELIVERED))
            await stage.restart()
            await until(in_state(stage, "delivered"))
            assert len(plugin.calls) == 1

    run(claim())


# -- callbacks -----------------------------------------------------------------------------------

POST = notifier_pb2.HandleCallbackRequest(
    method="POST", url="https://push.example.org/v1/callbacks/sms?x=1", body=b"MessageStatus=sent"
)


def forwarded(stage: Stage, plugin: str = "sms"):
    request = pb.ForwardCallbackRequest(plugin=plugin, callback=POST)
    return stage.deliveries.ForwardCallback(request, timeout=20)


def test_what_a_plugin_learns_of_a_callback_is_recorded_before_the_provider_is_answered(
    run, tmp_path
):
    async def claim():
        plugin = FakePlugin("sms")
        plugin.on_callback = lambda request, _: H(
            status=200,
            body="<ok/>",
            content_type="text/xml",
            events=[E(delivery_id=plugin.deliveries[0].delivery_id, kind=E.FAILED, detail="30003")],
        )
        async with staged(tmp_path, plugin) as stage:
            await send(stage)
            await until(in_state(stage, "accepted"))
            told = await forwarded(stage)
            assert (told.status, told.body, told.content_type) == (200, "<ok/>", "text/xml")
            assert plugin.callbacks == [POST]
            [delivery] = await deliveries(stage)
            assert delivery.state == "failed"
            assert (await story(stage)).reason == "REPORTED_FAILED"
            await forwarded(stage)

    run(claim())


def test_with_a_wrong_signature_nothing_is_learnt(run, tmp_path):
    async def claim():
        plugin = FakePlugin("sms")
        plugin.on_callback = lambda *_: H(
            status=403, events=[E(delivery_id=plugin.deliveries[0].delivery_id, kind=E.FAILED)]
        )
        async with staged(tmp_path, plugin) as stage:
            await send(stage)
            await until(in_state(stage, "accepted"))
            assert (await forwarded(stage)).status == 403
            assert (await deliveries(stage))[0].state == "accepted"

    run(claim())


def test_a_callback_is_to_be_repeated_while_a_plugin_has_not_said_who_it_is(run, tmp_path):
    """A provider takes 404 for the end of it; after a restart it would be told so by mistake."""

    async def claim():
        plugin = FakePlugin("sms")
        plugin.on_callback = lambda *_: H(status=204)
        async with staged(tmp_path, plugin) as stage:
            [called] = stage.workers.plugins.list
            await until(lambda: called.ready)
            described, called.description = called.description, None
            assert (await refused(forwarded(stage)))[0] is C.UNAVAILABLE
            called.description = described
            assert (await forwarded(stage)).status == 204

    run(claim())


def test_a_callback_that_cannot_be_handled_is_to_be_repeated(run, tmp_path):
    async def abort(_, context):
        await context.abort(C.INTERNAL, "no")

    async def claim():
        plugin, silent = FakePlugin("sms"), FakePlugin("silent", tel=True)
        plugin.on_callback = abort
        async with staged(tmp_path, plugin, silent) as stage:
            await until(lambda: all(one.ready for one in stage.workers.plugins.list))
            assert (await refused(forwarded(stage)))[0] is C.UNAVAILABLE
            plugin.on_callback = lambda *_: H(status=99)
            assert (await refused(forwarded(stage)))[0] is C.UNAVAILABLE
            plugin.on_callback = lambda *_: H(body="x" * 9_000)
            told = await forwarded(stage)
            assert (told.status, len(told.body)) == (204, 4_096)
            assert (await refused(forwarded(stage, "nobody")))[0] is C.NOT_FOUND
            assert (await refused(forwarded(stage, "silent")))[0] is C.NOT_FOUND
            await plugin.stop()
            await until(lambda: not stage.workers.plugins.list[0].ready)
            assert (await refused(forwarded(stage)))[0] is C.UNAVAILABLE

    run(claim())
