"""Asks the suite what became of everything, and writes the answers into the history.

Mails as they come, what `explain` calls acknowledged meanwhile, and at the end the whole log and
the outcome of every message for every user.
"""

import asyncio
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tests.faults.history import Event, History
from tests.faults.post import Post, mail_event

PAGE = 1_000  # the most that a page of history, or explain, tells of
_UNDECIDED = frozenset({"PENDING", "HELD", "ANSWERED_FOR", "NOT_YET"})
_ASKED_AT_ONCE = 4
_WAIT_S = 0.2  # between tries while a process is being started again
GIVEN_UP_S = 60.0


class Teller:
    """`places` are the users and subjects to ask about."""

    def __init__(
        self, url: str, history: History, post: Post, places: Sequence[tuple[str, str]]
    ) -> None:
        self._url, self._write, self._post = url, history.write, post
        self.places = list(places)
        self._mails = len(post.mails)

    async def watch(self, told_limit: int = PAGE) -> None:
        """Note what comes to pass, until cancelled."""
        while True:
            for _ in range(10):
                self.note_mails()
                await asyncio.sleep(0.03)
            await self.tell(*random.choice(self.places), told_limit)

    def note_mails(self) -> None:
        """Write down the mails that have come."""
        news = self._post.mails[self._mails :]
        for number, mail in enumerate(news, self._mails):
            self._write("mail", **mail_event(mail, self._post.came_at[number]))
        self._mails += len(news)

    async def tell(self, user: str, subject: str, limit: int = PAGE) -> list[Event]:
        """Write down which messages explain calls acknowledged now; returns all outcomes."""
        outcomes, _ = await self.outcomes(user, subject, limit)
        ranges = _ranges(outcomes)
        if ranges:
            self._write("told", user=user, subject=subject, ranges=ranges)
        return outcomes

    async def heads(self, subjects: Sequence[str]) -> dict[str, int]:
        """The head of each subject."""
        pages = {s: await self.get(f"/v1/history?subject={s}&last=1") for s in subjects}
        return {subject: int(page["head"]) for subject, page in pages.items()}

    async def outcomes(self, user: str, subject: str, limit: int = PAGE) -> tuple[list[Event], int]:
        """What explain tells, and the first seq that it tells of."""
        story = await self.get(f"/v1/explain?user={user}&subject={subject}&limit={limit}")
        outcomes = [_outcome(one) for one in story.get("outcomes", [])]
        return outcomes, min((one["from"] for one in outcomes), default=1)

    async def everything(self, subjects: Sequence[str], deadline_s: float = GIVEN_UP_S) -> bool:
        """The log, and, once nothing is pending or the deadline is over, all outcomes.

        True: nothing is pending.
        """
        end = time.monotonic() + deadline_s
        waiting, told = list(self.places), {}
        while waiting:
            found = await self._ask_all(waiting)
            told |= found
            waiting = [place for place, (outcomes, _) in found.items() if _pending(outcomes)]
            if time.monotonic() > end:
                break
            await asyncio.sleep(0.3 if waiting else 0.5)  # the last for a mail that should not be
        self.note_mails()
        for subject in subjects:
            await self._tell_log(subject)
        for (user, subject), (outcomes, first) in told.items():
            self._write("explained", user=user, subject=subject, first=first, outcomes=outcomes)
        return not waiting

    async def get(self, path: str) -> Any:
        """The JSON that `GET path` answers, once the suite can."""
        end = time.monotonic() + GIVEN_UP_S
        while True:
            try:
                return await asyncio.to_thread(self._get, path)
            except (urllib.error.URLError, OSError, TimeoutError):
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(_WAIT_S)  # a process is being started again

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self._url + path, timeout=10) as answer:
            return json.load(answer)

    async def _ask_all(
        self, places: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[list[Event], int]]:
        free = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def ask(place: tuple[str, str]) -> tuple[list[Event], int]:
            async with free:
                return await self.outcomes(*place)

        return dict(zip(places, await asyncio.gather(*map(ask, places)), strict=True))

    async def _tell_log(self, subject: str) -> None:
        after = None
        while True:
            page = await self.get(f"/v1/history?subject={subject}&after={after or 0}&limit={PAGE}")
            after = int(page["floor"]) if after is None else after
            if not page["messages"]:
                if after == int(page["floor"]):
                    self._write("log", subject=subject, floor=after, after=after, texts=[])
                return
            kept = {int(one["seq"]): one["text"] for one in page["messages"]}
            texts = [kept.get(seq) for seq in range(after + 1, max(kept) + 1)]
            self._write("log", subject=subject, floor=int(page["floor"]), after=after, texts=texts)
            after = max(kept)


def _pending(outcomes: Sequence[Event]) -> bool:
    return any(
        one["state"] in _UNDECIDED or any(d["due"] for d in one["deliveries"]) for one in outcomes
    )


def _ranges(outcomes: Sequence[Event]) -> list[tuple[int, int]]:
    """The messages that are called acknowledged, as ranges."""
    ranges: list[tuple[int, int]] = []
    for one in outcomes:
        if one["state"] == "ACKNOWLEDGED":
            if ranges and ranges[-1][1] == one["from"] - 1:
                ranges[-1] = (ranges[-1][0], one["to"])
            else:
                ranges.append((one["from"], one["to"]))
    return ranges


def _outcome(told: dict[str, Any]) -> Event:
    return {
        "from": int(told["fromSeq"]),
        "to": int(told["toSeq"]),
        "state": told["state"],
        "reason": told["reason"],
        "deliveries": [
            {
                "id": one["deliveryId"],
                "state": one["state"],
                "due": bool(one.get("dueAt")) or one["state"] == "sending",
                "attempts": [
                    {"at": _at(attempt["at"]), "outcome": attempt["outcome"]}
                    for attempt in one["attempts"]
                ],
            }
            for one in told["deliveries"]
        ],
    }


def _at(text: str) -> float:
    """A time of the suite's wall clock, on the clock of the history. A run is shorter than half an
    hour, so whole hours are those by which a service's clock was set wrong."""
    ago_s = time.time() - datetime.fromisoformat(text).timestamp()
    return time.monotonic() - (ago_s - round(ago_s / 3600) * 3600)
