"""Threads with a connection to PostgreSQL each, remade by themselves after it broke.

Knows psycopg, deadlines and which failures leave an outcome unknown; must not know tables. There is
one thread that writes, so that what one process writes is serial by construction, and some that
read. Both speak to the primary, whichever of the hosts in the address that is.

A connection that failed in any way is closed for good, and every other one is remade before it is
used again: after a fail-over, none of them may go on reading what the former primary had. It is
closed without cancelling what it waits for. A cancelled commit that waits for its standby would
become visible although no standby has it; a forgotten one stays invisible, holding its rows, until
the standby has it or the primary is no more.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import psycopg

from services.chassis import postgres
from services.chassis.errors import Fault, StoreFull, Unavailable
from services.chassis.postgres import Connection

R = TypeVar("R")

SCHEMA = "onward_log"
_READERS = 2
# Written nothing, for certain. The first: no room. The other: not a primary, or set to read only.
_FULL_STATES = frozenset({"53100", "25006"})
# No statement here is part of a longer transaction; should one ever be, it must not last.
_IDLE_IN_TRANSACTION_MS = 1_000


def address_of(url: str) -> str:
    """What libpq connects to. Raises StartError."""
    return postgres.address_of(url, "ONWARD_COORDINATOR_STORE", "onward-coordinator")


def connect(address: str, answer_s: float) -> Connection:
    """A connection to the primary, set up. Raises psycopg.Error."""
    return postgres.connect(Connection, address, SCHEMA, answer_s, _IDLE_IN_TRANSACTION_MS)


def fault_of(error: psycopg.Error) -> Fault:
    """The fault that a failure is. Its words hold nothing that anybody sent: what PostgreSQL says
    of a row names the row."""
    if error.sqlstate in _FULL_STATES:
        return StoreFull("the disk of the log is full or read-only")
    if error.sqlstate:
        return Unavailable(f"the log store failed ({type(error).__name__}, {error.sqlstate})")
    first = (str(error).strip().splitlines() or [""])[0]
    return Unavailable(f"the log store did not answer ({type(error).__name__}: {first})")


class Sessions:
    """All connections of a store. `log_id`: the log that each of them must be to."""

    def __init__(self, address: str, log_id: str, answer_s: float) -> None:
        self._address = address
        self._log_id = log_id
        self._answer_s = answer_s
        self._writer = ThreadPoolExecutor(1, "log-writer")
        self._readers = ThreadPoolExecutor(_READERS, "log-reader")
        self._breaks = 0  # how often one broke
        self._own = threading.local()
        self._open: set[Connection] = set()

    async def write(self, work: Callable[..., R], *arguments: object) -> R:
        """Run `work(connection, …)` on the thread that writes."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, self._work, work, arguments)

    async def read(self, work: Callable[..., R], *arguments: object) -> R:
        """Run `work(connection, …)` on a thread that reads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._work, work, arguments)

    def close(self) -> None:
        """Finish what was begun, and close everything."""
        self._readers.shutdown()
        self._writer.shutdown()
        for connection in self._open:
            connection.close()

    def _work(self, work: Callable[..., R], arguments: Sequence[object]) -> R:
        connection = self._connection()
        connection.deadline = time.monotonic() + self._answer_s
        try:
            result = work(connection, *arguments)
        except psycopg.Error as error:
            self._end(connection)
            raise fault_of(error) from None
        if connection.warned:
            self._end(connection)
            raise Unavailable("a commit did not wait for its standby")
        return result

    def _connection(self) -> Connection:
        """This thread's, made now if it has none that may be used."""
        breaks, connection = getattr(self._own, "held", (0, None))
        if connection is not None:
            if breaks == self._breaks and not connection.closed:
                return connection  # type: ignore[no-any-return]
            self._close(connection)
        self._own.held = (0, None)
        breaks = self._breaks
        try:
            connection = connect(self._address, self._answer_s)
            self._open.add(connection)
            found = connection.execute("SELECT value FROM meta WHERE name = 'log_id'").fetchone()
        except psycopg.Error as error:
            if connection is not None:
                self._close(connection)
            raise fault_of(error) from None
        if found is None or found[0] != self._log_id:
            self._close(connection)
            raise Unavailable("PostgreSQL holds another log than at the start of this process")
        self._own.held = (breaks, connection)
        return connection

    def _end(self, connection: Connection) -> None:
        self._breaks += 1
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.close()
