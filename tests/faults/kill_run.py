"""Every process is killed in turn, twice, under load; then some are frozen for a while.

Twenty publishers at fifty messages a second each (fewer where the machine is busy, and the run
says so); twenty subscribers who stay, ten who leave and
return, and ten who leave for good and have themselves mailed what they miss. The seed decides the
order of the faults, who follows what, and how people leave.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.faults.client import Client
from tests.faults.history import History
from tests.faults.post import Post
from tests.faults.publisher import Publisher
from tests.faults.stage import SERVICES, Stage
from tests.path.stack import Suite
from tests.processes import slowness

PER_SECOND = 50.0  # of each publisher
SUBJECTS_EACH = 2
# Explain tells of the newest thousand messages of a subject: there are enough subjects for all.
MESSAGES_OF_A_SUBJECT = 700
FREEZE_S = (1.0, 2.0)
FREEZE_BEYOND_LEASE_S = 6.0
BETWEEN_S = (0.4, 0.9)
# Publishers send a backlog again at once; the default would refuse what exceeds 200.
SETTINGS = {
    "ONWARD_EDGE_PUBLISH_BURST": "2000",
    "ONWARD_EDGE_PUBLISH_RATE": "1000",
    # The default. With a shorter one, a busy machine adds faults of its own.
    "ONWARD_LEASE_TTL_S": "5",
    "ONWARD_PRESENCE_GRACE_DEAD_EDGE_S": "4",
}


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is."""

    publishers: int = 20
    staying: int = 20
    returning: int = 10
    away: int = 10
    rounds: int = 2  # of kills of every process
    freezes: int = 3
    everything: bool = False  # at last, all processes at once
    seconds: float = 45.0  # about, from which the number of subjects is drawn


class KillRun:
    """The plot of a seed. `again()` kills and starts the whole suite."""

    def __init__(
        self,
        seed: int,
        history: History,
        post: Post,
        size: Size,
        again: Callable[[], Suite],
        per_second: float,
    ) -> None:
        self._history, self._post, self._size, self._again = history, post, size, again
        self._per_second = per_second
        self._dice = random.Random(seed)
        self._over = asyncio.Event()
        self._stage: Stage

    async def play(self, suite: Suite) -> None:
        """The whole run."""
        size, dice = self._size, self._dice
        url = f"ws://127.0.0.1:{suite.port}"
        expected = size.publishers * PER_SECOND * size.seconds
        count = max(2 * SUBJECTS_EACH, math.ceil(expected / MESSAGES_OF_A_SUBJECT))
        subjects = [f"/load/{n}" for n in range(count)]
        publishers = [
            Publisher(url, self._history, f"pub-{n}", _share(dice, subjects, n, size.publishers),
                      random.Random(dice.random()))
            for n in range(size.publishers)
        ]  # fmt: skip

        def people(kind: str, number: int) -> list[Client]:
            return [
                Client(url, self._history, f"{kind}-{n}", f"{kind}-{n}-1",
                       f"{kind}-{n}@example.org", dice.sample(subjects, SUBJECTS_EACH),
                       random.Random(dice.random()))
                for n in range(number)
            ]  # fmt: skip

        self._staying = people("stay", size.staying)
        self._returning = people("back", size.returning)
        self._away = people("away", size.away)
        clients = [*self._staying, *self._returning, *self._away]
        self._stage = Stage(suite, self._post, self._history, clients, publishers, told_limit=100)
        await self._stage.run(self._plot)

    async def _plot(self) -> None:
        stage, loop = self._stage, asyncio.get_running_loop()
        for client in stage.clients:
            client.come()
        await stage.wait(lambda: all(one.connected for one in stage.clients), "all are connected")
        await stage.wait(lambda: all(one.connected for one in stage.publishers), "all can publish")
        doings = [loop.create_task(one.publish_until(self._over, self._per_second))
                  for one in stage.publishers]  # fmt: skip
        doings += [loop.create_task(self._leave_and_return(one)) for one in self._returning]
        doings += [loop.create_task(self._leave(one)) for one in self._away]
        await asyncio.sleep(3.0)  # so that those who stay away have left
        await self._break_things()
        self._over.set()
        await asyncio.gather(*doings)

    async def _break_things(self) -> None:
        dice, stage = self._dice, self._stage
        for _ in range(self._size.rounds):
            for service in dice.sample(SERVICES, len(SERVICES)):
                await self._and_then(stage.kill(service))
        beyond_lease = dice.choice(["coordinator", "edge"])
        others = dice.sample([s for s in SERVICES if s != beyond_lease], len(SERVICES) - 1)
        for service in [beyond_lease, *others][: self._size.freezes]:
            seconds = FREEZE_BEYOND_LEASE_S if service == beyond_lease else dice.uniform(*FREEZE_S)
            await self._and_then(stage.freeze(service, seconds))
        if self._size.everything:
            await self._and_then(self._lose_power())

    async def _lose_power(self) -> None:
        self._history.write("fault", service="everything", fault="SIGKILL")
        suite = await asyncio.to_thread(self._again)
        began = time.monotonic()
        await asyncio.to_thread(suite.wait_ready)
        seconds = time.monotonic() - began
        self._stage.suite = suite
        # As the machine was just then: how long a start takes is a promise of a quiet one.
        slow = await asyncio.to_thread(slowness)
        self._history.write("up_again", seconds=seconds, slowness=slow)

    async def _and_then(self, fault: Awaitable[None]) -> None:
        """A fault, then a while in which everything works."""
        await fault
        await self._stage.accepting()
        await asyncio.sleep(self._dice.uniform(*BETWEEN_S))

    async def _leave(self, client: Client) -> None:
        await asyncio.sleep(self._dice.uniform(0.5, 2.5))
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


def _share(dice: random.Random, subjects: list[str], n: int, publishers: int) -> list[str]:
    """Each subject has two publishers, so that messages interleave."""
    own = [s for at, s in enumerate(subjects) if at % publishers == n % len(subjects)]
    next_ones = [s for at, s in enumerate(subjects) if (at + 1) % publishers == n % len(subjects)]
    return own + next_ones or [dice.choice(subjects)]
