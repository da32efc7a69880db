"""Presence, coordinators and the extension are killed at random under load, as real processes.

Afterwards what the extension has, each position once, is the logs of all subjects, in order, and
of every client what became of it at the end. Once with one of each, over SQLite; once with two
coordinators and two presence services, over PostgreSQL. `EXTENSION_FAULTS_S` makes the load longer
than in the usual run, `EXTENSION_FAULTS_SEED` draws other moments.
"""

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from onward_sdk import Api, Client, OnwardError

from tests.path.observing import read
from tests.path.stack import QUICK, Program, Suite, base_environ, ended, free_port
from tests.path.test_race_table import environment
from tests.waiting import until, wait_for

LOAD_S = float(os.environ.get("EXTENSION_FAULTS_S", "4"))
SEED = int(os.environ.get("EXTENSION_FAULTS_SEED", "1"))
SUBJECTS = [f"/load/{n}" for n in range(12)]
PUBLISHERS, VISITORS = 6, 4
SETTINGS = QUICK | {
    # An extension that was killed is called again at once.
    "ONWARD_PRESENCE_BREAKER_FIRST_S": "0.1",
    "ONWARD_PRESENCE_BREAKER_LONGEST_S": "0.5",
    "ONWARD_PRESENCE_EXTENSION_DEADLINE_S": "2",
}


class Extension:
    """The extension's process, on one port and one file over all its lives."""

    def __init__(self, suite: Suite, path: Path, member: str) -> None:
        secret = environment(suite, member)["ONWARD_SECRET"]
        self.address = f"127.0.0.1:{free_port()}"
        self.path = path
        self._environ = base_environ() | {"ONWARD_SECRET": secret}
        self.program = self._begin()

    def _begin(self) -> Program:
        arguments = ["-m", "tests.path.observing", self.address, str(self.path)]
        program = Program([sys.executable, *arguments], self._environ)
        wait_for(lambda: program.output.all or program.process.poll() is not None, 20, "it is up")
        assert program.process.poll() is None, "\n".join(program.errors.all)
        return program

    def kill(self) -> None:
        self.program.kill()
        self.program = self._begin()


class Load:
    """People who publish, and people who come and go."""

    def __init__(self, suite: Suite, dice: random.Random) -> None:
        self._suite = suite
        self._dice = dice
        self.accepted: dict[str, Counter[str]] = {subject: Counter() for subject in SUBJECTS}
        self.ends: dict[str, str] = {}  # user to client id of who came and went
        self.visits = 0
        self.over = False

    async def publish(self, name: str) -> None:
        """Publish until the load is over; each is sent again until it is accepted."""
        async with Api(self._suite.urls[0], user=name) as api:
            number = 0
            while not self.over:
                number += 1
                subject, text = self._dice.choice(SUBJECTS), f"{name} {number}"
                while True:
                    with suppress(OnwardError):
                        await api.publish(subject, text, publication_id=text)
                        break
                    await asyncio.sleep(0.1)
                self.accepted[subject][text] += 1
                await asyncio.sleep(self._dice.random() * 0.02)

    async def visit(self, name: str) -> None:
        """Come and go until the load is over, and be gone then."""
        identity = None
        while not self.over or identity is None:
            client = Client(self._suite.urls, user=name, identity=identity)
            with suppress(OnwardError, TimeoutError):
                async with asyncio.timeout(20):
                    await client.subscribe(*self._dice.sample(SUBJECTS, 2))
                    await client.connect(patient=True)
                    self.visits += 1
                    await asyncio.sleep(self._dice.random())
            await client.disconnect()
            identity = client.identity
            self.ends[name] = identity.client_id


async def faults(suite: Suite, extension: Extension, victims: Sequence[str], dice: random.Random):
    """Kill one after the other, at moments that are drawn, for as long as the load lasts."""
    killed: Counter[str] = Counter()
    end = asyncio.get_running_loop().time() + LOAD_S
    order = [*victims, "extension"]
    dice.shuffle(order)
    while asyncio.get_running_loop().time() < end:
        victim = order[sum(killed.values()) % len(order)]
        if victim == "extension":
            await asyncio.to_thread(extension.kill)
        else:
            with suppress(AssertionError, ProcessLookupError):  # It is being started again.
                os.kill(suite.child(victim), signal.SIGKILL)
        killed[victim] += 1
        await asyncio.sleep(0.5 + dice.random())
    return killed


async def logs(suite: Suite) -> dict[str, list[str]]:
    """The texts of every subject, as its log has them."""
    found: dict[str, list[str]] = {}
    async with Api(suite.urls[0], user="reader") as api:
        for subject in SUBJECTS:
            texts: list[str] = []
            while (page := await api.history(subject, len(texts), 1_000)).messages:
                texts += [str(message.text) for message in page.messages]
            found[subject] = texts
    return found


async def told_all(suite: Suite) -> bool:
    """Whether the extension has acknowledged all that there is."""
    with suppress(OnwardError):
        async with Api(suite.urls[0]) as api:
            return [one["behind"] for one in await api.extensions()] == ["0"]
    return False


async def story(suite: Suite, extension: Extension, victims: Sequence[str]) -> None:
    dice = random.Random(SEED)
    async with Api(suite.urls[0]) as api:
        await api.add_extension("observing", extension.address)
    load = Load(suite, dice)
    people = [asyncio.create_task(load.publish(f"p{n}")) for n in range(PUBLISHERS)]
    people += [asyncio.create_task(load.visit(f"v{n}")) for n in range(VISITORS)]
    killed = await faults(suite, extension, victims, dice)
    load.over = True
    async with asyncio.timeout(60):
        await asyncio.gather(*people)
    expected = await until_read(suite)
    for subject, texts in expected.items():
        assert Counter(texts) == load.accepted[subject], "each accepted once"

    def complete() -> bool:
        rows, _ = read(extension.path)
        gone = {row["user"] for row in last_of(rows).values() if row["offline"]}
        messages = sum(1 for row in rows if "subject" in row)
        return messages == sum(map(len, expected.values())) and set(load.ends) <= gone

    await until(complete, 60, 0.1)
    await until(lambda: told_all(suite), 20, 0.1)
    rows, repeats = read(extension.path)
    for subject, texts in expected.items():
        told = [row for row in rows if row.get("subject") == subject]
        assert [row["text"] for row in told] == texts, subject
        assert [row["seq"] for row in told] == list(range(1, len(texts) + 1)), subject
    for user, client_id in load.ends.items():
        last = last_of(rows)[user, client_id]
        assert last["offline"] and last["nobody"], last
    print(
        f"extension: {sum(map(len, expected.values()))} messages of {len(SUBJECTS)} subjects, "
        f"{sum('user' in row for row in rows)} changes of presence in {load.visits} visits, "
        f"{repeats} repeats; killed: {dict(killed)}"
    )


async def until_read(suite: Suite) -> dict[str, list[str]]:
    """The logs, once they can be read."""

    async def try_it() -> dict[str, list[str]] | None:
        with suppress(OnwardError):
            return await logs(suite)
        return None

    return await until(try_it, 30, 0.1) or {}


def last_of(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """The last that was told of each client, by user and client id."""
    return {(row["user"], row["client"]): row for row in rows if "user" in row}


def told_after_faults(suite: Suite, path: Path, victims: Sequence[str]) -> None:
    with ended(suite):
        suite.wait_ready(60)
        extension = Extension(suite, path, victims[0])
        try:
            asyncio.run(story(suite, extension, victims))
        finally:
            extension.program.kill()


@pytest.mark.timeout(120 + 3 * LOAD_S)
def test_an_extension_has_all_of_it_in_order_whoever_was_killed(tmp_path: Path) -> None:
    suite = Suite(tmp_path / "data", SETTINGS)
    told_after_faults(suite, tmp_path / "told", ["presence", "coordinator"])


@pytest.mark.timeout(120 + 3 * LOAD_S)
def test_an_extension_of_a_cluster_has_all_of_it_in_order(
    tmp_path: Path, postgres_url: str
) -> None:
    options = ("--coordinators", "2", "--presence", "2", "--store", postgres_url)
    suite = Suite(tmp_path / "data", SETTINGS, options=options)
    members = ["presence-1", "presence-2", "coordinator-1", "coordinator-2"]
    told_after_faults(suite, tmp_path / "told", members)
