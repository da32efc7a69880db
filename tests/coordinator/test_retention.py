"""What is removed, when, and that presence's cursor holds it back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from services.coordinator.effects import Forget
from services.coordinator.holdings import Holdings
from services.coordinator.metrics import Metrics
from services.coordinator.retention import Retention, Rule
from services.coordinator.sql_rows import row_bytes
from services.coordinator.sqlite_store import SqliteStore
from services.coordinator.store import (
    MESSAGE,
    Facts,
    LogRow,
    Lookup,
    Publication,
    Register,
    Stamp,
    Writes,
    publication_key,
)
from tests.coordinator.harness import Run

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
YOUNG_S = 600
BYTES = 100_000
RULE = Rule(
    dedupe_window_s=3_600,
    retain_s=86_400,
    retain_messages=100,
    retain_bytes=BYTES,
    retain_min_s=YOUNG_S,
    subject_ttl_s=90 * 86_400,
    clients_forget_s=90 * 86_400,
)


class Setting:
    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.now_ms = 0
        self.cursor = 10_000
        self.edges: set[int] | None = {7}
        self.forgotten: list[Forget] = []
        self.metrics = Metrics(CollectorRegistry())
        holdings = Holdings()
        holdings.take(0, 5, 0)
        holdings.take(1, 5, 0)
        self.retention = Retention(
            rule=RULE,
            store=store,
            holdings=holdings,
            cursor=lambda partition: self.cursor,
            stamp=self.stamp,
            metrics=self.metrics,
            forget=lambda partition, epoch, them: self.forgotten.extend(them),
            live_edges=lambda: self.edges,
        )

    def stamp(self) -> Stamp:
        return Stamp(self.now_ms, self.now_ms)

    async def fill(self, partition: int, first: int, last: int, at_ms: int, size: int) -> None:
        """Append messages that count `size` bytes each."""
        subject = f"/{partition}"
        entry = b"x" * (size - row_bytes(subject, b""))
        rows = [LogRow(n, MESSAGE, subject, n, entry) for n in range(first, last + 1)]
        writes = Writes(rows=rows, heads={subject: last})
        await self.store.append(
            Stamp(at_ms, at_ms), {partition: 5}, {partition: Lookup()}, lambda p, facts: writes
        )

    async def floors(self) -> tuple[int, int]:
        """The floors of the subjects of both partitions."""
        pages = [await self.store.read_messages(p, f"/{p}", 0, 1, 1) for p in (0, 1)]
        return pages[0].floor, pages[1].floor

    async def append(self, first: int, last: int) -> None:
        writes = Writes(heads={"/a": last})
        for n in range(first, last + 1):
            writes.rows.append(LogRow(n, MESSAGE, "/a", n, b"x"))
            key = publication_key("/a", "bob", f"p{n}")
            writes.publications[key] = Publication(b"d", n, 5)
        await self.store.append(self.stamp(), {0: 5}, {0: Lookup()}, lambda p, facts: writes)
        self.retention.note_length(0, "/a", last)

    async def kept(self) -> tuple[int, int]:
        """(floor, messages left)"""
        page = await self.store.read_messages(0, "/a", 0, 10_000, 1_000_000)
        return page.floor, len(page.messages)

    def ids(self) -> int:
        count = self.store._connection.execute("SELECT count(*) FROM publications").fetchone()[0]
        return int(count)


@asynccontextmanager
async def setting(directory: Path) -> AsyncIterator[Setting]:
    store = SqliteStore.open(directory)
    await store.claim({0: 5, 1: 5}, "c1", {})
    yield Setting(store)
    await store.close()


def test_publication_ids_are_forgotten_after_their_window(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            await it.append(1, 1_500)
            it.now_ms = HOUR_MS
            await it.append(1_501, 1_510)
            await it.retention.remove_due()
            assert it.ids() == 1_510
            it.now_ms = HOUR_MS + 1
            await it.retention.remove_due()
            assert it.ids() == 10

    run(body())


def test_old_messages_go_as_far_as_presence_has_come(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            await it.append(1, 50)
            it.now_ms = 25 * HOUR_MS
            it.cursor = 20
            await it.retention.remove_due()
            assert await it.kept() == (20, 30)
            it.cursor = 50
            await it.retention.remove_due()
            assert await it.kept() == (50, 0)

    run(body())


def test_a_long_subject_is_shortened_once_its_messages_are_not_young(
    run: Run, tmp_path: Path
) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            await it.append(1, 700)
            it.now_ms = (YOUNG_S - 1) * 1_000
            await it.retention.remove_due()
            assert await it.kept() == (0, 700)
            it.now_ms = (YOUNG_S + 1) * 1_000
            it.cursor = 300
            await it.retention.remove_due()
            assert await it.kept() == (300, 400)
            it.cursor = 700
            await it.retention.remove_due()
            assert await it.kept() == (600, 100)

    run(body())


def test_bytes_above_their_limit_take_the_oldest_entries_of_all_partitions(
    run: Run, tmp_path: Path
) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            for hour in range(4):
                await it.fill(0, hour * 20 + 1, hour * 20 + 20, hour * HOUR_MS, 1_000)
                await it.fill(1, hour * 20 + 1, hour * 20 + 20, (hour * 60 + 30) * 60_000, 1_000)
            it.now_ms = 5 * HOUR_MS
            assert await it.store.log_bytes() == 160_000
            await it.retention.fit_bytes()
            assert await it.store.log_bytes() <= BYTES
            assert await it.floors() == (40, 20), "oldest first"
            assert not it.retention.exceeded and not it.retention.refuses

    run(body())


def test_bytes_take_nothing_young_and_nothing_that_presence_has_not_processed(
    run: Run, tmp_path: Path
) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            await it.fill(0, 1, 60, 0, 1_000)
            await it.fill(1, 1, 60, 0, 1_000)
            it.now_ms = YOUNG_S * 1_000
            await it.retention.fit_bytes()
            assert await it.floors() == (0, 0)
            assert it.retention.exceeded and not it.retention.refuses
            it.now_ms += 1
            it.cursor = 5
            await it.retention.fit_bytes()
            assert await it.floors() == (5, 5)
            assert it.retention.exceeded
            await it.fill(0, 61, 100, it.now_ms, 1_000)
            await it.retention.fit_bytes()
            assert it.retention.refuses, "more than a quarter above"
            it.cursor = 100
            await it.retention.fit_bytes()
            assert not it.retention.exceeded and not it.retention.refuses
            assert await it.store.log_bytes() <= BYTES

    run(body())


def test_a_log_that_grows_although_its_oldest_entries_go_takes_nothing_more(
    run: Run, tmp_path: Path
) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            await it.fill(0, 1, 1_300, 0, 100)
            it.now_ms = YOUNG_S * 1_000 + 1
            refused = []
            sweep = it.store.sweep

            async def swept(*arguments: Any) -> int:
                refused.append(it.retention.refuses)
                if len(refused) == 1:
                    await it.fill(0, 1_301, 1_500, 1, 100)
                return await sweep(*arguments[:3], 100)

            it.store.sweep = swept  # type: ignore[method-assign]  # in smaller slices
            await it.retention.fit_bytes()
            assert refused == [False, False, True, False, False]
            assert not it.retention.exceeded and not it.retention.refuses

    run(body())


def test_the_count_of_bytes_is_right_after_a_restart(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            await it.fill(0, 1, 150, 0, 1_000)
        async with setting(tmp_path) as it:
            assert await it.store.log_bytes() == 150_000
            it.now_ms = HOUR_MS
            await it.retention.fit_bytes()
            assert await it.store.log_bytes() == BYTES
            assert await it.floors() == (50, 0)

    run(body())


def test_an_unused_subject_goes_with_its_retained_message_and_its_seqs_go_on(
    run: Run, tmp_path: Path
) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            await it.append(1, 50)
            keep = Writes(retained={"/a": LogRow(50, MESSAGE, "/a", 50, b"x")})
            await it.store.append(it.stamp(), {0: 5}, {0: Lookup()}, lambda p, facts: keep)
            it.now_ms = 89 * DAY_MS
            await it.retention.remove_due()
            assert await it.kept() == (50, 0)
            assert await it.store.read_retained("/a") is not None
            it.now_ms = 90 * DAY_MS + 1
            await it.retention.remove_due()
            assert await it.store.read_retained("/a") is None
            seen = []

            def decide(_: int, facts: Facts) -> Writes:
                seen.append(facts)
                return Writes()

            await it.store.append(it.stamp(), {0: 5}, {0: Lookup(["/a"])}, decide)
            assert seen[0].part.seq_floor == 50 and not seen[0].heads
            assert (await it.store.read_messages(0, "/new", 0, 9, 99)).head == 50

    run(body())


def test_a_subject_that_is_used_or_has_messages_stays(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            await it.append(1, 50)
            it.cursor = 49
            it.now_ms = 91 * DAY_MS
            await it.retention.remove_due()
            assert await it.kept() == (49, 1), "presence has not come so far"
            await it.append(51, 51)
            it.cursor = 51
            it.now_ms += 2 * DAY_MS
            await it.retention.remove_due()
            assert (await it.store.read_messages(0, "/a", 0, 9, 99)).head == 51

    run(body())


def test_a_client_that_was_not_seen_is_forgotten_unless_it_stays_connected(
    run: Run, tmp_path: Path
) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            registers = [
                Register("ann", "away", 4, "s1", 7, False, False, False, ("/a",)),
                Register("ann", "stays", 5, "s2", 7, True, False, False, ("/a",)),
                Register("ann", "edge died", 6, "s3", 8, True, False, False, ("/a",)),
                Register("bob", "left", 7, "s4", 7, False, False, True),
            ]
            writes = Writes(registers={(r.user, r.client_id): r for r in registers})
            await it.store.append(it.stamp(), {0: 5}, {0: Lookup()}, lambda p, facts: writes)
            it.now_ms = 90 * DAY_MS
            await it.retention.remove_due()
            it.now_ms += 1
            it.edges = None
            await it.retention.remove_due()
            assert it.forgotten == [], "not yet, and not while nothing is known of edges"
            it.edges = {7}
            await it.retention.remove_due()
            assert it.forgotten == [
                Forget("ann", "away", 4),
                Forget("ann", "edge died", 6),
                Forget("bob", "left", 7),
            ]

    run(body())
