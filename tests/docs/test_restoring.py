"""docs/deploying.md: a backup, its restore, and the acceptance of what is lost, as an operator does
it: with the page's own commands, on real processes and a real PostgreSQL."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from onward_sdk import Client
from onward_sdk.events import Connected, Event, Message, Resynced

from services.chassis.etcd import Etcd
from tests.docs.test_deploying import the
from tests.faults.cluster import Cluster, Shape
from tests.faults.post import Post
from tests.faults.proxy import Links
from tests.faults.stage import SETTINGS
from tests.path.stack import ended
from tests.real_postgres import PostgresServer, binaries, missing, running
from tests.waiting import wait_for

pytestmark = [pytest.mark.skipif(missing() is not None, reason=str(missing()))]
SUBJECT = "/restore/1"
SHAPE = Shape(coordinators=2, presences=2)
KEEPERS = ("coordinator-1", "coordinator-2", "presence-1", "presence-2")  # of what is restored
PATIENCE_S = 40.0


class Operator:
    """A cluster on a PostgreSQL, and who looks after both."""

    def __init__(self, cluster: Cluster, store: PostgresServer, post: Post, folder: Path) -> None:
        self.cluster, self.store, self.post, self._folder = cluster, store, post, folder

    def do(self, words: str) -> None:
        """Run the block of the page that holds these words."""
        path = f"{binaries()}:{os.environ['PATH']}"
        environ = os.environ | {"STORE": self.store.url(), "PATH": path}
        done = subprocess.run(
            ["sh", "-eu"], input=the(words).text, cwd=self._folder, env=environ, text=True,
            capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        """All coordinators and presence services."""
        for name in KEEPERS:
            self.cluster.hold(name)
            os.kill(self.cluster.child(name), signal.SIGTERM)
        for name in KEEPERS:
            self.cluster.wait_gone(name, PATIENCE_S)

    def start(self) -> None:
        for name in KEEPERS:
            self.cluster.start(name)

    def publish(self, *texts: str) -> int:
        """Until each is accepted; returns the last seq."""
        answers = [
            wait_for(lambda text=text: self.accepted(text), PATIENCE_S, f"{text} is accepted")  # type: ignore[misc]
            for text in texts
        ]
        return int(answers[-1]["seq"])

    def accepted(self, text: str) -> dict[str, Any] | None:
        """The answer to a publish; None: it was refused."""
        try:
            return self.cluster.publish(SUBJECT, text, publicationId=text)
        except (HTTPError, OSError):
            return None

    def wait_acknowledged(self, user: str, seq: int) -> None:
        """Until presence knows that the user has everything up to that seq."""

        def acknowledged() -> bool:
            story = self.cluster.get(f"/v1/explain?user={user}&subject={SUBJECT}")
            states = [(int(one["toSeq"]), one["state"]) for one in story["outcomes"]]
            return (seq, "ACKNOWLEDGED") in states and {told for _, told in states} == {
                states[0][1]
            }

        wait_for(acknowledged, PATIENCE_S, "it is acknowledged")

    def mailed(self, user: str) -> list[str]:
        """The texts that a user was mailed."""
        mails = [m for m in self.post.mails if m["X-Rcpt-To"] == f"{user}@example.org"]
        lines = [line for mail in mails for line in str(mail.get_content()).splitlines()]
        return [line for line in lines if re.fullmatch(r"[a-z]+\d", line)]

    def wait_alarm(self, name: str, there: bool = True) -> None:
        """Until the status shows an alarm, or shows it no longer."""
        what = f"{name} is {'' if there else 'not '}raised"
        wait_for(lambda: (name in self.alarms()) is there, PATIENCE_S, what)

    def alarms(self) -> list[str]:
        try:
            return self.cluster.alarms()
        except OSError:
            return ["NO_STATUS"]

    def wait_copied(self) -> None:
        """Until etcd knows how far the subject's partition has come by now."""
        [(partition, tail)] = self.store.execute(
            "SELECT p, parts.tail FROM onward_log.parts JOIN onward_log.heads USING (p) "
            f"WHERE subject = '{SUBJECT}'"
        )
        address = f"127.0.0.1:{self.cluster.ports['etcd-1']}"

        async def copied() -> bool:
            etcd = Etcd(address)
            try:
                copy = await etcd.get(f"/onward/tails/{partition}")
            finally:
                await etcd.close()
            return copy is not None and json.loads(copy.value)["tail"] >= tail

        wait_for(lambda: asyncio.run(copied()), PATIENCE_S, "the tail is copied")


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    with Post(delay_s=0.0) as post, Links() as links, running() as store:
        settings = SETTINGS | post.settings | {"ONWARD_EDGE_PUBLISH_WAIT_S": "1.5"}
        cluster = Cluster(tmp_path, settings, SHAPE, links, stores=(store.port,))
        with ended(cluster):
            cluster.wait_ready()
            yield Operator(cluster, store, post, tmp_path)


class Follower:
    """A program on the SDK; what it is told, in order."""

    def __init__(self, url: str, user: str) -> None:
        self.user = user
        self.events: list[Event] = []
        note = self.events.append
        self.client = Client(url, user=user, on_message=note, on_status=note)

    async def come(self) -> None:
        await self.client.set_external_token(f"mailto:{self.user}@example.org")
        await self.client.subscribe(SUBJECT)
        await self.client.connect(patient=True)

    async def until(self, kind: type[Any], **fields: Any) -> Any:
        """The first event of that kind with these fields, once it is there."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for event in self.events:
                    if isinstance(event, kind) and all(
                        getattr(event, name) == value for name, value in fields.items()
                    ):
                        return event
                await asyncio.sleep(0.05)


@pytest.mark.timeout(240)
def test_the_loss_that_a_backup_means_is_refused_until_accepted_and_told_to_clients(
    operator: Operator,
) -> None:
    async def story() -> None:
        ann, eve = (Follower(operator.cluster.url, user) for user in ("ann", "eve"))
        await ann.come()
        await eve.come()
        await asyncio.to_thread(operator.publish, "a1", "a2", "a3")
        await asyncio.to_thread(operator.wait_acknowledged, "eve", 3)
        await asyncio.to_thread(operator.do, "pg_dump")
        await eve.client.disconnect()  # which the backup does not know
        await asyncio.to_thread(operator.publish, "lost4", "lost5")
        await ann.until(Message, text="lost5")
        await asyncio.to_thread(operator.wait_copied)

        await asyncio.to_thread(operator.stop)
        await asyncio.to_thread(operator.do, "pg_restore")
        await asyncio.to_thread(operator.start)
        await asyncio.to_thread(operator.wait_alarm, "CLAIM_REFUSED")
        assert await asyncio.to_thread(operator.accepted, "refused") is None
        logs = "".join(operator.cluster.log_of(name) for name in KEEPERS[:2])
        assert re.search(r"the log ends at \d+ but had reached \d+: it is an older copy", logs)

        await asyncio.to_thread(operator.stop)
        await asyncio.to_thread(operator.do, "log_id")
        await asyncio.to_thread(operator.start)
        connected = await ann.until(Connected, log_replaced=True)
        resynced = await ann.until(Resynced, reason="LOG_REPLACED")
        assert (resynced.seq, resynced.log_id) == (3, connected.log_id)
        seq = await asyncio.to_thread(operator.publish, "new4")
        told = await ann.until(Message, text="new4")
        assert (told.seq, told.log_id) == (seq, connected.log_id) and seq >= 4
        await asyncio.to_thread(operator.wait_alarm, "CLAIM_REFUSED", False)
        await ann.client.disconnect()

    asyncio.run(story())
    assert "LOG_REPLACED" not in operator.alarms(), "presence goes on too"
    # Both are offline now: ann has come back since, eve, whom the log has as online, has not.
    operator.publish("new5")
    for user, new in (("ann", ["new5"]), ("eve", ["lost4", "lost5", "new4", "new5"])):
        wait_for(lambda user=user, new=new: operator.mailed(user) == new, PATIENCE_S, user)  # type: ignore[misc]


@pytest.mark.timeout(240)
def test_an_older_copy_under_running_services_is_refused_and_the_newer_one_taken(
    operator: Operator,
) -> None:
    operator.publish("a1")
    older, newer = (operator.store.data.with_name(name) for name in ("older", "newer"))
    operator.store.stop()
    _copy(operator.store.data, older)
    operator.store.start()
    operator.publish("a2", "a3")
    operator.wait_copied()

    operator.store.stop()
    operator.store.data.rename(newer)
    _copy(older, operator.store.data)
    operator.store.start()
    assert operator.accepted("refused") is None  # which is when the owner finds out
    operator.wait_alarm("CLAIM_REFUSED")

    operator.store.stop()
    shutil.rmtree(operator.store.data)
    newer.rename(operator.store.data)
    operator.store.start()
    assert operator.publish("a4") >= 4
    texts = [one["text"] for one in operator.cluster.command("history", SUBJECT)]
    assert [text for text in texts if text != "refused"] == ["a1", "a2", "a3", "a4"]
    operator.wait_alarm("CLAIM_REFUSED", False)


def _copy(folder: Path, to: Path) -> None:
    """With its owner, as PostgreSQL wants it."""
    subprocess.run(["cp", "-a", str(folder), str(to)], check=True)
