"""The SMTP server of a run: it takes its time, refuses when told to, and notes when mails came."""

import asyncio
import random
import time
from email.message import EmailMessage
from typing import Any

from tests.faults.history import Event
from tests.path.mailbox import Mailbox


class Post(Mailbox):
    """A mailbox. `delay_s`: the most it waits before and after taking a mail; `slow_s`: besides."""

    def __init__(self, delay_s: float = 0.2) -> None:
        super().__init__()
        self.delay_s = delay_s
        self.slow_s = 0.0
        self.busy = False  # refuse everything for now
        self.came_at: list[float] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802, RUF100
        await asyncio.sleep(random.uniform(0, self.delay_s))
        if self.busy:
            self.attempts += 1
            return "451 4.3.0 try again later"
        self.came_at.append(time.monotonic())
        before = len(self.mails)
        reply = await super().handle_DATA(server, session, envelope)
        if len(self.mails) == before:
            self.came_at.pop()  # refused
        await asyncio.sleep(self.slow_s + random.uniform(0, self.delay_s))
        return reply


def mail_event(mail: EmailMessage, at: float) -> Event:
    """A mail in the words of a history."""
    body = str(mail.get_content())
    # "3 new messages in /a", and the newest of them, each on a line of its own.
    texts = [line for line in body.splitlines() if "#" in line and " " not in line]
    return {
        "at": at,
        "address": str(mail["X-Rcpt-To"]),
        "id": str(mail["Message-ID"]).strip("<>").partition("@")[0],
        "count": int(body.split()[0]),
        "texts": texts,
    }
