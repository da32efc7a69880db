"""The tables of the PostgreSQL log store, and how they come to be.

Knows SQL. Must not know what the rows mean to anybody. Whichever coordinator starts first makes the
tables, and later ones find them; a change of the schema only adds, so that coordinators of the
version before, which are still running, go on working. They have a schema of their own within the
database, so that presence may use the same database.
"""

import secrets

import psycopg

from services.chassis import logs
from services.chassis.errors import StartError
from services.coordinator.postgres_sessions import SCHEMA, connect, fault_of

log = logs.get(__name__)

SCHEMA_VERSION = 1
# Any number, as long as everybody who changes the schema takes the same.
_LOCK = 7_203_541_889
# A change of the schema may take its time, and others wait for it.
_ANSWER_S = 60.0

# Names are compared byte by byte, whatever the database is set to. The partitions' rows are written
# with every commit: with room in their pages, and cleaned up often, they stay few pages.
_VERSION_1 = """
CREATE TABLE meta (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE clocks (
    boot_id text PRIMARY KEY, offset_ms bigint NOT NULL,
    adopted_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE parts (
    p int PRIMARY KEY, epoch bigint NOT NULL, tail bigint NOT NULL DEFAULT 0,
    low bigint NOT NULL DEFAULT 0, seq_floor bigint NOT NULL DEFAULT 0, owner text NOT NULL,
    bytes bigint NOT NULL DEFAULT 0, generation_floor bigint NOT NULL DEFAULT 0,
    recorded_at bigint NOT NULL DEFAULT 0, written_at bigint NOT NULL DEFAULT 0)
    WITH (fillfactor = 30, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE TABLE heads (
    subject text COLLATE "C" PRIMARY KEY, p int NOT NULL, seq bigint NOT NULL,
    low bigint NOT NULL DEFAULT 0, epoch bigint NOT NULL, used_at bigint NOT NULL)
    WITH (fillfactor = 80);
CREATE TABLE log (
    p int NOT NULL, pos bigint NOT NULL, kind int NOT NULL, subject text COLLATE "C", seq bigint,
    epoch bigint NOT NULL, recorded_at bigint NOT NULL, entry bytea NOT NULL,
    PRIMARY KEY (p, pos));
CREATE UNIQUE INDEX log_by_subject ON log (subject, seq) WHERE subject IS NOT NULL;
CREATE TABLE retained (
    subject text COLLATE "C" PRIMARY KEY, p int NOT NULL, pos bigint NOT NULL, seq bigint NOT NULL,
    entry bytea NOT NULL);
CREATE TABLE publications (
    key bytea PRIMARY KEY, p int NOT NULL, digest bytea NOT NULL, seq bigint NOT NULL,
    epoch bigint NOT NULL, recorded_at bigint NOT NULL);
CREATE INDEX publications_by_age ON publications (recorded_at);
CREATE TABLE events (
    session_id text COLLATE "C" NOT NULL, number bigint NOT NULL, p int NOT NULL,
    pos bigint NOT NULL, generation bigint NOT NULL, recorded_at bigint NOT NULL,
    PRIMARY KEY (session_id, number));
CREATE INDEX events_by_age ON events (recorded_at);
CREATE TABLE registers (
    p int NOT NULL, "user" text COLLATE "C" NOT NULL, client_id text COLLATE "C" NOT NULL,
    generation bigint NOT NULL, session_id text NOT NULL, edge_id bigint NOT NULL,
    online boolean NOT NULL, observer boolean NOT NULL, forgotten boolean NOT NULL,
    follows text NOT NULL, endpoints text NOT NULL, seen_at bigint NOT NULL,
    PRIMARY KEY ("user", client_id));
"""
# What leads from the version before to each.
_CHANGES = {1: _VERSION_1}


def prepare(address: str) -> str:
    """Make the tables, or bring them up to date; returns the log id.

    Raises Unavailable if no primary answers, and StartError for what waiting would not mend.
    """
    try:
        with connect(address, _ANSWER_S) as connection:
            version = _version(connection)
            if version < SCHEMA_VERSION:
                with connection.transaction():
                    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                    _change(connection, _version(connection))
            elif version > SCHEMA_VERSION:
                raise StartError(
                    f"the log was written by a newer version of Onward (schema {version}, this "
                    f"one knows {SCHEMA_VERSION}); run that version"
                )
            if not _value(connection, "synchronous_standby_names"):
                log.warning("store_without_standby")
            row = connection.execute("SELECT value FROM meta WHERE name = 'log_id'").fetchone()
    except psycopg.OperationalError as error:
        raise fault_of(error) from None
    except psycopg.Error as error:
        raise StartError(
            f"the tables of the log cannot be made ({type(error).__name__}); give the role of "
            "ONWARD_COORDINATOR_STORE the right to create a schema in its database"
        ) from None
    assert row is not None
    return str(row[0])


def _version(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    """The version of the schema; 0: there is none yet."""
    # Not by to_regclass, which may not see yet what another has made while this one waited.
    found = connection.execute(
        "SELECT FROM pg_tables WHERE schemaname = %s AND tablename = 'meta'", (SCHEMA,)
    ).fetchone()
    if found is None:
        return 0
    row = connection.execute("SELECT value::int FROM meta WHERE name = 'schema'").fetchone()
    assert row is not None and isinstance(row[0], int)
    return row[0]


def _change(connection: psycopg.Connection[tuple[object, ...]], version: int) -> None:
    """From `version` to the present one, within the caller's transaction."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    for number in range(version + 1, SCHEMA_VERSION + 1):
        connection.execute(_CHANGES[number])
    connection.execute(
        "INSERT INTO meta VALUES ('schema', %s) ON CONFLICT (name) DO UPDATE "
        "SET value = excluded.value",
        (str(SCHEMA_VERSION),),
    )
    connection.execute(
        "INSERT INTO meta VALUES ('log_id', %s) ON CONFLICT DO NOTHING", (secrets.token_hex(8),)
    )


def _value(connection: psycopg.Connection[tuple[object, ...]], name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])
