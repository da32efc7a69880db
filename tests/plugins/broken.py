"""Plugins that break one rule each: `python -m tests.plugins.broken FAULT SENT_LOG`.

The harness of `services/notifier` keeps every rule (`sound`); each fault takes one of them away.
Prints its port. Endpoints `example:slow…` take longer than any deadline.
"""

import asyncio
import hmac
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

from services.chassis.server import Server
from services.notifier import results
from services.notifier.harness import SERVICE, Channel, Delivery, Notifier, Result

SECRET = "0123456789abcdef0123456789abcdef"
SLOW_S = 4.0


class Example:
    """Sends nothing, and says so in a log of sends."""

    name = "example"
    channels = (Channel(scheme="example", repeats_unknown=True),)
    concurrency = 50

    def __init__(self, log: Path) -> None:
        self._log = log.open("a")

    async def send(self, delivery: Delivery) -> Result:
        line = {"delivery_id": delivery.delivery_id, "endpoint": delivery.endpoint}
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()
        if delivery.endpoint.startswith("example:slow"):
            await asyncio.sleep(SLOW_S)
        return results.accepted()

    async def close(self) -> None:
        self._log.close()


class Sound(Notifier):
    """Keeps every rule."""

    def __init__(self, log: Path) -> None:
        self.plugin = Example(log)
        super().__init__([self.plugin], "example")

    async def HandleCallback(self, request: Any, context: Any) -> Any:
        return notifier_pb2.HandleCallbackResponse(status=403)


class Altered(Sound):
    """Its answers go through `alter`."""

    @staticmethod
    def alter(found: list[Result]) -> list[Result]:
        return found

    async def Notify(self, request: Any, context: Any) -> Any:
        answer = await super().Notify(request, context)
        return notifier_pb2.NotifyResponse(results=self.alter(list(answer.results)))


class AnswersTwice(Altered):
    @staticmethod
    def alter(found: list[Result]) -> list[Result]:
        return [*found, found[0]]


class LeavesOneOut(Altered):
    @staticmethod
    def alter(found: list[Result]) -> list[Result]:
        return found[:-1] if len(found) > 1 else found


class AnswersForStrangers(Altered):
    @staticmethod
    def alter(found: list[Result]) -> list[Result]:
        return [*found, Result(delivery_id=uuid4().hex, outcome=Result.ACCEPTED)]


class SendsAllToTheFirst(Sound):
    async def Notify(self, request: Any, context: Any) -> Any:
        for delivery in request.deliveries[1:]:
            delivery.endpoint = request.deliveries[0].endpoint
        return await super().Notify(request, context)


class IgnoresTheDeadline(Sound):
    async def Notify(self, request: Any, context: Any) -> Any:
        if any(one.endpoint.startswith("example:slow") for one in request.deliveries):
            await asyncio.sleep(SLOW_S)
        return await super().Notify(request, context)


class SendsTwice(Sound):
    """Remembers nothing from one call to the next."""

    async def Notify(self, request: Any, context: Any) -> Any:
        fresh = Notifier([self.plugin], "example")
        return await fresh.Notify(request, context)


class TakesAnyChannel(Sound):
    async def Notify(self, request: Any, context: Any) -> Any:
        for delivery in request.deliveries:
            if delivery.endpoint.startswith("unknown-"):
                delivery.endpoint = "example:somebody"
        return await super().Notify(request, context)


class DescribesWhatItRejects(Sound):
    async def Describe(self, request: Any, context: Any) -> Any:
        answer = await super().Describe(request, context)
        answer.channels.add(scheme="pigeon")
        return answer


class CallsTelSms(Sound):
    async def Describe(self, request: Any, context: Any) -> Any:
        answer = await super().Describe(request, context)
        answer.channels.add(scheme="sms")
        return answer


class DiesOfManyDeliveries(Sound):
    async def Notify(self, request: Any, context: Any) -> Any:
        if len(request.deliveries) > 100:
            os._exit(1)
        return await super().Notify(request, context)


class WorksNot(Sound):
    """Its health says SERVING all the same."""

    async def Notify(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "no connection to the provider")


class SendsTheExpired(Sound):
    async def Notify(self, request: Any, context: Any) -> Any:
        for delivery in request.deliveries:
            delivery.ClearField("expires_at")
        return await super().Notify(request, context)


class Quotes(Sound):
    async def Notify(self, request: Any, context: Any) -> Any:
        answer = await super().Notify(request, context)
        for delivery, result in zip(request.deliveries, answer.results, strict=True):
            result.detail = f"sent {delivery.title}"[:200]
        return answer


class StumblesOverGarbage(Sound):
    async def Notify(self, request: Any, context: Any) -> Any:
        for delivery in request.deliveries:
            assert ":" in delivery.endpoint
        return await super().Notify(request, context)


class WedgesOnCancellation(Sound):
    """A call that is cancelled keeps its place."""

    def __init__(self, log: Path) -> None:
        super().__init__(log)
        self._places = asyncio.Semaphore(8)

    async def Notify(self, request: Any, context: Any) -> Any:
        await self._places.acquire()
        answer = await super().Notify(request, context)
        self._places.release()
        return answer


class TakesOneCallAtATime(Sound):
    _busy = False

    async def Notify(self, request: Any, context: Any) -> Any:
        if self._busy and len(request.deliveries) > 1:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "one call at a time")
        self._busy = True
        try:
            await asyncio.sleep(0.05)
            return await super().Notify(request, context)
        finally:
            self._busy = False


class ForgetsItself(Sound):
    """Describes itself anew each time."""

    async def Describe(self, request: Any, context: Any) -> Any:
        answer = await super().Describe(request, context)
        answer.version = uuid4().hex
        return answer


class BelievesAnybody(Sound):
    async def Describe(self, request: Any, context: Any) -> Any:
        answer = await super().Describe(request, context)
        answer.callbacks = True
        return answer

    async def HandleCallback(self, request: Any, context: Any) -> Any:
        return notifier_pb2.HandleCallbackResponse(status=200)


class BelievesWhatLooksSigned(Sound):
    """It refuses what has no signature, and does not check the one that is there."""

    async def Describe(self, request: Any, context: Any) -> Any:
        answer = await super().Describe(request, context)
        answer.callbacks = True
        return answer

    async def HandleCallback(self, request: Any, context: Any) -> Any:
        if "x-signature" not in request.headers:
            return notifier_pb2.HandleCallbackResponse(status=403)
        return notifier_pb2.HandleCallbackResponse(status=204)


class ChecksSignatures(BelievesWhatLooksSigned):
    """Keeps every rule, with callbacks."""

    async def HandleCallback(self, request: Any, context: Any) -> Any:
        if request.headers.get("x-signature") != signature_of(request.url, request.body):
            return notifier_pb2.HandleCallbackResponse(status=403)
        arrived = notifier_pb2.DeliveryEvent(
            delivery_id="0" * 32, kind=notifier_pb2.DeliveryEvent.DELIVERED
        )
        return notifier_pb2.HandleCallbackResponse(events=[arrived])


def signature_of(url: str, body: bytes) -> str:
    """As the provider of these examples signs its requests."""
    return hmac.new(b"a provider's key", url.encode() + b"\n" + body, "sha256").hexdigest()


class AsksForTheSecretInNotifyAlone(Sound):
    """Its server asks nobody for it."""

    async def Notify(self, request: Any, context: Any) -> Any:
        shown = dict(context.invocation_metadata()).get("authorization")
        if shown != f"Bearer {SECRET}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the shared secret is missing")
        return await super().Notify(request, context)


class DescribesNothing(Sound):
    async def Describe(self, request: Any, context: Any) -> Any:
        return notifier_pb2.DescribeResponse(name="example")


class AlwaysServing(health_pb2_grpc.HealthServicer):
    """Says so of anything."""

    async def Check(self, request: Any, context: Any) -> Any:
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


def chassis_server(secret: str, serving: bool) -> tuple[Any, Callable[[], Any]]:
    """A server as our services have it, and what starts it and tells its port."""
    server = Server("127.0.0.1:0", secret, [SERVICE])

    async def start() -> int:
        await server.start()
        await server.set_serving(serving)
        return server.port

    return server.grpc, start


def plain_server(
    servicer: Any, options: Sequence[tuple[str, int]] = ()
) -> tuple[Any, Callable[[], Any]]:
    """One that takes anybody's calls; without `options`, with the bounds that gRPC itself has."""
    server = grpc.aio.server(options=list(options))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)

    async def start() -> int:
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return port

    return server, start


_ROOMY = [("grpc.max_receive_message_length", 32 * 1024 * 1024)]
_SERVED = partial(chassis_server, SECRET, serving=True)
# Each fault: its class and its server.
FAULTS: dict[str, tuple[type[Sound], Callable[[], tuple[Any, Callable[[], Any]]]]] = {
    "sound": (Sound, _SERVED),
    "wrong recipient": (SendsAllToTheFirst, _SERVED),
    "answered twice": (AnswersTwice, _SERVED),
    "missing recipient": (LeavesOneOut, _SERVED),
    "answers for strangers": (AnswersForStrangers, _SERVED),
    "ignores the deadline": (IgnoresTheDeadline, _SERVED),
    "sends twice for one id": (SendsTwice, _SERVED),
    "accepts an unknown channel": (TakesAnyChannel, _SERVED),
    "describes a channel that it rejects": (DescribesWhatItRejects, _SERVED),
    "describes a channel by a name of another": (CallsTelSms, _SERVED),
    "dies on an oversized batch": (DiesOfManyDeliveries, _SERVED),
    "says serving and works not": (WorksNot, _SERVED),
    "works and says not serving": (Sound, partial(chassis_server, SECRET, serving=False)),
    "says serving of anything": (Sound, partial(plain_server, AlwaysServing())),
    "sends what has expired": (SendsTheExpired, _SERVED),
    "quotes the message": (Quotes, _SERVED),
    "stumbles over garbage": (StumblesOverGarbage, _SERVED),
    "wedges on cancellation": (WedgesOnCancellation, _SERVED),
    "takes one call at a time": (TakesOneCallAtATime, _SERVED),
    "forgets itself": (ForgetsItself, _SERVED),
    "believes anybody's callback": (BelievesAnybody, _SERVED),
    "believes what looks signed": (BelievesWhatLooksSigned, _SERVED),
    "sound with callbacks": (ChecksSignatures, _SERVED),
    "asks for the secret in Notify alone": (
        AsksForTheSecretInNotifyAlone,
        partial(plain_server, health.aio.HealthServicer(), _ROOMY),
    ),
    "describes no channel": (DescribesNothing, _SERVED),
}


async def main(fault: str, log: Path) -> None:
    """Serve until SIGTERM."""
    kind, make_server = FAULTS[fault]
    server, start = make_server()
    notifier_pb2_grpc.add_NotifierServiceServicer_to_server(kind(log), server)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(await start(), flush=True)
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
