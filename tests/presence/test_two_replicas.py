"""Two presence services on one PostgreSQL, between which partitions move, or are taken by force.

People come and go meanwhile, messages have several recipients in partitions of both, and a plugin
fails now and then. Whatever happened: every message that a user followed was acknowledged by one of
the user's clients, or stands in exactly one notification; and where partitions only moved, nothing
that the plugin has accepted was handed to it again. The seed is the test's parameter.
"""

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager

import grpc.aio
import pytest
from onward.notifier.v1 import notifier_pb2

from tests.presence.stage import PARTITIONS, FakeLog, FakePlugin, Stage, quick
from tests.presence.test_hard_ends import SUBJECTS, Person, check, come_to_rest
from tests.waiting import until

R = notifier_pb2.Result
SHORT = {
    "grace_s": 0.04,
    "grace_clean_s": 0.02,
    "collapse_s": 0.0,
    "hold_max_s": 0.3,
    "retry_tries_max": 100,
    "fanout_users_max": 2,
}


class Pair:
    """Two replicas, and which partitions each has."""

    def __init__(self, first: Stage, second: Stage) -> None:
        self.stages = (first, second)
        self.owner = dict.fromkeys(range(PARTITIONS), 0)

    async def move(self, partition: int) -> None:
        """As a rebalancing does: let go, then taken."""
        giver = self.owner[partition]
        await self.stages[giver].store.release([partition])
        self.owner[partition] = 1 - giver
        await self.stages[1 - giver].take([partition])

    async def take_all_by_force(self, taker: int) -> None:
        """As after a lease has run out: whose partitions are taken knows nothing of it."""
        await self.stages[taker].take(range(PARTITIONS))
        self.owner = dict.fromkeys(range(PARTITIONS), taker)
        robbed = self.stages[1 - taker]
        if robbed.store.mine.term:
            await asyncio.sleep(random.random() * 0.02)
        await robbed.new_term([])

    async def report(self) -> None:
        """To both, at once, until each partition has been taken by one of them."""
        log = self.stages[0].log

        def reported() -> bool:
            return all(log.cursors[p] >= len(entries) for p, entries in log.entries.items())

        async def to_both() -> bool:
            outcomes = await asyncio.gather(
                *(stage.report() for stage in self.stages), return_exceptions=True
            )
            for outcome in outcomes:
                # One may be busy with another's users, or deposed: a coordinator tries again.
                assert outcome is None or isinstance(outcome, grpc.aio.AioRpcError), outcome
            return reported()

        await until(to_both, 10)


class Everybody(set[int]):
    """Whoever is asked for is there."""

    def __contains__(self, _: object) -> bool:
        return True


@asynccontextmanager
async def paired(tmp_path, url: str, plugin: FakePlugin):
    log = FakeLog()
    log_address = await log.start()
    plugins = [await plugin.start()]
    stages = [
        Stage(quick(tmp_path, plugins, name=name, store=url, **SHORT), log, log_address)
        for name in ("presence-1", "presence-2")
    ]
    for stage in stages:
        # However slow the machine is: neither takes the other, whose lease there is none of here,
        # for gone.
        stage.members = Everybody()
    await stages[0].start()
    await stages[1].start([])
    try:
        yield Pair(*stages)
    finally:
        for stage in stages:
            await stage.stop()
        await plugin.stop()
        await log.stop()


async def story(pair: Pair, people: list[Person], dice: random.Random, by_force: bool) -> None:
    """Thirty turns of publishing, coming, going, reporting, and moving partitions."""
    log = pair.stages[0].log
    for _ in range(30):
        for _ in range(dice.randint(0, 3)):
            log.publish(dice.choice(SUBJECTS), "x")
        dice.choice(people).turn(dice)
        reporting = asyncio.create_task(pair.report())
        if dice.random() < 0.5:
            await pair.move(dice.randrange(PARTITIONS))
        if by_force and dice.random() < 0.15:
            await pair.take_all_by_force(dice.randrange(2))
        await reporting
        await asyncio.sleep(dice.random() * 0.04)
    for person in people:
        for client in person.clients:
            if client.client_id in person.online:
                person.leave(client, dice)
    await pair.report()


@pytest.mark.parametrize("by_force", [False, True], ids=["moved", "by-force"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_message_is_acknowledged_or_notified_once(
    run, tmp_path, presence_url, seed, by_force
):
    async def claim():
        dice = random.Random(seed)
        plugin = FakePlugin()
        plugin.script = dice.choices([R.ACCEPTED, R.RETRY, R.MISCONFIGURED], k=40)
        accepted: Counter[str] = Counter()
        answer = plugin.Notify

        async def counted(request, context):
            response = await answer(request, context)
            accepted.update(
                one.delivery_id for one in response.results if one.outcome == R.ACCEPTED
            )
            return response

        plugin.Notify = counted  # type: ignore[method-assign]
        async with paired(tmp_path, presence_url, plugin) as pair:
            names = ("ann", "cid", "dan", "eve", "fay", "gus")
            people = [Person(pair.stages[0], name) for name in names]
            for person in people:
                for client in person.clients:
                    person._connect(client)
            await story(pair, people, dice, by_force)
            for stage in pair.stages:
                await come_to_rest(stage)
            for person in people:
                for subject in SUBJECTS:
                    await check(pair.stages[0], plugin, person, subject)
            if not by_force:
                assert set(accepted.values()) <= {1}, "handed over again"

    run(claim())
