"""The presence store in one SQLite file.

One connection on one thread: SQLite has one writer anyway, and a connection alone on its file is
the only checkpointer, which versions before 3.51.3 need to be safe. An exclusive `flock` keeps
other processes out. WAL with `synchronous=FULL`: what was committed is on the disk.
"""

import fcntl
import functools
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from services.chassis.errors import Deposed, StartError, StoreFull
from services.presence.clock import steady
from services.presence.serial_store import SerialStore, commit_seconds, work_seconds
from services.presence.sql import Row, Statement
from services.presence.sqlite_migration import change_from
from services.presence.store import NOTHING, Mine
from services.presence.transaction import SqlTransaction

T = TypeVar("T")

_SCHEMA = Path(__file__).with_name("sqlite_schema.sql")
_SCHEMA_VERSION = 4
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR}


@functools.cache
def in_sqlite(sql: str) -> str:
    """A statement in the words of SQLite."""
    sql = sql.replace("each_text(", "json_each(").replace("each_number(", "json_each(")
    return sql.removesuffix(" FOR UPDATE")


@functools.cache
def _insert(table: str, columns: str, conflict: str) -> str:
    places = ", ".join("?" for _ in columns.split(","))
    return f"INSERT INTO {table} ({columns}) VALUES ({places}) {conflict}"


class SqliteSql:
    """`sql.Sql` on a connection of SQLite, at a time."""

    def __init__(self, connection: sqlite3.Connection, now: float) -> None:
        self._connection = connection
        self._now = now

    def now(self) -> float:
        return self._now

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self._connection.execute(in_sqlite(sql), parameters).fetchall()

    def rows_of_all(self, statements: Sequence[Statement]) -> list[list[Row]]:
        return [self.rows(sql, parameters) for sql, parameters in statements]

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._connection.execute(in_sqlite(sql), parameters)

    def lock(self, names: Sequence[str]) -> bool:
        return False  # There is one writer at a time.

    def insert_all(self, table: str, columns: str, rows: Sequence[Row], conflict: str = "") -> None:
        self._connection.executemany(_insert(table, columns, conflict), rows)


class SqliteStore(SerialStore):
    """The store in `<data_dir>/presence.sqlite`. `clock` is the store's clock, in seconds; without
    one, the time of day at first, whose jumps it does not follow."""

    def __init__(self, data_dir: str, clock: Callable[[], float] | None = None) -> None:
        super().__init__()
        self._path = Path(data_dir) / "presence.sqlite"
        self._clock = clock or steady()
        self._lock_fd = -1

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

    def _transact(
        self, work: Callable[[SqlTransaction], T], mine: Mine = NOTHING, closing: bool = False
    ) -> T:
        before = self._db.total_changes
        try:
            # One writer at a time, and the file's only one: what the fence says stays so.
            self._db.execute("BEGIN IMMEDIATE")
            began = time.perf_counter()
            tx = self._transaction(mine)
            if mine.term and mine.term not in tx.open_terms():
                self._depose()
                raise Deposed("another process has closed this term of the presence store")
            result = work(tx)
            worked = time.perf_counter()
            self._db.execute("COMMIT")
            work_seconds.observe(worked - began)
            commit_seconds.observe(time.perf_counter() - worked)
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

    def _read(self, work: Callable[[SqlTransaction], T]) -> T:
        return work(self._transaction(self.mine))

    def _transaction(self, mine: Mine) -> SqlTransaction:
        sql = SqliteSql(self._db, self._clock())
        return SqlTransaction(sql, self._partitions, mine)
