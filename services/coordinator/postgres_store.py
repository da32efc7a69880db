"""The log store of a cluster: PostgreSQL, which all coordinators share.

Knows which work is done where, and how far it has seen each partition come: a database in which one
ends earlier is an older copy, and nothing is written to that partition, whatever its epoch. Must
not know what is decided inside an append. What writes is serial within a process; between
processes, the fence in each statement judges. See `services.coordinator.store` for the promises,
`services.coordinator.postgres_fence` for the statements and
`services.coordinator.postgres_sessions` for what a failure means.

Drive it: `store = await PostgresStore.open(url, answer_s)`, its calls, `await store.close()`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from services.chassis import logs
from services.chassis.postgres import Connection
from services.coordinator import (
    postgres_fence,
    postgres_reads,
    postgres_removal,
    postgres_schema,
    postgres_sessions,
)
from services.coordinator.postgres_sessions import Sessions
from services.coordinator.store import (
    Claimed,
    ClaimRefused,
    Facts,
    Keep,
    Lookup,
    MessagePage,
    Stamp,
    StoredEntry,
    StoredMessage,
    UnseenPage,
    Writes,
)

log = logs.get(__name__)


class PostgresStore:
    """A LogStore in a database that others use too."""

    def __init__(self, sessions: Sessions, log_id: str) -> None:
        self.log_id = log_id
        self._sessions = sessions
        self._reached: dict[int, int] = {}  # partition → tail; of the thread that writes

    @classmethod
    async def open(cls, url: str, answer_s: float) -> "PostgresStore":
        """Make the tables if there are none. Raises StartError with what to do about it, and
        Unavailable while no primary answers. `answer_s`: so long a call waits for PostgreSQL."""
        address = postgres_sessions.address_of(url)
        log_id = await asyncio.to_thread(postgres_schema.prepare, address)
        return cls(Sessions(address, log_id, answer_s), log_id)

    async def close(self) -> None:
        await asyncio.to_thread(self._sessions.close)

    async def claim(
        self, epochs: Mapping[int, int], owner: str, tails: Mapping[int, int]
    ) -> Mapping[int, Claimed | ClaimRefused]:
        return await self._sessions.write(_claim, self._reached, epochs, owner, tails)

    async def append(
        self,
        stamp: Stamp,
        terms: Mapping[int, int],
        lookups: Mapping[int, Lookup],
        decide: Callable[[int, Facts], Writes],
    ) -> frozenset[int]:
        return await self._sessions.write(_append, self._reached, stamp, terms, lookups, decide)

    async def read_messages(
        self, partition: int, subject: str, after_seq: int, limit: int, bytes_max: int
    ) -> MessagePage:
        return await self._sessions.read(
            postgres_reads.messages, partition, subject, after_seq, limit, bytes_max
        )

    async def read_retained(self, subject: str) -> StoredMessage | None:
        return await self._sessions.read(postgres_reads.retained, subject)

    async def read_entries(
        self, partition: int, after_pos: int, limit: int, bytes_max: int
    ) -> Sequence[StoredEntry]:
        return await self._sessions.read(
            postgres_reads.entries, partition, after_pos, limit, bytes_max
        )

    async def read_tails(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return await self._sessions.read(postgres_reads.tails, partitions)

    async def log_bytes(self) -> int:
        return await self._sessions.read(postgres_reads.log_bytes)

    async def forget_ids(self, before_ms: int, limit: int) -> int:
        return await self._sessions.write(postgres_removal.forget_ids, before_ms, limit)

    async def sweep(
        self,
        partition: int,
        epoch: int,
        keep: Keep,
        limit: int,
        bytes_enough: int | None = None,
    ) -> int:
        return await self._sessions.write(
            postgres_removal.sweep, partition, epoch, keep, limit, bytes_enough
        )

    async def shorten(
        self, partition: int, epoch: int, subject: str, keep: Keep, limit: int
    ) -> int:
        return await self._sessions.write(
            postgres_removal.shorten, partition, epoch, subject, keep, limit
        )

    async def oldest(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return await self._sessions.read(postgres_reads.oldest, partitions)

    async def forget_subjects(
        self, terms: Mapping[int, int], after: str, before_ms: int, limit: int
    ) -> tuple[int, str | None]:
        return await self._sessions.write(
            postgres_removal.forget_subjects, terms, after, before_ms, limit
        )

    async def unseen_clients(
        self, after: tuple[str, str], before_ms: int, limit: int
    ) -> UnseenPage:
        return await self._sessions.read(postgres_reads.unseen_clients, after, before_ms, limit)

    async def adopt_clock(self, boot_id: str, since_boot_ms: int, offset_ms: int) -> int:
        """Of several machines none is asked for its wall clock."""
        return await self._sessions.write(postgres_removal.adopt_clock, boot_id, since_boot_ms)

    async def probe(self) -> None:
        await self._sessions.write(postgres_removal.probe)


def _claim(
    connection: Connection,
    reached: dict[int, int],
    epochs: Mapping[int, int],
    owner: str,
    tails: Mapping[int, int],
) -> Mapping[int, Claimed | ClaimRefused]:
    known = {p: max(tails.get(p, 0), reached.get(p, 0)) for p in epochs}
    outcomes = postgres_fence.claim(connection, epochs, owner, known)
    reached.update({p: it.tail for p, it in outcomes.items() if isinstance(it, Claimed)})
    return outcomes


def _append(
    connection: Connection,
    reached: dict[int, int],
    stamp: Stamp,
    terms: Mapping[int, int],
    lookups: Mapping[int, Lookup],
    decide: Callable[[int, Facts], Writes],
) -> frozenset[int]:
    found = postgres_reads.facts(connection, terms, lookups)
    known = {p: it for p, it in found.items() if it.part.tail >= reached.get(p, 0)}
    if len(known) < len(found):
        log.error("store_went_back", partitions=len(found) - len(known))
    decided = [
        postgres_fence.Decided(p, known[p].part, decide(p, known[p])) for p in terms if p in known
    ]
    deposed = postgres_fence.append(connection, stamp.steady_ms, decided)
    for p, part, writes in decided:
        if p not in deposed:
            reached[p] = part.tail + len(writes.rows)
    return deposed | (terms.keys() - known.keys())
