"""What happens in a story: people, publishers, operators and mishaps, one thing after the other.

Each story has its own mixture: some know no mishaps of processes, some no leaps of time. `Script`
draws what is next and when, until its time is over; then `end` has everything heal.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from services.chassis.subjects import partition_of
from services.presence.events import revoke
from services.presence.store import Transaction
from tests.notifications import wishes
from tests.notifications.log import PARTITIONS
from tests.notifications.people import Client
from tests.notifications.plugins import MOODS
from tests.notifications.replica import REPLICAS

USERS = ("ann", "bea", "cem", "dov")
_CROWD = 14
_KILL_FUSE = 400  # steps after which a process dies at the latest


class Script:
    """The story's events."""

    def __init__(self, scene: Any, random: Random, story_s: float) -> None:
        self._scene = scene
        self._random = random
        self._story_s = story_s
        self.clients: list[Client] = []
        self._saying: dict[str, dict[str, Any]] = {}
        for user in USERS[: random.randint(2, 4)]:
            for number in range(random.choice((1, 1, 2, 3))):
                self.clients.append(Client(scene, user, f"{user}-{number}"))
        mishaps = random.random() < 0.7
        # What may happen, and how often.
        self._weights: dict[Callable[[], Any], float] = {
            self._publish: 30,
            self._receive: 18,
            self._connect: 12,
            self._vanish: 7,
            self._close: 4,
            self._follow: 3,
            self._unfollow: 3,
            self._log_out: 1,
            self._look: 4 if random.random() < 0.5 else 0,
            self._endpoint: 5,
            self._wish: 5 if random.random() < 0.7 else 0,
            self._revoke: 1.5,
            self._mood: 4 if random.random() < 0.7 else 0,
            self._leap: 5 if random.random() < 0.6 else 0,
            self._route: 1 if random.random() < 0.25 else 0,
            self._trim: 0.7 if random.random() < 0.2 else 0,
            self._edge_dies: 2 if random.random() < 0.4 else 0,
            self._crowd: 1 if random.random() < 0.15 else 0,
            self._kill: 3 if mishaps else 0,
            self._kill_at_commit: 4 if mishaps else 0,
            self._stop: 2 if mishaps else 0,
            self._blackout: 0.7 if mishaps else 0,
            self._unreadable: 1 if mishaps else 0,
        }

    async def play(self) -> None:
        """Until the time is over."""
        scene, random = self._scene, self._random
        end = scene.loop.now + self._story_s
        pace_s = random.choice((0.1, 0.25, 0.6))
        for client in self.clients:
            if random.random() < 0.8:
                self._connect(client)
        while scene.loop.now < end:
            await asyncio.sleep(random.expovariate(1 / pace_s))
            (act,) = random.choices(list(self._weights), list(self._weights.values()))
            act()

    # People.

    def _some(self) -> Client:
        return self._random.choice(self.clients)

    def _connect(self, client: Client | None = None) -> None:
        client, random, edges = client or self._some(), self._random, self._scene.edges
        count = random.randint(1, 3)
        subjects = random.sample(wishes.SUBJECTS, count)
        uris = [self._uri(client) for _ in range(random.choice((0, 1, 1, 2)))]
        uris = [*dict.fromkeys(uris)]
        client.connect(random.choice(sorted(edges.live)), subjects, uris)

    def _uri(self, client: Client) -> str:
        random = self._random
        channel = random.choice(wishes.CHANNELS)
        if channel in ("fcm", "webpush"):
            # Of one device, which others may use after them.
            owner = client.name if random.random() < 0.9 else self._some().name
            return f"{channel}:{owner}"
        return f"{channel}:{client.user}"

    def _vanish(self) -> None:
        self._some().vanish(noticed_in_s=self._random.choice((0.0, 0.2, 2.0)))

    def _close(self) -> None:
        self._some().vanish(clean=True)

    def _receive(self) -> None:
        for client in self.clients:
            client.receive(self._random)

    def _follow(self) -> None:
        self._some().follow(self._random.choice(wishes.SUBJECTS))

    def _unfollow(self) -> None:
        self._some().unfollow(self._random.choice(wishes.SUBJECTS))

    def _log_out(self) -> None:
        self._some().log_out()

    def _look(self) -> None:
        self._some().look(self._random.random() < 0.35)

    def _endpoint(self) -> None:
        client, random = self._some(), self._random
        uris = sorted(client.uris)
        if uris and random.random() < 0.3:
            client.remove_endpoint(random.choice(uris))
        else:
            replaces = random.choice(uris) if uris and random.random() < 0.2 else ""
            client.add_endpoint(self._uri(client), replaces)

    # Publishers and operators.

    def _publish(self) -> None:
        scene, random = self._scene, self._random
        subject = random.choice(wishes.SUBJECTS)
        for _ in range(random.choice((1, 1, 1, 2, 3, 9))):
            publisher = random.choice(("bot", "bot", *(client.user for client in self.clients)))
            scene.log.publish(subject, publisher, wishes.headers_of(random, scene.clock()))

    def _wish(self) -> None:
        user, random = self._some().user, self._random
        scene, wish = self._scene, {}
        if random.random() < 0.8:
            wish = wishes.wish_of(random, scene.clock(), scene.home)
        self._have(user, self._change_wish(user, wish))

    def _change_wish(self, user: str, wish: dict[str, Any]) -> Callable[[Transaction], None]:
        profile = wishes.profile_of(wish)

        def change(tx: Transaction) -> None:
            tx.lock([user])
            self._saying[user] = wish
            tx.put_profile(user, profile)

        return change

    def wish_said(self, user: str) -> dict[str, Any]:
        """What the user's profile was just changed to."""
        return self._saying[user]

    def _revoke(self) -> None:
        user, random = self._some().user, self._random
        subjects = None if random.random() < 0.2 else [random.choice(wishes.SUBJECTS)]
        scene = self._scene

        def change(tx: Transaction) -> None:
            tx.lock([user])
            for effect in revoke(tx.load_user(user), subjects):
                tx.write_user(user, effect)
            # In the transaction, so that the judge hears of it with its commit.
            scene.database.note("revoked", user, subjects)
            for client in self.clients:
                if client.user == user:
                    client.lose_follows(subjects)

        self._have(user, change)

    def _have(self, user: str, change: Callable[[Transaction], None]) -> None:
        """Have the replica that holds the user make a change, as its services do for others."""
        replica = self._scene.cast.holder(partition_of(user, PARTITIONS))
        if replica is not None:

            async def write() -> None:
                await replica.store.write(change)
                replica.workers._handovers.wake()
                replica.workers._dispatcher.wake()

            task = replica.process.spawn(write())
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _route(self) -> None:
        self._scene.write_routing(wishes.routing_of(self._random, self._scene.rates))

    def _trim(self) -> None:
        subject = self._random.choice(wishes.SUBJECTS)
        head = self._scene.log.head(subject)
        if head > 2:
            self._scene.log.trim(subject, self._random.randint(1, head - 1))

    # Mishaps.

    def _mood(self) -> None:
        plugin = self._random.choice(self._scene.plugins)
        plugin.mood = self._random.choice((*MOODS, "moody", "well"))
        self._scene.record("mood", plugin=plugin.name, mood=plugin.mood)
        after_s = self._random.uniform(0.5, 4.0)
        self._scene.network.later(after_s, self._cheer_up, plugin)

    def _cheer_up(self, plugin: Any) -> None:
        plugin.mood = "well"
        self._scene.record("mood", plugin=plugin.name, mood="well")

    def _leap(self) -> None:
        """The time of day is suddenly later, as after a sleep; mostly to where something is due."""
        random, scene = self._random, self._scene
        dues = [at - scene.clock() for _, at in scene.database.left() if at is not None]
        later = [one for one in dues if 3.0 < one < 50_000.0]
        if later and random.random() < 0.6:
            scene.leap(random.choice(later) - random.uniform(0.0, 2.0))
        else:
            scene.leap(random.choice((2.0, 30.0, 900.0, 3_600.0, 20_000.0)) * random.random())

    def _edge_dies(self) -> None:
        scene, random = self._scene, self._random
        edge = random.choice(sorted(scene.edges.live))
        lost = [one for one in self.clients if one.session and one.session.edge == edge]
        scene.lose_edge(edge)
        for client in lost:
            client.lose()
            if random.random() < 0.6:
                scene.network.later(random.uniform(0.05, 2.0), self._connect, client)

    def _crowd(self) -> None:
        """Many come to an edge, which dies; most of them come back."""
        scene, random = self._scene, self._random
        edge = scene.edges.start()
        crowd = [Client(scene, f"many{n}", f"many{n}-0") for n in range(_CROWD)]
        self.clients += [one for one in crowd if one.name not in {c.name for c in self.clients}]
        for client in self.clients:
            if client.user.startswith("many"):
                client.connect(edge, [wishes.SUBJECTS[0]], [f"fcm:{client.name}"])

        def die() -> None:
            if edge in scene.edges.live:
                lost = [one for one in self.clients if one.session and one.session.edge == edge]
                scene.lose_edge(edge)
                for client in lost:
                    client.lose()
                    if random.random() < 0.8:
                        scene.network.later(random.uniform(0.05, 1.5), self._connect, client)

        scene.network.later(random.uniform(0.4, 2.0), die)

    def _kill(self) -> None:
        self._scene.cast.kill(self._random.choice(REPLICAS))

    def _kill_at_commit(self) -> None:
        """Somewhere in its work, mostly right before or after one of its next transactions."""
        random, scene = self._random, self._scene
        name = random.choice(REPLICAS)
        if random.random() < 0.3:
            replica = scene.cast.replicas[name]
            if replica is not None:
                replica.process.on_fuse = lambda: scene.cast.kill(name)
                replica.process.fuse = random.randint(1, _KILL_FUSE)
        else:
            moment = random.choice(("before", "after"))
            scene.trap(name, moment, random.randint(1, 12), lambda: scene.cast.kill(name))

    def _stop(self) -> None:
        random, scene = self._random, self._scene
        name, seconds = random.choice(REPLICAS), random.choice((0.3, 1.5, 3.0))
        if random.random() < 0.5:
            scene.cast.stop(name, seconds)
        else:
            moment = random.choice(("before", "after"))
            count = random.randint(1, 8)
            scene.trap(name, moment, count, lambda: scene.cast.stop(name, seconds))

    def _blackout(self) -> None:
        """Every presence service dies at once, and the file is opened anew."""
        for name in REPLICAS:
            self._scene.cast.kill(name)
        self._scene.database.close()
        self._scene.database.open()

    def _unreadable(self) -> None:
        log = self._scene.log
        log.unreadable = True
        self._scene.network.later(self._random.uniform(0.2, 2.0), _heal, log)


def _heal(log: Any) -> None:
    log.unreadable = False
