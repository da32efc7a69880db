"""An etcd of three real members, of which some are killed, frozen, late or without a leader."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.chassis.errors import SettingError, Unavailable
from services.chassis.etcd import Changes, Etcd, Lease, Put, Snapshot, absent, boottime
from services.chassis.etcd_endpoints import parse
from services.chassis.etcd_follow import Follower, _BehindError
from tests.real_etcd import EtcdServer, running, running_cluster
from tests.waiting import until

Run = Callable[[Any], Any]
Members = list[EtcdServer]


@pytest.mark.parametrize(
    "text",
    ["", " , ", "localhost", "localhost:", ":2379", "http://localhost:2379", "a:1,b", "a:0", "a:x",
     "a:65536"],
)  # fmt: skip
def test_endpoints_that_are_none_are_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(SettingError, match=r"set it to host:port\[,host:port…\]"):
        parse(text)


def test_endpoints_are_parted_by_commas_and_counted_once() -> None:
    assert parse("a:1, b:2 ,a:1,[::1]:3") == ("a:1", "b:2", "[::1]:3")


def test_a_member_that_is_not_there_is_passed_over_by_writes_too(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        with running(tmp_path) as server:
            etcd = Etcd(f"127.0.0.1:1,{server.address}")
            revision = await etcd.put("/a", "1")
            assert (await etcd.range("/a")).revision == revision
            await etcd.close()

    run(body())


def test_with_no_member_there_a_call_is_unavailable_and_says_why(run: Run) -> None:
    async def body() -> None:
        etcd = Etcd("127.0.0.1:1,127.0.0.1:2")
        with pytest.raises(Unavailable, match=r"etcd at 127.0.0.1:2 cannot be reached"):
            await etcd.get("/a")
        await etcd.close()

    run(body())


def test_one_member_of_another_etcd_is_not_believed_that_etcd_has_gone_back(
    run: Run, tmp_path: Path
) -> None:
    async def body(server: EtcdServer, stranger: EtcdServer) -> None:
        etcd = Etcd(f"{server.address},{stranger.address}")
        news = await followed(etcd, "/o/")
        waiting = asyncio.ensure_future(next_keys(news))
        connection = await etcd._endpoints.connection()
        etcd._endpoints.leave(connection, "so that the stranger is asked")

        async def back() -> bool:
            now = await etcd._endpoints.connection()
            return now is not connection and now.address == server.address

        await until(back)
        await etcd.put("/o/new", "")
        assert await waiting == ["/o/new"]
        await news.aclose()
        await etcd.close()

    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    with running(tmp_path / "one") as server, running(tmp_path / "other") as stranger:
        run(body(server, stranger))


def test_a_member_that_is_late_is_behind_only_if_it_is_so_after_a_read(
    run: Run, tmp_path: Path
) -> None:
    async def body(server: EtcdServer) -> None:
        etcd = Etcd(server.address)
        revision = await etcd.put("/b/a", "")
        follower = Follower(etcd._endpoints, "/b/")
        connection = await etcd._endpoints.connection()
        follower._seen = revision
        await follower._check_not_behind(connection, revision - 1)
        follower._seen = revision + 1
        with pytest.raises(_BehindError):
            await follower._check_not_behind(connection, revision)
        await etcd.close()

    with running(tmp_path) as server:
        run(body(server))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    with running_cluster(tmp_path_factory.mktemp("etcds")) as servers:
        yield servers


@pytest.fixture
def members(cluster: Members) -> Iterator[Members]:
    """All three, running; the leader first."""
    yield sorted(cluster, key=lambda server: not server.leads())
    for server in cluster:
        server.stop()
        server.launch()
    for server in cluster:
        server.await_healthy()


def over(members: Members) -> Etcd:
    return Etcd(",".join(server.address for server in members))


async def is_absent(etcd: Etcd, key: str) -> bool:
    """Whether etcd says that a key is not there; one that does not answer says nothing."""
    try:
        return await etcd.get(key) is None
    except Unavailable:
        return False


async def written(etcd: Etcd, key: str) -> None:
    """Make the key, in as many tries as it takes; it is made once."""

    async def put() -> bool:
        try:
            await etcd.txn([absent(key)], [Put(key, "")])
            return True
        except Unavailable:
            return False

    await until(put)


async def next_keys(news: AsyncGenerator[Snapshot | Changes, None]) -> list[str]:
    """The keys of the next changes; fails at a snapshot."""
    changes = await asyncio.wait_for(anext(news), 15)
    assert isinstance(changes, Changes)
    return [event.key for event in changes.events]


async def followed(etcd: Etcd, prefix: str) -> AsyncGenerator[Snapshot | Changes, None]:
    """News after the first snapshot, of a watch that is open."""
    news = etcd.follow(prefix)
    assert isinstance(await anext(news), Snapshot)
    first = asyncio.ensure_future(next_keys(news))
    await etcd.put(f"{prefix}first", "")
    assert await first == [f"{prefix}first"]
    return news


def with_cluster(members: Members, body: Callable[[Etcd, Etcd], Coroutine[Any, Any, None]]) -> Any:
    """`body` with a client that begins at the leader, and one that begins at another."""

    async def call() -> None:
        etcd, other = over(members), over(members[1:])
        try:
            await body(etcd, other)
        finally:
            await etcd.close()
            await other.close()

    return call()


def test_a_killed_follower_is_noticed_by_nobody_who_reads_or_writes_afterwards(
    run: Run, members: Members
) -> None:
    async def body(etcd: Etcd, other: Etcd) -> None:
        news = await followed(other, "/k/")
        members[1].stop()
        # The connection's end may be heard later than a call is made: a read is then repeated.
        found = await other.get("/k/first")
        assert found is not None
        await other.put("/k/new", "")
        assert await next_keys(news) == ["/k/new"]
        await news.aclose()

    run(with_cluster(members, body))


def test_a_lease_and_a_follower_outlive_the_leader(run: Run, members: Members) -> None:
    async def body(etcd: Etcd, other: Etcd) -> None:
        news = await followed(etcd, "/l/")
        lease = await Lease.grant(etcd, 3)
        await etcd.txn([], [Put("/l/held", "")], lease.id)
        assert await next_keys(news) == ["/l/held"]
        keeper = asyncio.create_task(lease.keep())
        members[0].stop()
        killed_at = boottime()
        await written(etcd, "/l/new")
        assert await next_keys(news) == ["/l/new"]
        await until(lambda: boottime() > killed_at + 3)
        assert lease.valid()
        held = await other.get("/l/held")
        assert held is not None and held.lease == lease.id
        keeper.cancel()
        await news.aclose()

    run(with_cluster(members, body))


def test_a_frozen_leader_is_left_for_another_and_what_it_may_have_done_is_told_as_unknown(
    run: Run, members: Members
) -> None:
    async def body(etcd: Etcd, other: Etcd) -> None:
        news = await followed(etcd, "/z/")
        lease = await Lease.grant(etcd, 5)
        keeper = asyncio.create_task(lease.keep())
        members[0].freeze()
        with pytest.raises(Unavailable, match="DEADLINE_EXCEEDED"):
            await etcd.put("/z/unknown", "1")
        # The others may still be electing a leader.
        await until(lambda: is_absent(etcd, "/z/unknown"), 15)
        await written(etcd, "/z/new")
        assert await next_keys(news) == ["/z/new"]
        assert await other.lease_refresh(lease.id) and lease.valid()
        members[0].thaw()
        # What was sent to the frozen one is forwarded too late, or not at all; no lease is lost.
        await until(lambda: members[0].leads() is False)
        assert lease.valid() and await etcd.lease_refresh(lease.id)
        keeper.cancel()
        await news.aclose()

    run(with_cluster(members, body))


def test_a_follower_alone_notices_that_its_member_is_frozen(run: Run, members: Members) -> None:
    async def body(etcd: Etcd, other: Etcd) -> None:
        news = await followed(other, "/s/")
        members[1].freeze()
        began = time.monotonic()
        await written(etcd, "/s/new")
        assert await next_keys(news) == ["/s/new"]
        assert time.monotonic() < began + 13
        await news.aclose()

    run(with_cluster(members, body))


def test_a_lost_majority_comes_back_and_a_late_member_is_not_taken_for_one_that_has_gone_back(
    run: Run, members: Members
) -> None:
    async def body(etcd: Etcd, other: Etcd) -> None:
        first, second, late = members
        news = await followed(etcd, "/q/")
        late.freeze()
        await written(etcd, "/q/while-one-is-frozen")
        assert await next_keys(news) == ["/q/while-one-is-frozen"]
        first.stop()
        second.stop()
        late.thaw()
        with pytest.raises(Unavailable):
            await etcd.get("/q/first")
        waiting = asyncio.ensure_future(next_keys(news))
        with pytest.raises(Unavailable):
            await Lease.grant(other, 3)
        for server in (first, second):
            server.launch()
        await written(other, "/q/regained")
        assert await waiting == ["/q/regained"]
        await news.aclose()

    run(with_cluster(members, body))


def test_a_watch_is_told_that_its_member_has_no_leader(run: Run, members: Members) -> None:
    async def body(etcd: Etcd, other: Etcd) -> None:
        news = await followed(etcd, "/h/")
        waiting = asyncio.ensure_future(next_keys(news))
        connection = await etcd._endpoints.connection()
        for server in members[1:]:
            server.freeze()
        await asyncio.wait_for(connection.left.wait(), 13)
        for server in members[1:]:
            server.thaw()
        await written(other, "/h/new")
        assert await waiting == ["/h/new"]
        await news.aclose()

    run(with_cluster(members, body))
