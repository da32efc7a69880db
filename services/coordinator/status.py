"""How this coordinator stands: what GetStatus tells, and what is wrong with it.

Reads the parts of the coordinator; changes none but the gauges. Drive it: `run` looks once in
`_LOOK_S`, so that an alarm is told from about its beginning; `response` looks anew.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from onward.coordinator.v1 import coordinator_pb2

from services.chassis import logs
from services.chassis.alarms import Alarms
from services.chassis.errors import Fault
from services.coordinator.committer import Committer
from services.coordinator.holdings import Holdings
from services.coordinator.metrics import Metrics
from services.coordinator.ownership import Ownership
from services.coordinator.reporter import Reporter
from services.coordinator.store import LogStore
from services.coordinator.uplinks import Uplinks

log = logs.get(__name__)

_LOOK_S: Final = 1.0
# Entries that presence is behind before it is an alarm: some seconds of a busy coordinator.
REPORT_LAG_ENTRIES: Final = 10_000
# Seconds in which a partition has no presence replica that answers, before it is an alarm.
PRESENCE_SILENT_S: Final = 5.0
# The queue is said to be full from here on: refusals are close.
_FULL: Final = 0.9
_NAMES: Final = (
    "NO_LEASE",
    "STORE_FULL",
    "LOG_BYTES_EXCEEDED",
    "QUEUE_FULL",
    "PRESENCE_UNREACHABLE",
    "PRESENCE_MISSED_ENTRIES",
    "REPORT_LAGS",
    "CLAIM_REFUSED",
)


@dataclass(frozen=True, slots=True)
class Standing:
    """What can be wrong with a coordinator, as numbers."""

    lease: bool = True
    store_full: bool = False
    log_bytes: int = 0
    log_bytes_max: int = 1
    bytes_exceeded: bool = False  # what is kept has to be, and is more than it may be
    bytes_refused: bool = False  # so much more that nothing is accepted
    queue: int = 0
    queue_max: int = 1
    presence_silent_s: float = 0.0
    missed: int = 0  # partitions of which presence misses entries
    lag: int = 0
    claims_refused: tuple[str, ...] = ()  # reasons


def raised(standing: Standing) -> dict[str, str]:
    """The alarms: name → sentence."""
    alarms = {}
    if not standing.lease:
        alarms["NO_LEASE"] = (
            "This coordinator has no lease in etcd and owns nothing; see whether etcd answers."
        )
    if standing.store_full:
        alarms["STORE_FULL"] = (
            "The disk of the log is full or read-only, and nothing is accepted; free space there."
        )
    if standing.bytes_exceeded or standing.bytes_refused:
        consequence = "nothing is accepted" if standing.bytes_refused else "it grows"
        alarms["LOG_BYTES_EXCEEDED"] = (
            f"The log takes {standing.log_bytes} bytes of {standing.log_bytes_max}, all of it too "
            f"young to go or not processed by presence, and {consequence}; see whether presence "
            "works, or raise ONWARD_COORDINATOR_RETAIN_BYTES."
        )
    if standing.queue >= standing.queue_max * _FULL:
        alarms["QUEUE_FULL"] = (
            f"{standing.queue} requests wait for a commit; beyond {standing.queue_max} they are "
            "refused. See whether the disk keeps up, or start another coordinator."
        )
    if standing.presence_silent_s > PRESENCE_SILENT_S:
        alarms["PRESENCE_UNREACHABLE"] = (
            "Of some partitions no presence replica has taken a report for "
            f"{standing.presence_silent_s:.0f} s, and nobody is notified of them; see whether "
            "one runs and its store has space."
        )
    if standing.missed:
        alarms["PRESENCE_MISSED_ENTRIES"] = (
            f"The log no longer has what presence wants next of {standing.missed} partitions: its "
            "store is an older copy. Restore the newer one."
        )
    if standing.lag > REPORT_LAG_ENTRIES:
        alarms["REPORT_LAGS"] = (
            f"Presence is {standing.lag} entries behind; notifications are late by as much."
        )
    if standing.claims_refused:
        alarms["CLAIM_REFUSED"] = (
            f"{len(standing.claims_refused)} partitions cannot be taken: "
            f"{standing.claims_refused[0]}."
        )
    return alarms


class Status:
    """The status of one coordinator."""

    def __init__(
        self,
        *,
        name: str,
        store: LogStore,
        holdings: Holdings,
        uplinks: Uplinks,
        committer: Committer,
        reporter: Reporter,
        ownership: Ownership,
        metrics: Metrics,
        log_bytes_max: int,
        bytes_kept: Callable[[], tuple[bool, bool]],
    ) -> None:
        """`bytes_kept`: whether the log is above its bytes with nothing that could go, and whether
        so far that nothing is accepted."""
        self._name = name
        self._store = store
        self._holdings = holdings
        self._uplinks = uplinks
        self._committer = committer
        self._reporter = reporter
        self._ownership = ownership
        self._metrics = metrics
        self._log_bytes_max = log_bytes_max
        self._bytes_kept = bytes_kept
        self._log_bytes = 0
        self._counted = (0, 0)
        self._alarms = Alarms()

    async def run(self) -> None:
        """Look what is wrong, until cancelled."""
        while True:
            try:
                await self._look()
            except Fault as fault:
                log.warning("status_unread", fault=str(fault))
            await asyncio.sleep(_LOOK_S)

    async def response(self) -> coordinator_pb2.GetStatusResponse:
        """How this coordinator stands now. Raises Unavailable if the store does not say."""
        await self._look()
        response = coordinator_pb2.GetStatusResponse(
            name=self._name,
            log_id=self._store.log_id,
            queue=self._committer.queued,
            log_bytes=self._log_bytes,
            log_bytes_max=self._log_bytes_max,
            alarms=self._alarms.present,
        )
        for partition, held in sorted(self._holdings):
            response.partitions.add(
                partition=partition,
                epoch=held.epoch,
                tail=held.tail,
                cursor=self._reporter.cursor(partition),
            )
        for uplink in sorted(self._uplinks, key=lambda it: it.edge_id):
            response.edges.add(
                edge_id=uplink.edge_id,
                waiting_bytes=uplink.waiting_bytes,
                watches=len(uplink.subjects),
            )
        return response

    async def _look(self) -> None:
        if self._committer.disk_full:
            await self._committer.probe()
        self._log_bytes = await self._store.log_bytes()
        exceeded, refused = self._bytes_kept()
        alarms = raised(
            Standing(
                lease=self._holdings.valid,
                store_full=self._committer.disk_full or self._ownership.store_full,
                log_bytes=self._log_bytes,
                log_bytes_max=self._log_bytes_max,
                bytes_exceeded=exceeded,
                bytes_refused=refused,
                queue=self._committer.queued,
                queue_max=self._committer.queue_max,
                presence_silent_s=self._reporter.silent_s(),
                missed=self._reporter.missed(),
                lag=self._reporter.lag(),
                claims_refused=tuple(self._ownership.refused.values()),
            )
        )
        for name in self._alarms.tell(alarms, time.time()):
            log.warning("alarm", alarm=name)
        for name in _NAMES:
            self._metrics.alarm.labels(name).set(name in alarms)
        self._metrics.log_bytes.set(self._log_bytes)
        before, uplinks = self._counted, self._uplinks
        self._counted = (uplinks.transients_dropped, uplinks.fell_behind)
        self._metrics.transients_dropped.inc(self._counted[0] - before[0])
        self._metrics.fell_behind.inc(self._counted[1] - before[1])
        waiting = [uplink.waiting_bytes for uplink in self._uplinks]
        self._metrics.uplink_bytes.set(max(waiting, default=0))
