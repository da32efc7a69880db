"""Takes over what other terms left: what they had to send, and the terms of those that vanished.

A term that is closed has an heir, which sends what it left. A term is closed by whoever takes over
a partition that it has; one that has none, of a process that vanished, is closed here: by whoever
keeps house, once etcd has said for longer than any join takes that its member is not there.

Knows the store, and by a function whether a member is there. To drive it: `run()`, and `wake()`
when members or partitions have changed.
"""

import asyncio
from collections.abc import Awaitable, Callable

from services.chassis import logs
from services.chassis.errors import Fault
from services.presence.dispatch import Dispatcher
from services.presence.store import HOUSEKEEPERS, Store

log = logs.get(__name__)

_LOOK_EVERY_S = 2.0
_FAULT_PAUSE_S = 0.5
# A term is written before its member's key is: it is not dead for want of one so soon.
_JOIN_S = 5.0


class Succession:
    """Runs the succession. `is_member(name, term)` asks etcd whether a member is there under this
    lease, and raises Unavailable if it cannot."""

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        is_member: Callable[[str, int], Awaitable[bool]],
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._is_member = is_member
        self._wake = asyncio.Event()
        # Terms of which nothing is left that was claimed and not settled, but for calls under way.
        self._recovered: set[int] = set()
        # Since when (the loop's time) terms were seen without their members.
        self._absent: dict[int, float] = {}

    def wake(self) -> None:
        """Members or partitions have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Work for ever; cancel to stop, at any point."""
        while True:
            self._wake.clear()
            try:
                await self.step()
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            except Fault as fault:
                log.warning("succession_fault", fault=type(fault).__name__)
                await asyncio.sleep(_FAULT_PAUSE_S)

    async def step(self) -> None:
        """Inherit what there is, and close what nobody else will."""
        if HOUSEKEEPERS in self._store.mine.partitions:
            await self._close_vanished()
        await self._store.inherit()
        kept = self._store.mine.kept
        if set(kept) - self._recovered:
            await self._dispatcher.recover()
            self._dispatcher.wake()
            log.info("terms_inherited", terms=len(kept) - 1)
        self._recovered = set(kept)

    async def _close_vanished(self) -> None:
        now = asyncio.get_running_loop().time()
        open_terms = await self._store.read(lambda tx: tx.open_terms())
        absent: dict[int, float] = {}
        for term, name in open_terms.items():
            if term != self._store.mine.term and not await self._is_member(name, term):
                absent[term] = self._absent.get(term, now)
        self._absent = absent
        vanished = [term for term, since in absent.items() if now - since >= _JOIN_S]
        if vanished:
            log.warning("terms_closed", terms=vanished)
            await self._store.write(lambda tx: tx.close_terms(vanished))
