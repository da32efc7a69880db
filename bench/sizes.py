"""How much room the users of presence take in PostgreSQL: `python -m bench.sizes URL [--users N]`.

Fills the tables of presence, in an empty database that it is given, with users as they are: one
client each, three subjects that it follows and waits for, one external token, and a profile for
one in ten. Prints bytes for each user, table by table with its indices, and what ten million would
take.
The database is left as it is, to be looked at, and dropped by whoever made it.
"""

import argparse
import asyncio
import sys

import psycopg

from services.presence.postgres_store import PostgresStore

FOLLOWS = 3
_PAGE = 100_000
_SCHEMA = "onward_presence"
_TABLES = ("registers", "follows", "waiting", "endpoints", "profiles")
# `n` is the number of the user, `k` that of the subject; sizes of texts are those of real ones.
_FILL = {
    "registers": """
        INSERT INTO registers ("user", client_id, generation, session_id, edge_id, standing,
          grace_until, number, connected, ended, acknowledges, active, since, partition, info)
        SELECT 'user-' || lpad(n::text, 10, '0'), md5(n::text), 7, md5('s' || n), 7587885,
          'offline', 0, 12, 1, 1, 1, 0, 1780000000 + n, n %% 256, '{"app":"chat/1.2"}'
        FROM generate_series(%(first)s::int, %(last)s::int) AS n""",
    "follows": """
        INSERT INTO follows ("user", subject, client_id, opened, base, acked, acked_pos, ended,
          session_id, round, first_generation, last_generation, started)
        SELECT 'user-' || lpad(n::text, 10, '0'),
          '/room/' || ((n::bigint * 7919 + k * 104729) %% 1000000),
          md5(n::text), n * 3 + k, 5, 9, 1000, 0, md5('s' || n), 3, 1, 7, 9
        FROM generate_series(%(first)s::int, %(last)s::int) AS n,
          generate_series(1, %(follows)s::int) AS k
        ON CONFLICT DO NOTHING""",
    "waiting": """
        INSERT INTO waiting (subject, "user", client_id)
        SELECT '/room/' || ((n::bigint * 7919 + k * 104729) %% 1000000),
          'user-' || lpad(n::text, 10, '0'), md5(n::text)
        FROM generate_series(%(first)s::int, %(last)s::int) AS n,
          generate_series(1, %(follows)s::int) AS k
        ON CONFLICT DO NOTHING""",
    "endpoints": """
        INSERT INTO endpoints ("user", uri, clients, registered_at)
        SELECT 'user-' || lpad(n::text, 10, '0'),
          'fcm:' || repeat(md5('t' || n), 5), '["' || md5(n::text) || '"]', 1780000000
        FROM generate_series(%(first)s::int, %(last)s::int) AS n""",
    "profiles": """
        INSERT INTO profiles ("user", profile)
        SELECT 'user-' || lpad(n::text, 10, '0'),
          '{"locale": "de", "zone": "Europe/Berlin", "quiet": [1320, 420, 1, 2, 3, 4, 5, 6, 7]}'
        FROM generate_series(%(first)s::int, %(last)s::int) AS n WHERE n %% 10 = 0""",
}


def fill(url: str, users: int) -> dict[str, int]:
    """Fill the tables; the bytes of each with its indices."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"SET search_path = {_SCHEMA}")
        for first in range(1, users + 1, _PAGE):
            last = min(users, first + _PAGE - 1)
            for sql in _FILL.values():
                db.execute(sql, {"first": first, "last": last, "follows": FOLLOWS})
        for table in _TABLES:
            db.execute(f"VACUUM ANALYZE {table}")
        return {
            table: db.execute(
                "SELECT pg_total_relation_size(%s::regclass)", (f"{_SCHEMA}.{table}",)
            ).fetchall()[0][0]
            for table in _TABLES
        }


async def _prepare(url: str) -> None:
    store = PostgresStore(url, 60.0)
    await store.open()
    await store.close()


def main() -> int:
    """Fills, measures, prints."""
    parser = argparse.ArgumentParser(prog="bench.sizes", description=__doc__)
    parser.add_argument("url", help="postgresql://…, of an empty database")
    parser.add_argument("--users", type=int, default=1_000_000)
    options = parser.parse_args()
    asyncio.run(_prepare(options.url))
    sizes = fill(options.url, options.users)
    for table, size in sizes.items():
        print(f"{table:10} {size / options.users:7.0f} bytes a user")
    whole = sum(sizes.values())
    print(
        f"{'all':10} {whole / options.users:7.0f} bytes a user, {whole / 2**30:.2f} GiB for "
        f"{options.users:,}; 10,000,000 would take {whole / options.users * 1e7 / 2**30:.1f} GiB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
