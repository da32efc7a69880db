"""Makes a plugin of a small class: the gRPC side of `notifier.proto`, written once.

It knows deliveries, results and time limits; it must not know any channel. Drive it:

    class Carrier:
        name = "carrier"
        channels = (Channel(scheme="pigeon", repeats_unknown=True),)
        concurrency = 8
        async def send(self, delivery): ...; return results.accepted()

    await serve([Carrier()], "127.0.0.1:0", secret, stop, name="carrier")

Its rules:
- Every delivery of a request gets its own result, whatever became of the others.
- `expires_at` has passed: EXPIRED, and `send` is not called. No plugin for the scheme, or no id:
  REJECTED_MESSAGE.
- `send` raises Unavailable: nothing was sent, PROVIDER_UNAVAILABLE. It raises anything else, or
  outlasts its time: it may have sent, UNKNOWN. The exception's text is not logged; it may quote
  a message. A plugin whose provider answers slowly has more time, if it says so (`extra_s`).
- The caller's deadline nears: what has begun is UNKNOWN and runs to its end; what waits is not
  begun, and its answer says so: such a try does not count. No send begins so late that its caller
  could hardly hear of it.
- The process is being stopped: the same for what waits, and for whatever still comes. What has
  begun has the time of the drain to end.
- A batch does not wait for a send that lingers, since anybody may register an endpoint that never
  answers: it is UNKNOWN meanwhile, with the time after which to ask again. Where the channel does
  not repeat what is unknown, it is waited for.
- One delivery id is sent once, however often it comes: a repeat waits for the one under way, or
  is told what became of it. This memory is bounded and lost at a restart.
- A provider's callback goes to the plugin that its URL names in `?channel=`. Raising is answered
  500, so that the provider comes again.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable
from urllib.parse import parse_qs, urlsplit

import grpc
import grpc.aio
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc
from prometheus_client import Counter, Gauge, Histogram

from services.chassis import logs
from services.chassis.errors import SettingError, Unavailable
from services.chassis.server import Server
from services.chassis.times import seconds_of
from services.chassis.tls import Trust
from services.notifier import results
from services.notifier.remembered import Remembered
from services.notifier.sending import LATE, STOPPING, Sending, begin_by_of
from services.notifier.turns import LaneFull, Turns

Channel = notifier_pb2.Channel
Delivery = notifier_pb2.Delivery
NotifiedMessage = notifier_pb2.NotifiedMessage
Result = notifier_pb2.Result
Callback = notifier_pb2.HandleCallbackRequest
CallbackAnswer = notifier_pb2.HandleCallbackResponse

SERVICE = "onward.notifier.v1.NotifierService"
ANY_SCHEME = "*"
# Taken off the caller's deadline, so that the answer arrives before it.
ANSWER_MARGIN_S = 0.2
# What answers have to go out, once the time of the drain is over.
ANSWER_GRACE_S = 0.5
# When what found its lane full may come again, at the earliest.
LANE_AGAIN_S = 2.0
_LANE_FULL = "others to the same place are in front of it"

log = logs.get(__name__)
_results = Counter("onward_notifier_results", "Results by channel.", ["channel", "outcome"])
_batch = Histogram(
    "onward_notifier_batch",
    "Deliveries in one call.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000),
)
_send_seconds = Histogram(
    "onward_notifier_send_seconds",
    "Time of one send.",
    ["channel"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30),
)
_callbacks = Counter(
    "onward_notifier_callbacks", "Callbacks of providers, by the status answered.", ["status"]
)
_under_way = Gauge("onward_notifier_under_way", "Deliveries that wait for their turn, or run.")
_remembered = Gauge("onward_notifier_remembered", "Ids of deliveries sent that are remembered.")


class Plugin(Protocol):
    """What sends. All but `send` is read once, at the start."""

    @property
    def name(self) -> str:
        """For people, logs and metrics: `[a-z0-9-]`."""
        ...

    @property
    def channels(self) -> Sequence[Channel]:
        """What it serves."""
        ...

    @property
    def concurrency(self) -> int:
        """Most sends under way, 1 or more; further ones wait their turn."""
        ...

    async def send(self, delivery: Delivery) -> Result:
        """Send one notification and say what became of it. It retries nothing by itself."""
        ...

    async def close(self) -> None:
        """Let go of connections; nothing is sent any more."""
        ...


@runtime_checkable
class TakesCallbacks(Protocol):
    """A plugin whose provider calls back by HTTP, at a URL with `channel=` and its name."""

    @property
    def name(self) -> str:
        """As of every plugin."""
        ...

    async def callback(self, request: Callback) -> CallbackAnswer:
        """Check the signature, and say what was learnt. Signature wrong: status 403, no event."""
        ...


@runtime_checkable
class TakesLonger(Protocol):
    """A plugin whose provider may answer later than a send usually may take."""

    @property
    def extra_s(self) -> float:
        """Seconds of one send, on top of `Limits.send_s`."""
        ...


@runtime_checkable
class HasLanes(Protocol):
    """A plugin some of whose deliveries must not hold up others: see `turns`."""

    @property
    def lane_concurrency(self) -> int:
        """Most sends under way in one lane, 1 or more."""
        ...

    def lane(self, delivery: Delivery) -> str:
        """Which lane it is in; empty: none."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a plugin process."""

    batch_max: int = 100  # deliveries in one Notify; more: INVALID_ARGUMENT
    calls_max: int = 16  # Notify calls at a time, told to the caller in Describe
    linger_s: float = 2.0  # how long a batch waits for one send; longer: UNKNOWN for now
    send_s: float = 30.0  # one send; longer: UNKNOWN
    under_way_max: int = 2_000  # deliveries waiting or being sent; more: not begun
    remembered_max: int = 10_000  # ids of what was sent; beyond it the oldest are forgotten
    callback_s: float = 5.0  # one callback; longer: 500


class Notifier(notifier_pb2_grpc.NotifierServiceServicer):
    """Serves plugins: finds the one for each delivery and answers for it."""

    def __init__(
        self,
        plugins: Sequence[Plugin],
        name: str,
        limits: Limits | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._name = name
        self._limits = limits or Limits()
        self._now = now
        self._channels = [channel for plugin in plugins for channel in plugin.channels]
        self._routes = {
            channel.scheme: _Route(plugin, channel, _turns_of(plugin))
            for plugin in plugins
            for channel in plugin.channels
        }
        if len(self._routes) != len(self._channels):
            raise SettingError("two plugins serve one scheme; leave one of them out")
        self._callbacks = {p.name: p for p in plugins if isinstance(p, TakesCallbacks)}
        self._under_way: dict[str, Sending] = {}
        self._ended = Remembered(self._limits.remembered_max)
        self._stopping = False

    async def Describe(self, request: Any, context: Any) -> notifier_pb2.DescribeResponse:
        """What this process can do."""
        return notifier_pb2.DescribeResponse(
            name=self._name,
            channels=self._channels,
            batch_max=self._limits.batch_max,
            concurrency_max=self._limits.calls_max,
            callbacks=bool(self._callbacks),
        )

    async def Notify(
        self, request: notifier_pb2.NotifyRequest, context: Any
    ) -> notifier_pb2.NotifyResponse:
        """Send a batch and answer for each delivery of it."""
        deliveries = request.deliveries
        if not 1 <= len(deliveries) <= self._limits.batch_max:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"a batch has 1 to {self._limits.batch_max} deliveries, not {len(deliveries)}",
            )
        remaining_s = context.time_remaining()
        wait_s = None if remaining_s is None else max(0.0, remaining_s - ANSWER_MARGIN_S)
        _batch.observe(len(deliveries))
        begin_by = begin_by_of(wait_s)
        sendings = {one.delivery_id: self._begin(one, begin_by) for one in deliveries}
        _under_way.set(len(self._under_way))
        try:
            await asyncio.wait([sending.told for sending in sendings.values()], timeout=wait_s)
        finally:
            for sending in sendings.values():
                sending.give_up_waiting()
        told = {own_id: sending.result() for own_id, sending in sendings.items()}
        for own_id, sending in sendings.items():
            if sending.task.done():
                self._ended.told(own_id)
        return notifier_pb2.NotifyResponse(
            results=[_named(one.delivery_id, told[one.delivery_id]) for one in deliveries]
        )

    async def HandleCallback(self, request: Callback, context: Any) -> CallbackAnswer:
        """Hand a callback to the plugin that it is for."""
        plugin = self._callbacks.get(_channel_of(request.url))
        if plugin is None:
            answer = CallbackAnswer(status=404)
        else:
            try:
                async with asyncio.timeout(self._limits.callback_s):
                    answer = await plugin.callback(request)
            except Exception as error:  # noqa: BLE001  # it costs one callback, which comes again
                log.error("callback_raised", plugin=plugin.name, error=type(error).__name__)
                answer = CallbackAnswer(status=500)
        _callbacks.labels(answer.status or 204).inc()
        return answer

    async def stop(self, grace_s: float) -> None:
        """Begin nothing any more, and give sends under way `grace_s` to end."""
        self._stopping = True
        for sending in self._under_way.values():
            sending.leave_undone()
        begun = [sending.task for sending in self._under_way.values() if sending.begun]
        if begun:
            await asyncio.wait(begun, timeout=grace_s)
        # Else what became of the others of its call would be in doubt too.
        for sending in self._under_way.values():
            sending.tell()

    async def finish(self, grace_s: float) -> None:
        """Give sends under way `grace_s`, then cut them."""
        tasks = [sending.task for sending in self._under_way.values()]
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=grace_s)
            for task in unfinished:
                task.cancel()

    def _begin(self, delivery: Delivery, begin_by: float) -> Sending:
        delivery_id = delivery.delivery_id
        if delivery_id in self._under_way:
            known = self._under_way[delivery_id]
            known.begin_by = max(known.begin_by, begin_by)
            return known
        sending = Sending(begin_by)
        sending.run(self._answer(delivery, sending))
        if delivery_id:
            self._under_way[delivery_id] = sending
            sending.task.add_done_callback(lambda _: self._leave(delivery_id))
        return sending

    def _leave(self, delivery_id: str) -> None:
        self._under_way.pop(delivery_id, None)
        _under_way.set(len(self._under_way))

    async def _answer(self, delivery: Delivery, sending: Sending) -> Result:
        scheme = delivery.endpoint.partition(":")[0].lower() if ":" in delivery.endpoint else ""
        channel = scheme if scheme in self._routes else ANY_SCHEME
        if not delivery.delivery_id:
            result = results.rejected_message("the delivery has no id")
        elif not scheme or channel not in self._routes:
            result = results.rejected_message("no channel here serves this scheme")
        elif known := self._ended.get(delivery.delivery_id):
            return known
        elif len(self._under_way) > self._limits.under_way_max:
            result = results.not_begun("too many deliveries under way")
        elif self._stopping:
            result = results.not_begun(STOPPING)
        else:
            route = self._routes[channel]
            lane = route.plugin.lane(delivery) if isinstance(route.plugin, HasLanes) else ""
            try:
                async with route.turns.of(lane, self._limits.linger_s):
                    result = await self._in_turn(route, delivery, sending)
            except LaneFull:
                result = results.not_begun(_LANE_FULL, LANE_AGAIN_S)
        if sending.begun:
            self._ended.keep(delivery.delivery_id, result, untold=sending.untold)
            _remembered.set(len(self._ended))
        _results.labels(channel, Result.Outcome.Name(result.outcome)).inc()
        return result

    async def _in_turn(self, route: "_Route", delivery: Delivery, sending: Sending) -> Result:
        if sending.is_late():
            return results.not_begun(LATE)
        # Unknown is the end where it is not repeated, so the result is waited for.
        linger_s = self._limits.linger_s if route.channel.repeats_unknown else None
        sending.begin(linger_s, route.channel.scheme)
        return await self._send(route.plugin, delivery)

    async def _send(self, plugin: Plugin, delivery: Delivery) -> Result:
        if (
            delivery.HasField("expires_at")
            and seconds_of(delivery.expires_at) <= self._now().timestamp()
        ):
            return results.expired()
        began = time.perf_counter()
        limit_s = self._limits.send_s + (plugin.extra_s if isinstance(plugin, TakesLonger) else 0.0)
        try:
            async with asyncio.timeout(limit_s):
                result = await plugin.send(delivery)
                assert isinstance(result, Result), "send returns a result"
                return result
        except Unavailable:
            return results.provider_unavailable("the provider cannot be reached")
        except TimeoutError:
            log.warning("send_timed_out", plugin=plugin.name, delivery_id=delivery.delivery_id)
            return results.unknown(f"no answer within {limit_s:g} s")
        except Exception as error:  # noqa: BLE001  # a plugin's bug must cost one delivery only
            kind = type(error).__name__
            log.error(
                "send_raised", plugin=plugin.name, delivery_id=delivery.delivery_id, error=kind
            )
            return results.unknown(f"the plugin raised {kind}")
        finally:
            _send_seconds.labels(plugin.name).observe(time.perf_counter() - began)


def _channel_of(url: str) -> str:
    """The plugin that the URL of a callback names; empty if none."""
    try:
        named = parse_qs(urlsplit(url).query).get("channel", [])
    except ValueError:
        return ""
    return named[0] if len(named) == 1 else ""


@dataclass(frozen=True, slots=True)
class _Route:
    """Who sends on a channel, and how many at a time."""

    plugin: Plugin
    channel: Channel
    turns: Turns


def _turns_of(plugin: Plugin) -> Turns:
    lanes = plugin.lane_concurrency if isinstance(plugin, HasLanes) else 0
    return Turns(plugin.concurrency, lanes)


def _named(delivery_id: str, result: Result) -> Result:
    """The result under this id. A copy: a repeat in the batch shares the original."""
    named = Result()
    named.CopyFrom(result)
    named.delivery_id = delivery_id
    return named


async def serve(
    plugins: Sequence[Plugin],
    listen: str,
    trust: Trust | str,
    stop: asyncio.Event,
    *,
    name: str,
    limits: Limits | None = None,
    drain_s: float = 3.0,
    started: Callable[[int], None] = lambda port: None,
) -> None:
    """Serve plugins on `listen` (host:port, port 0 draws one) until `stop`, then drain.

    `trust`: who may call; a text is the shared secret. `started` is told the port. Raises
    StartError if the address cannot be had.
    """
    notifier = Notifier(plugins, name, limits)
    server = Server(listen, trust, [SERVICE])
    notifier_pb2_grpc.add_NotifierServiceServicer_to_server(notifier, server.grpc)
    await server.start()
    await server.set_serving(True)
    log.info("serving", name=name, port=server.port)
    started(server.port)
    await stop.wait()
    # Calls that still come are answered, so that their caller knows that nothing was sent.
    await server.set_serving(False)
    await notifier.stop(grace_s=drain_s)
    await server.drain(ANSWER_GRACE_S)
    # Of those that linger no call waits any more.
    await notifier.finish(grace_s=ANSWER_GRACE_S)
    for plugin in plugins:
        await plugin.close()
