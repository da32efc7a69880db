"""What every notifier owes its caller."""

import asyncio
import io
import json
import time
from collections import Counter
from dataclasses import replace

from deliveries import Deliveries, Limits
from onward.notifier.v1 import notifier_pb2

Result = notifier_pb2.Result


def delivery(own_id: str, endpoint: str = "", expires_in_s: float = 60) -> notifier_pb2.Delivery:
    made = notifier_pb2.Delivery(delivery_id=own_id, endpoint=endpoint or f"example:{own_id}")
    made.expires_at.FromNanoseconds(int((time.time() + expires_in_s) * 1e9))
    return made


def outcomes(results: list[Result]) -> list[str]:
    return [f"{one.delivery_id} {Result.Outcome.Name(one.outcome)}" for one in results]


class Provider:
    """Counts what it is given; holds it while `open` is not set."""

    def __init__(self, **limits: int) -> None:
        self.sent: Counter[str] = Counter()
        self.open = asyncio.Event()
        self.open.set()
        self.deliveries = Deliveries(["example"], self.send, replace(Limits(), **limits))

    async def send(self, one: notifier_pb2.Delivery) -> Result:
        self.sent[one.delivery_id] += 1
        await self.open.wait()
        if one.endpoint == "example:raises":
            raise RuntimeError("the title was: secret")
        if one.endpoint == "example:forgets":
            return None  # type: ignore[return-value]  # as an author's `send` may by mistake
        return Result(outcome=Result.ACCEPTED)

    async def answer(self, *batch: notifier_pb2.Delivery, wait_s: float = 5) -> list[str]:
        return outcomes(await self.deliveries.answer(batch, wait_s))


def test_every_delivery_is_answered_in_order() -> None:
    async def body() -> None:
        provider = Provider()
        answers = await provider.answer(delivery("a"), delivery("b"))
        assert answers == ["a ACCEPTED", "b ACCEPTED"]

    asyncio.run(body())


def test_what_has_expired_or_is_for_another_channel_is_not_sent() -> None:
    async def body() -> None:
        provider = Provider()
        answers = await provider.answer(
            delivery("old", expires_in_s=-1), delivery("strange", "pigeon:1"), delivery("")
        )
        assert answers == ["old EXPIRED", "strange REJECTED_MESSAGE", " REJECTED_MESSAGE"]
        assert not provider.sent

    asyncio.run(body())


def test_one_id_is_sent_once_later_and_at_the_same_time() -> None:
    async def body() -> None:
        provider = Provider()
        for _ in range(2):
            answers = await provider.answer(delivery("a"), delivery("a"))
            assert answers == ["a ACCEPTED", "a ACCEPTED"]
        both = await asyncio.gather(provider.answer(delivery("b")), provider.answer(delivery("b")))
        assert both == [["b ACCEPTED"], ["b ACCEPTED"]]
        assert provider.sent == {"a": 1, "b": 1}

    asyncio.run(body())


def test_at_the_deadline_what_has_begun_is_unknown_and_the_rest_never_begins() -> None:
    async def body() -> None:
        provider = Provider(sends_max=1)
        provider.open.clear()
        batch = [delivery("a"), delivery("b")]
        assert await provider.answer(*batch, wait_s=0.05) == ["a UNKNOWN", "b RETRY"]
        provider.open.set()
        await provider.deliveries.finish(5)
        assert provider.sent == {"a": 1}
        assert await provider.answer(*batch) == ["a ACCEPTED", "b ACCEPTED"]
        assert provider.sent == {"a": 1, "b": 1}

    asyncio.run(body())


def test_what_send_raises_costs_one_delivery_and_is_not_quoted() -> None:
    async def body() -> None:
        provider = Provider()
        found = await provider.deliveries.answer(
            [delivery("a", "example:raises"), delivery("b")], 5
        )
        assert outcomes(found) == ["a UNKNOWN", "b ACCEPTED"]
        assert found[0].detail == "send raised RuntimeError"

    asyncio.run(body())


def test_a_send_that_gives_no_result_costs_one_delivery() -> None:
    async def body() -> None:
        provider = Provider()
        batch = [delivery("a", "example:forgets"), delivery("b")]
        assert await provider.answer(*batch) == ["a UNKNOWN", "b ACCEPTED"]
        assert await provider.answer(*batch) == ["a UNKNOWN", "b ACCEPTED"]
        assert provider.sent == {"a": 2, "b": 1}

    asyncio.run(body())


def test_what_was_sent_is_remembered_within_a_bound() -> None:
    async def body() -> None:
        provider = Provider(remembered_max=2)
        for own_id in "abcca":
            await provider.answer(delivery(own_id))
        assert provider.sent == {"a": 2, "b": 1, "c": 1}

    asyncio.run(body())


def test_beyond_the_bound_deliveries_are_retried() -> None:
    async def body() -> None:
        provider = Provider(waiting_max=1)
        answers = await provider.answer(delivery("a"), delivery("b"))
        assert answers == ["a ACCEPTED", "b RETRY"]

    asyncio.run(body())


def test_the_log_of_sends_has_a_line_for_each() -> None:
    async def body() -> None:
        sent = io.StringIO()

        async def send(_: notifier_pb2.Delivery) -> Result:
            return Result(outcome=Result.ACCEPTED)

        await Deliveries(["example"], send, sent=sent).answer([delivery("a")], 5)
        assert json.loads(sent.getvalue()) == {"delivery_id": "a", "endpoint": "example:a"}

    asyncio.run(body())
