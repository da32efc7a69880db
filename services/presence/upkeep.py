"""Forgets what nobody can ask for any more: records, marks of dead edges, follows, clients.

Each in pages, now and then, between other work; by whoever keeps house, for all. An ended follow
goes once the log has trimmed all that it says anything about; the follows of a user who stays away
end; clients with nothing to return to go (`events.forget`). Knows the store, the log reader, the
cores.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from services.chassis import logs
from services.chassis.errors import Fault
from services.presence import metrics
from services.presence.events import forget
from services.presence.handover import prune
from services.presence.happenings import fair_bound
from services.presence.log_reader import LogReader
from services.presence.outbox import News, Outbox
from services.presence.recording import Recording
from services.presence.state import DropRegister, PutHandover
from services.presence.store import HOUSEKEEPERS, Store, Transaction

log = logs.get(__name__)

_EVERY_S = 60.0
_PAGE = 500
_SUBJECTS_PAGE = 100
_HAPPENINGS_PAGE = 5_000
# A mark of an edge that is gone, and that no register names, may still be asked for by an event
# that presence has not processed. No backlog of events is this old.
_MARKS_KEEP_S = 86_400.0
# Above every position: nothing of the subject is kept.
_EVERYTHING = 1 << 62
# Clients looked at in one pass, in pages.
_CLIENT_PAGES = 20
_FIRST = (0.0, "", "")
_FIRST_OWN = (0, "", "")
# Records outlive what a handover may still decide by this, as clocks may differ.
CLOCKS_APART_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Keeps:
    """How long things are kept, in seconds; the settings explain them."""

    records_s: float
    follows_s: float
    clients_s: float
    # Happenings that some extension has not acknowledged; how many of all partitions of this
    # process, and how many bytes of them: what is told of a user names all that the user follows.
    # An extension that is behind further is told that there is a gap.
    happenings_s: float = 604_800.0
    happenings_max: int = 10_000_000
    happenings_bytes_max: int = 1024 * 1024 * 1024


class Upkeep:
    """Runs the upkeep. `live_edges()`: those the directory knows, None while it knows nothing;
    `tell(news)` after each commit."""

    def __init__(
        self,
        store: Store,
        reader: LogReader,
        outbox: Outbox,
        keeps: Keeps,
        live_edges: Callable[[], Sequence[int] | None],
        tell: Callable[[News], None],
    ) -> None:
        self._store = store
        self._reader = reader
        self._outbox = outbox
        self._keeps = keeps
        self._live_edges = live_edges
        self._tell = tell
        self._after_subject = ""
        self._after_client = _FIRST
        self._after_own = _FIRST_OWN

    async def run(self) -> None:
        """Work for ever; cancel to stop, at any point."""
        while True:
            try:
                await self.step()
            except Fault as fault:
                log.warning("upkeep_fault", fault=type(fault).__name__)
            await asyncio.sleep(_EVERY_S)

    async def step(self) -> None:
        """One pass: of its own partitions, and of everything if that is for this process to do."""
        kept = await self._store.read(lambda tx: tx.happenings_kept())
        count_max = fair_bound([count for count, _ in kept], self._keeps.happenings_max)
        bytes_max = fair_bound([size for _, size in kept], self._keeps.happenings_bytes_max)
        while trimmed := await self._store.write(
            lambda tx: tx.trim_happenings(
                tx.now() - self._keeps.happenings_s, count_max, bytes_max, _HAPPENINGS_PAGE
            )
        ):
            metrics.forgotten.labels("happening").inc(trimmed)
        if HOUSEKEEPERS not in self._store.mine.partitions:
            return
        records_s = self._keeps.records_s + CLOCKS_APART_S
        while removed := await self._store.write(
            lambda tx: tx.expire_records(tx.now() - records_s, _PAGE)
        ):
            metrics.forgotten.labels("record").inc(removed)
        live = self._live_edges()
        if live is not None:
            gone = await self._store.write(
                lambda tx: tx.prune_marks(live, tx.now() - _MARKS_KEEP_S)
            )
            metrics.forgotten.labels("mark").inc(gone)
        await self._prune_follows()
        await self._forget_clients()
        await self._end_own_follows()

    async def _forget_clients(self) -> None:
        """Look at the next pages of clients that are not there; the next pass goes on after."""
        for _ in range(_CLIENT_PAGES):
            after = self._after_client
            news, last, count = await self._store.write(partial(self._forget_page, after=after))
            self._tell(news)
            self._after_client = last
            if count < _PAGE:
                return

    def _forget_page(
        self, tx: Transaction, after: tuple[float, str, str]
    ) -> tuple[News, tuple[float, str, str], int]:
        keeps, now, news = self._keeps, tx.now(), News()
        before = now - min(keeps.follows_s, keeps.clients_s)
        clients = tx.clients_unseen(before, after, _PAGE)
        self._forget(tx, list(dict.fromkeys(client[1] for client in clients)), news)
        last = clients[-1] if len(clients) == _PAGE else _FIRST
        return news, last, len(clients)

    async def _end_own_follows(self) -> None:
        """Likewise of users who may have no clients: by when they asked for what they follow."""
        for _ in range(_CLIENT_PAGES):
            after = self._after_own
            news, last, count = await self._store.write(partial(self._own_page, after=after))
            self._tell(news)
            self._after_own = last
            if count < _PAGE:
                return

    def _own_page(
        self, tx: Transaction, after: tuple[int, str, str]
    ) -> tuple[News, tuple[int, str, str], int]:
        news = News()
        follows = tx.own_follows_asked(tx.now() - self._keeps.follows_s, after, _PAGE)
        self._forget(tx, list(dict.fromkeys(follow[1] for follow in follows)), news)
        last = follows[-1] if len(follows) == _PAGE else _FIRST_OWN
        return news, last, len(follows)

    def _forget(self, tx: Transaction, users: Sequence[str], news: News) -> None:
        keeps, now = self._keeps, tx.now()
        tx.lock(users)
        recording = Recording(tx)
        for user in users:
            before_it = tx.load_user(user)
            effects = forget(before_it, now, keeps.follows_s, keeps.clients_s)
            recording.user(before_it, effects)
            self._outbox.write(tx, user, effects, news=news)
            dropped = sum(isinstance(effect, DropRegister) for effect in effects)
            ended = sum(isinstance(effect, PutHandover) for effect in effects)
            metrics.forgotten.labels("client").inc(dropped)
            metrics.forgotten.labels("follow").inc(ended)
        recording.write()

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
        tx.lock(users)
        for user in users:
            pending = tx.has_open_deliveries(user, subject)
            state = tx.load_user(user, subject)
            for effect in prune(state, subject, floor_seq, floor_pos, pending):
                tx.write_user(user, effect)
        return users[-1] if len(users) == _PAGE else None

    return work
