"""The log store of the embedded profile: one SQLite file, held by one process.

Knows SQL and threads. Must not know what is decided inside an append. One thread owns the writer
connection, so appends, claims and removals are serial by construction; reads use connections of
their own and see what is committed. See `services.coordinator.store` for the promises.

Drive it: `store = SqliteStore.open(directory)`, its calls, `await store.close()`.
"""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from services.chassis.errors import Fault, StoreFull, Unavailable
from services.coordinator import sqlite_append, sqlite_removal, sqlite_schema
from services.coordinator.sql_rows import claim_refusal
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

R = TypeVar("R")

_READERS = 2
# The disk is full, or the file system turned read-only: certain that nothing was written.
_FULL_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY})


class SqliteStore:
    """A LogStore in a directory of its own."""

    def __init__(self, directory: Path, lock: int, writer: sqlite3.Connection, log_id: str) -> None:
        self.log_id = log_id
        self._directory = directory
        self._lock = lock
        self._connection = writer
        self._writer = ThreadPoolExecutor(1, "log-writer")
        self._readers = ThreadPoolExecutor(_READERS, "log-reader")
        self._reader = threading.local()
        self._reader_connections: list[sqlite3.Connection] = []

    @classmethod
    def open(cls, directory: Path) -> "SqliteStore":
        """Open or create the store. Raises StartError with what to do about it."""
        lock = sqlite_schema.lock(directory)
        try:
            writer, log_id = sqlite_schema.open_writer(directory)
        except BaseException:  # the lock must not outlive a start that failed, whatever it was
            os.close(lock)
            raise
        return cls(directory, lock, writer, log_id)

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._readers.shutdown()
        self._writer.shutdown()
        for connection in self._reader_connections:
            connection.close()
        self._connection.close()
        os.close(self._lock)

    async def claim(
        self, epochs: Mapping[int, int], owner: str, tails: Mapping[int, int]
    ) -> Mapping[int, Claimed | ClaimRefused]:
        return await self._write(self._claim, epochs, owner, tails)

    async def append(
        self,
        stamp: Stamp,
        terms: Mapping[int, int],
        lookups: Mapping[int, Lookup],
        decide: Callable[[int, Facts], Writes],
    ) -> frozenset[int]:
        return await self._write(self._append, stamp, terms, lookups, decide)

    async def read_messages(
        self, partition: int, subject: str, after_seq: int, limit: int, bytes_max: int
    ) -> MessagePage:
        return await self._read(
            self._read_messages, partition, subject, after_seq, limit, bytes_max
        )

    async def read_retained(self, subject: str) -> StoredMessage | None:
        return await self._read(sqlite_append.read_retained, subject)

    async def read_entries(
        self, partition: int, after_pos: int, limit: int, bytes_max: int
    ) -> Sequence[StoredEntry]:
        return await self._read(self._read_entries, partition, after_pos, limit, bytes_max)

    async def read_tails(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return await self._read(self._read_tails, partitions)

    async def log_bytes(self) -> int:
        return await self._read(self._log_bytes)

    async def forget_ids(self, before_ms: int, limit: int) -> int:
        return await self._write(sqlite_removal.forget_ids, before_ms, limit)

    async def sweep(
        self,
        partition: int,
        epoch: int,
        keep: Keep,
        limit: int,
        bytes_enough: int | None = None,
    ) -> int:
        return await self._write(sqlite_removal.sweep, partition, epoch, keep, limit, bytes_enough)

    async def shorten(
        self, partition: int, epoch: int, subject: str, keep: Keep, limit: int
    ) -> int:
        return await self._write(sqlite_removal.shorten, partition, epoch, subject, keep, limit)

    async def oldest(self, partitions: Sequence[int]) -> Mapping[int, int]:
        return await self._read(sqlite_removal.oldest, partitions)

    async def forget_subjects(
        self, terms: Mapping[int, int], after: str, before_ms: int, limit: int
    ) -> tuple[int, str | None]:
        return await self._write(sqlite_removal.forget_subjects, terms, after, before_ms, limit)

    async def unseen_clients(
        self, after: tuple[str, str], before_ms: int, limit: int
    ) -> UnseenPage:
        return await self._read(sqlite_removal.unseen_clients, after, before_ms, limit)

    async def adopt_clock(self, boot_id: str, since_boot_ms: int, offset_ms: int) -> int:
        return await self._write(sqlite_removal.adopt_clock, boot_id, since_boot_ms, offset_ms)

    async def probe(self) -> None:
        await self._write(sqlite_removal.probe)
        await self._write(sqlite_removal.end_probe)

    # The writer's thread.

    async def _write(self, work: Callable[..., R], *arguments: object) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, self._transact, work, arguments)

    def _transact(self, work: Callable[..., R], arguments: Sequence[object]) -> R:
        connection = self._connection
        with _faults():
            try:
                connection.execute("BEGIN IMMEDIATE")
                result = work(connection, *arguments)
                connection.execute("COMMIT")
                return result
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _claim(
        self,
        connection: sqlite3.Connection,
        epochs: Mapping[int, int],
        owner: str,
        tails: Mapping[int, int],
    ) -> Mapping[int, Claimed | ClaimRefused]:
        outcomes: dict[int, Claimed | ClaimRefused] = {}
        for p, epoch in epochs.items():
            row = connection.execute("SELECT epoch, tail FROM parts WHERE p = ?", (p,)).fetchone()
            stored_epoch, tail = row or (0, 0)
            refusal = claim_refusal(epoch, tails.get(p, 0), stored_epoch, tail)
            if refusal is not None:
                outcomes[p] = refusal
            else:
                connection.execute(
                    "INSERT INTO parts (p, epoch, owner) VALUES (?1, ?2, ?3) "
                    "ON CONFLICT (p) DO UPDATE SET epoch = ?2, owner = ?3",
                    (p, epoch, owner),
                )
                outcomes[p] = Claimed(tail)
        return outcomes

    def _append(
        self,
        connection: sqlite3.Connection,
        stamp: Stamp,
        terms: Mapping[int, int],
        lookups: Mapping[int, Lookup],
        decide: Callable[[int, Facts], Writes],
    ) -> frozenset[int]:
        deposed = set()
        decided = []
        for p, epoch in terms.items():
            part = sqlite_append.read_part(connection, p)
            if part is None or part.epoch != epoch:
                deposed.add(p)
                continue
            writes = decide(p, sqlite_append.read_facts(connection, part, lookups[p]))
            decided.append(sqlite_append.Decided(p, part, writes))
        sqlite_append.apply(connection, stamp.steady_ms, decided)
        return frozenset(deposed)

    # The readers' threads.

    async def _read(self, work: Callable[..., R], *arguments: object) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._consistently, work, arguments)

    def _consistently(self, work: Callable[..., R], arguments: Sequence[object]) -> R:
        with _faults():
            connection = getattr(self._reader, "connection", None)
            if connection is None:
                connection = sqlite_schema.open_reader(self._directory)
                self._reader.connection = connection
                self._reader_connections.append(connection)
            connection.execute("BEGIN")
            try:
                return work(connection, *arguments)
            finally:
                connection.execute("ROLLBACK")

    def _read_messages(
        self,
        connection: sqlite3.Connection,
        partition: int,
        subject: str,
        after_seq: int,
        limit: int,
        bytes_max: int,
    ) -> MessagePage:
        head = sqlite_append.read_head(connection, subject)
        if head is None:
            row = connection.execute(
                "SELECT seq_floor FROM parts WHERE p = ?", (partition,)
            ).fetchone()
            floor = row[0] if row else 0
            return MessagePage((), floor, floor)
        rows = connection.execute(
            "SELECT pos, seq, entry FROM log WHERE subject = ? AND seq > ? ORDER BY seq LIMIT ?",
            (subject, max(after_seq, head.low), limit),
        )
        messages = [StoredMessage(*row) for row in _within(rows, bytes_max)]
        return MessagePage(messages, head.seq, head.low)

    def _read_entries(
        self,
        connection: sqlite3.Connection,
        partition: int,
        after_pos: int,
        limit: int,
        bytes_max: int,
    ) -> Sequence[StoredEntry]:
        rows = connection.execute(
            "SELECT pos, entry FROM log WHERE p = ? AND pos > ? ORDER BY pos LIMIT ?",
            (partition, after_pos, limit),
        )
        return [StoredEntry(*row) for row in _within(rows, bytes_max)]

    def _read_tails(
        self, connection: sqlite3.Connection, partitions: Sequence[int]
    ) -> Mapping[int, int]:
        tails = dict(connection.execute("SELECT p, tail FROM parts").fetchall())
        return {p: tails.get(p, 0) for p in partitions}

    @staticmethod
    def _log_bytes(connection: sqlite3.Connection) -> int:
        row = connection.execute("SELECT coalesce(sum(bytes), 0) FROM parts").fetchone()
        return int(row[0])


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        fault: Fault
        if (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _FULL_CODES:
            fault = StoreFull("the disk of the log is full or read-only")
        else:
            fault = Unavailable(f"the log store failed ({type(error).__name__}: {error})")
        raise fault from error


def _within(rows: Iterator[tuple], bytes_max: int) -> Iterator[tuple]:  # type: ignore[type-arg]
    """The rows while their last columns have at most `bytes_max` in sum; one at least."""
    size = 0
    for row in rows:
        size += len(row[-1])
        if size > bytes_max and size > len(row[-1]):
            return
        yield row
