"""A log that a former version wrote goes on working."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.coordinator.sql_rows import row_bytes
from services.coordinator.sqlite_store import SqliteStore
from services.coordinator.store import (
    Claimed,
    Facts,
    Head,
    Keep,
    LogRow,
    Lookup,
    Part,
    Publication,
    Stamp,
    Writes,
    publication_key,
)

Run = Callable[[Any], Any]

# As it was written, word for word, while the schema was 1.
SCHEMA_1 = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (
    p INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, tail INTEGER NOT NULL DEFAULT 0,
    low INTEGER NOT NULL DEFAULT 0, seq_floor INTEGER NOT NULL DEFAULT 0, owner TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS heads (
    subject TEXT PRIMARY KEY, p INTEGER NOT NULL, seq INTEGER NOT NULL,
    low INTEGER NOT NULL DEFAULT 0, epoch INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (
    p INTEGER NOT NULL, pos INTEGER NOT NULL, kind INTEGER NOT NULL, subject TEXT, seq INTEGER,
    epoch INTEGER NOT NULL, recorded_at INTEGER NOT NULL, entry BLOB NOT NULL,
    PRIMARY KEY (p, pos)) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS log_by_subject ON log (subject, seq) WHERE subject IS NOT NULL;
CREATE TABLE IF NOT EXISTS publications (
    id INTEGER PRIMARY KEY, p INTEGER NOT NULL, subject TEXT NOT NULL, publisher TEXT NOT NULL,
    publication_id TEXT NOT NULL, digest BLOB NOT NULL, seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL, recorded_at INTEGER NOT NULL,
    UNIQUE (subject, publisher, publication_id));
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
INSERT INTO meta VALUES ('log_id', 'the same');
INSERT INTO parts VALUES (1, 5, 3, 0, 0, 'c1'), (2, 5, 0, 0, 0, 'c1');
INSERT INTO heads VALUES ('/a', 1, 2, 0, 5);
INSERT INTO log VALUES (1, 2, 1, '/a', 1, 5, 100, x'0102'), (1, 3, 1, '/a', 2, 5, 100, x'03');
INSERT INTO log VALUES (1, 1, 3, NULL, NULL, 5, 100, x'0405');
INSERT INTO publications VALUES (1, 1, '/a', 'bob', 'p1', x'64', 1, 5, 100);
INSERT INTO registers VALUES (1, 'ann', 'c', 4, 's1', 7, 0, 0, 0, '["/a"]', '["fcm:1"]', 100);
PRAGMA user_version = 1;
"""
EVERYTHING = row_bytes("/a", b"12") + row_bytes("/a", b"1") + row_bytes(None, b"12")


def written(directory: Path) -> None:
    connection = sqlite3.connect(directory / "log.sqlite3")
    connection.executescript(SCHEMA_1)
    connection.close()


def test_a_log_of_schema_1_keeps_everything_and_takes_more(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        written(tmp_path)
        for _ in range(2):  # The second start finds the present schema.
            store = SqliteStore.open(tmp_path)
            assert store.log_id == "the same"
            assert await store.log_bytes() == EVERYTHING
            await store.close()
        store = SqliteStore.open(tmp_path)
        assert await store.claim({1: 6}, "c1", {}) == {1: Claimed(3)}
        seen: list[Facts] = []

        def decide(_: int, facts: Facts) -> Writes:
            seen.append(facts)
            row = LogRow(4, 1, "/a", 3, b"four")
            return Writes(rows=[row], heads={"/a": 3}, retained={"/a": row})

        key = publication_key("/a", "bob", "p1")
        lookups = {1: Lookup(["/a"], [key], (), [("ann", "c")])}
        assert not await store.append(Stamp(0, 200), {1: 6}, lookups, decide)
        assert seen[0].part == Part(6, 3, 0, 0, 0) and seen[0].heads == {"/a": Head(2, 0)}
        assert seen[0].publications == {key: Publication(b"d", 1, 5)}
        assert seen[0].registers["ann"]["c"].generation == 4
        assert [it.seq for it in (await store.read_messages(1, "/a", 0, 9, 99)).messages] == [
            1,
            2,
            3,
        ]
        assert await store.log_bytes() == EVERYTHING + row_bytes("/a", b"four")
        await store.close()

    run(body())


def test_the_count_of_bytes_stays_right_through_appends_and_removals(
    run: Run, tmp_path: Path
) -> None:
    async def body() -> None:
        written(tmp_path)
        store = SqliteStore.open(tmp_path)
        rows = [LogRow(pos, 1, "/ä", pos - 3, b"x" * pos) for pos in range(4, 12)]
        writes = Writes(rows=rows, heads={"/ä": 8})
        await store.append(Stamp(0, 300), {1: 5}, {1: Lookup()}, lambda p, facts: writes)
        keep = Keep(since_ms=200, messages=3, young_since_ms=400, below_pos=100)
        assert await store.shorten(1, 5, "/ä", keep, 2) == 2
        assert await store.sweep(1, 5, keep, 100) == 3
        assert await store.log_bytes() == sum(row_bytes("/ä", it.entry) for it in rows[2:])
        await store.close()

    run(body())
