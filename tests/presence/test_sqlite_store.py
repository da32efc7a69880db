"""What only the store in SQLite does: the lock of its directory, files that are damaged or full."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from services.chassis.errors import StartError, StoreFull
from services.presence import state
from services.presence.sqlite_store import SqliteStore
from services.presence.store import Cursor
from tests.presence.test_store import with_store

ROOT = Path(__file__).parents[2]


def test_a_second_process_on_the_directory_is_refused_with_a_sentence(run, tmp_path, make_sqlite):
    async def body(_):
        other = SqliteStore(str(tmp_path))
        with pytest.raises(StartError, match="ONWARD_PRESENCE_DATA_DIR"):
            await other.open()
        await other.close()

    with_store(run, make_sqlite, body)


def test_a_directory_that_is_a_file_is_refused_with_a_sentence(run, tmp_path, make_sqlite):
    (tmp_path / "file").write_text("")

    async def body():
        store = SqliteStore(str(tmp_path / "file"))
        with pytest.raises(StartError, match="ONWARD_PRESENCE_DATA_DIR"):
            await store.open()
        await store.close()

    run(body())


def test_a_file_of_another_version_is_refused_with_a_sentence(run, tmp_path, make_sqlite):
    with_store(run, make_sqlite, lambda store: asyncio.sleep(0))
    db = sqlite3.connect(tmp_path / "presence.sqlite")
    db.execute("PRAGMA user_version = 999")
    db.close()

    async def body():
        store = SqliteStore(str(tmp_path))
        with pytest.raises(StartError, match="another version of Onward"):
            await store.open()
        await store.close()

    run(body())


def test_a_damaged_file_is_refused_with_a_sentence(run, tmp_path, make_sqlite):
    (tmp_path / "presence.sqlite").write_bytes(b"no database " * 1_000)

    async def body():
        store = SqliteStore(str(tmp_path))
        with pytest.raises(StartError, match="cannot be opened"):
            await store.open()
        await store.close()

    run(body())


def test_a_full_disk_is_a_fault_that_leaves_nothing(run, tmp_path, make_sqlite):
    async def body(store):
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages}")

        def work(tx):
            for number in range(10_000):
                tx.write_user("ann", state.PutWaiting("/a" * 50, f"client {number}"))

        with pytest.raises(StoreFull):
            await store.write(work)
        assert await store.read(lambda tx: tx.users_waiting("/a" * 50)) == []
        store._db.execute("PRAGMA max_page_count = 1000000")
        await store.write(lambda tx: tx.put_cursor(1, Cursor(5, 1)))

    with_store(run, make_sqlite, body)


_KILLED = """
    import asyncio, sys
    from services.presence import state
    from services.presence.sqlite_store import SqliteStore
    from services.presence.store import Cursor

    async def main():
        store = SqliteStore(sys.argv[1])
        await store.open()
        await store.begin(5, "p", 4)
        n = 0
        while True:
            n += 1
            def work(tx):
                tx.lock(["ann"])
                tx.write_user("ann", state.PutWaiting("/a", f"{n:09}"))
                if n == 200:
                    print("now", flush=True)
                tx.put_cursor(1, Cursor(n, 1))
            await store.write(work)

    asyncio.run(main())
"""


def test_a_kill_leaves_cursor_and_effects_both_or_neither(run, tmp_path, make_sqlite):
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_KILLED), str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"},
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"now\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    with sqlite3.connect(tmp_path / "presence.sqlite") as db:
        effects = db.execute("SELECT count(*) FROM waiting").fetchone()[0]
        [cursor] = db.execute("SELECT pos FROM cursors WHERE partition = 1").fetchone()
    assert effects == cursor >= 199
