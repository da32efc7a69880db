"""What only the store in PostgreSQL does: rivals, broken connections, unknown outcomes."""

import asyncio
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from services.chassis.errors import Deposed, StartError, StoreFull, Unavailable
from services.presence import state
from services.presence.handover import is_due
from services.presence.notifications import Limits, Span
from services.presence.outbox import News, Origin, Outbox
from services.presence.postgres_connection import Connection, address_of, in_postgres
from services.presence.postgres_store import PostgresStore
from services.presence.state import Endpoint, Follow, Message, Register, Standing
from services.presence.store import Cursor
from tests.presence.terms import locked, own
from tests.presence.test_store import wrote
from tests.waiting import until

ONE = Cursor(1, 1)
# As it was written while the schema was 1.
SCHEMA_1 = Path(__file__).with_name("postgres_schema_1.sql")


@asynccontextmanager
async def opened(url: str, name: str = "", answer_s: float = 5.0):
    """A store; with a name, in a term under that name and with all partitions."""
    store = PostgresStore(url, answer_s)
    await store.open()
    try:
        if name:
            await own(store, name=name)
        yield store
    finally:
        await store.close()


def put(pos: int):
    return lambda tx: tx.put_cursor(1, Cursor(pos, 1))


async def cursor(store) -> int:
    return await store.read(lambda tx: tx.cursor(1).pos)


def backend(tx) -> int:
    return tx.db.rows("SELECT pg_backend_pid()")[0][0]


def terminate(url: str, pid: int) -> None:
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


# -- rivals --------------------------------------------------------------------------------------


def test_of_two_stores_only_the_last_that_claimed_a_partition_writes(run, presence_url):
    async def claim():
        async with opened(presence_url, "a") as first, opened(presence_url, "b") as second:
            with pytest.raises(Deposed):
                await first.write(put(1))
            await asyncio.wait_for(first.term_ended(), 1)
            await second.write(put(2))
            with pytest.raises(Deposed):
                await first.claim({1: 99})
            assert await cursor(first) == 2
            await own(first, name="a")
            await first.write(put(3))

    run(claim())


def test_two_stores_write_side_by_side_where_partitions_were_let_go(run, presence_url):
    async def claim():
        async with opened(presence_url, "a") as first, opened(presence_url) as second:
            await first.release([2, 3])
            await second.begin(99, "b", 4)
            assert await second.claim({2: 9, 3: 9}) == {2, 3}
            for _ in range(20):
                await asyncio.gather(
                    first.write(locked(["ann"], wrote("ann", state.PutWaiting("/a", "c")))),
                    second.write(locked(["bob"], wrote("bob", state.PutWaiting("/a", "c")))),
                    first.write(locked(["ann"], wrote("ann", state.DropWaiting("/a", "c")))),
                    second.write(locked(["bob"], wrote("bob", state.DropWaiting("/b", "c")))),
                )
            counts = await first.read(lambda tx: tx.counts())
            assert counts.clients_waiting == 1, "the sum of what both have counted"

    run(claim())


def test_who_has_locked_a_user_is_waited_for_and_its_writes_are_seen(run, presence_url):
    async def claim():
        async with opened(presence_url, "a") as first, opened(presence_url) as second:
            await first.release([3])
            await second.begin(99, "b", 4)
            locked_by_first, goes_on = threading.Event(), threading.Event()

            def slow(tx):
                tx.lock(["ann", "bob"])
                tx.load_user("ann")  # So that it is sent.
                locked_by_first.set()
                goes_on.wait(20)
                tx.write_user("ann", state.PutWaiting("/a", "c"))

            def read(tx):
                assert tx.lock(["ann"]), "others may have changed what was read before"
                return tx.load_user("ann").waiting

            writing = asyncio.create_task(first.write(slow))
            await asyncio.to_thread(locked_by_first.wait, 10)
            reading = asyncio.create_task(second.write(read))
            await second_waits(first)
            assert not reading.done()
            goes_on.set()
            assert await reading == {("/a", "c")}
            await writing

    async def second_waits(first):
        def waits() -> bool:
            with psycopg.connect(presence_url) as other:
                found = other.execute(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                ).fetchone()
                return found == (1,)

        await until(lambda: asyncio.to_thread(waits))

    run(claim())


def test_of_two_who_register_one_token_at_once_one_is_refused(run, presence_url):
    async def claim():
        async with opened(presence_url, "a") as first, opened(presence_url) as second:
            await first.release([2, 3])
            await second.begin(99, "b", 4)
            registered, goes_on = threading.Event(), threading.Event()

            def slow(tx):
                tx.lock(["ann"], ["fcm:abc"])
                tx.write_user("ann", state.PutEndpoint(Endpoint("fcm:abc", ("c",), 1.0)))
                tx.load_user("ann")  # So that it is sent.
                registered.set()
                goes_on.wait(20)

            def too_late(tx):
                tx.lock(["bob"], ["fcm:abc"])
                tx.write_user("bob", state.PutEndpoint(Endpoint("fcm:abc", ("d",), 1.0)))

            writing = asyncio.create_task(first.write(slow))
            await asyncio.to_thread(registered.wait, 10)
            late = asyncio.create_task(second.write(too_late))
            await asyncio.sleep(0.05)
            goes_on.set()
            await writing
            with pytest.raises(Unavailable, match="two at once"):
                await late
            assert await first.read(lambda tx: tx.users_of(["fcm:abc"])) == ["ann"]

    run(claim())


def test_a_rival_that_closes_our_term_for_long_is_a_fault_and_no_bug(run, presence_url):
    async def claim():
        async with opened(presence_url, "a") as store:
            with psycopg.connect(presence_url) as rival:
                rival.execute(
                    "UPDATE onward_presence.terms SET closed = 0 WHERE id = %s", (store.mine.term,)
                )
                with pytest.raises(Unavailable):
                    await store.claim({1: 99})
            await store.write(put(1))

    run(claim())


def test_a_store_that_does_not_answer_is_noted_until_it_does(run, presence_url, postgres_server):
    async def claim():
        async with opened(presence_url, "a", answer_s=0.5) as store:
            assert store.unanswered_since is None
            postgres_server.freeze()
            try:
                with pytest.raises(Unavailable):
                    await store.write(put(1))
                assert store.unanswered_since is not None
            finally:
                postgres_server.thaw()

            async def answered() -> bool:
                try:
                    await own(store, name="a")
                except Unavailable:
                    return False
                return store.unanswered_since is None

            await until(answered)

    run(claim())


def test_a_claim_does_not_wait_for_one_that_stands_still_in_a_transaction(run, presence_url):
    async def claim():
        async with opened(presence_url, "a") as first, opened(presence_url) as second:
            begun, goes_on = threading.Event(), threading.Event()

            def slow(tx):
                tx.put_cursor(1, ONE)
                tx.load_user("ann")  # So that it is sent.
                begun.set()
                goes_on.wait(20)

            writing = asyncio.create_task(first.write(slow))
            try:
                await asyncio.to_thread(begun.wait, 10)
                await asyncio.wait_for(own(second, name="b"), 4)
            finally:
                goes_on.set()
            with pytest.raises(Unavailable):
                await writing
            with pytest.raises(Deposed):
                await first.write(put(1))
            assert await cursor(second) == 0

    run(claim())


def test_what_an_owner_of_all_wrote_becomes_terms_and_is_kept(run, postgres_url):
    async def claim():
        with psycopg.connect(postgres_url) as db:
            db.execute(SCHEMA_1.read_text())
        async with opened(postgres_url, "a") as store:
            [left] = await store.read(lambda tx: tx.deliveries_left(9))
            assert left.user == "ann"
            [grace] = await store.read(lambda tx: tx.graces_due(9))
            assert grace.user == "bob"
            counts = await store.read(lambda tx: tx.counts())
            assert (counts.deliveries, counts.clients_known) == ({"pending": 1}, 1)
        with psycopg.connect(postgres_url) as db:
            [[epoch]] = db.execute(
                "SELECT value::bigint FROM onward_presence.meta WHERE name = 'epoch'"
            ).fetchall()
        assert epoch == (1 << 63) - 1, "who owned all of it claims no more"

    run(claim())


# -- connections ---------------------------------------------------------------------------------


def test_a_connection_that_broke_is_made_again_in_the_same_term(run, presence_url):
    async def claim():
        async with opened(presence_url, "a") as store:
            terminate(presence_url, await store.read(backend))
            with pytest.raises(Unavailable):
                await store.write(put(1))
            await store.write(put(1))
            assert await cursor(store) == 1

    run(claim())


def test_a_commit_of_unknown_outcome_ends_the_term(run, presence_url):
    async def claim():
        async with opened(presence_url, "a") as store:

            def cut(tx):
                tx.put_cursor(1, ONE)
                terminate(presence_url, backend(tx))

            with pytest.raises(Unavailable, match="not known"):
                await store.write(cut)
            await asyncio.wait_for(store.term_ended(), 1)
            with pytest.raises(Deposed):
                await store.write(put(1))
            await own(store, name="a")
            await store.write(put(1))

    run(claim())


def test_a_commit_that_did_not_wait_for_its_standby_ends_the_term(run, presence_url):
    def warn(tx):
        tx.db.execute("DO $$ BEGIN RAISE WARNING 'as PostgreSQL says it, in any words'; END $$")

    async def claim():
        async with opened(presence_url, "a") as store:
            with pytest.raises(Unavailable, match="standby"):
                await store.write(warn)
            await asyncio.wait_for(store.term_ended(), 1)

    run(claim())


def test_a_server_that_stands_still_is_waited_for_no_longer_than_agreed(
    run, presence_url, postgres_server
):
    async def claim():
        async with opened(presence_url, "a", answer_s=0.5) as store:
            postgres_server.freeze()
            try:
                with pytest.raises(Unavailable):
                    await asyncio.wait_for(store.write(put(1)), 5)
            finally:
                postgres_server.thaw()

            async def written() -> bool:
                try:
                    await store.write(put(2))
                except Unavailable:
                    return False
                return True

            await until(written)

    run(claim())


def test_a_full_disk_is_told_until_something_is_written(run, presence_url):
    def fill(tx):
        tx.put_cursor(1, ONE)
        tx.db.execute("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100'; END $$")

    async def claim():
        async with opened(presence_url, "a") as store:
            with pytest.raises(StoreFull):
                await store.write(fill)
            assert store.full_since
            assert await cursor(store) == 0
            await store.write(put(2))
            assert store.full_since is None

    run(claim())


# -- opening -------------------------------------------------------------------------------------


def test_stores_that_open_at_the_same_time_make_the_tables_once(run, postgres_url):
    async def claim():
        stores = [PostgresStore(postgres_url, 5.0) for _ in range(4)]
        await asyncio.gather(*(store.open() for store in stores))
        assert [await cursor(store) for store in stores] == [0] * 4
        for store in stores:
            await store.close()

    run(claim())


def test_a_newer_schema_is_refused_with_a_sentence(run, postgres_url):
    async def claim():
        async with opened(postgres_url):
            pass
        with psycopg.connect(postgres_url) as db:
            db.execute("UPDATE onward_presence.meta SET value = '999' WHERE name = 'schema'")
        with pytest.raises(StartError, match="newer version of Onward"):
            async with opened(postgres_url):
                pass

    run(claim())


def test_a_store_that_is_not_there_is_unavailable(run):
    async def claim():
        with pytest.raises(Unavailable):
            async with opened("postgresql://nobody:hush@127.0.0.1:1/none"):
                pass

    run(claim())


@pytest.mark.parametrize("url", ["mysql://a:hush@b/c", "postgresql://a:hush@b:port/c?nonsense=1"])
def test_a_wrong_address_is_refused_without_telling_its_password(url):
    with pytest.raises(StartError, match="ONWARD_PRESENCE_STORE") as raised:
        address_of(url)
    assert "hush" not in str(raised.value)


# -- how it speaks -------------------------------------------------------------------------------


def test_statements_are_put_into_the_words_of_postgresql():
    assert in_postgres("SELECT n.user, after_user FROM n WHERE user = ?") == (
        'SELECT n."user", after_user FROM n WHERE "user" = %s'
    )
    assert in_postgres("SELECT value FROM each_text(?) CROSS JOIN a ON b = value") == (
        "SELECT value FROM json_array_elements_text(%s::json) AS each(value) JOIN a ON b = value"
    )


def test_a_crowd_costs_as_many_round_trips_as_one_user(run, presence_url, monkeypatch):
    trips = []
    send = Connection.send

    def counted(self, statements):
        trips.append(len(statements))
        return send(self, statements)

    monkeypatch.setattr(Connection, "send", counted)
    outbox = Outbox(Limits(), 3600.0)

    def crowd(tx):
        for number in range(500):
            name = f"user{number}"
            gone = Register("c", 1, "s", 7, Standing.OFFLINE)
            for row in (
                state.PutRegister(gone),
                state.PutFollow(Follow("/a", "c", 1, 0, 0)),
                state.PutWaiting("/a", "c"),
                state.PutEndpoint(Endpoint(f"mailto:{name}@example.org", ("c",), 0.0)),
            ):
                tx.write_user(name, row)

    def notify(tx, count):
        users = tx.users_waiting("/a", "", count)
        tx.lock(users)
        states = tx.load_followers(users, "/a")
        assert all(is_due(states[user], Message("/a", count, count)) for user in users)
        span = Span(count, count, count)
        outbox.notify_all(tx, users, "/a", span, Origin("bob"), News())
        return len(users)

    async def claim():
        async with opened(presence_url, "a") as store:
            everybody = [f"user{number}" for number in range(500)]
            await store.write(locked(everybody, crowd))
            await store.write(locked(["bob"], wrote("bob", state.PutWaiting("/b", "c"))))
            counts = []
            for count in (1, 499):
                trips.clear()
                assert await store.write(lambda tx, n=count: notify(tx, n)) == count
                counts.append(len(trips))
            assert counts[0] == counts[1] <= 12

    run(claim())
