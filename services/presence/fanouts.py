"""Decides messages for large crowds of waiting users, page by page, interleaved with other work.

How far a message has come is a row of the store, moved in the transaction of each page, so a start
goes on where the last process stopped. To drive it: `run()`, and `wake()` after a commit that
inserted rows.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from services.chassis import logs
from services.chassis.errors import Fault
from services.presence.outbox import News
from services.presence.processing import Processing
from services.presence.store import FanOut, Store, Transaction

log = logs.get(__name__)

_LOOK_EVERY_S = 5.0
_FAULT_PAUSE_S = 0.5
# Messages under way at a time; they take turns, page by page.
_AT_ONCE = 16


class FanOuts:
    """Brings fan-outs to their end; `tell(news)` after each commit."""

    def __init__(self, store: Store, processing: Processing, tell: Callable[[News], None]) -> None:
        self._store = store
        self._processing = processing
        self._tell = tell
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There may be rows to work on."""
        self._wake.set()

    async def run(self) -> None:
        """Work for ever; cancel to stop, at any point."""
        while True:
            self._wake.clear()
            try:
                while await self._turn():
                    pass
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            except Fault as fault:
                log.warning("fanout_fault", fault=type(fault).__name__)
                await asyncio.sleep(_FAULT_PAUSE_S)

    async def _turn(self) -> bool:
        """One page of each message under way; False if there is none. Small crowds share a
        transaction, which takes as long as one page of a large one."""
        rows = await self._store.read(lambda tx: tx.open_fanouts(_AT_ONCE))
        left = list(rows)
        while left:
            news, done = await self._store.write(partial(self._page, rows=left))
            self._tell(news)
            left = left[done:]
        return bool(rows)

    def _page(self, tx: Transaction, rows: Sequence[FanOut]) -> tuple[News, int]:
        news = News()
        return news, self._processing.fan_out(tx, rows, news)
