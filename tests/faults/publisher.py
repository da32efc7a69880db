"""Publishes at a rate, and sends again what was not answered, in order, with the same ids.

As a good program does, it makes no new messages while too many wait for an answer; what that costs
is seen in the rate that a run has reached.
"""

import asyncio
import random
from collections import OrderedDict, deque
from collections.abc import Sequence

from tests.faults.history import History
from tests.faults.line import ANSWER_S, Broken, Line, Urls

WINDOW = 150  # sent and not answered, three seconds' worth; an edge takes 200 of a session at once
LATE_MAX_S = 1.0  # what is later than that is not made up for
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0  # between connections
_ANSWERED_WITHIN_S = 15.0  # longer than an edge has a publish wait; then the connection is dead


class Publisher:
    """A publisher on some subjects. The text of a message is its publication id."""

    def __init__(
        self, url: str | Sequence[str], history: History, name: str, subjects: list[str],
        dice: random.Random,
    ) -> None:  # fmt: skip
        self.name, self.subjects = name, subjects
        self._urls, self._write, self._dice = Urls(url), history.write, dice
        self._unanswered: OrderedDict[int, str] = OrderedDict()  # number: subject
        self._unsent: deque[int] = deque()
        self._asked: dict[str, int] = {}  # frame id: number
        self._number = 0
        self._line: Line | None = None
        self._sending = asyncio.Lock()
        self._pause_s = _FIRST_PAUSE_S

    @property
    def done(self) -> bool:
        """Whether everything is answered."""
        return not self._unanswered

    @property
    def published(self) -> int:
        """How many messages there are so far."""
        return self._number

    @property
    def answered(self) -> int:
        """All messages up to this number are answered."""
        return next(iter(self._unanswered), self._number + 1) - 1

    @property
    def connected(self) -> bool:
        """Whether its session is open."""
        return self._line is not None

    def cut(self) -> None:
        """Its connection breaks."""
        if self._line is not None:
            self._line.reset()

    async def live(self) -> None:
        """Be connected and take answers, until cancelled."""
        while True:
            try:
                await self._session()
            except Broken:
                pass
            finally:
                if self._line is not None:
                    self._line.socket.transport.abort()
                    if self._asked:
                        numbers = list(self._asked.values())
                        self._write("unknown", publisher=self.name, numbers=numbers)
                self._line = None
                self._asked.clear()
            await asyncio.sleep(self._dice.uniform(0.05, self._pause_s))
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    async def publish_until(self, over: asyncio.Event, per_second: float) -> None:
        """New messages until an event; what is a little late is made up for."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not over.is_set():
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = max(due, loop.time() - LATE_MAX_S)
            if len(self._unanswered) < WINDOW:
                await self.publish_one()
            due += self._dice.uniform(0.5, 1.5) / per_second

    async def burst(self, count: int) -> None:
        """Some messages at once."""
        for _ in range(count):
            await self.publish_one()

    async def publish_one(self, subject: str = "") -> int:
        """One message, on the subject or on any of its own; returns its number."""
        self._number += 1
        number = self._number
        subject = subject or self._dice.choice(self.subjects)
        self._write("publish", publisher=self.name, number=number, subject=subject)
        self._unanswered[number] = subject
        self._unsent.append(number)
        await self._send_what_fits()
        return number

    async def _session(self) -> None:
        line = await self._urls.open(self.name)
        try:
            await line.send(connect={"clientId": self.name, "acknowledges": "NONE"})
            if "connected" not in await line.receive(ANSWER_S):
                raise Broken
        except BaseException:
            line.reset()
            raise
        self._unsent = deque(self._unanswered)  # everything, in order
        self._line, self._pause_s = line, _FIRST_PAUSE_S
        await self._send_what_fits()
        while True:
            frame = await line.receive(_ANSWERED_WITHIN_S if self._asked else None)
            if "goingAway" in frame:
                self._urls.turn()
            number = self._asked.pop(frame.get("id", ""), None)
            if number is None or number not in self._unanswered:
                continue
            if "published" in frame:
                self._write(
                    "accepted", publisher=self.name, number=number,
                    subject=self._unanswered.pop(number), seq=int(frame["published"]["seq"]),
                )  # fmt: skip
                await self._send_what_fits()
            else:
                self._write(
                    "refused", publisher=self.name, number=number, code=frame["error"]["code"]
                )
                raise Broken  # everything unanswered is sent again, in order

    async def _send_what_fits(self) -> None:
        """Send what is not sent yet, up to the window, one after the other."""
        async with self._sending:
            while self._unsent and self._line is not None and len(self._asked) < WINDOW:
                number, line = self._unsent.popleft(), self._line
                text = f"{self.name}#{number}"
                publish = {
                    "subject": self._unanswered[number],
                    "text": text,
                    "publicationId": text,
                }
                frame_id = line.new_id()
                self._asked[frame_id] = number
                try:
                    await line.send(frame_id, publish=publish)
                except Broken:
                    return  # the next session sends everything
