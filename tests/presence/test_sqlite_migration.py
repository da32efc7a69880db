"""A store that a former version wrote goes on working."""

import sqlite3
from pathlib import Path

import pytest

from services.chassis.errors import StartError
from services.presence.notifications import Delivery, DeliveryState
from services.presence.sqlite_store import SqliteStore
from services.presence.state import Follow, Mark, Register, Standing
from services.presence.store import Counts, Cursor
from tests.presence.test_store import with_store

NOW = 1_000.0
# As it was written while the schema was 1: what differs, word for word, and some of what does not.
SCHEMA_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE cursors (
  partition INTEGER PRIMARY KEY, pos INTEGER NOT NULL, epoch INTEGER NOT NULL
);
CREATE TABLE registers (
  user TEXT NOT NULL, client_id TEXT NOT NULL,
  generation INTEGER NOT NULL, session_id TEXT NOT NULL, edge_id INTEGER NOT NULL,
  standing TEXT NOT NULL, grace_until REAL NOT NULL, number INTEGER NOT NULL,
  connected INTEGER NOT NULL, ended INTEGER NOT NULL, acknowledges INTEGER NOT NULL,
  PRIMARY KEY (user, client_id)
) WITHOUT ROWID;
CREATE INDEX registers_in_grace ON registers (grace_until) WHERE standing = 'grace';
CREATE INDEX registers_by_edge ON registers (edge_id);
CREATE INDEX registers_online ON registers (edge_id) WHERE standing = 'online';
CREATE TABLE follows (
  user TEXT NOT NULL, subject TEXT NOT NULL, client_id TEXT NOT NULL, opened INTEGER NOT NULL,
  base INTEGER NOT NULL, acked INTEGER NOT NULL, acked_pos INTEGER NOT NULL,
  ended INTEGER NOT NULL, session_id TEXT NOT NULL, round INTEGER NOT NULL,
  first_generation INTEGER NOT NULL, last_generation INTEGER NOT NULL,
  PRIMARY KEY (user, subject, client_id, opened)
) WITHOUT ROWID;
CREATE TABLE waiting (
  subject TEXT NOT NULL, user TEXT NOT NULL, client_id TEXT NOT NULL,
  PRIMARY KEY (subject, user, client_id)
) WITHOUT ROWID;
CREATE INDEX waiting_by_user ON waiting (user);
CREATE TABLE fanouts (
  subject TEXT NOT NULL, seq INTEGER NOT NULL, pos INTEGER NOT NULL, publisher TEXT NOT NULL,
  after_user TEXT NOT NULL,
  PRIMARY KEY (subject, seq)
) WITHOUT ROWID;
CREATE TABLE handovers (
  user TEXT NOT NULL, subject TEXT NOT NULL, client_id TEXT NOT NULL, opened INTEGER NOT NULL,
  after INTEGER NOT NULL, run INTEGER NOT NULL,
  PRIMARY KEY (user, subject, client_id, opened)
) WITHOUT ROWID;
CREATE TABLE marks (
  edge_id INTEGER NOT NULL, partition INTEGER NOT NULL,
  round INTEGER NOT NULL, pos INTEGER NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (edge_id, partition)
) WITHOUT ROWID;
CREATE TABLE deliveries (
  id TEXT PRIMARY KEY, notification_id TEXT NOT NULL, user TEXT NOT NULL, subject TEXT NOT NULL,
  uri TEXT NOT NULL, scheme TEXT NOT NULL, state TEXT NOT NULL, due_at REAL,
  expires_at REAL NOT NULL, held INTEGER NOT NULL, attempts INTEGER NOT NULL,
  tries INTEGER NOT NULL, repeats_unknown INTEGER NOT NULL, reason TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE notifications (
  id TEXT PRIMARY KEY, user TEXT NOT NULL, subject TEXT NOT NULL, first_seq INTEGER NOT NULL,
  created_at REAL NOT NULL, due_at REAL NOT NULL, expires_at REAL NOT NULL,
  joinable INTEGER NOT NULL, sent_at REAL
) WITHOUT ROWID;
INSERT INTO meta VALUES ('log_id', 'the same'), ('epoch', '4');
INSERT INTO cursors VALUES (1, 12, 5);
INSERT INTO registers VALUES ('ann', 'a', 3, 's1', 7, 'online', 0, 1, 1, 0, 1),
  ('ann', 'b', 2, 's2', 7, 'offline', 0, 1, 1, 1, 1), ('bob', 'c', 2, 's3', 7, 'grace', 9, 1, 1, 1, 1);
INSERT INTO follows VALUES ('ann', '/a', 'a', 5, 0, 1, 0, 0, 's1', 1, 3, 3);
INSERT INTO waiting VALUES ('/a', 'ann', 'b'), ('/b', 'ann', 'b');
INSERT INTO marks SELECT 7, value, 2, 9, 500 FROM json_each('[0, 1, 2, 3]');
INSERT INTO deliveries VALUES ('d', 'n', 'ann', '/a', 'fcm:1', 'fcm', 'pending', 9, 99, 0, 0, 0, 0, ''),
  ('h', 'n', 'ann', '/a', 'fcm:2', 'fcm', 'pending', 9, 99, 1, 0, 0, 0, '');
PRAGMA user_version = 1;
"""  # noqa: E501  # rows, one a line


def kept_in(directory: Path):
    """Makes the store there."""
    return lambda **clock: SqliteStore(str(directory), **clock)


def shape(directory: Path) -> set[tuple[str, str, str]]:
    """The names of a store's tables, columns, indices with their columns, and triggers."""
    db = sqlite3.connect(directory / "presence.sqlite")
    found = set()
    for kind, name in db.execute("SELECT type, name FROM sqlite_master").fetchall():
        of = "index_info" if kind == "index" else "table_info"
        found |= {(kind, name, str(row)) for row in db.execute(f"PRAGMA {of}({name})")} or {
            (kind, name, "")
        }
    db.close()
    return {(kind, name, row.replace("'0'", "None")) for kind, name, row in found}


def test_a_store_of_schema_1_keeps_everything(run, tmp_path):
    db = sqlite3.connect(tmp_path / "presence.sqlite")
    db.executescript(SCHEMA_1)
    db.close()

    async def body(store):
        ann, counts, cursor = await store.read(
            lambda tx: (tx.load_user("ann"), tx.counts(), tx.cursor(1))
        )
        assert ann.registers == {
            "a": Register("a", 3, "s1", 7, Standing.ONLINE, 0.0, 1, True, False, True, True, NOW),
            "b": Register("b", 2, "s2", 7, Standing.OFFLINE, 0.0, 1, True, True, True, False, NOW),
        }
        [follow] = ann.follows.values()
        assert follow == Follow("/a", "a", 5, 0, 1, 0, False, "s1", 1, 3, 3)
        assert ann.waiting == {("/a", "b"), ("/b", "b")}
        assert ann.marks == {(7, "/a"): Mark(2, 9)}
        assert cursor == Cursor(12, 5)
        assert counts == Counts({"pending": 1, "held": 1}, 1, 1, 1, 3, 0, 0)

    for now in (NOW, NOW + 1):  # The second start finds the present schema.
        with_store(run, kept_in(tmp_path), body, now)


def test_a_store_of_schema_1_becomes_like_a_new_one(run, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    db = sqlite3.connect(old / "presence.sqlite")
    db.executescript(SCHEMA_1)
    db.close()

    async def counted(store):
        one = Delivery("d", "n", "ann", "/a", "fcm:1", DeliveryState.DEAD, None, 99.0)
        await store.write(lambda tx: tx.put_deliveries([one]))
        counts = await store.read(lambda tx: tx.counts())
        return counts.deliveries

    assert with_store(run, kept_in(old), counted) == {"dead": 1, "held": 1}
    assert with_store(run, kept_in(new), counted) == {"dead": 1}
    assert shape(old) == shape(new)


def test_a_store_that_cannot_be_changed_stays_as_it_was(run, tmp_path):
    db = sqlite3.connect(tmp_path / "presence.sqlite")
    db.executescript(SCHEMA_1 + "CREATE TABLE marks_1 (in_the_way);")
    before = shape(tmp_path)
    with pytest.raises(StartError, match="cannot be opened"):
        with_store(run, kept_in(tmp_path), None)
    assert shape(tmp_path) == before
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert db.execute("SELECT count(*) FROM registers").fetchone() == (3,)
    db.close()
