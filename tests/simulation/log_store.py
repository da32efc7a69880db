"""A log store in memory that fulfils `services.coordinator.store.LogStore`, far away.

One database, and a client in each process. An append is two questions, as with any database across
a network: the facts are read, the writes are sent, and those name the epoch that they were decided
in. An answer that does not come in time leaves open what was done. What matters to a judge is told
to `record` as it happens: claims that took effect, and rows.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.chassis.errors import StoreFull, Unavailable
from services.coordinator.store import (
    Claimed,
    ClaimRefused,
    EventKey,
    Facts,
    Head,
    LogRow,
    Lookup,
    MessagePage,
    Part,
    Publication,
    PublicationKey,
    RecordedEvent,
    Register,
    Stamp,
    StoredEntry,
    StoredMessage,
    Writes,
)
from tests.simulation.network import LostError, Network

NAME = "store"
LOG_ID = "the-log"
_DEADLINE_S = 3.0

Terms = Mapping[int, int]


class Database:
    """What is durable. Each method is one statement: all of it is done at once, or nothing."""

    fence = True  # False: a mistake to be found
    remembers = True  # False: another, it forgets publication ids

    def __init__(self, record: Callable[..., None]) -> None:
        self.full = False
        self._record = record
        self._epochs: dict[int, int] = {}
        self._logs: dict[int, list[LogRow]] = {}
        self._subjects: dict[str, list[LogRow]] = {}
        self._publications: dict[PublicationKey, Publication] = {}
        self._events: dict[EventKey, RecordedEvent] = {}
        self._registers: dict[str, dict[str, Register]] = {}

    def claim(
        self, epochs: Terms, owner: str, tails: Mapping[int, int]
    ) -> dict[int, Claimed | ClaimRefused]:
        if self.full:
            raise StoreFull("the disk of the log is full")
        outcomes: dict[int, Claimed | ClaimRefused] = {}
        for p, epoch in epochs.items():
            stored, tail = self._epochs.get(p, 0), len(self._logs.get(p, ()))
            if tail < tails.get(p, 0):
                outcomes[p] = ClaimRefused("an older copy")
            elif epoch <= stored:
                outcomes[p] = ClaimRefused("the epoch is not above the stored one")
            else:
                self._epochs[p] = epoch
                self._logs.setdefault(p, [])
                self._record("claim", partition=p, epoch=epoch, owner=owner)
                outcomes[p] = Claimed(tail)
        return outcomes

    def facts(self, terms: Terms, lookups: Mapping[int, Lookup]) -> dict[int, Facts]:
        """The facts of those partitions whose epoch is the one named."""
        return {
            p: self._facts_of(p, epoch, lookups[p])
            for p, epoch in terms.items()
            if self._epochs.get(p) == epoch or not self.fence
        }

    def write(self, terms: Terms, decided: Mapping[int, Writes]) -> frozenset[int]:
        """Returns the partitions whose epoch is another by now: nothing of theirs is written."""
        deposed = {p for p in decided if self.fence and self._epochs.get(p) != terms[p]}
        taken = {p: writes for p, writes in decided.items() if p not in deposed}
        if self.full and any(writes.rows for writes in taken.values()):
            raise StoreFull("the disk of the log is full")
        for p, writes in taken.items():
            tail = len(self._logs[p])
            if not self.fence:
                # Keys would hide most of it: a store without them puts the rows where its log ends.
                writes.rows[:] = [
                    row._replace(pos=pos) for pos, row in enumerate(writes.rows, tail + 1)
                ]
            if writes.rows and writes.rows[0].pos != tail + 1:
                raise Unavailable("duplicate key value violates unique constraint")
        for p, writes in taken.items():
            self._write_part(p, terms[p], writes)
        return frozenset(deposed)

    def messages(self, p: int, subject: str, after_seq: int, limit: int) -> MessagePage:
        rows = self._subjects.get(subject, [])
        page = [
            StoredMessage(row.pos, row.seq or 0, row.entry)
            for row in rows[after_seq : after_seq + limit]
        ]
        return MessagePage(page, len(rows), 0)

    def entries(self, p: int, after_pos: int, limit: int) -> list[StoredEntry]:
        rows = self._logs.get(p, [])[after_pos : after_pos + limit]
        return [StoredEntry(row.pos, row.entry) for row in rows]

    def tail(self, p: int) -> int:
        return len(self._logs.get(p, ()))

    def head(self, subject: str) -> int:
        return len(self._subjects.get(subject, ()))

    def _facts_of(self, p: int, epoch: int, lookup: Lookup) -> Facts:
        facts = Facts(Part(epoch, self.tail(p), 0, 0))
        for subject in lookup.subjects:
            if subject in self._subjects:
                facts.heads[subject] = Head(self.head(subject), 0)
        for key in lookup.publications:
            if key in self._publications and self.remembers:
                facts.publications[key] = self._publications[key]
        for event in lookup.events:
            if event in self._events:
                facts.events[event] = self._events[event]
        for user, _ in lookup.clients:
            facts.registers[user] = dict(self._registers.get(user, {}))
        return facts

    def _write_part(self, p: int, epoch: int, writes: Writes) -> None:
        if writes.rows:
            told = [(row.pos, row.subject, row.seq, row.entry) for row in writes.rows]
            self._record("append", partition=p, epoch=epoch, rows=told)
        self._logs[p].extend(writes.rows)
        for row in writes.rows:
            if row.subject is not None:
                self._subjects.setdefault(row.subject, []).append(row)
        self._publications.update(writes.publications)
        self._events.update(writes.events)
        for (user, client), register in writes.registers.items():
            self._registers.setdefault(user, {})[client] = register


class SimulatedStore:
    """A LogStore for one process. What only retention asks for is not there."""

    log_id = LOG_ID

    def __init__(self, database: Database, network: Network, name: str) -> None:
        self._database = database
        self._network = network
        self._name = name

    async def claim(
        self, epochs: Terms, owner: str, tails: Mapping[int, int]
    ) -> Mapping[int, Claimed | ClaimRefused]:
        return await self._ask(lambda: self._database.claim(epochs, owner, tails))

    async def append(
        self,
        stamp: Stamp,
        terms: Terms,
        lookups: Mapping[int, Lookup],
        decide: Callable[[int, Facts], Writes],
    ) -> frozenset[int]:
        facts = await self._ask(lambda: self._database.facts(terms, lookups))
        decided = {p: decide(p, facts[p]) for p in terms if p in facts}
        deposed = frozenset(terms) - frozenset(facts)
        if any(writes != Writes() for writes in decided.values()):
            deposed |= await self._ask(lambda: self._database.write(terms, decided))
        return deposed

    async def read_messages(
        self, partition: int, subject: str, after_seq: int, limit: int, bytes_max: int
    ) -> MessagePage:
        return await self._ask(
            lambda: self._database.messages(partition, subject, after_seq, limit)
        )

    async def read_entries(
        self, partition: int, after_pos: int, limit: int, bytes_max: int
    ) -> Sequence[StoredEntry]:
        return await self._ask(lambda: self._database.entries(partition, after_pos, limit))

    async def read_tails(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return await self._ask(lambda: {p: self._database.tail(p) for p in partitions})

    async def probe(self) -> None:
        def look() -> None:
            if self._database.full:
                raise StoreFull("the disk of the log is full")

        await self._ask(look)

    async def _ask(self, work: Callable[[], Any]) -> Any:
        try:
            return await self._network.ask(self._name, NAME, work, _DEADLINE_S)
        except LostError as error:
            raise Unavailable(str(error)) from error
