"""One story of notifications: `play(seed)` is its events, its end, and what the judge found.

Real presence services (`replica`) on a real SQLite file (`database`) are reported the entries of a
log (`log`) that people write (`people`), and hand what is due to plugins (`plugins`); what happens
is drawn by `script`, what users and operators want by `wishes`. All of it passes in virtual time:
a loop's, which only moves while nobody has anything to do, and a clock on the wall that may leap.
In the end everything heals, and all that is due must be done. Then `judge.Judge`, which knows
nothing but what was recorded, says whether all was as it should be.

A seed repeats exactly. By hand, with every event: `python -m tests.notifications.story 17`.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from onward.presence.v1 import presence_pb2

from services.presence.settings import Settings
from tests.notifications import plugins, wishes
from tests.notifications.database import Database
from tests.notifications.judge import Judge
from tests.notifications.log import PARTITIONS, Log
from tests.notifications.people import Edges
from tests.notifications.plugins import Plugin
from tests.notifications.replica import REPLICAS, Cast
from tests.notifications.script import Script
from tests.simulation.channels import Switchboard
from tests.simulation.network import Network
from tests.simulation.own_time import in_its_own_time
from tests.simulation.virtual_time import StalledError, VirtualLoop

STORY_S = 18.0
_SETTLED_S = 40.0  # after it everything must be done, but for what waits for a time of day
_LEAPS_MAX = 400
_READ_S = 6.0  # longer than a service may be stopped, and look away
_AWAY_S = 3.0
# A disk in memory spares the flush of each commit; what is lost with power is not tried here.
_MEMORY = Path("/dev/shm")


@dataclass
class Outcome:
    """What became of a seed."""

    seed: int
    broken: list[str]
    records: list[dict[str, Any]] = field(repr=False)
    checked: dict[str, int]

    def __str__(self) -> str:
        found = "\n".join(self.broken[:10])
        return (
            f"seed {self.seed} broke {len(self.broken)} promises:\n{found}\n"
            f"the story: python -m tests.notifications.story {self.seed}"
        )


class Story:
    """The world of one run; what its parts want of it."""

    def __init__(self, seed: int, directory: Path) -> None:
        self.seed = seed
        self.records: list[dict[str, Any]] = []
        self.random = Random(seed)
        self.loop = VirtualLoop()
        self.network = Network(self.loop, Random(seed * 3 + 1))
        self.switchboard = Switchboard(self.network)
        self._began_at, self.home = wishes.moment_of(self.random)
        self._leapt_s = 0.0
        self._traps: list[tuple[str, str, int, Callable[[], None]]] = []
        self.database = Database(directory, self._commit, self.clock)
        self.database.on_turn = self._on_turn
        routing = wishes.routing_of(self.random)
        self.rates = routing.get("rates", {})
        self._file = directory / "routing.yaml"
        self._routed, self._routings = bool(routing), 0
        settings = {name: self._settings(name) for name in REPLICAS}
        self._tell_settings(settings[REPLICAS[0]])
        self.write_routing(routing)
        self.edges = Edges(self)
        self.log = Log(self, Random(seed * 5 + 2))
        self.plugins = [Plugin(self, name, Random(f"{name}{seed}")) for name in plugins.PLUGINS]
        self.cast = Cast(self, Random(seed * 7 + 3), settings)
        self.log.holders = self.cast.addresses
        self.script = Script(self, Random(seed * 11 + 4), STORY_S)

    def _settings(self, name: str) -> Settings:
        random = self.random
        return Settings(
            name=name,
            plugins=plugins.ADDRESSES,
            routing=str(self._file) if self._routed else "",
            grace_s=0.8, grace_clean_s=0.3, grace_dead_edge_s=1.2, returns_per_s=20,
            away_after_s=_AWAY_S, hold_max_s=4.0, hold_check_s=0.3, collapse_s=1.0,
            retry_first_s=0.2, retry_longest_s=1.0, retry_tries_max=5,
            dead_letter_after_s=4.0,
            breaker_first_s=0.2, breaker_longest_s=1.0, notify_deadline_s=1.5, plugins_wait_s=1.0,
            read_deadline_s=0.5, handover_messages_max=6, fanout_users_max=random.choice((3, 200)),
            sweep_every_s=2.0,
        )  # fmt: skip

    def _tell_settings(self, settings: Settings) -> None:
        names = (
            "grace_s", "grace_clean_s", "grace_dead_edge_s", "away_after_s", "hold_max_s",
            "collapse_s", "expiry_s", "retry_tries_max", "dead_letter_after_s",
            "handover_messages_max",
        )  # fmt: skip
        self.record(
            "settings",
            channels=plugins.CHANNELS,
            **{name: getattr(settings, name) for name in names},
        )

    # What parts ask for.

    def clock(self) -> float:
        """The time of day."""
        return self._began_at + self.loop.now + self._leapt_s

    def record(self, event: str, **fields: Any) -> None:
        self.records.append({"event": event, "at": self.clock(), **fields})

    def _commit(self, event: str, notes: list[tuple[Any, ...]], **fields: Any) -> None:
        told = [
            (*note, self.script.wish_said(note[1])) if note[0] == "wish" else note for note in notes
        ]
        self.record(event, notes=told, **fields)

    def leap(self, seconds: float) -> None:
        self._leapt_s += max(0.0, seconds)
        self.record("leapt", seconds=seconds)

    def write_routing(self, routing: dict[str, Any]) -> None:
        """A new routing file, where there is one; every service has read it a little later."""
        number = self._routings = self._routings + 1
        if number > 1 and not self._routed:
            return
        self._file.write_text(wishes.yaml_of(routing))
        self.record("routing", routing=routing)

        def read() -> None:
            if number == self._routings:
                self.record("routed")

        self.network.later(_READ_S, read)

    def lose_edge(self, edge: int) -> None:
        """An edge dies, and another begins; a little later the directory knows."""
        self.edges.die(edge)
        self.edges.start()
        for replica in self.cast.replicas.values():
            if replica is not None:
                replica.process.do(replica.workers.sweep_soon)

    def trap(self, name: str, moment: str, count: int, act: Callable[[], None]) -> None:
        """Do something at the count-th such moment of a replica's transactions."""
        self._traps.append((name, moment, count, act))

    def _on_turn(self, name: str, moment: str) -> None:
        traps, self._traps = self._traps, []
        for of, when, count, act in traps:
            if (of, when) != (name, moment):
                self._traps.append((of, when, count, act))
            elif count > 1:
                self._traps.append((of, when, count - 1, act))
            else:
                act()

    # The run.

    def play(self) -> None:
        """From the first start to rest."""
        try:
            self.loop.run_until_complete(self._run())
        except StalledError:
            self.record("broken", who="everybody", fault="nobody has anything to do")
        for fault in self.loop.faults:
            self.record("broken", who="a callback", fault=fault)
        lives = [one.process for one in self.cast.lives]
        for plugin in self.plugins:
            lives += plugin.lives
        self.loop.bury([*lives, self.log.process, self.cast.process])
        self.database.close()

    async def _run(self) -> None:
        for _ in range(2):
            self.edges.start()
        self.cast.begin()
        await asyncio.sleep(0.3)
        await self.script.play()
        self._heal()
        await self._settle()
        await self._explain()
        self.record("end")

    def _heal(self) -> None:
        self._traps.clear()
        self.log.unreadable = False
        self.log.restless = False
        for plugin in self.plugins:
            plugin.mood = "well"
        for replica in self.cast.replicas.values():
            if replica is not None:
                replica.process.fuse = 0
        self.record("healed")

    async def _settle(self) -> None:
        """Until all is done; what waits for a later time of day is leapt to."""
        # Whoever is idle is away, and every hold and grace is over.
        await asyncio.sleep(3.0)
        self.leap(_AWAY_S)
        await asyncio.sleep(6.0)
        leaps, until, fewest = 0, self.loop.now + _SETTLED_S, 1 << 30
        while left := self._left():
            if len(left) < fewest:
                fewest, until = len(left), self.loop.now + _SETTLED_S
            times = [at for _, at in left if at is not None]
            wait_s = min(times) - self.clock() if len(times) == len(left) else 0.0
            if wait_s > 2.0 and leaps < _LEAPS_MAX:
                leaps += 1
                self.leap(wait_s - 0.2)
                until = self.loop.now + _SETTLED_S
            if self.loop.now > until:
                break
            await asyncio.sleep(0.25)
        for what, at in left:
            due = "" if at is None else f" (due in {at - self.clock():.1f} s)"
            self.record("broken", who="after all", fault=what + due)

    def _left(self) -> list[tuple[str, float | None]]:
        behind: list[tuple[str, float | None]] = []
        for partition in range(PARTITIONS):
            at, tail = self.database.cursor(partition), self.log.tail(partition)
            if at < tail:
                behind.append((f"presence is at {at} of {partition}, which ends at {tail}", None))
        return [*behind, *self.database.left()]

    async def _explain(self) -> None:
        """What presence says of every message, for the judge."""
        replica = self.cast.holder() or next(one for one in self.cast.replicas.values() if one)
        users = sorted({client.user for client in self.script.clients})

        async def ask() -> None:
            for user in users:
                for subject in wishes.SUBJECTS:
                    request = presence_pb2.ExplainRequest(user=user, subject=subject, limit=1_000)
                    story = await replica.workers.query_servicer.Explain(request, None)
                    outcomes = [
                        (one.from_seq, one.to_seq, names.Name(one.state), one.reason)
                        for one in story.outcomes
                    ]
                    self.record("explained", user=user, subject=subject, outcomes=outcomes)

        names = presence_pb2.Outcome.State
        await replica.process.spawn(ask())


def play(seed: int, loud: bool = False) -> Outcome:
    """Play one seed. `loud`: with what services log."""
    with TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as directory:
        story = Story(seed, Path(directory))
        with in_its_own_time(story, loud):
            story.play()
    judge = Judge()
    return Outcome(seed, judge.judge(story.records), story.records, dict(judge.checked))


def play_without_records(seed: int) -> Outcome:
    """Play one seed whose records nobody looks at: they are long."""
    return replace(play(seed), records=[])


def tell(record: dict[str, Any]) -> str:
    """A record as a line, or several."""
    fields = {name: value for name, value in record.items() if name not in ("event", "at")}
    at = record["at"] % 100_000
    if record["event"] == "commit":
        return "\n".join(
            f"{at:10.3f} {fields['who']}: {' '.join(map(str, note))}" for note in fields["notes"]
        )
    return f"{at:10.3f} {record['event']:8} " + " ".join(f"{k}={v}" for k, v in fields.items())


def main() -> None:
    """Tell the whole story of the seeds given."""
    for seed in map(int, sys.argv[1:]):
        outcome = play(seed, loud=True)
        for record in outcome.records:
            print(tell(record))
        print(f"seed {seed}: checked {outcome.checked}")
        for line in outcome.broken:
            print(line)


if __name__ == "__main__":
    main()
