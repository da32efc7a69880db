"""An extension of two presence services on one PostgreSQL, between which partitions move, or are
taken by force, while it fails now and then.

Whatever happened: what the extension has, each position once, is every subject's log in order, and
of every client the same as its register says. The seed is the test's parameter.
"""

import asyncio
import random

import grpc
import pytest

from services.presence.extensions import Registration, registered_value
from services.presence.state import Standing
from tests.presence.observer import Observer, aborting, broken
from tests.presence.stage import PARTITIONS, SECRET, Client, FakePlugin
from tests.presence.terms import locked
from tests.presence.test_two_replicas import Pair, paired
from tests.waiting import until

SUBJECTS = [f"/s/{n}" for n in range(8)]
TURNS = 30


async def story(pair: Pair, clients: list[Client], dice: random.Random, by_force: bool) -> None:
    """Turns of publishing, coming, going, reporting, and moving partitions."""
    log = pair.stages[0].log
    online: set[str] = set()
    for _ in range(TURNS):
        for _ in range(dice.randint(0, 4)):
            subject = dice.choice(SUBJECTS)
            log.publish(subject, f"{subject} {len(log.subjects[subject])}")
        client = dice.choice(clients)
        if client.client_id in online:
            client.disconnect(clean=dice.random() < 0.5)
            online.discard(client.client_id)
        else:
            endpoint = [f"fcm:{dice.randint(0, 3)}"] if dice.random() < 0.5 else []
            client.connect(*dice.sample(SUBJECTS, 2), endpoints=endpoint)
            online.add(client.client_id)
        reporting = asyncio.create_task(pair.report())
        if dice.random() < 0.5:
            await pair.move(dice.randrange(PARTITIONS))
        if by_force and dice.random() < 0.2:
            await pair.take_all_by_force(dice.randrange(2))
        await reporting
        await asyncio.sleep(dice.random() * 0.03)


async def check(pair: Pair, observer: Observer, clients: list[Client]) -> None:
    """What the extension has is what there is."""
    log = pair.stages[0].log
    for subject in SUBJECTS:
        expected = [message.content.text for _, message in log.subjects[subject]]
        assert observer.texts(subject) == expected, subject
    assert observer.gaps == []
    for client in clients:
        state = await pair.stages[0].store.write(
            locked([client.user], lambda tx, user=client.user: tx.load_user(user))
        )
        told = [one for one in observer.presences(client.user) if one.client_id == client.client_id]
        register = state.registers.get(client.client_id)
        if register is None:
            assert told == []
            continue
        last = told[-1]
        online = register.standing is Standing.ONLINE
        assert (last.generation, last.client_offline) == (register.generation, not online)
        assert last.session_id == register.session_id
        follows = {f.subject for f in state.follows.values() if not f.ended}
        assert set(last.subjects) == follows
        newest = observer.presences(client.user)[-1]
        assert list(newest.external_tokens) == sorted(state.endpoints), "a moved token is told of"


@pytest.mark.parametrize("by_force", [False, True], ids=["moved", "by-force"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_its_log_is_the_subjects_logs_in_order(run, tmp_path, presence_url, seed, by_force):
    async def claim():
        dice = random.Random(seed)
        observer = Observer(SECRET)

        async def now_and_then(request, context):
            await asyncio.sleep(dice.random() * 0.01)
            if dice.random() < 0.1:
                await dice.choice([broken, aborting(grpc.StatusCode.UNAVAILABLE)])(request, context)

        observer.always = now_and_then
        address = await observer.start()
        async with paired(tmp_path, presence_url, FakePlugin()) as pair:
            value = registered_value(Registration("x", address))
            await pair.stages[0].store.write(lambda tx: tx.register_extension("x"))
            for stage in pair.stages:
                stage.extensions["x"] = value
                stage.workers.extensions_changed()
            clients = [Client(pair.stages[0].log, f"u{n}") for n in range(6)]
            await story(pair, clients, dice, by_force)

            async def kept_up() -> bool:
                behind = await pair.stages[0].store.read(lambda tx: tx.extensions_behind())
                return behind == {"x": 0}

            await until(kept_up, 20)
            observer.always = None
            await check(pair, observer, clients)
        await observer.stop()

    run(claim())
