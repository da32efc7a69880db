"""What every store does alike: one thread runs all work, one piece after the other.

Knows the queue in front of the thread, who is told of commits, and when a claim has ended. Must not
know SQL or a database: a store derives from it and says how to open, claim, write, read and close,
each on the thread.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services.chassis.errors import Deposed
from services.presence import metrics
from services.presence.store import Touched, Transaction
from services.presence.transaction import SqlTransaction

T = TypeVar("T")

# Callers beyond this many wait in the event loop, so that the thread's queue stays short.
_QUEUED_MAX = 64
work_seconds = metrics.store_seconds.labels("work")
commit_seconds = metrics.store_seconds.labels("commit")


class SerialStore(ABC):
    """A `store.Store` whose work runs on one thread."""

    def __init__(self) -> None:
        # The claim that this process writes under; 0: none.
        self._epoch = 0
        self._partitions = 0
        # Since when nothing could be written for want of space; None: the last write was.
        self.full_since: float | None = None
        self._thread = ThreadPoolExecutor(1, "presence-store")
        self._queued = asyncio.Semaphore(_QUEUED_MAX)
        self._listeners: list[Callable[[Touched], None]] = []
        self._ended = asyncio.Event()

    async def open(self) -> None:
        """Open or create it. Raises StartError naming what is wrong with it."""
        await self._run(self._open)

    async def claim(self, epoch: int, partitions: int) -> None:
        self._partitions = partitions
        self._epoch = 0
        await self._run(lambda: self._raise_epoch(epoch))
        self._epoch = epoch
        self._ended.clear()

    async def write(self, work: Callable[[Transaction], T]) -> T:
        try:
            result, touched = await self._run(lambda: self._write(work))
        finally:
            if not self._epoch:
                self._ended.set()
        for listener in self._listeners:
            listener(touched)
        return result

    async def read(self, work: Callable[[Transaction], T]) -> T:
        return await self._run(lambda: self._read(work))

    async def claim_ended(self) -> None:
        await self._ended.wait()

    def on_commit(self, listener: Callable[[Touched], None]) -> None:
        self._listeners.append(listener)

    async def close(self) -> None:
        await self._run(self._close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        await self._queued.acquire()
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        # A cancelled caller must not leave its slot while its work is still queued.
        future.add_done_callback(lambda _: self._queued.release())
        return await asyncio.shield(future)

    # -- on the thread ------------------------------------------------------------------------

    def _raise_epoch(self, epoch: int) -> None:
        def work(tx: SqlTransaction) -> None:
            stored = tx.epoch()
            if epoch <= stored:
                raise Deposed(f"the presence store was claimed in epoch {stored}, above {epoch}")
            tx.set_epoch(epoch)

        self._transact(work, claiming=True)

    def _write(self, work: Callable[[SqlTransaction], T]) -> tuple[T, Touched]:
        def fenced(tx: SqlTransaction) -> tuple[T, Touched]:
            if tx.epoch() != self._epoch or self._epoch == 0:
                self._epoch = 0
                raise Deposed("another process has claimed the presence store")
            return work(tx), tx.touched

        return self._transact(fenced)

    @abstractmethod
    def _open(self) -> None:
        """Open or create it, and bring it to the present schema."""

    @abstractmethod
    def _transact(self, work: Callable[[SqlTransaction], T], claiming: bool = False) -> T:
        """Run `work` in a transaction that cannot commit after a higher epoch was claimed; with
        `claiming`, in one that claims it."""

    @abstractmethod
    def _read(self, work: Callable[[SqlTransaction], T]) -> T:
        """Run `work`, which changes nothing."""

    @abstractmethod
    def _close(self) -> None:
        """End."""
