"""A row of the table of faults: what is done, what must come of it, and by when.

A row is a class with a few constants and two deeds; `row_run` plays it under load, and the checker
holds what happened against every promise. What a row expects besides is in `wrong`, and how long it
took in `measured`.
"""

import asyncio
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, Signals
from typing import ClassVar, Literal

from tests.faults.client import Client
from tests.faults.cluster import Cluster, Shape, ready
from tests.faults.history import History
from tests.faults.post import Post
from tests.faults.publisher import Publisher
from tests.faults.stage import Stage
from tests.faults.timeline import Timeline
from tests.faults.tree import Edit
from tests.real_postgres import Replicated

TTL_S = 5.0  # the lease, as by default
LATE_S = 3.0  # allowed beyond a bound where the machine is shared


@dataclass(slots=True)
class Run:
    """What a row acts on. `staying` are never away by themselves; `lost` never come back once
    their connection ends."""

    cluster: Cluster
    history: History
    post: Post
    stage: Stage
    dice: random.Random
    folder: Path
    staying: Sequence[Client]
    lost: Sequence[Client]
    publishers: Sequence[Publisher]
    seed: int = 1
    noted: dict[str, float] = field(default_factory=dict)
    postgres: Replicated | None = None  # of the cluster profile
    told: list[str] = field(default_factory=list)  # alarms seen during the fault
    injected_at: float = 0.0

    def signal(self, name: str, number: Signals) -> None:
        """To the process of a member."""
        self.stage.signal(name, number)

    async def stop(self, name: str, number: Signals = SIGKILL) -> None:
        """End a member, for it to stay away."""
        await asyncio.to_thread(self.cluster.hold, name)
        self.stage.signal(name, number)
        await asyncio.to_thread(self.cluster.wait_gone, name)

    async def restarted(self, name: str, before: Collection[int], deadline_s: float = 60.0) -> None:
        """Wait until a member runs as another process than before."""
        await self.stage.wait(
            lambda: bool(self.cluster.pids(name) - set(before)), f"{name} is back", deadline_s
        )

    async def noticed(self, what: str, url: str, serves: bool, deadline_s: float) -> None:
        """Note the seconds since the fault when an edge began, or ceased, to be ready."""
        loop = asyncio.get_running_loop()
        while await asyncio.to_thread(ready, url) is not serves:
            if loop.time() - self.injected_at > deadline_s:
                return
            await asyncio.sleep(0.02)
        self.noted[what] = loop.time() - self.injected_at

    async def explained(self, deadline_s: float = 60.0) -> None:
        """Note the seconds since the fault when presence answered again."""
        loop = asyncio.get_running_loop()
        while not await asyncio.to_thread(self.cluster.explains):
            if loop.time() - self.injected_at > deadline_s:
                return
            await asyncio.sleep(0.02)
        self.noted["explains"] = loop.time() - self.injected_at

    async def presence_moved(self, victim: str, deadline_s: float = 60.0) -> None:
        """Note the seconds since the fault when every partition was another presence service's."""
        loop = asyncio.get_running_loop()
        while not await asyncio.to_thread(self.cluster.presence_without, victim):
            if loop.time() - self.injected_at > deadline_s:
                return
            await asyncio.sleep(0.02)
        self.noted["presence moved"] = loop.time() - self.injected_at

    async def watch_alarms(self) -> None:
        """Collect the names of alarms, until cancelled."""
        while True:
            try:
                found = await asyncio.to_thread(self.cluster.alarms)
            except OSError:
                found = []
            self.told += [one for one in found if one not in self.told]
            await asyncio.sleep(0.3)


class Row:
    """One fault. `since` is the moment from which `bound_s` counts."""

    name: ClassVar[str]
    says: ClassVar[str]  # the fault, in words
    must: ClassVar[str]  # what must happen
    bound_s: ClassVar[float | None] = None
    bound: ClassVar[str] = "–"  # what it is made of
    since: ClassVar[Literal["injected", "healed"]] = "injected"
    profile: ClassVar[str] = "embedded"
    shape: ClassVar[Shape] = Shape()
    proxied: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[Mapping[str, str]] = {}
    stretch: ClassVar[tuple[Edit, ...]] = ()  # moments made longer, to be hit
    lasts_s: ClassVar[float] = 0.0
    lost: ClassVar[int] = 0  # people who go with the fault, and stay away
    per_second: ClassVar[float] = 20.0  # publishes, of each publisher
    subjects: ClassVar[int] = 12  # explain tells of the newest thousand messages of each
    play_s: ClassVar[float] = 400.0  # what takes longer hangs

    def why_not(self) -> str:
        """Why it cannot be played on this machine; empty: it can."""
        return ""

    def prepare(self, folder: Path) -> Mapping[str, Mapping[str, str]]:
        """Before anything starts; returns further variables of single members."""
        return {}

    def trees(self) -> Mapping[str, Path]:
        """Whose programs members run, by their names, where it is not this project's."""
        return {}

    def clean_up(self, folder: Path) -> None:
        """After everything has ended."""

    async def before(self, run: Run) -> None:
        """Under load, while all is well."""

    async def inject(self, run: Run) -> None:
        """The fault; it lasts `lasts_s` from when this returns."""

    async def heal(self, run: Run) -> None:
        """Its end."""

    def measured(self, run: Run, timeline: Timeline) -> float | None:
        """What the bound is for, in seconds; None: it has not come to be."""
        return timeline.again_s(self.since)

    def wrong(self, run: Run, timeline: Timeline) -> list[str]:
        """What else should not have happened."""
        return []


def errors(timeline: Timeline) -> list[str]:
    """Publishes that were refused since the fault."""
    codes = [code for at, code in timeline.refused if at >= timeline.injected]
    return [f"{len(codes)} publishes were refused: {sorted(set(codes))}"] if codes else []


def false_notifications(run: Run, timeline: Timeline) -> list[str]:
    """Mails to people who came back."""
    addresses = {f"{one.user}@example.org" for one in run.staying}
    wrong = [to for at, to in timeline.mails if at >= timeline.injected and to in addresses]
    return [f"{len(wrong)} mails to people who came back"] if wrong else []


def untold(run: Run, alarm: str) -> list[str]:
    """That an alarm was not raised."""
    return [] if alarm in run.told else [f"the alarm {alarm} was not raised, but {run.told}"]
