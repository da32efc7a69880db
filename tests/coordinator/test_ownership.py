"""Claims, handing over and losing partitions, with real etcd and a real store."""

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import pytest
from onward.coordinator.v1 import coordinator_pb2

from services.chassis.cluster import Keys, epoch_of, join
from services.chassis.errors import StartError, Unavailable
from services.chassis.etcd import Etcd
from services.chassis.rendezvous import target
from services.coordinator.sqlite_store import SqliteStore
from tests.coordinator.harness import PARTITIONS, TASKS, Run, coordinator, edge, owned, publish
from tests.real_etcd import EtcdServer
from tests.waiting import until

ALL = range(PARTITIONS)
KEYS = Keys()


async def owners(etcd: Etcd) -> dict[int, str]:
    keys = (await etcd.range("/onward/owners/")).keys
    return {int(kv.key.rpartition("/")[2]): json.loads(kv.value)["name"] for kv in keys}


def test_two_coordinators_share_the_partitions_and_one_that_leaves_hands_over(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        store = SqliteStore.open(tmp_path)
        client = Etcd(etcd.address)
        should = {p: target(p, ["c1", "c4"]) for p in ALL}
        assert set(should.values()) == {"c1", "c4"}
        async with coordinator(etcd.address, tmp_path, "c1", store) as one:
            await until(lambda: len(one.holdings) == PARTITIONS)
            async with coordinator(etcd.address, tmp_path, "c4", store) as two:
                await until(lambda: len(one.holdings) + len(two.holdings) == PARTITIONS, 20)
                await until(
                    lambda: (
                        set(two.holdings.epochs())
                        == {p for p, name in should.items() if name == "c4"}
                    )
                )
                assert await owners(client) == should
                moved = next(p for p, name in should.items() if name == "c4")
                async with edge(one) as at_one:
                    epoch = two.holdings.epoch(moved)
                    await at_one.ask(epoch or 0, moved, unwatches=["/a"])
                    (not_owner,) = await at_one.got("not_owner")
                    assert not_owner.partition == moved
            await until(lambda: len(one.holdings) == PARTITIONS)
        assert await owners(client) == {}
        await client.close()
        await store.close()

    run(body())


def test_an_epoch_is_the_era_and_the_revision_of_the_claim(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        client = Etcd(etcd.address)
        async with coordinator(etcd.address, tmp_path, era=3) as it:
            for partition in ALL:
                key = await client.get(KEYS.owner(partition))
                assert key is not None
                assert it.holdings.epoch(partition) == epoch_of(3, key.create_revision)
        await client.close()

    run(body())


def test_a_coordinator_that_was_deposed_in_the_store_accepts_nothing_and_claims_anew(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        store = SqliteStore.open(tmp_path)
        async with coordinator(etcd.address, tmp_path, "c1", store) as it, edge(it) as one:
            await until(lambda: len(it.holdings) == PARTITIONS)
            epoch, partition = owned(it, "/a")
            await store.claim({partition: epoch + 1}, "a rival", {})
            other = next(f"/{n}" for n in range(99) if owned_partition(f"/{n}") != partition)
            appends = [one.append(publish=publish("/a", "x", "p1"))]
            await one.ask(epoch, partition, appends=appends)
            await one.got("not_owner")
            assert not one.received.appended
            (answer,) = await one.publish(it, other, "y")
            assert answer.HasField("accepted")
            await until(lambda: it.holdings.epoch(partition) not in (None, epoch))
            (answer,) = await one.publish(it, "/a", "z")
            assert answer.accepted.seq == 1
        await store.close()

    run(body())


def owned_partition(subject: str) -> int:
    from services.chassis.subjects import partition_of

    return partition_of(subject, PARTITIONS)


def test_a_lease_that_is_lost_takes_everything_and_is_followed_by_a_new_one(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        client = Etcd(etcd.address)
        async with coordinator(etcd.address, tmp_path) as it:
            before = it.holdings.epochs()
            member = await client.get(KEYS.coordinator("c1"))
            assert member is not None
            await client.lease_revoke(member.lease)
            await until(
                lambda: (
                    len(it.holdings) == PARTITIONS
                    and all(it.holdings.epoch(p) > before[p] for p in ALL)
                )  # type: ignore[operator]
            )
        await client.close()

    run(body())


def test_a_coordinator_cut_from_etcd_stops_accepting_before_its_lease_ends(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path, lease_ttl_s=3) as it, edge(it) as one:
            epoch, partition = owned(it, "/a")
            os.kill(etcd.pid, signal.SIGSTOP)
            try:
                began = time.monotonic()
                await until(lambda: not len(it.holdings), 5)
                assert time.monotonic() - began < 3
                append = one.append(publish=publish("/a", "x", "p1"))
                await one.ask(epoch, partition, appends=[append])
                await one.got("not_owner")
                reading = coordinator_pb2.ReadMessagesRequest(subject="/a", limit=1)
                assert (await one.stub.ReadMessages(reading)).head == 0
            finally:
                os.kill(etcd.pid, signal.SIGCONT)
            await until(lambda: len(it.holdings) == PARTITIONS)
            (answer,) = await one.publish(it, "/a", "y")
            assert answer.accepted.epoch > epoch

    run(body())


def test_a_coordinator_whose_name_was_taken_ends_and_says_why(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        client = Etcd(etcd.address)
        with pytest.raises(StartError, match="ONWARD_COORDINATOR_NAME"):
            async with coordinator(etcd.address, tmp_path) as it:
                rival = await join(client, KEYS.coordinator("c1"), "h:1", 5)
                await until(TASKS[it].done)
        await rival.revoke()
        await client.close()

    run(body())


def test_a_join_whose_answer_was_lost_is_not_taken_for_another_process(
    run: Run, etcd: EtcdServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        client = Etcd(etcd.address)
        put = Etcd.put
        lost: list[str] = []

        async def lose_the_first_answer(self: Etcd, key: str, value: str, lease: int = 0) -> int:
            revision = await put(self, key, value, lease)
            if not lost:
                lost.append(key)
                raise Unavailable("the answer was lost")
            return revision

        async with coordinator(etcd.address, tmp_path) as it:
            member = await client.get(KEYS.coordinator("c1"))
            assert member is not None
            monkeypatch.setattr(Etcd, "put", lose_the_first_answer)
            await client.lease_revoke(member.lease)
            await until(lambda: bool(lost))
            await until(lambda: TASKS[it].done() or len(it.holdings) == PARTITIONS)
            assert not TASKS[it].done()
        assert lost == [KEYS.coordinator("c1")]
        await client.close()

    run(body())


def test_an_older_copy_of_the_log_is_refused_until_an_operator_decides(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        client = Etcd(etcd.address)
        store = SqliteStore.open(tmp_path)
        copy = {"log_id": store.log_id, "tail": 5, "epoch": 1}
        await client.put(KEYS.tail(1), json.dumps(copy))
        async with coordinator(etcd.address, tmp_path, "c1", store) as it:
            await until(lambda: len(it.holdings) == PARTITIONS - 1)
            await asyncio.sleep(0.3)
            assert it.holdings.epoch(1) is None
            assert 1 not in await owners(client), "the key is not kept while the log is refused"
        await client.delete(KEYS.tail(1))
        await store.close()
        await client.close()

    run(body())


def test_a_copy_of_another_log_refuses_nothing(run: Run, etcd: EtcdServer, tmp_path: Path) -> None:
    async def body() -> None:
        client = Etcd(etcd.address)
        await client.put(KEYS.tail(1), json.dumps({"log_id": "other", "tail": 5, "epoch": 1}))
        async with coordinator(etcd.address, tmp_path) as it:
            assert len(it.holdings) == PARTITIONS
        await client.delete(KEYS.tail(1))
        await client.close()

    run(body())


def test_tails_are_copied_when_leaving(run: Run, etcd: EtcdServer, tmp_path: Path) -> None:
    async def body() -> None:
        client = Etcd(etcd.address)
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            await one.publish(it, "/a", "x", "y")
            epoch, partition = owned(it, "/a")
            assert one.hello is not None
            log_id = one.hello.log_id
        found = await client.get(KEYS.tail(partition))
        assert found is not None
        assert json.loads(found.value) == {"log_id": log_id, "tail": 2, "epoch": epoch}
        await client.close()

    run(body())
