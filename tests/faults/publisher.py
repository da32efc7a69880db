"""Publishes at a rate, and sends again what was not answered, in order, with the same ids."""

import asyncio
import random
from collections import OrderedDict

from tests.faults.history import History
from tests.faults.line import ANSWER_S, Broken, Line


class Publisher:
    """A publisher on some subjects. The text of a message is its publication id."""

    def __init__(
        self, url: str, history: History, name: str, subjects: list[str], dice: random.Random
    ) -> None:
        self.name, self.subjects = name, subjects
        self._url, self._write, self._dice = url, history.write, dice
        self._unanswered: OrderedDict[int, str] = OrderedDict()  # number: subject
        self._asked: dict[str, int] = {}  # frame id: number
        self._number = 0
        self._line: Line | None = None

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
                self._line = None
                self._asked.clear()
            if self._unanswered:
                self._write("unknown", publisher=self.name, numbers=list(self._unanswered))
            await asyncio.sleep(self._dice.uniform(0.05, 0.2))

    async def publish_until(self, over: asyncio.Event, per_second: float) -> None:
        """New messages until an event; what is late is made up for."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not over.is_set():
            await asyncio.sleep(max(0.0, due - loop.time()))
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
        if self._line is not None:
            try:
                await self._send(self._line, number)
            except Broken:
                pass  # it is sent again by the next session
        return number

    async def _session(self) -> None:
        line = await Line.open(self._url, self.name)
        try:
            await line.send(connect={"clientId": self.name, "acknowledges": "NONE"})
            if "connected" not in await line.receive(ANSWER_S):
                raise Broken
            sent: set[int] = set()
            while unsent := [one for one in self._unanswered if one not in sent]:
                for number in unsent:  # more may come meanwhile
                    await self._send(line, number)
                sent.update(unsent)
        except BaseException:
            line.reset()
            raise
        self._line = line
        while True:
            frame = await line.receive()
            number = self._asked.pop(frame.get("id", ""), None)
            if number is None or number not in self._unanswered:
                continue
            if "published" in frame:
                self._write(
                    "accepted", publisher=self.name, number=number,
                    subject=self._unanswered.pop(number), seq=int(frame["published"]["seq"]),
                )  # fmt: skip
            else:
                self._write(
                    "refused", publisher=self.name, number=number, code=frame["error"]["code"]
                )
                raise Broken  # everything unanswered is sent again, in order

    async def _send(self, line: Line, number: int) -> None:
        text = f"{self.name}#{number}"
        publish = {"subject": self._unanswered[number], "text": text, "publicationId": text}
        self._asked[await line.send(publish=publish)] = number
