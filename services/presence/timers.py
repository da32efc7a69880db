"""Ends graces, finds the clients of edges that died, and those that nobody looks at any more.

A grace that has run out is not ended at once: a return may stand in the log already. It waits until
presence has processed the user's partition up to the tail that the log had when the grace was found
due. The same holds for the clients of a dead edge. Due times stand in the registers, so a start
finds them all.

An edge is dead when etcd itself, asked for its key, says that it is not there: the directory is
always a little late, and an edge that it does not know yet is not dead. The look for dead edges
must repeat: a connect may be processed after its edge died.

Knows the store, the log's tails, the live edges, the core. Must not know plugins.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from services.chassis import logs
from services.chassis.errors import Fault
from services.chassis.subjects import partition_of
from services.chassis.tasks import lasting
from services.presence import metrics
from services.presence.events import on_edge_dead, on_grace_end, on_idle
from services.presence.log_reader import LogReader
from services.presence.outbox import News, Outbox
from services.presence.recording import Recording
from services.presence.state import Graces
from services.presence.store import GraceDue, Store, Transaction

log = logs.get(__name__)

T = TypeVar("T")

_LOOK_EVERY_S = 1.0
_FAULT_PAUSE_S = 0.5
# How soon to look again whether presence has come as far as a grace that is due must wait for.
_BEHIND_PAUSE_S = 0.05
_GRACES_MAX = 10_000
# Of a dead edge; more are as many.
_CROWD_MAX = 1_000_000
# How soon after its time a client that nobody looks at is away.
_IDLE_LOOK_EVERY_S = 5.0
# Graces ended, or clients of a dead edge moved, in one transaction.
_PAGE = 100
_FROM_THE_FIRST = (0.0, "", "")


@dataclass(frozen=True, slots=True)
class TimerSettings:
    """What the timers take from the settings."""

    graces: Graces
    partitions: int
    sweep_every_s: float
    # How many clients of a dead edge can return in a second.
    returns_per_s: float = 400.0
    # After which a client that nobody looks at is away; 0: never.
    away_after_s: float = 0.0


class Timers:
    """Runs graces and sweeps; `tell(news)` after each commit.

    `live_edges()` are those the directory knows, None while it knows nothing; `edge_is_alive(id)`
    asks etcd and raises Unavailable if it cannot.
    """

    def __init__(
        self,
        store: Store,
        reader: LogReader,
        outbox: Outbox,
        settings: TimerSettings,
        live_edges: Callable[[], Sequence[int] | None],
        edge_is_alive: Callable[[int], Awaitable[bool]],
        tell: Callable[[News], None],
    ) -> None:
        self._store = store
        self._reader = reader
        self._outbox = outbox
        self._settings = settings
        self._live_edges = live_edges
        self._edge_is_alive = edge_is_alive
        self._tell = tell
        self._grace_wake = asyncio.Event()
        self._sweep_wake = asyncio.Event()
        # The tail of the user's partition when the grace was first found due.
        self._tails: dict[GraceDue, int] = {}
        # How many clients the dead edge had when it was first seen to be dead.
        self._crowds: dict[int, int] = {}
        # Behind whom clients are looked for at which nobody looks.
        self._idle_after = _FROM_THE_FIRST

    def wake(self) -> None:
        """A grace may end sooner than was known."""
        self._grace_wake.set()

    def sweep_soon(self) -> None:
        """Edges have changed: look for clients of dead ones."""
        self._sweep_wake.set()

    async def run(self) -> None:
        """Work for ever; cancel to stop, at any point."""
        async with asyncio.TaskGroup() as group:
            group.create_task(lasting(self._repeat("grace", self._graces, self._grace_wake)))
            group.create_task(lasting(self._repeat("sweep", self._sweep, self._sweep_wake)))
            if self._settings.away_after_s:
                group.create_task(lasting(self._repeat("idle", self._idle, asyncio.Event())))

    async def _repeat(
        self, name: str, step: Callable[[], Awaitable[float]], wake: asyncio.Event
    ) -> None:
        """Run `step` for ever; it says after how many seconds again, and `wake` makes it sooner."""
        while True:
            wake.clear()
            try:
                pause_s = await step()
            except Fault as fault:
                log.warning("timer_fault", timer=name, fault=type(fault).__name__)
                await asyncio.sleep(_FAULT_PAUSE_S)
                continue
            try:
                async with asyncio.timeout(max(pause_s, 0.005)):
                    await wake.wait()
            except TimeoutError:
                pass

    # -- graces -------------------------------------------------------------------------------

    async def _graces(self) -> float:
        due = await self._store.read(lambda tx: tx.graces_due(_GRACES_MAX))
        await self._note_tails(due)
        behind = 0
        for page in _pages(due):
            ended, news = await self._store.write(partial(self._end, page=page))
            behind += len(page) - ended
            self._tell(news)
        if behind:
            return _BEHIND_PAUSE_S

        def until_next(tx: Transaction) -> float:
            at = tx.next_grace()
            return _LOOK_EVERY_S if at is None else min(_LOOK_EVERY_S, at - tx.now())

        return await self._store.read(until_next)

    async def _note_tails(self, due: Sequence[GraceDue]) -> None:
        known = {one: self._tails[one] for one in due if one in self._tails}
        new = [one for one in due if one not in known]
        if new:
            tails = await self._reader.tails(sorted({self._partition(one.user) for one in new}))
            known |= {one: tails.get(self._partition(one.user), 0) for one in new}
        self._tails = known

    def _end(self, tx: Transaction, page: Sequence[GraceDue]) -> tuple[int, News]:
        news = News()
        ended = 0
        tx.lock({one.user for one in page})
        for one in page:
            if tx.cursor(self._partition(one.user)).pos < self._tails[one]:
                continue
            ended += 1
            effects = on_grace_end(tx.load_user(one.user), one.client_id, one.generation, tx.now())
            metrics.graces.inc(1 if effects else 0)
            self._outbox.write(tx, one.user, effects, news=news)
        return ended, news

    # -- dead edges ---------------------------------------------------------------------------

    async def _sweep(self) -> float:
        live = self._live_edges()
        if live is None:
            return _LOOK_EVERY_S
        online = await self._store.read(lambda tx: tx.edges_online())
        behind = False
        missing = set(online) - set(live)
        self._crowds = {one: count for one, count in self._crowds.items() if one in missing}
        for edge_id in missing:
            if not await self._edge_is_alive(edge_id):
                behind |= await self._sweep_edge(edge_id)
        return _BEHIND_PAUSE_S if behind else self._settings.sweep_every_s

    async def _sweep_edge(self, edge_id: int) -> bool:
        """Have the clients of a dead edge enter their grace; True if some must wait yet."""
        clients = await self._store.read(lambda tx: tx.clients_of_edge(edge_id, _GRACES_MAX))
        users = sorted({user for user, _ in clients})
        tails = await self._reader.tails(sorted({self._partition(user) for user in users}))
        moved = 0
        graces = await self._graces_of_dead(edge_id)
        for page in _pages(users):
            work = partial(self._move, users=page, edge_id=edge_id, tails=tails, graces=graces)
            done, news = await self._store.write(work)
            moved += done
            self._tell(news)
        if moved:
            log.info("edge_died", edge=edge_id, users=len(users), moved=moved)
        return moved < len(users) or len(clients) == _GRACES_MAX

    async def _graces_of_dead(self, edge_id: int) -> Graces:
        """The graces, as long as all clients of that edge need to return. Most of them do: without
        it the last would be notified while they are on their way."""
        if edge_id not in self._crowds:
            self._crowds[edge_id] = await self._store.read(
                lambda tx: tx.count_clients_of_edge(edge_id, _CROWD_MAX)
            )
        longer_s = self._crowds[edge_id] / self._settings.returns_per_s
        graces = self._settings.graces
        return replace(graces, dead_edge_s=graces.dead_edge_s + longer_s)

    def _move(
        self,
        tx: Transaction,
        users: Sequence[str],
        edge_id: int,
        tails: Mapping[int, int],
        graces: Graces,
    ) -> tuple[int, News]:
        news = News()
        moved = 0
        tx.lock(users)
        recording = Recording(tx)
        for user in users:
            partition = self._partition(user)
            if tx.cursor(partition).pos < tails.get(partition, 0):
                continue
            moved += 1
            before = tx.load_user(user)
            effects = on_edge_dead(before, edge_id, tx.now(), graces)
            metrics.dead_edge_clients.inc(1 if effects else 0)
            recording.user(before, effects)
            self._outbox.write(tx, user, effects, news=news)
        recording.write()
        return moved, news

    # -- clients that nobody looks at -----------------------------------------------------------

    async def _idle(self) -> float:
        after_s = self._settings.away_after_s
        after = self._idle_after
        found = await self._store.read(lambda tx: tx.clients_idle(tx.now() - after_s, after, _PAGE))
        more = len(found) == _PAGE
        # Page by page, so that those who cannot be left alone yet keep nobody waiting.
        self._idle_after = found[-1] if more else _FROM_THE_FIRST
        if found:
            # Somebody may look again already, by an event that stands in the log.
            partitions = sorted({self._partition(user) for _, user, _ in found})
            tails = await self._reader.tails(partitions)
            work = partial(self._leave_alone, clients=found, tails=tails)
            self._tell(await self._store.write(work))
        return 0.0 if more else _IDLE_LOOK_EVERY_S

    def _leave_alone(
        self, tx: Transaction, clients: Sequence[tuple[float, str, str]], tails: Mapping[int, int]
    ) -> News:
        news = News()
        tx.lock({user for _, user, _ in clients})
        for _, user, client_id in clients:
            partition = self._partition(user)
            if tx.cursor(partition).pos < tails.get(partition, 0):
                continue
            after_s = self._settings.away_after_s
            effects = on_idle(tx.load_user(user), client_id, tx.now(), after_s)
            self._outbox.write(tx, user, effects, news=news)
        return news

    def _partition(self, user: str) -> int:
        return partition_of(user, self._settings.partitions)


def _pages(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[at : at + _PAGE] for at in range(0, len(items), _PAGE)]
