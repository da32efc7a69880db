"""The presence store in one SQLite file: the writer thread, transactions, the fence.

One thread with one connection runs all work, one piece at a time: SQLite has one writer anyway,
and a connection alone on its file is the only checkpointer, which versions before 3.51.3 need to
be safe. An exclusive `flock` keeps other processes out. WAL with `synchronous=FULL`: what was
committed is on the disk. Rows are read and written by `sqlite_users` and `sqlite_outbox`.
"""

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from services.chassis.errors import Deposed, StartError, StoreFull
from services.presence import metrics
from services.presence.sqlite_migration import change_from
from services.presence.sqlite_outbox import SqliteOutboxRows
from services.presence.sqlite_users import SqliteUserRows
from services.presence.state import Standing
from services.presence.store import Counts, Cursor, Touched, Transaction

T = TypeVar("T")

_SCHEMA = Path(__file__).with_name("schema.sql")
_SCHEMA_VERSION = 2
# Callers beyond this many wait in the event loop, so that the thread's queue stays short.
_QUEUED_MAX = 64
_work_seconds = metrics.store_seconds.labels("work")
_commit_seconds = metrics.store_seconds.labels("commit")
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR}


class SqliteTransaction(SqliteUserRows, SqliteOutboxRows):
    """A transaction on the store's only connection."""

    def log_id(self) -> str:
        return self._meta("log_id") or ""

    def adopt_log(self, log_id: str) -> None:
        assert not self.log_id(), "the store belongs to a log already"
        self._put_meta("log_id", log_id)

    def epoch(self) -> int:
        return int(self._meta("epoch") or 0)

    def cursor(self, partition: int) -> Cursor:
        row = self.db.execute(
            "SELECT pos, epoch FROM cursors WHERE partition = ?", (partition,)
        ).fetchone()
        return Cursor(*row) if row else Cursor()

    def put_cursor(self, partition: int, cursor: Cursor) -> None:
        self.db.execute(
            "INSERT INTO cursors VALUES (?, ?, ?) ON CONFLICT (partition)"
            " DO UPDATE SET pos = excluded.pos, epoch = excluded.epoch",
            (partition, cursor.pos, cursor.epoch),
        )

        self.touched.partitions.add(partition)

    def cursors(self) -> Mapping[int, Cursor]:
        rows = self.db.execute("SELECT partition, pos, epoch FROM cursors ORDER BY partition")
        return {row[0]: Cursor(row[1], row[2]) for row in rows}

    def counts(self) -> Counts:
        rows = dict(self.db.execute("SELECT name, count FROM counts").fetchall())
        return Counts(
            deliveries={
                name.partition("/")[2]: count
                for name, count in rows.items()
                if name.startswith("delivery/") and count
            },
            clients_online=rows.get("client/online", 0),
            clients_in_grace=rows.get("client/grace", 0),
            clients_waiting=rows.get("client/waiting", 0),
            clients_known=sum(rows.get(f"client/{one.value}", 0) for one in Standing),
            handovers=self.db.execute("SELECT count(*) FROM handovers").fetchone()[0],
            fanouts=self.db.execute("SELECT count(*) FROM fanouts").fetchone()[0],
        )

    def set_epoch(self, epoch: int) -> None:
        """Raise the fence."""
        self._put_meta("epoch", str(epoch))

    def _meta(self, name: str) -> str | None:
        row = self.db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else None

    def _put_meta(self, name: str, value: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


class SqliteStore:
    """The store in `<data_dir>/presence.sqlite`. `clock` is the store's clock, in seconds."""

    def __init__(self, data_dir: str, clock: Callable[[], float] = time.time) -> None:
        self._path = Path(data_dir) / "presence.sqlite"
        self._clock = clock
        self._epoch = 0
        self._partitions = 0
        self._lock_fd = -1
        self._thread = ThreadPoolExecutor(1, "presence-store")
        self._queued = asyncio.Semaphore(_QUEUED_MAX)
        self._listeners: list[Callable[[Touched], None]] = []
        # Since when nothing could be written; None: the last write was.
        self.full_since: float | None = None

    async def open(self) -> None:
        """Open or create the file. Raises StartError naming what is wrong with it."""
        await self._run(self._open)

    async def claim(self, epoch: int, partitions: int) -> None:
        await self._run(lambda: self._claim(epoch, partitions))

    async def write(self, work: Callable[[Transaction], T]) -> T:
        result, touched = await self._run(lambda: self._write(work))
        for listener in self._listeners:
            listener(touched)
        return result

    def on_commit(self, listener: Callable[[Touched], None]) -> None:
        self._listeners.append(listener)

    async def read(self, work: Callable[[Transaction], T]) -> T:
        return await self._run(lambda: self._read(work))

    async def close(self) -> None:
        await self._run(self._close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        await self._queued.acquire()
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        # A cancelled caller must not leave its slot while its work is still queued.
        future.add_done_callback(lambda _: self._queued.release())
        return await asyncio.shield(future)

    # -- on the thread ------------------------------------------------------------------------

    def _open(self) -> None:
        directory = self._path.parent
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock_fd = os.open(directory / "presence.lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"another process uses the data directory {directory}; stop it, or set "
                "ONWARD_PRESENCE_DATA_DIR to another"
            ) from None
        except OSError as error:
            raise StartError(
                f"the data directory {directory} cannot be used ({error.strerror}); set "
                "ONWARD_PRESENCE_DATA_DIR to one that this user can write"
            ) from None
        try:
            self._db = sqlite3.connect(
                self._path, isolation_level=None, cached_statements=512, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > _SCHEMA_VERSION:
                raise StartError(
                    f"{self._path} was written by another version of Onward (schema {version}, "
                    f"this one knows {_SCHEMA_VERSION}); run the version that wrote it"
                )
            if version < _SCHEMA_VERSION:
                before, after = change_from(version, self._clock())
                self._db.executescript(
                    f"BEGIN; {before} {_SCHEMA.read_text()} {after}"
                    f" PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT"
                )
        except sqlite3.Error as error:
            raise StartError(
                f"{self._path} cannot be opened ({error}); restore it, or set "
                "ONWARD_PRESENCE_DATA_DIR to another directory"
            ) from None

    def _close(self) -> None:
        if hasattr(self, "_db"):
            self._db.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _claim(self, epoch: int, partitions: int) -> None:
        self._partitions = partitions

        def raise_fence(tx: SqliteTransaction) -> None:
            stored = tx.epoch()
            if epoch <= stored:
                raise Deposed(f"the presence store was claimed in epoch {stored}, above {epoch}")
            tx.set_epoch(epoch)

        self._transact(raise_fence)
        self._epoch = epoch

    def _write(self, work: Callable[[SqliteTransaction], T]) -> tuple[T, Touched]:
        def fenced(tx: SqliteTransaction) -> tuple[T, Touched]:
            if tx.epoch() != self._epoch or self._epoch == 0:
                raise Deposed("another process has claimed the presence store")
            return work(tx), tx.touched

        return self._transact(fenced)

    def _transact(self, work: Callable[[SqliteTransaction], T]) -> T:
        tx = SqliteTransaction(self._db, self._clock(), self._partitions)
        before = self._db.total_changes
        try:
            self._db.execute("BEGIN IMMEDIATE")
            began = time.perf_counter()
            result = work(tx)
            worked = time.perf_counter()
            self._db.execute("COMMIT")
            _work_seconds.observe(worked - began)
            _commit_seconds.observe(time.perf_counter() - worked)
            if self._db.total_changes > before:  # Else it needed no space.
                self.full_since = None
        except BaseException as error:  # Whatever ended the work undoes it, and is passed on.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) and (
                error.sqlite_errorcode & 0xFF in _FULL
            ):
                self.full_since = self.full_since or self._clock()
                raise StoreFull(f"the presence store cannot be written ({error})") from error
            raise
        return result

    def _read(self, work: Callable[[SqliteTransaction], T]) -> T:
        return work(SqliteTransaction(self._db, self._clock(), self._partitions))
