"""A term and what is held under it, over a real store; the lease is played."""

import asyncio

import pytest

from services.chassis.errors import StoreFull, Unavailable
from services.presence.owner import Owner
from services.presence.sqlite_store import SqliteStore
from tests.waiting import until


class PlayedLease:
    """A lease that is valid until it is given back."""

    def __init__(self, own_id: int) -> None:
        self.id = own_id
        self.given_back = False

    def valid(self) -> bool:
        return not self.given_back

    async def revoke(self) -> None:
        self.given_back = True


class PlayedWorkers:
    """Counts how often work began."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.running = self.begun = 0
        self.told = 0
        self._fault = fault

    async def run(self) -> None:
        self.begun += 1
        self.running += 1
        try:
            if self._fault is not None:
                raise self._fault
            await asyncio.Event().wait()
        finally:
            self.running -= 1

    def taken(self) -> None:
        self.told += 1


def with_owner(run, tmp_path, body, fault=None, store_type=SqliteStore):
    async def claim():
        store = store_type(str(tmp_path))
        await store.open()
        workers = PlayedWorkers(fault)
        owner = Owner(store, workers, "presence-1", 4)
        try:
            await body(owner, store, workers)
        finally:
            await owner.ended()
            await store.close()

    run(claim())


def test_it_works_from_its_beginning_and_holds_what_the_store_lets_it_have(run, tmp_path):
    async def body(owner, store, workers):
        lease = PlayedLease(7)
        await owner.begin(lease)
        await until(lambda: workers.running == 1)
        assert await owner.take_up({0: 5, 1: 5}) == {}
        assert list(await owner.take_up({1: 5, 2: 6})) == [1]
        assert (owner.held(), store.mine.partitions) == ({0: 5, 1: 5, 2: 6}, {0, 1, 2})
        await owner.release([0])
        assert (owner.held(), store.mine.partitions) == ({1: 5, 2: 6}, {1, 2})
        assert workers.told == 2

    with_owner(run, tmp_path, body)


def test_nothing_is_held_once_the_lease_may_have_ended(run, tmp_path):
    async def body(owner, store, workers):
        lease = PlayedLease(7)
        await owner.begin(lease)
        lease.given_back = True
        assert await owner.take_up({0: 5}) == {}
        assert owner.held() == {}

    with_owner(run, tmp_path, body)


def test_a_term_that_was_closed_gives_its_lease_back_and_another_begins(run, tmp_path):
    async def body(owner, store, workers):
        lease = PlayedLease(7)
        await owner.begin(lease)
        await store.write(lambda tx: tx.close_terms([7]))
        with pytest.raises(Unavailable):
            await owner.take_up({0: 5})
        await until(lambda: lease.given_back)
        await owner.ended()
        assert (owner.held(), workers.running) == ({}, 0)
        await owner.begin(PlayedLease(8))
        assert await owner.take_up({0: 6}) == {}
        assert (store.mine.term, owner.held()) == (8, {0: 6})

    with_owner(run, tmp_path, body)


class FullOnce(SqliteStore):
    """A store whose disk is too full for the first term."""

    full = True

    async def begin(self, term: int, name: str, partitions: int) -> None:
        if self.full:
            self.full = False
            raise StoreFull("the disk is full")
        await super().begin(term, name, partitions)


def test_a_disk_too_full_to_begin_is_told_and_another_term_begins_later(run, tmp_path):
    async def body(owner, store, workers):
        with pytest.raises(Unavailable, match="full"):
            await owner.begin(PlayedLease(7))
        assert workers.begun == 0
        await owner.begin(PlayedLease(8))
        assert store.mine.term == 8

    with_owner(run, tmp_path, body, store_type=FullOnce)


def test_a_fault_of_the_workers_ends_the_term_and_not_the_process(run, tmp_path):
    async def body(owner, store, workers):
        lease = PlayedLease(7)
        await owner.begin(lease)
        await until(lambda: lease.given_back)
        await owner.ended()

    with_owner(run, tmp_path, body, fault=Unavailable("the store does not answer"))


def test_a_bug_of_the_workers_is_raised(run, tmp_path):
    async def body(owner, store, workers):
        lease = PlayedLease(7)
        await owner.begin(lease)
        await until(lambda: lease.given_back)
        with pytest.raises(ZeroDivisionError):
            await owner.ended()

    with_owner(run, tmp_path, body, fault=ZeroDivisionError())
