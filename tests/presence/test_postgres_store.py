"""What only the store in PostgreSQL does: rivals, broken connections, unknown outcomes."""

import asyncio
import threading
from contextlib import asynccontextmanager

import psycopg
import pytest

from services.chassis.errors import Deposed, StartError, StoreFull, Unavailable
from services.presence import state
from services.presence.handover import is_due
from services.presence.notifications import Limits, Span
from services.presence.outbox import News, Outbox
from services.presence.postgres_connection import Connection, address_of, in_postgres
from services.presence.postgres_store import PostgresStore
from services.presence.state import Endpoint, Follow, Message, Register, Standing
from services.presence.store import Cursor
from tests.presence.test_store import wrote
from tests.waiting import until

ONE = Cursor(1, 1)


@asynccontextmanager
async def opened(url: str, epoch: int = 0, answer_s: float = 5.0):
    """A store, claimed in this epoch if it is above 0."""
    store = PostgresStore(url, answer_s)
    await store.open()
    try:
        if epoch:
            await store.claim(epoch, 4)
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


def test_of_two_stores_only_the_last_that_claimed_writes(run, presence_url):
    async def claim():
        async with opened(presence_url, 5) as first, opened(presence_url, 9) as second:
            with pytest.raises(Deposed):
                await first.write(put(1))
            await asyncio.wait_for(first.claim_ended(), 1)
            await second.write(put(2))
            with pytest.raises(Deposed):
                await first.claim(7, 4)
            assert await cursor(first) == 2
            await first.claim(10, 4)
            await first.write(put(3))

    run(claim())


def test_a_claim_does_not_wait_for_one_that_stands_still_in_a_transaction(run, presence_url):
    async def claim():
        async with opened(presence_url, 5) as first, opened(presence_url) as second:
            begun, goes_on = threading.Event(), threading.Event()

            def slow(tx):
                tx.put_cursor(1, ONE)
                tx.load_user("ann")  # So that it is sent.
                begun.set()
                goes_on.wait(20)

            writing = asyncio.create_task(first.write(slow))
            try:
                await asyncio.to_thread(begun.wait, 10)
                await asyncio.wait_for(second.claim(9, 4), 4)
            finally:
                goes_on.set()
            with pytest.raises(Unavailable):
                await writing
            await asyncio.wait_for(first.claim_ended(), 1)
            assert await cursor(second) == 0

    run(claim())


# -- connections ---------------------------------------------------------------------------------


def test_a_connection_that_broke_is_made_again_under_the_same_claim(run, presence_url):
    async def claim():
        async with opened(presence_url, 5) as store:
            terminate(presence_url, await store.read(backend))
            with pytest.raises(Unavailable):
                await store.write(put(1))
            await store.write(put(1))
            assert await cursor(store) == 1

    run(claim())


def test_a_commit_of_unknown_outcome_ends_the_claim(run, presence_url):
    async def claim():
        async with opened(presence_url, 5) as store:

            def cut(tx):
                tx.put_cursor(1, ONE)
                terminate(presence_url, backend(tx))

            with pytest.raises(Unavailable, match="not known"):
                await store.write(cut)
            await asyncio.wait_for(store.claim_ended(), 1)
            with pytest.raises(Deposed):
                await store.write(put(1))
            await store.claim(6, 4)
            await store.write(put(1))

    run(claim())


def test_a_commit_that_did_not_wait_for_its_standby_ends_the_claim(run, presence_url):
    def warn(tx):
        tx.db.execute("DO $$ BEGIN RAISE WARNING 'as PostgreSQL says it, in any words'; END $$")

    async def claim():
        async with opened(presence_url, 5) as store:
            with pytest.raises(Unavailable, match="standby"):
                await store.write(warn)
            await asyncio.wait_for(store.claim_ended(), 1)

    run(claim())


def test_a_server_that_stands_still_is_waited_for_no_longer_than_agreed(
    run, presence_url, postgres_server
):
    async def claim():
        async with opened(presence_url, 5, answer_s=0.5) as store:
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
        async with opened(presence_url, 5) as store:
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
        states = tx.load_followers(users, "/a")
        assert all(is_due(states[user], Message("/a", count, count)) for user in users)
        span = Span(count, count, count)
        outbox.notify_all(tx, users, "/a", span, "bob", News())
        return len(users)

    async def claim():
        async with opened(presence_url, 5) as store:
            await store.write(crowd)
            await store.write(wrote("bob", state.PutWaiting("/b", "c")))
            counts = []
            for count in (1, 499):
                trips.clear()
                assert await store.write(lambda tx, n=count: notify(tx, n)) == count
                counts.append(len(trips))
            assert counts[0] == counts[1] <= 12

    run(claim())
