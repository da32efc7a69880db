"""Every store keeps happenings alike: numbers without a hole, positions, retention."""

import asyncio

import pytest

from services.chassis.errors import Deposed
from services.chassis.subjects import partition_of
from services.presence.happenings import Happened
from tests.presence.terms import own

PARTITIONS = 4
OF = {partition_of(f"/s/{n}", PARTITIONS): f"/s/{n}" for n in range(50)}
ALL = range(PARTITIONS)


def with_store(run, make_store, body, clock=lambda: 1_000.0):
    async def opened():
        store = make_store(clock=clock)
        await store.open()
        try:
            await own(store)
            return await body(store)
        finally:
            await store.close()

    return run(opened())


def appended(*happened: Happened):
    return lambda tx: tx.append_happenings(happened)


async def register(store, name="x"):
    await store.write(lambda tx: tx.register_extension(name))


async def pages(store, name="x", partitions=ALL, limit=100, bytes_max=1_000):
    return await store.read(lambda tx: tx.happenings_after(name, partitions, limit, bytes_max))


async def numbers(store, name="x", **bounds):
    """By partition, the numbers above the extension's position."""
    return {
        page.partition: [row.number for row in page.rows]
        for page in await pages(store, name, **bounds)
        if page.rows
    }


def test_nobody_observes_until_somebody_is_registered(run, make_store):
    async def body(store):
        assert not await store.read(lambda tx: tx.is_observed())
        await register(store)
        assert await store.read(lambda tx: tx.is_observed())

        def in_advance(tx):
            tx.read_in_advance([0], ["/a"])
            return tx.observed

        assert await store.read(in_advance) is True
        assert await store.write(lambda tx: tx.forget_extension("x")) is True
        assert await store.write(lambda tx: tx.forget_extension("x")) is False
        assert await store.read(in_advance) is False

    with_store(run, make_store, body)


def test_numbers_have_no_hole_and_what_is_undone_takes_none(run, make_store):
    async def body(store):
        await register(store)
        await store.write(appended(Happened(OF[1], 1), Happened(OF[2], 5), Happened(OF[1], 2)))

        def undone(tx):
            tx.append_happenings([Happened(OF[1], 3)])
            raise ValueError

        with pytest.raises(ValueError):
            await store.write(undone)
        await store.write(appended(Happened(OF[1], 3)))
        [first, second] = [page for page in await pages(store) if page.tail]
        assert (first.partition, first.after, first.tail) == (1, 0, 3)
        assert [(row.number, row.subject, row.seq, row.at) for row in first.rows] == [
            (1, OF[1], 1, 1_000.0),
            (2, OF[1], 2, 1_000.0),
            (3, OF[1], 3, 1_000.0),
        ]
        assert (second.partition, second.tail) == (2, 1)

    with_store(run, make_store, body)


def test_a_payload_comes_back_byte_for_byte(run, make_store):
    async def body(store):
        await register(store)
        payload = bytes(range(256)) + "é\\x00".encode()
        await store.write(appended(Happened("ann", payload=payload)))
        [row] = [row for page in await pages(store) for row in page.rows]
        assert (row.payload, row.subject, row.seq) == (payload, "", 0)
        assert row.partition == partition_of("ann", PARTITIONS)

    with_store(run, make_store, body)


def test_a_commit_tells_where_something_happened(run, make_store):
    async def body(store):
        told = []
        store.on_commit(lambda touched: told.append(set(touched.happenings)))
        await store.write(appended(Happened(OF[1], 1), Happened(OF[3], 1)))
        await store.write(lambda tx: tx.register_extension("x"))
        assert told == [{1, 3}, set()]

    with_store(run, make_store, body)


def test_a_new_extension_begins_at_the_end_and_a_known_one_stays_where_it_is(run, make_store):
    async def body(store):
        await register(store)
        await store.write(appended(Happened(OF[0], 1)))
        await register(store, "late")
        await register(store)
        assert await numbers(store) == {0: [1]}
        assert await numbers(store, "late") == {}
        await store.write(appended(Happened(OF[0], 2)))
        assert await numbers(store, "late") == {0: [2]}
        assert await store.read(lambda tx: tx.extensions_behind()) == {"late": 1, "x": 2}
        assert await store.read(lambda tx: list(tx.partitions_behind("late"))) == [0]
        assert await pages(store, "nobody") == []

    with_store(run, make_store, body)


def test_a_position_only_rises_and_only_where_the_partition_is_ours(run, make_store):
    async def body(store):
        await register(store)
        for n in range(4):
            await store.write(appended(Happened(OF[0], n), Happened(OF[1], n)))
        await store.write(lambda tx: tx.move_extension("x", {0: 3, 1: 2}))
        await store.write(lambda tx: tx.move_extension("x", {0: 1}))
        assert await numbers(store) == {0: [4], 1: [3, 4]}
        store.drop([1])
        await store.write(lambda tx: tx.move_extension("x", {0: 4, 1: 4}))
        assert await numbers(store) == {1: [3, 4]}
        assert await store.read(lambda tx: list(tx.partitions_behind("x"))) == []

    with_store(run, make_store, body)


def test_a_position_of_an_extension_that_was_removed_does_not_come_back(run, make_store):
    async def body(store):
        await register(store)
        await store.write(appended(Happened(OF[0], 1)))
        await store.write(lambda tx: tx.forget_extension("x"))
        await store.write(lambda tx: tx.move_extension("x", {0: 1}))
        assert not await store.read(lambda tx: tx.is_observed())

    with_store(run, make_store, body)


def test_a_term_that_is_closed_moves_nothing(run, make_store):
    async def body(store):
        await register(store)
        await store.write(appended(Happened(OF[0], 1)))
        slept_through = store.mine
        await store.begin(99, "presence-2", PARTITIONS)
        await store.claim({0: 7})
        store.mine = slept_through
        with pytest.raises(Deposed):
            await store.write(lambda tx: tx.move_extension("x", {0: 1}))
        assert await numbers(store) == {0: [1]}

    with_store(run, make_store, body)


def test_a_page_is_bounded_by_rows_and_by_bytes_but_never_empty(run, make_store):
    async def body(store):
        await register(store)
        user = next(f"u{n}" for n in range(99) if partition_of(f"u{n}", PARTITIONS) == 0)
        await store.write(appended(*(Happened(user, payload=b"x" * 40) for _ in range(5))))
        assert await numbers(store, limit=3) == {0: [1, 2, 3]}
        assert await numbers(store, bytes_max=100) == {0: [1, 2]}
        assert await numbers(store, bytes_max=10) == {0: [1]}

    with_store(run, make_store, body)


# -- retention -----------------------------------------------------------------------------------


def trimmed(before=0.0, keep_max=1_000, limit=1_000):
    return lambda tx: tx.trim_happenings(before, keep_max, limit)


def test_what_every_extension_has_acknowledged_goes(run, make_store):
    async def body(store):
        await register(store, "x")
        await register(store, "y")
        await store.write(appended(*(Happened(OF[0], n) for n in range(1, 6))))
        await store.write(lambda tx: tx.move_extension("x", {0: 5}))
        assert await store.write(trimmed()) == 0, "y has acknowledged nothing"
        await store.write(lambda tx: tx.move_extension("y", {0: 3}))
        assert await store.write(trimmed(limit=2)) == 2
        assert await store.write(trimmed()) == 1
        assert await numbers(store, "y") == {0: [4, 5]}
        await store.write(lambda tx: (tx.forget_extension("x"), tx.forget_extension("y")))
        assert await store.write(trimmed()) == 2, "nobody is to be told"
        await register(store)
        await store.write(appended(Happened(OF[0], 6)))
        assert await numbers(store) == {0: [6]}, "numbers are never reused"

    with_store(run, make_store, body)


def test_what_is_too_old_or_too_much_goes_and_the_others_stay(run, make_store):
    now = [1_000.0]

    async def body(store):
        await register(store)
        for n in range(1, 7):
            now[0] = 1_000.0 + n
            await store.write(appended(Happened(OF[0], n), Happened(OF[1], n)))
        assert await store.write(trimmed(before=1_003.0)) == 4
        assert await numbers(store) == {0: [3, 4, 5, 6], 1: [3, 4, 5, 6]}
        assert await store.write(trimmed(keep_max=2)) == 4
        assert await numbers(store) == {0: [5, 6], 1: [5, 6]}
        store.drop([0])
        assert await store.write(trimmed(keep_max=0)) == 2, "only of its own partitions"

    with_store(run, make_store, body, clock=lambda: now[0])


def test_two_writers_of_a_partition_leave_no_hole(run, presence_url):
    """A token that moves is told of in a partition of another process."""
    from services.presence.postgres_store import PostgresStore

    async def body():
        stores = [PostgresStore(presence_url, 5.0), PostgresStore(presence_url, 5.0)]
        for at, store in enumerate(stores):
            await store.open()
            await store.begin(at + 1, f"presence-{at}", PARTITIONS)
        await stores[0].claim(dict.fromkeys(ALL, 5))
        await register(stores[0])
        both = [
            store.write(appended(*(Happened(OF[p], 1) for p in (order))))
            for _ in range(40)
            for store, order in zip(stores, ([0, 1, 2], [2, 1, 0]), strict=True)
        ]
        await asyncio.gather(*both)
        expected = list(range(1, 81))
        assert await numbers(stores[0]) == {0: expected, 1: expected, 2: expected}
        for store in stores:
            await store.close()

    run(body())
