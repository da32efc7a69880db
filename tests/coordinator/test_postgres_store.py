"""What only a store has that several processes share: rivals, deadlines, its start, its clock."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from services.chassis.errors import StartError, StoreFull, Unavailable
from services.coordinator import postgres_sessions
from services.coordinator.postgres_store import PostgresStore
from services.coordinator.store import (
    MARK,
    MESSAGE,
    Claimed,
    ClaimRefused,
    Facts,
    Keep,
    LogRow,
    Lookup,
    Publication,
    PublicationKey,
    Stamp,
    Writes,
)
from tests.coordinator.harness import Run
from tests.real_postgres import PostgresServer
from tests.waiting import until


@asynccontextmanager
async def opened(url: str, answer_s: float = 10) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(url, answer_s)
    try:
        yield store
    finally:
        await store.close()


def one_more(partition: int, facts: Facts) -> Writes:
    """The next message of the partition's one subject."""
    subject = f"/{partition}"
    seq = facts.heads[subject].seq + 1 if subject in facts.heads else 1
    row = LogRow(facts.part.tail + 1, MESSAGE, subject, seq, b"x")
    key = PublicationKey(f"{partition} {seq}".encode())
    return Writes([row], {subject: seq}, publications={key: Publication(b"d", seq, 1)})


async def append(store: PostgresStore, terms: dict[int, int], at_ms: int = 1_000) -> frozenset[int]:
    lookups = {p: Lookup([f"/{p}"]) for p in terms}
    return await store.append(Stamp(at_ms, at_ms), terms, lookups, one_more)


def execute(url: str, statement: str) -> list[tuple]:  # type: ignore[type-arg]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET search_path = onward_log")
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


# Rivals.


def test_rivals_leave_no_gap_and_no_epoch_that_falls_and_never_wait_for_one_another(
    run: Run, postgres_url: str
) -> None:
    partitions, rounds = 24, 40
    epochs = iter(range(1, 10_000))
    accepted: dict[int, int] = dict.fromkeys(range(partitions), 0)

    async def rival(store: PostgresStore, name: str, dice: random.Random) -> int:
        mine: dict[int, int] = {}
        taken = 0
        for _ in range(rounds):
            if not mine or dice.random() < 0.4:
                wanted = dice.sample(range(partitions), dice.randint(1, partitions))
                epoch = next(epochs)
                outcomes = await store.claim(dict.fromkeys(wanted, epoch), name, {})
                mine |= {p: epoch for p, it in outcomes.items() if isinstance(it, Claimed)}
                taken += 1
            if not mine:
                continue  # another was faster, with a later epoch
            some = dice.sample(sorted(mine), max(1, len(mine) // 2))
            dice.shuffle(some)
            deposed = await append(store, {p: mine[p] for p in some})
            for p in some:
                if p in deposed:
                    del mine[p]
                else:
                    accepted[p] += 1
        return taken

    async def body() -> None:
        async with opened(postgres_url) as a, opened(postgres_url) as b, opened(postgres_url) as c:
            rivals = [rival(it, str(n), random.Random(n)) for n, it in enumerate((a, b, c))]
            assert all(await asyncio.gather(*rivals))
            rows = execute(postgres_url, "SELECT p, pos, seq, epoch FROM log ORDER BY p, pos")
            for p in range(partitions):
                log = [row[1:] for row in rows if row[0] == p]
                assert [it[:2] for it in log] == [(n, n) for n in range(1, accepted[p] + 1)]
                assert [it[2] for it in log] == sorted(it[2] for it in log)
            assert sum(accepted.values()) == len(rows) > 3 * rounds
            tails = await a.read_tails(range(partitions))
            assert tails == accepted

    run(body())


def test_all_lock_in_one_order_whatever_the_order_they_ask_in(run: Run, postgres_url: str) -> None:
    async def body() -> None:
        async with opened(postgres_url) as store:
            await store.claim({1: 1, 2: 1, 3: 1}, "a", {})
            blocked = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            for write in (
                append(store, {3: 1, 2: 1, 1: 1}),
                store.claim({3: 2, 2: 2, 1: 2}, "a", {}),
            ):
                with psycopg.connect(postgres_url) as other:
                    other.execute("SELECT FROM onward_log.parts WHERE p = 1 FOR UPDATE")
                    task = asyncio.create_task(write)
                    await until(lambda: execute(postgres_url, blocked))
                    execute(postgres_url, "SELECT FROM parts WHERE p > 1 FOR UPDATE NOWAIT")
                await task

    run(body())


def test_what_was_deposed_between_reading_and_writing_writes_nothing_of_any_kind(
    run: Run, postgres_url: str
) -> None:
    async def body() -> None:
        async with opened(postgres_url) as old, opened(postgres_url) as new:
            await old.claim({1: 1, 2: 1}, "old", {})

            def decide(partition: int, facts: Facts) -> Writes:
                if partition == 2:
                    execute(postgres_url, "UPDATE parts SET epoch = 2, owner = 'new' WHERE p = 1")
                return one_more(partition, facts)

            terms = {1: 1, 2: 1}
            lookups = {p: Lookup([f"/{p}"]) for p in terms}
            assert await old.append(Stamp(0, 1), terms, lookups, decide) == {1}
            for table in ("log", "heads", "publications"):
                assert execute(postgres_url, f"SELECT DISTINCT p FROM {table}") == [(2,)]
            assert not await append(new, {1: 2})
            keep = Keep(since_ms=9_999, messages=0, young_since_ms=9_999, below_pos=9)
            assert await old.sweep(1, 1, keep, 9) == await old.shorten(1, 1, "/1", keep, 9) == 0
            assert await new.read_tails([1, 2]) == {1: 1, 2: 1}

    run(body())


def test_an_older_copy_in_the_place_of_the_store_is_neither_written_to_nor_claimed(
    run: Run, postgres_url: str
) -> None:
    """As after a restore under an owner that goes on: the copy has its epoch, and ends earlier."""

    async def main() -> None:
        async with opened(postgres_url) as store:
            assert await store.claim({1: 7, 2: 7}, "c", {}) == {1: Claimed(0), 2: Claimed(0)}
            for _ in range(2):
                assert await append(store, {1: 7, 2: 7}) == frozenset()
            execute(postgres_url, "DELETE FROM log WHERE p = 1 AND pos = 2")
            execute(postgres_url, "UPDATE heads SET seq = 1 WHERE p = 1")
            execute(postgres_url, "UPDATE parts SET tail = 1 WHERE p = 1")
            assert await append(store, {1: 7, 2: 7}) == {1}
            assert await store.read_tails([1, 2]) == {1: 1, 2: 3}
            refused = (await store.claim({1: 8}, "c", {}))[1]
            assert isinstance(refused, ClaimRefused) and "an older copy" in refused.reason

    run(main())


def test_ids_are_removed_by_several_at_once_and_by_nobody_twice(
    run: Run, postgres_url: str
) -> None:
    async def body() -> None:
        async with opened(postgres_url) as a, opened(postgres_url) as b:
            await a.claim({1: 1}, "a", {})
            for n in range(30):
                await append(a, {1: 1}, at_ms=n)
            removed = await asyncio.gather(*(it.forget_ids(25, 4) for it in (a, b) * 5))
            assert sum(removed) == 25
            assert execute(postgres_url, "SELECT count(*) FROM publications") == [(5,)]

    run(body())


# Failures.


def test_a_server_that_does_not_answer_is_given_up_in_time_and_used_again(
    run: Run, postgres_url: str, postgres_server: PostgresServer
) -> None:
    async def body() -> None:
        async with opened(postgres_url, answer_s=1.5) as store:
            await store.claim({1: 1}, "a", {})
            postgres_server.freeze()
            try:
                began = time.monotonic()
                with pytest.raises(Unavailable, match="did not answer"):
                    await append(store, {1: 1})
                assert time.monotonic() - began < 5
            finally:
                postgres_server.thaw()
            assert isinstance((await store.claim({1: 2}, "a", {}))[1], Claimed)
            assert not await append(store, {1: 2})

    run(body())


def test_a_lock_that_is_held_for_long_ends_the_append_and_writes_nothing(
    run: Run, postgres_url: str
) -> None:
    async def body() -> None:
        async with opened(postgres_url, answer_s=1.5) as store:
            await store.claim({1: 1}, "a", {})
            with psycopg.connect(postgres_url) as other:
                other.execute("SELECT FROM onward_log.parts FOR UPDATE")
                with pytest.raises(Unavailable, match="QueryCanceled"):
                    await append(store, {1: 1})
            assert await store.read_tails([1]) == {1: 0}
            assert not await append(store, {1: 1})

    run(body())


@pytest.mark.parametrize("state", ["53100", "25006"])
def test_a_full_disk_is_a_fault_of_its_own_and_loses_nothing(
    run: Run, postgres_url: str, state: str
) -> None:
    async def body() -> None:
        async with opened(postgres_url) as store:
            await store.claim({1: 1}, "a", {})
            await append(store, {1: 1})
            execute(
                postgres_url,
                "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$",
            )
            trigger = "CREATE TRIGGER no_room BEFORE INSERT ON {} EXECUTE FUNCTION no_room()"
            execute(postgres_url, trigger.format("log"))
            execute(postgres_url, trigger.format("meta"))
            with pytest.raises(StoreFull):
                await append(store, {1: 1})
            with pytest.raises(StoreFull):
                await store.probe()
            execute(postgres_url, "DROP FUNCTION no_room CASCADE")
            await store.probe()
            assert not await append(store, {1: 1})
            assert await store.read_tails([1]) == {1: 2}

    run(body())


def test_after_a_failure_every_connection_is_made_anew_and_only_to_the_same_log(
    run: Run, postgres_url: str
) -> None:
    async def body() -> None:
        async with opened(postgres_url) as store:
            await store.claim({1: 1}, "a", {})
            count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'onward%'"
            await asyncio.gather(*(store.read_tails([1]) for _ in range(9)))
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '{}%'"
            assert execute(postgres_url, ended.format("WITH b AS"))
            with pytest.raises(Unavailable):
                await append(store, {1: 1})
            assert not await append(store, {1: 1})
            await asyncio.gather(*(store.read_tails([1]) for _ in range(9)))
            await until(lambda: execute(postgres_url, count)[0][0] <= 3)
            execute(postgres_url, "UPDATE meta SET value = 'another' WHERE name = 'log_id'")
            assert execute(postgres_url, ended.format("WITH b AS"))
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await append(store, {1: 1})
            with pytest.raises(Unavailable, match="another log"):
                await store.read_tails([1])

    run(body())


# The start.


def test_several_that_start_at_once_make_one_log(run: Run, postgres_url: str) -> None:
    async def body() -> None:
        stores = await asyncio.gather(*(PostgresStore.open(postgres_url, 5) for _ in range(4)))
        assert len({store.log_id for store in stores}) == 1
        for store in stores:
            await store.close()

    run(body())


def test_a_newer_schema_stops_the_start(run: Run, postgres_url: str) -> None:
    async def body() -> None:
        async with opened(postgres_url):
            execute(postgres_url, "UPDATE meta SET value = '77' WHERE name = 'schema'")
        with pytest.raises(StartError, match="schema 77"):
            await PostgresStore.open(postgres_url, 5)

    run(body())


def test_a_role_that_may_not_make_the_tables_stops_the_start(run: Run, postgres_url: str) -> None:
    async def body() -> None:
        execute(postgres_url, "DROP ROLE IF EXISTS weak")
        execute(postgres_url, "CREATE ROLE weak LOGIN")
        with pytest.raises(StartError, match="right to create a schema"):
            await PostgresStore.open(postgres_url.replace("postgres@", "weak@"), 5)

    run(body())


@pytest.mark.parametrize(
    "url", ["mysql://x", "host=x password=secret", "postgresql://u:secret@h/d?x=y"]
)
def test_a_wrong_address_is_told_with_the_remedy_and_not_repeated(url: str) -> None:
    with pytest.raises(StartError, match="set it to postgresql://") as told:
        postgres_sessions.connect(postgres_sessions.address_of(url), 1)
    assert "secret" not in str(told.value)


def test_nobody_there_is_unavailable_without_the_password(run: Run) -> None:
    async def body() -> None:
        with pytest.raises(Unavailable) as told:
            await PostgresStore.open("postgresql://u:secret@127.0.0.1:1/x", 1)
        assert "secret" not in str(told.value) and "refused" in str(told.value)

    run(body())


# The clock.


def mark(_: int, facts: Facts) -> Writes:
    return Writes([LogRow(facts.part.tail + 1, MARK, None, None, b"mark")])


def test_machines_agree_on_the_steady_time_whatever_their_wall_clocks_say(
    run: Run, postgres_url: str
) -> None:
    async def body() -> None:
        async with opened(postgres_url) as a, opened(postgres_url) as b:
            now_ms = time.time_ns() // 1_000_000
            offset_ms = await a.adopt_clock("a boot", 5_000, 1)
            assert abs(offset_ms + 5_000 - now_ms) < 10_000
            assert await b.adopt_clock("a boot", 6_000, 2) == offset_ms
            # An hour behind the database's clock, which jumped, or after which others began.
            steady_ms = now_ms - 3_600_000
            await a.claim({1: 1}, "a", {})
            await a.append(Stamp(0, steady_ms), {1: 1}, {1: Lookup()}, mark)
            other_ms = await b.adopt_clock("another boot", 100, 3) + 100
            assert 0 <= other_ms - steady_ms < 10_000
            ahead_ms = now_ms + 3_600_000
            await a.append(Stamp(0, ahead_ms), {1: 1}, {1: Lookup()}, mark)
            execute(postgres_url, "UPDATE parts SET written_at = written_at + 7200000")
            assert await b.adopt_clock("a third boot", 100, 4) + 100 == ahead_ms

    run(body())
