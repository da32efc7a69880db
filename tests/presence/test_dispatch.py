"""Deliveries against a real plugin on the wire that answers well, badly, or not at all."""

import asyncio
import time

import grpc
import grpc.aio
from onward.notifier.v1 import notifier_pb2
from onward.presence.v1 import deliveries_pb2, presence_pb2

from tests.presence.stage import Client, FakePlugin, Stage, staged
from tests.waiting import until

MAIL = "mailto:ann@example.org"
PHONE = "tel:+491700000000"
R = notifier_pb2.Result


async def send(stage: Stage, *uris: str, subject="/a") -> None:
    """One message is due to ann, who is offline, at these endpoints."""
    ann = Client(stage.log, "ann")
    ann.connect(subject, endpoints=uris or [MAIL])
    ann.disconnect()
    stage.log.publish(subject, "hello")
    await stage.report()


async def story(stage: Stage, subject="/a") -> presence_pb2.Outcome:
    [outcome] = (await stage.explain("ann", subject, 1)).outcomes
    return outcome


async def deliveries(stage: Stage) -> list[presence_pb2.DeliveryStory]:
    return list((await story(stage)).deliveries)


def in_state(stage: Stage, *states: str):
    async def reached() -> bool:
        return [delivery.state for delivery in await deliveries(stage)] == list(states)

    return reached


async def uris_of(stage: Stage) -> list[str]:
    return list(await stage.store.read(lambda tx: tx.uris("ann")))


def answer(**fields):
    """A step of a script: this result for every delivery."""

    def step(request, _):
        return notifier_pb2.NotifyResponse(
            results=[R(delivery_id=d.delivery_id, **fields) for d in request.deliveries]
        )

    return step


async def hang(request, context):
    await asyncio.sleep(30)


def test_two_retries_then_accepted_are_one_delivery_with_three_attempts(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [answer(outcome=R.RETRY, detail="451 busy")] * 2
        async with staged(tmp_path, plugin) as stage:
            await send(stage)
            await until(in_state(stage, "accepted"))
            [delivery] = await deliveries(stage)
            assert [(a.outcome, a.detail) for a in delivery.attempts] == [
                ("RETRY", "451 busy"),
                ("RETRY", "451 busy"),
                ("ACCEPTED", ""),
            ]
            assert len({d.delivery_id for d in plugin.deliveries}) == 1
            assert [d.attempt for d in plugin.deliveries] == [1, 2, 3]
            outcome = await story(stage)
            assert outcome.state == presence_pb2.Outcome.NOTIFIED
            assert "Sent by mailto at" in outcome.text
            assert "after 2 retries" in outcome.text

    run(claim())


def test_retry_after_is_obeyed(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        step = answer(outcome=R.RETRY, retry_after={"nanos": 400_000_000})
        plugin.script = [step]
        async with staged(tmp_path, plugin) as stage:
            await send(stage)
            await until(lambda: len(plugin.calls) == 2)
            first, second = (await deliveries(stage))[0].attempts
            waited_s = (second.at.ToNanoseconds() - first.at.ToNanoseconds()) / 1e9
            assert waited_s >= 0.4

    run(claim())


def test_too_many_retries_leave_a_dead_letter(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [R.RETRY] * 10
        async with staged(tmp_path, plugin, retry_tries_max=3) as stage:
            await send(stage)
            await until(in_state(stage, "dead"))
            assert len(plugin.calls) == 3
            assert (await story(stage)).state == presence_pb2.Outcome.FAILED

    run(claim())


def test_an_outage_that_outlasts_all_tries_loses_nothing_within_the_time_for_it(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [R.RETRY] * 10
        async with staged(tmp_path, plugin, retry_tries_max=3, dead_letter_after_s=600.0) as stage:
            await send(stage)
            await until(in_state(stage, "accepted"))
            assert len(plugin.calls) == 11

    run(claim())


def test_the_time_for_a_dead_letter_begins_with_the_first_try(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [R.RETRY] * 1_000
        limits = {"retry_tries_max": 2, "retry_longest_s": 0.05, "dead_letter_after_s": 0.6}
        async with staged(tmp_path, plugin, **limits) as stage:
            await send(stage)
            await until(in_state(stage, "dead"))
            [delivery] = await deliveries(stage)
            at = [attempt.at.ToNanoseconds() / 1e9 for attempt in delivery.attempts]
            assert len(at) > 2
            assert at[-2] - at[0] < 0.6

    run(claim())


def test_the_time_for_a_dead_letter_leaves_out_what_was_no_try_and_what_was_before_a_replay(
    run, tmp_path
):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [R.MISCONFIGURED, R.RETRY, R.RETRY] + [R.RETRY] * 1_000
        limits = {"retry_tries_max": 2, "retry_longest_s": 0.05, "dead_letter_after_s": 0.4}
        async with staged(tmp_path, plugin, breaker_first_s=0.5, **limits) as stage:

            async def times() -> list[float]:
                await until(in_state(stage, "dead"))
                [delivery] = await deliveries(stage)
                return [attempt.at.ToNanoseconds() / 1e9 for attempt in delivery.attempts]

            await send(stage)
            at = await times()
            assert at[-1] - at[1] >= 0.3, "what was misconfigured was no try"
            [letter] = await deliveries(stage)
            which = deliveries_pb2.DeadLetterFilter(delivery_ids=[letter.delivery_id])
            request = deliveries_pb2.ReplayDeadLettersRequest(filter=which)
            await stage.deliveries.ReplayDeadLetters(request)
            again = (await times())[len(at) :]
            assert again[-1] - again[0] >= 0.3, "as long as at first"

    run(claim())


NOT_BEGUN = answer(outcome=R.RETRY, not_begun=True, detail="stopping")


def test_what_a_plugin_has_not_begun_is_sent_later_and_no_try_is_used_up(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [NOT_BEGUN] * 5
        async with staged(tmp_path, plugin, retry_tries_max=1) as stage:
            await send(stage)
            await until(in_state(stage, "accepted"))
            [delivery] = await deliveries(stage)
            assert [(a.outcome, a.detail) for a in delivery.attempts] == [
                ("NOT_BEGUN", "stopping")
            ] * 5 + [("ACCEPTED", "")]
            assert len({d.delivery_id for d in plugin.deliveries}) == 1

    run(claim())


def test_a_plugin_that_never_begins_is_called_seldom_until_all_expires(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.batch_max = 1
        plugin.script = [NOT_BEGUN] * 1_000
        # With the least wait that is drawn: 1 s after the first call.
        waits = {"breaker_first_s": 2.0, "breaker_longest_s": 2.0}
        async with staged(tmp_path, plugin, expiry_s=1.0, **waits) as stage:
            await send(stage, *(f"mailto:{n}@example.org" for n in range(20)))
            await until(in_state(stage, *["expired"] * 20))
            # Those that were under way together, as many as may be.
            assert len(plugin.calls) <= 4

    run(claim())


def test_what_only_waits_for_others_to_the_same_place_stops_no_channel(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        full = answer(outcome=R.RETRY, not_begun=True, retry_after={"seconds": 1})
        plugin.script = [full] * 3
        async with staged(tmp_path, plugin, breaker_first_s=600.0) as stage:
            await send(stage)
            await until(in_state(stage, "retry"))
            lane = stage.workers.plugins.lane_for("mailto")
            assert lane is not None
            assert lane.breaker.closed
            await until(in_state(stage, "accepted"), 20)

    run(claim())


def test_a_gone_endpoint_is_removed_and_told_at_the_next_connect(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [answer(outcome=R.ENDPOINT_GONE, detail="550 5.1.1")]
        async with staged(tmp_path, plugin) as stage:
            await send(stage)
            await until(in_state(stage, "failed"))
            assert await uris_of(stage) == []
            ask = presence_pb2.ListGoneEndpointsRequest(user="ann", client_id="ann-1")
            assert list((await stage.query.ListGoneEndpoints(ask)).uris) == [MAIL]
            ann = Client(stage.log, "ann")
            ann.generation = 1
            ann.connect("/a", endpoints_gone_told=[MAIL])
            await stage.report()
            assert list((await stage.query.ListGoneEndpoints(ask)).uris) == []

    run(claim())


def test_an_endpoint_registered_after_it_was_gone_stays(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [answer(outcome=R.ENDPOINT_GONE, gone_since={"seconds": 1_000})]
        async with staged(tmp_path, plugin) as stage:
            await send(stage)
            await until(in_state(stage, "failed"))
            assert await uris_of(stage) == [MAIL]

    run(claim())


def test_a_misconfigured_plugin_is_left_alone_and_nothing_is_lost(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [R.MISCONFIGURED] * 4
        async with staged(tmp_path, plugin, retry_tries_max=2) as stage:
            await send(stage)
            await until(lambda: plugin.calls)
            await until(lambda: not stage.workers.plugins.lanes[0].breaker.closed)
            await until(in_state(stage, "accepted"))
            assert await uris_of(stage) == [MAIL]
            assert len(plugin.calls) == 5
            assert stage.workers.plugins.lanes[0].breaker.closed

    run(claim())


def test_an_opt_out_is_never_sent_to_again(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [R.OPTED_OUT]
        async with staged(tmp_path, plugin) as stage:
            await send(stage)
            await until(in_state(stage, "failed"))
            stage.log.publish("/a", "more")
            await stage.report()
            [outcome] = (await stage.explain("ann", "/a", 2)).outcomes
            assert outcome.reason == "OPTED_OUT"
            assert len(plugin.calls) == 1

    run(claim())


def test_an_unknown_outcome_is_repeated_by_mail_and_never_by_phone(run, tmp_path):
    async def claim():
        plugin = FakePlugin(mailto=True, tel=False)
        plugin.script = [R.UNKNOWN] * 2
        async with staged(tmp_path, plugin) as stage:
            await send(stage, MAIL, PHONE)
            await until(in_state(stage, "accepted", "unknown"))
            sent = [delivery.endpoint for delivery in plugin.deliveries]
            assert sorted(sent) == [MAIL, MAIL, PHONE]

    run(claim())


def test_missing_answers_are_unknown_and_uninvited_ones_are_passed_over(run, tmp_path):
    async def claim():
        def step(request, _):
            return notifier_pb2.NotifyResponse(
                results=[R(delivery_id="0" * 32, outcome=R.ENDPOINT_GONE), R(outcome=R.ACCEPTED)]
            )

        plugin = FakePlugin(mailto=False)
        plugin.script = [step]
        async with staged(tmp_path, plugin) as stage:
            await send(stage)
            await until(in_state(stage, "unknown"))
            assert await uris_of(stage) == [MAIL]
            assert (await story(stage)).state == presence_pb2.Outcome.UNKNOWN

    run(claim())


def test_a_plugin_that_answers_for_nothing_it_was_asked_is_left_alone(run, tmp_path):
    async def claim():
        plugin = FakePlugin(mailto=False)
        plugin.script = [lambda request, _: notifier_pb2.NotifyResponse()] * 50
        async with staged(tmp_path, plugin, breaker_first_s=9) as stage:
            await send(stage)
            await until(in_state(stage, "unknown"))
            lane = stage.workers.plugins.lane_for("mailto")
            assert lane is not None
            assert not lane.breaker.closed
            assert lane.fault.startswith("CALL_BROKEN")

    run(claim())


def test_garbage_of_a_plugin_harms_nobody(run, tmp_path):
    async def claim():
        def step(request, _):
            [delivery] = request.deliveries
            return notifier_pb2.NotifyResponse(
                results=[
                    R(delivery_id=delivery.delivery_id, outcome=99),
                    R(
                        delivery_id=delivery.delivery_id,
                        outcome=R.RETRY,
                        retry_after={"seconds": -(2**62), "nanos": -(2**31)},
                        gone_since={"seconds": 2**62},
                        detail="\x1b[31mred\n" * 1_000,
                    ),
                ]
            )

        plugin = FakePlugin("A name \n of no plugin")
        plugin.script = [step]
        async with staged(tmp_path, plugin) as stage:
            await send(stage)
            await until(in_state(stage, "accepted"))
            [delivery] = await deliveries(stage)
            first = delivery.attempts[0]
            assert (first.outcome, len(first.detail)) == ("RETRY", 256)
            assert first.detail.isprintable()

    run(claim())


def test_a_hanging_plugin_meets_its_deadline_and_others_are_not_kept_waiting(run, tmp_path):
    async def claim():
        slow, quick = FakePlugin("slow"), FakePlugin("quick", tel=False)
        slow.script = [hang]
        async with staged(tmp_path, slow, quick, notify_deadline_s=2) as stage:
            await send(stage, MAIL, PHONE)
            await until(in_state(stage, "sending", "accepted"))
            await until(in_state(stage, "accepted", "accepted"))
            [mail, _] = await deliveries(stage)
            assert [a.outcome for a in mail.attempts] == ["CALL_TIMED_OUT", "ACCEPTED"]

    run(claim())


def test_a_call_that_the_plugin_turned_down_is_repeated_on_any_channel(run, tmp_path):
    async def claim():
        async def refuse(_, context):
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")

        plugin = FakePlugin(mailto=False)
        plugin.script = [refuse]
        async with staged(tmp_path, plugin) as stage:
            await send(stage)
            await until(in_state(stage, "accepted"))
            assert len(plugin.calls) == 2

    run(claim())


def test_a_claim_found_after_a_restart_is_unknown_by_channel(run, tmp_path):
    async def claim():
        plugin = FakePlugin(mailto=True, tel=False)
        plugin.script = [hang] * 2
        async with staged(tmp_path, plugin) as stage:
            await send(stage, MAIL, PHONE)
            await until(in_state(stage, "sending", "sending"))
            # The claim comes before the call; ended between them, the call after it would hang.
            await until(lambda: len(plugin.calls) == 2)
            await stage.restart()
            await until(in_state(stage, "accepted", "unknown"))
            mail, phone = await deliveries(stage)
            assert [a.outcome for a in mail.attempts] == ["UNKNOWN", "ACCEPTED"]
            assert [a.outcome for a in phone.attempts] == ["UNKNOWN"]
            assert len({d.delivery_id for d in plugin.deliveries if d.endpoint == MAIL}) == 1

    run(claim())


def test_a_new_term_in_the_same_process_sends_on(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [hang]
        async with staged(tmp_path, plugin) as stage:
            await send(stage)
            await until(lambda: plugin.calls and in_state(stage, "sending")())
            await stage.new_term()
            await until(in_state(stage, "accepted"))
            assert len(plugin.calls) == 2

    run(claim())


def test_calls_side_by_side_that_fail_while_others_begin_lose_nothing(run, tmp_path):
    async def claim():
        async def fault(request, context):
            await asyncio.sleep(0.001 * len(plugin.calls))
            return answer(outcome=R.MISCONFIGURED)(request, context)

        async def good(request, context):
            await asyncio.sleep(0.002)
            return answer(outcome=R.ACCEPTED)(request, context)

        plugin = FakePlugin()
        plugin.batch_max = 1
        plugin.script = [good, fault, good, good, fault, fault] * 4
        quick = {"breaker_first_s": 0.01, "breaker_longest_s": 0.01}
        async with staged(tmp_path, plugin, **quick) as stage:
            for number in range(30):
                one = Client(stage.log, f"user{number}")
                one.connect("/a", endpoints=[f"mailto:{number}@example.org"])
                one.disconnect()
            stage.log.publish("/a", "hello")
            await stage.report()

            async def accepted() -> bool:
                rows = await stage.store.read(
                    lambda tx: tx.db.rows(
                        "SELECT count(*) FROM deliveries WHERE state = ?", ("accepted",)
                    )
                )
                return rows == [(30,)]

            await until(accepted, 20)

    run(claim())


def test_a_drain_lets_calls_under_way_end_and_begins_no_more(run, tmp_path):
    async def claim():
        async def slow(request, context):
            await asyncio.sleep(0.2)
            return answer(outcome=R.ACCEPTED)(request, context)

        plugin = FakePlugin()
        plugin.script = [slow]
        async with staged(tmp_path, plugin, drain_s=3, collapse_s=0) as stage:
            await send(stage)
            await until(lambda: plugin.calls)
            await stage.workers.drain()
            assert [delivery.state for delivery in await deliveries(stage)] == ["accepted"]
            stage.log.publish("/a", "later")
            await stage.report()
            await asyncio.sleep(0.1)
            assert len(plugin.calls) == 1

    run(claim())


def test_a_drain_waits_for_what_is_being_claimed(run, tmp_path):
    """It would be claimed and sent after everybody has been waited for, and be unknown."""

    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin, drain_s=9, collapse_s=0) as stage:
            await send(stage)
            await until(in_state(stage, "accepted"))
            lane = stage.workers.plugins.lane_for("mailto")
            assert lane is not None
            for begin, end in (
                (lambda: setattr(lane, "looking", True), lambda: setattr(lane, "looking", False)),
                (lambda: setattr(lane, "reserved", 1), lambda: setattr(lane, "reserved", 0)),
            ):
                begin()
                draining = asyncio.create_task(stage.workers._dispatcher.drain(9))
                assert not (await asyncio.wait([draining], timeout=0.2))[0]
                end()
                await asyncio.wait_for(draining, 5)

    run(claim())


def test_a_channel_that_nobody_serves_waits_and_says_so(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            await send(stage, "fcm:abc")
            await until(in_state(stage, "pending"))
            outcome = await story(stage)
            assert (outcome.state, outcome.reason) == (presence_pb2.Outcome.PENDING, "NO_CHANNEL")
            assert [delivery.reason for delivery in outcome.deliveries] == ["NO_CHANNEL"]
            assert outcome.text == "Waiting: no plugin serves fcm."

    run(claim())


def test_what_nobody_could_send_expires(run, tmp_path):
    async def claim():
        async with staged(tmp_path, expiry_s=1) as stage:
            await send(stage)
            await until(in_state(stage, "expired"), 15)

    run(claim())


def test_a_removed_endpoint_is_not_sent_to(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        plugin.script = [answer(outcome=R.RETRY, retry_after={"seconds": 600})]
        async with staged(tmp_path, plugin) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=[MAIL])
            stage.log.publish("/a", "hello")
            ann.disconnect()
            await stage.report()
            await until(lambda: plugin.calls)
            ann.connect()
            ann.remove_endpoint(MAIL)
            ann.disconnect()
            await stage.report()
            await until(in_state(stage, "cancelled"))
            assert (await story(stage)).reason == "ENDPOINT_REMOVED"

    run(claim())


def test_a_plugin_for_the_channel_wins_over_one_for_any_also_while_it_is_away(run, tmp_path):
    async def claim():
        everything, mail = FakePlugin("everything", any=True), FakePlugin("mail")
        async with staged(tmp_path, everything, mail) as stage:
            await until(lambda: stage.workers.plugins.routes())
            await mail.stop()
            await send(stage, MAIL, PHONE)
            await until(in_state(stage, "pending", "accepted"))
            assert [d.endpoint for d in everything.deliveries] == [PHONE]
            await mail.start()
            await until(in_state(stage, "accepted", "accepted"))
            assert [d.endpoint for d in mail.deliveries] == [MAIL]

    run(claim())


def test_no_token_is_told_by_explain(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            await send(stage)
            await until(in_state(stage, "accepted"))
            assert "ann@example.org" not in str(await stage.explain("ann", "/a"))

    run(claim())


def test_messages_that_join_between_the_read_and_the_claim_are_listed(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            contents = stage.workers._dispatcher._contents
            # As after a restart: nothing is at hand, so all is read before it is claimed.
            contents.size_at_hand = lambda *_: None
            newest, joined = contents.newest, []

            async def newest_then_join(subject, spans):
                found = await newest(subject, spans)
                if not joined:
                    joined.append(stage.log.publish(subject, "late"))
                    await stage.report()
                return found

            contents.newest = newest_then_join
            await send(stage)
            await until(in_state(stage, "accepted"))
            [sent] = plugin.deliveries
            assert sent.count == 2
            assert [message.text for message in sent.messages] == ["hello", "late"]

    run(claim())


def test_what_is_being_read_is_not_read_again_by_the_next_look(run, tmp_path):
    async def claim():
        plugin = FakePlugin()
        async with staged(tmp_path, plugin) as stage:
            contents = stage.workers._dispatcher._contents
            contents.size_at_hand = lambda *_: None
            newest, read = contents.newest, []

            async def counted(subject, spans):
                read.append(subject)
                return await newest(subject, spans)

            contents.newest = counted
            loop = asyncio.get_running_loop()
            in_executor = loop.run_in_executor

            def late_loop(*args):
                # The store's thread is done before the loop begins what it has just started.
                future = in_executor(*args)
                time.sleep(0.01)
                return future

            loop.run_in_executor = late_loop
            await send(stage)
            await until(in_state(stage, "accepted"))
            assert read == ["/a"]

    run(claim())
