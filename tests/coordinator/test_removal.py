"""Removal finds what it removes by an index, however much the log holds."""

from pathlib import Path

from services.coordinator.sqlite_store import SqliteStore
from services.coordinator.store import MESSAGE, Keep, LogRow, Lookup, Stamp, Writes
from tests.coordinator.harness import Run

# All partitions, of which there are few; and the oldest ids, which are the first rows.
SCANS = {"SCAN parts", "SCAN publications", "SCAN events"}


def test_no_removal_looks_at_more_than_its_slice(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        store = SqliteStore.open(tmp_path)
        await store.claim({0: 5}, "c1", {})
        rows = [LogRow(n, MESSAGE, "/a", n, b"x") for n in range(1, 11)]
        writes = Writes(rows=rows, heads={"/a": 10}, retained={"/a": rows[0]})
        await store.append(Stamp(0, 100), {0: 5}, {0: Lookup()}, lambda p, facts: writes)
        seen: list[str] = []
        store._connection.set_trace_callback(seen.append)
        keep = Keep(since_ms=200, messages=3, young_since_ms=200, below_pos=100)
        await store.forget_ids(200, 10)
        assert await store.shorten(0, 5, "/a", keep, 2) == 2
        assert await store.sweep(0, 5, keep, 100) == 8
        assert await store.forget_subjects({0: 5}, "", 200, 10) == (1, None)
        store._connection.set_trace_callback(None)
        reads = [
            "SELECT recorded_at FROM log WHERE p = 0 AND pos > "
            "(SELECT low FROM parts WHERE p = 0) ORDER BY pos LIMIT 1",
            "SELECT p FROM registers WHERE (user, client_id) > ('a', 'c') "
            "ORDER BY user, client_id LIMIT 9",
        ]
        work = [it for it in seen if it.startswith(("SELECT", "UPDATE", "DELETE"))]
        assert len(work) > 10
        plans = [
            row[3]
            for it in work + reads
            for row in store._connection.execute(f"EXPLAIN QUERY PLAN {it}")
        ]
        assert {plan for plan in plans if "SCAN" in plan} <= SCANS
        assert not [plan for plan in plans if "TEMP B-TREE" in plan]
        assert await store.oldest([0, 1]) == {}
        await store.close()

    run(body())
