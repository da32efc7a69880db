"""Builds the indexes that a change of the schema wants on tables of a former version, in use.

To build one takes minutes where there are millions of rows, so each is built CONCURRENTLY: outside
a transaction, without a deadline, while everybody reads and writes; what asks for it is slower
until then. One replica at a time builds; the others look again until all are there. One that was
left half-built, as its builder ended, is INVALID, and dropped first. What another replaces goes
last, since replicas of the former version may ask for it.

Knows PostgreSQL. Must not know the rows. To drive it: `is_wanted(connection)`; then `run()` in a
task, and `end()`, after which the task ends soon.
"""

import asyncio
import math
import time

import psycopg

from services.chassis import logs
from services.presence.postgres_connection import SCHEMA, Connection, connect

log = logs.get(__name__)

# As postgres_schema.sql has them.
INDEXES = {
    "registers_idle": 'registers (since, "user", client_id)'
    " WHERE standing = 'online' AND active = 0 AND away <> generation",
    "follows_open": 'follows (subject, "user", client_id) WHERE ended = 0',
    "follows_own": 'follows (last_generation, "user", subject)'
    " WHERE client_id = '@self' AND ended = 0",
    "deliveries_due_by_rank": "deliveries (keeper, scheme, rank, due_at) WHERE due_at IS NOT NULL",
    "deliveries_dead": "deliveries (id) WHERE state = 'dead'",
}
# Replaced by the others.
FORMER = ("deliveries_due",)
# Any number but that of the schema's changes. It is tried, not waited for: who waits in a statement
# would be waited for by the builder.
_LOCK = 7_203_541_891
_AGAIN_S = 2.0

_THERE = """
SELECT c.relname::text, i.indisvalid FROM pg_class AS c JOIN pg_index AS i ON i.indexrelid = c.oid
WHERE c.relnamespace = %s::regnamespace AND c.relname = ANY (%s)
"""


def is_wanted(connection: Connection) -> bool:
    """Whether there is anything to build, or to drop."""
    there = _there(connection)
    return not all(map(there.get, INDEXES)) or any(name in there for name in FORMER)


def _there(connection: Connection) -> dict[str, bool]:
    """By name, whether an index is valid."""
    names = [*INDEXES, *FORMER]
    return {row[0]: row[1] for row in connection.execute(_THERE, (SCHEMA, names)).fetchall()}


class Indexes:
    """Builds them, on a connection and a thread of its own."""

    def __init__(self, address: str, answer_s: float) -> None:
        self._address = address
        self._answer_s = answer_s
        self._connection: Connection | None = None
        self._ending = asyncio.Event()

    async def run(self) -> None:
        """Work until all are there, or the end."""
        while not self._ending.is_set():
            try:
                if await asyncio.to_thread(self._step):
                    return
            except psycopg.Error as error:
                if not self._ending.is_set():
                    log.warning("index_fault", fault=type(error).__name__, state=error.sqlstate)
            try:
                async with asyncio.timeout(_AGAIN_S):
                    await self._ending.wait()
            except TimeoutError:
                pass

    def end(self) -> None:
        """Have what is being built given up; another start builds it anew."""
        self._ending.set()
        if self._connection is not None:
            self._connection.cancel()

    def _step(self) -> bool:
        """Build what there is to build, unless another does; whether all is there."""
        with connect(self._address, self._answer_s) as connection:
            connection.deadline = math.inf
            connection.execute("SET statement_timeout = 0")
            self._connection = connection
            try:
                return not is_wanted(connection) or self._build(connection)
            finally:
                self._connection = None

    def _build(self, connection: Connection) -> bool:
        [[mine]] = connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchall()
        if not mine:
            return False
        there = _there(connection)
        for name, definition in INDEXES.items():
            if there.get(name):
                continue
            if self._ending.is_set():
                return False
            began = time.monotonic()
            if name in there:
                connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            connection.execute(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")
            log.info("index_built", index=name, seconds=round(time.monotonic() - began, 1))
        for name in FORMER:
            connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        return True
