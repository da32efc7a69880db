"""What happens to coordinators."""

import asyncio
import signal

from tests.faults.cluster import Shape
from tests.faults.row import TTL_S, Row, Run, errors
from tests.faults.timeline import Timeline

# Between looking at a clock and doing what it allows, on a busy machine.
SLACK_S = 0.2
COORDINATOR = "coordinator-1"


class CoordinatorKilled(Row):
    name = "coordinator-kill"
    says = "coordinator: SIGKILL, started again under its name"
    must = "it revokes its own lease, claims again, goes on; what was accepted is there"
    bound_s, bound = 2.0, "2 s"

    async def inject(self, run: Run) -> None:
        run.signal(COORDINATOR, signal.SIGKILL)


class CoordinatorStopped(Row):
    name = "coordinator-stop"
    says = "coordinator: SIGSTOP beyond its lease, then SIGCONT"
    must = "nothing is accepted in its old term; it joins again by itself"
    bound_s, bound, since = 2.0, "SIGCONT + 2 s", "healed"
    lasts_s = TTL_S + 2.0

    async def inject(self, run: Run) -> None:
        run.signal(COORDINATOR, signal.SIGSTOP)

    async def heal(self, run: Run) -> None:
        run.signal(COORDINATOR, signal.SIGCONT)

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        stale = timeline.recorded_between(timeline.in_effect + SLACK_S, timeline.healed)
        found = [f"{stale} messages were accepted by a stopped process"] if stale else []
        starts = [one for one in run.cluster.output.all if one.startswith(f"started {COORDINATOR}")]
        if len(starts) > 1:
            found.append("it did not join again by itself")
        return found


class CoordinatorRestarted(Row):
    name = "coordinator-restart"
    says = "coordinator: SIGTERM, started again"
    must = "it drains; edges hold what is published meanwhile; no publisher sees an error"
    bound_s, bound = 2.0, "2 s"

    async def inject(self, run: Run) -> None:
        run.signal(COORDINATOR, signal.SIGTERM)

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        return errors(timeline)


class CoordinatorCutFromEtcd(Row):
    name = "coordinator-cut-etcd"
    says = "coordinator cut from etcd, by reset or by silence"
    must = "it accepts nothing from 1 s before its lease can have ended; then joins again"
    bound_s, bound, since = 2.0, "outage + 2 s", "healed"
    proxied = ("coordinator-1>etcd",)
    lasts_s = TTL_S + 3.0

    async def inject(self, run: Run) -> None:
        link = run.cluster.links["coordinator-1>etcd"]
        run.dice.choice([link.cut, link.freeze])()

    async def heal(self, run: Run) -> None:
        run.cluster.links["coordinator-1>etcd"].heal()

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        return without_lease(timeline)


class CoordinatorCutFromEdge(Row):
    name = "coordinator-cut-edge"
    says = "coordinator cut from one of two edges, by silence"
    must = "that edge notices by its uplink's heartbeat; order is kept"
    bound_s, bound = 2.5, "2 s to notice, looked at every 0.5 s"
    shape = Shape(edges=2)
    proxied = ("edge>coordinator-1",)
    lasts_s = 5.0

    async def inject(self, run: Run) -> None:
        run.cluster.links["edge>coordinator-1"].freeze(only=lambda: run.cluster.pids("edge-2"))
        asyncio.get_running_loop().create_task(
            run.noticed("noticed", run.cluster.urls[1], serves=False, deadline_s=self.lasts_s)
        )

    async def heal(self, run: Run) -> None:
        run.cluster.links["edge>coordinator-1"].heal()

    def measured(self, run: Run, timeline: Timeline) -> float | None:
        return run.noted.get("noticed")


def without_lease(timeline: Timeline) -> list[str]:
    """That messages were taken when no lease could be refreshed, so that none was sure."""
    begin = timeline.in_effect + TTL_S - 1.0 + SLACK_S
    stale = timeline.recorded_between(begin, timeline.healed)
    return [f"{stale} messages were taken without a lease"] if stale else []


ROWS = (
    CoordinatorKilled, CoordinatorStopped, CoordinatorRestarted, CoordinatorCutFromEtcd,
    CoordinatorCutFromEdge,
)  # fmt: skip
