"""The steady time goes on over restarts within one boot, whatever the wall clock says."""

from pathlib import Path

from services.coordinator import clock
from services.coordinator.sqlite_store import SqliteStore
from services.coordinator.store import MARK, Facts, LogRow, Lookup, Stamp, Writes
from tests.coordinator.harness import Run


def test_the_first_process_of_a_boot_sets_the_steady_time_for_those_after_it(
    run: Run, tmp_path: Path
) -> None:
    async def body() -> None:
        store = SqliteStore.open(tmp_path)
        assert await store.adopt_clock("this boot", 9, 1_000) == 1_000
        await store.close()
        store = SqliteStore.open(tmp_path)
        hour_ahead = 1_000 + 3_600_000
        assert await store.adopt_clock("this boot", 9, hour_ahead) == 1_000
        assert await store.adopt_clock("the next boot", 9, hour_ahead) == hour_ahead
        assert await store.adopt_clock("the next boot", 9, 5) == hour_ahead
        await store.close()

    run(body())


def test_a_boot_with_a_clock_that_has_gone_back_goes_on_from_what_was_appended_last(
    run: Run, tmp_path: Path
) -> None:
    def decide(_: int, facts: Facts) -> Writes:
        return Writes(rows=[LogRow(facts.part.tail + 1, MARK, None, None, b"mark")])

    async def body() -> None:
        store = SqliteStore.open(tmp_path)
        await store.claim({1: 1, 2: 1}, "c1", {})
        for partition, at_ms in ((1, 7_000), (2, 5_000)):
            await store.append(Stamp(0, at_ms), {partition: 1}, {partition: Lookup()}, decide)
        assert await store.adopt_clock("the next boot", 20, 1_000) == 7_000 - 20
        assert await store.adopt_clock("one without loss", 20, 9_000) == 9_000
        await store.close()

    run(body())


def test_a_stamp_follows_the_adopted_offset(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        store = SqliteStore.open(tmp_path)
        offset_ms = await clock.steady_offset_ms(store)
        assert await clock.steady_offset_ms(store) == offset_ms
        stamp = clock.stamps(offset_ms)()
        assert abs(stamp.steady_ms - stamp.wall_ms) < 1_000
        assert abs(clock.stamps(offset_ms + 50_000)().steady_ms - stamp.steady_ms - 50_000) < 1_000
        await store.close()

    run(body())
