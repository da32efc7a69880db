"""Connections to notifier plugins: whether each may be called, and who has which channel.

Each channel of a plugin is a *lane*, with its own queue, its own breaker and its own bound on
calls: one plugin process may serve many providers, and one that is dead keeps none of the others
waiting. A lane may not take the last calls that the plugin allows: each of its other lanes has one
left, where it allows more calls than it has lanes, and they together have one otherwise.

Knows the notifier contract. Must not know deliveries' lives or the store. A plugin is asked what it
serves at every (re)connection; while it is away, what it said last stands, so that its channels do
not fall to a plugin for any channel. While it says that it is not serving, nothing is called. A
channel that several name is that of the first which is ready to be called. To drive it:
`Plugins(…)`, let `run()` run, ask `routes`; `register` whenever what is registered has changed.
Other threads may read the list at any time: it is replaced, never changed.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import grpc
import grpc.aio
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

from services.chassis import logs
from services.chassis.channel import open_channel
from services.chassis.channel_names import channel_fault
from services.chassis.errors import SettingError
from services.chassis.tasks import lasting
from services.chassis.tls import Trust
from services.presence import metrics, plugin_health
from services.presence.breaker import Breaker, BreakerLimits
from services.presence.descriptions import (
    ANY,
    Description,
    description_of,
    lane_calls_max,
    route,
)
from services.presence.misfits import Misfits
from services.presence.registry import Registration, of_setting, shown_to

__all__ = ["ANY", "Description", "Lane", "Plugin", "Plugins"]

log = logs.get(__name__)

_DESCRIBE_DEADLINE_S = 5.0
_DESCRIBE_AGAIN_S = 1.0
# How often it is looked whether a plugin that is to be called no more has calls under way.
_RETIRE_LOOK_S = 0.05


class Lane:
    """One channel of one plugin: its breaker, its calls, and what it has in hand."""

    def __init__(self, plugin: "Plugin", channel: str, limits: BreakerLimits) -> None:
        self.plugin = plugin
        self.channel = channel
        self.breaker = Breaker(limits)
        # When the breaker lets the next call through, by the clock on the wall.
        self.open_until = 0.0
        self.wake = asyncio.Event()
        # Ids of deliveries between being found due and being settled.
        self.in_hand: set[str] = set()
        self.calls: set[asyncio.Task[None]] = set()
        # Calls that may begin with what a Report under way makes due.
        self.reserved = 0
        # Something is being claimed for a call that begins then.
        self.looking = False
        # More may be due than was claimed when it was last looked at.
        self.hungry = False
        # Something was served since the channel last failed as a whole; and who fails all the same.
        self.proven = False
        self.misfits = Misfits()
        # What the channel failed with as a whole, last; empty: nothing since it last worked.
        self.fault = ""

    @property
    def served(self) -> bool:
        """Whether the plugin, as it described itself last, serves the channel."""
        description = self.plugin.description
        return description is not None and self.channel in description.channels

    def may_call(self, now: float) -> bool:
        """Whether a call may begin: connected, serving, within both bounds, and the breaker allows
        it."""
        description = self.plugin.description
        if description is None or not self.plugin.ready or not self.served:
            return False
        calls_max = description.concurrency_max
        return (
            self.plugin.calls < calls_max
            and len(self.calls) + self.reserved
            < lane_calls_max(calls_max, len(description.channels))
            and self.breaker.may_call(now)
        )


class Plugin:
    """One plugin: its gRPC channel, its description, its lanes. `former`: what it takes the place
    of, whose description stands until it has given its own. Raises SettingError."""

    def __init__(
        self,
        registration: Registration,
        trust: Trust | str,
        limits: BreakerLimits,
        former: "Plugin | None" = None,
    ) -> None:
        self.registration = registration
        self.address = registration.address
        self._shown = shown_to(registration, trust)
        self.description: Description | None = None
        # What it said last, of which only some channels may be used.
        self._said: notifier_pb2.DescribeResponse | None = former._said if former else None
        self.connected = asyncio.Event()
        self.away_since = time.monotonic()
        # SERVING, NOT_SERVING; empty: it has said nothing.
        self.health = plugin_health.SILENT
        self.unwell_since = 0.0
        self.lanes: dict[str, Lane] = {}
        self._limits = limits
        # Calls under way that are no lane's.
        self._other_calls = 0
        if self._said is not None:
            self._take(self._said)

    @property
    def label(self) -> str:
        """Its name for logs and metrics."""
        return self.description.name if self.description else self.registration.name

    @property
    def serving(self) -> bool:
        """Whether it does not say that it is unable to work."""
        return self.health != plugin_health.NOT_SERVING

    @property
    def ready(self) -> bool:
        """Whether it can be called, as far as it and its connection say."""
        return self.connected.is_set() and self.serving

    @property
    def calls(self) -> int:
        """Notify calls under way, and those reserved."""
        return sum(len(lane.calls) + lane.reserved for lane in tuple(self.lanes.values()))

    @property
    def busy(self) -> bool:
        """Whether any call is under way, or about to be."""
        looking = any(lane.looking for lane in self.lanes.values())
        return looking or self.calls > 0 or self._other_calls > 0

    async def notify(
        self, request: notifier_pb2.NotifyRequest, deadline_s: float
    ) -> notifier_pb2.NotifyResponse:
        """Hand over a batch, while connected. Raises grpc.aio.AioRpcError."""
        return await self._stub.Notify(request, timeout=deadline_s)

    async def handle_callback(
        self, request: notifier_pb2.HandleCallbackRequest, deadline_s: float
    ) -> notifier_pb2.HandleCallbackResponse:
        """Hand over an HTTP request, while connected. Raises grpc.aio.AioRpcError."""
        with self._calling():
            return await self._stub.HandleCallback(request, timeout=deadline_s)

    async def run(self, changed: Callable[[], None], report_to: str = "") -> None:
        """Connect, and ask what the plugin serves; `changed()` after each change. May run again.

        `report_to`: where it may tell what it learns later.
        """
        self._channel = open_channel(
            self.address, self._shown, server_name=self.registration.server_name
        )
        self._stub: notifier_pb2_grpc.NotifierServiceAsyncStub = (
            notifier_pb2_grpc.NotifierServiceStub(self._channel)
        )
        try:
            while True:
                await self._reach(grpc.ChannelConnectivity.READY)
                if not await self._describe(report_to):
                    await asyncio.sleep(_DESCRIBE_AGAIN_S)
                    continue
                self._hear(await plugin_health.asked(self._channel, plugin_health.SILENT))
                self.connected.set()
                metrics.plugin_connected.labels(self.label).set(1)
                changed()
                async with asyncio.TaskGroup() as group:
                    asking = group.create_task(self._ask_health(changed))
                    await self._leave(grpc.ChannelConnectivity.READY)
                    asking.cancel()
                self._lost()
                log.warning("plugin_lost", plugin=self.label)
                changed()
        finally:
            self._lost()
            await self._channel.close()

    def _lost(self) -> None:
        self.connected.clear()
        self.away_since = time.monotonic()
        self.health = plugin_health.SILENT
        metrics.plugin_connected.labels(self.label).set(0)

    async def _describe(self, report_to: str) -> bool:
        try:
            self._said = await self._stub.Describe(
                notifier_pb2.DescribeRequest(report_to=report_to), timeout=_DESCRIBE_DEADLINE_S
            )
        except grpc.aio.AioRpcError as error:
            log.warning("plugin_describes_nothing", plugin=self.address, status=error.code().name)
            return False
        described = self._take(self._said)
        for name in self.description.misnamed if self.description else ():
            reason = channel_fault(name)
            log.warning("plugin_channel_refused", plugin=self.label, channel=name, reason=reason)
        log.info("plugin_connected", plugin=self.label, channels=",".join(sorted(described)))
        return True

    def _take(self, said: notifier_pb2.DescribeResponse) -> Collection[str]:
        """What it serves from now on, and is used for; returns the channels."""
        self.description = description_of(said, self.address, self.registration.channels)
        for channel in self.description.channels:
            self.lanes.setdefault(channel, Lane(self, channel, self._limits))
        # What it no longer serves is nobody's to send here; a lane with a call ends with it.
        for lane in [one for one in self.lanes.values() if not one.served and not one.calls]:
            lane.wake.set()
            del self.lanes[lane.channel]
        return self.description.channels

    async def _ask_health(self, changed: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(plugin_health.ASK_EVERY_S)
            before = self.serving
            self._hear(await plugin_health.asked(self._channel, self.health))
            if self.serving != before:
                changed()

    def _hear(self, health: str) -> None:
        if health == plugin_health.NOT_SERVING and self.serving:
            self.unwell_since = time.monotonic()
            log.warning("plugin_not_serving", plugin=self.label)
        self.health = health

    @contextmanager
    def _calling(self) -> Iterator[None]:
        self._other_calls += 1
        try:
            yield
        finally:
            self._other_calls -= 1

    async def _reach(self, wanted: grpc.ChannelConnectivity) -> None:
        while (state := self._channel.get_state(try_to_connect=True)) is not wanted:
            await self._channel.wait_for_state_change(state)

    async def _leave(self, left: grpc.ChannelConnectivity) -> None:
        while self._channel.get_state(try_to_connect=True) is left:
            await self._channel.wait_for_state_change(left)


class Plugins:
    """All plugins: those of the settings, in their order, then those registered, by name."""

    def __init__(
        self, addresses: Sequence[str], trust: Trust | str, limits: BreakerLimits, wait_s: float
    ) -> None:
        self.list: Sequence[Plugin] = [
            Plugin(of_setting(address), trust, limits) for address in addresses
        ]
        # Called no more, with calls under way.
        self.retiring: set[Plugin] = set()
        # Where plugins may report to; empty: nowhere.
        self.report_to = ""
        self._trust = trust
        self._limits = limits
        self._wait_s = wait_s
        self._waited = False
        self._changed: list[Callable[[], None]] = []
        self._listed = asyncio.Event()

    @property
    def lanes(self) -> list[Lane]:
        """Every lane of every plugin."""
        return [lane for plugin in self.list for lane in tuple(plugin.lanes.values())]

    @property
    def calls(self) -> list[asyncio.Task[None]]:
        """Calls under way, of those that are called no more too."""
        plugins = [*self.list, *self.retiring]
        return [call for one in plugins for lane in one.lanes.values() for call in lane.calls]

    @property
    def busy(self) -> bool:
        """Whether anything is being claimed, or called, or may be claimed for a reserved call."""
        return any(plugin.busy for plugin in (*self.list, *self.retiring))

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever routes may have changed."""
        self._changed.append(callback)

    def register(self, registered: Sequence[Registration]) -> None:
        """What is registered, by name: plugins that are new are called from now on, those that are
        gone no more. A call under way is let end; one that has changed begins anew beside it."""
        former = {one.registration.name: one for one in self.list}
        there = [plugin for plugin in self.list if plugin.registration.of_settings]
        for one in sorted(registered, key=lambda one: one.name):
            plugin = former.get(one.name)
            try:
                if plugin is None or plugin.registration != one:
                    plugin = Plugin(one, self._trust, self._limits, plugin)
            except SettingError as error:
                log.warning("plugin_not_called", plugin=one.name, reason=str(error))
                continue
            there.append(plugin)
        gone = [plugin for plugin in self.list if plugin not in there]
        self.list = there
        for plugin in gone:
            for lane in plugin.lanes.values():
                lane.wake.set()
        self._listed.set()
        self._tell()

    def named(self, name: str) -> list[Plugin]:
        """Those that describe themselves with this name."""
        return [one for one in self.list if one.description and one.description.name == name]

    def routes(self) -> bool:
        """Whether channels are given to plugins for any channel: every plugin has said what it
        serves, or had time to. One that names a channel gets it without waiting for others."""
        return self._waited or all(plugin.description for plugin in self.list)

    def lane_for(self, scheme: str) -> Lane | None:
        """Who serves a channel; None: nobody does, as far as is known."""
        plugins = self.list
        found = route(
            scheme,
            [plugin.description for plugin in plugins],
            [plugin.ready for plugin in plugins],
        )
        return None if found is None else plugins[found[0]].lanes.get(found[1])

    def schemes_of(self, lane: Lane, open_schemes: Collection[str]) -> list[str]:
        """Those of the schemes that this lane serves now."""
        if lane.channel == ANY and not self.routes():
            return []
        return [scheme for scheme in open_schemes if self.lane_for(scheme) is lane]

    async def run(self) -> None:
        """Keep all connections; cancel to stop."""
        running: dict[Plugin, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            group.create_task(lasting(self._wait()))
            try:
                while True:
                    self._listed.clear()
                    for plugin in self.list:
                        if plugin not in running:
                            work = lasting(plugin.run(self._tell, self.report_to))
                            running[plugin] = group.create_task(work)
                    for plugin in [one for one in running if one not in self.list]:
                        self.retiring.add(plugin)
                        ending = self._retire(plugin, running.pop(plugin))
                        group.create_task(lasting(ending))
                    await self._listed.wait()
            finally:
                self.retiring.clear()

    async def _wait(self) -> None:
        await asyncio.sleep(self._wait_s)
        self._waited = True
        self._tell()

    async def _retire(self, plugin: Plugin, running: asyncio.Task[None]) -> None:
        """Ends a connection once nothing is under way on it: calls have their deadlines."""
        while plugin.busy:  # noqa: ASYNC110 - calls end in many places; none need know of this
            await asyncio.sleep(_RETIRE_LOOK_S)
        running.cancel()
        await asyncio.wait([running])
        self.retiring.discard(plugin)
        if not any(one.label == plugin.label for one in self.list):
            metrics.forget_plugin(plugin.label, plugin.lanes)
        log.info("plugin_removed", plugin=plugin.label)

    def _tell(self) -> None:
        for callback in self._changed:
            callback()
