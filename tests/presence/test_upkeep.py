"""What is forgotten, and what is not yet."""

from services.presence import state
from services.presence.log_reader import LogReader
from services.presence.notifications import Span
from services.presence.state import Follow, FollowKey, Handover
from services.presence.store import Decided
from services.presence.upkeep import Upkeep
from tests.presence.stage import SECRET, FakeLog
from tests.presence.test_sqlite_store import with_store, wrote


def upkept(run, tmp_path, body, keep_s=100.0):
    """Run `await body(store, log, step)` around passes of the upkeep, at time 1,000."""

    async def with_log(store):
        log = FakeLog()
        address = await log.start()
        reader = LogReader(lambda: [address], SECRET, 2.0)
        try:
            await body(store, log, Upkeep(store, reader, keep_s, lambda: [7]).step)
        finally:
            await reader.close()
            await log.stop()

    with_store(run, tmp_path, with_log)


def ended(opened: int, acked: int) -> Follow:
    return Follow("/a", "c", opened, 0, acked, ended=True)


async def follows(store) -> list[int]:
    loaded = await store.read(lambda tx: tx.load_user("ann"))
    return sorted(follow.opened for follow in loaded.follows.values())


def test_an_ended_follow_goes_when_the_log_has_trimmed_what_it_acknowledged(run, tmp_path):
    async def body(store, log, step):
        for _ in range(6):
            log.publish("/a", "x")
        await store.write(wrote("ann", state.PutFollow(ended(1, 3)), state.PutFollow(ended(2, 5))))
        await step()
        assert await follows(store) == [1, 2]
        log.floors["/a"] = 4
        await step()
        assert await follows(store) == [2]

    upkept(run, tmp_path, body)


def test_users_whose_ended_follows_must_stay_do_not_keep_those_of_others(run, tmp_path):
    async def body(store, log, step):
        for _ in range(6):
            log.publish("/a", "x")
        log.floors["/a"] = 4

        def crowd(tx):
            for number in range(600):
                tx.write_user(f"stays-{number:03}", state.PutFollow(ended(1, 5)))
            tx.write_user("the last one", state.PutFollow(ended(1, 4)))

        await store.write(crowd)
        await step()
        left = await store.read(lambda tx: tx.load_user("the last one"))
        assert not left.follows
        kept = await store.read(lambda tx: tx.users_with_ended_follows("/a", "", 1_000))
        assert len(kept) == 600

    upkept(run, tmp_path, body)


def test_an_ended_follow_stays_while_it_is_handed_over(run, tmp_path):
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

    upkept(run, tmp_path, body)


def test_records_go_after_their_time(run, tmp_path):
    async def body(store, log, step):
        for seq, at in ((1, 899.0), (2, 901.0)):
            row = Decided(Span(seq, seq, seq), "", "PUBLISHER", at)
            await store.write(lambda tx, r=row: tx.put_decided("ann", "/a", r))
        await step()
        left = await store.read(lambda tx: tx.decided_in("ann", "/a", 1, 9))
        assert [row.span.to_seq for row in left] == [2]

    upkept(run, tmp_path, body)
