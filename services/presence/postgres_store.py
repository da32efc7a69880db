"""The presence store in PostgreSQL: for several presence services.

One connection of each on one thread. A transaction begins by locking and reading the row of its
term, and who closes the term writes that row: so nothing commits in a term that is closed. Who
closes one does not wait for a process that stands still within a transaction; it ends its session.

Where a commit's outcome is not known (the connection broke, or the commit did not wait for its
standby), the term is given up. Whoever takes over finds what there is: cursors and effects are
one transaction, so that repeating it harms nobody.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import TypeGuard, TypeVar

import psycopg

from services.chassis import logs
from services.chassis.errors import Deposed, Fault, StartError, StoreFull, Unavailable
from services.presence import postgres_indexes
from services.presence.postgres_connection import (
    APPLICATION,
    SCHEMA,
    Connection,
    PostgresSql,
    address_of,
    connect,
)
from services.presence.postgres_indexes import Indexes
from services.presence.serial_store import SerialStore, commit_seconds, work_seconds
from services.presence.sql import Statement, listed
from services.presence.store import NOTHING, Mine
from services.presence.transaction import SqlTransaction

T = TypeVar("T")

log = logs.get(__name__)

_SCHEMA_SQL = Path(__file__).with_name("postgres_schema.sql")
_COUNTS_SQL = Path(__file__).with_name("postgres_counts.sql")
# What brings a store of a former version to the next, from version 1 on.
_STEPS_SQL = [Path(__file__).with_name(f"postgres_from_{version}.sql") for version in (1, 2)]
_SCHEMA_VERSION = 3
# Any number, as long as everybody who changes the schema takes the same.
_SCHEMA_LOCK = 7_203_541_890
# A change of the schema waits for others, and others that open the store wait for it.
_SCHEMA_ANSWER_S = 60.0
# How long it waits for each table, since all who come after it wait for it there. If that is not
# enough the start fails, changes nothing, and is to be repeated.
_TABLE_WAIT_MS = 5_000
# After a try to connect that failed, others fail at once for this long: many may be queued.
_RECONNECT_PAUSE_S = 0.5
# How long a transaction of a term that is to be closed is waited for before its session is ended.
_CLOSE_WAIT_MS = 1_000
_FULL_STATE = "53100"
# It ends, or begins, or cannot be reached, or is no primary.
_AWAY_STATES = ("57P", "08", "25006")
# Not a primary any more, or set to read only; stood still within a transaction for too long.
_SESSION_STATES = frozenset({"25006", "25P03"})

_NOW = "extract(epoch FROM clock_timestamp())::float8"
# The slot is where the triggers count: no two open terms wait for each other's rows.
_FENCE = (
    f"SELECT {_NOW}, set_config('onward.slot', slot::text, true) FROM terms"
    " WHERE id = %s AND closed = 0 FOR SHARE"
)
_WITHOUT_FENCE = f"SELECT {_NOW}, ''"
_META = "SELECT name, value FROM meta"
_END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name IN (SELECT value FROM each_text(?))
"""


class PostgresStore(SerialStore):
    """The store at `url`. `answer_s`: longest time that an answer is waited for; `clock`: takes the
    place of the database's, for tests."""

    def __init__(self, url: str, answer_s: float, clock: Callable[[], float] | None = None) -> None:
        super().__init__()
        self._address = address_of(url)
        self._answer_s = answer_s
        self._clock = clock
        self._connection: Connection | None = None
        self._connect_after = 0.0
        self._unindexed = False
        self._indexes: Indexes | None = None
        self._building: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await super().open()
        if self._unindexed:
            self._indexes = Indexes(self._address, self._answer_s)
            self._building = asyncio.create_task(self._indexes.run())

    async def close(self) -> None:
        if self._indexes is not None and self._building is not None:
            self._indexes.end()
            await self._building
        await super().close()

    def _open(self) -> None:
        try:
            with connect(self._address, _SCHEMA_ANSWER_S) as connection:
                _prepare(connection)
                self._unindexed = postgres_indexes.is_wanted(connection)
        except psycopg.OperationalError as error:
            raise _fault_of(error) from None
        except psycopg.Error as error:
            raise StartError(
                f"the tables of presence cannot be made ({type(error).__name__}); give the role "
                "of ONWARD_PRESENCE_STORE the right to create a schema in its database"
            ) from None

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _transact(
        self, work: Callable[[SqlTransaction], T], mine: Mine = NOTHING, closing: bool = False
    ) -> T:
        try:
            return self._attempt(work, mine, closing)
        except _StandsStill as fault:
            log.warning("term_ended_by_force", terms=fault.terms)
            names = listed(f"{APPLICATION}/{own_id}" for own_id in fault.terms)
            self._read(lambda tx: tx.db.rows(_END_SESSIONS, (names,)))
        try:
            return self._attempt(work, mine, closing)
        except _StandsStill:
            raise Unavailable("a former owner of presence does not let go") from None

    def _attempt(self, work: Callable[[SqlTransaction], T], mine: Mine, closing: bool) -> T:
        connection = self._connected()
        committing = False
        tx: SqlTransaction | None = None
        try:
            connection.name_after(mine.term)
            sql, tx = self._begin(connection, mine, closing)
            began = time.perf_counter()
            result = work(tx)
            worked = time.perf_counter()
            committing = True
            committed = sql.flush([("COMMIT", ())])[-1]
            # A transaction that has failed answers ROLLBACK.
            assert committed.statusmessage == "COMMIT", committed.statusmessage
            work_seconds.observe(worked - began)
            commit_seconds.observe(time.perf_counter() - worked)
        except BaseException as error:  # Whatever ended the work undoes it, and is passed on.
            unknown = committing and connection.lost
            self._undo(connection, error)
            if unknown:
                self._depose()
                raise Unavailable("it is not known whether presence's store committed") from None
            if isinstance(error, psycopg.errors.LockNotAvailable) and tx is not None and tx.closing:
                raise _StandsStill(tx.closing) from None
            if _is_fault(error):
                raise self._noted(error) from None
            raise
        if connection.warned:
            self._end()
            self._depose()
            raise Unavailable("a commit did not wait for its standby")
        self.full_since = self.unanswered_since = None
        return result

    def _begin(
        self, connection: Connection, mine: Mine, closing: bool
    ) -> tuple[PostgresSql, SqlTransaction]:
        """A transaction in which the term's row is locked, at the time of the lock."""
        sql = PostgresSql(connection, self._clock)
        first: list[Statement] = [("BEGIN", ())]
        if closing:
            first.append((f"SET LOCAL lock_timeout = {_CLOSE_WAIT_MS}", ()))
        first.append((_FENCE, (mine.term,)) if mine.term else (_WITHOUT_FENCE, ()))
        *_, fence, meta = sql.flush([*first, (_META, ())])
        found = fence.fetchall()
        if not found:
            self._depose()
            raise Deposed("another process has closed this term of the presence store")
        sql.began_at = found[0][0]
        return sql, SqlTransaction(sql, self._partitions, mine, dict(meta.fetchall()))

    def _read(self, work: Callable[[SqlTransaction], T]) -> T:
        sql = PostgresSql(self._connected(), self._clock)
        try:
            return work(SqlTransaction(sql, self._partitions, self.mine))
        except psycopg.Error as error:
            # What cannot be sent at all, as a text with a zero in it, has not reached the server.
            if not isinstance(error, psycopg.DataError) or error.sqlstate:
                self._end()
            if _is_fault(error):
                raise _fault_of(error) from None
            raise

    # -- the connection -----------------------------------------------------------------------

    def _connected(self) -> Connection:
        """The connection, made now if there is none that can be used."""
        if self._connection is not None:
            if not (self._connection.closed or self._connection.broken):
                return self._connection
            self._end()
        if time.monotonic() < self._connect_after:
            raise Unavailable("the presence store cannot be reached")
        try:
            self._connection = connect(self._address, self._answer_s)
        except psycopg.Error as error:
            self._connect_after = time.monotonic() + _RECONNECT_PAUSE_S
            fault = self._noted(error)
            log.warning("store_unavailable", fault=str(fault))
            raise fault from None
        return self._connection

    def _undo(self, connection: Connection, error: BaseException) -> None:
        """Roll back; if that is not certain, end the connection, which does it too."""
        ended = isinstance(error, psycopg.Error) and error.sqlstate in _SESSION_STATES
        try:
            if not connection.lost and not ended:
                connection.send([("ROLLBACK", ())])
                return
        except psycopg.Error:
            pass
        self._end()

    def _end(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def _noted(self, error: psycopg.Error) -> Fault:
        fault = _fault_of(error)
        if isinstance(fault, StoreFull):
            self.full_since = self.full_since or time.time()
        elif not error.sqlstate or error.sqlstate.startswith(_AWAY_STATES):
            self.unanswered_since = self.unanswered_since or time.monotonic()
        return fault


class _StandsStill(Exception):
    """A process holds the row of a term that is to be closed, within a transaction."""

    def __init__(self, terms: Collection[int]) -> None:
        super().__init__()
        self.terms = terms


def _is_fault(error: BaseException) -> TypeGuard[psycopg.Error]:
    """Whether the server, or the way to it, is at fault; otherwise it is a bug."""
    if isinstance(error, psycopg.Error) and error.sqlstate in _SESSION_STATES:
        return True
    return isinstance(error, psycopg.OperationalError)


def _fault_of(error: psycopg.Error) -> Fault:
    """The fault that a failure is. Its words hold nothing that anybody sent: what PostgreSQL says
    of a row names the row."""
    if error.sqlstate == _FULL_STATE:
        return StoreFull("the disk of the presence store is full")
    if error.sqlstate:
        return Unavailable(f"the presence store failed ({type(error).__name__}, {error.sqlstate})")
    return Unavailable(f"the presence store did not answer ({type(error).__name__})")


def _prepare(connection: Connection) -> None:
    """Make the tables, or find them at this version."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
        [[encoding, standby, found]] = connection.execute(
            "SELECT current_setting('server_encoding'),"
            " current_setting('synchronous_standby_names'), to_regclass(%s)::text",
            (f"{SCHEMA}.meta",),
        ).fetchall()
        if encoding != "UTF8":
            raise StartError(
                f"the database of ONWARD_PRESENCE_STORE has the encoding {encoding}; create one "
                "with UTF8"
            )
        version = 0
        if found is not None:
            [[value]] = connection.execute(
                "SELECT value FROM meta WHERE name = 'schema'"
            ).fetchall()
            version = int(value)
        if version > _SCHEMA_VERSION:
            raise StartError(
                f"the presence store was written by a newer version of Onward (schema {version}, "
                f"this one knows {_SCHEMA_VERSION}); run that version"
            )
        if version < _SCHEMA_VERSION:
            connection.execute(f"SET LOCAL lock_timeout = {_TABLE_WAIT_MS}")
            for step in _STEPS_SQL[version - 1 :] if version else [_SCHEMA_SQL]:
                connection.execute(step.read_text())
            connection.execute(_COUNTS_SQL.read_text())
            connection.execute(
                "INSERT INTO meta VALUES ('schema', %s)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (str(_SCHEMA_VERSION),),
            )
    if not standby:
        log.warning("store_without_standby")
