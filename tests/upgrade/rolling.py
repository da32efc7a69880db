"""An upgrade under load, service by service, and the way back: as a row of the fault runs.

All members begin with the baseline's programs. Then each is ended by SIGTERM and started with this
tree's, one after the other, each healthy before the next, as docs/deploying.md says; at last they
go back, the service that came last first. Whatever the order of the services is, no publisher sees
an error, and the checker finds every promise kept.

A service that does not go back has changed its tables, or how it finds others. What of it is old
may not work once one of it is new, and is not asked to: it may end, and be started in vain, until
it is upgraded. Publishers see no error of that either, and whoever was to be notified is, then.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGTERM

from services.chassis.errors import StartError
from services.chassis.probe import ask, peer
from services.cli.up_machine import find_etcd
from tests.faults.cluster import Shape, kind_of
from tests.faults.row import Row, Run, errors
from tests.faults.timeline import Timeline
from tests.path.stack import ROOT
from tests.real_postgres import missing as no_postgres
from tests.upgrade import trees
from tests.upgrade.trees import Baseline

SERVICES = ("coordinator", "presence", "notifier", "edge")  # as docs/deploying.md orders them
_SHAPE = {"coordinators": 2, "edges": 2, "presences": 2, "postgres": True}
_HEALTHY_S = 60.0


def orders() -> list[tuple[str, ...]]:
    """Orders in which each service is once the first and once the last; then all of them backward,
    so that each also comes both before and after every other."""
    turned = [SERVICES[n:] + SERVICES[:n] for n in range(len(SERVICES))]
    return turned + [order[::-1] for order in turned]


class Upgrade(Row):
    """One order of the services. `root`: where this tree is."""

    says = "every service is upgraded under load, one member after the other, and then goes back"
    must = "no publisher sees an error; nothing is lost, missing or doubled"
    profile = "cluster"
    shape = Shape(etcds=3, **_SHAPE)  # type: ignore[arg-type]
    lasts_s = 3.0  # with all members upgraded
    # It lasts long: see `subjects`.
    subjects = 30
    play_s = 600.0

    def __init__(self, order: Sequence[str], baseline: Baseline, root: Path = ROOT) -> None:
        self.name = f"upgrade-{'-'.join(order)}"  # type: ignore[misc]
        self._order, self._baseline, self._root = order, baseline, root
        try:
            find_etcd(os.environ, 3)
        except StartError:  # no etcd is installed that may be several
            self.shape = Shape(**_SHAPE)  # type: ignore[misc, arg-type]
        self._started: list[tuple[str, int, Path]] = []  # member, pid, the tree it is to run from

    def why_not(self) -> str:
        return no_postgres() or trees.missing()

    def prepare(self, folder: Path) -> Mapping[str, Mapping[str, str]]:
        self._before = trees.of_commit(self._baseline.commit, folder / "before")
        self._now = trees.of_this(folder / "now", self._root)
        return {}

    def trees(self) -> Mapping[str, Path]:
        return dict.fromkeys(self._members(), self._before)

    async def before(self, run: Run) -> None:
        self._started += [(one, run.cluster.child(one), self._before) for one in self._members()]

    async def inject(self, run: Run) -> None:
        for service in self._order:
            await self._move(run, service, self._now)

    async def heal(self, run: Run) -> None:
        for service in self._back():
            await self._move(run, service, self._before)

    def measured(self, run: Run, timeline: Timeline) -> float | None:
        """The longest that a message waited to be accepted."""
        return timeline.waited_s

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        strangers = [
            f"{member} did not run the programs it was to run"
            for member, pid, tree in self._started
            if pid not in trees.ran_from(tree, kind_of(member))
        ]
        started = Counter(line.split()[1] for line in run.cluster.output.all
                          if line.startswith("started "))  # fmt: skip
        asked = Counter(member for member, _, _ in self._started)
        strangers += [
            f"{member} was started {started[member]} times instead of {times}"
            for member, times in asked.items()
            if started[member] != times and kind_of(member) not in self._baseline.stays
        ]
        return errors(timeline) + strangers

    def restarts(self) -> int:
        """How many there are, of all members, there and back."""
        services = [*self._order, *self._back()]
        return sum(services.count(kind_of(member)) for member in self._members())

    def _back(self) -> list[str]:
        return [one for one in reversed(self._order) if one not in self._baseline.stays]

    def _members(self) -> list[str]:
        return [one for one in self.shape.members() if kind_of(one) != "etcd"]

    async def _move(self, run: Run, service: str, tree: Path) -> None:
        for member in self._members():
            if kind_of(member) == service:
                await self._restart(run, member, tree)

    async def _restart(self, run: Run, member: str, tree: Path) -> None:
        """End a member, and have it started from the tree; until it can do its work."""
        cluster, stage = run.cluster, run.stage
        cluster.move(member, tree)
        run.signal(member, SIGTERM)

        def new() -> set[int]:
            return cluster.pids(member) & trees.ran_from(tree, kind_of(member))

        if not await stage.wait(
            lambda: bool(new()), f"{member} runs what is in {tree.name}", _HEALTHY_S
        ):
            return
        pid = cluster.child(member)
        self._started.append((member, pid, tree))
        run.history.write("moved", member=member, pid=pid, tree=tree.name)
        whom = peer(cluster.environ_of(member) | {"SERVICE": kind_of(member)})
        end = asyncio.get_running_loop().time() + _HEALTHY_S
        while why := await ask(whom, alive=False):
            if asyncio.get_running_loop().time() > end:
                run.history.write("stuck", what=f"{member} is healthy: {why}")
                return
            await asyncio.sleep(0.1)
