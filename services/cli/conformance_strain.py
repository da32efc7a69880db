"""Rules of `onward conformance` that strain a plugin: repeats, deadlines, sizes, many calls.

Each is given the plugin and returns what it saw in half a sentence; it raises Failed or Skipped.
Knows the contract; must not know which rules come before or after.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial

import grpc
import grpc.aio
from onward.notifier.v1 import notifier_pb2

from services.cli.conformance_plugin import (
    CALL_S,
    TAKEN,
    WORKS_S,
    Delivery,
    Examined,
    Failed,
    Result,
    Skipped,
    name_of,
    outcome_of,
    status_of,
)

# Time enough for a plugin to answer, and less than any --slow endpoint takes.
_DEADLINE_S = 2.0
_LARGE_BYTES = 128 * 1024
# What the presence service puts into one call at most, and what a notification shows of it.
_HEAVY_BYTES = 8 * 1024 * 1024
_MESSAGES_MAX = 10
_CALL_SIZE = 20  # deliveries in each of many calls
_REJECTS = (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT)
_CANCELLED_AFTER_S = 0.1


async def repeats(plugin: Examined) -> str:
    """The same id is sent once: one after the other, and at the same time."""
    sends = plugin.need_sends()
    one = plugin.delivery()
    if await plugin.outcome(one) not in TAKEN:
        raise Skipped("no delivery was accepted; name an endpoint with --endpoint")
    again = Delivery()
    again.CopyFrom(one)
    again.attempt = 2
    outcome = await plugin.outcome(again)
    _sent_once(await sends.appear(one.delivery_id), "came again after it was answered")
    if outcome not in TAKEN:
        raise Failed(f"it was accepted, and then its repeat is {name_of(outcome)}")
    both = plugin.delivery()
    await asyncio.gather(plugin.notify([both]), plugin.notify([both]))
    _sent_once(await sends.appear(both.delivery_id), "came in two calls at the same time")
    return "later and at the same time, sent once"


async def deadline(plugin: Examined) -> str:
    """With a provider that takes too long, the answer comes in time and says so."""
    slow = plugin.wishes.slow
    batch = plugin.batch(min(plugin.batch_max, _CALL_SIZE))
    if slow:
        batch[0].endpoint = slow
    began = time.monotonic()
    try:
        results = await plugin.notify(batch, _DEADLINE_S)
    except grpc.aio.AioRpcError as error:
        raise Failed(
            f"a call with a deadline of {_DEADLINE_S:g} s ends with {error.code().name}, not with "
            "results"
        ) from None
    took = time.monotonic() - began
    for one in batch:
        outcome_of(one, results)
    if not slow:
        return f"in {took:.2f} s; --slow URI would show it with a provider that is slow"
    outcome = outcome_of(batch[0], results)
    if outcome not in (*TAKEN, Result.UNKNOWN, Result.RETRY):
        raise Failed(f"what was not done in time is {name_of(outcome)}, not UNKNOWN or RETRY")
    return f"in {took:.2f} of {_DEADLINE_S:g} s, the slow one {name_of(outcome)}"


async def garbage(plugin: Examined) -> str:
    """What nobody should ask for is an answer or INVALID_ARGUMENT, and then it still works."""
    no_expiry = plugin.delivery()
    no_expiry.ClearField("expires_at")
    far = plugin.delivery()
    far.expires_at.seconds = 2**62
    batches: dict[str, Sequence[Delivery]] = {
        "an empty batch": [],
        "an empty delivery": [Delivery()],
        "no delivery_id": [_with(plugin, "delivery_id", "")],
        "no endpoint": [_with(plugin, "endpoint", "")],
        "an endpoint without scheme": [_with(plugin, "endpoint", "conformance")],
        "an endpoint of 10,000 bytes": [
            _with(plugin, "endpoint", plugin.scheme + ":" + "x" * 9999)
        ],
        "no expires_at": [no_expiry],
        "an expires_at beyond all calendars": [far],
    }
    for words, batch in batches.items():
        code = await status_of(partial(plugin.notify, batch))
        if code not in _REJECTS:
            raise Failed(f"{words}: the call ends with {code.name}")
    for name in ("delivery_id", "endpoint"):
        one = _with(plugin, name, "")
        if await _outcomes(plugin, one) & set(TAKEN):
            raise Failed(f"a delivery without {name} is accepted")
    await _still_works(plugin)
    return f"{len(batches)} kinds"


async def large(plugin: Examined) -> str:
    """A long message is answered for; whether the channel carries it is the channel's matter."""
    outcome = await plugin.outcome(_long(plugin, _LARGE_BYTES))
    return name_of(outcome)


async def heavy_batch(plugin: Examined) -> str:
    """A call as large as the presence service makes is not beyond what the plugin's gRPC takes."""
    size = max(1, min(plugin.batch_max, _HEAVY_BYTES // _LARGE_BYTES))
    batch = [_long(plugin, _HEAVY_BYTES // size) for _ in range(size)]
    results = await plugin.notify(batch)
    for one in batch:
        outcome_of(one, results)
    return f"{size} deliveries"


async def oversized(plugin: Examined) -> str:
    """One delivery more than it takes is no reason to die."""
    batch = plugin.batch(plugin.batch_max + 1)
    said = ""
    try:
        results = await plugin.notify(batch)
        for one in batch:
            outcome_of(one, results)
        said = "answered"
    except grpc.aio.AioRpcError as error:
        said = error.code().name
    if not await plugin.reached():
        raise Failed(f"{len(batch)} deliveries, and it cannot be reached any more ({said})")
    if said not in ("answered", "INVALID_ARGUMENT"):
        raise Failed(f"{len(batch)} deliveries end with {said}, not INVALID_ARGUMENT")
    await _still_works(plugin)
    return f"{len(batch)} deliveries: {said}"


async def cancellation(plugin: Examined) -> str:
    """As many calls as it takes are cancelled, more than once, and then it takes as many."""
    slow = plugin.wishes.slow
    for _ in range(3):
        calls = []
        for _ in range(plugin.concurrency_max):
            asked = notifier_pb2.NotifyRequest(deliveries=[plugin.delivery(slow)])
            calls.append(plugin.stub.Notify(asked, timeout=CALL_S))
        await asyncio.sleep(_CANCELLED_AFTER_S)
        for call in calls:
            call.cancel()
    await _still_works(plugin, plugin.concurrency_max)
    return f"{3 * plugin.concurrency_max} cancelled, and it works"


async def concurrency(plugin: Examined) -> str:
    """Each of many calls is answered with its own results."""
    size = min(plugin.batch_max, _CALL_SIZE)
    batches = [plugin.batch(size) for _ in range(plugin.concurrency_max)]
    for batch, results in zip(
        batches, await asyncio.gather(*(plugin.notify(batch) for batch in batches)), strict=True
    ):
        _own(batch, results)
    return f"{len(batches)} calls of {size}"


async def interleaved(plugin: Examined) -> str:
    """A delivery that two calls share is answered to both."""
    size = min(plugin.batch_max, _CALL_SIZE)
    first = plugin.batch(size)
    second = [first[-1], *plugin.batch(size - 1)]
    answers = await asyncio.gather(plugin.notify(first), plugin.notify(second))
    for batch, results in zip((first, second), answers, strict=True):
        _own(batch, results)
    return f"two calls of {size}"


async def reconnect(plugin: Examined) -> str:
    """After the connection has gone, the next one finds the same plugin."""
    before = plugin.description
    await plugin.reconnect()
    after = await plugin.describe()
    if after != before:
        raise Failed("it describes itself differently over another connection")
    await _still_works(plugin)
    return "the same"


def _with(plugin: Examined, name: str, value: str) -> Delivery:
    delivery = plugin.delivery()
    setattr(delivery, name, value)
    return delivery


def _long(plugin: Examined, size: int) -> Delivery:
    """A delivery whose messages have so many bytes in all."""
    delivery = plugin.delivery(count=_MESSAGES_MAX, last_seq=_MESSAGES_MAX)
    del delivery.messages[:]
    for seq in range(1, _MESSAGES_MAX + 1):
        text = "é" * (size // _MESSAGES_MAX // 2)
        delivery.messages.add(seq=seq, publisher="onward", text=text)
    return delivery


def _own(batch: Sequence[Delivery], results: Sequence[Result]) -> None:
    for one in batch:
        outcome_of(one, results)
    if {result.delivery_id for result in results} - {one.delivery_id for one in batch}:
        raise Failed("a call is answered with the results of another")


def _sent_once(endpoints: Sequence[str], words: str) -> None:
    if len(endpoints) != 1:
        raise Failed(f"a delivery id that {words} was sent {len(endpoints)} times")


async def _outcomes(plugin: Examined, delivery: Delivery) -> set[int]:
    """What is answered for it; nothing if the call is refused."""
    try:
        results = await plugin.notify([delivery])
    except grpc.aio.AioRpcError:
        return set()
    return {int(one.outcome) for one in results if one.delivery_id == delivery.delivery_id}


async def _still_works(plugin: Examined, calls: int = 1) -> None:
    """A delivery in each of so many calls is answered."""
    ones = [plugin.delivery() for _ in range(calls)]
    try:
        answers = await asyncio.gather(*(plugin.notify([one], WORKS_S) for one in ones))
    except grpc.aio.AioRpcError as error:
        raise Failed(f"after that, Notify ends with {error.code().name}") from None
    for one, results in zip(ones, answers, strict=True):
        outcome_of(one, results)
