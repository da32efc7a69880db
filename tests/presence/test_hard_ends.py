"""A presence service that is ended hard at random moments, while users come and go and a plugin
fails now and then.

Whatever happened: every message that a user followed was acknowledged by one of the user's
clients, or stands in exactly one notification. The seed is the test's parameter.
"""

import asyncio
import random
from collections import Counter

import pytest
from onward.notifier.v1.notifier_pb2 import Result as R
from onward.presence.v1 import presence_pb2

from tests.presence.stage import Client, FakePlugin, Stage, staged
from tests.waiting import until

SUBJECTS = ("/a", "/b")


class Person:
    """A user with two clients and one address; knows what the clients really acknowledged."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage, self.name = stage, name
        self.uri = f"mailto:{name}@example.org"
        self.clients = [Client(stage.log, name, f"{name}-{n}") for n in (1, 2)]
        self.acked = {(c.client_id, s): 0 for c in self.clients for s in SUBJECTS}
        self.online: set[str] = set()

    def turn(self, dice: random.Random) -> None:
        """One of the clients comes, or goes having acknowledged some of what there was."""
        client = dice.choice(self.clients)
        if client.client_id in self.online:
            self.leave(client, dice)
        else:
            # An edge recovers from the position that the client holds.
            self._connect(client)

    def leave(self, client: Client, dice: random.Random) -> None:
        self.online.discard(client.client_id)
        told = {}
        for subject in SUBJECTS:
            key = (client.client_id, subject)
            head = len(self.stage.log.subjects[subject])
            self.acked[key] = told[subject[1:]] = dice.randint(self.acked[key], head)
        client.disconnect(clean=dice.random() < 0.5, **told)

    def _connect(self, client: Client) -> None:
        self.online.add(client.client_id)
        client.connect_at(
            {s: self.acked[client.client_id, s] for s in SUBJECTS}, endpoints=[self.uri]
        )

    def missed(self, subject: str) -> set[int]:
        """The messages that none of the clients acknowledged."""
        acked = max(self.acked[c.client_id, subject] for c in self.clients)
        return set(range(acked + 1, len(self.stage.log.subjects[subject]) + 1))


def told_counts(plugin: FakePlugin, person: Person, subject: str) -> dict[str, int]:
    """How many messages the plugin was told, at the last try, that each notification stands for.

    Earlier tries may have told of more: what was acknowledged since, and had not been sent, is
    taken out.
    """
    counts: dict[str, int] = {}
    for delivery in plugin.deliveries:
        if (delivery.user, delivery.subject) == (person.name, subject):
            counts[delivery.notification_id] = delivery.count
    return counts


async def come_to_rest(stage: Stage) -> None:
    """Waits until nothing is left to do; fails with what is."""
    left: list[object] = []

    def look(tx) -> bool:
        left[:] = [
            *tx.db.rows("SELECT * FROM registers WHERE standing <> 'offline'"),
            *tx.db.rows("SELECT * FROM deliveries WHERE due_at IS NOT NULL"),
            *tx.db.rows("SELECT * FROM deliveries WHERE state = 'sending'"),
            *tx.open_handovers(1),
            *tx.open_fanouts(1),
        ]
        return not left

    try:
        await until(lambda: stage.store.read(look), 15)
    except AssertionError as error:
        raise AssertionError(f"not at rest at {stage.clock()}: {left}") from error


async def story(stage: Stage, people: list[Person], dice: random.Random) -> None:
    """Thirty turns of publishing, coming, going, reporting, and hard ends."""
    for _ in range(30):
        for _ in range(dice.randint(0, 2)):
            stage.log.publish(dice.choice(SUBJECTS), "x")
        dice.choice(people).turn(dice)
        if dice.random() < 0.7:
            await stage.report()
        await asyncio.sleep(dice.random() * 0.06)
        if dice.random() < 0.15:
            await stage.restart()
    for person in people:
        for client in person.clients:
            if client.client_id in person.online:
                person.leave(client, dice)
    await stage.report()


@pytest.mark.parametrize(
    ("store_settings", "seed"),
    [("sqlite", 1), ("sqlite", 32), ("sqlite", 47), ("postgres", 1)],
    indirect=["store_settings"],
)
def test_every_message_is_acknowledged_or_notified_once(run, tmp_path, store_settings, seed):
    async def claim():
        dice = random.Random(seed)
        plugin = FakePlugin()
        plugin.script = dice.choices([R.ACCEPTED, R.RETRY, R.UNKNOWN, R.MISCONFIGURED], k=40)
        short = {
            "grace_s": 0.04,
            "grace_clean_s": 0.02,
            "collapse_s": 0.0,
            "hold_max_s": 0.3,
            "retry_tries_max": 100,
            **store_settings,
        }
        async with staged(tmp_path, plugin, fanout_users_max=2, **short) as stage:
            people = [Person(stage, name) for name in ("ann", "cid", "dan")]
            for person in people:
                for client in person.clients:
                    person._connect(client)
            await story(stage, people, dice)
            await come_to_rest(stage)
            for person in people:
                for subject in SUBJECTS:
                    await check(stage, plugin, person, subject)

    run(claim())


async def check(stage: Stage, plugin: FakePlugin, person: Person, subject: str) -> None:
    outcomes = (await stage.explain(person.name, subject)).outcomes
    notified = [o for o in outcomes if o.state == presence_pb2.Outcome.NOTIFIED]
    lost = person.missed(subject) - {outcome.from_seq for outcome in notified}
    assert not lost, f"{person.name} {subject}: neither acknowledged nor notified: {lost}"
    recorded = Counter(outcome.notification_id for outcome in notified)
    # A plugin may have been told of fewer: what was acknowledged before the try that it got.
    told = told_counts(plugin, person, subject)
    for own_id, count in recorded.items():
        assert 1 <= told.get(own_id, 0) <= count, f"{own_id}: {told.get(own_id)} of {count}"
