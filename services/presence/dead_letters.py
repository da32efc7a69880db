"""Deliveries that were given up: shown, sent again with the ids that they have, or dropped.

A dead letter that is replayed is due now, as a retry: with as many tries to come as at first, and
as much time for them. It is claimed like any other, so what is against it by then is asked anew.
Whoever replays it sends it. Knows the store; must not know plugins or the wire. To drive it:
`await DeadLetters(store, tell).replay(which, after_id)`, and go on behind the id it returns.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from services.presence.notifications import Delivery, DeliveryState, Span
from services.presence.store import Store, Transaction
from services.presence.store_deliveries import Which
from services.presence.store_outbox import Attempt

# Of one transaction, which locks as many users at most.
_PAGE = 500
# Looked at in one call, so that it ends in time.
CALL_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Letters:
    """Some dead letters, by id."""

    letters: Sequence[Delivery]
    # By delivery id, of those that were tried.
    last_attempts: Mapping[str, Attempt]
    # What to go on behind; empty: that was all.
    next_after_id: str


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter, with its tries and the messages it stands for."""

    letter: Delivery
    attempts: Sequence[Attempt]
    spans: Sequence[Span]


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of some dead letters: replayed or dropped, or expired and so left as they are."""

    moved: int = 0
    expired: int = 0
    next_after_id: str = ""


def replayed(letter: Delivery, now: float) -> Delivery | None:
    """The dead letter as it is due again; None: its time has run out."""
    if letter.expires_at <= now:
        return None
    return replace(letter, state=DeliveryState.RETRY, due_at=now, tries=0, reason="REPLAYED")


def dropped(letter: Delivery) -> Delivery:
    """The dead letter, given up for good."""
    return replace(letter, state=DeliveryState.FAILED, due_at=None, reason="DROPPED")


class DeadLetters:
    """The dead letters of a store. `tell(channels)` after something was made due."""

    def __init__(self, store: Store, tell: Callable[[set[str]], None]) -> None:
        self._store = store
        self._tell = tell

    async def page(self, which: Which, after_id: str, limit: int) -> Letters:
        """Some of them. Raises Unavailable."""

        def read(tx: Transaction) -> Letters:
            ids = tx.dead_letter_ids(which, after_id, limit)
            more = ids[-1] if len(ids) == limit else ""
            return Letters(tx.deliveries(ids), tx.last_attempts(ids), more)

        return await self._store.read(read)

    async def get(self, delivery_id: str) -> Letter | None:
        """One of them; None: there is none of that id. Raises Unavailable."""

        def read(tx: Transaction) -> Letter | None:
            found = tx.deliveries([delivery_id])
            if not found or found[0].state is not DeliveryState.DEAD:
                return None
            letter = found[0]
            return Letter(letter, tx.attempts(letter.id), tx.members(letter.notification_id))

        return await self._store.read(read)

    async def replay(self, which: Which, after_id: str = "") -> Moved:
        """Make them due, page by page. Raises Deposed, StoreFull, Unavailable: what was made due
        before stays so."""
        schemes: set[str] = set()

        def page(tx: Transaction, letters: Sequence[Delivery]) -> int:
            again = [one for letter in letters if (one := replayed(letter, tx.now())) is not None]
            tx.put_deliveries(again)
            schemes.update(one.scheme for one in again)
            return len(again)

        try:
            return await self._move(which, after_id, page)
        finally:
            self._tell(schemes)

    async def drop(self, which: Which, after_id: str = "") -> Moved:
        """Give them up, page by page. Raises as `replay`."""

        def page(tx: Transaction, letters: Sequence[Delivery]) -> int:
            tx.put_deliveries([dropped(letter) for letter in letters])
            return len(letters)

        return await self._move(which, after_id, page)

    async def _move(
        self,
        which: Which,
        after_id: str,
        move: Callable[[Transaction, Sequence[Delivery]], int],
    ) -> Moved:
        moved = seen = looked_at = 0

        def page(tx: Transaction) -> tuple[Sequence[str], int, int]:
            ids = tx.dead_letter_ids(which, after_id, _PAGE)
            tx.lock({one.user for one in tx.deliveries(ids)})
            letters = [one for one in tx.deliveries(ids) if one.state is DeliveryState.DEAD]
            return ids, len(letters), move(tx, letters)

        while looked_at < CALL_MAX:
            ids, found, done = await self._store.write(page)
            moved, seen, looked_at = moved + done, seen + found, looked_at + len(ids)
            if len(ids) < _PAGE:
                return Moved(moved, seen - moved)
            after_id = ids[-1]
        return Moved(moved, seen - moved, after_id)
