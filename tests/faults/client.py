"""A client that behaves as a good SDK does, and to which things are done from outside.

It writes what it does and what it is told into the history, in the words of `checker`. It keeps
its generation and its positions, acknowledges explicitly, comes back by itself and recovers. What
happens to it is done to it: `close`, `drop`, `die`, `freeze`, …
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from tests.faults.history import History
from tests.faults.line import ANSWER_S, Broken, Line, Urls

ACK_EVERY_S = 0.25


class Client:
    """One client of a user."""

    def __init__(
        self, url: str | Sequence[str], history: History, user: str, client: str, address: str,
        subjects: list[str], dice: random.Random,
    ) -> None:  # fmt: skip
        self.user, self.client, self._address = user, client, address
        self.busy = False  # something is being done to it
        self.gone = False  # for good
        self.mute = False  # it reads, and acknowledges nothing
        self.following = dict.fromkeys(subjects)  # in order
        self.positions: dict[str, int] = {}
        self._saved: dict[str, int] = {}  # acknowledged positions: all that outlives the program
        self._urls, self._write, self._dice = Urls(url), history.write, dice
        self._generation, self._log_id = 0, ""
        self._wanted = asyncio.Event()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._line: Line | None = None
        self._sent_acks: dict[str, dict[str, int]] = {}  # frame id: positions
        self._requests: dict[str, tuple[str, list[str]]] = {}  # frame id: what was asked
        self._registered = False
        self.acknowledged: dict[str, int] = {}

    # What is done to it.

    def come(self) -> None:
        if not self.gone:
            self._wanted.set()

    async def close(self) -> None:
        """Leave with a close handshake, as a program does that ends well."""
        self._wanted.clear()
        if (line := self._line) is not None:
            if self._dice.random() < 0.7 and not self.mute:
                await self._acknowledge(line)
            await line.socket.close()

    def abandon(self) -> None:
        """Come no more when the connection ends."""
        self._wanted.clear()

    def drop(self) -> None:
        """The connection is reset; the program lives, and comes back when it is let."""
        self._wanted.clear()
        if self._line is not None:
            self._line.reset()

    def die(self) -> None:
        """The program is killed: what it had not acknowledged is forgotten."""
        self.drop()
        self.positions = dict(self._saved)
        self._thawed.set()
        if self._dice.random() < 0.1:
            self._generation = 0

    def freeze(self) -> None:
        """Neither read, nor acknowledge, nor answer pings."""
        self._thawed.clear()
        if self._line is not None:
            self._line.socket.transport.pause_reading()

    def thaw(self) -> None:
        self._thawed.set()
        if self._line is not None and not self._line.socket.transport.is_closing():
            self._line.socket.transport.resume_reading()

    async def unsubscribe(self, subject: str) -> None:
        line = self._line
        if subject not in self.following or line is None or not self._thawed.is_set():
            return
        await self._acknowledge(line)
        self._write("unsubscribing", user=self.user, client=self.client, subject=subject)
        del self.following[subject]
        for positions in (self.positions, self._saved, self.acknowledged):
            positions.pop(subject, None)
        try:
            await line.send(unsubscribe={"subjects": [subject]})
        except Broken:
            pass  # it is not in the list of the next connect

    async def subscribe(self, subject: str) -> None:
        if subject in self.following:
            return
        self.following[subject] = None
        if (line := self._line) is None:
            return
        self._say_subscribing(subject)
        try:
            frame_id = line.new_id()
            self._requests[frame_id] = ("subscribe", [subject])
            await line.send(frame_id, subscribe={"subscriptions": [{"subject": subject}]})
        except Broken:
            pass  # it is in the list of the next connect

    @property
    def connected(self) -> bool:
        """Whether its session is open."""
        return self._line is not None

    def settled(self) -> bool:
        """Whether everything it follows is read and acknowledged, as answered."""
        return self._line is not None and all(
            self.acknowledged.get(one, -1) >= self.positions.get(one, 0) for one in self.following
        )

    # What it does by itself.

    async def live(self) -> None:
        """Be connected whenever that is wanted, until cancelled."""
        while True:
            await self._wanted.wait()
            await self._thawed.wait()
            try:
                await self._session()
            except Broken:
                pass
            finally:
                if self._line is not None:
                    self._line.socket.transport.abort()
                    told = self._line.socket.protocol.close_rcvd
                    code = told.code if told is not None else None
                    self._write("disconnected", client=self.client, code=code)
                self._line = None
                self._sent_acks.clear()
                self._requests.clear()
            await asyncio.sleep(self._dice.uniform(0.02, 0.3))

    async def _session(self) -> None:
        line = await self._urls.open(self.user)
        try:
            connected = await self._connect(line)
        except BaseException:
            line.reset()
            raise
        self._generation = int(connected["generation"])
        self._log_id = connected["logId"]
        if not self._registered:
            self._registered = True
            self._write("endpoint", user=self.user, address=self._address)
        for one in connected["subscriptions"]:
            self._subscribed(one)
        if not self._wanted.is_set():
            line.reset()
            return
        self._line = line
        self._write(
            "connected", client=self.client, generation=self._generation, url=self._urls.url
        )
        listed = {one["subject"] for one in connected["subscriptions"]}
        for subject in [one for one in self.following if one not in listed]:
            del self.following[subject]  # it came while this connected
            await self.subscribe(subject)
        async with asyncio.TaskGroup() as group:
            acks = group.create_task(self._keep_acknowledging(line))
            try:
                while True:
                    if not self._thawed.is_set():
                        line.socket.transport.pause_reading()
                        await self._thawed.wait()
                    self._take(await line.receive())
            except Broken:
                acks.cancel()

    async def _connect(self, line: Line) -> dict[str, Any]:
        for _ in range(2):
            following = list(self.following)
            for subject in following:
                self._say_subscribing(subject)
            starts = [
                {"subject": s}
                | ({"afterSeq": str(self.positions[s])} if s in self.positions else {})
                for s in following
            ]
            body = {
                "clientId": self.client,
                "acknowledges": "EXPLICIT",
                "lastGeneration": str(self._generation),
                "logId": self._log_id,
                "subscriptions": {"list": starts},
                "externalTokens": [{"uri": f"mailto:{self._address}"}],
            }
            number = await line.send(connect=body)
            frame = await line.receive(ANSWER_S)
            if "goingAway" in frame:  # an edge that stops may say so before it answers
                self._note_going_away()
                frame = await line.receive(ANSWER_S)
            if frame.get("id") != number:
                self._write("surprised", client=self.client, frame=frame)
                raise Broken
            if "connected" in frame:
                left = set(following) - set(self.following)
                assert not left, "nothing is unsubscribed while it connects"
                return dict(frame["connected"])
            if frame["error"]["code"] != "STALE_SESSION":
                self._write("turned_away", client=self.client, error=frame["error"])
                raise Broken
            self._generation = int(frame["error"]["generation"])
        raise Broken

    def _note_going_away(self) -> None:
        self._write("going_away", client=self.client)
        self._urls.turn()

    def _say_subscribing(self, subject: str) -> None:
        after = self.positions.get(subject)
        self._write(
            "subscribing", user=self.user, client=self.client, subject=subject, after=after
        )  # fmt: skip

    def _subscribed(self, state: dict[str, Any]) -> None:
        subject, seq = state["subject"], int(state["seq"])
        if subject not in self.following:
            return
        recovered = state.get("recovered", False)
        self._write(
            "subscribed", user=self.user, client=self.client, subject=subject, seq=seq,
            recovered=recovered, reason=state.get("reason", ""), asked=subject in self.positions,
        )  # fmt: skip
        if not recovered:
            self.positions[subject] = self._saved[subject] = seq
        # A position that it returned with counts as acknowledged.
        self.acknowledged[subject] = self.positions[subject]

    def _take(self, frame: dict[str, Any]) -> None:
        if "message" in frame:
            message = frame["message"]
            subject, seq = message["subject"], int(message["seq"])
            if subject in self.following and subject in self.positions:
                self._write(
                    "seen", client=self.client, subject=subject, seq=seq, text=message["text"]
                )
                self.positions[subject] = max(seq, self.positions[subject])
        elif "synced" in frame:
            subject, seq = frame["synced"]["subject"], int(frame["synced"]["seq"])
            if subject in self.following:
                self._write("synced", client=self.client, subject=subject, seq=seq)
        elif "gap" in frame:
            subject, to = frame["gap"]["subject"], int(frame["gap"]["toSeq"])
            self._write("gap", client=self.client, subject=subject, to=to)
            self.positions[subject] = to
        elif "goingAway" in frame:
            self._note_going_away()
        elif "subscribed" in frame:
            self._requests.pop(frame["id"], None)
            for one in frame["subscribed"]["subscriptions"]:
                self._subscribed(one)
        elif "done" in frame:
            for subject, seq in self._sent_acks.pop(frame["id"], {}).items():
                if subject in self.following:
                    self.acknowledged[subject] = max(seq, self.acknowledged.get(subject, 0))
                    self._write(
                        "acknowledged", user=self.user, client=self.client, subject=subject,
                        seq=seq,
                    )  # fmt: skip
        elif "error" in frame:
            self._write("turned_down", client=self.client, error=frame["error"])
            asked = self._requests.pop(frame.get("id", ""), None)
            if asked is not None:
                raise Broken  # start anew, with the whole list
        else:
            self._write("told_else", client=self.client, frame=frame)

    async def _keep_acknowledging(self, line: Line) -> None:
        while True:
            await asyncio.sleep(ACK_EVERY_S)
            if self._thawed.is_set() and not self.mute:
                try:
                    await self._acknowledge(line)
                except Broken:
                    return

    async def _acknowledge(self, line: Line) -> None:
        news = {
            subject: self.positions[subject]
            for subject in self.following
            if self.positions.get(subject, 0) > self._saved.get(subject, 0)
        }
        if not news:
            return
        for subject, seq in news.items():
            self._write("ack", user=self.user, client=self.client, subject=subject, seq=seq)
        self._saved |= news
        positions = [{"subject": s, "seq": str(seq)} for s, seq in news.items()]
        try:
            frame_id = line.new_id()
            self._sent_acks[frame_id] = news
            await line.send(frame_id, ack={"positions": positions})
        except Broken:
            pass
