"""Followers of a subject, read in slices: what is told, and what it may cost."""

import asyncio

import pytest

from services.chassis.errors import Unavailable
from services.presence import followers, state
from services.presence.followers import Counts, Followers, TooManyReads
from services.presence.sqlite_store import SqliteStore
from services.presence.state import BACKEND, Follow, Register, Standing
from tests.presence.terms import own


def follows(*clients: tuple[str, str, bool]):
    """Have these clients follow /a: (user, client, whether it is there)."""

    def work(tx):
        tx.lock({user for user, *_ in clients})
        for user, client_id, there in clients:
            standing = Standing.ONLINE if there else Standing.OFFLINE
            if client_id != BACKEND:
                register = Register(client_id, 1, "s", 7, standing)
                tx.write_user(user, state.PutRegister(register))
            tx.write_user(user, state.PutFollow(Follow("/a", client_id, 1, 0, 0)))

    return work


class Counted:
    """A store that counts its reads, and holds them back while `goes_on` is unset."""

    def __init__(self, store) -> None:
        self._store = store
        self.reads = self.at_once = self.at_once_max = 0
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def read(self, work):
        self.reads += 1
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            await self.goes_on.wait()
            return await self._store.read(work)
        finally:
            self.at_once -= 1


def with_followers(run, tmp_path, body, *clients) -> None:
    async def claim():
        store = SqliteStore(tmp_path / "presence.db")
        await store.open()
        await own(store)
        await store.write(follows(*clients))
        counted = Counted(store)
        await body(Followers(counted), counted)
        await store.close()

    run(claim())


def crowd(there: int, away: int = 0) -> list[tuple[str, str, bool]]:
    return [(f"u{n:04}", "c", n >= away) for n in range(there + away)]


def users(page) -> list[str]:
    return [one.user for one in page.clients]


@pytest.fixture
def small(monkeypatch):
    """Slices and bounds that a test can reach."""
    monkeypatch.setattr(followers, "_COUNT_SLICE", 4)
    monkeypatch.setattr(followers, "_PAGE_SLICE", 4)
    monkeypatch.setattr(followers, "COUNTED_MAX", 8)
    monkeypatch.setattr(followers, "LOOKED_AT_MAX", 8)


def test_more_questions_than_may_be_under_way_are_refused_and_later_answered(run, tmp_path):
    async def body(reads, store):
        store.goes_on.clear()
        asked = [
            asyncio.create_task(reads.page("/a", f"u{n}", 1)) for n in range(followers.READS_MAX)
        ]
        await asyncio.sleep(0)
        for refused in (reads.page("/a", "", 1), reads.counted("/a")):
            with pytest.raises(TooManyReads):
                await refused
        store.goes_on.set()
        await asyncio.gather(*asked)
        page, _ = await reads.page("/a", "", 1)
        assert users(page) == ["u0000"]

    with_followers(run, tmp_path, body, *crowd(2))


def test_after_the_end_nothing_is_read(run, tmp_path):
    async def body(reads, store):
        reads.end()
        with pytest.raises(Unavailable):
            await reads.counted("/a")
        assert store.reads == 0

    with_followers(run, tmp_path, body, *crowd(1))


def test_whoever_goes_away_takes_the_answer_from_nobody(run, tmp_path):
    async def body(reads, store):
        store.goes_on.clear()
        first = asyncio.create_task(reads.counted("/a"))
        await asyncio.sleep(0)
        second = asyncio.create_task(reads.counted("/a"))
        await asyncio.sleep(0)
        first.cancel()
        store.goes_on.set()
        counts, _ = await second
        assert counts == Counts(1, 0, False)

    with_followers(run, tmp_path, body, *crowd(1))


def test_one_question_of_many_is_read_once_and_costs_one_of_them(run, tmp_path):
    async def body(reads, store):
        answers = await asyncio.gather(*(reads.page("/a", "", 5) for _ in range(50)))
        assert store.reads == 1
        assert {tuple(users(page)) for page, _ in answers} == {("u0000", "u0001", "u0002")}
        assert sum(cost > 0 for _, cost in answers) == 1
        await reads.page("/a", "", 5)
        assert store.reads == 2, "what is asked later is read anew"

    with_followers(run, tmp_path, body, *crowd(3))


def test_slices_of_all_questions_are_read_one_after_the_other(run, tmp_path, small):
    async def body(reads, store):
        await asyncio.gather(reads.counted("/a"), *(reads.page("/a", f"u{n}", 9) for n in range(9)))
        assert store.at_once_max == 1
        assert store.reads >= 10

    with_followers(run, tmp_path, body, *crowd(8))


def test_the_store_is_left_alone_for_as_long_as_a_slice_has_held_it(run, tmp_path):
    async def body(reads, store):
        clock = asyncio.get_running_loop()
        began = clock.time()
        held = 0.0
        for _ in range(20):
            _, cost = await reads.page("/a", "", 500)
            held += cost
        # The rest after the last of them is not waited for.
        assert clock.time() - began >= 2 * held - cost

    with_followers(run, tmp_path, body, *crowd(400))


def test_counts_of_many_followers_are_kept_for_a_moment_and_of_few_are_not(
    run, tmp_path, small, monkeypatch
):
    async def body(reads, store):
        first, _ = await reads.counted("/a")
        assert first == Counts(5, 0, False)
        before = store.reads
        again, cost = await reads.counted("/a")
        assert (again, cost, store.reads) == (first, 0.0, before)
        monkeypatch.setattr(followers, "COUNTS_KEPT_S", 0.0)
        reads._kept.clear()
        await reads.counted("/a")
        before = store.reads
        await reads.counted("/a")
        assert store.reads > before, "no longer than for that moment"
        await reads.counted("/none")
        before = store.reads
        await reads.counted("/none")
        assert store.reads == before + 1

    with_followers(run, tmp_path, body, *crowd(5))


def test_counts_are_kept_of_so_many_subjects(run, tmp_path, small, monkeypatch):
    monkeypatch.setattr(followers, "_COUNTS_KEPT_MAX", 2)

    async def body(reads, _):
        for subject in ("/x", "/y", "/z"):
            reads._keep(subject, Counts(1, 1, False))
        assert list(reads._kept) == ["/y", "/z"]

    with_followers(run, tmp_path, body, *crowd(1))


@pytest.mark.parametrize(("there", "more"), [(7, False), (8, False), (9, True), (20, True)])
def test_followers_are_counted_up_to_a_bound_that_is_told(run, tmp_path, small, there, more):
    async def body(reads, _):
        counts, _ = await reads.counted("/a")
        assert counts == Counts(min(there, 8), 0, more)

    with_followers(run, tmp_path, body, *crowd(there))


def test_pages_skip_who_is_not_there_and_reach_everybody(run, tmp_path, small):
    clients = [
        *crowd(there=0, away=13),
        ("u0099", BACKEND, False),
        *((f"v{n:02}", "c", n % 3 == 0) for n in range(20)),
    ]

    async def body(reads, _):
        found, after, calls = [], "", 0
        while True:
            page, _ = await reads.page("/a", after, 3)
            calls += 1
            found += users(page)
            assert len(page.clients) <= 3
            after = page.next_after_user
            if not after:
                break
        assert found == [f"v{n:02}" for n in range(20) if n % 3 == 0]
        assert calls > 2, "no call looks at everybody"

    with_followers(run, tmp_path, body, *clients)


@pytest.mark.parametrize("devices", [1, 3, 5, 11])
def test_a_page_ends_with_all_clients_of_its_last_user(run, tmp_path, small, devices):
    clients = [(f"u{n}", f"c{m:02}", True) for n in range(4) for m in range(devices)]

    async def body(reads, _):
        found, after = [], ""
        while True:
            page, _ = await reads.page("/a", after, 2)
            here = [(one.user, one.client_id) for one in page.clients]
            assert len(here) % devices == 0
            found += here
            after = page.next_after_user
            if not after:
                break
        assert found == [(user, client_id) for user, client_id, _ in clients]

    with_followers(run, tmp_path, body, *clients)
