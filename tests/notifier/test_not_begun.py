"""What waits for its turn when the process is stopped, or when its caller's time is nearly over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

from services.chassis.channel import open_channel
from services.notifier import results, sending
from services.notifier.harness import LANE_AGAIN_S, Limits, Notifier, serve
from services.notifier.results import Result
from tests.notifier.deliveries import Delivery
from tests.notifier.test_harness import SECRET, Carrier, Held, notify, outcomes, pigeon, served
from tests.waiting import until

STOPPING = "the process is being stopped"


class Stoppable:
    """A served plugin that is told to stop before the test ends."""

    def __init__(self, plugin: Carrier, drain_s: float) -> None:
        self._stop = asyncio.Event()
        self._port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ending = asyncio.create_task(
            serve([plugin], "127.0.0.1:0", SECRET, self._stop, name="t", drain_s=drain_s,
                  started=self._port.set_result)
        )  # fmt: skip

    async def address(self) -> str:
        return f"127.0.0.1:{await self._port}"

    def stop(self) -> None:
        self._stop.set()


@asynccontextmanager
async def stoppable(plugin: Carrier, drain_s: float = 30) -> AsyncIterator[tuple[Stoppable, Any]]:
    process = Stoppable(plugin, drain_s)
    async with open_channel(await process.address(), SECRET) as channel:
        yield process, channel
    process.stop()
    await process.ending


def not_begun(answers: list[Result]) -> list[str]:
    return [r.delivery_id for r in answers if r.not_begun and r.detail == STOPPING]


def test_at_a_stop_what_is_under_way_ends_and_what_waits_is_not_begun(run: Any) -> None:
    async def body() -> None:
        send = Held()
        carrier = Carrier(send, concurrency=1)
        async with stoppable(carrier) as (process, channel):
            stub = notifier_pb2_grpc.NotifierServiceStub(channel)
            batch = asyncio.create_task(
                notify(stub, pigeon("held"), pigeon("next"), pigeon("last"), timeout=60)
            )
            await until(lambda: carrier.sent)
            process.stop()
            health = health_pb2_grpc.HealthStub(channel)

            async def says_so() -> bool:
                answer = await health.Check(health_pb2.HealthCheckRequest())
                return bool(answer.status == health_pb2.HealthCheckResponse.NOT_SERVING)

            await until(says_so)
            # Whoever calls all the same learns that nothing was sent.
            late = await notify(stub, pigeon("late"), timeout=60)
            assert not_begun(late) == ["late"]
            assert not process.ending.done()
            send.go.set()
            answers = await batch
            assert outcomes(answers) == [
                ("held", "ACCEPTED"), ("next", "RETRY"), ("last", "RETRY"),
            ]  # fmt: skip
            assert not_begun(answers) == ["next", "last"]
            await process.ending
        assert carrier.sent == ["held"]
        assert carrier.closed

    run(body())


class Laned(Carrier):
    """A carrier whose lanes are the addresses, with one turn each."""

    lane_concurrency = 1

    def lane(self, delivery: Delivery) -> str:
        return delivery.delivery_id.partition("-")[0]


def test_what_waits_for_a_full_lane_holds_nobody_up_and_says_that_it_waits_by_itself(
    run: Any,
) -> None:
    async def body() -> None:
        send = Held()
        carrier = Laned(send)
        async with served(carrier, limits=Limits(linger_s=0.05)) as stub:
            began = asyncio.get_running_loop().time()
            ids = ("held-1", "held-2", "free-1")
            answers = await notify(stub, *(pigeon(one) for one in ids), timeout=60)
            assert asyncio.get_running_loop().time() - began < 30
            assert [r.not_begun for r in answers] == [False, True, False]
            assert [r.outcome for r in answers] == [Result.UNKNOWN, Result.RETRY, Result.ACCEPTED]
            assert answers[1].retry_after.ToTimedelta().total_seconds() == LANE_AGAIN_S
            send.go.set()
            [again] = await notify(stub, pigeon("held-2"), timeout=60)
            assert again.outcome == Result.ACCEPTED
        assert carrier.sent == ["held-1", "free-1", "held-2"]

    run(body())


def test_a_send_that_outlasts_the_drain_leaves_no_doubt_of_those_it_came_with(run: Any) -> None:
    async def body() -> None:
        carrier = Carrier(Held(), repeats=False)
        async with stoppable(carrier, drain_s=0) as (process, channel):
            stub = notifier_pb2_grpc.NotifierServiceStub(channel)
            batch = asyncio.create_task(notify(stub, pigeon("a"), pigeon("held"), timeout=60))
            await until(lambda: len(carrier.sent) == 2)
            process.stop()
            assert outcomes(await batch) == [("a", "ACCEPTED"), ("held", "UNKNOWN")]

    run(body())


def test_a_stop_with_nothing_under_way_does_not_wait(run: Any) -> None:
    async def accept(_: Delivery) -> Result:
        return results.accepted()

    async def body() -> None:
        async with stoppable(Carrier(accept)) as (process, channel):
            stub = notifier_pb2_grpc.NotifierServiceStub(channel)
            await notify(stub, pigeon("a"))
            began = asyncio.get_running_loop().time()
            process.stop()
            await process.ending
            assert asyncio.get_running_loop().time() - began < 10
            with pytest.raises(grpc.aio.AioRpcError):
                await notify(stub, pigeon("b"))

    run(body())


def test_nothing_begins_so_late_that_its_caller_would_not_hear_of_it(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that the whole of the call's time is too late, whenever a turn comes.
    monkeypatch.setattr(sending, "_BEGIN_MARGIN_PART", 1.0)
    monkeypatch.setattr(sending, "BEGIN_MARGIN_S", 60.0)

    async def body() -> None:
        carrier = Carrier(Held())
        notifier = Notifier([carrier], "t")
        [answer] = (await notifier.Notify(_request("a"), _Context(5.0))).results
        assert (answer.outcome, answer.not_begun) == (Result.RETRY, True)
        assert carrier.sent == []
        # Not kept: whoever comes again gets it begun.
        [answer] = (await notifier.Notify(_request("a"), _Context(None))).results
        assert answer.outcome == Result.ACCEPTED

    run(body())


def _request(*ids: str) -> Any:
    return notifier_pb2.NotifyRequest(deliveries=[pigeon(one) for one in ids])


class _Context:
    """Of a call with so much time left; None: as much as it takes."""

    def __init__(self, left_s: float | None) -> None:
        self._left_s = left_s

    def time_remaining(self) -> float | None:
        return self._left_s
