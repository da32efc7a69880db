"""All that works on the store of presence: built once, run for as long as a term lasts.

Knows the parts and who tells whom of news. Must not know etcd, nor how the process began. To drive
it: `Workers(…)`, serve its `servicers`; per term `await store.begin(…)`, then run `run()` until the
term ends, and `taken()` whenever partitions were claimed; `drain()` first if it ends in peace.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from services.chassis.mute_tokens import MuteLink, mute_url
from services.chassis.tasks import lasting
from services.chassis.tls import Trust
from services.presence.audience import Audience
from services.presence.callbacks import Callbacks
from services.presence.claims import ClaimRules
from services.presence.contents import Contents
from services.presence.dead_letters import DeadLetters
from services.presence.delivery_servicer import DeliveryServicer
from services.presence.dispatch import Dispatcher, DispatchSettings
from services.presence.entitlement import Entitlement
from services.presence.fanouts import FanOuts
from services.presence.handovers import Handovers
from services.presence.happening_contents import HappeningContents
from services.presence.log_owner import LogOwner
from services.presence.log_reader import LogReader
from services.presence.notifications import Delivery
from services.presence.outbox import News, Outbox
from services.presence.plugins import Plugins
from services.presence.processing import Processing
from services.presence.query_servicer import PresenceQueryServicer
from services.presence.receiving import Receiving
from services.presence.registry import Registration
from services.presence.rendering import Rendering
from services.presence.router import Router
from services.presence.routing import Routing
from services.presence.servicer import PresenceServicer
from services.presence.settings import Settings
from services.presence.status import Status
from services.presence.store import Store
from services.presence.stories import Stories
from services.presence.succession import Succession
from services.presence.teller import TellerSettings
from services.presence.tellers import Tellers
from services.presence.timers import Timers, TimerSettings
from services.presence.trial import Trial
from services.presence.upkeep import Keeps, Upkeep
from services.presence.user_servicer import UserServicer
from services.presence.users import Users

# A link that mutes is good for so long after its notification has expired: mails are kept.
_LINK_GOOD_S = 90 * 86_400.0


class Workers:
    """The parts of the service on one store.

    `coordinators()` tells where the log can be read, `owner_of(partition)` who writes it;
    `live_edges()` is what the directory knows, None while it knows nothing; `edge_is_alive(id)` and
    `is_member(name, term)` ask etcd. `drain()` begins the end of this process, and tells how many
    seconds that may take. `extensions()`: those
    that etcd names, with what their keys hold.
    """

    def __init__(
        self,
        settings: Settings,
        trust: Trust,
        store: Store,
        partitions: int,
        coordinators: Callable[[], Sequence[str]],
        owner_of: Callable[[int], str | None],
        live_edges: Callable[[], Sequence[int] | None],
        edge_is_alive: Callable[[int], Awaitable[bool]],
        is_member: Callable[[str, int], Awaitable[bool]],
        drain: Callable[[], float],
        extensions: Callable[[], Mapping[str, Mapping[str, Any]]] = dict,
    ) -> None:
        limits = settings.limits()
        self._store = store
        self._drain_s = settings.drain_s
        self._reader = LogReader(coordinators, trust, settings.read_deadline_s)
        self.plugins = Plugins(
            settings.plugins, trust, settings.breaker_limits(), settings.plugins_wait_s
        )
        contents = Contents(self._reader)
        self._router = Router(settings.routing, settings.expiry_s)
        self._rendering = Rendering(settings.render_deadline_s, settings.render_budget_s)
        self._rendering.use(self._router.templates)
        self._router.on_change(lambda: self._rendering.use(self._router.templates))
        self._entitlement = _entitlement(settings, trust)
        outbox = Outbox(limits, settings.suppression_window_s)
        processing = Processing(outbox, settings.graces(), settings.fanout_users_max, self._routing)
        self._dispatcher = Dispatcher(
            store,
            self.plugins,
            contents,
            DispatchSettings(
                limits,
                ClaimRules(settings.hold_max_s, settings.hold_check_s, self._routing),
                settings.notify_deadline_s,
                settings.plugin_bytes_max,
            ),
            random.random,
            self._rendering,
            self._entitlement,
            lambda: self._handovers.wake(),
            partial(_mute_url, settings),
        )
        self.tellers = Tellers(
            store,
            HappeningContents(self._reader),
            extensions,
            trust,
            _teller_settings(settings),
            random.random,
        )
        self._succession = Succession(store, is_member, self._dispatcher.wake)
        self._come_due(
            settings, contents, outbox, processing, partitions, live_edges, edge_is_alive
        )
        log_owner = LogOwner(self._reader, owner_of, partitions)
        self._answer(settings, contents, outbox, processing, partitions, log_owner, drain)

    def _come_due(
        self,
        settings: Settings,
        contents: Contents,
        outbox: Outbox,
        processing: Processing,
        partitions: int,
        live_edges: Callable[[], Sequence[int] | None],
        edge_is_alive: Callable[[int], Awaitable[bool]],
    ) -> None:
        """Builds what sees to things that come due later."""
        store = self._store
        self._handovers = Handovers(
            store,
            self._reader,
            contents,
            outbox,
            self._routing,
            settings.handovers_max,
            settings.handover_messages_max,
            settings.records_keep_s,
            self._tell,
        )
        self._fanouts = FanOuts(store, processing, self._tell)
        self._timers = Timers(
            store,
            self._reader,
            outbox,
            TimerSettings(
                settings.graces(),
                partitions,
                settings.sweep_every_s,
                settings.returns_per_s,
                settings.away_after_s,
            ),
            live_edges,
            edge_is_alive,
            self._tell,
        )
        self.upkeep = Upkeep(
            store,
            self._reader,
            outbox,
            Keeps(
                settings.records_keep_s,
                settings.follows_keep_s,
                settings.clients_keep_s,
                settings.retain_extension_s,
                settings.retain_extension_max,
            ),
            live_edges,
            self._tell,
        )

    def _answer(
        self,
        settings: Settings,
        contents: Contents,
        outbox: Outbox,
        processing: Processing,
        partitions: int,
        log_owner: LogOwner,
        drain: Callable[[], float],
    ) -> None:
        """Builds what answers calls."""
        store = self._store
        self.servicer = PresenceServicer(
            store,
            processing,
            contents,
            self._reader,
            settings.report_entries_max,
            self._dispatcher,
            self._tell,
            self.tellers.remember,
        )
        self._stories = Stories(
            store,
            self._reader,
            partitions,
            settings.watches_max,
            lambda scheme: self.plugins.lane_for(scheme) is not None,
            lambda scheme: (lane := self.plugins.lane_for(scheme)) is None or lane.plugin.serving,
            self._routing,
        )
        self._status = Status(
            settings.name,
            store,
            self.plugins,
            self.servicer,
            self._reader,
            self.tellers,
            lambda: self._router.fault,
            lambda: self._router.channels,
            self._rendering.failing,
            lambda: "" if self._entitlement is None else self._entitlement.fault,
        )
        self._audience = Audience(store, settings.watches_max)
        self.query_servicer = PresenceQueryServicer(
            store, self._stories, self._audience, self._status, drain
        )
        users = Users(store, self._reader, log_owner, outbox, settings.user_limits(), self._tell)
        self.user_servicer = UserServicer(store, users, self._categories)
        receiving = Receiving(store, self._dispatcher.wake)
        self.delivery_servicer = DeliveryServicer(
            receiving,
            DeadLetters(store, self._dispatcher.wake),
            Trial(self.plugins, settings.notify_deadline_s),
            Callbacks(receiving, self.plugins),
        )

    def reached_at(self, address: str) -> None:
        """Where this process's servicers are served. Before the first run."""
        self.plugins.report_to = address

    def registered(self, notifiers: Sequence[Registration]) -> None:
        """What operators registered has changed."""
        self.plugins.register(notifiers)

    async def run(self) -> None:
        """Resume what the store holds, then work until cancelled."""
        self._reader.log_id = await self._store.read(lambda tx: tx.log_id())
        async with asyncio.TaskGroup() as group:
            for part in (
                self._router,
                self._status,
                self.plugins,
                self._dispatcher,
                self._handovers,
                self._fanouts,
                self._timers,
                self.upkeep,
                self._succession,
                self.tellers,
            ):
                group.create_task(lasting(part.run()))

    def taken(self, refused: Collection[int] = ()) -> None:
        """Partitions were claimed: there may be anything to do for them. `refused`: those that the
        store would not have this process own."""
        self._status.refused = refused
        self._timers.wake()
        self._timers.sweep_soon()
        self._handovers.wake()
        self._fanouts.wake()
        self._succession.wake()
        self.tellers.changed()

    def members_changed(self) -> None:
        """Presence services came or went."""
        self._succession.wake()

    def extensions_changed(self) -> None:
        """Extensions were registered or removed."""
        self.tellers.changed()

    def sweep_soon(self) -> None:
        """Edges have changed."""
        self._timers.sweep_soon()

    async def drain(self) -> None:
        """Begin no more calls to plugins; give those under way their time to end."""
        self._end_watches()
        await asyncio.gather(
            self._dispatcher.drain(self._drain_s), self.tellers.drain(self._drain_s)
        )

    async def close(self) -> None:
        """After the last run. Watches end here at the latest."""
        self._end_watches()
        await self._reader.close()
        await self._rendering.close()
        if self._entitlement is not None:
            await self._entitlement.close()

    def _routing(self) -> Routing:
        return self._router.routing

    def _categories(self) -> list[tuple[str, str, bool]]:
        """Name, title, and whether it is notified of without a preference."""
        known = self._router.routing.categories.values()
        return [(one.name, one.title, one.allowed) for one in known]

    def _end_watches(self) -> None:
        self._stories.end()
        self._audience.end()

    def _tell(self, news: News) -> None:
        if news.deliveries:
            self._dispatcher.wake()
        elif news.schemes:
            self._dispatcher.wake(news.schemes)
        if news.graces:
            self._timers.wake()
        if news.handovers:
            self._handovers.wake()
        if news.fanouts:
            self._fanouts.wake()


def _teller_settings(settings: Settings) -> TellerSettings:
    return TellerSettings(
        settings.breaker_limits(), settings.extension_deadline_s, settings.extension_calls_max
    )


def _entitlement(settings: Settings, trust: Trust) -> Entitlement | None:
    if not settings.entitlement:
        return None
    return Entitlement(
        settings.entitlement,
        trust,
        settings.entitlement_deadline_s,
        settings.entitlement_cache_s,
        random.random,
    )


def _mute_url(settings: Settings, delivery: Delivery) -> str:
    """Where whoever is sent the delivery may mute its subject; empty: there are no such links."""
    key = settings.link_key()
    if not settings.public_url or not key:
        return ""
    until = delivery.expires_at + _LINK_GOOD_S
    return mute_url(settings.public_url, key, MuteLink(delivery.user, delivery.subject), until)
