"""The tables of the SQLite log store, and how a connection to them is set up.

Knows SQL and files. Must not know what the rows mean to anybody. SQLite has no data-modifying CTE,
so an append is several statements in one BEGIN IMMEDIATE; there is one writer connection, which is
also the only one that checkpoints (versions before 3.51.3 can corrupt a WAL that two connections
reset at once).
"""

import fcntl
import os
import secrets
import sqlite3
import time
from pathlib import Path

from services.chassis.errors import StartError
from services.coordinator.sql_rows import ROW_BYTES_SQL
from services.coordinator.store import publication_key

FILE = "log.sqlite3"
SCHEMA_VERSION = 2
_BUSY_MS = 5_000
_CACHE_KIB = 32 * 1024

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (
    p INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, tail INTEGER NOT NULL DEFAULT 0,
    low INTEGER NOT NULL DEFAULT 0, seq_floor INTEGER NOT NULL DEFAULT 0, owner TEXT NOT NULL,
    bytes INTEGER NOT NULL DEFAULT 0, generation_floor INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS heads (
    subject TEXT PRIMARY KEY, p INTEGER NOT NULL, seq INTEGER NOT NULL,
    low INTEGER NOT NULL DEFAULT 0, epoch INTEGER NOT NULL,
    used_at INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (
    p INTEGER NOT NULL, pos INTEGER NOT NULL, kind INTEGER NOT NULL, subject TEXT, seq INTEGER,
    epoch INTEGER NOT NULL, recorded_at INTEGER NOT NULL, entry BLOB NOT NULL,
    PRIMARY KEY (p, pos)) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS log_by_subject ON log (subject, seq) WHERE subject IS NOT NULL;
-- A copy of its own: it outlives the log's.
CREATE TABLE IF NOT EXISTS retained (
    subject TEXT PRIMARY KEY, p INTEGER NOT NULL, pos INTEGER NOT NULL, seq INTEGER NOT NULL,
    entry BLOB NOT NULL);
-- Rowids rise with time, so the oldest are found without an index of their own.
CREATE TABLE IF NOT EXISTS publications (
    id INTEGER PRIMARY KEY, p INTEGER NOT NULL, key BLOB NOT NULL UNIQUE, digest BLOB NOT NULL,
    seq INTEGER NOT NULL, epoch INTEGER NOT NULL, recorded_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, p INTEGER NOT NULL, session_id TEXT NOT NULL, number INTEGER NOT NULL,
    pos INTEGER NOT NULL, generation INTEGER NOT NULL, recorded_at INTEGER NOT NULL,
    UNIQUE (session_id, number));
CREATE TABLE IF NOT EXISTS registers (
    p INTEGER NOT NULL, user TEXT NOT NULL, client_id TEXT NOT NULL, generation INTEGER NOT NULL,
    session_id TEXT NOT NULL, edge_id INTEGER NOT NULL, online INTEGER NOT NULL,
    observer INTEGER NOT NULL, forgotten INTEGER NOT NULL, follows TEXT NOT NULL,
    endpoints TEXT NOT NULL, seen_at INTEGER NOT NULL,
    PRIMARY KEY (user, client_id)) WITHOUT ROWID;
"""

# From schema 1 to 2. Subjects count as used at the moment of the change.
_MIGRATION_2 = f"""
CREATE TABLE retained (
    subject TEXT PRIMARY KEY, p INTEGER NOT NULL, pos INTEGER NOT NULL, seq INTEGER NOT NULL,
    entry BLOB NOT NULL);
ALTER TABLE publications RENAME TO publications_1;
CREATE TABLE publications (
    id INTEGER PRIMARY KEY, p INTEGER NOT NULL, key BLOB NOT NULL UNIQUE, digest BLOB NOT NULL,
    seq INTEGER NOT NULL, epoch INTEGER NOT NULL, recorded_at INTEGER NOT NULL);
INSERT INTO publications
    SELECT id, p, publication_key(subject, publisher, publication_id), digest, seq, epoch,
    recorded_at FROM publications_1 ORDER BY id;
DROP TABLE publications_1;
ALTER TABLE parts ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE parts ADD COLUMN generation_floor INTEGER NOT NULL DEFAULT 0;
ALTER TABLE heads ADD COLUMN used_at INTEGER NOT NULL DEFAULT 0;
UPDATE heads SET used_at = {{now_ms}};
UPDATE parts SET bytes = coalesce((SELECT sum({ROW_BYTES_SQL}) FROM log WHERE log.p = parts.p), 0);
"""


def lock(directory: Path) -> int:
    """Hold the directory for this process; returns the descriptor that holds it.

    Raises StartError if it cannot be used, or another process holds it. The kernel lets go of it
    however the process ends.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(
            f"the data directory {directory} cannot be used ({error.strerror}); make it a folder "
            "that this user can write, or set ONWARD_COORDINATOR_DATA_DIR to another"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StartError(
            f"the data directory {directory} is in use by another process; stop that one, or set "
            "ONWARD_COORDINATOR_DATA_DIR to another"
        ) from None
    return descriptor


def open_writer(directory: Path) -> tuple[sqlite3.Connection, str]:
    """The one connection that writes, its tables made, and the log id. Raises StartError."""
    try:
        connection = sqlite3.connect(
            directory / FILE, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StartError(
                f"the log in {directory} was written by another version of Onward (schema "
                f"{version}, this one knows {SCHEMA_VERSION}); run the version that wrote it"
            )
        if version < SCHEMA_VERSION:
            connection.create_function("publication_key", 3, publication_key, deterministic=True)
            change = _MIGRATION_2.format(now_ms=int(time.time() * 1000)) if version else _SCHEMA
            connection.executescript(
                f"BEGIN; {change} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
            )
        connection.execute(
            "INSERT INTO meta VALUES ('log_id', ?) ON CONFLICT DO NOTHING", (secrets.token_hex(8),)
        )
        log_id = connection.execute("SELECT value FROM meta WHERE name = 'log_id'").fetchone()[0]
    except sqlite3.Error as error:
        raise StartError(
            f"the log in {directory} cannot be opened ({error}); restore the folder from a backup, "
            "or free disk space"
        ) from None
    return connection, str(log_id)


def open_reader(directory: Path) -> sqlite3.Connection:
    """A connection that reads, never writes, never checkpoints."""
    connection = sqlite3.connect(
        directory / FILE, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection
