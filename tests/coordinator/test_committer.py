"""Group commit when things go wrong: nothing is told that is not so."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from onward.coordinator.v1 import coordinator_pb2
from prometheus_client import CollectorRegistry

from services.chassis.errors import Fault, StoreFull, Unavailable
from services.chassis.etcd import Etcd, Lease, boottime
from services.chassis.refusals import Code, Refusal
from services.coordinator.clock import stamps
from services.coordinator.committer import Committer
from services.coordinator.effects import EndFollows, Outcome
from services.coordinator.holdings import Holdings
from services.coordinator.metrics import Metrics
from services.coordinator.registers import Limits
from services.coordinator.sqlite_store import SqliteStore
from services.coordinator.store import Facts, Lookup, Stamp, Writes
from services.coordinator.uplinks import Uplink, Uplinks
from tests.coordinator.harness import Run, publish
from tests.waiting import until

EPOCH = 5


class FaultyStore(SqliteStore):
    """A real store whose appends fail while `fault` is set, before or after their commit."""

    fault: Fault | None = None
    after_commit = False
    only_writes = False
    appends = 0
    gate: asyncio.Event | None = None

    async def append(
        self,
        stamp: Stamp,
        terms: Mapping[int, int],
        lookups: Mapping[int, Lookup],
        decide: Callable[[int, Facts], Writes],
    ) -> frozenset[int]:
        self.appends += 1
        if self.gate is not None:
            await self.gate.wait()
        wrote = []

        def seen(partition: int, facts: Facts) -> Writes:
            writes = decide(partition, facts)
            wrote.extend(writes.rows)
            if self.fault and not self.after_commit and (wrote or not self.only_writes):
                raise self.fault
            return writes

        deposed = await super().append(stamp, terms, lookups, seen)
        if self.fault and self.after_commit:
            raise self.fault
        return deposed


class Setting:
    """A committer over a real store, with everything of one partition held."""

    def __init__(self, store: FaultyStore) -> None:
        self.store = store
        self.log_full = False
        self.holdings = Holdings()
        self.uplinks = Uplinks(1_000_000)
        self.uplink: Uplink = self.uplinks.open(7)
        self.lease = Lease(Etcd("127.0.0.1:1"), 1, 1_000, boottime())
        self.metrics = Metrics(CollectorRegistry())
        self.committer = Committer(
            store=store,
            holdings=self.holdings,
            uplinks=self.uplinks,
            offer=lambda entry, size: None,
            note_length=lambda partition, subject, kept: None,
            metrics=self.metrics,
            limits=Limits(),
            partitions=1,
            stamp=stamps(0),
            queue_max=1_000,
            batch_max=100,
            log_full=lambda: self.log_full,
        )

    def ask(self, *ids: str, **more: object) -> None:
        appends = [
            coordinator_pb2.Append(request=int(it[1:]), publish=publish("/a", "x", it))
            for it in ids
        ]
        self.committer.submit(
            self.uplink.number,
            coordinator_pb2.PartitionRequests(
                partition=0,
                epoch=EPOCH,
                appends=appends,
                **more,  # type: ignore[arg-type]
            ),
        )

    async def told(self) -> coordinator_pb2.UplinkResponse.Batch:
        await asyncio.wait_for(self.committer.settled(), 5)
        self.uplink.add_heartbeat(1)
        frame = await self.uplink.next()
        assert frame is not None
        return frame.batch


@asynccontextmanager
async def setting(directory: Path) -> AsyncIterator[Setting]:
    store = FaultyStore.open(directory)
    assert isinstance(store, FaultyStore)
    it = Setting(store)
    it.holdings.begin(it.lease)
    await store.claim({0: EPOCH}, "c1", {})
    it.holdings.take(0, EPOCH, 0)
    task = asyncio.create_task(it.committer.run())
    try:
        yield it
    finally:
        task.cancel()
        await store.close()


def test_an_unknown_outcome_is_not_told_and_costs_the_partition(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            it.store.fault, it.store.after_commit = Unavailable("cut"), True
            it.ask("p1")
            told = await it.told()
            assert not told.appended and [n.epoch for n in told.not_owner] == [EPOCH]
            assert it.holdings.epoch(0) is None
            # The next owner finds it, and a repeat is answered as the first would have been.
            it.store.fault = None
            await it.store.claim({0: 6}, "c1", {})
            assert await it.store.read_tails([0]) == {0: 1}

    run(body())


def test_a_full_store_refuses_what_is_new_and_recovers_by_itself(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            it.ask("p1")
            assert (await it.told()).appended[0].accepted.seq == 1
            it.store.fault, it.store.only_writes = StoreFull("full"), True
            watch = coordinator_pb2.Watch(subject="/a")
            it.ask("p1", "p2", watches=[watch])
            told = await it.told()
            known, new = told.appended
            assert known.accepted.duplicate and new.refusal.code == Code.STORE_FULL
            assert [w.head for w in told.watched] == [1]
            assert it.holdings.epoch(0) == EPOCH
            it.store.fault = None
            it.ask("p2")
            assert (await it.told()).appended[0].accepted.seq == 2

    run(body())


def test_a_log_with_too_many_bytes_takes_nothing_new(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            it.ask("p1")
            assert (await it.told()).appended[0].accepted.seq == 1
            it.log_full = True
            it.ask("p1", "p2")
            known, new = (await it.told()).appended
            assert known.accepted.duplicate and new.refusal.code == Code.STORE_FULL
            assert not it.committer.disk_full, "it is the log that is full, not the disk"
            it.log_full = False
            it.ask("p2")
            assert (await it.told()).appended[0].accepted.seq == 2

    run(body())


def test_a_disk_is_full_until_it_has_room_for_many_messages(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            it.store.fault, it.store.only_writes = StoreFull("full"), True
            it.ask("p1")
            assert (await it.told()).appended[0].refusal.code == Code.STORE_FULL
            it.store.fault = None
            it.ask("p1")
            assert (await it.told()).appended[0].accepted.seq == 1
            assert it.committer.disk_full, "one small message found room"
            pages = it.store._connection.execute("PRAGMA page_count").fetchone()[0]
            it.store._connection.execute(f"PRAGMA max_page_count = {pages + 100}")
            await it.committer.probe()
            assert it.committer.disk_full
            it.store._connection.execute("PRAGMA max_page_count = 1000000")
            await it.committer.probe()
            assert not it.committer.disk_full

    run(body())


def test_nothing_is_told_once_the_lease_has_run_out(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            it.store.gate = asyncio.Event()
            it.ask("p1")
            await until(lambda: it.store.appends == 1)
            it.lease.valid_until = boottime() - 1
            it.store.gate.set()
            told = await it.told()
            assert not told.appended and len(told.not_owner) == 1
            assert len(it.holdings) == 0
            it.ask("p2")
            assert it.store.appends == 1, "what comes later is turned away at once"

    run(body())


def test_what_queued_during_a_commit_goes_in_the_next_one(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            it.store.gate = asyncio.Event()
            it.ask("p1")
            await until(lambda: it.store.appends == 1)
            for n in range(2, 12):
                it.ask(f"p{n}")
            it.store.gate.set()
            told = await it.told()
            assert [a.accepted.seq for a in told.appended] == list(range(1, 12))
            assert it.store.appends == 2

    run(body())


def test_requests_of_an_epoch_dropped_meanwhile_are_turned_away(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            it.store.gate = asyncio.Event()
            it.ask("p1")
            await until(lambda: it.store.appends == 1)
            it.ask("p2")
            it.holdings.drop(0)
            it.store.gate.set()
            told = await it.told()
            # The first was committed under a lease that holds: it may be told.
            assert [a.request for a in told.appended] == [1]
            assert len(told.not_owner) == 1

    run(body())


def test_what_is_asked_while_a_claim_is_under_way_is_answered_without_being_asked_again(
    run: Run, tmp_path: Path
) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            it.holdings.drop(0)
            it.committer.expect([0])
            it.ask("p1", "p2")
            it.ask("p3")
            it.holdings.take(0, EPOCH, 0)
            it.ask("p4")
            it.committer.admit([0])
            it.ask("p5")
            told = await it.told()
            assert not told.not_owner
            answers = [(one.request, one.accepted.seq) for one in told.appended]
            assert answers == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]

    run(body())


def test_what_is_asked_while_a_claim_fails_is_turned_away(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            it.holdings.drop(0)
            it.committer.expect([0])
            it.ask("p1")
            it.committer.admit([0])
            told = await it.told()
            assert [one.epoch for one in told.not_owner] == [EPOCH] and not told.appended

    run(body())


def test_giving_up_waits_for_the_commit_under_way_and_not_for_what_queues_behind_it(
    run: Run, tmp_path: Path
) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            await asyncio.wait_for(it.committer.committed(), 5)
            it.store.gate = asyncio.Event()
            it.ask("p1")
            await until(lambda: it.store.appends == 1)
            it.ask("p2")
            it.holdings.drop(0)
            everything = asyncio.create_task(it.committer.settled())
            waiting = asyncio.create_task(it.committer.committed())
            await asyncio.sleep(0)
            assert not waiting.done()
            it.store.gate.set()
            await asyncio.wait_for(waiting, 5)
            await asyncio.wait_for(everything, 5)
            told = await it.told()
            assert [one.request for one in told.appended] == [1]
            assert [one.epoch for one in told.not_owner] == [EPOCH]
            assert it.store.appends == 1

    run(body())


END = EndFollows("ann", (), "call")


def test_a_call_is_answered_once_it_is_durable(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            it.store.gate = asyncio.Event()
            called = asyncio.create_task(it.committer.call(0, END))
            await until(lambda: it.store.appends)
            assert not called.done()
            it.store.gate.set()
            assert await called == Outcome(0, 0)

    run(body())


def test_a_call_whose_outcome_is_unknown_or_that_another_must_take_has_none(
    run: Run, tmp_path: Path
) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            assert await it.committer.call(1, END) is None
            it.store.fault, it.store.after_commit = Unavailable("cut"), True
            assert await it.committer.call(0, END) is None
            assert await it.committer.call(0, END) is None, "it is the owner no longer"

    run(body())


def test_a_call_is_refused_while_the_queue_is_full(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with setting(tmp_path) as it:
            it.committer.queue_max = 0
            refused = await it.committer.call(0, END)
            assert isinstance(refused, Refusal) and refused.code == Code.OVERLOADED

    run(body())
