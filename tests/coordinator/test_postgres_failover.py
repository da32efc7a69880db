"""A primary and its synchronous standby: what was accepted outlives either of them."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from services.chassis.errors import Unavailable
from services.coordinator.postgres_store import PostgresStore
from services.coordinator.store import Claimed
from tests.coordinator.harness import Run
from tests.coordinator.test_postgres_store import append, execute, opened
from tests.real_postgres import Replicated, missing, replicated
from tests.waiting import until


@pytest.fixture(scope="module")
def pair() -> Iterator[Replicated]:
    """One pair for this module; its last test ends the primary."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with replicated() as both:
        yield both


async def claimed(store: PostgresStore, epoch: int) -> int | None:
    """The tail of partition 1, once a claim takes effect; None: it did not yet."""
    try:
        outcome = (await store.claim({1: epoch}, "a", {}))[1]
    except Unavailable:
        return None
    return outcome.tail if isinstance(outcome, Claimed) else None


def waiting_for_standby(url: str) -> list[tuple[Any, ...]]:
    return execute(url, "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")


def test_without_its_standby_nothing_is_accepted_nor_seen_and_with_it_all_goes_on(
    run: Run, pair: Replicated
) -> None:
    async def body() -> None:
        async with opened(pair.url(), answer_s=1.5) as store:
            await store.claim({1: 1}, "a", {})
            assert not await append(store, {1: 1})
            pair.standby.kill()
            began = time.monotonic()
            with pytest.raises(Unavailable, match="did not answer"):
                await append(store, {1: 1})
            assert time.monotonic() - began < 5
            assert waiting_for_standby(pair.primary.url()), "it was not cancelled"
            assert await store.read_tails([1]) == {1: 1}, "what no standby has is shown to nobody"
            assert await claimed(store, 2) is None
            assert await store.forget_ids(10_000, 9) == 1, "old ids wait for no standby"
            assert await store.adopt_clock("a boot", 1, 1)
            pair.standby.start()
            epochs = iter(range(3, 100))
            assert await until(lambda: claimed(store, next(epochs)), every_s=0.1) == 2
            assert await store.read_tails([1]) == {1: 2}

    run(body())


def test_a_wait_for_the_standby_that_somebody_cancels_accepts_nothing(
    run: Run, pair: Replicated
) -> None:
    async def body() -> None:
        async with opened(pair.url()) as store:
            epoch, tail = 1_000, await claimed(store, 1_000)
            assert tail is not None
            pair.standby.freeze()
            try:
                task = asyncio.create_task(append(store, {1: epoch}))
                pids = await until(lambda: waiting_for_standby(pair.primary.url()))
                execute(pair.primary.url(), f"SELECT pg_cancel_backend({pids[0][0]})")
                with pytest.raises(Unavailable, match="did not wait for its standby"):
                    await task
            finally:
                pair.standby.thaw()
            # A claim that is told has the standby behind it, and with it whatever went before.
            assert await claimed(store, epoch + 1) == tail + 1

    run(body())


def test_a_primary_that_is_killed_takes_nothing_accepted_along(run: Run, pair: Replicated) -> None:
    async def body() -> None:
        async with opened(pair.url(), answer_s=3) as store:
            tail = await claimed(store, 2_000)
            assert tail is not None
            killed = asyncio.get_running_loop().run_in_executor
            accepted, kill = tail, None
            with pytest.raises(Unavailable):
                while True:
                    assert not await append(store, {1: 2_000})
                    accepted += 1
                    if accepted == tail + 50:
                        kill = killed(None, pair.primary.kill)
            assert kill is not None
            await kill
            with pytest.raises(Unavailable):
                await store.read_tails([1])
            pair.standby.promote()
            epochs = iter(range(2_001, 3_000))
            found = await until(lambda: claimed(store, next(epochs)), every_s=0.05)
            assert found in (accepted, accepted + 1), "the one in flight may be there"
            page = await store.read_messages(1, "/1", 0, 10_000, 10**9)
            assert [it.seq for it in page.messages] == list(range(1, found + 1))
            assert not await append(store, {1: next(epochs) - 1})

    run(body())
