"""What every log store promises, above all the fence. Parameterised by store."""

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.chassis.errors import StartError, StoreFull, Unavailable
from services.coordinator.postgres_store import PostgresStore
from services.coordinator.sqlite_store import SqliteStore
from services.coordinator.store import (
    MESSAGE,
    Claimed,
    ClaimRefused,
    EventKey,
    Facts,
    Head,
    Keep,
    LogRow,
    LogStore,
    Lookup,
    Part,
    Publication,
    RecordedEvent,
    Register,
    Stamp,
    StoredMessage,
    Writes,
    publication_key,
)

Run = Callable[[Any], Any]
Open = Callable[[], Any]
NOW = Stamp(wall_ms=1_000_000, steady_ms=1_000_000)
KEY = publication_key("/a", "bob", "p1")
REGISTER = Register("ann", "c", 1, "s1", 7, True, False, False, ("/a",), ("fcm:1",))


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the store; the same data each time."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""

    @asynccontextmanager
    async def store() -> Any:
        it = await PostgresStore.open(url, answer_s=10) if url else SqliteStore.open(tmp_path)
        try:
            yield it
        finally:
            await it.close()

    return store


def row(pos: int, subject: str = "/a", seq: int | None = None, entry: bytes = b"x") -> LogRow:
    return LogRow(pos, MESSAGE, subject, seq if seq is not None else pos, entry)


def messages(first: int, last: int, subject: str = "/a", entry: bytes = b"x") -> Writes:
    rows = [row(n, subject, n, entry) for n in range(first, last + 1)]
    return Writes(rows=rows, heads={subject: last})


async def append(
    store: LogStore, writes: Mapping[int, Writes], epoch: int = 5, stamp: Stamp = NOW
) -> frozenset[int]:
    return await store.append(
        stamp,
        dict.fromkeys(writes, epoch),
        dict.fromkeys(writes, Lookup()),
        lambda partition, facts: writes[partition],
    )


async def look(store: LogStore, partition: int, lookup: Lookup, epoch: int = 5) -> Facts:
    seen: list[Facts] = []

    def decide(_: int, facts: Facts) -> Writes:
        seen.append(facts)
        return Writes()

    assert not await store.append(NOW, {partition: epoch}, {partition: lookup}, decide)
    return seen[0]


def test_a_deposed_epoch_appends_nothing_while_the_others_commit(run: Run, opened: Open) -> None:
    async def body() -> None:
        async with opened() as store:
            await store.claim({1: 5, 2: 5, 3: 5}, "c1", {})
            await store.claim({2: 6}, "c2", {})
            called = []

            def decide(partition: int, facts: Facts) -> Writes:
                called.append(partition)
                return messages(1, 2, f"/{partition}")

            terms = {1: 5, 2: 5, 3: 5}
            deposed = await store.append(NOW, terms, dict.fromkeys(terms, Lookup()), decide)
            assert deposed == {2} and called == [1, 3]
            assert await store.read_tails([1, 2, 3, 4]) == {1: 2, 2: 0, 3: 2, 4: 0}
            assert (await store.read_messages(2, "/2", 0, 10, 1000)).messages == ()

    run(body())


def test_a_claim_takes_effect_only_above_the_stored_epoch(run: Run, opened: Open) -> None:
    async def body() -> None:
        async with opened() as store:
            assert await store.claim({1: 5}, "c1", {}) == {1: Claimed(0)}
            await append(store, {1: messages(1, 3)})
            for epoch in (5, 4):
                outcome = (await store.claim({1: epoch}, "c2", {}))[1]
                assert isinstance(outcome, ClaimRefused) and "era" in outcome.reason.lower()
            assert await store.claim({1: 6}, "c2", {}) == {1: Claimed(3)}

    run(body())


def test_a_log_shorter_than_it_was_is_refused(run: Run, opened: Open) -> None:
    async def body() -> None:
        async with opened() as store:
            await store.claim({1: 5}, "c1", {})
            await append(store, {1: messages(1, 3)})
            outcomes = await store.claim({1: 6, 2: 6}, "c1", {1: 4, 2: 0})
            assert isinstance(outcomes[1], ClaimRefused) and outcomes[2] == Claimed(0)
            assert not await append(store, {1: messages(4, 4)})
            assert await store.claim({1: 7}, "c1", {1: 4}) == {1: Claimed(4)}

    run(body())


def test_a_partition_that_nobody_claimed_takes_nothing(run: Run, opened: Open) -> None:
    async def body() -> None:
        async with opened() as store:
            assert await append(store, {1: messages(1, 1)}) == {1}

    run(body())


def test_facts_are_what_was_written(run: Run, opened: Open) -> None:
    async def body() -> None:
        async with opened() as store:
            await store.claim({1: 5}, "c1", {})
            writes = messages(1, 2)
            writes.publications[KEY] = Publication(b"d", 2, 5)
            writes.events[EventKey("s1", 1)] = RecordedEvent(9, 3)
            writes.registers[("ann", "c")] = REGISTER
            await append(store, {1: writes})
            lookup = Lookup(
                ["/a", "/b"],
                [KEY, publication_key("/a", "eve", "p1")],
                [EventKey("s1", 1), EventKey("s1", 2)],
                [("ann", "other"), ("eve", "c")],
            )
            assert await look(store, 1, lookup) == Facts(
                Part(5, 2, 0, 0),
                {"/a": Head(2, 0)},
                {KEY: Publication(b"d", 2, 5)},
                {EventKey("s1", 1): RecordedEvent(9, 3)},
                {"ann": {"c": REGISTER}, "eve": {}},
            )

    run(body())


def test_forgotten_clients_and_observers_come_only_when_asked_for(run: Run, opened: Open) -> None:
    async def body() -> None:
        async with opened() as store:
            await store.claim({1: 5}, "c1", {})
            gone = Register("ann", "gone", 4, "s2", 7, False, False, True)
            looks = Register("ann", "looks", 1, "s3", 7, True, True, False)
            registers = {("ann", it.client_id): it for it in (REGISTER, gone, looks)}
            await append(store, {1: Writes(registers=registers)})
            facts = await look(store, 1, Lookup(clients=[("ann", "c")]))
            assert facts.registers == {"ann": {"c": REGISTER}}
            facts = await look(store, 1, Lookup(clients=[("ann", "gone"), ("ann", "looks")]))
            assert facts.registers["ann"] == {"c": REGISTER, "gone": gone, "looks": looks}
            facts = await look(store, 1, Lookup(users=["ann", "eve"]))
            assert facts.registers == {
                "ann": {"c": REGISTER, "gone": gone, "looks": looks},
                "eve": {},
            }
            facts = await look(store, 1, Lookup(clients=[("bob", "c")], users=["ann"]))
            assert facts.registers.keys() == {"ann", "bob"} and len(facts.registers["ann"]) == 3

    run(body())


def test_a_retained_message_is_a_copy_that_outlives_the_log(run: Run, opened: Open) -> None:
    async def body() -> None:
        async with opened() as store:
            await store.claim({1: 5}, "c1", {})
            assert await store.read_retained("/a") is None
            writes = messages(1, 2)
            writes.retained["/a"] = writes.rows[0]
            await append(store, {1: writes}, stamp=Stamp(0, 100))
            await store.sweep(1, 5, keep(since_ms=200), 9)
            assert (await store.read_messages(1, "/a", 0, 9, 1000)).messages == []
        async with opened() as store:
            assert await store.read_retained("/a") == StoredMessage(1, 1, b"x")
            await append(store, {1: Writes(retained={"/a": row(3, "/a", 3, b"y")})})
            assert await store.read_retained("/a") == StoredMessage(3, 3, b"y")
            await append(store, {1: Writes(retained={"/a": None})})
            assert await store.read_retained("/a") is None

    run(body())


def test_everything_is_there_after_a_restart(run: Run, opened: Open) -> None:
    async def body() -> None:
        async with opened() as store:
            log_id = store.log_id
            await store.claim({1: 5}, "c1", {})
            await append(store, {1: messages(1, 3)})
        async with opened() as store:
            assert store.log_id == log_id
            assert await store.read_tails([1]) == {1: 3}
            assert (await look(store, 1, Lookup(["/a"]))).heads == {"/a": Head(3, 0)}

    run(body())


def test_messages_are_read_in_order_within_the_limits(run: Run, opened: Open) -> None:
    async def body() -> None:
        async with opened() as store:
            await store.claim({1: 5}, "c1", {})
            await append(store, {1: messages(1, 9, entry=b"12345")})

            async def read(after: int, limit: int, size: int) -> list[int]:
                page = await store.read_messages(1, "/a", after, limit, size)
                assert (page.head, page.floor) == (9, 0)
                return [it.seq for it in page.messages]

            assert await read(0, 3, 100) == [1, 2, 3]
            assert await read(7, 9, 100) == [8, 9]
            assert await read(9, 9, 100) == []
            assert await read(0, 9, 14) == [1, 2]
            assert await read(0, 9, 1) == [1]
            page = await store.read_messages(1, "/a", 8, 9, 9)
            assert page.messages == [StoredMessage(9, 9, b"12345")]
            entries = await store.read_entries(1, 6, 2, 100)
            assert [it.pos for it in entries] == [7, 8]
            assert [it.pos for it in await store.read_entries(1, 6, 9, 1)] == [7]

    run(body())


def test_a_bug_in_a_decision_writes_nothing(run: Run, opened: Open) -> None:
    async def body() -> None:
        async with opened() as store:
            await store.claim({1: 5, 2: 5}, "c1", {})

            def decide(partition: int, facts: Facts) -> Writes:
                if partition == 2:
                    raise AssertionError("a bug")
                return messages(1, 1)

            terms = {1: 5, 2: 5}
            with pytest.raises(AssertionError, match="a bug"):
                await store.append(NOW, terms, dict.fromkeys(terms, Lookup()), decide)
            with pytest.raises(AssertionError, match="hole"):
                await append(store, {1: messages(2, 2)})
            assert await store.read_tails([1]) == {1: 0}
            assert not await append(store, {1: messages(1, 1)})

    run(body())


def test_old_ids_leave_in_slices_oldest_first(run: Run, opened: Open) -> None:
    async def body() -> None:
        async with opened() as store:
            await store.claim({1: 5}, "c1", {})
            for n in range(5):
                key = publication_key("/a", "bob", f"p{n}")
                writes = Writes(publications={key: Publication(b"d", n, 5)})
                writes.events[EventKey("s", n)] = RecordedEvent(n, 1)
                await append(store, {1: writes}, stamp=Stamp(0, 100 * n))
            assert [await store.forget_ids(300, 2) for _ in range(3)] == [4, 2, 0]
            left = Lookup([], [publication_key("/a", "bob", f"p{n}") for n in range(5)])
            found = (await look(store, 1, left)).publications
            assert list(found) == [publication_key("/a", "bob", it) for it in ("p3", "p4")]

    run(body())


def keep(**changes: int) -> Keep:
    everything = {"since_ms": 0, "messages": 100, "young_since_ms": 10_000, "below_pos": 1_000}
    return Keep(**{**everything, **changes})


def test_old_entries_leave_and_the_floor_says_so(run: Run, opened: Open) -> None:
    async def body() -> None:
        async with opened() as store:
            await store.claim({1: 5}, "c1", {})
            await append(store, {1: messages(1, 4)}, stamp=Stamp(0, 100))
            await append(store, {1: messages(5, 6)}, stamp=Stamp(0, 200))
            old = keep(since_ms=150)
            assert await store.sweep(1, 4, old, 3) == 0, "another epoch removes nothing"
            assert await store.sweep(1, 5, keep(since_ms=150, below_pos=1), 3) == 1
            assert [await store.sweep(1, 5, old, 2) for _ in range(3)] == [2, 1, 0]
            page = await store.read_messages(1, "/a", 0, 10, 1000)
            assert (page.head, page.floor) == (6, 4)
            assert [it.seq for it in page.messages] == [5, 6]
            facts = await look(store, 1, Lookup(["/a"]))
            assert facts.part == Part(5, 6, 4, 0) and facts.heads["/a"] == Head(6, 4)

    run(body())


def test_a_long_subject_is_shortened_but_for_what_is_young(run: Run, opened: Open) -> None:
    async def body() -> None:
        async with opened() as store:
            await store.claim({1: 5}, "c1", {})
            await append(store, {1: messages(1, 8)}, stamp=Stamp(0, 100))
            short = keep(messages=2, young_since_ms=200)
            assert await store.shorten(1, 5, "/a", keep(messages=2, young_since_ms=50), 9) == 0
            assert await store.shorten(1, 5, "/a", keep(messages=2, below_pos=0), 9) == 0
            assert await store.shorten(1, 4, "/a", short, 9) == 0
            assert await store.shorten(1, 5, "/none", short, 9) == 0
            assert [await store.shorten(1, 5, "/a", short, 4) for _ in range(3)] == [4, 2, 0]
            page = await store.read_messages(1, "/a", 0, 10, 1000)
            assert (page.head, page.floor) == (8, 6)
            assert [it.seq for it in page.messages] == [7, 8]

    run(body())


# What only a store on a disk of its own has.


def test_a_second_process_on_the_same_directory_is_refused(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        store = SqliteStore.open(tmp_path)
        with pytest.raises(StartError, match="in use by another process"):
            SqliteStore.open(tmp_path)
        await store.close()
        await SqliteStore.open(tmp_path).close()

    run(body())


def test_a_directory_that_cannot_be_used_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="ONWARD_COORDINATOR_DATA_DIR"):
        SqliteStore.open(tmp_path / "file" / "below")


def test_a_damaged_or_foreign_log_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite3").write_bytes(b"not a database, by any means" * 100)
    with pytest.raises(StartError, match="cannot be opened"):
        SqliteStore.open(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    connection = sqlite3.connect(other / "log.sqlite3")
    connection.execute("PRAGMA user_version = 77")
    connection.close()
    with pytest.raises(StartError, match="schema 77"):
        SqliteStore.open(other)


def test_a_full_disk_is_a_fault_of_its_own_and_loses_nothing(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        store = SqliteStore.open(tmp_path)
        await store.claim({1: 5}, "c1", {})
        await append(store, {1: messages(1, 1)})
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreFull):
            await append(store, {1: messages(2, 2, entry=os.urandom(100_000))})
        with pytest.raises(StoreFull):
            await append(store, {1: messages(2, 2, entry=os.urandom(100_000))})
        store._connection.execute("PRAGMA max_page_count = 1000000")
        assert not await append(store, {1: messages(2, 2, entry=os.urandom(100_000))})
        assert await store.read_tails([1]) == {1: 2}
        await store.close()

    run(body())


def test_any_other_failure_leaves_the_outcome_unknown(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        store = SqliteStore.open(tmp_path)
        await store.claim({1: 5}, "c1", {})
        store._connection.execute("DROP TABLE heads")
        with pytest.raises(Unavailable):
            await append(store, {1: messages(1, 1)})
        assert await store.read_tails([1]) == {1: 0}
        await store.close()

    run(body())
