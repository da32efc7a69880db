"""What every store does alike: one thread runs all work, one piece after the other.

Knows the queue in front of the thread, who is told of commits, what this process works on, and when
its term has ended. Must not know SQL or a database: a store derives from it and says how to open,
write, read and close, each on the thread.
"""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

from services.chassis.errors import Deposed
from services.presence import metrics
from services.presence.store import NOTHING, Mine, Touched, Transaction
from services.presence.term_rows import PLACED_TABLES
from services.presence.transaction import SqlTransaction

T = TypeVar("T")

# Callers beyond this many wait in the event loop, so that the thread's queue stays short.
_QUEUED_MAX = 64
work_seconds = metrics.store_seconds.labels("work")
commit_seconds = metrics.store_seconds.labels("commit")


class SerialStore(ABC):
    """A `store.Store` whose work runs on one thread."""

    def __init__(self) -> None:
        self.mine = Mine()
        # Held while `mine` is changed: on the store's thread, or by `drop` in the event loop.
        self._changing = threading.Lock()
        self._partitions = 0
        # Since when nothing could be written for want of space; None: the last write was.
        self.full_since: float | None = None
        # Since when (time.monotonic) nothing was answered; None: the last transaction was.
        self.unanswered_since: float | None = None
        self._thread = ThreadPoolExecutor(1, "presence-store")
        self._queued = asyncio.Semaphore(_QUEUED_MAX)
        self._listeners: list[Callable[[Touched], None]] = []
        self._ended = asyncio.Event()

    async def open(self) -> None:
        """Open or create it. Raises StartError naming what is wrong with it."""
        await self._run(self._open)

    async def begin(self, term: int, name: str, partitions: int) -> None:
        def work() -> None:
            # On the thread: what was queued under the term before is done, or finds it closed.
            self._depose()
            self._partitions = partitions
            for table in PLACED_TABLES:
                after: str | None = ""
                while after is not None:
                    page = partial(SqlTransaction.place_page, table=table, after=after)
                    after = self._transact(page)
            self._transact(lambda tx: tx.open_term(term, name), closing=True)
            with self._changing:
                self.mine = Mine(term)

        await self._run(work)
        self._ended.clear()

    async def claim(self, epochs: Mapping[int, int]) -> frozenset[int]:
        def work() -> frozenset[int]:
            taken = self._fenced(lambda tx: tx.claim(epochs), closing=True)
            self._keep(more=taken)
            return taken

        return await self._ending(work)

    def drop(self, partitions: Collection[int]) -> None:
        self._keep(less=partitions)

    async def release(self, partitions: Collection[int]) -> None:
        def work() -> None:
            # What was queued before is done, and what comes after finds them gone.
            self._keep(less=partitions)
            self._fenced(lambda tx: tx.release(partitions))

        await self._ending(work)

    async def close_terms(self, terms: Collection[int]) -> None:
        await self._ending(lambda: self._fenced(lambda tx: tx.close_terms(terms), closing=True))

    async def end(self) -> None:
        def work() -> None:
            self._fenced(lambda tx: tx.close_terms([self.mine.term]))
            self._depose()

        await self._ending(work)

    async def write(self, work: Callable[[Transaction], T]) -> T:
        result, touched = await self._ending(
            lambda: self._fenced(lambda tx: (work(tx), tx.touched))
        )
        for listener in self._listeners:
            listener(touched)
        return result

    async def read(self, work: Callable[[Transaction], T]) -> T:
        return await self._run(lambda: self._read(work))

    async def term_ended(self) -> None:
        await self._ended.wait()

    def on_commit(self, listener: Callable[[Touched], None]) -> None:
        self._listeners.append(listener)

    async def close(self) -> None:
        await self._run(self._close)
        self._thread.shutdown()

    async def _ending(self, work: Callable[[], T]) -> T:
        """Run work of the term, which may turn out to have ended."""
        try:
            return await self._run(work)
        finally:
            if not self.mine.term:
                self._ended.set()

    async def _run(self, work: Callable[[], T]) -> T:
        await self._queued.acquire()
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        # A cancelled caller must not leave its slot while its work is still queued.
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, future: asyncio.Future[T]) -> None:
        self._queued.release()
        if not future.cancelled():
            future.exception()  # Nobody may be there any more to ask for it.

    # -- on the thread ------------------------------------------------------------------------

    def _fenced(self, work: Callable[[SqlTransaction], T], closing: bool = False) -> T:
        mine = self.mine  # Read once: others may change it meanwhile.
        if not mine.term:
            raise Deposed("this process has no term of the presence store")
        return self._transact(work, mine, closing)

    def _keep(self, more: Collection[int] = (), less: Collection[int] = ()) -> None:
        with self._changing:
            partitions = (set(self.mine.partitions) | set(more)) - set(less)
            self.mine = replace(self.mine, partitions=frozenset(partitions))

    def _depose(self) -> None:
        """The term is over; nothing is written any more."""
        with self._changing:
            self.mine = Mine()

    @abstractmethod
    def _open(self) -> None:
        """Open or create it, and bring it to the present schema."""

    @abstractmethod
    def _transact(
        self, work: Callable[[SqlTransaction], T], mine: Mine = NOTHING, closing: bool = False
    ) -> T:
        """Run `work` in a transaction that cannot commit once the term of `mine` is closed (0: it
        needs none), and raises Deposed then; with `closing`, in one that closes terms."""

    @abstractmethod
    def _read(self, work: Callable[[SqlTransaction], T]) -> T:
        """Run `work`, which changes nothing."""

    @abstractmethod
    def _close(self) -> None:
        """End."""
