"""What leaves the SQLite log store: old ids, old entries, surplus messages.

Each function is the body of one write transaction and removes a bounded slice, so that no commit
waits long behind it. Floors rise in the same transaction: whoever asks for what is gone is told.
"""

import sqlite3

from services.coordinator.sqlite_schema import ROW_BYTES_SQL
from services.coordinator.store import Keep


def forget_ids(connection: sqlite3.Connection, before_ms: int, limit: int) -> int:
    """Remove ids of publications and events; rowids rise with time, so the oldest come first."""
    removed = 0
    for table in ("publications", "events"):
        removed += connection.execute(
            f"DELETE FROM {table} WHERE recorded_at < ?1 AND id IN "
            f"(SELECT id FROM {table} ORDER BY id LIMIT ?2)",
            (before_ms, limit),
        ).rowcount
    return removed


def sweep(
    connection: sqlite3.Connection, partition: int, epoch: int, keep: Keep, limit: int
) -> int:
    """Remove a partition's entries older than `keep.since_ms`, from its beginning."""
    part = connection.execute(
        "SELECT low FROM parts WHERE p = ? AND epoch = ?", (partition, epoch)
    ).fetchone()
    if part is None:
        return 0
    rows = connection.execute(
        f"SELECT pos, subject, seq, recorded_at, {ROW_BYTES_SQL} FROM log "
        "WHERE p = ? AND pos > ? AND pos <= ? ORDER BY pos LIMIT ?",
        (partition, part[0], keep.below_pos, limit),
    ).fetchall()
    old = []
    for row in rows:
        if row[3] >= keep.since_ms:
            break
        old.append(row)
    if not old:
        return 0
    low = old[-1][0]
    connection.execute("DELETE FROM log WHERE p = ? AND pos <= ?", (partition, low))
    connection.execute(
        "UPDATE parts SET low = ?, bytes = bytes - ? WHERE p = ?",
        (low, sum(row[4] for row in old), partition),
    )
    floors = {row[1]: row[2] for row in old if row[1] is not None}
    connection.executemany(
        "UPDATE heads SET low = max(low, ?2) WHERE subject = ?1", list(floors.items())
    )
    return len(old)


def shorten(
    connection: sqlite3.Connection,
    partition: int,
    epoch: int,
    subject: str,
    keep: Keep,
    limit: int,
) -> int:
    """Remove a subject's oldest messages while it has more than `keep.messages`."""
    head = connection.execute(
        "SELECT heads.seq, heads.low FROM heads JOIN parts USING (p) "
        "WHERE subject = ? AND p = ? AND parts.epoch = ?",
        (subject, partition, epoch),
    ).fetchone()
    if head is None:
        return 0
    seq, low = head
    upto = min(seq - keep.messages, low + limit)
    row = connection.execute(
        "SELECT max(seq) FROM log WHERE subject = ? AND seq > ? AND seq <= ? "
        "AND recorded_at < ? AND pos <= ?",
        (subject, low, upto, keep.young_since_ms, keep.below_pos),
    ).fetchone()
    if row[0] is None:
        return 0
    size = connection.execute(
        f"SELECT sum({ROW_BYTES_SQL}) FROM log WHERE subject = ? AND seq <= ?", (subject, row[0])
    ).fetchone()[0]
    removed = connection.execute(
        "DELETE FROM log WHERE subject = ? AND seq <= ?", (subject, row[0])
    ).rowcount
    connection.execute("UPDATE parts SET bytes = bytes - ? WHERE p = ?", (size, partition))
    connection.execute("UPDATE heads SET low = ? WHERE subject = ?", (row[0], subject))
    return removed
