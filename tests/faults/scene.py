"""A small stage for one directed scenario: a few people by name, and a word for every deed.

A scenario is a function of a `Scene`. It does things and waits for what they lead to; whether what
came of it is right, the checker decides.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.client import Client
from tests.faults.cluster import Cluster, Shape
from tests.faults.history import Event, History
from tests.faults.post import Post
from tests.faults.publisher import Publisher
from tests.faults.stage import Stage
from tests.faults.teller import Teller
from tests.path.stack import Suite
from tests.real_postgres import missing

PATIENCE_S = 15.0  # of everything that a scenario waits for


class Missed(Exception):
    """What the scenario waits for did not come to be: it has shown nothing."""


class Scene:
    """People by client id, and a publisher at each edge. Every wait raises Missed after
    `PATIENCE_S`."""

    def __init__(
        self, suite: Suite, history: History, post: Post, cast: Mapping[str, Sequence[str]]
    ) -> None:
        self.post, self.history = post, history
        self._suite = suite
        urls = [url.replace("http", "ws") for url in suite.urls]
        subjects = list(dict.fromkeys(s for follows in cast.values() for s in follows))
        self.clients = {
            name: Client(
                urls, history, name.rpartition("-")[0], name, f"{name}@example.org", list(follows),
                random.Random(1),
            )
            for name, follows in cast.items()
        }  # fmt: skip
        self.publishers = [
            Publisher(url, history, f"pub-{n}", subjects, random.Random(1))
            for n, url in enumerate(urls)
        ]
        self.publisher = self.publishers[0]
        people = list(self.clients.values())
        self.stage = Stage(suite, post, history, people, self.publishers, patience_s=PATIENCE_S)

    @property
    def cluster(self) -> Cluster:
        """Where a scenario has a shape."""
        assert isinstance(self._suite, Cluster)
        return self._suite

    # -- waiting ------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                raise Missed(what)
            await asyncio.sleep(0.01)

    async def told(
        self, user: str, subject: str, condition: Callable[[list[Event]], bool], what: str
    ) -> None:
        """Wait until explain tells something of a user's messages."""
        end = time.monotonic() + PATIENCE_S
        while not condition(await self.stage.teller.tell(user, subject)):
            if time.monotonic() > end:
                raise Missed(f"explain tells that {what}")
            await asyncio.sleep(0.05)

    async def state(self, user: str, subject: str, *states: str) -> None:
        """Wait until explain gives every message of the subject one of the states."""
        await self.told(
            user, subject,
            lambda outcomes: bool(outcomes) and all(one["state"] in states for one in outcomes),
            f"all are {' or '.join(states)}",
        )  # fmt: skip

    async def tried(self, user: str, subject: str) -> None:
        """Wait until a notification was handed over once, and is to be tried again."""
        await self.told(
            user, subject,
            lambda outcomes: any(d["attempts"] for one in outcomes for d in one["deliveries"]),
            "something was tried",
        )  # fmt: skip

    async def standing(self, user: str, subject: str, client: str, *wanted: str) -> None:
        """Wait until presence says one of these of a client."""
        end = time.monotonic() + PATIENCE_S
        while True:
            story = await self.stage.teller.get(f"/v1/explain?user={user}&subject={subject}")
            states = [one["state"] for one in story["clients"] if one["clientId"] == client]
            if set(states) & set(wanted):
                return
            if time.monotonic() > end:
                raise Missed(f"{client} is {' or '.join(wanted)}")
            await asyncio.sleep(0.02)

    async def owns_all(self, name: str, url: str) -> None:
        """Wait until an edge sees all partitions owned by a coordinator."""
        teller = Teller(url, self.history, self.post, [])
        end = time.monotonic() + PATIENCE_S
        while True:
            partitions = (await teller.get("/v1/status"))["partitions"]
            owners = Counter(one["owner"] for one in partitions["list"])
            if owners[name] == partitions["count"]:
                return
            if time.monotonic() > end:
                raise Missed(f"{name} owns all partitions")
            await asyncio.sleep(0.1)

    # -- doing --------------------------------------------------------------------------------

    async def publish(self, subject: str, count: int = 1) -> None:
        """Messages that are accepted."""
        for _ in range(count):
            await self.publisher.publish_one(subject)
        await self.until(lambda: self.publisher.done, "everything is accepted")

    async def come(self, *names: str, mute: bool = False) -> None:
        """Clients connect and are connected."""
        for name in names:
            self.clients[name].mute = mute
            self.clients[name].come()
        await self.until(
            lambda: all(self.clients[name].connected for name in names), "all are connected"
        )

    async def read(self, name: str, subject: str, seq: int) -> None:
        """A client has got a message."""
        client = self.clients[name]
        await self.until(lambda: client.positions.get(subject, 0) >= seq, f"{name} got {seq}")

    async def acknowledged(self, name: str, subject: str, seq: int) -> None:
        """A client has acknowledged a message, and was answered."""
        client = self.clients[name]
        await self.until(lambda: client.acknowledged.get(subject, 0) >= seq, f"{name} acked {seq}")

    async def die(self, name: str, for_good: bool = False) -> None:
        """A client's program is killed."""
        client = self.clients[name]
        client.gone = for_good
        client.die()
        await self.until(lambda: not client.connected, f"{name} is gone")

    async def go_offline(self, name: str, subject: str) -> None:
        """A client dies, and its grace ends."""
        await self.die(name)
        await self.standing(self.clients[name].user, subject, name, "offline")


Plot = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """People (client id: subjects), what happens, and settings of the suite. With a `shape` the
    processes are those of a cluster, with proxies where `proxied` names links of it."""

    cast: Mapping[str, Sequence[str]]
    plot: Plot
    settings: Mapping[str, str] = field(default_factory=dict)
    shape: Shape | None = None
    proxied: Sequence[str] = ()

    def why_not(self) -> str:
        """Why it cannot be played on this machine; empty: it can."""
        return (missing() or "") if self.shape is not None and self.shape.postgres else ""

    async def play(self, suite: Suite, history: History, post: Post) -> None:
        """The whole run."""
        scene = Scene(suite, history, post, self.cast)

        async def plot() -> None:
            try:
                await self.plot(scene)
            except Missed as missed:
                history.write("stuck", what=str(missed))
            finally:
                post.busy, post.slow_s = False, 0.0

        await scene.stage.run(plot)
