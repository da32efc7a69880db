"""Takes over what other terms left: what they had to send, and the terms of those that vanished.

What a closed term left is sent by whoever keeps house, which makes it its own, page by page; what
had been claimed and not settled is unknown then. A term is closed by whoever takes over a partition
that it has; one that has none, of a process that vanished, is closed here, once etcd has said for
longer than any join takes that its member is not there.

Knows the store, and by a function whether a member is there. To drive it: `run()`, and `wake()`
when members or partitions have changed.
"""

import asyncio
from collections.abc import Awaitable, Callable

from services.chassis import logs
from services.chassis.errors import Fault
from services.presence import answers
from services.presence.notifications import (
    Answer,
    DeliveryState,
    Outcome,
    PutDelivery,
    interrupted,
)
from services.presence.receipts import after_answer
from services.presence.recording import Recording
from services.presence.store import HOUSEKEEPERS, Store, Transaction

log = logs.get(__name__)

_LOOK_EVERY_S = 2.0
_FAULT_PAUSE_S = 0.5
# A term is written before its member's key is: it is not dead for want of one so soon.
_JOIN_S = 5.0
_PAGE = 500


class Succession:
    """Runs the succession. `is_member(name, term)` asks etcd whether a member is there under this
    lease, and raises Unavailable if it cannot; `tell()` after something was taken over."""

    def __init__(
        self,
        store: Store,
        is_member: Callable[[str, int], Awaitable[bool]],
        tell: Callable[[], None],
    ) -> None:
        self._store = store
        self._is_member = is_member
        self._tell = tell
        self._wake = asyncio.Event()
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
                if HOUSEKEEPERS in self._store.mine.partitions:
                    await self._take_over()
                    await self._close_vanished()
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            except Fault as fault:
                log.warning("succession_fault", fault=type(fault).__name__)
                await asyncio.sleep(_FAULT_PAUSE_S)

    async def _take_over(self) -> None:
        taken = 0
        while count := await self._store.write(_take_page):
            taken += count
            self._tell()
        if taken:
            log.info("taken_over", deliveries=taken)

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
            await self._store.close_terms(vanished)
            self._wake.set()


def _take_page(tx: Transaction) -> int:
    """Make some of what closed terms left this term's; returns how many, 0: there is no more."""
    found = tx.deliveries_left(_PAGE)
    if not found:
        tx.forget_terms()
        return 0
    tx.lock({delivery.user for delivery in found})
    lost = Answer(Outcome.UNKNOWN, detail="the sender stopped before the answer")
    now = tx.now()
    recording = Recording(tx)
    for delivery in tx.deliveries([delivery.id for delivery in found]):
        if delivery.state is not DeliveryState.SENDING:
            tx.put_deliveries([delivery])
            continue
        # While it was being sent it had a reason only if a receipt came before the answer.
        effects = after_answer([PutDelivery(interrupted(delivery, now))], delivery.reason)
        answers.write(tx, effects, recording)
        open_ones = [one for one in tx.attempts(delivery.id)[-1:] if not one.outcome]
        tx.put_attempts([answers.ended(one, lost, now) for one in open_ones])
    recording.write()
    return len(found)
