"""A random story: people come and go, processes are killed, and everything is written down.

The seed decides what happens when; how it falls together in time is up to the machine.
"""

import asyncio
import random
import signal
from dataclasses import dataclass

from tests.faults.client import Client
from tests.faults.history import History
from tests.faults.post import Post
from tests.faults.publisher import Publisher
from tests.faults.stage import Stage
from tests.path.stack import Suite

SUBJECTS = ["/story/a", "/story/b", "/story/c"]
USERS = 6
SERVICES = ["edge", "coordinator", "presence", "notifier"]
PUBLISHERS = ["pub-0", "pub-1", "user-0"]  # the last is told nothing of its own messages
PER_SECOND = 10.0  # of each publisher
ASKED = len(PUBLISHERS) * PER_SECOND
LENGTH_S = 15.0
LAST_S = 2.0  # before the end of the publishing half of the users leave
WITHIN_GRACE_S, AFTER_GRACE_S = (0.1, 1.0), (2.5, 4.5)
KINDS = {
    "close": 4, "drop": 5, "die": 5, "return_mute": 4, "freeze": 4, "unsubscribe": 2,
    "kill": 4, "stop": 2, "busy_mail": 2, "cut_publisher": 2,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Act:
    """Something that happens, drawn beforehand; who cannot take it just then is spared."""

    at: float
    kind: str
    client: int
    subject: str
    services: list[str]
    pause_s: float
    end: str  # of a frozen client


def acts(dice: random.Random, clients: int, length_s: float) -> list[Act]:
    """What will happen, in order of time."""
    drawn, at = [], 1.0
    while at < length_s:
        kind = dice.choices(list(KINDS), weights=list(KINDS.values()))[0]
        drawn.append(
            Act(
                at,
                kind,
                dice.randrange(clients),
                dice.choice(SUBJECTS),
                dice.sample(SERVICES, dice.choice([1, 1, 2])),
                dice.uniform(*dice.choice([WITHIN_GRACE_S, AFTER_GRACE_S])),
                dice.choice(["thaw", "die"]),
            )
        )
        at += dice.uniform(0.05, 0.45)
    return drawn


class RandomStory:
    """The plot of a seed. `await play(suite)`."""

    def __init__(self, seed: int, history: History, post: Post) -> None:
        self._history, self._post = history, post
        self._dice = random.Random(seed)
        self._stage: Stage

    async def play(self, suite: Suite) -> None:
        """The whole run."""
        dice, url = self._dice, f"ws://127.0.0.1:{suite.port}"
        clients: list[Client] = []
        for number in range(USERS):
            user = f"user-{number}"
            shares = dice.random() < 0.5  # one address for both clients
            for n in range(dice.choice([1, 2])):
                address = f"{user}{'' if shares else f'-{n}'}@example.org"
                follows = dice.sample(SUBJECTS, dice.choice([2, 3]))
                mind = random.Random(dice.random())
                clients.append(
                    Client(url, self._history, user, f"{user}-{n}", address, follows, mind)
                )
        publishers = [
            Publisher(url, self._history, name, SUBJECTS, random.Random(dice.random()))
            for name in PUBLISHERS
        ]
        self._clients, self._publishers = clients, publishers
        self._stage = Stage(suite, self._post, self._history, clients, publishers)
        await self._stage.run(self._plot)

    async def _plot(self) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        planned = acts(self._dice, len(self._clients), LENGTH_S - LAST_S)
        for client in self._clients:
            client.come()
        over = asyncio.Event()
        loop.call_later(LENGTH_S, over.set)
        doings = [
            asyncio.create_task(one.publish_until(over, PER_SECOND)) for one in self._publishers
        ]
        for act in planned:
            await asyncio.sleep(max(0.0, start + act.at - loop.time()))
            doings.append(asyncio.create_task(self._do(act)))
        await asyncio.sleep(max(0.0, start + LENGTH_S - LAST_S - loop.time()))
        await self._leave()
        await asyncio.gather(*doings)

    async def _do(self, act: Act) -> None:
        if act.kind == "kill":
            await self._burst(act)
            for service in act.services:
                self._stage.signal(service, signal.SIGKILL)
        elif act.kind == "stop":
            await self._stage.freeze(act.services[0], act.pause_s)
        elif act.kind == "busy_mail":
            self._post.refusals.append("451 4.3.0 try again later")
        elif act.kind == "cut_publisher":
            await self._burst(act)
            self._publishers[act.client % len(PUBLISHERS)].cut()
        else:
            client = self._clients[act.client]
            if client.busy:
                return
            client.busy = True
            self._history.write("done_to", client=client.client, act=act.kind, pause_s=act.pause_s)
            await self._do_to(client, act)
            client.busy = False

    async def _burst(self, act: Act) -> None:
        """Messages that are under way when something breaks, a few milliseconds from now."""
        for publisher in self._publishers:
            await publisher.burst(5)
        await asyncio.sleep(act.pause_s / 500)

    async def _do_to(self, client: Client, act: Act) -> None:
        match act.kind:
            case "close":
                await client.close()
            case "drop":
                client.drop()
            case "die":
                client.die()
            case "return_mute":
                client.drop()
                client.mute = True
                await asyncio.sleep(act.pause_s)
                client.come()
                await asyncio.sleep(0.5)
                client.die()
                client.mute = False
            case "freeze":
                client.freeze()
                await asyncio.sleep(act.pause_s)
                if act.end == "die":
                    client.die()
                client.thaw()
            case "unsubscribe":
                await client.unsubscribe(act.subject)
                await asyncio.sleep(act.pause_s)
                await client.subscribe(act.subject)
        await asyncio.sleep(act.pause_s)
        client.come()

    async def _leave(self) -> None:
        """Half of the users leave for good while others still publish: each in its way, or with
        the edge that holds them, some messages unacknowledged."""
        leaving = [one for one in self._clients if _leaves(one)]
        with_edge = self._dice.random() < 0.5
        for client in leaving:
            client.thaw()
            client.gone = True
            client.mute = with_edge
        if with_edge:
            await asyncio.sleep(LAST_S / 2)
            for client in leaving:
                client.abandon()
            self._stage.signal("edge", signal.SIGKILL)
            return
        for client in leaving:
            if self._dice.random() < 0.5:
                await client.close()
            else:
                client.die()


def _leaves(client: Client) -> bool:
    return int(client.user.rpartition("-")[2]) % 2 == 0
