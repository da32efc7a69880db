"""What leaves the PostgreSQL log store: old ids, old entries, surplus messages, unused subjects.

Each removal looks first, and then removes a bounded slice in one statement behind the fence (see
`services.coordinator.postgres_fence`). What it looked at stays as it was, because the owner of a
partition writes one thing after the other. Floors rise in the same statement: whoever asks for what
is gone is told. Ids have no owner: whoever comes first removes them, and nobody waits for another.
"""

import os
from collections.abc import Mapping

from services.chassis.postgres import Connection
from services.coordinator.postgres_fence import NOW_MS, literal
from services.coordinator.sql_rows import ROW_BYTES_SQL
from services.coordinator.store import Keep

_PROBE_BYTES = 1024 * 1024
# Does not wait for a standby, for what may come back in a fail-over. While there is none, each that
# waited would keep a connection of the server's.
_LOCAL = "SELECT set_config('synchronous_commit', 'local', true)"
_BOOTS_MAX = 1_000  # remembered; beyond it the first are forgotten, which are long over


def forget_ids(connection: Connection, before_ms: int, limit: int) -> int:
    """Remove ids of publications and events, the oldest first."""
    row = connection.execute(
        "WITH a AS (DELETE FROM publications WHERE key = ANY (ARRAY("
        "SELECT key FROM publications WHERE recorded_at < %(before)s "
        "ORDER BY recorded_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)) RETURNING 1), "
        "old AS (SELECT session_id, number FROM events WHERE recorded_at < %(before)s "
        "ORDER BY recorded_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED), "
        "b AS (DELETE FROM events USING old WHERE events.session_id = old.session_id "
        "AND events.number = old.number RETURNING 1) "
        f"SELECT (SELECT count(*) FROM a) + (SELECT count(*) FROM b), ({_LOCAL})",
        {"before": before_ms, "limit": limit},
    ).fetchone()
    assert row is not None
    return int(row[0])


def sweep(
    connection: Connection,
    partition: int,
    epoch: int,
    keep: Keep,
    limit: int,
    bytes_enough: int | None = None,
) -> int:
    """Remove a partition's entries older than `keep.since_ms`, from its beginning."""
    rows = connection.execute(
        f"SELECT log.pos, subject, log.seq, log.recorded_at, {ROW_BYTES_SQL} "
        "FROM parts JOIN log ON log.p = parts.p AND log.pos > parts.low "
        "WHERE parts.p = %s AND parts.epoch = %s AND log.pos <= %s ORDER BY log.pos LIMIT %s",
        (partition, epoch, keep.below_pos, limit),
    )
    removed = size = low = 0
    floors: dict[str, int] = {}
    for pos, subject, seq, recorded_at, row_size in rows:
        if recorded_at >= keep.since_ms or (bytes_enough is not None and size >= bytes_enough):
            break
        removed, size, low = removed + 1, size + row_size, pos
        if subject is not None:
            floors[subject] = seq
    if not removed:
        return 0
    taken = connection.execute(
        "WITH l AS (SELECT p FROM parts WHERE p = %(p)s AND epoch = %(epoch)s "
        "FOR NO KEY UPDATE), "
        "f AS (UPDATE parts SET low = %(low)s, bytes = bytes - %(size)s FROM l "
        "WHERE parts.p = l.p AND parts.epoch = %(epoch)s RETURNING parts.p), "
        "gone AS (DELETE FROM log USING f WHERE log.p = f.p AND pos <= %(low)s), "
        "floors AS (UPDATE heads SET low = greatest(low, u.seq) "
        "FROM unnest(%(subjects)b::text[], %(seqs)s::bigint[]) AS u(subject, seq), f "
        "WHERE heads.subject = u.subject) "
        "SELECT p FROM f",
        {
            "p": partition,
            "epoch": epoch,
            "low": low,
            "size": size,
            # Never empty, so that its type is known: nothing is called that.
            "subjects": ["", *floors],
            "seqs": literal([0, *floors.values()]),
        },
    ).fetchone()
    return removed if taken else 0


def shorten(
    connection: Connection,
    partition: int,
    epoch: int,
    subject: str,
    keep: Keep,
    limit: int,
) -> int:
    """Remove a subject's oldest messages while it has more than `keep.messages`."""
    row = connection.execute(
        f"SELECT max(log.seq), sum({ROW_BYTES_SQL})::bigint, count(*) "
        "FROM parts JOIN heads USING (p) JOIN log USING (p, subject) "
        "WHERE heads.subject = %(subject)s AND parts.p = %(p)s AND parts.epoch = %(epoch)s "
        "AND log.seq > heads.low "
        "AND log.seq <= least(heads.seq - %(messages)s, heads.low + %(limit)s) "
        "AND log.recorded_at < %(young)s AND log.pos <= %(below)s",
        {
            "subject": subject,
            "p": partition,
            "epoch": epoch,
            "messages": keep.messages,
            "limit": limit,
            "young": keep.young_since_ms,
            "below": keep.below_pos,
        },
    ).fetchone()
    if row is None or row[0] is None:
        return 0
    # Older ones may look younger, by the clock of another machine: they go with it.
    upto = row[0]
    gone = connection.execute(
        "WITH l AS (SELECT p FROM parts WHERE p = %(p)s AND epoch = %(epoch)s "
        "FOR NO KEY UPDATE), "
        "gone AS (DELETE FROM log USING l WHERE log.p = l.p AND subject = %(subject)s "
        f"AND seq <= %(upto)s RETURNING {ROW_BYTES_SQL} AS size), "
        "f AS (UPDATE parts SET bytes = bytes - (SELECT coalesce(sum(size), 0) FROM gone)::bigint "
        "FROM l WHERE parts.p = l.p RETURNING parts.p), "
        "floor AS (UPDATE heads SET low = %(upto)s FROM f WHERE subject = %(subject)s) "
        "SELECT count(*) FROM gone",
        {"p": partition, "epoch": epoch, "subject": subject, "upto": upto},
    ).fetchone()
    return int(gone[0]) if gone else 0


def forget_subjects(
    connection: Connection,
    terms: Mapping[int, int],
    after: str,
    before_ms: int,
    limit: int,
) -> tuple[int, str | None]:
    """Remove heads that are unused and have nothing in the log, among the next `limit`."""
    rows = connection.execute(
        "SELECT subject, p, seq, low, used_at FROM heads WHERE subject > %s::text "
        "ORDER BY subject LIMIT %s",
        (after, limit),
    ).fetchall()
    gone = [
        (subject, partition, seq)
        for subject, partition, seq, low, used_at in rows
        if low >= seq and used_at < before_ms and partition in terms
    ]
    removed = 0
    if gone:
        subjects, partitions, seqs = zip(*gone, strict=True)
        row = connection.execute(
            "WITH b AS (SELECT * FROM unnest(%(p)s::int[], %(epoch)s::bigint[]) AS b(p, epoch)), "
            "u AS (SELECT * FROM unnest(%(subjects)b::text[], %(partitions)s::int[], "
            "%(seqs)s::bigint[]) AS u(subject, p, seq)), "
            "l AS (SELECT parts.p FROM parts JOIN b USING (p) WHERE parts.epoch = b.epoch "
            "ORDER BY parts.p FOR NO KEY UPDATE OF parts), "
            "f AS (UPDATE parts SET seq_floor = greatest(seq_floor, "
            "(SELECT max(seq) FROM u WHERE u.p = parts.p)) FROM l WHERE parts.p = l.p "
            "RETURNING parts.p), "
            "a AS (DELETE FROM heads USING u, f WHERE heads.subject = u.subject AND u.p = f.p "
            "AND heads.seq = u.seq RETURNING 1), "
            "c AS (DELETE FROM retained USING u, f WHERE retained.subject = u.subject "
            "AND u.p = f.p) SELECT count(*) FROM a",
            {
                "p": literal(sorted(set(partitions))),
                "epoch": literal(terms[p] for p in sorted(set(partitions))),
                "subjects": list(subjects),
                "partitions": literal(partitions),
                "seqs": literal(seqs),
            },
        ).fetchone()
        removed = int(row[0]) if row else 0
    return removed, rows[-1][0] if len(rows) == limit else None


def probe(connection: Connection) -> None:
    """Write a mebibyte that cannot be compressed, as a commit of many messages would."""
    connection.execute(
        "INSERT INTO meta VALUES ('probe', %s) ON CONFLICT (name) DO UPDATE "
        "SET value = excluded.value",
        (os.urandom(_PROBE_BYTES // 2).hex(),),
    )
    connection.execute("DELETE FROM meta WHERE name = 'probe'")


def adopt_clock(connection: Connection, boot_id: str, since_boot_ms: int) -> int:
    """The offset of this boot of a machine; if it has none yet, one by which it agrees with the
    others.

    What the others wrote last tells where they are, and by the clock of the database how long ago
    that is. So it matters little what the wall clocks of the machines say, and that of the database
    may jump: by it only the time since the last append is measured.
    """
    row = connection.execute(
        "SELECT offset_ms FROM clocks WHERE boot_id = %s", (boot_id,)
    ).fetchone()
    if row is None:
        connection.execute(
            f"INSERT INTO clocks (boot_id, offset_ms) SELECT %s, coalesce("
            f"(SELECT recorded_at + greatest(0, {NOW_MS} - written_at) FROM parts "
            f"WHERE recorded_at > 0 ORDER BY recorded_at DESC LIMIT 1), {NOW_MS}) - %s "
            f"FROM ({_LOCAL}) AS local ON CONFLICT DO NOTHING",
            (boot_id, since_boot_ms),
        )
        connection.execute(
            "DELETE FROM clocks WHERE boot_id IN "
            "(SELECT boot_id FROM clocks ORDER BY adopted_at DESC OFFSET %s)",
            (_BOOTS_MAX,),
        )
        row = connection.execute(
            "SELECT offset_ms FROM clocks WHERE boot_id = %s", (boot_id,)
        ).fetchone()
    assert row is not None
    return int(row[0])
