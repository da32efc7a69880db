"""Connections to notifier plugins: what each serves, whether it may be called, who gets a channel.

Each channel of a plugin is a *lane*, with its own queue, its own breaker and its own bound on
calls: one plugin process may serve many providers, and one that is dead keeps none of the others
waiting. A lane may not take the last calls that the plugin allows; each of its other lanes has one
left.

Knows the notifier contract. Must not know deliveries' lives or the store. A plugin is asked what
it serves at every (re)connection; while it is away, what it said last stands, so that its channels
do not fall to a plugin for any channel. To drive it: `Plugins(…)`, let `run()` run, ask `routes`.
"""

import asyncio
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

from services.chassis import logs
from services.chassis.channel import open_channel
from services.chassis.errors import SettingError
from services.chassis.tasks import lasting
from services.chassis.tls import Trust
from services.presence import metrics
from services.presence.breaker import Breaker, BreakerLimits

log = logs.get(__name__)

ANY = "*"
_PLAIN = "grpc://"
_NAME = re.compile("[a-z0-9-]{1,40}")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,31}|\*")
_BATCH_DEFAULT, _BATCH_MAX = 100, 1_000
_CONCURRENCY_DEFAULT, _CONCURRENCY_MAX = 4, 64
# Of one plugin; what it names beyond them is passed over.
_CHANNELS_MAX = 32
_DESCRIBE_DEADLINE_S = 5.0
_DESCRIBE_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Description:
    """What a plugin said of itself, within our bounds."""

    name: str
    # Channel to whether it repeats deliveries of unknown outcome.
    channels: Mapping[str, bool]
    batch_max: int
    concurrency_max: int

    def repeats_unknown(self, scheme: str) -> bool:
        """Whether a delivery of unknown outcome on this channel may be sent again."""
        return self.channels.get(scheme, self.channels.get(ANY, False))


def reached_at(address: str, trust: Trust | str) -> tuple[str, Trust | str]:
    """The host:port of a plugin, and what is shown to it. Raises SettingError.

    `host:port` is one like our own services; `grpc://host:port` has no TLS whatever they have, and
    is shown the secret.
    """
    if not address.startswith(_PLAIN):
        return address, trust
    secret = trust.secret if isinstance(trust, Trust) else trust
    if not secret:
        raise SettingError(
            f"ONWARD_PRESENCE_PLUGINS names {address}, which is called without TLS, and "
            "ONWARD_SECRET is not set; set it, or give that plugin a certificate"
        )
    return address.removeprefix(_PLAIN), secret


def description_of(response: notifier_pb2.DescribeResponse, address: str) -> Description:
    """Reads a plugin's answer; what is missing or out of its range becomes the default or bound."""
    named = [(channel.scheme.lower(), channel.repeats_unknown) for channel in response.channels]
    served = [one for one in named if _SCHEME.fullmatch(one[0])][:_CHANNELS_MAX]
    return Description(
        name=response.name if _NAME.fullmatch(response.name) else address,
        channels=dict(reversed(served)),
        batch_max=min(response.batch_max or _BATCH_DEFAULT, _BATCH_MAX),
        concurrency_max=min(response.concurrency_max or _CONCURRENCY_DEFAULT, _CONCURRENCY_MAX),
    )


def route(scheme: str, descriptions: Sequence[Description | None]) -> tuple[int, str] | None:
    """Which plugin, by its place in the settings, serves a scheme, and as which of its channels.

    A plugin that names the scheme wins over one for any; of equals, the first. None: none does.
    """
    for wanted in (scheme, ANY):
        for place, description in enumerate(descriptions):
            if description is not None and wanted in description.channels:
                return place, wanted
    return None


def lane_calls_max(calls_max: int, lanes: int) -> int:
    """How many calls one lane of a plugin may have: all but one for each of the others."""
    return max(1, calls_max - (lanes - 1))


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
        # More may be due than was claimed when it was last looked at.
        self.hungry = False
        # What the channel failed with as a whole, last; empty: nothing since it last worked.
        self.fault = ""

    @property
    def served(self) -> bool:
        """Whether the plugin, as it described itself last, serves the channel."""
        description = self.plugin.description
        return description is not None and self.channel in description.channels

    def may_call(self, now: float) -> bool:
        """Whether a call may begin: connected, within both bounds, and the breaker allows it."""
        description = self.plugin.description
        if description is None or not self.plugin.connected.is_set() or not self.served:
            return False
        calls_max = description.concurrency_max
        return (
            self.plugin.calls < calls_max
            and len(self.calls) + self.reserved
            < lane_calls_max(calls_max, len(description.channels))
            and self.breaker.may_call(now)
        )


class Plugin:
    """One plugin: its gRPC channel, its description, its lanes."""

    def __init__(self, address: str, trust: Trust | str, limits: BreakerLimits) -> None:
        self.address, self._trust = reached_at(address, trust)
        self.description: Description | None = None
        self.connected = asyncio.Event()
        self.away_since = time.monotonic()
        self.lanes: dict[str, Lane] = {}
        self._limits = limits

    @property
    def label(self) -> str:
        """Its name for logs and metrics."""
        return self.description.name if self.description else self.address

    @property
    def calls(self) -> int:
        """Notify calls under way, and those reserved."""
        return sum(len(lane.calls) + lane.reserved for lane in self.lanes.values())

    async def notify(
        self, request: notifier_pb2.NotifyRequest, deadline_s: float
    ) -> notifier_pb2.NotifyResponse:
        """Hand over a batch, while connected. Raises grpc.aio.AioRpcError."""
        return await self._stub.Notify(request, timeout=deadline_s)

    async def run(self, changed: Callable[[], None]) -> None:
        """Connect, and ask what the plugin serves; `changed()` after each change. May run again."""
        self._channel = open_channel(self.address, self._trust)
        self._stub: notifier_pb2_grpc.NotifierServiceAsyncStub = (
            notifier_pb2_grpc.NotifierServiceStub(self._channel)
        )
        try:
            while True:
                await self._reach(grpc.ChannelConnectivity.READY)
                if not await self._describe():
                    await asyncio.sleep(_DESCRIBE_AGAIN_S)
                    continue
                self.connected.set()
                metrics.plugin_connected.labels(self.label).set(1)
                changed()
                await self._leave(grpc.ChannelConnectivity.READY)
                self.connected.clear()
                self.away_since = time.monotonic()
                metrics.plugin_connected.labels(self.label).set(0)
                log.warning("plugin_lost", plugin=self.label)
        finally:
            self.connected.clear()
            self.away_since = time.monotonic()
            await self._channel.close()

    async def _describe(self) -> bool:
        try:
            response = await self._stub.Describe(
                notifier_pb2.DescribeRequest(), timeout=_DESCRIBE_DEADLINE_S
            )
        except grpc.aio.AioRpcError as error:
            log.warning("plugin_describes_nothing", plugin=self.address, status=error.code().name)
            return False
        self.description = description_of(response, self.address)
        for channel in self.description.channels:
            self.lanes.setdefault(channel, Lane(self, channel, self._limits))
        # What it no longer serves is nobody's to send here; a lane with a call ends with it.
        for lane in [one for one in self.lanes.values() if not one.served and not one.calls]:
            lane.wake.set()
            del self.lanes[lane.channel]
        log.info(
            "plugin_connected",
            plugin=self.label,
            channels=",".join(sorted(self.description.channels)),
        )
        return True

    async def _reach(self, wanted: grpc.ChannelConnectivity) -> None:
        while (state := self._channel.get_state(try_to_connect=True)) is not wanted:
            await self._channel.wait_for_state_change(state)

    async def _leave(self, left: grpc.ChannelConnectivity) -> None:
        while self._channel.get_state(try_to_connect=True) is left:
            await self._channel.wait_for_state_change(left)


class Plugins:
    """All plugins of the settings, in their order."""

    def __init__(
        self, addresses: Sequence[str], trust: Trust | str, limits: BreakerLimits, wait_s: float
    ) -> None:
        self.list = [Plugin(address, trust, limits) for address in addresses]
        self._wait_s = wait_s
        self._waited = False
        self._changed: list[Callable[[], None]] = []

    @property
    def lanes(self) -> list[Lane]:
        """Every lane of every plugin."""
        return [lane for plugin in self.list for lane in plugin.lanes.values()]

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever routes may have changed."""
        self._changed.append(callback)

    def routes(self) -> bool:
        """Whether channels are given to plugins for any channel: every plugin has said what it
        serves, or had time to. One that names a channel gets it without waiting for others."""
        return self._waited or all(plugin.description for plugin in self.list)

    def lane_for(self, scheme: str) -> Lane | None:
        """Who serves a channel; None: nobody does, as far as is known."""
        found = route(scheme, [plugin.description for plugin in self.list])
        return None if found is None else self.list[found[0]].lanes.get(found[1])

    def schemes_of(self, lane: Lane, open_schemes: Collection[str]) -> list[str]:
        """Those of the schemes that this lane serves now."""
        if lane.channel == ANY and not self.routes():
            return []
        return [scheme for scheme in open_schemes if self.lane_for(scheme) is lane]

    async def run(self) -> None:
        """Keep all connections; cancel to stop."""
        async with asyncio.TaskGroup() as group:
            for plugin in self.list:
                group.create_task(lasting(plugin.run(self._tell)))
            await asyncio.sleep(self._wait_s)
            self._waited = True
            self._tell()

    def _tell(self) -> None:
        for callback in self._changed:
            callback()
