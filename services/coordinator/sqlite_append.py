"""Inside an append to the SQLite log store: reading the facts, writing the decision.

Each function works within the transaction that its caller began. Knows SQL and rows, must not know
how anything is decided.
"""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from services.coordinator.sql_rows import REGISTER_COLUMNS, growth, register_of, register_row
from services.coordinator.store import (
    Facts,
    Head,
    Lookup,
    Part,
    Publication,
    RecordedEvent,
    StoredMessage,
    Writes,
)


class Decided(NamedTuple):
    """What was decided about a partition, and how it was before."""

    p: int
    part: Part
    writes: Writes


def read_part(connection: sqlite3.Connection, p: int) -> Part | None:
    """The partition; None if nobody has claimed it yet."""
    row = connection.execute(
        "SELECT epoch, tail, low, seq_floor, generation_floor FROM parts WHERE p = ?", (p,)
    ).fetchone()
    return Part(*row) if row else None


def read_head(connection: sqlite3.Connection, subject: str) -> Head | None:
    """The end of a subject; None if it has none yet."""
    row = connection.execute("SELECT seq, low FROM heads WHERE subject = ?", (subject,)).fetchone()
    return Head(*row) if row else None


def read_retained(connection: sqlite3.Connection, subject: str) -> StoredMessage | None:
    """The retained message of a subject."""
    row = connection.execute(
        "SELECT pos, seq, entry FROM retained WHERE subject = ?", (subject,)
    ).fetchone()
    return StoredMessage(*row) if row else None


def read_facts(connection: sqlite3.Connection, part: Part, lookup: Lookup) -> Facts:
    """What the store holds of what is asked for."""
    facts = Facts(part)
    for subject in lookup.subjects:
        head = read_head(connection, subject)
        if head is not None:
            facts.heads[subject] = head
    execute = connection.execute
    for key in lookup.publications:
        row = execute(
            "SELECT digest, seq, epoch FROM publications WHERE key = ?",
            (key,),
        ).fetchone()
        if row:
            facts.publications[key] = Publication(*row)
    for event in lookup.events:
        row = execute(
            "SELECT pos, generation FROM events WHERE session_id = ? AND number = ?",
            (event.session_id, event.number),
        ).fetchone()
        if row:
            facts.events[event] = RecordedEvent(*row)
    for user in {user for user, _ in lookup.clients}:
        rows = execute(
            f"SELECT {REGISTER_COLUMNS} FROM registers "
            "WHERE user = ? AND forgotten = 0 AND observer = 0",
            (user,),
        )
        facts.registers[user] = {row[1]: register_of(row) for row in rows}
    for user, client_id in lookup.clients:
        row = execute(
            f"SELECT {REGISTER_COLUMNS} FROM registers WHERE user = ? AND client_id = ?",
            (user, client_id),
        ).fetchone()
        if row:
            facts.registers[user][client_id] = register_of(row)
    for user in lookup.users:
        rows = execute(f"SELECT {REGISTER_COLUMNS} FROM registers WHERE user = ?", (user,))
        facts.registers[user] = {row[1]: register_of(row) for row in rows}
    return facts


def apply(connection: sqlite3.Connection, at_ms: int, decided: Sequence[Decided]) -> None:
    """Write what was decided about all partitions of a commit; recorded at `at_ms` (steady).

    One statement for each table, whatever the number of partitions: with few messages in each, the
    statements would cost more than the rows.
    """
    tails, rows = [], []
    for p, part, writes in decided:
        if not writes.rows:
            continue
        _, size = growth(part, writes)
        tails.append((writes.rows[-1].pos, size, p))
        rows += [
            (p, row.pos, row.kind, row.subject, row.seq, part.epoch, at_ms, row.entry)
            for row in writes.rows
        ]
    execute = connection.executemany
    execute("UPDATE parts SET tail = ?, bytes = bytes + ? WHERE p = ?", tails)
    execute("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    _write_subjects(connection, at_ms, decided)
    execute(
        "INSERT INTO publications (p, key, digest, seq, epoch, recorded_at) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        [
            (p, key, it.digest, it.seq, it.epoch, at_ms)
            for p, _, writes in decided
            for key, it in writes.publications.items()
        ],
    )
    execute(
        "INSERT INTO events (p, session_id, number, pos, generation, recorded_at) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        [
            (p, key.session_id, key.number, it.pos, it.generation, at_ms)
            for p, _, writes in decided
            for key, it in writes.events.items()
        ],
    )
    _write_registers(connection, at_ms, decided)


def _write_subjects(connection: sqlite3.Connection, at_ms: int, decided: Sequence[Decided]) -> None:
    connection.executemany(
        "INSERT INTO heads (subject, p, seq, low, epoch, used_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6) "
        "ON CONFLICT (subject) DO UPDATE SET seq = ?3, epoch = ?5, used_at = ?6",
        [
            (subject, p, seq, part.seq_floor, part.epoch, at_ms)
            for p, part, writes in decided
            for subject, seq in writes.heads.items()
        ],
    )
    for p, _, writes in decided:
        for subject, row in writes.retained.items():
            if row is None:
                connection.execute("DELETE FROM retained WHERE subject = ?", (subject,))
            else:
                connection.execute(
                    "INSERT OR REPLACE INTO retained VALUES (?, ?, ?, ?, ?)",
                    (subject, p, row.pos, row.seq, row.entry),
                )


def _write_registers(
    connection: sqlite3.Connection, at_ms: int, decided: Sequence[Decided]
) -> None:
    connection.executemany(
        f"INSERT OR REPLACE INTO registers (p, {REGISTER_COLUMNS}, seen_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            register_row(p, register, at_ms)
            for p, _, writes in decided
            for register in writes.registers.values()
        ],
    )
    connection.executemany(
        "DELETE FROM registers WHERE user = ? AND client_id = ?",
        [client for _, _, writes in decided for client in writes.forgotten],
    )
    connection.executemany(
        "UPDATE parts SET generation_floor = ? WHERE p = ?",
        [
            (writes.generation_floor, p)
            for p, part, writes in decided
            if writes.generation_floor > part.generation_floor
        ],
    )
