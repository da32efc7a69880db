"""Dead letters, replayed with the same ids or dropped, by whoever is asked."""

import pytest

from services.chassis.errors import Unavailable
from services.presence import dead_letters
from services.presence.dead_letters import DeadLetters, Moved
from services.presence.notifications import DeliveryState
from services.presence.store_deliveries import Which
from tests.presence.letters import NOW, one, put
from tests.presence.test_store import with_store

S = DeliveryState


def begun(tx):
    put(tx, "d1", S.DEAD, reason="TRIES_EXHAUSTED", attempts=8, tries=8)
    put(tx, "d2", S.DEAD, "bob", reason="TRIES_EXHAUSTED", expires_at=NOW)
    put(tx, "d3", S.DEAD, "cid", uri="tel:+491700000000", reason="TRIES_EXHAUSTED")
    put(tx, "alive", S.ACCEPTED, "dan")


def with_letters(run, make_store, body):
    async def begin(store):
        told: list[set[str]] = []
        await store.write(begun)
        await body(store, DeadLetters(store, told.append), told)

    with_store(run, make_store, begin)


def test_what_is_replayed_is_due_again_under_its_id_and_its_keeper_is_who_replayed_it(
    run, make_store
):
    async def body(store, letters, told):
        # Another process is asked than the one that gave it up.
        await store.begin(store.mine.term + 1, "presence-2", 4)
        assert await letters.replay(Which()) == Moved(2, 1)
        assert told == [{"mailto", "tel"}]
        again = await one(store, "d1")
        assert (again.state, again.due_at, again.reason) == (S.RETRY, NOW, "REPLAYED")
        assert (again.attempts, again.tries) == (8, 0)
        due = await store.read(lambda tx: tx.deliveries_due(["mailto", "tel"], 9))
        assert {delivery.id for delivery in due} == {"d1", "d3"}
        assert (await one(store, "d2")).state is S.DEAD
        assert (await one(store, "alive")).state is S.ACCEPTED

    with_letters(run, make_store, body)


def test_what_is_dropped_has_failed_for_good(run, make_store):
    async def body(store, letters, told):
        assert await letters.drop(Which(channel="mailto")) == Moved(2)
        for own_id in ("d1", "d2"):
            row = await one(store, own_id)
            assert (row.state, row.reason, row.due_at) == (S.FAILED, "DROPPED", None)
        page = await letters.page(Which(), "", 9)
        assert [letter.id for letter in page.letters] == ["d3"]

    with_letters(run, make_store, body)


def test_many_are_moved_page_by_page_and_a_call_ends_in_time(run, make_store, monkeypatch):
    monkeypatch.setattr(dead_letters, "_PAGE", 2)
    monkeypatch.setattr(dead_letters, "CALL_MAX", 2)

    async def body(store, letters, told):
        first = await letters.replay(Which())
        assert first == Moved(1, 1, "d2")
        assert await letters.replay(Which(), first.next_after_id) == Moved(1)
        assert await letters.replay(Which()) == Moved(0, 1), "it stays as it is"

    with_letters(run, make_store, body)


def test_what_was_made_due_before_a_fault_is_told_of(run, make_store, monkeypatch):
    monkeypatch.setattr(dead_letters, "_PAGE", 1)

    async def body(store, letters, told):
        write, left = store.write, [1]

        async def failing(work):
            if not left:
                raise Unavailable("the store is away")
            left.pop()
            return await write(work)

        store.write = failing
        with pytest.raises(Unavailable):
            await letters.replay(Which())
        assert told == [{"mailto"}]

    with_letters(run, make_store, body)


def test_letters_are_shown_in_pages_and_one_by_one(run, make_store):
    async def body(store, letters, told):
        first = await letters.page(Which(), "", 2)
        assert [letter.id for letter in first.letters] == ["d1", "d2"]
        assert first.last_attempts["d1"].outcome == "RETRY"
        assert first.next_after_id == "d2"
        rest = await letters.page(Which(), "d2", 2)
        assert ([letter.id for letter in rest.letters], rest.next_after_id) == (["d3"], "")
        whole = await letters.get("d1")
        assert [attempt.number for attempt in whole.attempts] == [8]
        assert sum(span.count for span in whole.spans) == 3
        assert await letters.get("alive") is None
        assert await letters.get("none") is None

    with_letters(run, make_store, body)
