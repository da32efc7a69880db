"""What happens to some of many: three coordinators on a PostgreSQL with a standby, three etcds."""

import asyncio
import shutil
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

from tests.faults.cluster import Shape
from tests.faults.coordinator_rows import without_lease
from tests.faults.row import LATE_S, TTL_S, Row, Run, errors
from tests.faults.timeline import Timeline
from tests.real_postgres import Replicated, missing

COORDINATORS = ("coordinator-1", "coordinator-2", "coordinator-3")
EDGES = ("edge-1", "edge-2", "edge-3")
PRESENCES = ("presence-1", "presence-2")
VICTIM = "coordinator-2"
ETCDS = ("etcd-1", "etcd-2", "etcd-3")
STORES = ("store-1", "store-2")
_SETTLE_S = 4.0  # until a member that is back has been handed its share
_TOLD_S = 1.5  # what was committed in time may be told later


class Many(Row):
    """A row of the cluster profile."""

    profile = "cluster"
    shape = Shape(coordinators=3, edges=2, presences=2, etcds=3, postgres=True)

    def why_not(self) -> str:
        if shutil.which("etcd") is None:
            return "no etcd on PATH that may be one of several (on Debian: etcd-server)"
        return missing() or ""


class OneOfManyKilled(Many):
    name = "many-coordinator-kill"
    says = "one of three coordinators: SIGKILL, stays away"
    must = "its lease ends, the others claim its partitions and go on"
    bound_s, bound = TTL_S + 1.0, "lease + 1 s"
    lasts_s = TTL_S + 2.0

    async def inject(self, run: Run) -> None:
        await run.stop(VICTIM)

    async def heal(self, run: Run) -> None:
        run.cluster.start(VICTIM)


class OneOfManyStopped(Many):
    name = "many-coordinator-stop"
    says = "one of three coordinators: SIGSTOP beyond its lease, then SIGCONT"
    must = "others serve; what it then appends changes nothing; it joins again by itself"
    bound_s, bound = TTL_S + 1.0, "lease + 1 s"
    lasts_s = TTL_S + 4.0

    async def inject(self, run: Run) -> None:
        run.signal(VICTIM, SIGSTOP)

    async def heal(self, run: Run) -> None:
        run.signal(VICTIM, SIGCONT)

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        starts = [one for one in run.cluster.output.all if one.startswith(f"started {VICTIM}")]
        return ["it did not join again by itself"] if len(starts) > 1 else []


class AllOfManyRestarted(Many):
    name = "many-coordinator-restart"
    says = "three coordinators: SIGTERM, one after the other"
    must = "each hands over; edges hold what is published meanwhile; no publisher sees an error"
    bound_s, bound = 0.5, "0.5 s, the longest wait of any message"

    async def inject(self, run: Run) -> None:
        for name in COORDINATORS:
            run.signal(name, SIGTERM)
            # As in a rolling upgrade: the next once this one is back and holds its share.
            await asyncio.sleep(5.0)

    def measured(self, run: Run, timeline: Timeline) -> float | None:
        return timeline.waited_s

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        return errors(timeline)


class EverythingRestarted(Many):
    name = "many-rolling-restart"
    says = (
        "three coordinators, three edges, two presence services: SIGTERM, one after the other, "
        "while 2,000 messages a second are asked for"
    )
    must = "no publisher sees an error; subscribers see every message once"
    bound_s, bound = 0.5, "0.5 s, the longest wait of any message"
    shape = Shape(coordinators=3, edges=3, presences=2, etcds=3, postgres=True)
    per_second = 2_000 / 6  # 2,000 in all, as far as the machine is fast enough
    subjects = 120
    play_s = 300.0

    async def inject(self, run: Run) -> None:
        for name in (*COORDINATORS, *EDGES, *PRESENCES):
            before = run.cluster.pids(name)
            run.signal(name, SIGTERM)
            # As in a rolling upgrade: the next once this one is back, and has had its share.
            await run.restarted(name, before)
            await asyncio.sleep(_SETTLE_S)

    def measured(self, run: Run, timeline: Timeline) -> float | None:
        return timeline.waited_s

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        return errors(timeline)


class OneOfManyCutFromEtcd(Many):
    name = "many-coordinator-cut-etcd"
    says = "one of three coordinators cut from all etcds, by reset or by silence"
    must = "it stops 1 s before its lease can have ended; the others go on"
    bound_s, bound = TTL_S + 1.0, "lease + 1 s"
    proxied = tuple(f"{VICTIM}>{etcd}" for etcd in ETCDS)
    lasts_s = TTL_S + 4.0

    async def inject(self, run: Run) -> None:
        frozen = run.dice.choice([True, False])
        for link in run.cluster.links.values():
            link.freeze() if frozen else link.cut()

    async def heal(self, run: Run) -> None:
        for link in run.cluster.links.values():
            link.heal()


class OneOfManyCutFromStore(OneOfManyCutFromEtcd):
    name = "many-coordinator-cut-store"
    says = "one of three coordinators cut from the store, by reset or by silence"
    must = "it accepts nothing, and lets its partitions go; the others go on"
    bound_s, bound = 5.0, "3 s, and 2 s to claim"
    proxied = tuple(f"{VICTIM}>{store}" for store in STORES)


class EtcdMemberKilled(Many):
    name = "many-etcd-kill"
    says = "one of three etcds: SIGKILL"
    must = "clients move on to another"
    bound_s, bound = 1.0, "1 s: nobody notices"
    lasts_s = TTL_S + 3.0

    async def inject(self, run: Run) -> None:
        run.noted["victim"] = victim = run.seed % len(ETCDS)  # each in turn
        await run.stop(ETCDS[victim])

    async def heal(self, run: Run) -> None:
        run.cluster.start(ETCDS[int(run.noted["victim"])])

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        waited = timeline.waited_s
        return [f"a message waited for {waited:.1f} s"] if waited > 1.0 + LATE_S else []


class EtcdMemberFrozen(EtcdMemberKilled):
    name = "many-etcd-freeze"
    says = "one of three etcds: SIGSTOP, then SIGCONT"
    lasts_s = 15.0

    async def inject(self, run: Run) -> None:
        run.noted["victim"] = victim = run.seed % len(ETCDS)  # each in turn
        run.signal(ETCDS[victim], SIGSTOP)

    async def heal(self, run: Run) -> None:
        run.signal(ETCDS[int(run.noted["victim"])], SIGCONT)


class EtcdQuorumLost(Many):
    name = "many-etcd-quorum"
    says = "two of three etcds: SIGKILL, away for longer than a lease"
    must = "owners stop 1 s before their leases can have ended; all goes on when they are back"
    bound_s, bound, since = 2.0, "outage + 2 s", "healed"
    lasts_s = TTL_S + 3.0

    async def inject(self, run: Run) -> None:
        await asyncio.gather(*(run.stop(name) for name in ETCDS[1:]))

    async def heal(self, run: Run) -> None:
        for name in ETCDS[1:]:
            run.cluster.start(name)

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        return without_lease(timeline)


class PrimaryKilled(Many):
    name = "many-store-kill"
    says = "the primary: SIGKILL; its standby is promoted after 2 s"
    must = "what was under way is settled by new claims; nothing accepted is lost"
    bound_s, bound, since = 2.0, "failover + 2 s", "healed"
    lasts_s = 2.0

    async def inject(self, run: Run) -> None:
        run.history.write("fault", service="primary", fault="SIGKILL")
        await asyncio.to_thread(_of(run).primary.kill)

    async def heal(self, run: Run) -> None:
        standby = _of(run).standby
        await asyncio.to_thread(standby.promote)


class StandbyKilled(Many):
    name = "many-standby-kill"
    says = "the standby: SIGKILL, back after 6 s"
    must = "nothing is accepted meanwhile, never without the standby"
    bound_s, bound, since = 5.0, "outage + 3 s for what waits, and 2 s to claim", "healed"
    lasts_s = 6.0

    async def inject(self, run: Run) -> None:
        run.history.write("fault", service="standby", fault="SIGKILL")
        await asyncio.to_thread(_of(run).standby.kill)

    async def heal(self, run: Run) -> None:
        await asyncio.to_thread(_of(run).standby.start)

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        stale = timeline.accepted_between(timeline.in_effect + _TOLD_S, timeline.healed)
        return [f"{stale} messages were accepted without the standby"] if stale else []


class StandbyFrozen(StandbyKilled):
    name = "many-standby-freeze"
    says = "the standby: SIGSTOP for 6 s: no outcome of a commit is known"
    must = "nothing is accepted meanwhile; the commits are settled by new claims"

    async def inject(self, run: Run) -> None:
        run.history.write("fault", service="standby", fault="SIGSTOP")
        await asyncio.to_thread(_of(run).standby.freeze)

    async def heal(self, run: Run) -> None:
        await asyncio.to_thread(_of(run).standby.thaw)


class OneOfManyKilledAndBack(Many):
    name = "many-coordinator-kill-back"
    says = "one of three coordinators: SIGKILL, started again under its name"
    must = "it revokes its own lease; its partitions are claimed at once"
    bound_s, bound = 2.0, "2 s"

    async def inject(self, run: Run) -> None:
        run.signal(VICTIM, SIGKILL)


class OnePresenceKilled(Many):
    name = "many-presence-kill"
    says = "one of two presence services: SIGKILL, stays away"
    must = "the other takes its partitions, cursors and handovers; nothing is missing or doubled"
    bound_s, bound = TTL_S + 1.0, "lease + 1 s"
    lasts_s = TTL_S + 3.0
    lost = 4

    async def inject(self, run: Run) -> None:
        for client in run.lost:
            client.die()
        run.noted["victim"] = run.dice.choice((1, 2))
        await run.stop(_victim(run))
        await run.presence_moved(_victim(run))

    async def heal(self, run: Run) -> None:
        run.cluster.start(_victim(run))

    def measured(self, run: Run, timeline: Timeline) -> float | None:
        """Until all partitions were the other one's."""
        return run.noted.get("presence moved")


class OnePresenceStopped(OnePresenceKilled):
    name = "many-presence-stop"
    says = "one of two presence services: SIGSTOP beyond its lease, then SIGCONT"
    must = "the other takes its partitions; what the first then writes changes nothing"

    async def inject(self, run: Run) -> None:
        for client in run.lost:
            client.die()
        run.noted["victim"] = run.dice.choice((1, 2))
        run.signal(_victim(run), SIGSTOP)
        await run.presence_moved(_victim(run))

    async def heal(self, run: Run) -> None:
        run.signal(_victim(run), SIGCONT)


def _victim(run: Run) -> str:
    return f"presence-{run.noted['victim']:.0f}"


def _of(run: Run) -> Replicated:
    assert run.postgres is not None
    return run.postgres


ROWS = (
    OneOfManyKilled, OneOfManyKilledAndBack, OneOfManyStopped, AllOfManyRestarted,
    EverythingRestarted,
    OneOfManyCutFromEtcd, OneOfManyCutFromStore, EtcdMemberKilled, EtcdMemberFrozen,
    EtcdQuorumLost, PrimaryKilled, StandbyKilled, StandbyFrozen, OnePresenceKilled,
    OnePresenceStopped,
)  # fmt: skip
