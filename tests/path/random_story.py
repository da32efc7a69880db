"""A random story: people come and go, processes are killed, and everything is written down.

`play(seed, mailbox, data)` runs the whole suite, lets things happen for a while, then lets
everybody settle, waits until nothing is pending, and returns the history for `story_checker`. The
seed decides what happens when; how it falls together in time is up to the machine.
"""

import asyncio
import os
import random
import signal
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.path.mailbox import Mailbox
from tests.path.stack import QUICK, Suite, ended
from tests.path.story_checker import Event
from tests.path.story_client import Client, History, Publisher

SUBJECTS = ["/story/a", "/story/b", "/story/c"]
USERS = 6
SERVICES = ["edge", "coordinator", "presence", "notifier"]
PUBLISHERS = ["pub-0", "pub-1", "user-0"]  # the last is told nothing of its own messages
PER_SECOND = 10.0  # of each publisher
SETTLED_S = 60.0
SETTINGS = QUICK | {
    "ONWARD_LEASE_TTL_S": "3",
    "ONWARD_PRESENCE_GRACE_DEAD_EDGE_S": "2.5",
    "ONWARD_PRESENCE_COLLAPSE_S": "1",
    "ONWARD_PRESENCE_HOLD_CHECK_S": "0.3",
    "ONWARD_PRESENCE_RETRY_FIRST_S": "0.5",
    "ONWARD_PRESENCE_BREAKER_FIRST_S": "0.3",
    "ONWARD_PRESENCE_BREAKER_LONGEST_S": "1",
    "ONWARD_PRESENCE_SWEEP_EVERY_S": "2",
    "ONWARD_EDGE_ROUND_S": "0.5",
    "ONWARD_EDGE_PONG_S": "2",
    "ONWARD_EDGE_CLOSE_S": "1",
    "ONWARD_EDGE_UNACKNOWLEDGED_S": "4",
}
LAST_S = 2.0  # before the end of the publishing half of the users leave
WITHIN_GRACE_S, AFTER_GRACE_S = (0.1, 1.0), (2.5, 4.5)
KINDS = {
    "close": 4, "drop": 5, "die": 5, "return_mute": 4, "freeze": 4, "unsubscribe": 2,
    "kill": 4, "stop": 2, "busy_mail": 2, "cut_publisher": 2,
}  # fmt: skip


class SlowMailbox(Mailbox):
    """Takes its time, so that processes are killed while they send."""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802, RUF100
        await asyncio.sleep(random.uniform(0, 0.2))
        reply = await super().handle_DATA(server, session, envelope)
        await asyncio.sleep(random.uniform(0, 0.2))
        return reply


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


def play(seed: int, mailbox: Mailbox, data: Path, length_s: float = 15.0) -> list[Event]:
    """The history of the story of a seed."""
    suite = Suite(data, SETTINGS | mailbox.settings)
    with ended(suite):
        suite.wait_ready()
        story = _Story(seed, suite, mailbox)
        try:
            asyncio.run(story.run(length_s))
        finally:
            story.history.events.append({"event": "output", "lines": suite.output.all})
        return story.history.events


class _Story:
    def __init__(self, seed: int, suite: Suite, mailbox: Mailbox) -> None:
        self.history = History()
        self._dice = dice = random.Random(seed)
        self._suite, self._mailbox, self._mails = suite, mailbox, len(mailbox.mails)
        url = f"ws://127.0.0.1:{suite.port}"
        self._clients: list[Client] = []
        for number in range(USERS):
            user = f"user-{number}"
            shares = dice.random() < 0.5  # one address for both clients
            for n in range(dice.choice([1, 2])):
                address = f"{user}{'' if shares else f'-{n}'}@example.org"
                follows = dice.sample(SUBJECTS, dice.choice([2, 3]))
                mind = random.Random(dice.random())
                client = Client(
                    url, self.history, user, f"{user}-{n}", address, follows, mind
                )  # fmt: skip
                self._clients.append(client)
        self._publishers = [
            Publisher(url, self.history, name, SUBJECTS, random.Random(dice.random()))
            for name in PUBLISHERS
        ]

    async def run(self, length_s: float) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        planned = acts(self._dice, len(self._clients), length_s - LAST_S)
        lives = [asyncio.create_task(one.live()) for one in self._clients + self._publishers]
        watch = asyncio.create_task(self._watch())
        background = [*lives, watch]
        for client in self._clients:
            client.come()
        doings = [
            asyncio.create_task(one.publish(start + length_s, PER_SECOND))
            for one in self._publishers
        ]
        for act in planned:
            await asyncio.sleep(max(0.0, start + act.at - loop.time()))
            doings.append(asyncio.create_task(self._do(act)))
        await asyncio.sleep(max(0.0, start + length_s - LAST_S - loop.time()))
        await self._leave()
        await asyncio.gather(*doings)
        await self._settle()
        for task in background:
            assert not task.done() or task.cancelled(), task
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await self._tell_everything()

    async def _do(self, act: Act) -> None:
        if act.kind == "kill":
            await self._burst(act)
            for service in act.services:
                self._signal(service, signal.SIGKILL)
        elif act.kind == "stop":
            if (pid := self._signal(act.services[0], signal.SIGSTOP)) is not None:
                await asyncio.sleep(act.pause_s)
                try:
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:
                    pass  # it was killed meanwhile
        elif act.kind == "busy_mail":
            self._mailbox.refusals.append("451 4.3.0 try again later")
        elif act.kind == "cut_publisher":
            await self._burst(act)
            self._publishers[act.client % len(PUBLISHERS)].cut()
        else:
            client = self._clients[act.client]
            if client.busy:
                return
            client.busy = True
            self.history.write("done_to", client=client.client, act=act.kind, pause_s=act.pause_s)
            await self._do_to(client, act)
            client.busy = False

    async def _burst(self, act: Act) -> None:
        """Messages that are under way when something breaks, a few milliseconds from now."""
        for publisher in self._publishers:
            await publisher.burst(5)
        await asyncio.sleep(act.pause_s / 500)

    def _signal(self, service: str, number: signal.Signals) -> int | None:
        try:
            pid = self._suite.child(service)
            os.kill(pid, number)
        except (AssertionError, OSError):
            return None  # it is being started again
        self.history.write("killed", service=service, signal=number.name)
        return pid

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
            self._signal("edge", signal.SIGKILL)
            return
        for client in leaving:
            if self._dice.random() < 0.5:
                await client.close()
            else:
                client.die()

    async def _settle(self) -> None:
        """Everybody who stays returns, reads and acknowledges, until nothing is pending."""
        await self._wait(lambda: all(one.done for one in self._publishers), "publishes answered")
        staying = [one for one in self._clients if not _leaves(one)]
        for client in staying:
            client.thaw()
            client.come()
        heads = {s: (await self._get(f"/v1/history?subject={s}&last=1"))["head"] for s in SUBJECTS}
        await self._wait(
            lambda: all(
                one.settled() and all(one.positions[s] == int(heads[s]) for s in one.following)
                for one in staying
            ),
            "who stays has everything",
        )
        for client in staying:
            for subject in client.following:
                self.history.write(
                    "settled", user=client.user, client=client.client, subject=subject,
                    seq=client.positions[subject],
                )  # fmt: skip
        end = asyncio.get_running_loop().time() + SETTLED_S
        while asyncio.get_running_loop().time() < end:
            if not await self._pending():
                break
            await asyncio.sleep(0.3)
        await asyncio.sleep(0.5)  # for a mail that should not be

    async def _wait(self, condition: Callable[[], bool], what: str) -> None:
        end = asyncio.get_running_loop().time() + SETTLED_S
        while not condition():
            if asyncio.get_running_loop().time() > end:
                self.history.write("stuck", what=what)
                return
            await asyncio.sleep(0.05)

    async def _pending(self) -> bool:
        undecided = {"PENDING", "HELD", "ANSWERED_FOR", "NOT_YET"}
        for user, subject in self._places():
            outcomes = await self._explained(user, subject)
            if outcomes is None or any(one["state"] in undecided for one in outcomes):
                return True
        return False

    def _places(self) -> list[tuple[str, str]]:
        return [(u, s) for u in dict.fromkeys(c.user for c in self._clients) for s in SUBJECTS]

    async def _watch(self) -> None:
        """Notes mails as they come, and what explain calls acknowledged meanwhile."""
        while True:
            for _ in range(10):
                self._note_mails()
                await asyncio.sleep(0.03)
            user, subject = random.choice(self._places())
            outcomes = await self._explained(user, subject)
            known = [
                seq
                for one in outcomes or []
                if one["state"] == "ACKNOWLEDGED"
                for seq in range(one["from"], one["to"] + 1)
            ]
            self.history.write("told", user=user, subject=subject, seqs=known)

    def _note_mails(self) -> None:
        for mail in self._mailbox.mails[self._mails :]:
            self._mails += 1
            body = str(mail.get_content())
            self.history.write(
                "mail",
                address=str(mail["X-Rcpt-To"]),
                id=str(mail["Message-ID"]).strip("<>").partition("@")[0],
                count=int(body.split()[0]),
                texts=[
                    line
                    for line in body.splitlines()
                    if line.startswith("from-") and "," not in line
                ],
            )

    async def _get(self, path: str) -> Any:
        while True:
            try:
                return await asyncio.to_thread(self._suite.get, path)
            except (urllib.error.URLError, OSError, TimeoutError):
                await asyncio.sleep(0.2)  # a process is being started again

    async def _explained(self, user: str, subject: str) -> list[Event] | None:
        story = await self._get(f"/v1/explain?user={user}&subject={subject}&limit=1000")
        return [_outcome(one) for one in story.get("outcomes", [])]

    async def _tell_everything(self) -> None:
        self._note_mails()
        for subject in SUBJECTS:
            texts: dict[str, str] = {}
            floor = None
            after = 0
            while True:
                page = await self._get(f"/v1/history?subject={subject}&after={after}&limit=1000")
                floor = int(page["floor"]) if floor is None else floor
                if not page["messages"]:
                    break
                texts |= {one["seq"]: one["text"] for one in page["messages"]}
                after = int(page["messages"][-1]["seq"])
            self.history.write("log", subject=subject, floor=floor, texts=texts)
        for user, subject in self._places():
            outcomes = await self._explained(user, subject)
            self.history.write("explained", user=user, subject=subject, outcomes=outcomes)


def _leaves(client: Client) -> bool:
    return int(client.user.rpartition("-")[2]) % 2 == 0


def _outcome(told: dict[str, Any]) -> Event:
    return {
        "from": int(told["fromSeq"]),
        "to": int(told["toSeq"]),
        "state": told["state"],
        "reason": told["reason"],
        "text": told["text"],
        "deliveries": [
            {
                "id": one["deliveryId"],
                "state": one["state"],
                "attempts": [
                    {
                        "at": datetime.fromisoformat(attempt["at"]).timestamp(),
                        "outcome": attempt["outcome"],
                        "detail": attempt["detail"],
                    }
                    for attempt in one["attempts"]
                ],
            }
            for one in told["deliveries"]
        ],
    }
