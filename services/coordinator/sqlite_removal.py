"""What leaves the SQLite log store: old ids, old entries, surplus messages, unused subjects.

Each function is the body of one write transaction and removes a bounded slice, so that no commit
waits long behind it. Floors rise in the same transaction: whoever asks for what is gone is told.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from services.coordinator.sql_rows import ROW_BYTES_SQL
from services.coordinator.store import Keep, Unseen, UnseenPage


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
    connection: sqlite3.Connection,
    partition: int,
    epoch: int,
    keep: Keep,
    limit: int,
    bytes_enough: int | None = None,
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
    )
    old: list[Any] = []
    size = 0
    for row in rows:
        if row[3] >= keep.since_ms or (bytes_enough is not None and size >= bytes_enough):
            break
        old.append(row)
        size += row[4]
    if not old:
        return 0
    low = old[-1][0]
    connection.execute("DELETE FROM log WHERE p = ? AND pos <= ?", (partition, low))
    connection.execute(
        "UPDATE parts SET low = ?, bytes = bytes - ? WHERE p = ?",
        (low, size, partition),
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


def oldest(connection: sqlite3.Connection, partitions: Sequence[int]) -> Mapping[int, int]:
    """When the first entry of each partition was appended; reads only."""
    found = {}
    for partition in partitions:
        row = connection.execute(
            "SELECT recorded_at FROM log WHERE p = ?1 AND pos > "
            "(SELECT low FROM parts WHERE p = ?1) ORDER BY pos LIMIT 1",
            (partition,),
        ).fetchone()
        if row is not None:
            found[partition] = row[0]
    return found


def forget_subjects(
    connection: sqlite3.Connection,
    terms: Mapping[int, int],
    after: str,
    before_ms: int,
    limit: int,
) -> tuple[int, str | None]:
    """Remove heads that are unused and have nothing in the log, among the next `limit`."""
    rows = connection.execute(
        "SELECT subject, p, seq, heads.low, used_at, parts.epoch, seq_floor FROM heads "
        "JOIN parts USING (p) WHERE subject > ? ORDER BY subject LIMIT ?",
        (after, limit),
    ).fetchall()
    gone: list[tuple[str]] = []
    floors: dict[int, int] = {}
    for subject, partition, seq, low, used_at, epoch, seq_floor in rows:
        if low >= seq and used_at < before_ms and terms.get(partition) == epoch:
            gone.append((subject,))
            floors[partition] = max(seq, floors.get(partition, seq_floor))
    connection.executemany("DELETE FROM heads WHERE subject = ?", gone)
    connection.executemany("DELETE FROM retained WHERE subject = ?", gone)
    connection.executemany("UPDATE parts SET seq_floor = ?2 WHERE p = ?1", [*floors.items()])
    return len(gone), rows[-1][0] if len(rows) == limit else None


def unseen_clients(
    connection: sqlite3.Connection, after: tuple[str, str], before_ms: int, limit: int
) -> UnseenPage:
    """Clients that wrote nothing for long, among the next `limit`; reads only."""
    rows = connection.execute(
        "SELECT p, user, client_id, generation, online, edge_id, seen_at FROM registers "
        "WHERE (user, client_id) > (?, ?) ORDER BY user, client_id LIMIT ?",
        (*after, limit),
    ).fetchall()
    unseen = [
        Unseen(p, user, client_id, generation, bool(online), edge_id)
        for p, user, client_id, generation, online, edge_id, seen_at in rows
        if seen_at < before_ms
    ]
    return UnseenPage(unseen, (rows[-1][1], rows[-1][2]) if len(rows) == limit else None)


def probe(connection: sqlite3.Connection) -> None:
    """Write a mebibyte, as a commit of many messages would."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('probe', hex(randomblob(524288)))")


def end_probe(connection: sqlite3.Connection) -> None:
    """Give back what the probe wrote. In the same transaction it would not be written at all."""
    connection.execute("DELETE FROM meta WHERE name = 'probe'")


def adopt_clock(
    connection: sqlite3.Connection, boot_id: str, since_boot_ms: int, offset_ms: int
) -> int:
    """The offset of this boot; if none was adopted yet, the given one, or what does not go back."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'clock'").fetchone()
    if row is not None:
        adopted, _, value = row[0].rpartition(" ")
        if adopted == boot_id:
            return int(value)
    offset_ms = max(offset_ms, _newest_ms(connection) - since_boot_ms)
    connection.execute(
        "INSERT OR REPLACE INTO meta VALUES ('clock', ?)", (f"{boot_id} {offset_ms}",)
    )
    return offset_ms


def _newest_ms(connection: sqlite3.Connection) -> int:
    """When something was appended last; by a clock that went back, nothing would ever be old."""
    newest = [
        "SELECT max((SELECT recorded_at FROM log WHERE log.p = parts.p ORDER BY pos DESC LIMIT 1))"
        " FROM parts",
        "SELECT max(recorded_at) FROM (SELECT recorded_at FROM publications"
        " ORDER BY id DESC LIMIT 1)",
        "SELECT max(recorded_at) FROM (SELECT recorded_at FROM events ORDER BY id DESC LIMIT 1)",
    ]
    return max(connection.execute(query).fetchone()[0] or 0 for query in newest)
