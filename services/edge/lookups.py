"""What sessions and the hub must be told by others: follows, lost endpoints, messages of the log.

Knows how many may ask at once and what becomes of the others; must not know what answers mean.
Everything returns at once, and the answer comes as a call. At most `READS_MAX` reads of the store
are under way; others wait their turn, a bounded number of them, and beyond it sessions are told
that nobody can read now. So they are while what was read for sessions that are not durable yet is
more than `FORMING_BYTES_MAX`. Holes always wait: there is at most one for each subject.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from onward.coordinator.v1 import coordinator_pb2

from services.chassis.refusals import Refusal
from services.edge.channel import Entry
from services.edge.effects import AskGone, ReadClient, ReadHistory, ReadRetained
from services.edge.frames import entry_of
from services.edge.hub_effects import FillHole
from services.edge.readers import Readers
from services.edge.recovery import Read

if TYPE_CHECKING:
    from services.edge.connection import Connection
    from services.edge.exchange import Exchange

READS_MAX: Final = 32  # of the store at once
WAITING_MAX: Final = 20_000  # reads that wait; above: the session is told that nobody can read
# Read for subscriptions whose event is not durable yet; above: nobody can read now.
FORMING_BYTES_MAX: Final = 256 * 1024 * 1024
GONE_MAX: Final = 256  # questions to presence at once; above: told at a later connect
_FILL_RETRY_S: Final = 0.2
_HOLE_PAGE: Final = 1_000

_Work = Callable[[], Awaitable[None]]


class Lookups:
    """The questions of one edge. Tasks are of `tasks`."""

    def __init__(self, exchange: "Exchange", readers: Readers, tasks: asyncio.TaskGroup) -> None:
        self._exchange = exchange
        self._readers = readers
        self._tasks = tasks
        self._clients: dict[int, Connection] = {}  # look-ups of clients, by request
        self._by_session: dict[str, int] = {}
        self._waiting: deque[_Work] = deque()
        self._forming: dict[str, int] = {}  # session → bytes that it keeps
        self.forming_bytes = 0
        self.reading = 0  # reads under way
        self.asking_gone = 0
        self.turned_away = 0  # ever

    @property
    def waiting(self) -> int:
        """Reads that wait their turn."""
        return len(self._waiting)

    @property
    def clients(self) -> int:
        """Clients being looked up."""
        return len(self._clients)

    # What a client follows: asked by the uplink.

    def read_client(self, connection: "Connection", effect: ReadClient) -> None:
        """Looks up what a client follows. A session asks once."""
        exchange = self._exchange
        partition = exchange.hub.partition(effect.user)
        request = exchange.outbox.read_client(partition, effect.user, effect.client_id)
        self._clients[request] = connection
        self._by_session[connection.session.session_id] = request

    def end_client(self, request: int) -> "Connection | None":
        """A look-up is over; returns who asked, if it was waited for."""
        self._exchange.outbox.client_read(request)
        connection = self._clients.pop(request, None)
        if connection is not None:
            self._by_session.pop(connection.session.session_id, None)
        return connection

    def recount(self, connection: "Connection") -> None:
        """The session may keep more, or less, of what was read for it."""
        session = connection.session
        self.settled(session.session_id)
        if size := session.forming_bytes:
            self._forming[session.session_id] = size
            self.forming_bytes += size

    def settled(self, session_id: str) -> None:
        """The session holds nothing any more of what was read for it."""
        self.forming_bytes -= self._forming.pop(session_id, 0)

    def forget(self, session_id: str) -> None:
        """The session waits for nothing any more."""
        self.settled(session_id)
        if (request := self._by_session.get(session_id)) is not None:
            self.end_client(request)

    # Lost endpoints: asked of presence.

    def ask_gone(self, connection: "Connection", effect: AskGone) -> None:
        """Asks presence which endpoints of a client are gone."""
        if self.asking_gone >= GONE_MAX:
            self.turned_away += 1
            connection.on_gone(())
            return

        async def ask() -> None:
            try:
                gone = await self._readers.gone_endpoints(effect.user, effect.client_id)
            finally:
                self.asking_gone -= 1
            connection.on_gone(gone)

        self.asking_gone += 1
        self._tasks.create_task(ask())

    # Messages: from the ring, else read from the store.

    def read_history(self, connection: "Connection", effect: ReadHistory) -> None:
        """Reads messages of a subject."""
        subject, after_seq = effect.subject, effect.after_seq
        limit = self._exchange.limits.session.recovery_messages_max
        hub = self._exchange.hub
        channel = hub.channel(subject)
        if not effect.fresh and channel is not None:
            entries = hub.after(subject, after_seq, effect.up_to, limit)
            if entries and self.forming_bytes <= FORMING_BYTES_MAX:
                self._give(connection, subject, Read(entries, channel.last, channel.floor))
                return

        async def read() -> None:
            if self._is_there(connection):
                self._give(connection, subject, await self._read(subject, after_seq, limit))

        self._ask_store(read, connection, subject)

    def read_retained(self, connection: "Connection", effect: ReadRetained) -> None:
        """Reads a subject's retained message."""
        subject = effect.subject

        async def read() -> None:
            if self._is_there(connection):
                self._give(connection, subject, await self._read_retained(subject))

        self._ask_store(read, connection, subject)

    def fill(self, hole: FillHole) -> None:
        """Reads what is missing until it can be read; the subject stands still meanwhile."""
        hub = self._exchange.hub

        async def read() -> None:
            if hub is not self._exchange.hub or hub.channel(hole.subject) is None:
                return
            found = await self._read(hole.subject, hole.after_seq, _HOLE_PAGE)
            if hub is not self._exchange.hub:
                return
            if found is None:
                self._later(read)
                return
            self._exchange.carry_out(hub.filled(hole.subject, found.entries, found.floor))
            self._exchange.pump()

        if hole.again:
            self._later(read)
        else:
            self._enqueue(read)

    # Parts.

    def _is_there(self, connection: "Connection") -> bool:
        return connection.session.session_id in self._exchange.connections

    def _give(self, connection: "Connection", subject: str, read: Read | None) -> None:
        if not self._is_there(connection):
            return
        connection.on_history(subject, read)
        self.recount(connection)

    def _ask_store(self, read: _Work, connection: "Connection", subject: str) -> None:
        if len(self._waiting) >= WAITING_MAX or self.forming_bytes > FORMING_BYTES_MAX:
            self.turned_away += 1
            self._give(connection, subject, None)
        else:
            self._enqueue(read)

    def _later(self, work: _Work) -> None:
        asyncio.get_running_loop().call_later(_FILL_RETRY_S, self._enqueue, work)

    def _enqueue(self, work: _Work) -> None:
        if self.reading < READS_MAX:
            self.reading += 1
            self._tasks.create_task(self._work(work))
        else:
            self._waiting.append(work)

    async def _work(self, work: _Work) -> None:
        try:
            await work()
            while self._waiting:
                await self._waiting.popleft()()
        finally:
            self.reading -= 1

    async def _read(self, subject: str, after_seq: int, limit: int) -> Read | None:
        partition = self._exchange.hub.partition(subject)
        response = await self._readers.messages(partition, subject, after_seq, limit)
        if isinstance(response, Refusal):
            return None
        return Read(_contiguous(response), response.head, response.floor)

    async def _read_retained(self, subject: str) -> Read | None:
        partition = self._exchange.hub.partition(subject)
        response = await self._readers.retained(partition, subject)
        if isinstance(response, Refusal):
            return None
        return Read([entry_of(response.retained)] if response.HasField("retained") else [])


def _contiguous(response: coordinator_pb2.ReadMessagesResponse) -> list[Entry]:
    entries: list[Entry] = []
    for delivery in response.messages:
        if entries and delivery.message.seq != entries[-1].seq + 1:
            break
        entries.append(entry_of(delivery))
    return entries
