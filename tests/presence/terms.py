"""A store as one process has it that holds everything, and works on it under locks."""

from collections.abc import Callable, Collection
from typing import TypeVar

from services.presence.serial_store import SerialStore
from services.presence.store import Transaction

T = TypeVar("T")


async def own(store: SerialStore, partitions: int = 4, name: str = "presence-1") -> int:
    """Begin the next term and claim all partitions; returns the term."""

    def newest(tx) -> tuple[int, int]:
        [[term]] = tx.db.rows("SELECT coalesce(max(id), 0) FROM terms")
        [[epoch]] = tx.db.rows("SELECT coalesce(max(epoch), 0) FROM partitions")
        return term + 1, epoch + 1

    term, epoch = await store.read(newest)
    await store.begin(term, name, partitions)
    assert len(await store.claim(dict.fromkeys(range(partitions), epoch))) == partitions
    return term


def lock_all(store: SerialStore, users: Collection[str]) -> None:
    """Have every write of the store lock these users, besides those whom the work locks itself."""
    write = store.write

    def lenient(work):
        def begin(tx):
            tx.lock(users)
            lock = tx.db.lock
            tx.lock = lambda more: _extend(tx, more) or lock(sorted(more))
            return work(tx)

        return begin

    store.write = lambda work: write(lenient(work))  # type: ignore[method-assign]


def _extend(tx, users: Collection[str]) -> None:
    tx._locked |= set(users)


def locked(users: Collection[str], work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
    """The work with these users locked."""

    def under_locks(tx: Transaction) -> T:
        tx.lock(users)
        return work(tx)

    return under_locks
