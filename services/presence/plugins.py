"""Connections to notifier plugins: what each serves, whether it may be called, who gets a channel.

Knows the notifier contract. Must not know deliveries' lives or the store. A plugin is asked what
it serves at every (re)connection; while it is away, what it said last stands, so that its channels
do not fall to a plugin for any channel. To drive it: `Plugins(…)`, let `run()` run, ask `routes`.
"""

import asyncio
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

from services.chassis import logs
from services.chassis.channel import open_channel
from services.chassis.tasks import lasting
from services.presence import metrics
from services.presence.breaker import Breaker, BreakerLimits

log = logs.get(__name__)

ANY = "*"
_NAME = re.compile("[a-z0-9-]{1,40}")
_BATCH_DEFAULT, _BATCH_MAX = 100, 1_000
_CONCURRENCY_DEFAULT, _CONCURRENCY_MAX = 4, 64
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


def description_of(response: notifier_pb2.DescribeResponse, address: str) -> Description:
    """Reads a plugin's answer; what is missing or out of its range becomes the default or bound."""
    return Description(
        name=response.name if _NAME.fullmatch(response.name) else address,
        channels={c.scheme.lower(): c.repeats_unknown for c in reversed(response.channels)},
        batch_max=min(response.batch_max or _BATCH_DEFAULT, _BATCH_MAX),
        concurrency_max=min(response.concurrency_max or _CONCURRENCY_DEFAULT, _CONCURRENCY_MAX),
    )


def route(scheme: str, descriptions: Sequence[Description | None]) -> int | None:
    """Which plugin, by its place in the settings, serves a channel; None: none does.

    A plugin that names the channel wins over one for any; of equals, the first.
    """
    for wanted in (scheme, ANY):
        for place, description in enumerate(descriptions):
            if description is not None and wanted in description.channels:
                return place
    return None


class Plugin:
    """One plugin: its channel, its description, its breaker."""

    def __init__(self, address: str, secret: str, limits: BreakerLimits) -> None:
        self.address = address
        self.description: Description | None = None
        self.connected = asyncio.Event()
        self.breaker = Breaker(limits)
        self._secret = secret

    @property
    def label(self) -> str:
        """Its name for logs and metrics."""
        return self.description.name if self.description else self.address

    async def notify(
        self, request: notifier_pb2.NotifyRequest, deadline_s: float
    ) -> notifier_pb2.NotifyResponse:
        """Hand over a batch, while connected. Raises grpc.aio.AioRpcError."""
        return await self._stub.Notify(request, timeout=deadline_s)

    async def run(self, changed: Callable[[], None]) -> None:
        """Connect, and ask what the plugin serves; `changed()` after each change. May run again."""
        self._channel = open_channel(self.address, self._secret)
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
                metrics.plugin_connected.labels(self.label).set(0)
                log.warning("plugin_lost", plugin=self.label)
        finally:
            self.connected.clear()
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
        self, addresses: Sequence[str], secret: str, limits: BreakerLimits, wait_s: float
    ) -> None:
        self.list = [Plugin(address, secret, limits) for address in addresses]
        self._wait_s = wait_s
        self._waited = False
        self._changed: list[Callable[[], None]] = []

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever routes may have changed."""
        self._changed.append(callback)

    def routes(self) -> bool:
        """Whether channels are given out: every plugin has said what it serves, or had time to."""
        return self._waited or all(plugin.description for plugin in self.list)

    def plugin_for(self, scheme: str) -> Plugin | None:
        """Who serves a channel; None: nobody does, as far as is known."""
        place = route(scheme, [plugin.description for plugin in self.list])
        return None if place is None else self.list[place]

    def schemes_of(self, plugin: Plugin, open_schemes: Collection[str]) -> list[str]:
        """Those of the channels that this plugin serves."""
        if not self.routes():
            return []
        return [scheme for scheme in open_schemes if self.plugin_for(scheme) is plugin]

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
