"""What every notifier owes its caller, whatever it sends: see `Deliveries`.

Knows deliveries, results and time limits; must not know gRPC or a channel's provider. To drive it:
`await Deliveries(["example"], send).answer(batch, wait_s)`.
"""

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TextIO

from onward.notifier.v1 import notifier_pb2

Delivery = notifier_pb2.Delivery
Result = notifier_pb2.Result

log = logging.getLogger("notifier")


@dataclass(frozen=True)
class Limits:
    """The bounds of the process."""

    batch_max: int = 100  # deliveries in one call; more: the call is refused
    calls_max: int = 8  # calls at a time, told to the caller
    sends_max: int = 64  # sends at a time; further deliveries wait their turn
    waiting_max: int = 2_000  # deliveries waiting or being sent; more: RETRY
    send_s: float = 30.0  # one send; longer: UNKNOWN
    remembered_max: int = 100_000  # ids that were sent; beyond it the oldest are forgotten


class Sending:
    """One delivery id under way. Once `begun`, the provider has been called."""

    task: "asyncio.Task[Result]"

    def __init__(self) -> None:
        self.begun = False

    def give_up(self) -> None:
        """Nobody waits any more: do not begin; but what has begun goes on to its end."""
        if not self.begun:
            self.task.cancel()

    def result(self) -> Result:
        """What became of it so far."""
        if self.task.done() and not self.task.cancelled():
            return self.task.result()
        if self.begun:
            return Result(outcome=Result.UNKNOWN, detail="no answer within the deadline")
        return Result(outcome=Result.RETRY, detail="its turn did not come within the deadline")


class Deliveries:
    """Answers once for each delivery of a batch, in time.

    - What has expired is EXPIRED, what is for another channel REJECTED_MESSAGE; neither is sent.
    - When `wait_s` is over, what has begun is UNKNOWN and runs on; what has not is RETRY and never
      begins.
    - One id is sent once: a repeat waits for the one under way, or is told what became of it. The
      memory of that is bounded, and lost at a restart.
    - `send` raises, or gives no Result: UNKNOWN, since it may have sent. The words of the
      exception are not logged, they may quote a message.

    `sent`: gets a line of JSON for each call of `send`; for conformance tests only.
    """

    def __init__(
        self,
        schemes: Collection[str],
        send: Callable[[Delivery], Awaitable[Result]],
        limits: Limits | None = None,
        sent: TextIO | None = None,
    ) -> None:
        self._schemes = schemes
        self._send = send
        self._limits = limits or Limits()
        self._sent = sent
        self._slots = asyncio.Semaphore(self._limits.sends_max)
        self._under_way: dict[str, Sending] = {}
        self._remembered: OrderedDict[str, Result] = OrderedDict()

    async def answer(self, batch: Sequence[Delivery], wait_s: float | None) -> list[Result]:
        """The results, in the order of the batch."""
        sendings = [self._begin(delivery) for delivery in batch]
        try:
            await asyncio.wait({one.task for one in sendings}, timeout=wait_s)
        finally:
            for one in sendings:
                one.give_up()
        return [named(d, one.result()) for d, one in zip(batch, sendings, strict=True)]

    async def finish(self, grace_s: float) -> None:
        """Give what is under way so long to end."""
        if tasks := [one.task for one in self._under_way.values()]:
            await asyncio.wait(tasks, timeout=grace_s)

    def _begin(self, delivery: Delivery) -> Sending:
        own_id = delivery.delivery_id
        if own_id in self._under_way:
            return self._under_way[own_id]
        sending = Sending()
        is_full = len(self._under_way) >= self._limits.waiting_max
        sending.task = asyncio.create_task(self._answer(delivery, sending, is_full))
        if own_id:
            self._under_way[own_id] = sending
            sending.task.add_done_callback(lambda _: self._under_way.pop(own_id, None))
        return sending

    async def _answer(self, delivery: Delivery, sending: Sending, is_full: bool) -> Result:
        scheme, colon, _ = delivery.endpoint.partition(":")
        if not delivery.delivery_id:
            return Result(outcome=Result.REJECTED_MESSAGE, detail="no delivery_id")
        if not colon or scheme.lower() not in self._schemes:
            return Result(outcome=Result.REJECTED_MESSAGE, detail="not a channel of this plugin")
        if delivery.delivery_id in self._remembered:
            return self._remembered[delivery.delivery_id]
        if is_full:
            return Result(outcome=Result.RETRY, detail="too many deliveries under way")
        async with self._slots:
            if has_expired(delivery, time.time()):
                return Result(outcome=Result.EXPIRED)
            sending.begun = True
            result = await self._try(delivery)
        if result.outcome in (Result.ACCEPTED, Result.DELIVERED):
            self._remembered[delivery.delivery_id] = result
            if len(self._remembered) > self._limits.remembered_max:
                self._remembered.popitem(last=False)
        return result

    async def _try(self, delivery: Delivery) -> Result:
        if self._sent is not None:
            line = {"delivery_id": delivery.delivery_id, "endpoint": delivery.endpoint}
            self._sent.write(json.dumps(line) + "\n")
            self._sent.flush()
        try:
            result = await asyncio.wait_for(self._send(delivery), self._limits.send_s)
        except Exception as error:  # noqa: BLE001  # whatever is raised costs one delivery
            return unknown(delivery, f"send raised {type(error).__name__}")
        # A forgotten `return` costs one delivery too, and not all that it came with.
        return result if isinstance(result, Result) else unknown(delivery, "send gave no Result")


def unknown(delivery: Delivery, why: str) -> Result:
    """It may have been sent. `why` quotes nothing of it."""
    log.warning("%s, delivery %s", why, delivery.delivery_id)
    return Result(outcome=Result.UNKNOWN, detail=why)


def has_expired(delivery: Delivery, now: float) -> bool:
    """By its `expires_at`; without one it never does."""
    at = delivery.expires_at
    return delivery.HasField("expires_at") and at.seconds + at.nanos / 1e9 <= now


def named(delivery: Delivery, result: Result) -> Result:
    """A copy of the result, under the delivery's id."""
    copy = Result()
    copy.CopyFrom(result)
    copy.delivery_id = delivery.delivery_id
    return copy
