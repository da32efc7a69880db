"""A store as one process has it that holds everything, and works on it under locks."""

from collections.abc import Callable, Collection
from typing import TypeVar

from services.presence.serial_store import SerialStore
from services.presence.store import Transaction

T = TypeVar("T")


async def own(store: SerialStore, partitions: int = 4, name: str = "presence-1") -> int:
    """Begin the next term and claim all partitions; returns the term."""
    term = await begin(store, partitions, name)
    await take(store, range(partitions))
    return term


async def begin(store: SerialStore, partitions: int = 4, name: str = "presence-1") -> int:
    """Begin the next term, with no partition; returns it."""
    [[term]] = await store.read(lambda tx: tx.db.rows("SELECT coalesce(max(id), 0) FROM terms"))
    await store.begin(term + 1, name, partitions)
    return term + 1


async def take(store: SerialStore, partitions: Collection[int]) -> None:
    """Claim partitions above all epochs that there are."""
    [[epoch]] = await store.read(
        lambda tx: tx.db.rows("SELECT coalesce(max(epoch), 0) FROM partitions")
    )
    assert await store.claim(dict.fromkeys(partitions, epoch + 1)) == set(partitions)


def lock_all(store: SerialStore, users: Collection[str]) -> None:
    """Have every write of the store lock these users, besides those whom the work locks itself."""
    write = store.write

    def lenient(work):
        def begin(tx):
            tx.lock(users)
            lock = tx.db.lock
            tx.lock = lambda more, tokens=(): _extend(tx, more) or lock(sorted({*more, *tokens}))
            return work(tx)

        return begin

    store.write = lambda work: write(lenient(work))  # type: ignore[method-assign]


def _extend(tx, users: Collection[str]) -> None:
    tx._locked_users |= set(users)


def locked(users: Collection[str], work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
    """The work with these users locked."""

    def under_locks(tx: Transaction) -> T:
        tx.lock(users)
        return work(tx)

    return under_locks
