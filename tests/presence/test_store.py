"""Every store does the same: the fence, atomic transactions, rows as they were written."""

import asyncio
import threading
from dataclasses import replace

import pytest

from services.chassis.errors import Deposed
from services.chassis.subjects import partition_of
from services.presence import state
from services.presence.notifications import Delivery, DeliveryState, Notification, Span
from services.presence.placing import Joinable
from services.presence.plan import DEFAULT_PLAN, Plan
from services.presence.state import (
    Endpoint,
    Follow,
    FollowKey,
    Handover,
    Hold,
    Mark,
    Register,
    Standing,
    UserState,
)
from services.presence.store import Cursor, FanOut, GraceDue
from services.presence.store_outbox import Attempt, Decided
from tests.presence.terms import lock_all, own
from tests.waiting import until

KEY = FollowKey("/a", "c", 3)
MAIL = "mailto:ann@example.org"
USERS = ("ann", "bob", "cid", "dan", "eve")


def with_store(run, make_store, body, now=1_000.0):
    """Run `await body(store)` on an open, claimed store whose clock stands still."""

    async def opened():
        store = make_store(clock=lambda: now)
        await store.open()
        try:
            await own(store)
            lock_all(store, USERS)
            return await body(store)
        finally:
            await store.close()

    return run(opened())


def wrote(user: str, *effects: state.Effect):
    def work(tx):
        for effect in effects:
            tx.write_user(user, effect)

    return work


# -- the fence and the lock ----------------------------------------------------------------------


def test_an_epoch_not_above_the_stored_one_does_not_claim(run, make_store):
    async def body(store):
        assert await store.claim({0: 1, 1: 2, 2: 1}) == {1}
        assert await store.claim({1: 2}) == frozenset()

    with_store(run, make_store, body)


def test_once_its_term_is_closed_a_process_writes_nothing(run, make_store):
    async def body(store):
        slept_through = store.mine
        await store.begin(99, "presence-2", 4)
        assert await store.claim({0: 7}) == {0}, "closes the term that still has it"
        store.mine = slept_through
        with pytest.raises(Deposed):
            await store.write(lambda tx: tx.put_cursor(1, Cursor(5, 1)))
        assert not store.mine.term
        await asyncio.wait_for(store.term_ended(), 1)
        assert await store.read(lambda tx: tx.cursor(1)) == Cursor()

    with_store(run, make_store, body)


def test_a_partition_that_was_let_go_is_taken_from_a_term_that_goes_on(run, make_store):
    async def body(store):
        first = store.mine
        await store.release([2, 3])
        assert store.mine.partitions == {0, 1}
        await store.begin(99, "presence-2", 4)
        assert await store.claim({2: 7}) == {2}
        store.mine = replace(first, partitions=frozenset({0, 1}))
        await store.write(lambda tx: tx.put_cursor(1, Cursor(5, 1)))

    with_store(run, make_store, body)


def test_a_term_under_a_name_closes_the_one_that_was_open_under_it(run, make_store):
    async def body(store):
        slept_through = store.mine
        await store.begin(99, "presence-1", 4)
        assert list(await store.read(lambda tx: tx.open_terms())) == [99]
        store.mine = slept_through
        with pytest.raises(Deposed):
            await store.write(lambda tx: tx.put_cursor(1, Cursor(5, 1)))

    with_store(run, make_store, body)


def test_what_a_closed_term_had_to_send_is_left_until_it_is_taken_over(run, make_store):
    async def body(store):
        await store.write(lambda tx: tx.begin_all([notification()], [delivery()]))
        await store.begin(99, "presence-2", 4)
        assert await store.read(lambda tx: tx.deliveries_due(["mailto"], 9)) == []
        assert await store.read(lambda tx: tx.deliveries_left(9)) == [], "its term is open"
        await store.claim({0: 7})
        [left] = await store.read(lambda tx: tx.deliveries_left(9))
        await store.write(lambda tx: tx.forget_terms())
        assert await store.read(lambda tx: tx.deliveries_left(9)) == [left]
        await store.write(lambda tx: tx.put_deliveries([left]))
        assert await store.read(lambda tx: tx.deliveries_due(["mailto"], 9)) == [left]
        await store.write(lambda tx: tx.forget_terms())
        terms = await store.read(lambda tx: tx.db.rows("SELECT id FROM terms"))
        assert terms == [(99,)]

    with_store(run, make_store, body)


def test_a_term_that_begins_waits_for_what_was_begun_in_the_one_before(run, make_store):
    async def body(store):
        before = store.mine.term
        begun, goes_on = threading.Event(), threading.Event()

        def slow(tx):
            begun.set()
            goes_on.wait(10)
            tx.begin_all([notification()], [delivery()])

        writing = asyncio.create_task(store.write(slow))
        await asyncio.to_thread(begun.wait, 10)
        beginning = asyncio.create_task(store.begin(99, "presence-1", 4))
        await asyncio.sleep(0.05)
        assert store.mine.term == before, "changed by nobody but the store's thread"
        goes_on.set()
        await writing
        await beginning
        [left] = await store.read(lambda tx: tx.deliveries_left(9))
        assert left.id == delivery().id, "it is of the term in which it was written"

    with_store(run, make_store, body)


def test_rows_of_a_user_are_written_under_the_users_lock(run, make_store):
    async def body(store):
        with pytest.raises(AssertionError, match="lock"):
            await store.write(wrote("somebody else", state.PutWaiting("/a", "c")))

    with_store(run, make_store, body)


def test_nothing_is_written_without_a_term(run, make_store):
    async def body():
        store = make_store()
        await store.open()
        with pytest.raises(Deposed):
            await store.write(lambda tx: tx.put_cursor(1, Cursor(5, 1)))
        await store.close()

    run(body())


def test_callers_that_give_up_do_not_lengthen_the_queue(run, make_store):
    async def body(store):
        goes_on = threading.Event()
        ran = []
        blocked = asyncio.create_task(store.read(lambda tx: goes_on.wait(5)))
        try:
            for _ in range(3):
                given_up = [
                    asyncio.create_task(store.read(lambda tx: ran.append(1))) for _ in range(64)
                ]
                await asyncio.sleep(0.02)
                for task in given_up:
                    task.cancel()
                await asyncio.gather(*given_up, return_exceptions=True)
        finally:
            goes_on.set()
        await blocked
        await store.read(lambda tx: None)
        assert len(ran) == 63, "64 places, one of them taken by the first"

    with_store(run, make_store, body)


# -- transactions --------------------------------------------------------------------------------


def test_a_work_that_fails_leaves_nothing(run, make_store):
    async def body(store):
        def work(tx):
            tx.put_cursor(1, Cursor(5, 1))
            raise ValueError("in the middle")

        with pytest.raises(ValueError, match="in the middle"):
            await store.write(work)
        assert await store.read(lambda tx: tx.cursor(1)) == Cursor()

    with_store(run, make_store, body)


# -- rows of users -------------------------------------------------------------------------------


def test_a_user_is_read_as_written(run, make_store):
    register = Register("c", 2, "s", 7, Standing.GRACE, 1_010.5, 4, True, True, False)
    follow = Follow("/a", "c", 3, 5, 8, 9, True, "s", 6, 1, 2)
    handover = Handover(KEY, 8, 2)
    endpoint = Endpoint(MAIL, ("c", "d"), 999.0)

    async def body(store):
        await store.write(
            wrote(
                "ann",
                state.PutRegister(register),
                state.PutFollow(follow),
                state.PutWaiting("/a", "c"),
                state.PutHandover(handover),
                state.PutEndpoint(endpoint),
                state.PutHold(Hold("/a", 6, "c", 1.0, 5, 7)),
            )
        )
        expected = UserState(
            user="ann",
            registers={"c": register},
            follows={KEY: follow},
            waiting=frozenset({("/a", "c")}),
            handovers={KEY: handover},
            endpoints={MAIL: endpoint},
        )
        assert await store.read(lambda tx: tx.load_user("ann")) == expected
        assert await store.read(lambda tx: tx.load_user("ann", "/a")) == expected
        other = await store.read(lambda tx: tx.load_user("ann", "/b"))
        assert (other.follows, other.registers) == ({}, {"c": register})
        holds = await store.read(lambda tx: tx.holds("ann", "/a", 6))
        assert holds == {"c": Hold("/a", 6, "c", 1.0, 5, 7)}
        await store.write(
            wrote(
                "ann",
                state.DropFollow(KEY),
                state.DropWaiting("/a", "c"),
                state.DropHandover(KEY),
                state.DropEndpoint(MAIL),
            )
        )
        assert await store.read(lambda tx: tx.load_user("ann")) == UserState(
            user="ann", registers={"c": register}
        )

    with_store(run, make_store, body)


def test_what_is_read_in_advance_is_what_would_be_read_later(run, make_store):
    online = Register("c", 2, "s", 7, Standing.ONLINE)
    rows = (
        state.PutRegister(online),
        state.PutFollow(Follow("/a", "c", 3, 5, 8)),
        state.PutFollow(Follow("/b", "c", 4, 0, 0, ended=True)),
        state.PutWaiting("/a", "d"),
        state.PutHandover(Handover(KEY, 8, 2)),
        state.PutEndpoint(Endpoint("fcm:abc", ("c",), 9.0)),
    )

    def look(tx):
        return tx.load_user("ann"), tx.load_user("bob"), tx.cursor(1), tx.cursor(2)

    def ahead(tx):
        tx.read_in_advance([1, 2], ["/a", "/z"])
        tx.read_users_in_advance(["ann", "bob"])
        return look(tx)

    def changed(tx):
        tx.read_in_advance([1], [])
        tx.read_users_in_advance(["ann", "bob"])
        tx.write_user("bob", state.PutEndpoint(Endpoint("fcm:abc", ("d",), 10.0)))
        tx.put_cursor(1, Cursor(8, 1))
        return look(tx)

    def marked(tx):
        tx.read_users_in_advance(["ann"])
        tx.put_mark(7, partition_of("/a", 4), 9, 90)
        return tx.load_user("ann").marks

    async def body(store):
        await store.write(wrote("ann", *rows))
        await store.write(lambda tx: tx.put_mark(7, partition_of("/a", 4), 3, 30))
        await store.write(lambda tx: tx.put_cursor(1, Cursor(7, 1)))
        assert (await store.read(look))[0].marks == {(7, "/a"): Mark(3, 30)}
        assert await store.read(ahead) == await store.read(look)
        ann, bob, cursor, _ = await store.write(changed)
        assert (list(ann.endpoints), list(bob.endpoints), cursor.pos) == ([], ["fcm:abc"], 8)
        assert await store.write(marked) == {(7, "/a"): Mark(9, 90)}

    with_store(run, make_store, body)


def test_marks_only_rise_and_are_found_by_edge_and_subject(run, make_store):
    register = Register("c", 1, "s", 7, Standing.ONLINE)
    partition = partition_of("/a", 4)

    async def body(store):
        await store.write(
            wrote("ann", state.PutRegister(register), state.PutFollow(Follow("/a", "c", 1, 0, 0)))
        )
        for round_, pos in ((3, 30), (4, 20), (2, 25)):
            await store.write(lambda tx, r=round_, p=pos: tx.put_mark(7, partition, r, p))
        await store.write(lambda tx: tx.put_mark(8, partition, 99, 99))
        loaded = await store.read(lambda tx: tx.load_user("ann"))
        assert loaded.marks == {(7, "/a"): Mark(4, 30)}

    with_store(run, make_store, body)


def test_marks_are_kept_while_an_edge_lives_or_a_register_names_it(run, make_store):
    async def body(store):
        await store.write(wrote("ann", state.PutRegister(Register("c", 1, "s", 7, Standing.GRACE))))
        for edge in (7, 8, 9):
            await store.write(lambda tx, e=edge: tx.put_mark(e, 1, 1, 1))
        assert await store.write(lambda tx: tx.prune_marks([8], 1_000.0)) == 0
        assert await store.write(lambda tx: tx.prune_marks([8], 1_001.0)) == 1
        left = await store.read(lambda tx: tx.db.rows("SELECT edge_id FROM marks ORDER BY edge_id"))
        assert left == [(7,), (8,)]

    with_store(run, make_store, body)


def test_graces_are_due_by_the_clock_of_the_store(run, make_store):
    def register(client: str, until: float) -> state.PutRegister:
        return state.PutRegister(Register(client, 1, "s", 7, Standing.GRACE, until))

    async def body(store):
        await store.write(wrote("ann", register("late", 1_001.0), register("due", 999.0)))
        assert await store.read(lambda tx: tx.graces_due(10)) == [GraceDue("ann", "due", 1, 999.0)]
        assert await store.read(lambda tx: tx.next_grace()) == 999.0

    with_store(run, make_store, body)


def test_sessions_of_an_edge_are_found_while_online(run, make_store):
    async def body(store):
        online = Register("c", 1, "s", 7, Standing.ONLINE)
        away = Register("d", 1, "s", 8, Standing.OFFLINE)
        await store.write(wrote("ann", state.PutRegister(online), state.PutRegister(away)))
        assert await store.read(lambda tx: tx.edges_online()) == [7]
        assert await store.read(lambda tx: tx.clients_of_edge(7, 10)) == [("ann", "c")]

    with_store(run, make_store, body)


def test_who_waits_is_found_by_subject_in_pages(run, make_store):
    async def body(store):
        for user in ("bob", "ann", "cid"):
            await store.write(wrote(user, state.PutWaiting("/a", "1"), state.PutWaiting("/a", "2")))
        assert await store.read(lambda tx: tx.users_waiting("/a", "", 2)) == ["ann", "bob"]
        assert await store.read(lambda tx: tx.users_waiting("/a", "bob", 2)) == ["cid"]
        assert await store.read(lambda tx: tx.waiting_subjects(["/b", "/a"])) == {"/a"}

    with_store(run, make_store, body)


def test_a_token_that_nobody_can_guess_moves_to_the_last_user_who_registered_it(run, make_store):
    async def body(store):
        for user in ("ann", "bob"):
            for uri in ("fcm:abc", MAIL):
                endpoint = Endpoint(uri, ("c",), 1.0)
                await store.write(wrote(user, state.PutEndpoint(endpoint)))
        assert list(await store.read(lambda tx: tx.uris("ann"))) == [MAIL]
        assert list(await store.read(lambda tx: tx.uris("bob"))) == ["fcm:abc", MAIL]

    with_store(run, make_store, body)


def test_a_gone_endpoint_is_noted_for_each_client_until_told(run, make_store):
    async def body(store):
        await store.write(wrote("ann", state.PutEndpoint(Endpoint(MAIL, ("c", "d"), 500.0))))
        assert not await store.write(lambda tx: tx.remove_gone_endpoint("ann", MAIL, 500.0))
        assert await store.write(lambda tx: tx.remove_gone_endpoint("ann", MAIL, 501.0))
        assert await store.read(lambda tx: tx.gone_endpoints("ann", "c")) == [MAIL]
        await store.write(wrote("ann", state.ForgetGone("c", MAIL)))
        assert await store.read(lambda tx: tx.gone_endpoints("ann", "c")) == []
        assert await store.read(lambda tx: tx.gone_endpoints("ann", "d")) == [MAIL]

    with_store(run, make_store, body)


def test_fan_outs_are_kept_until_dropped(run, make_store):
    async def body(store):
        await store.write(lambda tx: tx.put_fanout(FanOut("/a", 1, 5, "bob", "")))
        await store.write(lambda tx: tx.put_fanout(FanOut("/a", 1, 5, "bob", "cid")))
        rows = await store.read(lambda tx: tx.open_fanouts(10))
        assert rows == [FanOut("/a", 1, 5, "bob", "cid")]
        await store.write(lambda tx: tx.drop_fanout("/a", 1))
        assert await store.read(lambda tx: tx.open_fanouts(10)) == []

    with_store(run, make_store, body)


# -- rows of the outbox --------------------------------------------------------------------------


def notification(own_id="n", **changes) -> Notification:
    values = {
        "id": own_id, "user": "ann", "subject": "/a", "first_seq": 1, "created_at": 1.0,
        "due_at": 1.0, "expires_at": 9_999.0,
    }  # fmt: skip
    return Notification(**(values | changes))


def delivery(own_id="d", **changes) -> Delivery:
    values = {
        "id": own_id, "notification_id": "n", "user": "ann", "subject": "/a", "uri": MAIL,
        "state": DeliveryState.PENDING, "due_at": 999.0, "expires_at": 9_999.0,
    }  # fmt: skip
    return Delivery(**(values | changes))


def decided(from_seq: int, to_seq: int, notification_id="n", reason="") -> Decided:
    return Decided(Span(from_seq, to_seq, to_seq * 10), notification_id, reason, 1_000.0)


def test_the_first_writer_of_a_decision_wins(run, make_store):
    async def body(store):
        await store.write(lambda tx: tx.put_decided("ann", "/a", decided(3, 3)))
        again = decided(3, 3, "", "TRIMMED")
        await store.write(lambda tx: tx.put_decided("ann", "/a", again))
        assert await store.read(lambda tx: tx.decided_in("ann", "/a", 1, 9)) == [decided(3, 3)]

    with_store(run, make_store, body)


def test_decisions_are_found_by_any_seq_of_their_span(run, make_store):
    async def body(store):
        for row in (decided(1, 1), decided(5, 20), decided(30, 30)):
            await store.write(lambda tx, r=row: tx.put_decided("ann", "/a", r))
        found = await store.read(lambda tx: tx.decided_in("ann", "/a", 7, 8))
        assert found == [decided(5, 20)]
        assert await store.read(lambda tx: tx.decided_in("ann", "/a", 2, 4)) == []
        spans = await store.read(lambda tx: tx.members("n"))
        assert [span.to_seq for span in spans] == [1, 20, 30]
        await store.write(lambda tx: tx.take_out("ann", "/a", 20, "ACKNOWLEDGED"))
        spans = await store.read(lambda tx: tx.members("n"))
        assert [span.to_seq for span in spans] == [1, 30]

    with_store(run, make_store, body)


def test_a_notification_is_joinable_until_anything_of_it_was_claimed(run, make_store):
    async def body(store):
        await store.write(lambda tx: tx.begin_all([notification()], [delivery()]))
        assert await store.read(lambda tx: tx.joinables({"ann": ()}, "/a", DEFAULT_PLAN)) == {
            "ann": Joinable(notification(), frozenset({delivery().uri}))
        }
        await store.write(lambda tx: tx.close_notifications(["n"], sent=True))
        both = {"ann": (), "bob": ()}
        assert await store.read(lambda tx: tx.joinables(both, "/a", DEFAULT_PLAN)) == {}
        assert await store.read(lambda tx: tx.last_sent(["ann", "bob"], "/a")) == {"ann": 1_000.0}

    with_store(run, make_store, body)


def test_what_publishers_call_their_messages_parts_none_that_nobody_has_a_say_on(run, make_store):
    async def body(store):
        news = replace(notification(), plan=Plan(category="news", free=True))
        await store.write(lambda tx: tx.begin_all([news], [delivery()]))

        async def found(plan, *named):
            joinables = await store.read(lambda tx: tx.joinables({"ann": named}, "/a", plan))
            return {user: one.notification.id for user, one in joinables.items()}

        talk = Plan(category="talk", free=True)
        assert await found(news.plan) == await found(talk) == {"ann": "n"}
        assert await found(talk, "other") == {"ann": "n"}
        assert await found(talk, "news") == await found(talk, "talk") == {}
        assert await found(news.plan, "news") == {"ann": "n"}
        assert await found(Plan(category="talk")) == await found(DEFAULT_PLAN) == {}
        assert await found(replace(talk, digest_s=5.0)) == {}
        of_none = replace(talk, category="")
        await store.write(lambda tx: tx.put_plans({"n": of_none}))
        assert (await store.read(lambda tx: tx.notifications(["n"])))["n"].plan == of_none
        assert await found(talk, "news") == {"ann": "n"}, "it is of no category that has a say"
        assert await found(talk, "talk") == {}

    with_store(run, make_store, body)


def test_a_notification_with_nowhere_left_to_go_is_not_joinable(run, make_store):
    async def body(store):
        await store.write(wrote("ann", state.PutEndpoint(Endpoint(MAIL, ("c",), 1.0))))
        await store.write(lambda tx: tx.begin_all([notification()], [delivery()]))
        await store.write(wrote("ann", state.DropEndpoint(MAIL)))
        both = {"ann": (), "bob": ()}
        assert await store.read(lambda tx: tx.joinables(both, "/a", DEFAULT_PLAN)) == {}
        [ended] = await store.read(lambda tx: tx.deliveries_of("n"))
        assert (ended.state, ended.reason) == (DeliveryState.CANCELLED, "ENDPOINT_REMOVED")

    with_store(run, make_store, body)


def test_due_deliveries_come_by_channel_longest_due_first(run, make_store):
    rows = [
        delivery("late", due_at=2_000.0),
        delivery("b", due_at=900.0),
        delivery("a", due_at=800.0, uri="tel:+1"),
        delivery("c", due_at=700.0, uri="fcm:x"),
        delivery("done", due_at=None),
    ]

    async def body(store):
        await store.write(lambda tx: tx.begin_all([notification()], rows))
        due = await store.read(lambda tx: tx.deliveries_due(["mailto", "tel"], 10))
        assert [row.id for row in due] == ["a", "b"]
        assert await store.read(lambda tx: tx.schemes_open()) == ["fcm", "mailto", "tel"]
        assert await store.read(lambda tx: tx.next_due(["mailto"])) == 900.0
        assert await store.read(lambda tx: tx.next_due(["other"])) is None

    with_store(run, make_store, body)


def test_a_wake_makes_due_what_was_held_and_leaves_what_waits_for_its_own_time(run, make_store):
    rows = [delivery("held", due_at=1_500.0, held=True), delivery("later", due_at=1_500.0)]

    async def body(store):
        await store.write(lambda tx: tx.begin_all([notification()], rows))
        await store.write(wrote("ann", state.Wake("/a")))
        due = await store.read(lambda tx: tx.deliveries_due(["mailto"], 10))
        assert [row.id for row in due] == ["held"]

    with_store(run, make_store, body)


def test_attempts_are_kept_in_order_and_ended_in_place(run, make_store):
    first = Attempt("d", 1, 5.0, "email", "RETRY", 6.0, "p", "451")
    second = Attempt("d", 2, 7.0, "email")

    async def body(store):
        for attempt in (Attempt("d", 1, 5.0, "email"), first, second):
            await store.write(lambda tx, a=attempt: tx.put_attempts([a]))
        assert await store.read(lambda tx: tx.attempts("d")) == [first, second]

    with_store(run, make_store, body)


def test_suppressions_are_counted_together_in_a_window(run, make_store):
    async def body(store):
        for seq in (7, 3):
            span = Span(seq, seq, 1)
            await store.write(lambda tx, s=span: tx.suppress("ann", "/a", "PUBLISHER", s, 3_600))
        [kept] = await store.read(lambda tx: tx.suppressions("ann", "/a", 10))
        assert (kept.reason, kept.from_seq, kept.to_seq, kept.count) == ("PUBLISHER", 3, 7, 2)

    with_store(run, make_store, body)


def test_old_records_go_but_not_what_may_still_be_sent(run, make_store):
    ended = delivery("ended", notification_id="old", state=DeliveryState.ACCEPTED, due_at=None)

    async def body(store):
        await store.write(lambda tx: tx.begin_all([notification("old")], [ended]))
        await store.write(lambda tx: tx.begin_all([notification("open")], [
            delivery("open", notification_id="open")]))  # fmt: skip
        for seq, own_id in ((1, "old"), (2, "open"), (3, "")):
            row = decided(seq, seq, own_id)
            await store.write(lambda tx, r=row: tx.put_decided("ann", "/a", r))
        while await store.write(lambda tx: tx.expire_records(2_000.0, 1)):
            pass
        assert await store.read(lambda tx: tx.notifications(["old"])) == {}
        assert await store.read(lambda tx: tx.deliveries(["ended"])) == []
        left = await store.read(lambda tx: tx.decided_in("ann", "/a", 1, 9))
        assert [row.span.to_seq for row in left] == [2]

    with_store(run, make_store, body)


def test_rates_that_were_used_long_ago_go(run, make_store):
    async def body(store):
        paces = {("ann", "tel"): 1_999.0, ("bob", "tel"): 2_001.0}
        await store.write(lambda tx: tx.put_paces(paces))
        await store.write(lambda tx: tx.expire_records(2_000.0, 9))
        left = await store.read(lambda tx: tx.paces(["ann", "bob"]))
        assert left == {("bob", "tel"): 2_001.0}

    with_store(run, make_store, body)


def test_what_was_committed_is_there_after_opening_again(run, make_store):
    async def write(store):
        await store.write(lambda tx: tx.adopt_log("log"))
        await store.write(lambda tx: tx.put_cursor(2, Cursor(7, 1)))

    async def read(store):
        await until(lambda: store.read(lambda tx: tx.log_id() == "log"))
        assert await store.read(lambda tx: tx.cursor(2)) == Cursor(7, 1)

    with_store(run, make_store, write)
    with_store(run, make_store, read)
