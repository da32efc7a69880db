"""Presence's connection to PostgreSQL, and the SQL of rows on it.

Knows psycopg, and how statements are written and sent. Must not know tables or epochs.
What returns nothing is sent together with the next statement that returns rows, or with the commit,
so that a transaction costs as many round trips as it has reads, and two more.
"""

import functools
import json
import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg.types.numeric import Int8Dumper

from services.chassis import postgres
from services.presence.sql import Row, Statement

SCHEMA = "onward_presence"
# How sessions call themselves, with `/` and their term.
APPLICATION = "onward-presence"
# How often a statement is sent before the server is asked to keep its plan; and of how many.
_PREPARED_FROM, _PREPARED_MAX = 2, 400
# A transaction of a process that stands still gives its locks up after this long: other processes
# may wait for the users that it has locked. Whoever closes its term does not wait for it.
_IDLE_IN_TRANSACTION_MS = 2_000
# Names are locked by their hashes, in one order, so that nobody waits for one who waits for him.
# Few enough hashes that all of them fit into the table of locks as it is by default.
_LOCK_HASHES = 2_048
_LOCK = (
    "SELECT pg_advisory_xact_lock(7203541, hash) FROM (SELECT DISTINCT"
    f" (hashtext(name) & {_LOCK_HASHES - 1}) AS hash"
    " FROM json_array_elements_text(%s::json) AS each(name) ORDER BY hash) AS hashes"
)
_EACH_TEXT = "json_array_elements_text(?::json) AS each(value)"
_EACH_NUMBER = f"(SELECT value::bigint AS value FROM {_EACH_TEXT}) AS each_number"


@functools.cache
def in_postgres(sql: str) -> str:
    """A statement in the words of PostgreSQL and its driver."""
    sql = sql.replace("each_text(?)", _EACH_TEXT).replace("each_number(?)", _EACH_NUMBER)
    sql = sql.replace("CROSS JOIN", "JOIN").replace("?", "%s")
    # Without quotes it is the role that asks.
    return re.sub(r'(?<!")\buser\b(?!")', '"user"', sql)


@functools.cache
def _insert(table: str, columns: str, conflict: str) -> tuple[str, Sequence[str]]:
    sql = (
        f"INSERT INTO {table} ({columns}) SELECT {columns}"
        f" FROM json_populate_recordset(NULL::{table}, ?) {conflict}"
    )
    return in_postgres(sql), [column.strip() for column in columns.split(",")]


def _as_bytea(value: bytes) -> str:
    """Bytes as text that PostgreSQL reads them from."""
    return "\\x" + value.hex()


def address_of(url: str) -> str:
    """What libpq connects to. Raises StartError."""
    return postgres.address_of(url, "ONWARD_PRESENCE_STORE", APPLICATION)


class Connection(postgres.Connection):
    """A connection with a deadline for each round trip."""

    answer_s = math.inf
    named = 0  # the term that it is named after

    def name_after(self, term: int) -> None:
        """Tell other sessions in which term this one works. Raises psycopg.Error."""
        if self.named != term:
            self.send([(f"SET application_name = '{APPLICATION}/{term}'", ())])
            self.named = term

    def send(self, statements: Sequence[Statement]) -> list[psycopg.Cursor[Row]]:
        """Run statements in one round trip; the cursor of each. Raises psycopg.Error."""
        self.deadline = time.monotonic() + self.answer_s
        if len(statements) == 1:
            [(sql, parameters)] = statements
            return [self.execute(sql, parameters)]
        with self.pipeline():
            # Its end waits for all answers, and lets the server count this session as idle.
            return [self.execute(sql, parameters) for sql, parameters in statements]


def connect(address: str, answer_s: float) -> Connection:
    """A connection to the primary, set up. Raises psycopg.Error."""
    connection = postgres.connect(Connection, address, SCHEMA, answer_s, _IDLE_IN_TRANSACTION_MS)
    connection.answer_s = answer_s
    connection.prepare_threshold = _PREPARED_FROM
    connection.prepared_max = _PREPARED_MAX
    # Otherwise each size of a number would make another statement to be prepared.
    connection.adapters.register_dumper(int, Int8Dumper)
    return connection


class PostgresSql:
    """`sql.Sql` on a connection. `clock`: takes the place of the database's, for tests."""

    def __init__(self, connection: Connection, clock: Callable[[], float] | None = None) -> None:
        self._connection = connection
        self._clock = clock
        # Of the moment when the transaction began.
        self.began_at: float | None = None
        self._unsent: list[Statement] = []

    def now(self) -> float:
        if self._clock is not None:
            return self._clock()
        if self.began_at is not None:
            return self.began_at
        [[at]] = self.rows("SELECT extract(epoch FROM clock_timestamp())::float8")
        return float(at)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self.rows_of_all([(sql, parameters)])[0]

    def rows_of_all(self, statements: Sequence[Statement]) -> list[list[Row]]:
        if not statements:
            return []
        asked = [(in_postgres(sql), parameters) for sql, parameters in statements]
        cursors = self.flush(asked)
        return [cursor.fetchall() for cursor in cursors[-len(asked) :]]

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._unsent.append((in_postgres(sql), parameters))

    def lock(self, names: Sequence[str]) -> bool:
        if names:
            self._unsent.append((_LOCK, (json.dumps(names),)))
        return True

    def insert_all(self, table: str, columns: str, rows: Sequence[Row], conflict: str = "") -> None:
        if rows:
            sql, names = _insert(table, columns, conflict)
            named = [dict(zip(names, row, strict=True)) for row in rows]
            listed = json.dumps(named, default=_as_bytea)
            self._unsent.append((sql, (listed,)))

    def flush(self, last: Sequence[Statement]) -> list[psycopg.Cursor[Row]]:
        """Send what was not sent yet, and then `last`."""
        unsent, self._unsent = self._unsent, []
        return self._connection.send([*unsent, *last])
