"""The store of presence that all replicas share: the real SQL, on one database far away.

One SQLite database in memory takes the place of PostgreSQL. What a replica asks for crosses the
network twice: its transaction begins, then it is done and commits, whole, in one moment; works of
one replica come one after the other. Where the first answer does not come nothing was done. Where
the second does not come nobody knows, and the term ends with it, as in
`services.presence.postgres_store`.

What matters to a judge is noted by triggers, and told to `record` once it is committed.
"""

import asyncio
import functools
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from services.chassis.errors import StoreFull, Unavailable
from services.presence import sqlite_store
from services.presence.sqlite_store import SqliteStore
from services.presence.store import NOTHING, Mine, Transaction
from services.presence.transaction import SqlTransaction
from tests.simulation.network import LostError, Network
from tests.simulation.virtual_time import PROCESS

T = TypeVar("T")

NAME = "presence-store"
_DEADLINE_S = 1.5
_SCHEMA = Path(sqlite_store.__file__).with_name("sqlite_schema.sql")
_NOTES = """
CREATE TRIGGER n1 AFTER INSERT ON cursors BEGIN
  SELECT note('cursor', NEW.partition, NEW.pos); END;
CREATE TRIGGER n2 AFTER UPDATE ON cursors BEGIN
  SELECT note('cursor', NEW.partition, NEW.pos); END;
CREATE TRIGGER n3 AFTER INSERT ON follows WHEN NEW.acked > NEW.base BEGIN
  SELECT note('known', NEW.user, NEW.subject, NEW.base, NEW.acked); END;
CREATE TRIGGER n4 AFTER UPDATE ON follows WHEN NEW.acked > OLD.acked BEGIN
  SELECT note('known', NEW.user, NEW.subject, NEW.base, NEW.acked); END;
CREATE TRIGGER n5 AFTER INSERT ON attempts BEGIN
  SELECT note('claimed', NEW.delivery_id, NEW.number, user, subject)
  FROM deliveries WHERE id = NEW.delivery_id; END;
CREATE TRIGGER n6 AFTER INSERT ON terms BEGIN SELECT note('term', NEW.id, NEW.name); END;
CREATE TRIGGER n7 AFTER UPDATE ON terms WHEN NEW.closed BEGIN
  SELECT note('term_closed', NEW.id); END;
CREATE TRIGGER n8 AFTER UPDATE ON partitions BEGIN
  SELECT note('taken', NEW.partition, NEW.epoch, NEW.term); END;
CREATE TRIGGER n9 AFTER UPDATE ON registers
  WHEN NEW.standing = 'grace' AND OLD.standing <> 'grace' BEGIN
  SELECT note('grace', NEW.user, NEW.grace_until); END;
"""
# The fields of each note, as the judge is told them.
_FIELDS = {
    "cursor": ("partition", "pos"),
    "known": ("user", "subject", "base", "acked"),
    "claimed": ("delivery", "attempt", "user", "subject"),
    "term": ("term", "name"),
    "term_closed": ("term",),
    "taken": ("partition", "epoch", "term"),
    "grace": ("user", "until"),
}
# What is still to be done, in words; users who are in their grace among it.
_OPEN = """
SELECT 'handover of ' || user || ' on ' || subject FROM handovers
UNION ALL SELECT 'fan-out on ' || subject FROM fanouts
UNION ALL SELECT 'delivery to ' || uri || ' on ' || subject || ', ' || state FROM deliveries
  WHERE state = 'sending' OR due_at IS NOT NULL
UNION ALL SELECT 'grace of ' || client_id FROM registers WHERE standing = 'grace'
"""
# Tables that are told at the end: columns, the kind of record, and its fields.
_AT_THE_END = {
    "decided": (
        "user, subject, from_seq, to_seq, notification_id, reason",
        ("decided", "user", "subject", "first", "last", "notification", "reason"),
    ),
    "deliveries": (
        "id, notification_id, user, subject, uri, state, reason",
        ("delivery", "delivery", "notification", "user", "subject", "uri", "state", "reason"),
    ),
    "attempts": (
        "delivery_id, number, outcome",
        ("attempt", "delivery", "attempt", "outcome"),
    ),
}


@functools.cache
def _template() -> bytes:
    """A new database, as bytes: to make it anew takes longer than half a story."""
    db = sqlite3.connect(":memory:")
    db.create_function("note", -1, lambda *_: None)
    db.executescript(_SCHEMA.read_text() + _NOTES)
    return bytes(db.serialize())


class PresenceDatabase:
    """What is durable of presence."""

    def __init__(self, record: Callable[..., None]) -> None:
        self.full = False
        self.on_grace: Callable[[float], None] = lambda until_s: None  # somebody's ends then
        self.on_claim: Callable[[str], None] = lambda name: None  # a replica is about to send
        self.db = sqlite3.connect(":memory:", isolation_level=None, cached_statements=512)
        self.db.deserialize(_template())
        self.db.create_function("note", -1, self._note)
        self.notes: list[tuple[Any, ...]] = []
        self._record = record

    def committed(self, name: str, term: int) -> None:
        """A transaction that changed something is done."""
        notes, self.notes = self.notes, []
        self._record("commit", who=name, term=term)
        for kind, *values in notes:
            self._record(kind, **dict(zip(_FIELDS[kind], values, strict=True)))
            if kind == "grace":
                self.on_grace(values[1])
            elif kind == "claimed":
                self.on_claim(name)

    def left(self) -> list[str]:
        """What presence still has to do."""
        return [row[0] for row in self.db.execute(_OPEN)]

    def cursor(self, partition: int) -> int:
        rows = self.db.execute("SELECT pos FROM cursors WHERE partition = ?", (partition,))
        return int((rows.fetchone() or (0,))[0])

    def online(self) -> set[str]:
        """Clients that presence takes for online."""
        rows = self.db.execute("SELECT client_id FROM registers WHERE standing = 'online'")
        return {row[0] for row in rows}

    def tell_all(self) -> None:
        """What was decided, and what became of it, for a judge at the end."""
        for kind, (columns, fields) in _AT_THE_END.items():
            for row in self.db.execute(f"SELECT {columns} FROM {kind}"):
                self._record(fields[0], **dict(zip(fields[1:], row, strict=True)))

    def close(self) -> None:
        self.db.close()

    def _note(self, *values: Any) -> None:
        self.notes.append(values)


class SimulatedPresenceStore(SqliteStore):
    """The store as one replica has it."""

    def __init__(self, database: PresenceDatabase, network: Network, name: str) -> None:
        super().__init__("", clock=lambda: network.loop.now)
        self._db = database.db
        self._database = database
        self._network = network
        self._name = name
        self._turn = asyncio.Lock()

    async def read(self, work: Callable[[Transaction], T]) -> T:
        return await self._run(lambda: self._read(work), commits=False)

    async def close(self) -> None:
        """Nothing is open here."""

    def _open(self) -> None:
        """It is there."""

    async def _run(self, work: Callable[[], T], commits: bool = True) -> T:
        process = PROCESS.get()
        assert process is not None
        # What was begun is done, whatever becomes of its caller.
        task = process.spawn(self._in_turn(work, commits))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _in_turn(self, work: Callable[[], T], commits: bool) -> T:
        async with self._turn:
            if commits:
                await self._ask(lambda: None)
            given_up = False
            try:
                return await self._ask(lambda: None if given_up else work())
            except _SilentError:
                given_up = True
                if commits:
                    self._depose()
                raise

    async def _ask(self, work: Callable[[], Any]) -> Any:
        try:
            answer = await self._network.ask(self._name, NAME, work, _DEADLINE_S)
        except LostError as error:
            self.unanswered_since = self.unanswered_since or self._network.loop.now
            raise _SilentError(str(error)) from None
        self.unanswered_since = None
        return answer

    def _transact(
        self, work: Callable[[SqlTransaction], T], mine: Mine = NOTHING, closing: bool = False
    ) -> T:
        if self._database.full:
            self.full_since = self.full_since or self._network.loop.now
            raise StoreFull("the disk of the presence store is full")
        self._database.notes.clear()
        before = self._db.total_changes
        result = super()._transact(work, mine, closing)
        if self._db.total_changes > before:
            self._database.committed(self._name, mine.term)
        return result


class _SilentError(Unavailable):
    """No answer came in time."""
