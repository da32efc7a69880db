import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from services.chassis.claimants import Owner
from services.chassis.cluster import (
    Directory,
    DirectoryChange,
    Keys,
    epoch_of,
    freeze_partitions,
    join,
    join_edge,
    revision_of,
    tell_edge,
)
from services.chassis.errors import StartError
from services.chassis.etcd import Changes, Delete, Etcd, KeyValue, Put, Snapshot
from tests.real_etcd import EtcdServer, running
from tests.waiting import until

Run = Callable[[Any], Any]
KEYS = Keys("/onward/")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with running(tmp_path_factory.mktemp("etcd")) as etcd:
        yield etcd


def kv(key: str, value: str, create: int = 1) -> KeyValue:
    return KeyValue(f"/onward/{key}", value, create, create, 0)


def a_directory() -> Directory:
    return Directory(Etcd("127.0.0.1:1"), KEYS)


def test_the_era_outranks_every_revision() -> None:
    assert epoch_of(0, 17) == 17
    assert epoch_of(1, 0) > epoch_of(0, 2**48 - 1)


def test_an_owner_is_known_once_its_address_is(run: Run) -> None:
    async def body() -> None:
        directory = a_directory()
        assert directory.apply(
            Snapshot(5, [kv("owners/3", '{"name": "c1", "era": 1}', 4)])
        ) == DirectoryChange(owners=frozenset({3}))
        assert directory.owner(3) is None
        assert directory.claims == {3: (epoch_of(1, 4), "c1")}
        change = directory.apply(Changes(6, [kv("coordinators/c1", '{"address": "h:1"}')]))
        assert change == DirectoryChange(owners=frozenset({3}), coordinators=True)
        assert directory.owner(3) == Owner(epoch_of(1, 4), "c1", "h:1")

    run(body())


def test_a_vanished_member_takes_its_partitions_away(run: Run) -> None:
    async def body() -> None:
        directory = a_directory()
        directory.apply(
            Snapshot(
                5,
                [
                    kv("owners/3", '{"name": "c1", "era": 0}', 4),
                    kv("coordinators/c1", '{"address": "h:1"}'),
                    kv("edges/12", '{"address": "h:2"}'),
                    kv("presence/p1", '{"address": "h:3"}'),
                    kv("presence-partitions/3", '{"name": "p1", "era": 1}', 5),
                    kv("config", '{"partitions": 8}'),
                ],
            )
        )
        assert directory.presence_owner(3) == Owner(epoch_of(1, 5), "p1", "h:3")
        assert directory.partitions == 8
        seen: list[DirectoryChange] = []
        directory.on_change(seen.append)
        gone = ["owners/3", "coordinators/c1", "edges/12", "presence/p1", "presence-partitions/3"]
        directory.apply(Changes(6, [Delete(f"/onward/{key}") for key in gone]))
        three = frozenset({3})
        assert seen == [DirectoryChange(three, frozenset({12}), True, True, three)]
        assert directory.owners == {} and directory.edges == {}
        assert directory.presence_owner(3) is None
        assert directory.presence_claims == {} and directory.presences == {}

    run(body())


def test_a_partition_has_an_owner_of_each_service_and_each_moves_by_itself(run: Run) -> None:
    async def body() -> None:
        directory = a_directory()
        directory.apply(
            Snapshot(
                5,
                [
                    kv("owners/3", '{"name": "c1", "era": 0}', 4),
                    kv("coordinators/c1", '{"address": "h:1"}'),
                    kv("presence/p1", '{"address": "h:3"}'),
                    kv("presence/p2", '{"address": "h:4"}'),
                    kv("presence-partitions/3", '{"name": "p1", "era": 0}', 5),
                ],
            )
        )
        moved = [
            Delete("/onward/presence-partitions/3"),
            kv("presence-partitions/3", '{"name": "p2", "era": 0}', 6),
        ]
        change = directory.apply(Changes(6, moved))
        assert change == DirectoryChange(presence_owners=frozenset({3}))
        assert directory.presence_owner(3) == Owner(6, "p2", "h:4")
        assert directory.presence_claims == {3: (6, "p2")}
        assert directory.owner(3) == Owner(4, "c1", "h:1")

    run(body())


def test_a_snapshot_after_changes_were_missed_tells_only_what_differs(run: Run) -> None:
    async def body() -> None:
        directory = a_directory()
        stays = [
            kv("config", '{"partitions": 8}'),
            kv("coordinators/c1", '{"address": "h:1"}'),
            kv("owners/1", '{"name": "c1", "era": 0}', 4),
            kv("edges/12", '{"address": "h:2"}'),
        ]
        directory.apply(Snapshot(5, [*stays, kv("owners/2", '{"name": "c1", "era": 0}', 5)]))
        change = directory.apply(Snapshot(9, [*stays, kv("edges/13", '{"address": "h:5"}')]))
        assert change == DirectoryChange(frozenset({2}), frozenset({13}))
        assert set(directory.owners) == {1} and set(directory.edges) == {12, 13}
        assert directory.partitions == 8

    run(body())


def test_what_operators_registered_is_followed_by_kind(run: Run) -> None:
    async def body() -> None:
        directory = a_directory()
        first = directory.apply(Snapshot(1, [kv("notifiers/mailer", '{"address": "h:1"}')]))
        assert first.registered == {"notifiers"}
        assert directory.registered("notifiers") == {"mailer": {"address": "h:1"}}
        moved = [kv("notifiers/mailer", '{"address": "h:2"}'), kv("notifiers/bad", "{")]
        assert directory.apply(Changes(2, moved)).registered == {"notifiers"}
        assert directory.registered("notifiers") == {"mailer": {"address": "h:2"}, "bad": {}}
        other = directory.apply(Changes(3, [kv("extensions/chat", "{}")]))
        assert other == DirectoryChange(registered=frozenset({"extensions"}))
        again = directory.apply(Changes(4, [moved[0]]))
        assert not again.registered, "written again as it was"
        directory.apply(Changes(5, [Delete(moved[1].key)]))
        assert list(directory.registered("notifiers")) == ["mailer"]
        assert directory.apply(Snapshot(9, [])).registered == {"notifiers", "extensions"}
        assert not directory.registered("notifiers")

    run(body())


def test_copies_of_tails_are_no_news(run: Run) -> None:
    async def body() -> None:
        directory = a_directory()
        directory.apply(Snapshot(1, []))
        seen: list[DirectoryChange] = []
        directory.on_change(seen.append)
        directory.apply(Changes(2, [kv("tails/3", '{"tail": 9}')]))
        assert seen == []

    run(body())


def test_a_key_of_garbage_is_passed_over(run: Run) -> None:
    async def body() -> None:
        directory = a_directory()
        directory.apply(Snapshot(1, [kv("edges/x", "{"), kv("owners/3", "[]"), kv("what", "")]))
        assert directory.edges == {} and directory.owners == {}

    run(body())


def test_the_number_of_partitions_is_frozen_at_the_first_start(
    run: Run, server: EtcdServer
) -> None:
    async def body() -> None:
        etcd, keys = Etcd(server.address), Keys("/frozen/")
        assert await freeze_partitions(etcd, 16, keys) == 16
        assert await freeze_partitions(etcd, 32, keys) == 16
        await etcd.put(keys.config, "{}")
        with pytest.raises(StartError, match="/frozen/config"):
            await freeze_partitions(etcd, 16, keys)
        await etcd.close()

    run(body())


def test_joining_under_a_name_in_use_ends_the_former_holder(run: Run, server: EtcdServer) -> None:
    async def body() -> None:
        etcd, keys = Etcd(server.address), Keys("/join/")
        first = await join(etcd, keys.coordinator("c1"), "h:1", 5)
        await etcd.txn([], [Put(keys.owner(1), "{}")], first.id)
        second = await join(etcd, keys.coordinator("c1"), "h:2", 5)
        assert await etcd.get(keys.owner(1)) is None
        found = await etcd.get(keys.coordinator("c1"))
        assert found is not None and found.lease == second.id
        keeper = asyncio.create_task(first.keep())
        await asyncio.wait_for(first.lost.wait(), 5)
        await keeper
        await second.revoke()
        await etcd.close()

    run(body())


def test_an_epoch_tells_the_revision_at_which_it_began() -> None:
    assert revision_of(epoch_of(0, 17)) == revision_of(epoch_of(3, 17)) == 17


def test_a_running_directory_follows_members(run: Run, server: EtcdServer) -> None:
    async def body() -> None:
        etcd, keys = Etcd(server.address), Keys("/follow/")
        directory = Directory(etcd, keys)
        task = asyncio.create_task(directory.run())
        edge = await join_edge(etcd, "h:7", 5, keys, grpc_address="h:8")
        mute = await join_edge(etcd, "h:9", 5, keys)
        await until(lambda: directory.edges == {edge.id: "h:7", mute.id: "h:9"})
        assert directory.edge_servers == {edge.id: "h:8"}
        assert directory.draining_edges == set()
        await tell_edge(etcd, edge.id, "h:7", keys, grpc_address="h:8", draining=True)
        await until(lambda: directory.draining_edges == {edge.id})
        # It is there until its lease ends: its sessions are.
        assert edge.id in directory.edges
        assert directory.edge_servers == {edge.id: "h:8"}
        await edge.revoke()
        await mute.revoke()
        await until(lambda: directory.edges == {})
        assert directory.edge_servers == {}
        assert directory.draining_edges == set()
        task.cancel()
        await etcd.close()

    run(body())
