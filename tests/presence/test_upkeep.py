"""What is forgotten, and what is not yet."""

from services.chassis.subjects import partition_of
from services.presence import state
from services.presence.happenings import Happened
from services.presence.log_reader import LogReader
from services.presence.notifications import Limits, Span
from services.presence.outbox import Outbox
from services.presence.state import (
    BACKEND,
    SELF,
    Endpoint,
    Follow,
    FollowKey,
    Handover,
    Register,
    Standing,
)
from services.presence.store_outbox import Decided
from services.presence.upkeep import CLOCKS_APART_S, Keeps, Upkeep
from tests.presence.stage import PARTITIONS, SECRET, FakeLog
from tests.presence.terms import locked
from tests.presence.test_happening_rows import appended, register
from tests.presence.test_store import with_store, wrote

DAY = 86_400.0
# A subject of each partition.
OF = {partition_of(f"/s/{n}", PARTITIONS): f"/s/{n}" for n in range(200)}


def upkept(run, make_store, body, keep_s=100.0, told=None, now=1_000.0, **keeps):
    """Run `await body(store, log, step)` around passes of the upkeep, at time `now`."""

    async def with_log(store):
        log = FakeLog()
        address = await log.start()
        reader = LogReader(lambda: [address], SECRET, 2.0)
        try:
            await body(store, log, upkeep(store, reader, keep_s, told, **keeps).step)
        finally:
            await reader.close()
            await log.stop()

    with_store(run, make_store, with_log, now)


def upkeep(store, reader, keep_s, told=None, **more) -> Upkeep:
    outbox = Outbox(Limits(), 3600.0)
    keeps = Keeps(keep_s, follows_s=30 * DAY, clients_s=7 * DAY, **more)
    tell = (told if told is not None else []).append
    return Upkeep(store, reader, outbox, keeps, lambda: [7], tell)


def ended(opened: int, acked: int) -> Follow:
    return Follow("/a", "c", opened, 0, acked, ended=True)


async def follows(store) -> list[int]:
    loaded = await store.read(lambda tx: tx.load_user("ann"))
    return sorted(follow.opened for follow in loaded.follows.values())


def test_an_ended_follow_goes_when_the_log_has_trimmed_what_it_acknowledged(run, make_store):
    async def body(store, log, step):
        for _ in range(6):
            log.publish("/a", "x")
        await store.write(wrote("ann", state.PutFollow(ended(1, 3)), state.PutFollow(ended(2, 5))))
        await step()
        assert await follows(store) == [1, 2]
        log.floors["/a"] = 4
        await step()
        assert await follows(store) == [2]

    upkept(run, make_store, body)


def test_users_whose_ended_follows_must_stay_do_not_keep_those_of_others(run, make_sqlite):
    async def body(store, log, step):
        for _ in range(6):
            log.publish("/a", "x")
        log.floors["/a"] = 4

        def crowd(tx):
            for number in range(600):
                tx.write_user(f"stays-{number:03}", state.PutFollow(ended(1, 5)))
            tx.write_user("the last one", state.PutFollow(ended(1, 4)))

        users = ["the last one", *(f"stays-{number:03}" for number in range(600))]
        await store.write(locked(users, crowd))
        await step()
        left = await store.read(lambda tx: tx.load_user("the last one"))
        assert not left.follows
        kept = await store.read(lambda tx: tx.users_with_ended_follows("/a", "", 1_000))
        assert len(kept) == 600

    upkept(run, make_sqlite, body)


def test_an_ended_follow_stays_while_it_is_handed_over(run, make_store):
    async def body(store, log, step):
        log.publish("/a", "x")
        log.floors["/a"] = 1
        handover = Handover(FollowKey("/a", "c", 1), 0, 1)
        await store.write(wrote("ann", state.PutFollow(ended(1, 1)), state.PutHandover(handover)))
        await step()
        assert await follows(store) == [1]
        await store.write(wrote("ann", state.DropHandover(handover.key)))
        await step()
        assert await follows(store) == []

    upkept(run, make_store, body)


def test_records_go_after_their_time(run, make_store):
    async def body(store, log, step):
        for seq, at in ((1, 899.0), (2, 901.0)):
            row = Decided(Span(seq, seq, seq), "", "PUBLISHER", at)
            await store.write(lambda tx, r=row: tx.put_decided("ann", "/a", r))
        await step()
        left = await store.read(lambda tx: tx.decided_in("ann", "/a", 1, 9))
        assert [row.span.to_seq for row in left] == [2]

    upkept(run, make_store, body, now=1_000.0 + CLOCKS_APART_S)


# -- clients and follows that time has passed by --------------------------------------------------

NOW = 400 * DAY


def offline(client: str, days_ago: float) -> state.PutRegister:
    since = NOW - days_ago * DAY
    return state.PutRegister(
        Register(client, 1, f"{client}/1", 7, Standing.OFFLINE, ended=True, since=since)
    )


async def clients(store, user="ann") -> list[str]:
    return sorted((await store.read(lambda tx: tx.load_user(user))).registers)


def test_the_follows_of_a_user_who_stays_away_end_and_are_handed_over(run, make_store):
    told = []

    async def body(store, log, step):
        follow = state.PutFollow(Follow("/a", "c", 1, 0, 3))
        rows = (offline("c", 31), follow, state.PutWaiting("/a", "c"))
        await store.write(wrote("ann", *rows))
        await store.write(wrote("bob", offline("c", 29), follow, state.PutWaiting("/a", "c")))
        await store.write(wrote("eve", *rows, state.PutRegister(
            Register("d", 1, "d/1", 7, Standing.ONLINE, since=NOW - 60 * DAY)
        )))  # fmt: skip
        await step()
        assert [f.ended for f in (await loaded(store, "ann")).follows.values()] == [True]
        assert list((await loaded(store, "ann")).handovers) == [FollowKey("/a", "c", 1)]
        assert any(news.handovers for news in told)
        for user in ("bob", "eve"):
            assert [f.ended for f in (await loaded(store, user)).follows.values()] == [False]
        assert await store.read(lambda tx: tx.users_waiting("/a")) == ["bob", "eve"]

    upkept(run, make_store, body, told=told, now=NOW)


def test_what_users_follow_by_themselves_ends_when_they_were_there_for_long_in_no_way(
    run, make_store
):
    async def body(store, log, step):
        def own(asked_days_ago):
            asked = int((NOW - asked_days_ago * DAY) * 1000)
            return state.PutFollow(Follow("/a", SELF, asked, 0, 0, last_generation=asked))

        backed = state.PutFollow(Follow("/a", BACKEND, 1, 0, 0))
        users = {
            "nobody": ([own(31)], True),
            "asked": ([own(29)], False),
            "came": ([own(60), offline("c", 29)], False),
            "gone": ([own(60), offline("c", 31)], True),
            "away": ([own(29), offline("c", 31)], False),
            "backed": ([backed], False),
        }
        for user, (rows, _) in users.items():
            await store.write(locked([user], wrote(user, *rows)))
        await step()
        for user, (_, ends) in users.items():
            rows = await loaded(store, user)
            assert [one.ended for one in rows.follows.values()] == [ends], user
            assert bool(rows.handovers) is ends

    upkept(run, make_store, body, now=NOW)


async def loaded(store, user):
    return await store.read(lambda tx: tx.load_user(user))


def test_a_client_with_nothing_left_is_forgotten_and_one_with_anything_is_not(run, make_store):
    async def body(store, log, step):
        await store.write(
            wrote(
                "ann",
                offline("nothing", 8),
                offline("young", 6),
                offline("follows", 8),
                state.PutFollow(Follow("/a", "follows", 1, 0, 3)),
                offline("notified", 8),
                state.PutEndpoint(Endpoint("mailto:ann@example.org", ("notified",), 0.0)),
                state.PutRegister(Register("here", 1, "s", 7, Standing.ONLINE, since=0.0)),
            )
        )
        await step()
        assert await clients(store) == ["follows", "here", "notified", "young"]
        counts = await store.read(lambda tx: tx.counts())
        assert counts.clients_known == 4

    upkept(run, make_store, body, now=NOW)


def test_more_clients_than_one_page_are_looked_at(run, make_sqlite):
    async def body(store, log, step):
        def crowd(tx):
            for number in range(1_200):
                row = offline("c", 8) if number % 2 else offline("c", 100)
                tx.write_user(f"user{number}", row)
                if not number % 3:
                    tx.write_user(f"user{number}", state.PutEndpoint(
                        Endpoint(f"mailto:{number}@example.org", ("c",), 0.0)
                    ))  # fmt: skip

        await store.write(locked([f"user{number}" for number in range(1_200)], crowd))
        await step()
        assert (await store.read(lambda tx: tx.counts())).clients_known == 400

    upkept(run, make_sqlite, body, now=NOW)


def test_what_extensions_were_not_told_is_bounded_over_all_partitions(run, make_store):
    async def body(store, log, step):
        await register(store)
        for n in range(1, 9):
            await store.write(appended(Happened(OF[0], n)))
        await store.write(appended(Happened(OF[1], 1), Happened(OF[1], 2)))
        kept = await store.read(lambda tx: tx.happenings_kept())
        assert [count for count, _ in kept] == [8, 2]
        await step()
        kept = await store.read(lambda tx: tx.happenings_kept())
        assert [count for count, _ in kept] == [4, 2]

    upkept(run, make_store, body, happenings_max=6)
