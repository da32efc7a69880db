"""The harness over real gRPC, with plugins of a few lines."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

from services.chassis.channel import open_channel
from services.chassis.errors import SettingError, StartError, Unavailable
from services.notifier import results, sending
from services.notifier.harness import (
    SERVICE,
    Channel,
    Limits,
    Notifier,
    Plugin,
    serve,
)
from services.notifier.results import Result
from services.notifier.sending import ASK_AGAIN_S
from tests.notifier.deliveries import Delivery, delivery, message
from tests.waiting import until

SECRET = "s" * 16
Send = Callable[[Delivery], Awaitable[Any]]


class Carrier:
    """A plugin whose `send` the test gives."""

    name = "carrier"

    def __init__(
        self, send: Send, scheme: str = "pigeon", concurrency: int = 4, repeats: bool = True
    ) -> None:
        self.channels = (Channel(scheme=scheme, repeats_unknown=repeats),)
        self.concurrency = concurrency
        self.sent: list[str] = []
        self.closed = False
        self._send = send

    async def send(self, delivery: Delivery) -> Result:
        self.sent.append(delivery.delivery_id)
        return await self._send(delivery)

    async def close(self) -> None:
        self.closed = True


async def accept(_: Delivery) -> Result:
    return results.accepted()


@asynccontextmanager
async def served(
    *plugins: Plugin, limits: Limits | None = None, drain_s: float = 0.2
) -> AsyncIterator[Any]:
    """A stub of the plugins, served on a free port."""
    stop = asyncio.Event()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(plugins, "127.0.0.1:0", SECRET, stop, name="test", limits=limits, drain_s=drain_s,
              started=port.set_result)
    )  # fmt: skip
    async with open_channel(f"127.0.0.1:{await port}", SECRET) as channel:
        yield notifier_pb2_grpc.NotifierServiceStub(channel)
    stop.set()
    await task


async def notify(stub: Any, *deliveries: Delivery, timeout: float = 10) -> list[Result]:
    request = notifier_pb2.NotifyRequest(deliveries=deliveries)
    return list((await stub.Notify(request, timeout=timeout)).results)


def pigeon(delivery_id: str, **fields: Any) -> Delivery:
    made = {"endpoint": "pigeon:ann", **fields}
    return delivery(message(), delivery_id=delivery_id, **made)


def outcomes(answers: Sequence[Result]) -> list[tuple[str, str]]:
    return [(r.delivery_id, Result.Outcome.Name(r.outcome)) for r in answers]


def test_describe_tells_the_channels_and_bounds(run: Any) -> None:
    async def body() -> None:
        plugins = Carrier(accept), Carrier(accept, scheme="*")
        async with served(*plugins, limits=Limits(batch_max=7, calls_max=3)) as stub:
            told = await stub.Describe(notifier_pb2.DescribeRequest())
            assert [c.scheme for c in told.channels] == ["pigeon", "*"]
            assert (told.name, told.batch_max, told.concurrency_max) == ("test", 7, 3)
        assert all(plugin.closed for plugin in plugins)

    run(body())


def test_each_delivery_has_its_own_result(run: Any) -> None:
    async def send(made: Delivery) -> Any:
        verdicts: dict[str, Any] = {
            "ok": results.accepted("p1"),
            "gone": results.endpoint_gone(),
            "none": None,
        }
        if made.delivery_id == "bug":
            raise KeyError("hi bob")
        if made.delivery_id == "down":
            raise Unavailable
        return verdicts[made.delivery_id]

    async def body() -> None:
        async with served(Carrier(send)) as stub:
            names = ["ok", "gone", "bug", "down", "none"]
            answers = await notify(stub, *map(pigeon, names))
            assert outcomes(answers) == [
                ("ok", "ACCEPTED"),
                ("gone", "ENDPOINT_GONE"),
                ("bug", "UNKNOWN"),
                ("down", "PROVIDER_UNAVAILABLE"),
                ("none", "UNKNOWN"),
            ]
            assert answers[0].provider_id == "p1"
            assert answers[2].detail == "the plugin raised KeyError"

    run(body())


def test_what_no_plugin_serves_is_refused_for_good(run: Any) -> None:
    async def body() -> None:
        carrier = Carrier(accept)
        async with served(carrier) as stub:
            answers = await notify(
                stub,
                pigeon("a", endpoint="raven:ann"),
                pigeon("b", endpoint="pigeon"),
                pigeon("c", endpoint=""),
                pigeon("", endpoint="pigeon:ann"),
            )
            assert {r.outcome for r in answers} == {Result.REJECTED_MESSAGE}
            assert not carrier.sent

    run(body())


def test_a_star_serves_what_no_other_does(run: Any) -> None:
    async def body() -> None:
        carrier, rest = Carrier(accept), Carrier(accept, scheme="*")
        async with served(rest, carrier) as stub:
            await notify(stub, pigeon("a"), pigeon("b", endpoint="raven:x"), pigeon("c", endpoint="PIGEON:x"))  # fmt: skip  # noqa: E501
            assert (sorted(carrier.sent), rest.sent) == (["a", "c"], ["b"])

    run(body())


def test_two_plugins_for_one_scheme_are_refused() -> None:
    with pytest.raises(SettingError, match="one scheme"):
        Notifier([Carrier(accept), Carrier(accept)], "test")


def test_what_has_expired_is_not_sent(run: Any) -> None:
    async def body() -> None:
        carrier = Carrier(accept)
        async with served(carrier) as stub:
            late, early, never = pigeon("late"), pigeon("early"), pigeon("never")
            late.expires_at.FromDatetime(datetime(2020, 1, 1, tzinfo=UTC))
            early.expires_at.FromDatetime(datetime(2100, 1, 1, tzinfo=UTC))
            never.expires_at.seconds = 2**62  # beyond what protobuf converts
            answers = await notify(stub, late, early, never)
            assert [outcome for _, outcome in outcomes(answers)] == [
                "EXPIRED",
                "ACCEPTED",
                "ACCEPTED",
            ]
            assert sorted(carrier.sent) == ["early", "never"]

    run(body())


def test_a_repeat_in_a_batch_is_sent_once_and_answered_each_time(run: Any) -> None:
    async def body() -> None:
        carrier = Carrier(accept)
        async with served(carrier) as stub:
            answers = await notify(stub, pigeon("a"), pigeon("b"), pigeon("a"))
            assert [r.delivery_id for r in answers] == ["a", "b", "a"]
            assert sorted(carrier.sent) == ["a", "b"]

    run(body())


def test_a_repeat_of_what_was_sent_is_answered_from_memory(run: Any) -> None:
    async def body() -> None:
        carrier = Carrier(accept)
        async with served(carrier, limits=Limits(remembered_max=1)) as stub:
            for name in ("a", "a", "b", "a"):
                assert outcomes(await notify(stub, pigeon(name))) == [(name, "ACCEPTED")]
            assert carrier.sent == ["a", "b", "a"]  # The memory holds one id: b drove a out.

    run(body())


def test_a_failure_is_tried_anew(run: Any) -> None:
    async def body() -> None:
        answers = [results.retry("busy"), results.unknown(), results.accepted()]

        async def send(_: Delivery) -> Result:
            return answers.pop(0)

        carrier = Carrier(send)
        async with served(carrier) as stub:
            got = [outcomes(await notify(stub, pigeon("a")))[0][1] for _ in range(4)]
            assert got == ["RETRY", "UNKNOWN", "ACCEPTED", "ACCEPTED"]
            assert len(carrier.sent) == 3

    run(body())


def test_a_deadline_tells_what_has_begun_from_what_has_not(run: Any) -> None:
    async def body() -> None:
        release = asyncio.Event()

        async def send(_: Delivery) -> Result:
            await release.wait()
            return results.accepted()

        carrier = Carrier(send, concurrency=1)
        async with served(carrier) as stub:
            answers = await notify(stub, pigeon("begun"), pigeon("waits"), timeout=0.6)
            assert outcomes(answers) == [("begun", "UNKNOWN"), ("waits", "RETRY")]
            assert [r.not_begun for r in answers] == [False, True]
            # What had begun reaches its end, and its repeat learns of it without a second send.
            release.set()
            again = await notify(stub, pigeon("begun"), pigeon("waits"))
            assert {r.outcome for r in again} == {Result.ACCEPTED}
            assert carrier.sent == ["begun", "waits"]

    run(body())


class Held:
    """A `send` that has no answer for some, by the start of their id, before it is let go."""

    def __init__(self, answer: Result | None = None, held: str = "held") -> None:
        self.go = asyncio.Event()
        self._answer = answer or results.accepted()
        self._held = held
        self.ended = False

    async def __call__(self, made: Delivery) -> Result:
        if not made.delivery_id.startswith(self._held):
            return results.accepted()
        await self.go.wait()
        self.ended = True
        return self._answer


async def lingers(stub: Any, delivery_id: str) -> Result:
    """The result of a send that has none yet: told long before the call's deadline."""
    began = asyncio.get_running_loop().time()
    [result] = await notify(stub, pigeon(delivery_id), timeout=60)
    assert asyncio.get_running_loop().time() - began < 30
    assert (result.outcome, result.detail) == (Result.UNKNOWN, "still being sent")
    return result


def test_a_send_that_lingers_does_not_hold_up_those_it_came_with(run: Any) -> None:
    async def body() -> None:
        send = Held()
        async with served(Carrier(send), limits=Limits(linger_s=0.05)) as stub:
            began = asyncio.get_running_loop().time()
            answers = await notify(stub, pigeon("a"), pigeon("held"), pigeon("b"), timeout=60)
            assert asyncio.get_running_loop().time() - began < 30
            assert outcomes(answers) == [("a", "ACCEPTED"), ("held", "UNKNOWN"), ("b", "ACCEPTED")]
            assert answers[1].retry_after.ToTimedelta().total_seconds() == ASK_AGAIN_S
            send.go.set()

    run(body())


@pytest.mark.parametrize(
    ("answer", "sends"),
    [(results.accepted("p1"), 1), (results.delivered("p1"), 1), (results.retry("busy", 7), 2),
     (results.unknown("cut off"), 2), (results.endpoint_gone("410"), 2),
     (results.rejected_message("400"), 2)],
)  # fmt: skip
def test_who_asks_again_is_told_what_became_of_it_and_a_failure_only_once(
    run: Any, answer: Result, sends: int
) -> None:
    async def body() -> None:
        send = Held(answer)
        carrier = Carrier(send)
        async with served(carrier, limits=Limits(linger_s=0.05)) as stub:
            await lingers(stub, "held")
            await lingers(stub, "held")
            send.go.set()
            await until(lambda: send.ended)
            [told] = await notify(stub, pigeon("held"))
            answer.delivery_id = "held"
            assert told == answer
            assert len(carrier.sent) == 1
            assert await notify(stub, pigeon("held")) == [answer]
            assert len(carrier.sent) == sends

    run(body())


def test_who_waited_for_a_failure_is_not_told_of_it_again(run: Any) -> None:
    async def body() -> None:
        send = Held(results.retry("busy"))
        carrier = Carrier(send, repeats=False)
        async with served(carrier) as stub:
            early = asyncio.create_task(notify(stub, pigeon("held"), timeout=0.5))
            await until(lambda: carrier.sent)
            late = asyncio.create_task(notify(stub, pigeon("held"), timeout=60))
            assert outcomes(await early) == [("held", "UNKNOWN")]
            send.go.set()
            assert outcomes(await late) == [("held", "RETRY")]
            assert outcomes(await notify(stub, pigeon("held"))) == [("held", "RETRY")]
            assert len(carrier.sent) == 2

    run(body())


def test_the_longer_a_send_takes_the_later_it_is_asked_about_again(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "ASK_AGAIN_S", 0.01)

    async def body() -> None:
        send = Held()
        async with served(Carrier(send), limits=Limits(linger_s=0.1)) as stub:
            waits = [(await lingers(stub, "held")).retry_after.ToMilliseconds() for _ in range(2)]
            assert 140 <= waits[0] <= waits[1]
            send.go.set()

    run(body())


def test_where_the_unknown_is_not_repeated_a_send_that_lingers_is_waited_for(run: Any) -> None:
    async def body() -> None:
        send = Held(held="")
        plugins = Carrier(send, scheme="sms", repeats=False), Carrier(send)
        async with served(*plugins, limits=Limits(linger_s=0.05)) as stub:
            waits = asyncio.create_task(notify(stub, pigeon("a", endpoint="sms:1"), timeout=60))
            await until(lambda: plugins[0].sent)
            await lingers(stub, "b")  # It began later, and would be answered later.
            assert not waits.done()
            send.go.set()
            assert outcomes(await waits) == [("a", "ACCEPTED")]

    run(body())


def test_what_waits_for_its_turn_does_not_linger(run: Any) -> None:
    async def body() -> None:
        send = Held()
        narrow, wide = Carrier(send, concurrency=1), Carrier(send, scheme="*")
        async with served(narrow, wide, limits=Limits(linger_s=0.05)) as stub:
            batch = asyncio.create_task(notify(stub, pigeon("held"), pigeon("next"), timeout=60))
            await until(lambda: narrow.sent)
            other = pigeon("held-2", endpoint="raven:1")
            assert outcomes(await notify(stub, other, timeout=60)) == [("held-2", "UNKNOWN")]
            assert not batch.done()
            send.go.set()
            assert outcomes(await batch) == [("held", "ACCEPTED"), ("next", "ACCEPTED")]

    run(body())


def test_a_send_that_lingers_has_the_time_of_the_drain_to_end(run: Any) -> None:
    async def body() -> None:
        send = Held()
        async with served(Carrier(send), limits=Limits(linger_s=0.05), drain_s=30) as stub:
            await lingers(stub, "held")
            # Later than what has no time left is given.
            asyncio.get_running_loop().call_later(1.0, send.go.set)
        assert send.ended

    run(body())


def test_a_cancelled_call_begins_nothing_more(run: Any) -> None:
    async def body() -> None:
        release = asyncio.Event()

        async def send(_: Delivery) -> Result:
            await release.wait()
            return results.accepted()

        carrier = Carrier(send, concurrency=1)
        async with served(carrier) as stub:
            call = asyncio.create_task(notify(stub, pigeon("a"), pigeon("b")))
            await until(lambda: carrier.sent)
            call.cancel()
            probe = asyncio.create_task(notify(stub, pigeon("c")))
            await asyncio.sleep(0.1)
            release.set()
            assert outcomes(await probe) == [("c", "ACCEPTED")]
            assert carrier.sent == ["a", "c"]

    run(body())


class Called(Carrier):
    """A plugin whose provider calls back."""

    def __init__(self, name: str, callback: Callable[[Any], Awaitable[Any]]) -> None:
        super().__init__(accept, scheme=name)
        self.name = name
        self._callback = callback

    async def callback(self, request: Any) -> Any:
        return await self._callback(request)


def call(url: str, body: bytes = b"") -> Any:
    return notifier_pb2.HandleCallbackRequest(method="POST", url=url, body=body)


def test_a_callback_reaches_the_plugin_that_its_url_names(run: Any) -> None:
    async def learn(request: Any) -> Any:
        event = notifier_pb2.DeliveryEvent(
            delivery_id=request.body.decode(), kind=notifier_pb2.DeliveryEvent.DELIVERED
        )
        return notifier_pb2.HandleCallbackResponse(status=202, body="taken", events=[event])

    async def refuse(request: Any) -> Any:
        return notifier_pb2.HandleCallbackResponse(status=403)

    async def body() -> None:
        async with served(Called("one", learn), Called("two", refuse), Carrier(accept)) as stub:
            assert (await stub.Describe(notifier_pb2.DescribeRequest())).callbacks
            answer = await stub.HandleCallback(call("https://h/v1/callbacks/x?channel=one", b"d7"))
            assert (answer.status, answer.body) == (202, "taken")
            assert [event.delivery_id for event in answer.events] == ["d7"]
            other = await stub.HandleCallback(call("https://h/v1/callbacks/x?channel=two"))
            assert (other.status, len(other.events)) == (403, 0)

    run(body())


@pytest.mark.parametrize(
    "url",
    ["", "https://h/", "https://h/?channel=", "https://h/?channel=carrier", "https://[",
     "https://h/?channel=one&channel=one", "https://h/?channel=three"],
)  # fmt: skip
def test_a_callback_for_nobody_is_answered_404(run: Any, url: str) -> None:
    async def never(request: Any) -> Any:
        raise AssertionError

    async def body() -> None:
        async with served(Called("one", never), Carrier(accept)) as stub:
            assert (await stub.HandleCallback(call(url))).status == 404

    run(body())


def test_without_a_plugin_that_takes_them_callbacks_are_not_promised(run: Any) -> None:
    async def body() -> None:
        async with served(Carrier(accept)) as stub:
            assert not (await stub.Describe(notifier_pb2.DescribeRequest())).callbacks
            assert (await stub.HandleCallback(call("https://h/?channel=carrier"))).status == 404

    run(body())


def test_a_callback_that_fails_or_hangs_is_answered_500(run: Any) -> None:
    async def fail(request: Any) -> Any:
        raise KeyError("hi")

    async def hang(request: Any) -> Any:
        await asyncio.sleep(30)

    async def body() -> None:
        plugins = Called("fails", fail), Called("hangs", hang)
        async with served(*plugins, limits=Limits(callback_s=0.1)) as stub:
            for name in ("fails", "hangs"):
                answer = await stub.HandleCallback(call(f"https://h/?channel={name}"))
                assert (answer.status, len(answer.events)) == (500, 0)

    run(body())


def test_sends_are_bounded(run: Any) -> None:
    async def body() -> None:
        under_way, most = 0, 0

        async def send(_: Delivery) -> Result:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.01)
            under_way -= 1
            return results.accepted()

        async with served(Carrier(send, concurrency=3)) as stub:
            calls = [notify(stub, *(pigeon(f"{c}-{n}") for n in range(10))) for c in range(3)]
            await asyncio.gather(*calls)
            assert most == 3

    run(body())


def test_beyond_the_bound_of_deliveries_under_way_none_is_begun(run: Any) -> None:
    async def body() -> None:
        async with served(Carrier(accept), limits=Limits(under_way_max=2)) as stub:
            answers = await notify(stub, *(pigeon(str(n)) for n in range(5)))
            assert {(r.outcome, r.not_begun) for r in answers} >= {(Result.RETRY, True)}

    run(body())


def test_a_send_that_outlasts_its_time_is_unknown(run: Any) -> None:
    async def send(_: Delivery) -> Result:
        await asyncio.sleep(30)
        return results.accepted()

    async def body() -> None:
        async with served(Carrier(send), limits=Limits(send_s=0.05)) as stub:
            assert outcomes(await notify(stub, pigeon("a"))) == [("a", "UNKNOWN")]

    run(body())


def test_a_plugin_whose_provider_is_slow_has_more_time(run: Any) -> None:
    async def send(_: Delivery) -> Result:
        await asyncio.sleep(0.2)
        return results.accepted()

    class Slow(Carrier):
        extra_s = 5.0

    async def body() -> None:
        async with served(Slow(send), limits=Limits(send_s=0.05)) as stub:
            assert outcomes(await notify(stub, pigeon("a"))) == [("a", "ACCEPTED")]

    run(body())


def test_an_empty_or_oversized_batch_is_an_error_of_the_caller(run: Any) -> None:
    async def body() -> None:
        async with served(Carrier(accept), limits=Limits(batch_max=2)) as stub:
            for names in ("", "abc"):
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await notify(stub, *map(pigeon, names))
                assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT

    run(body())


def test_it_is_healthy_and_asks_for_the_secret(run: Any) -> None:
    async def body() -> None:
        stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
        task = asyncio.create_task(
            serve([Carrier(accept)], "127.0.0.1:0", SECRET, stop, name="t", started=port.set_result)
        )
        address = f"127.0.0.1:{await port}"
        async with open_channel(address, SECRET) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            answer = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        async with open_channel(address, "w" * 16) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await notify(notifier_pb2_grpc.NotifierServiceStub(channel), pigeon("a"))
            assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(StartError):
            await serve([Carrier(accept)], address, SECRET, stop, name="second")
        stop.set()
        await task

    run(body())


def test_nothing_of_a_message_reaches_the_log(run: Any, capfd: pytest.CaptureFixture[str]) -> None:
    async def send(made: Delivery) -> Result:
        raise RuntimeError(made.messages[0].text + made.endpoint)

    async def body() -> None:
        async with served(Carrier(send)) as stub:
            made = pigeon("a", endpoint="pigeon:hidden-token")
            made.messages[0].text = "hidden-text"
            await notify(stub, made)

    run(body())
    captured = capfd.readouterr()
    assert "hidden" not in captured.out + captured.err
