"""One of three edges is killed under thousands of clients: who resumes where, and how soon.

    python -m tests.faults.edge_death [--clients 10000] [--away 300] [--subjects 300] …

All clients follow one subject each and have an e-mail address. A few of those on the edge that is
killed stay away; everybody else who was there comes back through another edge, as SDK clients do
(`crowd`). Messages are published all the while, round and round the subjects, until just before
anybody's grace can end: so what those who stay away have missed is one notification each, and
nobody else is due any. The checker judges all of it, as it does every run; what it costs, and how
long it took until clients were told to be synced, is measured.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import uvloop

from bench.machine import Watch, cpu_s, descendants
from tests.faults.cluster import Cluster, Shape, kind_of
from tests.faults.crowd import Crowd, Member
from tests.faults.edge_death_outcome import Outcome, Size
from tests.faults.history import History
from tests.faults.post import Post
from tests.faults.proxy import Links
from tests.faults.publisher import Publisher
from tests.faults.row_run import postgres_of, store_events
from tests.faults.run import Verdict, judge
from tests.faults.teller import Teller
from tests.path.stack import ended
from tests.real_postgres import Replicated, missing

ROW, DEAD = "edge-death", "edge-2"
PUBLISHERS = 5
UNDER_WAY_MAX = 200  # clients that connect at the same time, before the fault
BACK_S, MAILED_S, REST_S = 120.0, 60.0, 60.0  # what takes longer has not come to be
TOLD_OF = 200  # people who stayed, about whom explain is asked too


def play(size: Size, folder: Path) -> Outcome:
    """Play it, and judge what happened."""
    folder.mkdir(parents=True, exist_ok=True)
    many = Shape(coordinators=3, edges=3, presences=2, postgres=True)
    shape = many if missing() is None else Shape(edges=3)
    history = History(folder / "history.jsonl")
    history.write("run", row=ROW, seed=size.seed, asked=size.per_second)
    try:
        with Post() as post, Links() as links, postgres_of(shape) as postgres:
            stores = (postgres.primary.port, postgres.standby.port) if postgres else ()
            settings = post.settings | {"ONWARD_PRESENCE_GRACE_DEAD_EDGE_S": str(size.grace_s)}
            cluster = Cluster(folder, settings, shape, links, stores=stores)
            with ended(cluster):
                cluster.wait_ready()
                run = _Run(size, history, post, cluster, postgres)
                uvloop.run(run.play())
                for event, fields in store_events(cluster, postgres):
                    history.write(event, **fields)
    finally:
        history.close()
    return run.outcome(judge(ROW, size.seed, history.path))


class _Run:
    """The plot."""

    def __init__(
        self, size: Size, history: History, post: Post, cluster: Cluster,
        postgres: Replicated | None,
    ) -> None:  # fmt: skip
        self._size, self._history, self._post, self._cluster = size, history, post, cluster
        self._postgres = postgres
        dice = random.Random(size.seed)
        self._subjects = [f"/crowd/{n}" for n in range(size.subjects)]
        self._crowd = Crowd(cluster.urls, history, dice)
        for n in range(size.clients):
            Member(self._crowd, f"user-{n}", [self._subjects[n % size.subjects]])
        urls = [url.replace("http", "ws") for url in (cluster.urls[0], cluster.urls[2])]
        self._publishers = [
            Publisher(urls, history, f"pub-{n}", self._subjects[n::PUBLISHERS], dice)
            for n in range(PUBLISHERS)
        ]
        self._teller = Teller(cluster.url, history, post, [])
        self._enough = asyncio.Event()  # has been published
        self._dice = dice
        self._returning: list[Member] = []
        self._away: list[Member] = []
        self._others: list[Member] = []  # who were on edges that live
        self._came_s = self._killed_at = 0.0
        self._attempts: Counter[str] = Counter()
        self._connected_s: list[float] = []
        self._synced_s: list[float] = []
        self._cpu: dict[str, float] = {}
        self._usual: dict[str, float] = {}  # CPU seconds a second, before the kill
        self._others_cpu = 0.0
        self._wrong: list[str] = []

    async def play(self) -> None:
        """From the first connection to what became of everything."""
        live = [asyncio.create_task(one.live()) for one in self._publishers]
        try:
            await self._come()
            publishing = [asyncio.create_task(self._publish(one)) for one in self._publishers]
            await asyncio.sleep(1.0)  # for the first of them
            before = self._cpu_now()
            await asyncio.sleep(self._size.warm_s)
            after = self._cpu_now()
            self._usual = {kind: (after[kind] - before[kind]) / self._size.warm_s for kind in after}
            await self._kill()
            # A lease lives on for at least three seconds, and then the grace begins.
            loop = asyncio.get_running_loop()
            ending = loop.call_later(self._size.grace_s + 1.0, self._enough.set)
            await self._come_back()
            await asyncio.gather(*publishing)
            ending.cancel()
            await self._rest()
        finally:
            for task in live:
                task.cancel()
            for member in self._crowd.members:
                member.leave()

    async def _come(self) -> None:
        """Everybody connects, not too many at once."""
        began, free = time.monotonic(), asyncio.Semaphore(UNDER_WAY_MAX)

        async def one(member: Member) -> None:
            async with free:
                member.come()
                await self._until(lambda: member.online, BACK_S, "a client is connected", 0.05)

        await asyncio.gather(*map(one, self._crowd.members))
        self._came_s = time.monotonic() - began
        await self._until(lambda: all(one.connected for one in self._publishers), BACK_S,
                          "all can publish")  # fmt: skip

    async def _publish(self, publisher: Publisher) -> None:
        """Round and round its subjects, so that each has its share."""
        loop = asyncio.get_running_loop()
        due, pause_s = loop.time(), PUBLISHERS / self._size.per_second
        for subject in itertools.cycle(publisher.subjects):
            if self._enough.is_set():
                return
            await publisher.publish_one(subject)
            due += pause_s
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def _kill(self) -> None:
        url = self._cluster.urls[int(DEAD.rpartition("-")[2]) - 1]
        there = [one for one in self._crowd.members if one.url == url]
        self._others = [one for one in self._crowd.members if one.url != url]
        self._away = self._dice.sample(there, self._size.away)
        for one in self._away:
            one.gone = True
        self._returning = [one for one in there if not one.gone]
        self._attempts = Counter({one.client: one.attempts for one in self._crowd.members})
        await asyncio.to_thread(self._cluster.hold, DEAD)
        self._history.write("fault", service=DEAD, fault="SIGKILL")
        self._crowd.surprises.clear()
        self._cpu, self._watch = self._cpu_now(), Watch()
        self._killed_at = time.monotonic()
        os.kill(self._cluster.child(DEAD), signal.SIGKILL)

    async def _come_back(self) -> None:
        """Until all who return have everything."""
        left = list(self._returning)

        def all_back() -> bool:
            left[:] = [one for one in left if not one.recovered]
            return not left

        await self._until(all_back, BACK_S, "all are synced again")
        before, after = self._cpu, self._cpu_now()
        self._cpu = {kind: after[kind] - before.get(kind, 0.0) for kind in after}
        took_s = time.monotonic() - self._killed_at
        self._usual = {kind: share * took_s for kind, share in self._usual.items()}
        self._others_cpu = self._watch.others(sum(self._cpu.values()))
        back = [one for one in self._returning if one.recovered]
        self._connected_s = [one.connected_at - self._killed_at for one in back]
        self._synced_s = [max(one.synced.values()) - self._killed_at for one in back]

    def _cpu_now(self) -> dict[str, float]:
        """By kind of process; the edge that dies is left out."""
        found: Counter[str] = Counter()
        for name in self._cluster.members:
            if name != DEAD:
                found[kind_of(name)] += cpu_s([self._cluster.child(name)])
        if self._postgres is not None:
            for server in (self._postgres.primary, self._postgres.standby):
                found["postgres"] += cpu_s([server.pid, *descendants(server.pid)])
        found["the clients"] = cpu_s([os.getpid()])
        return dict(found)

    async def _rest(self) -> None:
        """Until all is read and decided; then what became of it."""
        gone = {one.client for one in self._away}
        stay = [one for one in self._crowd.members if one.client not in gone]
        sample = self._dice.sample(stay, min(TOLD_OF, len(stay)))
        places = [(one.user, subject) for one in [*self._away, *sample] for subject in one.subjects]
        teller, self._teller.places = self._teller, places
        await self._until(lambda: all(one.done for one in self._publishers), REST_S,
                          "publishes answered")  # fmt: skip
        heads = await teller.heads(self._subjects)
        await self._until(
            lambda: all(one.online and one.positions.get(s) == heads[s] for one in stay
                        for s in one.subjects),
            REST_S, "who stays has everything",
        )  # fmt: skip
        for one in stay:
            for subject in one.subjects:
                self._history.write("settled", user=one.user, client=one.client, subject=subject,
                                    seq=one.positions.get(subject, 0))  # fmt: skip
        await self._until(
            lambda: len(self._post.mails) >= len(self._away),
            self._size.grace_s + MAILED_S, "who stays away is mailed", 0.2,
        )  # fmt: skip
        if not await teller.everything(self._subjects):
            self._history.write("stuck", what="nothing is pending")
        self._look_for_wrongs(heads)

    def _look_for_wrongs(self, heads: dict[str, int]) -> None:
        mails = Counter(str(mail["X-Rcpt-To"]) for mail in self._post.mails)
        for one in self._away:
            number = mails.pop(one.address, 0)
            if number != 1:
                self._wrong.append(f"{one.user} stayed away and has {number} mails")
        if mails:
            self._wrong.append(f"{len(mails)} who did not stay away have {mails.total()} mails")
        if lost := [one for one in self._returning if not one.recovered]:
            self._wrong.append(f"{len(lost)} did not resume")
        dead = self._cluster.urls[int(DEAD.rpartition("-")[2]) - 1]
        if there := [one for one in self._returning if one.url == dead]:
            self._wrong.append(f"{len(there)} say that they resumed at the edge that is dead")
        if not all(heads.values()):
            self._wrong.append("nothing was published on some subjects")

    async def _until(
        self, condition: Callable[[], bool], deadline_s: float, what: str, pause_s: float = 0.02
    ) -> None:
        """Wait for a condition; a missed deadline is written down."""
        end = time.monotonic() + deadline_s
        while not condition():
            if time.monotonic() > end:
                self._history.write("stuck", what=what)
                return
            await asyncio.sleep(pause_s)

    def outcome(self, verdict: Verdict) -> Outcome:
        """What it came to, once it is judged."""
        attempts = [one.attempts - self._attempts[one.client] for one in self._returning]
        moved = [one for one in self._others if one.attempts != self._attempts[one.client]]
        return Outcome(
            self._size, verdict, self._wrong, self._came_s,
            len(self._returning) + len(self._away), self._connected_s, self._synced_s,
            attempts, len(moved), self._crowd.surprises, self._cpu, self._usual, self._others_cpu,
        )  # fmt: skip


def main() -> None:
    """From the command line."""
    # What was started is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    usual = Size()
    options = argparse.ArgumentParser(prog="python -m tests.faults.edge_death")
    for name, value in asdict(usual).items():
        options.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value,
                             help=f"as a rule {value}")  # fmt: skip
    options.add_argument("--folder", type=Path, help="for the data and the history")
    options.add_argument("--results", type=Path, help="a file for what it came to, as JSON")
    given = vars(options.parse_args())
    folder = given.pop("folder") or Path(tempfile.mkdtemp(prefix="onward-edge-death-"))
    results = given.pop("results")
    outcome = play(Size(**given), folder)
    print(outcome)
    if results:
        results.write_text(json.dumps(outcome.record(), indent=1))
    raise SystemExit(0 if outcome.good else 1)


if __name__ == "__main__":
    main()
