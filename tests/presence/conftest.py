"""The stores that tests of presence run on: SQLite in the test's folder, and PostgreSQL."""

from collections.abc import Callable

import psycopg
import pytest

from services.presence.postgres_store import PostgresStore
from services.presence.serial_store import SerialStore
from services.presence.sqlite_store import SqliteStore
from tests.real_postgres import PostgresServer, fresh_database

ANSWER_S = 5.0
_EMPTY = """
DO $$ DECLARE one record; BEGIN
  FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'onward_presence' LOOP
    IF one.tablename <> 'meta' THEN
      EXECUTE format('DELETE FROM onward_presence.%I', one.tablename);
    END IF;
  END LOOP;
  IF to_regclass('onward_presence.meta') IS NOT NULL THEN
    DELETE FROM onward_presence.meta WHERE name = 'log_id';
    UPDATE onward_presence.meta SET value = '0' WHERE name = 'epoch';
  END IF;
  IF to_regclass('onward_presence.counts') IS NOT NULL THEN
    DELETE FROM onward_presence.counts;
  END IF;
END $$
"""

# Makes a store of the test's kind, not open yet; every one of a test has the same rows. The store's
# clock may be given.
MakeStore = Callable[..., SerialStore]


@pytest.fixture(scope="session")
def presence_database(postgres_server: PostgresServer) -> str:
    """One database for all tests, since its tables take their time."""
    return fresh_database(postgres_server)


@pytest.fixture
def presence_url(presence_database: str) -> str:
    """The URL of a presence store that is empty."""
    with psycopg.connect(presence_database) as connection:
        connection.execute(_EMPTY)
    return presence_database


@pytest.fixture(params=["sqlite", "postgres"])
def make_store(request: pytest.FixtureRequest, tmp_path) -> MakeStore:
    """As MakeStore says, on each kind of store."""
    if request.param == "sqlite":
        return lambda **clock: SqliteStore(str(tmp_path), **clock)
    url = request.getfixturevalue("presence_url")
    return lambda **clock: PostgresStore(url, ANSWER_S, **clock)


@pytest.fixture
def make_sqlite(tmp_path) -> MakeStore:
    """As MakeStore says, in SQLite."""
    return lambda **clock: SqliteStore(str(tmp_path), **clock)


@pytest.fixture(params=["sqlite", "postgres"])
def store_settings(request: pytest.FixtureRequest) -> dict[str, str]:
    """What a stage's settings say of each kind of store."""
    if request.param == "sqlite":
        return {}
    return {"store": request.getfixturevalue("presence_url")}
