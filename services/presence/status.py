"""How presence stands: what GetStatus tells, the alarms, and the gauges of what waits.

Reads the parts of the service; changes none. Counts are rows that the store keeps with every
write, or indexed and bounded. To drive it: `run()` looks once in `_LOOK_S`, so that alarms begin
when their causes do; `response()` looks anew.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from onward.presence.v1 import presence_pb2 as pb

from services.chassis import logs
from services.chassis.alarms import Alarms
from services.chassis.errors import Fault
from services.presence import alarms, metrics
from services.presence.extensions import Extension
from services.presence.log_reader import LogReader
from services.presence.plugins import Lane, Plugin, Plugins
from services.presence.servicer import PresenceServicer
from services.presence.store import Counts, Cursor, Store, Transaction
from services.presence.tellers import Tellers

log = logs.get(__name__)

_LOOK_S = 2.0
# What is due for a plugin is counted so far.
_QUEUE_COUNTED_MAX = 100_000


@dataclass(frozen=True, slots=True)
class _Rows:
    """What one look at the store found."""

    counts: Counts
    cursors: dict[int, Cursor]
    # Due deliveries by plugin and channel.
    queues: dict[tuple[Plugin, str], int]
    unserved: list[str]
    # By extension, how many happenings it has not acknowledged.
    behind: Mapping[str, int]


class Status:
    """Reads how presence stands. `routing_fault()`: what is wrong with the routing file;
    `routing_channels()`: every channel that it names."""

    def __init__(
        self,
        name: str,
        store: Store,
        plugins: Plugins,
        reports: PresenceServicer,
        reader: LogReader,
        tellers: Tellers,
        routing_fault: Callable[[], str] = lambda: "",
        routing_channels: Callable[[], Collection[str]] = lambda: (),
        failing_templates: Callable[[], Sequence[str]] = lambda: (),
        entitlement_fault: Callable[[], str] = lambda: "",
    ) -> None:
        # Partitions that the store would not have this process own; told by its owner.
        self.refused: Collection[int] = ()
        self._routing_fault = routing_fault
        self._routing_channels = routing_channels
        self._name = name
        self._store = store
        self._plugins = plugins
        self._reports = reports
        self._reader = reader
        self._tellers = tellers
        self._failing_templates = failing_templates
        self._entitlement_fault = entitlement_fault
        self._alarms = Alarms()

    async def run(self) -> None:
        """Look for ever; cancel to stop."""
        while True:
            try:
                self._look(await self._store.read(self._rows))
            except Fault as fault:
                log.warning("status_fault", fault=type(fault).__name__)
            await asyncio.sleep(_LOOK_S)

    async def response(self) -> pb.GetStatusResponse:
        """How it stands now."""
        rows = await self._store.read(self._rows)
        self._look(rows)
        counts = rows.counts
        mine = self._store.mine
        return pb.GetStatusResponse(
            name=self._name,
            term=mine.term,
            partitions=sorted(mine.partitions),
            cursors=[pb.Cursor(partition=p, pos=cursor.pos) for p, cursor in rows.cursors.items()],
            plugins=[
                _plugin(plugin, sum(n for (one, _), n in rows.queues.items() if one is plugin))
                for plugin in self._plugins.list
            ],
            deliveries=[
                pb.GetStatusResponse.Deliveries(state=state, count=count)
                for state, count in sorted(counts.deliveries.items())
            ],
            handovers=counts.handovers,
            fanouts=counts.fanouts,
            clients_online=counts.clients_online,
            clients_in_grace=counts.clients_in_grace,
            clients_offline=counts.clients_waiting,
            alarms=self._alarms.present,
        )

    def _rows(self, tx: Transaction) -> _Rows:
        schemes = tx.schemes_open()
        queues = {
            (plugin, lane.channel): tx.due_now(
                [one for one in schemes if self._plugins.lane_for(one) is lane], _QUEUE_COUNTED_MAX
            )
            for plugin in self._plugins.list
            for lane in tuple(plugin.lanes.values())
        }
        unserved = [one for one in schemes if self._plugins.lane_for(one) is None]
        behind = tx.extensions_behind()
        return _Rows(tx.counts(), dict(tx.cursors()), queues, unserved, behind)

    def _look(self, rows: _Rows) -> None:
        """Raise and end alarms, and set the gauges."""
        raised = alarms.raised(self._alarm_facts(rows))
        for name in self._alarms.tell(raised, time.time()):
            log.warning("alarm", name=name)
        for name in alarms.NAMES:
            metrics.alarm.labels(name).set(name in raised)
        _gauge(rows.counts)
        metrics.extension_behind.clear()
        for name, behind in rows.behind.items():
            metrics.extension_behind.labels(name).set(behind)
        for (plugin, channel), queue in rows.queues.items():
            if plugin not in self._plugins.list:
                continue  # It was removed meanwhile, and with it what is told of it.
            lane = plugin.lanes.get(channel)
            metrics.plugin_queue.labels(plugin.label, channel).set(queue)
            metrics.plugin_calls.labels(plugin.label, channel).set(len(lane.calls) if lane else 0)

    def _alarm_facts(self, rows: _Rows) -> alarms.Facts:
        if not self._store.mine.term:
            # Without a term it calls no plugin, and what waits is for others to tell.
            return alarms.Facts(
                store_full=self._store.full_since is not None, refused=sorted(self.refused)
            )
        return alarms.Facts(
            plugins=[_facts(plugin) for plugin in self._plugins.list],
            extensions=[
                _extension(one, rows.behind.get(name, 0))
                for name, one in sorted(self._tellers.extensions.items())
            ],
            # A plugin that has not said yet what it serves may serve them.
            unserved=rows.unserved if self._plugins.routes() else [],
            dead=rows.counts.deliveries.get("dead", 0),
            failing_templates=self._failing_templates(),
            entitlement_fault=self._entitlement_fault(),
            store_full=self._store.full_since is not None,
            blocked=self._reports.blocked,
            log_replaced=self._reports.log_replaced,
            log_unreadable=self._reader.unreadable,
            refused=sorted(self.refused),
            routing=self._routing_fault(),
            unclaimed=self._unclaimed() if self._plugins.routes() else [],
        )

    def _unclaimed(self) -> list[str]:
        named = self._routing_channels()
        return sorted(one for one in named if self._plugins.lane_for(one) is None)


def _facts(plugin: Plugin) -> alarms.PluginFacts:
    broken = _broken(plugin)
    away_s = 0.0 if plugin.connected.is_set() else time.monotonic() - plugin.away_since
    return alarms.PluginFacts(
        label=plugin.label,
        address=plugin.address,
        away_s=away_s,
        open_channels=[lane.channel for lane in broken],
        fault=broken[0].fault if broken else "",
        unwell_s=0.0 if plugin.serving else time.monotonic() - plugin.unwell_since,
    )


def _extension(one: Extension, behind: int) -> alarms.ExtensionFacts:
    address = one.registration.address
    return alarms.ExtensionFacts(one.name, address, one.failing_s, one.fault, behind)


def _broken(plugin: Plugin) -> list[Lane]:
    """Lanes whose breaker is not closed; first the one that waits longest."""
    broken = [lane for lane in plugin.lanes.values() if not lane.breaker.closed]
    return sorted(broken, key=lambda lane: -lane.breaker.open_until)


def _plugin(plugin: Plugin, queue: int) -> pb.PluginStatus:
    status = pb.PluginStatus(
        name=plugin.label,
        address=plugin.address,
        connected=plugin.connected.is_set(),
        channels=sorted(plugin.description.channels) if plugin.description else (),
        breaker="closed",
        queue=queue,
        calls=plugin.calls,
        health=plugin.health,
        registered_as="" if plugin.registration.of_settings else plugin.registration.name,
    )
    broken = _broken(plugin)
    if broken:
        worst = broken[0]
        now = asyncio.get_running_loop().time()
        half_open = worst.breaker.probing or now >= worst.breaker.open_until
        status.breaker = "half-open" if half_open else "open"
        status.breaker_until.FromNanoseconds(int(worst.open_until * 1e9))
        status.fault = f"{worst.channel}: {worst.fault}"
    return status


def _gauge(counts: Counts) -> None:
    metrics.deliveries.clear()
    for state, count in counts.deliveries.items():
        metrics.deliveries.labels(state).set(count)
    for state, count in (
        ("online", counts.clients_online),
        ("grace", counts.clients_in_grace),
        ("waiting", counts.clients_waiting),
        ("known", counts.clients_known),
    ):
        metrics.clients.labels(state).set(count)
    metrics.handovers_waiting.set(counts.handovers)
    metrics.fanouts_waiting.set(counts.fanouts)
