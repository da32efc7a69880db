"""Joining, claiming, handing over and losing partitions, with real etcd and a store in memory."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.chassis import ownership
from services.chassis.cluster import Directory, Keys, freeze_partitions, join
from services.chassis.errors import Fault, StartError, StoreFull, Unavailable
from services.chassis.etcd import Etcd, Lease
from services.chassis.ownership import GIVEN_UP_MAX, Member, Ownership, Placement
from services.chassis.rendezvous import target
from tests.real_etcd import EtcdServer, running
from tests.waiting import until

Run = Callable[[Any], Any]
PARTITIONS = 150  # more keys than two transactions may have
ALL = frozenset(range(PARTITIONS))
KEYS = Keys()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with running(tmp_path_factory.mktemp("etcd")) as etcd:
        yield etcd


class Store:
    """What all members write to: the newest epoch of each partition."""

    def __init__(self) -> None:
        self.epochs: dict[int, int] = {}
        self.refuses: dict[int, str] = {}
        self.fault: Fault | None = None  # what a term meets
        self.claim_fault: Fault | None = None


class Keeper:
    """A Holder that does nothing with what it holds. `told`: what it was told, in order."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.leases: list[int] = []
        self.partitions: dict[int, int] = {}
        self.told: list[str] = []
        self.releasing: Callable[[Collection[int]], Any] | None = None
        self.wants_to_give_way = False

    async def begin(self, lease: Lease) -> None:
        self.leases.append(lease.id)
        if self.store.fault is not None:
            raise self.store.fault

    def held(self) -> Mapping[int, int]:
        return self.partitions

    async def take_up(self, claims: Mapping[int, int]) -> Mapping[int, str]:
        if self.store.claim_fault is not None:
            raise self.store.claim_fault
        for partition, epoch in claims.items():
            if partition not in self.store.refuses:
                assert epoch > self.store.epochs.get(partition, 0)
                self.store.epochs[partition] = epoch
                self.partitions[partition] = epoch
        return {p: why for p, why in self.store.refuses.items() if p in claims}

    def drop(self, partitions: Collection[int]) -> None:
        self.told.append("drop")
        for partition in partitions:
            del self.partitions[partition]

    async def release(self, partitions: Collection[int]) -> None:
        self.told.append("release")
        for partition in partitions:
            self.partitions.pop(partition, None)
        if self.releasing is not None:
            await self.releasing(partitions)

    async def ended(self) -> None:
        self.told.append("ended")
        self.partitions.clear()

    def gives_way(self) -> bool:
        return self.wants_to_give_way


class One:
    """A member in this process."""

    def __init__(self, etcd: Etcd, name: str, store: Store) -> None:
        self.directory = Directory(etcd)
        self.keeper = Keeper(store)
        self.ready: list[bool] = []
        self.task: asyncio.Task[None]
        self.ownership = Ownership(
            member=Member(name, 1, 2),
            placement=Placement(
                "coordinator",
                KEYS.coordinator,
                KEYS.owner,
                lambda: self.directory.coordinators,
                lambda: self.directory.claims,
            ),
            etcd=etcd,
            directory=self.directory,
            holder=self.keeper,
            on_ready=self._on_ready,
        )

    async def _on_ready(self, ready: bool) -> None:
        self.ready.append(ready)

    @property
    def held(self) -> set[int]:
        return set(self.keeper.partitions)


@asynccontextmanager
async def member(etcd: Etcd, name: str, store: Store) -> AsyncIterator[One]:
    """A member that has begun to run; it leaves at the end."""
    await freeze_partitions(etcd, PARTITIONS)
    one = One(etcd, name, store)
    following = asyncio.create_task(one.directory.run())
    one.task = asyncio.create_task(one.ownership.run(f"{name}:1"))
    try:
        yield one
        if one.task.done():
            await one.task
    finally:
        one.ownership.stop()
        await one.ownership.leave()
        for task in (following, one.task):
            task.cancel()
        await asyncio.gather(following, one.task, return_exceptions=True)


def with_etcd(server: EtcdServer, body: Callable[[Etcd, Store], Any]) -> Any:
    async def call() -> Any:
        etcd = Etcd(server.address)
        try:
            return await body(etcd, Store())
        finally:
            await etcd.close()

    return call()


async def owners(etcd: Etcd) -> dict[int, str]:
    keys = (await etcd.range(KEYS.owner(0).removesuffix("0"))).keys
    return {int(kv.key.rpartition("/")[2]): json.loads(kv.value)["name"] for kv in keys}


def test_members_share_the_partitions_and_what_one_leaves_others_take(
    run: Run, server: EtcdServer
) -> None:
    async def body(etcd: Etcd, store: Store) -> None:
        should = {p: target(p, ["c1", "c2"]) for p in ALL}
        async with member(etcd, "c1", store) as one:
            await until(lambda: one.held == ALL)
            assert store.epochs == one.keeper.partitions
            async with member(etcd, "c2", store) as two:
                await until(lambda: two.held == {p for p, name in should.items() if name == "c2"})
                await until(lambda: two.ready == [True])
                assert one.held == ALL - two.held
                assert await owners(etcd) == should
            await until(lambda: one.held == ALL)
            assert one.ready == [True]

    run(with_etcd(server, body))


def test_a_key_is_not_removed_before_what_was_under_way_is_finished(
    run: Run, server: EtcdServer
) -> None:
    async def body(etcd: Etcd, store: Store) -> None:
        seen: list[bool] = []

        async def look(partitions: Collection[int]) -> None:
            claimed = await owners(etcd)
            seen.append(all(claimed[partition] == "c1" for partition in partitions))

        async with member(etcd, "c1", store) as one:
            await until(lambda: one.held == ALL)
            one.keeper.releasing = look
            async with member(etcd, "c2", store) as two:
                await until(lambda: two.ready == [True])
                assert seen and all(seen)

    run(with_etcd(server, body))


def test_only_so_many_are_given_up_and_the_next_when_those_have_been_taken(
    run: Run, server: EtcdServer
) -> None:
    async def body(etcd: Etcd, store: Store) -> None:
        unowned: list[int] = []

        async def count(partitions: Collection[int]) -> None:
            unowned.append(len(partitions) + PARTITIONS - len(await owners(etcd)))

        async with member(etcd, "c1", store) as one:
            await until(lambda: one.held == ALL)
            one.keeper.releasing = count
            async with member(etcd, "c2", store) as two:
                await until(lambda: two.ready == [True])
                assert len(unowned) >= len(two.held) / GIVEN_UP_MAX > 2
                assert max(unowned) == GIVEN_UP_MAX

    run(with_etcd(server, body))


def test_one_that_cannot_take_its_share_does_not_keep_others_from_theirs(
    run: Run, server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "_TAKEN_S", 0.3)

    async def body(etcd: Etcd, store: Store) -> None:
        should = {p: target(p, ["c1", "c2", "c3"]) for p in ALL}
        async with member(etcd, "c1", store) as one:
            await until(lambda: one.held == ALL)
            idle = await join(etcd, KEYS.coordinator("c2"), "c2:1", 30)
            async with member(etcd, "c3", store) as three:
                await until(
                    lambda: three.held == {p for p, name in should.items() if name == "c3"}, 50
                )
            await idle.revoke()

    run(with_etcd(server, body))


def test_what_the_store_refuses_is_told_and_not_kept(run: Run, server: EtcdServer) -> None:
    async def body(etcd: Etcd, store: Store) -> None:
        store.refuses = {3: "an older copy"}
        async with member(etcd, "c1", store) as one:
            await until(lambda: one.held == ALL - {3})
            await until(lambda: one.ready == [True])
            assert one.ownership.refused == {3: "an older copy"}

            async def removed() -> bool:
                return 3 not in await owners(etcd)

            await until(removed)

    run(with_etcd(server, body))


@pytest.mark.parametrize("fault", [StoreFull("the disk is full"), Unavailable("it is silent")])
def test_while_the_store_can_take_nothing_there_is_no_member(
    run: Run, server: EtcdServer, fault: Fault
) -> None:
    async def body(etcd: Etcd, store: Store) -> None:
        store.fault = fault
        async with member(etcd, "c1", store) as one:
            await until(lambda: len(one.keeper.leases) > 1)
            assert await etcd.get(KEYS.coordinator("c1")) is None
            assert await etcd.lease_time_to_live(one.keeper.leases[0]) == -1
            store.fault = None
            await until(lambda: one.held == ALL)

    run(with_etcd(server, body))


def test_a_claim_that_fails_is_made_anew(run: Run, server: EtcdServer) -> None:
    async def body(etcd: Etcd, store: Store) -> None:
        store.claim_fault = StoreFull("the disk is full")
        async with member(etcd, "c1", store) as one:
            await until(lambda: one.ownership.store_full)
            assert one.held == set() and one.ready == []
            store.claim_fault = None
            await until(lambda: one.ready == [True])
            assert one.held == ALL and not one.ownership.store_full

    run(with_etcd(server, body))


def test_a_lost_lease_ends_a_membership_and_is_followed_by_another(
    run: Run, server: EtcdServer
) -> None:
    async def body(etcd: Etcd, store: Store) -> None:
        async with member(etcd, "c1", store) as one:
            await until(lambda: one.ready == [True])
            before = dict(one.keeper.partitions)
            await etcd.lease_revoke(one.keeper.leases[0])
            await until(lambda: one.ready == [True, False, True])
            assert all(epoch > before[p] for p, epoch in one.keeper.partitions.items())
            assert one.held == ALL and "ended" in one.keeper.told
            assert len(one.keeper.leases) == 2

    run(with_etcd(server, body))


def test_a_member_whose_name_was_taken_ends_and_says_why(run: Run, server: EtcdServer) -> None:
    async def body(etcd: Etcd, store: Store) -> None:
        with pytest.raises(StartError, match="ONWARD_COORDINATOR_NAME"):
            async with member(etcd, "c1", store) as one:
                await until(lambda: one.ready == [True])
                await join(etcd, KEYS.coordinator("c1"), "h:1", 5)
                await until(one.task.done)

    run(with_etcd(server, body))


def test_who_would_rather_leave_everything_to_others_does_if_there_are_any(
    run: Run, server: EtcdServer
) -> None:
    async def body(etcd: Etcd, store: Store) -> None:
        async with member(etcd, "c1", store) as one:
            one.keeper.wants_to_give_way = True
            await until(lambda: one.ready == [True])
            assert one.held == ALL
            async with member(etcd, "c2", store) as two:
                one.keeper.begin = _never_able  # type: ignore[method-assign]
                await until(lambda: two.held == ALL)
                assert one.held == set()
                assert await etcd.get(KEYS.coordinator("c1")) is None

    run(with_etcd(server, body))


async def _never_able(lease: Lease) -> None:
    raise Unavailable("the store is silent")
