"""What is removed, when, and that presence's cursor holds it back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.coordinator.holdings import Holdings
from services.coordinator.retention import YOUNG_S, Retention, Rule
from services.coordinator.sqlite_store import SqliteStore
from services.coordinator.store import (
    MESSAGE,
    LogRow,
    Lookup,
    Publication,
    PublicationKey,
    Stamp,
    Writes,
)
from tests.coordinator.harness import Run

HOUR_MS = 3_600_000


class Setting:
    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.now_ms = 0
        self.cursor = 10_000
        holdings = Holdings()
        holdings.take(0, 5, 0)
        self.retention = Retention(
            rule=Rule(dedupe_window_s=3_600, retain_s=86_400, retain_messages=100),
            store=store,
            holdings=holdings,
            cursor=lambda partition: self.cursor,
            stamp=self.stamp,
        )

    def stamp(self) -> Stamp:
        return Stamp(self.now_ms, self.now_ms)

    async def append(self, first: int, last: int) -> None:
        writes = Writes(heads={"/a": last})
        for n in range(first, last + 1):
            writes.rows.append(LogRow(n, MESSAGE, "/a", n, b"x"))
            key = PublicationKey("/a", "bob", f"p{n}")
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
    await store.claim({0: 5}, "c1", {})
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
