"""Plays a row under load: people, the fault, its end, and what came of it.

Publishers publish all the time; people stay, come and go, or are away and have themselves mailed.
The seed decides who follows what, how people leave, and what the row leaves open.
"""

import asyncio
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import psycopg

from services.coordinator.postgres_sessions import SCHEMA
from tests.faults import kill_run
from tests.faults.client import Client
from tests.faults.cluster import Cluster, Shape
from tests.faults.history import Event, History
from tests.faults.post import Post
from tests.faults.proxy import Links
from tests.faults.publisher import Publisher
from tests.faults.row import LATE_S, Row, Run
from tests.faults.run import SLOW, Verdict, judge
from tests.faults.stage import SETTINGS, Stage
from tests.faults.tree import copy_tree
from tests.path.stack import ended
from tests.processes import slowness
from tests.real_postgres import Replicated, replicated

PUBLISHERS = 6
STAYING, RETURNING, AWAY = 6, 3, 4
WARM_S, TAIL_S = 3.0, 3.0
ACCEPTING_S = 45.0  # until something is accepted again, at the latest
_DISTURBED_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What playing a row came to."""

    row: Row
    verdict: Verdict
    measured_s: float | None
    slow: float  # how much slower than usual the machine was
    wrong: list[str]
    alarms: list[str]  # seen while the fault lasted

    @property
    def late(self) -> bool:
        """Whether it took longer than the bound and what a shared machine may add."""
        if self.row.bound_s is None:
            return False
        return self.measured_s is None or self.measured_s > self.row.bound_s + LATE_S * self.slow

    @property
    def good(self) -> bool:
        """Whether every promise held, and the row's own."""
        return self.verdict.good and not self.wrong and not self.late

    def record(self) -> dict[str, Any]:
        """What `report` makes a page of."""
        row, timeline = self.row, self.verdict.timeline
        return self.verdict.record() | {
            "good": self.good, "says": row.says, "must": row.must, "profile": row.profile,
            "bound": row.bound, "bound_s": row.bound_s, "measured_s": self.measured_s,
            "waited_s": timeline.waited_s, "refused": len(timeline.refused), "slow": self.slow,
            "wrong": self.wrong, "alarms": self.alarms,
            "lasted_s": timeline.healed - timeline.injected, "points": timeline.points(),
        }  # fmt: skip

    def __str__(self) -> str:
        measured = "never" if self.measured_s is None else f"{self.measured_s:.2f} s"
        lines = [
            str(self.verdict),
            f"measured {measured}, bound {self.row.bound} ({self.row.bound_s}), longest wait "
            f"{self.verdict.timeline.waited_s:.2f} s, machine {self.slow:.1f} times slower",
            f"alarms: {', '.join(self.alarms) or 'none'}",
            *self.wrong,
            *(["TOO LATE"] if self.late else []),
        ]
        return "\n".join(lines)


def play(row: Row, seed: int, folder: Path) -> Outcome:
    """Play it, and judge what happened."""
    folder.mkdir(parents=True, exist_ok=True)
    history = History(folder / "history.jsonl")
    slow = slowness()
    per_second = row.per_second / max(1.0, slow / SLOW)
    history.write("run", row=row.name, seed=seed, asked=per_second * PUBLISHERS)
    more = row.prepare(folder)
    trees = dict(row.trees())
    if row.stretch:
        trees = dict.fromkeys(row.shape.members(), copy_tree(folder, row.stretch))
    try:
        with Post() as post, Links() as links, postgres_of(row.shape) as postgres:
            settings = SETTINGS | kill_run.SETTINGS | dict(row.settings) | post.settings
            stores = (postgres.primary.port, postgres.standby.port) if postgres else ()
            cluster = Cluster(folder, settings, row.shape, links, row.proxied, trees, more, stores)
            with ended(cluster):
                cluster.wait_ready()
                play = _Play(row, seed, history, post, cluster, folder, per_second)
                play.run.postgres = postgres
                asyncio.run(asyncio.wait_for(play.stage.run(play.plot), row.play_s))
                for event, fields in store_events(cluster, postgres):
                    history.write(event, **fields)
                history.write("output", lines=cluster.output.all)
    finally:
        history.close()
        row.clean_up(folder)
    verdict = judge(row.name, seed, history.path)
    slow = max(slow, slowness())
    timeline = verdict.timeline
    return Outcome(
        row, verdict, row.measured(play.run, timeline), slow, row.wrong(play.run, timeline),
        play.run.told,
    )  # fmt: skip


class _Play:
    """The plot of a row with a seed."""

    def __init__(
        self, row: Row, seed: int, history: History, post: Post, cluster: Cluster,
        folder: Path, per_second: float,
    ) -> None:  # fmt: skip
        self._row, self._history, self._per_second = row, history, per_second
        self._dice = dice = random.Random(f"{row.name} {seed}")
        self._urls = [url.replace("http", "ws") for url in cluster.urls]
        self._made = 0
        self._subjects = subjects = [f"/row/{n}" for n in range(row.subjects)]
        publishers = [
            Publisher(self._next_urls(), history, f"pub-{n}", dice.sample(subjects, 4),
                      random.Random(dice.random()))
            for n in range(PUBLISHERS)
        ]  # fmt: skip
        for at, subject in enumerate(subjects):  # each has a publisher
            mine = publishers[at % PUBLISHERS]
            mine.subjects = list(dict.fromkeys([*mine.subjects, subject]))
        staying, self._returning = self._people("stay", STAYING), self._people("back", RETURNING)
        self._away, lost = self._people("away", AWAY), self._people("lost", row.lost)
        clients = [*staying, *self._returning, *self._away, *lost]
        self.stage = Stage(cluster, post, history, clients, publishers, told_limit=100)
        self.run = Run(
            cluster, history, post, self.stage, dice, folder, staying, lost, publishers, seed
        )
        self._over = asyncio.Event()

    def _next_urls(self) -> list[str]:
        """All edges, another one first each time."""
        self._made += 1
        at = self._made % len(self._urls)
        return self._urls[at:] + self._urls[:at]

    def _people(self, kind: str, number: int) -> list[Client]:
        dice = self._dice
        return [
            Client(self._next_urls(), self._history, f"{kind}-{n}", f"{kind}-{n}-1",
                   f"{kind}-{n}@example.org", dice.sample(self._subjects, 2),
                   random.Random(dice.random()))
            for n in range(number)
        ]  # fmt: skip

    async def plot(self) -> None:
        """From the first connection to the last publish."""
        stage, row, run, loop = self.stage, self._row, self.run, asyncio.get_running_loop()
        for client in stage.clients:
            client.come()
        await stage.wait(lambda: all(one.connected for one in stage.clients), "all are connected")
        await stage.wait(lambda: all(one.connected for one in stage.publishers), "all can publish")
        doings = [loop.create_task(one.publish_until(self._over, self._per_second))
                  for one in stage.publishers]  # fmt: skip
        doings += [loop.create_task(self._leave_and_return(one)) for one in self._returning]
        doings += [loop.create_task(self._leave(one)) for one in self._away]
        await asyncio.sleep(WARM_S)
        await row.before(run)
        await asyncio.sleep(self._dice.uniform(0.0, 0.5))
        for client in run.lost:
            client.gone = True
            client.abandon()
        disturbing = loop.create_task(self._tell_disturbed())
        watching = loop.create_task(run.watch_alarms())
        self._history.write("injected", row=row.name)
        run.injected_at = time.monotonic()
        await row.inject(run)
        self._history.write("in_effect", row=row.name)
        await asyncio.sleep(row.lasts_s)
        self._history.write("healed", row=row.name)
        await row.heal(run)
        await self._accepting()
        watching.cancel()
        disturbing.cancel()
        await asyncio.sleep(TAIL_S)
        self._over.set()
        await asyncio.gather(*doings)

    async def _tell_disturbed(self) -> None:
        while True:
            self._history.write("disturbed")
            await asyncio.sleep(_DISTURBED_EVERY_S)

    async def _accepting(self) -> None:
        """Wait until everybody has had something accepted that was published from now on."""
        asked = [(one, one.published) for one in self.stage.publishers]
        await self.stage.wait(
            lambda: all(one.answered > before for one, before in asked),
            "everybody's publishes are accepted again", ACCEPTING_S,
        )  # fmt: skip

    async def _leave(self, client: Client) -> None:
        await asyncio.sleep(self._dice.uniform(0.5, 2.0))
        client.gone = True
        await self._go(client)

    async def _leave_and_return(self, client: Client) -> None:
        dice = random.Random(self._dice.random())
        while not self._over.is_set():
            await asyncio.sleep(dice.uniform(0.5, 3.0))
            await self._go(client)
            await asyncio.sleep(dice.choice([dice.uniform(0.1, 1.0), dice.uniform(2.0, 5.0)]))
            client.come()

    async def _go(self, client: Client) -> None:
        match self._dice.choice(["close", "drop", "die"]):
            case "close":
                await client.close()
            case "drop":
                client.drop()
            case _:
                client.die()


@contextmanager
def postgres_of(shape: Shape) -> Iterator[Replicated | None]:
    """A primary with a standby, if the log is to be there."""
    if not shape.postgres:
        yield None
        return
    with replicated() as postgres:
        yield postgres


def store_events(cluster: Cluster, postgres: Replicated | None) -> Iterator[tuple[str, Event]]:
    """The terms of every partition's entries, and when messages were decided, by the store."""
    columns = "SELECT p, pos, epoch, recorded_at, subject FROM"
    if postgres is None:
        path = cluster.folder_of("coordinator-1") / "log.sqlite3"
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as sqlite:
            rows = sqlite.execute(f"{columns} log ORDER BY p, pos").fetchall()
    else:
        with psycopg.connect(postgres.url()) as store:
            rows = store.execute(f"{columns} {SCHEMA}.log ORDER BY p, pos").fetchall()
    since_start_s = time.monotonic() - time.time()  # between the store's clock and the history's
    yield "recorded", {"times": sorted(at / 1_000 + since_start_s for *_, at, who in rows if who)}
    for partition, entries in groupby(rows, key=lambda row: row[0]):
        runs: list[list[int]] = []
        for _, pos, epoch, *_ in entries:
            if runs and runs[-1][1] == pos - 1 and runs[-1][2] == epoch:
                runs[-1][1] = pos
            else:
                runs.append([pos, pos, epoch])
        yield "partition", {"partition": int(partition), "runs": runs}
