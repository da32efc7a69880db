"""How this edge stands: what GetStatus tells, and what is wrong with it.

Reads the parts of the edge; changes none. Drive it: `run` looks once in `_LOOK_S`, so that an
alarm is told from about its beginning; `response` looks anew.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from onward.edge.v1 import edge_pb2
from prometheus_client import Gauge

from services.chassis import logs
from services.chassis.alarms import Alarms
from services.chassis.cluster import Directory
from services.chassis.etcd import boottime
from services.edge.exchange import Exchange
from services.edge.sweep import Sweep
from services.edge.uplink import Uplinks

_LOOK_S: Final = 1.0
# What waits for owners is said to be full from here on: refusals are close.
_FULL: Final = 0.9
# Seconds in which partitions have no presence replica before it is an alarm: more than it takes
# another one to claim what a dead one held.
PRESENCE_MISSING_S: Final = 10.0
_NAMES: Final = (
    "NO_LEASE",
    "NO_OWNER",
    "NO_PRESENCE_OWNER",
    "UPLINK_DOWN",
    "OUTBOX_FULL",
    "SOCKETS_FULL",
)

ALARMS = Gauge("onward_edge_alarm", "1 while the alarm is raised", ["name"])
log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """What can be wrong with an edge, as numbers."""

    edge_id: int  # 0: no lease
    partitions: int  # 0: not known
    owned: int  # partitions whose owner is known
    presence_owned: int  # partitions whose presence replica is known
    presence_missing_s: float  # for how long there have been others
    links_down: tuple[str, ...]  # coordinators without a stream
    outbox: float  # how full, 0 to 1
    sockets: int
    sockets_max: int


def raised(standing: Standing) -> dict[str, str]:
    """The alarms: name → sentence."""
    alarms = {}
    if not standing.edge_id:
        alarms["NO_LEASE"] = (
            "This edge has no lease in etcd and takes no clients; see whether etcd answers."
        )
    if not standing.partitions:
        alarms["NO_OWNER"] = "No coordinator has ever started on this etcd; start one."
    elif missing := standing.partitions - standing.owned:
        alarms["NO_OWNER"] = (
            f"{missing} of {standing.partitions} partitions have no owner, and nothing can be "
            "published there; see whether enough coordinators run."
        )
    if standing.presence_missing_s > PRESENCE_MISSING_S:
        missing = standing.partitions - standing.presence_owned
        alarms["NO_PRESENCE_OWNER"] = (
            f"{missing} of {standing.partitions} partitions have had no presence replica for "
            f"{standing.presence_missing_s:.0f} s, and nobody is notified of what happens there; "
            "see whether enough of them run."
        )
    if standing.links_down:
        names = ", ".join(standing.links_down)
        alarms["UPLINK_DOWN"] = f"No stream to {names}; see whether it runs and can be reached."
    if standing.outbox >= _FULL:
        alarms["OUTBOX_FULL"] = (
            f"What waits for owners takes {standing.outbox:.0%} of its room; beyond it publishes "
            "and connects are refused. See whether the coordinators keep up."
        )
    if standing.sockets >= standing.sockets_max:
        alarms["SOCKETS_FULL"] = (
            f"All {standing.sockets_max} sockets are taken, and further clients are refused; start "
            "another edge or raise ONWARD_EDGE_SOCKETS_MAX."
        )
    return alarms


class Status:
    """The status of one edge. `address`: where clients connect."""

    def __init__(
        self,
        exchange: Exchange,
        uplinks: Uplinks,
        directory: Directory,
        sweep: Sweep,
        address: str,
        sockets_max: int,
    ) -> None:
        self._exchange = exchange
        self._uplinks = uplinks
        self._directory = directory
        self._sweep = sweep
        self._address = address
        self._sockets_max = sockets_max
        self._alarms = Alarms()
        self._presence_missing_since: float | None = None

    async def run(self) -> None:
        """Looks what is wrong, until cancelled; first after a moment, which a start takes."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self._look()

    def response(self) -> edge_pb2.GetStatusResponse:
        """How this edge stands now."""
        self._look()
        exchange = self._exchange
        Link = edge_pb2.GetStatusResponse.Link
        return edge_pb2.GetStatusResponse(
            edge_id=exchange.place.edge_id,
            address=self._address,
            links=[Link(coordinator=name, up=up) for name, up in sorted(self._links().items())],
            sockets=len(self._sweep),
            sessions=len(exchange.connections),
            lagging=len(exchange.lagging),
            subscriptions=exchange.hub.subscriptions,
            subjects=len(exchange.hub),
            held_publishes=exchange.outbox.publishes,
            alarms=self._alarms.present,
        )

    def _links(self) -> dict[str, bool]:
        """Every live coordinator, and those that a stream is still kept to."""
        return dict.fromkeys(self._directory.coordinators, False) | dict(self._uplinks.links)

    def _presence_missing_s(self) -> float:
        if len(self._directory.presence_owners) >= self._directory.partitions:
            self._presence_missing_since = None
            return 0.0
        now = boottime()
        if self._presence_missing_since is None:
            self._presence_missing_since = now
        return now - self._presence_missing_since

    def _look(self) -> None:
        standing = Standing(
            edge_id=self._exchange.place.edge_id,
            partitions=self._directory.partitions,
            owned=len(self._directory.owners),
            presence_owned=len(self._directory.presence_owners),
            presence_missing_s=self._presence_missing_s(),
            links_down=tuple(name for name, up in sorted(self._links().items()) if not up),
            outbox=self._exchange.outbox.fill,
            sockets=len(self._sweep),
            sockets_max=self._sockets_max,
        )
        alarms = raised(standing)
        for name in self._alarms.tell(alarms, time.time()):
            log.warning("alarm", alarm=name)
        for name in _NAMES:
            ALARMS.labels(name).set(name in alarms)
