import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.chassis.errors import Unavailable
from services.chassis.etcd import (
    Changes,
    Delete,
    Etcd,
    KeyValue,
    Put,
    Snapshot,
    absent,
    created_at,
    holds,
    modified_at,
)
from tests.real_etcd import EtcdServer, running
from tests.waiting import until

Run = Callable[[Any], Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with running(tmp_path_factory.mktemp("etcd")) as etcd:
        yield etcd


def with_etcd(server: EtcdServer, body: Callable[[Etcd], Any]) -> Any:
    async def call() -> Any:
        etcd = Etcd(server.address)
        try:
            return await body(etcd)
        finally:
            await etcd.close()

    return call()


def test_a_call_to_an_etcd_that_is_not_there_is_unavailable(run: Run) -> None:
    async def body() -> None:
        etcd = Etcd("127.0.0.1:1", deadline_s=0.5)
        with pytest.raises(Unavailable):
            await etcd.get("/a")
        with pytest.raises(Unavailable):
            await etcd.lease_refresh(7)
        await etcd.close()

    run(body())


def test_a_key_is_put_read_and_removed(run: Run, server: EtcdServer) -> None:
    async def body(etcd: Etcd) -> None:
        assert await etcd.get("/keys/a") is None
        first = await etcd.put("/keys/a", "1")
        second = await etcd.put("/keys/a", "2")
        found = KeyValue("/keys/a", "2", first, second, 0)
        assert await etcd.get("/keys/a") == found
        assert (await etcd.range("/keys/")).keys == [found]
        await etcd.delete("/keys/a")
        assert (await etcd.range("/keys/")).keys == []

    run(with_etcd(server, body))


def test_a_prefix_does_not_reach_beyond_itself(run: Run, server: EtcdServer) -> None:
    async def body(etcd: Etcd) -> None:
        for key in ("/p/a", "/p0", "/p/", "/o"):
            await etcd.put(key, "")
        assert [kv.key for kv in (await etcd.range("/p/")).keys] == ["/p/", "/p/a"]

    run(with_etcd(server, body))


def test_a_transaction_does_all_or_nothing(run: Run, server: EtcdServer) -> None:
    async def body(etcd: Etcd) -> None:
        both = [Put("/t/a", "1"), Put("/t/b", "1")]
        done = await etcd.txn([absent("/t/a"), absent("/t/b")], both)
        assert done.succeeded
        again = await etcd.txn([absent("/t/a"), absent("/t/c")], [Put("/t/c", "1")])
        assert not again.succeeded
        assert await etcd.get("/t/c") is None
        kv = await etcd.get("/t/a")
        assert kv is not None and kv.create_revision == done.revision
        assert (await etcd.txn([created_at("/t/a", kv.create_revision)], [])).succeeded
        assert (await etcd.txn([modified_at("/t/a", kv.mod_revision)], [])).succeeded
        assert not (await etcd.txn([holds("/t/a", "0")], [])).succeeded
        gone = await etcd.txn([holds("/t/a", "1")], [Delete("/t/a")])
        assert gone.succeeded and await etcd.get("/t/a") is None

    run(with_etcd(server, body))


def test_a_follower_sees_a_snapshot_then_every_change(run: Run, server: EtcdServer) -> None:
    async def body(etcd: Etcd) -> None:
        await etcd.put("/f/a", "1")
        news = etcd.follow("/f/")
        first = await anext(news)
        assert isinstance(first, Snapshot) and [kv.value for kv in first.keys] == ["1"]
        await etcd.put("/f/b", "2")
        change = await asyncio.wait_for(anext(news), 2)
        assert isinstance(change, Changes)
        assert [event.key for event in change.events] == ["/f/b"]
        await etcd.delete("/f/a")
        change = await asyncio.wait_for(anext(news), 2)
        assert change == Changes(change.revision, [Delete("/f/a")])
        await news.aclose()

    run(with_etcd(server, body))


def test_a_follower_resumes_after_etcd_was_away(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        with running(tmp_path) as server:
            etcd, other = Etcd(server.address), Etcd(server.address)
            news = etcd.follow("/f/")
            assert isinstance(await anext(news), Snapshot)
            await etcd.put("/f/a", "1")
            assert isinstance(await anext(news), Changes)
            server.stop()
            waiting = asyncio.ensure_future(anext(news))
            server.start()

            async def put() -> bool:
                try:
                    await other.put("/f/b", "2")
                    return True
                except Unavailable:
                    return False

            await until(put)
            change = await asyncio.wait_for(waiting, 10)
            assert isinstance(change, Changes)
            assert [event.key for event in change.events] == ["/f/b"]
            await news.aclose()
            await etcd.close()
            await other.close()

    run(body())


def test_a_follower_lists_again_when_its_place_was_compacted(run: Run, server: EtcdServer) -> None:
    async def body(etcd: Etcd) -> None:
        await etcd.put("/c/a", "1")
        news = etcd.follow("/c/")
        first = await anext(news)
        # The follower has not opened its watch yet: what it would resume from is compacted.
        await etcd.put("/c/b", "1")
        revision = await etcd.put("/c/b", "2")
        await compact(etcd, revision)
        second = await asyncio.wait_for(anext(news), 3)
        assert isinstance(first, Snapshot) and isinstance(second, Snapshot)
        assert [kv.key for kv in second.keys] == ["/c/a", "/c/b"]
        await news.aclose()

    run(with_etcd(server, body))


def test_a_follower_lists_again_when_etcd_has_gone_back(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        with running(tmp_path) as server:
            etcd = Etcd(server.address)
            for number in range(3):
                await etcd.put("/b/lost", str(number))
            news = etcd.follow("/b/")
            assert isinstance(await anext(news), Snapshot)
            waiting = asyncio.ensure_future(anext(news))
            server.stop()
            shutil.rmtree(tmp_path / "data")  # as restored from before anything was written
            server.start()
            snapshot = await asyncio.wait_for(waiting, 10)
            assert isinstance(snapshot, Snapshot)
            assert snapshot.keys == []
            await etcd.put("/b/new", "1")
            change = await asyncio.wait_for(anext(news), 5)
            assert isinstance(change, Changes)
            assert [event.key for event in change.events] == ["/b/new"]
            await news.aclose()
            await etcd.close()

    run(body())


async def compact(etcd: Etcd, revision: int) -> None:
    from aetcd.rpc import rpc_pb2

    request = rpc_pb2.CompactionRequest(revision=revision)
    await etcd._endpoints.call(lambda to: to.kv.Compact, request, repeat=False)
