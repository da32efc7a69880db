"""What happens to edges."""

from signal import SIGKILL, SIGTERM

from tests.faults.cluster import Shape
from tests.faults.kill_run import SETTINGS
from tests.faults.row import TTL_S, Row, Run, errors, false_notifications
from tests.faults.timeline import Timeline

GRACE_S = float(SETTINGS["ONWARD_PRESENCE_GRACE_DEAD_EDGE_S"])
EDGE = "edge-1"


class EdgeKilled(Row):
    name = "edge-kill"
    says = "one of two edges: SIGKILL"
    must = "its clients recover at the other; those who stay away are mailed, and nobody else"
    bound_s, bound = TTL_S + 1.0 + GRACE_S + 1.5, "lease + 1 s + grace of 4 s + 1.5 s for the mail"
    shape = Shape(edges=2)
    lasts_s = 12.0
    lost = 4

    async def inject(self, run: Run) -> None:
        await run.stop(EDGE)
        for client in run.lost:  # those at the other edge go with it too
            client.die()

    async def heal(self, run: Run) -> None:
        run.cluster.start(EDGE)

    def measured(self, run: Run, timeline: Timeline) -> float | None:
        """Until each of those who stay away had been mailed."""
        first: dict[str, float] = {}
        for at, address in timeline.mails:
            if at >= timeline.injected:
                first.setdefault(address, at)
        times = [first.get(f"{one.user}@example.org") for one in run.lost]
        known = [at for at in times if at is not None]
        return max(known) - timeline.injected if len(known) == len(times) else None

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        return false_notifications(run, timeline)


class EdgeCutFromEtcd(Row):
    name = "edge-cut-etcd"
    says = "one of two edges cut from etcd, by reset or by silence"
    must = "it closes its sessions (4004) before its lease can have ended; then begins a new one"
    bound_s, bound = TTL_S + 1.0, "lease + 1 s"
    shape = Shape(edges=2)
    proxied = ("edge-1>etcd",)
    lasts_s = TTL_S + 3.0

    async def inject(self, run: Run) -> None:
        link = run.cluster.links["edge-1>etcd"]
        run.dice.choice([link.cut, link.freeze])()

    async def heal(self, run: Run) -> None:
        run.cluster.links["edge-1>etcd"].heal()
        await run.noticed("serves", run.cluster.urls[0], serves=True, deadline_s=60.0)

    def measured(self, run: Run, timeline: Timeline) -> float | None:
        closed = [at for at, _, code in timeline.ended if code == 4004]
        return max(closed) - timeline.injected if closed else None

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        wrong = false_notifications(run, timeline)
        return wrong if "serves" in run.noted else [*wrong, "it has not begun a new lease"]


class EdgeRestarted(Row):
    name = "edge-restart"
    says = "one of two edges: SIGTERM, started again"
    must = "clients are told to go, and go on at the other; no publisher sees an error"
    shape = Shape(edges=2)
    bound_s, bound = 1.0, "1 s"
    lasts_s = 4.0

    async def inject(self, run: Run) -> None:
        run.signal(EDGE, SIGTERM)

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        found = [*errors(timeline), *false_notifications(run, timeline)]
        stay = {one.client for one in run.staying}
        told = {who for at, who in timeline.going_away if at >= timeline.injected} & stay
        during = [one for one in timeline.ended if timeline.injected <= one[0] < timeline.healed]
        codes = {code for _, client, code in during if client in told}
        if not told:
            found.append("nobody was told to go")
        if codes - {4000}:
            found.append(f"connections ended with {codes}")
        return found


class EdgeKilledAlone(Row):
    name = "edge-kill-alone"
    says = "the only edge: SIGKILL, started again"
    must = "its clients recover when it is back; nobody who comes back is mailed"
    bound_s, bound = 3.0, "3 s"

    async def inject(self, run: Run) -> None:
        run.signal(EDGE, SIGKILL)

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        return false_notifications(run, timeline)


ROWS = (EdgeKilled, EdgeKilledAlone, EdgeCutFromEtcd, EdgeRestarted)
