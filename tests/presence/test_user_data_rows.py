"""Rows of users for whoever asks about them, in every store."""

from services.presence import state
from services.presence.notifications import Delivery, DeliveryState, Notification, Span
from services.presence.profile import Profile
from services.presence.state import (
    BACKEND,
    Endpoint,
    Follow,
    FollowKey,
    Handover,
    Hold,
    Register,
    Standing,
)
from services.presence.store_outbox import Attempt, Decided
from services.presence.user_data import Followed, Follower
from tests.presence.terms import lock_all, own

USERS = ("ann", "bob", "cid")
FIRST = ("", "")


def with_store(run, make_store, body):
    """Run `await body(store)` on an open store that holds everything; ann and others are locked."""

    async def opened():
        store = make_store(clock=lambda: 1_000.0)
        await store.open()
        try:
            await own(store)
            lock_all(store, USERS)
            return await body(store)
        finally:
            await store.close()

    run(opened())


def follows(user: str, *rows: Follow):
    def work(tx):
        for row in rows:
            tx.write_user(user, state.PutFollow(row))

    return work


def of(subject: str, client_id: str, base: int = 0, ended: bool = False) -> Follow:
    return Follow(subject, client_id, 1, base, base, ended=ended)


def delivery(own_id: str, subject: str = "/a", **changes) -> Delivery:
    values = {
        "id": own_id, "notification_id": f"n-{own_id}", "user": "ann", "subject": subject,
        "uri": "mailto:a@x", "state": DeliveryState.PENDING, "due_at": 10.0, "expires_at": 9e9,
    }  # fmt: skip
    return Delivery(**(values | changes))


def notification(own_id: str, subject: str = "/a", user: str = "ann") -> Notification:
    return Notification(own_id, user, subject, 1, 10.0, 10.0, 9e9)


def test_open_follows_come_by_subject_and_client_in_pages(run, make_store):
    async def body(store):
        rows = (of("/a", "c2"), of("/a", BACKEND, 7), of("/b", "c1", ended=True), of("/c", "c1", 3))
        await store.write(follows("ann", *rows))
        await store.write(follows("bob", of("/a", "x")))
        page = await store.read(lambda tx: tx.followed("ann", "", 2))
        assert page == [Followed("/a", BACKEND, 7), Followed("/a", "c2", 0)]
        assert await store.read(lambda tx: tx.followed("ann", "/a", 9)) == [Followed("/c", "c1", 3)]

    with_store(run, make_store, body)


def test_what_backends_have_added_is_counted_by_user(run, make_store):
    async def body(store):
        await store.write(follows("ann", of("/a", BACKEND), of("/b", BACKEND), of("/c", "c1")))
        await store.write(follows("bob", of("/a", BACKEND, ended=True)))
        counted = await store.read(lambda tx: tx.followed_without_client(["ann", "bob", "cid"]))
        assert counted == {"ann": 2}

    with_store(run, make_store, body)


def test_a_handover_that_has_changed_is_not_settled(run, make_store):
    async def body(store):
        first, second = (Handover(FollowKey(s, BACKEND, 1), 5, 1) for s in ("/a", "/b"))
        again = Handover(second.key, 6, 2)

        def put(tx):
            for row in (first, again):
                tx.write_user("ann", state.PutHandover(row))

        await store.write(put)
        await store.write(lambda tx: tx.drop_settled([("ann", first), ("ann", second)]))
        left = await store.read(lambda tx: tx.load_user("ann"))
        assert dict(left.handovers) == {second.key: again}

    with_store(run, make_store, body)


def test_deliveries_of_a_subject_or_of_all_are_cancelled_unless_they_have_ended(run, make_store):
    async def body(store):
        sent = delivery("3", state=DeliveryState.ACCEPTED, due_at=None)
        sending = delivery("4", state=DeliveryState.SENDING, due_at=None)
        rows = [delivery("1"), delivery("2", "/b", held=True), sent, sending]
        await store.write(lambda tx: tx.put_deliveries(rows))
        await store.write(lambda tx: tx.cancel_deliveries_of("ann", "/a", "REVOKED"))
        assert await states(store) == ["cancelled", "pending", "accepted", "sending"]
        await store.write(lambda tx: tx.cancel_deliveries_of("ann", None, "REVOKED"))
        assert await states(store) == ["cancelled", "cancelled", "accepted", "sending"]
        [one] = await store.read(lambda tx: tx.deliveries(["2"]))
        assert (one.reason, one.due_at, one.held) == ("REVOKED", None, False)
        assert (await store.read(lambda tx: tx.counts())).deliveries == {
            "cancelled": 2, "accepted": 1, "sending": 1,
        }  # fmt: skip

    async def states(store):
        rows = await store.read(lambda tx: tx.deliveries(["1", "2", "3", "4"]))
        return [row.state.value for row in rows]

    with_store(run, make_store, body)


def test_followers_come_by_user_and_client_with_how_they_stand(run, make_store):
    async def body(store):
        await store.write(follows("bob", of("/a", "b2"), of("/a", "b1"), of("/b", "b1")))
        await store.write(
            follows("ann", of("/a", BACKEND), of("/a", "a1"), of("/a", "a0", 0, True))
        )
        online = Register("b2", 1, "s", 7, Standing.ONLINE, active=True, since=5.0)
        await store.write(lambda tx: tx.write_user("bob", state.PutRegister(online)))
        away = Register("b2", 1, "s", 7, Standing.ONLINE, since=6.0, away=True)
        await store.write(lambda tx: tx.write_user("bob", state.PutRegister(away)))
        found_away = await store.read(lambda tx: tx.followers_there("/a", FIRST, 9))
        assert found_away[0] == [Follower("bob", "b2", "online", False, 6.0, away=True)]
        await store.write(lambda tx: tx.write_user("bob", state.PutRegister(online)))
        offline = Register("b1", 1, "s", 7, Standing.OFFLINE, since=4.0)
        await store.write(lambda tx: tx.write_user("bob", state.PutRegister(offline)))
        there = [Follower("bob", "b2", "online", True, 5.0)]

        async def counted(after, limit):
            return await store.read(lambda tx: tx.count_followers("/a", after, limit))

        async def found(after, limit):
            return await store.read(lambda tx: tx.followers_there("/a", after, limit))

        assert await counted(FIRST, 9) == (1, 2, None)
        assert await counted(FIRST, 4) == (1, 2, ("bob", "b2"))
        assert await counted(FIRST, 2) == (0, 1, ("ann", "a1"))
        assert await counted(("ann", "a1"), 1) == (0, 1, ("bob", "b1"))
        assert await counted(("bob", "b2"), 1) == (0, 0, None)
        assert await found(FIRST, 9) == (there, None)
        assert await found(FIRST, 3) == ([], ("bob", "b1"))
        assert await found(("bob", "b1"), 1) == (there, ("bob", "b2"))

    with_store(run, make_store, body)


# -- the end of a user -----------------------------------------------------------------------------


def of_ann(tx) -> None:
    """A row of ann in every table, and one of bob in some."""
    key = FollowKey("/a", "c", 1)
    for effect in (
        state.PutRegister(Register("c", 1, "s", 7, Standing.OFFLINE)),
        state.PutFollow(of("/a", "c")),
        state.PutWaiting("/a", "c"),
        state.PutHandover(Handover(key, 0, 1)),
        state.PutEndpoint(Endpoint("fcm:1", ("c",), 10.0)),
        state.PutEndpoint(Endpoint("mailto:a@x", ("c",), 10.0)),
        state.PutHold(Hold("/a", 1, "c", 1.0, 0, 0)),
    ):
        tx.write_user("ann", effect)
    tx.remove_gone_endpoint("ann", "fcm:1", 99.0)
    tx.put_profile("ann", Profile(locale="de"))
    tx.put_paces({("ann", "mailto"): 5.0})
    tx.begin_all([notification("n-1")], [delivery("1", state=DeliveryState.RETRY)])
    tx.put_attempts([Attempt("1", 1, 10.0, "p")])
    tx.db.execute("INSERT INTO receipts VALUES ('1', 'OPENED', 10, '', '')")
    tx.put_decided("ann", "/a", Decided(Span(1, 1, 1), "n-1", "", 10.0))
    tx.suppress("ann", "/a", "PUBLISHER", Span(2, 2, 2), 3_600.0)
    tx.write_user("bob", state.PutFollow(of("/a", "b")))
    tx.begin_all([notification("n-9", user="bob")], [delivery("9", user="bob")])


TABLES = (
    "registers", "follows", "waiting", "handovers", "endpoints", "gone", "holds", "profiles",
    "paces", "decided", "suppressions", "notifications", "deliveries", "attempts", "receipts",
)  # fmt: skip


async def rows(store) -> dict[str, int]:
    def count(tx):
        return {
            table: found
            for table in TABLES
            if (found := int(tx.db.rows(f"SELECT count(*) FROM {table}")[0][0]))
        }

    return await store.read(count)


def test_a_user_is_erased_page_by_page_and_nobody_else(run, make_store):
    async def body(store):
        await store.write(of_ann)
        assert set(await rows(store)) == set(TABLES)
        pages = []
        while erased := await store.write(lambda tx: tx.erase_page("ann", 3)):
            pages.append(erased)
        assert max(pages) == 3
        bobs = {"follows": 1, "notifications": 1, "deliveries": 1}
        assert await rows(store) == bobs
        counts = await store.read(lambda tx: tx.counts())
        assert (counts.clients_known, counts.clients_waiting) == (0, 0)
        assert counts.deliveries == {"pending": 1}

    with_store(run, make_store, body)


def test_what_is_being_sent_is_erased_when_it_has_been(run, make_store):
    async def body(store):
        one = delivery("1", state=DeliveryState.SENDING, due_at=None)
        await store.write(lambda tx: tx.begin_all([notification("n-1")], [one]))
        assert await store.write(lambda tx: tx.erase_page("ann", 9)) == 0
        assert await store.read(lambda tx: tx.is_being_sent("ann"))
        sent = delivery("1", state=DeliveryState.ACCEPTED, due_at=None)
        await store.write(lambda tx: tx.put_deliveries([sent]))
        assert not await store.read(lambda tx: tx.is_being_sent("ann"))
        assert await store.write(lambda tx: tx.erase_page("ann", 9)) == 1
        assert await rows(store) == {}

    with_store(run, make_store, body)
