"""Claims and appends in PostgreSQL: what may be written, and the writing of it, in one statement.

Knows SQL and rows, must not know how anything is decided. No statement here is part of a longer
transaction: a client that is stopped between two of them would hold its locks. So an append is one
statement, whose first parts are the fence:

- `b`: what the caller takes its partitions to be.
- `l`: locks those that still are so, in the order of their numbers: two that lock in different
  orders would wait for one another.
- `f`: moves their tails. All else that the statement writes is of partitions in `f`, and they are
  what it returns. The others have been deposed.

What a statement of another owner has changed in the meantime, `l` sees: it waits for the lock, and
then looks again.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from services.chassis.postgres import Connection
from services.coordinator.sql_rows import claim_refusal, growth, register_row
from services.coordinator.store import Claimed, ClaimRefused, Part, Writes

NOW_MS = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"


class Decided(NamedTuple):
    """What was decided about a partition, and how it was before."""

    p: int
    part: Part
    writes: Writes


class _Step(NamedTuple):
    """A part of the statement behind the fence. `columns`: name and type of what it is given;
    `{rows}` stands for those of its rows whose partition is in `f`."""

    columns: tuple[tuple[str, str], ...]
    statement: str


def _columns(words: str) -> tuple[tuple[str, str], ...]:
    pairs = [word.split() for word in words.split(",")]
    return tuple((name, kind) for name, kind in pairs)


_FENCE_COLUMNS = _columns(
    "p int, epoch bigint, tail bigint, n bigint, size bigint, generation_floor bigint"
)
_STEPS = {
    "log": _Step(
        _columns("p int, pos bigint, kind int, subject text, seq bigint, epoch bigint,entry bytea"),
        "INSERT INTO log (p, pos, kind, subject, seq, epoch, recorded_at, entry) "
        "SELECT p, pos, kind, nullif(subject, ''), seq, epoch, %(at)s, entry FROM {rows}",
    ),
    "heads": _Step(
        _columns("p int, subject text, seq bigint, low bigint, epoch bigint"),
        "INSERT INTO heads (subject, p, seq, low, epoch, used_at) "
        "SELECT subject, p, seq, low, epoch, %(at)s FROM {rows} ON CONFLICT (subject) DO UPDATE "
        "SET seq = excluded.seq, epoch = excluded.epoch, used_at = excluded.used_at",
    ),
    "retained": _Step(
        _columns("p int, subject text, pos bigint, seq bigint, entry bytea"),
        "INSERT INTO retained (subject, p, pos, seq, entry) "
        "SELECT subject, p, pos, seq, entry FROM {rows} ON CONFLICT (subject) DO UPDATE "
        "SET p = excluded.p, pos = excluded.pos, seq = excluded.seq, entry = excluded.entry",
    ),
    "unretained": _Step(
        _columns("p int, subject text"),
        "DELETE FROM retained WHERE subject = ANY (ARRAY(SELECT subject FROM {rows}))",
    ),
    "publications": _Step(
        _columns("p int, key bytea, digest bytea, seq bigint, epoch bigint"),
        "INSERT INTO publications (key, p, digest, seq, epoch, recorded_at) "
        "SELECT key, p, digest, seq, epoch, %(at)s FROM {rows}",
    ),
    "events": _Step(
        _columns("p int, session_id text, number bigint, pos bigint, generation bigint"),
        "INSERT INTO events (session_id, number, p, pos, generation, recorded_at) "
        "SELECT session_id, number, p, pos, generation, %(at)s FROM {rows}",
    ),
    "registers": _Step(
        _columns(
            'p int, "user" text, client_id text, generation bigint, session_id text, '
            "edge_id bigint, online boolean, observer boolean, forgotten boolean, follows text, "
            "endpoints text, seen_at bigint"
        ),
        'INSERT INTO registers (p, "user", client_id, generation, session_id, edge_id, online, '
        "observer, forgotten, follows, endpoints, seen_at) SELECT * FROM {rows} "
        'ON CONFLICT ("user", client_id) DO UPDATE SET p = excluded.p, '
        "generation = excluded.generation, session_id = excluded.session_id, "
        "edge_id = excluded.edge_id, online = excluded.online, observer = excluded.observer, "
        "forgotten = excluded.forgotten, follows = excluded.follows, "
        "endpoints = excluded.endpoints, seen_at = excluded.seen_at",
    ),
    "unregistered": _Step(
        _columns('p int, "user" text, client_id text'),
        'DELETE FROM registers USING {rows} WHERE registers."user" = u."user" '
        "AND registers.client_id = u.client_id",
    ),
}


def claim(
    connection: Connection, epochs: Mapping[int, int], owner: str, tails: Mapping[int, int]
) -> Mapping[int, Claimed | ClaimRefused]:
    """Make epochs take effect. That the commit of a claim has reached the standby means that all
    that was committed before has, whatever was told of it."""
    partitions = sorted(epochs)
    known = connection.execute(
        "SELECT count(*) FROM parts WHERE p = ANY (%s::int[])", (literal(partitions),)
    ).fetchone()
    if known is None or known[0] < len(partitions):
        # The rows that are to be locked must be there. Nobody has the epoch 0.
        connection.execute(
            "INSERT INTO parts (p, epoch, owner) SELECT p, 0, '' FROM unnest(%s::int[]) AS b(p) "
            "ORDER BY p ON CONFLICT DO NOTHING",
            (literal(partitions),),
        )
    rows = connection.execute(
        "WITH b AS (SELECT * FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) "
        "AS b(p, epoch, tail)), "
        "l AS (SELECT parts.p, parts.epoch, parts.tail FROM parts JOIN b USING (p) "
        "ORDER BY parts.p FOR NO KEY UPDATE OF parts), "
        "f AS (UPDATE parts SET epoch = b.epoch, owner = %s FROM b JOIN l ON l.p = b.p "
        "WHERE parts.p = b.p AND parts.epoch < b.epoch AND parts.tail >= b.tail "
        "RETURNING parts.p) "
        "SELECT l.p, l.epoch, l.tail, l.p IN (SELECT p FROM f) FROM l",
        (
            literal(partitions),
            literal(epochs[p] for p in partitions),
            literal(tails.get(p, 0) for p in partitions),
            owner,
        ),
    ).fetchall()
    outcomes: dict[int, Claimed | ClaimRefused] = {}
    for p, epoch, tail, taken in rows:
        refusal = claim_refusal(epochs[p], tails.get(p, 0), epoch, tail)
        assert taken == (refusal is None)
        outcomes[p] = refusal or Claimed(tail)
    return outcomes


def append(connection: Connection, at_ms: int, decided: Sequence[Decided]) -> frozenset[int]:
    """Write what was decided; recorded at `at_ms` (steady). Returns the partitions of which nothing
    was written, because they are not any more as they were."""
    rows = _rows(at_ms, decided)
    fence = [
        (it.p, it.part.epoch, it.part.tail, *growth(it.part, it.writes), it.writes.generation_floor)
        for it in decided
        if it.writes != Writes()
    ]
    if not fence:
        return frozenset()
    used = {name: rows[name] for name in _STEPS if rows[name]}
    arguments: dict[str, object] = {"at": at_ms, **_arguments("b", _FENCE_COLUMNS, fence)}
    for name, its in used.items():
        arguments.update(_arguments(name, _STEPS[name].columns, its))
    kept = connection.execute(_statement(tuple(used)), arguments).fetchall()
    return frozenset(it[0] for it in fence) - {p for (p,) in kept}


@cache
def _statement(steps: tuple[str, ...]) -> str:
    """The append that has these steps. Only those that have rows: each costs, even without any."""
    parts = [
        f"b AS (SELECT * FROM {_unnest('b', _FENCE_COLUMNS, 'b')})",
        "l AS (SELECT parts.p FROM parts JOIN b USING (p) "
        "WHERE parts.epoch = b.epoch AND parts.tail = b.tail "
        "ORDER BY parts.p FOR NO KEY UPDATE OF parts)",
        "f AS (UPDATE parts SET tail = parts.tail + b.n, bytes = parts.bytes + b.size, "
        "generation_floor = greatest(parts.generation_floor, b.generation_floor), "
        f"recorded_at = greatest(parts.recorded_at, %(at)s), written_at = {NOW_MS} "
        "FROM b JOIN l ON l.p = b.p "
        "WHERE parts.p = b.p AND parts.epoch = b.epoch AND parts.tail = b.tail "
        "RETURNING parts.p)",
    ]
    for name in steps:
        columns, statement = _STEPS[name]
        # IS TRUE keeps it from being turned into a join, which without statistics is a nested loop
        # of all rows with all partitions.
        rows = (
            f"(SELECT u.* FROM {_unnest(name, columns, 'u')} "
            "WHERE (u.p IN (SELECT p FROM f)) IS TRUE) AS u"
        )
        parts.append(f"{name}_ AS ({statement.format(rows=rows)})")
    return f"WITH {', '.join(parts)} SELECT p FROM f"


def _unnest(step: str, columns: Sequence[tuple[str, str]], alias: str) -> str:
    arrays = ", ".join(
        f"%({_argument(step, name)}){'b' if kind in _AS_LISTS else 's'}::{kind}[]"
        for name, kind in columns
    )
    return f"unnest({arrays}) AS {alias}({', '.join(name for name, _ in columns)})"


# Others are written as literals, which is faster, and does not make the type depend on the values.
_AS_LISTS = frozenset({"text", "bytea"})


def _arguments(
    step: str, columns: Sequence[tuple[str, str]], rows: Sequence[tuple[object, ...]]
) -> dict[str, object]:
    return {
        _argument(step, name): list(values) if kind in _AS_LISTS else literal(values)
        for (name, kind), values in zip(columns, zip(*rows, strict=True), strict=True)
    }


def _argument(step: str, column: str) -> str:
    return f"{step}_{column.strip(chr(34))}"


def literal(values: Iterable[object]) -> str:
    """An array of numbers or truth values, as PostgreSQL reads it."""
    return "{" + ",".join("NULL" if it is None else str(it) for it in values) + "}"


def _rows(at_ms: int, decided: Sequence[Decided]) -> dict[str, list[tuple[object, ...]]]:
    """What each step is given."""
    rows: dict[str, list[tuple[object, ...]]] = {name: [] for name in _STEPS}
    for p, part, writes in decided:
        epoch = part.epoch
        rows["log"] += [
            (p, row.pos, row.kind, row.subject or "", row.seq, epoch, row.entry)
            for row in writes.rows
        ]
        rows["heads"] += [
            (p, subject, seq, part.seq_floor, epoch) for subject, seq in writes.heads.items()
        ]
        for subject, kept in writes.retained.items():
            if kept is None:
                rows["unretained"].append((p, subject))
            else:
                rows["retained"].append((p, subject, kept.pos, kept.seq, kept.entry))
        rows["publications"] += [
            (p, key, it.digest, it.seq, it.epoch) for key, it in writes.publications.items()
        ]
        rows["events"] += [
            (p, key.session_id, key.number, it.pos, it.generation)
            for key, it in writes.events.items()
        ]
        # One statement does not write a row twice.
        rows["registers"] += [
            register_row(p, it, at_ms)
            for client, it in writes.registers.items()
            if client not in writes.forgotten
        ]
        rows["unregistered"] += [(p, *client) for client in writes.forgotten]
    return rows
