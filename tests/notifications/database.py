"""The presence store of a story: real SQLite, a file that all replicas have open, in its own time.

Each replica has a `StoryStore` on the one connection of `Database`: the real statements, terms and
fence. Works of a replica come one after the other; each takes a little of the story's time before
and after, and is done whole in one moment between. A replica may be killed, or stopped, right
before or right after that moment (`on_turn`).

What matters to the judge is noted by temporary triggers, and told to `record` once committed: one
record for each transaction, with its notes in the order of the writes.
"""

import asyncio
import functools
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from services.presence.sqlite_store import SqliteStore
from services.presence.store import NOTHING, Mine
from services.presence.transaction import SqlTransaction
from tests.simulation.virtual_time import PROCESS

T = TypeVar("T")
_DELIVERY = "id, notification_id, user, subject, uri, state, due_at, reason, attempts, held, step"
_NEW_DELIVERY = ", ".join(f"NEW.{column.strip()}" for column in _DELIVERY.split(","))
_NOTES = f"""
CREATE TEMP TRIGGER note1 AFTER INSERT ON main.cursors BEGIN
  SELECT note('cursor', NEW.partition, NEW.pos); END;
CREATE TEMP TRIGGER note2 AFTER UPDATE ON main.cursors BEGIN
  SELECT note('cursor', NEW.partition, NEW.pos); END;
CREATE TEMP TRIGGER note3 AFTER INSERT ON main.decided BEGIN
  SELECT note('decided', NEW.user, NEW.subject, NEW.from_seq, NEW.to_seq, NEW.notification_id,
    NEW.reason); END;
CREATE TEMP TRIGGER note4 AFTER UPDATE OF notification_id ON main.decided BEGIN
  SELECT note('taken_out', NEW.user, NEW.subject, NEW.to_seq, OLD.notification_id, NEW.reason); END;
CREATE TEMP TRIGGER note14 AFTER UPDATE OF from_seq ON main.decided BEGIN
  SELECT note('shortened', NEW.user, NEW.subject, NEW.from_seq, NEW.to_seq); END;
CREATE TEMP TRIGGER note13 AFTER DELETE ON main.decided BEGIN
  SELECT note('undecided', OLD.user, OLD.subject, OLD.to_seq, OLD.reason); END;
CREATE TEMP TRIGGER note5 AFTER INSERT ON main.notifications BEGIN
  SELECT note('notification', NEW.id, NEW.user, NEW.subject, NEW.first_seq); END;
CREATE TEMP TRIGGER note6 AFTER INSERT ON main.deliveries BEGIN
  SELECT note('delivery', {_NEW_DELIVERY}); END;
CREATE TEMP TRIGGER note7 AFTER UPDATE OF state, due_at, reason, held, attempts ON main.deliveries
BEGIN SELECT note('delivery', {_NEW_DELIVERY}); END;
CREATE TEMP TRIGGER note8 AFTER INSERT ON main.attempts BEGIN
  SELECT note('claimed', NEW.delivery_id, NEW.number); END;
CREATE TEMP TRIGGER note9 AFTER UPDATE OF outcome ON main.attempts BEGIN
  SELECT note('outcome', NEW.delivery_id, NEW.number, NEW.outcome); END;
CREATE TEMP TRIGGER note10 AFTER INSERT ON main.profiles BEGIN SELECT note('wish', NEW.user); END;
CREATE TEMP TRIGGER note11 AFTER UPDATE ON main.profiles BEGIN SELECT note('wish', NEW.user); END;
CREATE TEMP TRIGGER note12 AFTER DELETE ON main.profiles BEGIN SELECT note('wish', OLD.user); END;
"""
# What is still to be done, in words, and when it is due; without: at once.
_OPEN = """
SELECT 'handover of ' || user || ' on ' || subject, NULL FROM handovers
UNION ALL SELECT 'fan-out on ' || subject, NULL FROM fanouts
UNION ALL SELECT 'delivery to ' || uri || ' on ' || subject || ', ' || state, due_at
  FROM deliveries WHERE state = 'sending' OR due_at IS NOT NULL
UNION ALL SELECT 'grace of ' || client_id, grace_until FROM registers WHERE standing = 'grace'
"""


@functools.cache
def _template() -> bytes:
    """A new store, as the real one makes it; to make it anew takes longer than half a story."""
    with TemporaryDirectory() as directory:
        store = SqliteStore(directory, lambda: 0.0)
        store._open()
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store._close()
        return store._path.read_bytes()


class Database:
    """The file, and who is told of its commits. `now()` is the store's clock."""

    def __init__(
        self, directory: Path, record: Callable[..., None], now: Callable[[], float]
    ) -> None:
        self._path = directory / "presence.sqlite"
        self._path.write_bytes(_template())
        self.now = now
        self._record = record
        self._notes: list[tuple[Any, ...]] = []
        self.on_turn: Callable[[str, str], None] = lambda name, moment: None
        self.open()

    def open(self) -> None:
        """Open the file, as after a start of the machine."""
        self.db = sqlite3.connect(self._path, isolation_level=None, cached_statements=512)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.create_function("note", -1, self.note)
        self.db.executescript(_NOTES)

    def close(self) -> None:
        self.db.close()

    def begin(self) -> None:
        self._notes.clear()

    def note(self, *values: Any) -> None:
        """A note of who works in the transaction."""
        self._notes.append(values)

    def committed(self, name: str) -> None:
        """A transaction is done; told if it changed what a judge looks at."""
        notes, self._notes = self._notes, []
        if notes:
            self._record("commit", who=name, notes=[tuple(note) for note in notes])

    def left(self) -> list[tuple[str, float | None]]:
        """What presence still has to do, and when."""
        return self.db.execute(_OPEN).fetchall()

    def cursor(self, partition: int) -> int:
        rows = self.db.execute("SELECT pos FROM cursors WHERE partition = ?", (partition,))
        return int((rows.fetchone() or (0,))[0])


class StoryStore(SqliteStore):
    """The store as one life of a replica has it."""

    def __init__(self, database: Database, name: str, random: Random) -> None:
        super().__init__("", clock=database.now)
        self._database = database
        self._name = name
        self._random = random
        self._turn = asyncio.Lock()

    @property
    def _db(self) -> sqlite3.Connection:
        return self._database.db

    def _open(self) -> None:
        """It is open."""

    def _close(self) -> None:
        """It is the story's to close."""

    async def _run(self, work: Callable[[], T]) -> T:
        process = PROCESS.get()
        assert process is not None, "only processes have a store"
        # What was begun is done, whatever becomes of its caller.
        task = process.spawn(self._in_turn(work))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _in_turn(self, work: Callable[[], T]) -> T:
        async with self._turn:
            await self._moment("before")
            try:
                return work()
            finally:
                await self._moment("after")

    async def _moment(self, moment: str) -> None:
        self._database.on_turn(self._name, moment)
        await asyncio.sleep(0.0002 + self._random.random() ** 3 * 0.004)

    def _transact(
        self, work: Callable[[SqlTransaction], T], mine: Mine = NOTHING, closing: bool = False
    ) -> T:
        self._database.begin()
        result = super()._transact(work, mine, closing)
        self._database.committed(self._name)
        return result
