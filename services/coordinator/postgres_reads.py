"""What is read from PostgreSQL: the facts of an append, and pages for whoever asks.

Knows SQL and rows. Facts are read before the statement that the decision about them becomes: they
stay true until then, since only the owner of a partition writes what is in it, one thing after the
other, and the fence of that statement turns down whoever is not the owner any more.

A page is one statement: what it shows was so at one moment.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from services.chassis.postgres import Connection
from services.coordinator.postgres_fence import literal
from services.coordinator.sql_rows import REGISTER_COLUMNS, register_of
from services.coordinator.store import (
    EventKey,
    Facts,
    Head,
    Lookup,
    MessagePage,
    Part,
    Publication,
    PublicationKey,
    RecordedEvent,
    Register,
    StoredEntry,
    StoredMessage,
    Unseen,
    UnseenPage,
)


def facts(
    connection: Connection, terms: Mapping[int, int], lookups: Mapping[int, Lookup]
) -> dict[int, Facts]:
    """What is asked for, of the partitions that have the epoch in `terms`."""
    rows = connection.execute(
        "SELECT p, epoch, tail, low, seq_floor, generation_floor FROM parts "
        "WHERE p = ANY (%s::int[])",
        (literal(terms),),
    )
    found = {p: Facts(Part(*part)) for p, *part in rows if part[0] == terms[p]}
    asked = {p: lookups[p] for p in found}
    heads = _heads(connection, asked)
    publications = _publications(connection, asked)
    events = _events(connection, asked)
    registers = _registers(connection, asked)
    for p, lookup in asked.items():
        it = found[p]
        it.heads = {key: heads[key] for key in lookup.subjects if key in heads}
        it.publications = {
            key: publications[key] for key in lookup.publications if key in publications
        }
        it.events = {key: events[key] for key in lookup.events if key in events}
        users = {*lookup.users, *(user for user, _ in lookup.clients)}
        it.registers = {user: registers.get(user, {}) for user in users}
    return found


def _heads(connection: Connection, asked: Mapping[int, Lookup]) -> dict[str, Head]:
    subjects = [it for lookup in asked.values() for it in lookup.subjects]
    if not subjects:
        return {}
    rows = connection.execute(
        "SELECT subject, seq, low FROM heads WHERE subject = ANY (%b::text[])", (subjects,)
    )
    return {subject: Head(*head) for subject, *head in rows}


def _publications(
    connection: Connection, asked: Mapping[int, Lookup]
) -> dict[PublicationKey, Publication]:
    keys = [it for lookup in asked.values() for it in lookup.publications]
    if not keys:
        return {}
    rows = connection.execute(
        "SELECT key, digest, seq, epoch FROM publications WHERE key = ANY (%b::bytea[])", (keys,)
    )
    return {PublicationKey(key): Publication(*it) for key, *it in rows}


def _events(connection: Connection, asked: Mapping[int, Lookup]) -> dict[EventKey, RecordedEvent]:
    keys = [it for lookup in asked.values() for it in lookup.events]
    if not keys:
        return {}
    rows = connection.execute(
        "SELECT session_id, number, pos, generation "
        "FROM unnest(%b::text[], %s::bigint[]) AS u(session_id, number) "
        "JOIN events USING (session_id, number)",
        ([key.session_id for key in keys], literal(key.number for key in keys)),
    )
    return {
        EventKey(*key): RecordedEvent(*it) for *key, it in ((a, b, (c, d)) for a, b, c, d in rows)
    }


def _registers(
    connection: Connection, asked: Mapping[int, Lookup]
) -> dict[str, dict[str, Register]]:
    clients = [it for lookup in asked.values() for it in lookup.clients]
    whole = [it for lookup in asked.values() for it in lookup.users]
    if not clients and not whole:
        return {}
    users = [*whole, *(user for user, _ in clients)]
    columns = ", ".join(f"registers.{name.strip()}" for name in REGISTER_COLUMNS.split(","))
    rows = connection.execute(
        f'SELECT {REGISTER_COLUMNS} FROM registers WHERE "user" = ANY (%b::text[]) '
        "AND NOT forgotten AND NOT observer UNION ALL "
        f'SELECT {columns} FROM unnest(%b::text[], %b::text[]) AS u("user", client_id) '
        'JOIN registers USING ("user", client_id) WHERE forgotten OR observer',
        (users, [user for user, _ in clients], [client_id for _, client_id in clients]),
    ).fetchall()
    if whole:
        rows += connection.execute(
            f'SELECT {REGISTER_COLUMNS} FROM registers WHERE "user" = ANY (%b::text[]) '
            "AND (forgotten OR observer)",
            (whole,),
        ).fetchall()
    found: dict[str, dict[str, Register]] = {}
    for row in rows:
        found.setdefault(row[0], {})[row[1]] = register_of(row)
    return found


def messages(
    connection: Connection,
    partition: int,
    subject: str,
    after_seq: int,
    limit: int,
    bytes_max: int,
) -> MessagePage:
    """A part of a subject; see LogStore.read_messages."""
    rows = connection.execute(
        "SELECT heads.seq, heads.low, page.pos, page.seq, page.entry FROM heads LEFT JOIN LATERAL "
        "(SELECT pos, seq, entry, sum(length(entry)) OVER (ORDER BY seq) AS total FROM "
        "(SELECT pos, seq, entry FROM log WHERE log.subject = heads.subject "
        "AND seq > greatest(%s, heads.low) ORDER BY seq LIMIT %s) AS few) AS page "
        "ON total <= %s OR total = length(entry) WHERE heads.subject = %s ORDER BY page.seq",
        (after_seq, limit, bytes_max, subject),
    ).fetchall()
    if not rows:
        row = connection.execute(
            "SELECT seq_floor FROM parts WHERE p = %s", (partition,)
        ).fetchone()
        floor = row[0] if row else 0
        return MessagePage((), floor, floor)
    head, low = rows[0][:2]
    return MessagePage([StoredMessage(*row[2:]) for row in rows if row[2] is not None], head, low)


def retained(connection: Connection, subject: str) -> StoredMessage | None:
    """The retained message of a subject."""
    row = connection.execute(
        "SELECT pos, seq, entry FROM retained WHERE subject = %s", (subject,)
    ).fetchone()
    return StoredMessage(*row) if row else None


def entries(
    connection: Connection, partition: int, after_pos: int, limit: int, bytes_max: int
) -> Sequence[StoredEntry]:
    """A part of a partition; see LogStore.read_entries."""
    rows = connection.execute(
        "SELECT pos, entry FROM "
        "(SELECT pos, entry, sum(length(entry)) OVER (ORDER BY pos) AS total FROM "
        "(SELECT pos, entry FROM log WHERE p = %s AND pos > %s ORDER BY pos LIMIT %s) AS few) "
        "AS page WHERE total <= %s OR total = length(entry) ORDER BY pos",
        (partition, after_pos, limit, bytes_max),
    )
    return [StoredEntry(*row) for row in rows]


def tails(connection: Connection, partitions: Sequence[int]) -> Mapping[int, int]:
    """The last pos of each partition."""
    found: dict[int, Any] = dict(connection.execute("SELECT p, tail FROM parts").fetchall())
    return {p: found.get(p, 0) for p in partitions}


def log_bytes(connection: Connection) -> int:
    """Bytes of the log."""
    row = connection.execute("SELECT coalesce(sum(bytes), 0)::bigint FROM parts").fetchone()
    assert row is not None
    return int(row[0])


def oldest(connection: Connection, partitions: Sequence[int]) -> Mapping[int, int]:
    """When the first entry of each partition was appended."""
    rows = connection.execute(
        "SELECT parts.p, first.recorded_at FROM parts CROSS JOIN LATERAL "
        "(SELECT recorded_at FROM log WHERE log.p = parts.p AND pos > parts.low "
        "ORDER BY pos LIMIT 1) AS first WHERE parts.p = ANY (%s::int[])",
        (literal(partitions),),
    )
    return dict(rows.fetchall())


def unseen_clients(
    connection: Connection, after: tuple[str, str], before_ms: int, limit: int
) -> UnseenPage:
    """Clients that wrote nothing for long, among the next `limit`."""
    rows = connection.execute(
        'SELECT p, "user", client_id, generation, online, edge_id, seen_at FROM registers '
        'WHERE ("user", client_id) > (%s::text COLLATE "C", %s::text COLLATE "C") '
        'ORDER BY "user", client_id LIMIT %s',
        (*after, limit),
    ).fetchall()
    unseen = [Unseen(*row[:6]) for row in rows if row[6] < before_ms]
    return UnseenPage(unseen, (rows[-1][1], rows[-1][2]) if len(rows) == limit else None)
