"""Forgets what nobody can ask for any more: old records, marks of dead edges, ended follows.

Each in pages, now and then, between other work. An ended follow goes once the log has trimmed all
that it says anything about. Knows the store, the log reader, the core.
"""

import asyncio
from collections.abc import Callable, Sequence

from services.chassis import logs
from services.chassis.errors import Fault
from services.presence.handover import prune
from services.presence.log_reader import LogReader
from services.presence.store import Store, Transaction

log = logs.get(__name__)

_EVERY_S = 60.0
_PAGE = 500
_SUBJECTS_PAGE = 100
# A mark of an edge that is gone, and that no register names, may still be asked for by an event
# that presence has not processed. No backlog of events is this old.
_MARKS_KEEP_S = 86_400.0
# Above every position: nothing of the subject is kept.
_EVERYTHING = 1 << 62


class Upkeep:
    """Runs the upkeep. `live_edges()`: those the directory knows, None while it knows nothing."""

    def __init__(
        self,
        store: Store,
        reader: LogReader,
        records_keep_s: float,
        live_edges: Callable[[], Sequence[int] | None],
    ) -> None:
        self._store = store
        self._reader = reader
        self._records_keep_s = records_keep_s
        self._live_edges = live_edges
        self._after_subject = ""

    async def run(self) -> None:
        """Work for ever; cancel to stop, at any point."""
        while True:
            try:
                await self.step()
            except Fault as fault:
                log.warning("upkeep_fault", fault=type(fault).__name__)
            await asyncio.sleep(_EVERY_S)

    async def step(self) -> None:
        """One pass."""
        while await self._store.write(
            lambda tx: tx.expire_records(tx.now() - self._records_keep_s, _PAGE)
        ):
            pass
        live = self._live_edges()
        if live is not None:
            await self._store.write(lambda tx: tx.prune_marks(live, tx.now() - _MARKS_KEEP_S))
        await self._prune_follows()

    async def _prune_follows(self) -> None:
        """Look at the next page of subjects with ended follows; the next pass goes on after it."""
        after = self._after_subject
        subjects = await self._store.read(
            lambda tx: tx.subjects_with_ended_follows(after, _SUBJECTS_PAGE)
        )
        self._after_subject = subjects[-1] if len(subjects) == _SUBJECTS_PAGE else ""
        for subject in subjects:
            kept = await self._reader.messages(subject, 0, 1)
            floor_pos = kept.messages[0].pos - 1 if kept.messages else _EVERYTHING
            user: str | None = ""
            while user is not None:
                user = await self._store.write(_pruning(subject, user, kept.floor, floor_pos))


def _pruning(
    subject: str, after: str, floor_seq: int, floor_pos: int
) -> Callable[[Transaction], str | None]:
    """Work on the next page of users; tells the last of them, None once there are no more."""

    def work(tx: Transaction) -> str | None:
        users = tx.users_with_ended_follows(subject, after, _PAGE)
        for user in users:
            pending = tx.has_open_deliveries(user, subject)
            state = tx.load_user(user, subject)
            for effect in prune(state, subject, floor_seq, floor_pos, pending):
                tx.write_user(user, effect)
        return users[-1] if len(users) == _PAGE else None

    return work
