"""Receipts, early words and dead letters, as every store keeps them."""

from dataclasses import replace

import pytest

from services.presence.notifications import DeliveryState
from services.presence.receipts import Kind, Receipt
from services.presence.store_deliveries import Which
from tests.presence.letters import NOW, one, put
from tests.presence.test_store import with_store

S = DeliveryState


def test_a_receipt_is_kept_once_for_each_kind_and_goes_with_its_delivery(run, make_store):
    first = Receipt("d", Kind.DELIVERED, 5.0, "SM1", "fine")
    opened = Receipt("d", Kind.OPENED, 4.0)

    async def body(store):
        await store.write(lambda tx: put(tx, "d", S.DELIVERED))
        again = replace(first, at=9.0)
        for receipts in ([first, opened], [again]):
            await store.write(lambda tx, r=receipts: tx.put_receipts([("ann", x) for x in r]))
        kept = await store.read(lambda tx: tx.receipts(["d", "other"]))
        assert kept == {"d": [opened, first]}
        assert await store.write(lambda tx: tx.expire_records(NOW, 9))
        assert not await store.read(lambda tx: tx.receipts(["d"]))
        [[left]] = await store.read(lambda tx: tx.db.rows("SELECT count(*) FROM receipts"))
        assert left == 0

    with_store(run, make_store, body)


def test_an_early_word_stays_with_a_claim_and_leaves_its_keeper(run, make_store):
    async def body(store):
        def begin(tx):
            put(tx, "sending", S.SENDING)
            put(tx, "bob", S.ACCEPTED, "bob")

        await store.write(begin)
        rows = await store.read(lambda tx: tx.deliveries(["sending", "bob"]))
        await store.begin(store.mine.term + 1, "presence-2", 4)
        worded = [replace(row, reason="ARRIVED") for row in rows]
        await store.write(lambda tx: tx.put_early_words(worded))
        assert (await one(store, "bob")).reason == ""
        assert (await one(store, "sending")).reason == "ARRIVED"
        words = await store.read(lambda tx: tx.early_words(["sending", "bob", "none"]))
        assert words == {"sending": "ARRIVED"}
        keepers = await store.read(lambda tx: tx.db.rows("SELECT DISTINCT keeper FROM deliveries"))
        assert keepers == [(store.mine.term - 1,)]

    with_store(run, make_store, body)


def test_the_last_try_of_each_delivery_is_found(run, make_store):
    async def body(store):
        def begin(tx):
            put(tx, "a", S.RETRY, attempts=1)
            put(tx, "b", S.RETRY, "bob", attempts=2)
            put(tx, "c", S.PENDING, "cid", attempts=0)
            tx.put_attempts([replace(tx.attempts("a")[0], delivery_id="b")])

        await store.write(begin)
        last = await store.read(lambda tx: tx.last_attempts(["a", "b", "c", "none"]))
        assert {own_id: attempt.number for own_id, attempt in last.items()} == {"a": 1, "b": 2}

    with_store(run, make_store, body)


@pytest.mark.parametrize(
    ("which", "found"),
    [
        (Which(), ["d1", "d2", "d3", "d4"]),
        (Which(user="ann"), ["d1", "d4"]),
        (Which(channel="tel"), ["d3"]),
        (Which(reason="TEMPLATE_FAILED"), ["d2"]),
        (Which(ids=["d4", "d2", "alive", "none"]), ["d2", "d4"]),
        (Which(user="ann", channel="tel"), []),
        (Which(user="ann", channel="mailto", reason="TRIES_EXHAUSTED", ids=["d1"]), ["d1"]),
    ],
)
def test_dead_letters_are_found_by_what_is_asked_of_them(run, make_store, which, found):
    async def body(store):
        def begin(tx):
            put(tx, "alive", S.RETRY, due_at=NOW)
            put(tx, "d1", S.DEAD, reason="TRIES_EXHAUSTED")
            put(tx, "d2", S.DEAD, "bob", reason="TEMPLATE_FAILED")
            put(tx, "d3", S.DEAD, "cid", uri="tel:+491700000000", reason="TRIES_EXHAUSTED")
            put(tx, "d4", S.DEAD, reason="TRIES_EXHAUSTED")

        await store.write(begin)

        def asked(after, limit):
            return store.read(lambda tx: tx.dead_letter_ids(which, after, limit))

        assert await asked("", 9) == found
        assert await asked("", 1) == found[:1]
        if found:
            assert await asked(found[0], 9) == found[1:]

    with_store(run, make_store, body)
