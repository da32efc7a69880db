"""SIGKILL of everything under load: what was accepted is there, what was pending goes out once.

The page cache survives a SIGKILL; that acceptances wait for the disk is shown by a trace of the
system calls in `tests/coordinator`.
"""

import asyncio
from collections import Counter
from pathlib import Path

from tests.path.load import Publisher
from tests.path.mailbox import Mailbox
from tests.path.stack import QUICK, Subscriber, Suite, ended
from tests.processes import slowness
from tests.waiting import wait_for

PUBLISHERS = 20
PER_SECOND = 50
SUBJECTS = 4  # publishers share subjects, so that their messages interleave
READY_S_MAX = 3.0
SETTINGS = QUICK | {"ONWARD_PRESENCE_COLLAPSE_S": "2"}


def history(suite: Suite, subject: str) -> dict[int, str]:
    """Every message of a subject by seq."""
    found: dict[int, str] = {}
    while True:
        page = suite.get(f"/v1/history?subject={subject}&after={max(found, default=0)}&limit=1000")
        if not page["messages"]:
            return found
        found |= {int(message["seq"]): message["text"] for message in page["messages"]}


async def publish_until_killed(suite: Suite, seconds: float) -> list[Publisher]:
    """Load for some seconds, then SIGKILL; returns the publishers with what was accepted."""
    publishers = [
        Publisher(f"ws://127.0.0.1:{suite.port}", f"/load/{n % SUBJECTS}", f"pub-{n}", PER_SECOND)
        for n in range(PUBLISHERS)
    ]
    async with asyncio.TaskGroup() as group:
        for publisher in publishers:
            group.create_task(publisher.run())
        await asyncio.sleep(seconds)  # the length of the load, not a wait for something
        await asyncio.to_thread(suite.kill_everything)
    return publishers


def test_accepted_messages_and_pending_notifications_survive(tmp_path: Path) -> None:
    with Mailbox() as mailbox:
        data = tmp_path / "data"
        before = Suite(data, SETTINGS | mailbox.settings)
        with ended(before):
            before.wait_ready()
            reader = Subscriber(
                before, tmp_path, "/load/0", "--user", "ann", "--client-id", "ann-1",
                "--external-token", "mailto:ann@example.org",
            )  # fmt: skip
            with ended(reader):
                reader.wait_event("connected")
                reader.kill()
            publishers = asyncio.run(publish_until_killed(before, 4))
        accepted = {subject: {} for subject in {p.subject for p in publishers}}
        for publisher in publishers:
            assert publisher.accepted, "a publisher got nothing accepted"
            accepted[publisher.subject] |= publisher.accepted

        after = Suite(data, SETTINGS | mailbox.settings, before.port)
        with ended(after):
            ready_s = after.wait_ready()
            for subject, messages in accepted.items():
                kept = history(after, subject)
                assert list(kept) == list(range(1, len(kept) + 1))
                assert {seq: kept[seq] for seq in messages} == messages
                texts = Counter(kept.values())
                assert max(texts.values()) == 1
            head = len(history(after, "/load/0"))
            wait_for(lambda: mailed(mailbox) >= head, 60, "every message is mailed")
            wait_for(
                lambda: after.explain("ann", "/load/0", head)["state"] == "NOTIFIED",
                30, "the last message is notified",
            )  # fmt: skip
            assert mailed(mailbox) == head
        assert ready_s <= READY_S_MAX * slowness()


def mailed(mailbox: Mailbox) -> int:
    """How many messages all mails stand for; a repeat of a mail in doubt counts once."""
    counts = {}
    for mail in list(mailbox.mails):
        # The body begins "3 new messages in /load/0".
        counts[mail["Message-ID"]] = int(str(mail.get_content()).split()[0])
    return sum(counts.values())
