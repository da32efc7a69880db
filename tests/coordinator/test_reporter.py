"""Reports to presence replicas that are faked behind real gRPC and real etcd."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from onward.presence.v1 import presence_pb2, presence_pb2_grpc
from structlog.testing import capture_logs

from services.chassis.cluster import Keys, join
from services.chassis.etcd import Delete, Etcd, Lease, Put
from services.chassis.server import Server
from services.coordinator.sqlite_store import SqliteStore
from services.coordinator.store import Keep
from tests.coordinator.harness import (
    DISCONNECTED,
    PARTITIONS,
    SECRET,
    Run,
    connected,
    coordinator,
    edge,
    event,
    owned,
)
from tests.real_etcd import EtcdServer
from tests.waiting import until

ALL = frozenset(range(PARTITIONS))


class FakePresence(presence_pb2_grpc.PresenceServiceServicer):
    """Takes entries like the real one, keeps what it took; can be slow, or fail.

    `beside`: a replica with the same store.
    """

    def __init__(self, beside: "FakePresence | None" = None) -> None:
        self.cursors: dict[int, int] = beside.cursors if beside else defaultdict(int)
        self.taken: dict[int, list[int]] = defaultdict(list)
        self.holds: set[int] = set(ALL)
        self.calls = 0
        self.in_flight = 0
        self.fail_with: grpc.StatusCode | None = None
        self.go = asyncio.Event()
        self.go.set()

    async def Report(
        self, request: presence_pb2.ReportRequest, context: Any
    ) -> presence_pb2.ReportResponse:
        self.calls += 1
        self.in_flight += 1
        assert self.in_flight == 1, "one report in flight"
        try:
            await self.go.wait()
            if self.fail_with is not None:
                await context.abort(self.fail_with, "as the test wishes")
            response = presence_pb2.ReportResponse()
            for part in request.partitions:
                if part.partition not in self.holds:
                    continue
                for entry in part.entries:
                    if entry.pos == self.cursors[part.partition] + 1:
                        self.cursors[part.partition] = entry.pos
                        self.taken[part.partition].append(entry.pos)
                response.cursors.add(partition=part.partition, pos=self.cursors[part.partition])
            return response
        finally:
            self.in_flight -= 1


@asynccontextmanager
async def presence(
    etcd_address: str,
    fake: FakePresence,
    name: str = "p1",
    owns: Iterable[int] = ALL,
) -> AsyncIterator["Claiming"]:
    """The fake as a presence replica that owns these partitions."""
    server = Server("127.0.0.1:0", SECRET, [])
    presence_pb2_grpc.add_PresenceServiceServicer_to_server(fake, server.grpc)
    await server.start()
    etcd, keys = Etcd(etcd_address), Keys()
    lease = await join(etcd, keys.presence(name), f"127.0.0.1:{server.port}", 5)
    claiming = Claiming(etcd, lease, name)
    await claiming.claim(owns)
    try:
        yield claiming
    finally:
        fake.go.set()
        await lease.revoke()
        await server.drain(0)
        await etcd.close()


@dataclass
class Claiming:
    """A replica's keys in etcd."""

    etcd: Etcd
    lease: Lease
    name: str

    async def claim(self, partitions: Iterable[int]) -> None:
        """Own these partitions, whoever did before."""
        value = f'{{"name": "{self.name}", "era": 0}}'
        for partition in partitions:
            key = Keys().presence_partition(partition)
            await self.etcd.txn([], [Delete(key)])
            await self.etcd.txn([], [Put(key, value, self.lease.id)])


def test_entries_reach_presence_in_order_without_a_hole(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        fake = FakePresence()
        async with (
            presence(etcd.address, fake),
            coordinator(etcd.address, tmp_path, report_entries_max=7) as it,
            edge(it) as one,
        ):
            await one.publish(it, "/a", *(f"t{n}" for n in range(30)))
            _, partition = owned(it, "/a")
            await until(lambda: fake.taken[partition] == list(range(1, 31)))
            await until(lambda: it.reporter.lag() == 0)

    run(body())


def test_what_was_committed_while_presence_was_away_is_read_from_the_store(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        fake = FakePresence()
        async with (
            coordinator(etcd.address, tmp_path, recent_bytes_max=200) as it,
            edge(it) as one,
        ):
            await one.publish(it, "/a", *(f"t{n}" for n in range(30)))
            _, partition = owned(it, "/a")
            async with presence(etcd.address, fake):
                await until(lambda: fake.taken[partition] == list(range(1, 31)))
                await one.publish(it, "/a", "last")
                await until(lambda: fake.taken[partition][-1] == 31)

    run(body())


def test_a_failing_presence_is_asked_again_and_nothing_is_lost(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        fake = FakePresence()
        fake.fail_with = grpc.StatusCode.UNAVAILABLE
        async with (
            presence(etcd.address, fake),
            coordinator(etcd.address, tmp_path) as it,
            edge(it) as one,
        ):
            await one.publish(it, "/a", "x", "y")
            _, partition = owned(it, "/a")
            await until(lambda: fake.calls >= 2)
            assert fake.taken[partition] == []
            fake.fail_with = None
            await until(lambda: fake.taken[partition] == [1, 2])

    run(body())


def test_an_ending_event_is_told_processed_when_presence_has_it_and_not_before(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        fake = FakePresence()
        async with (
            presence(etcd.address, fake),
            coordinator(etcd.address, tmp_path) as it,
            edge(it) as one,
        ):
            await until(lambda: fake.calls and it.reporter.lag() == 0)
            fake.go.clear()
            await one.record(it, event(1, connected=connected("/a", replaces=False)))
            (answer,) = await one.record(it, event(2, generation=1, disconnected=DISCONNECTED))
            await until(lambda: fake.in_flight)
            assert not one.received.processed
            fake.go.set()
            (processed, *_) = await one.got("processed")
            assert processed.partition == owned(it, "ann")[1]
            await until(lambda: one.received.processed[-1].pos >= answer.recorded.pos)

    run(body())


def test_an_edge_that_comes_back_may_ask_for_what_it_awaits(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        fake = FakePresence()
        async with (
            presence(etcd.address, fake),
            coordinator(etcd.address, tmp_path) as it,
        ):
            async with edge(it) as one:
                await one.record(it, event(1, connected=connected("/a")))
            epoch, partition = owned(it, "ann")
            await until(lambda: it.reporter.cursor(partition) == 1)
            async with edge(it) as back:
                await back.ask(epoch, partition, await_processed=[1, 2])
                assert [p.pos for p in await back.got("processed")] == [1]
                await back.record(it, event(2, generation=1, disconnected=DISCONNECTED))
                await until(lambda: [p.pos for p in back.received.processed][-1] == 2)

    run(body())


def test_another_log_at_presence_is_said_and_waited_for(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        fake = FakePresence()
        fake.fail_with = grpc.StatusCode.FAILED_PRECONDITION
        async with (
            presence(etcd.address, fake),
            coordinator(etcd.address, tmp_path) as it,
            edge(it) as one,
        ):
            await until(lambda: fake.calls >= 2)
            (answer,) = await one.publish(it, "/a", "x")
            assert answer.accepted.seq == 1

    run(body())


def test_entries_that_presence_wants_and_the_log_no_longer_has_are_an_alarm_given_once(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        fake = FakePresence()
        store = SqliteStore.open(tmp_path)
        async with coordinator(etcd.address, tmp_path, "c1", store) as it, edge(it) as one:
            await until(lambda: len(it.holdings) == PARTITIONS)
            await one.publish(it, "/a", *(f"t{n}" for n in range(5)))
            epoch, partition = owned(it, "/a")
            keep = Keep(since_ms=2**62, messages=0, young_since_ms=2**62, below_pos=3)
            assert await store.sweep(partition, epoch, keep, 100) == 3
            it.reporter.drop(partition)  # and with it what is in memory
            it.reporter.take(partition, 5)
            with capture_logs() as logs:
                async with presence(etcd.address, fake):
                    await until(lambda: it.reporter.missed() == 1)
                    calls = fake.calls
                    await until(lambda: fake.calls > calls + 1)
                    # It answers, though it takes nothing.
                    assert it.reporter.silent_s() == 0
            [alarm] = [line for line in logs if line["event"] == "presence_missed_entries"]
            assert (alarm["log_level"], alarm["after"], alarm["next"]) == ("error", 0, 4)
            assert fake.taken[partition] == []
            assert it.reporter.missed() == 1
            fake.cursors[partition] = 3  # Its newer store is back.
            async with presence(etcd.address, fake):
                await until(lambda: fake.taken[partition] == [4, 5])
                await until(lambda: it.reporter.lag() == 0)
            assert it.reporter.missed() == 0
        await store.close()

    run(body())


def test_a_replica_that_hangs_holds_back_its_own_partitions_alone(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        one, other = FakePresence(), FakePresence()
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as publisher:
            await until(lambda: len(it.holdings) == PARTITIONS)
            mine = owned(it, "/a")[1]
            subject = next(
                name for name in (f"/{n}" for n in range(100)) if owned(it, name)[1] != mine
            )
            theirs = owned(it, subject)[1]
            async with (
                presence(etcd.address, one, "p1", [mine]),
                presence(etcd.address, other, "p2", ALL - {mine}),
            ):
                await until(lambda: one.calls and other.calls)
                one.go.clear()
                await publisher.publish(it, "/a", "x")
                await until(lambda: one.in_flight)
                await publisher.publish(it, subject, "y", "z")
                await until(lambda: other.taken[theirs] == [1, 2])
                assert one.taken[mine] == []
                one.go.set()
                await until(lambda: one.taken[mine] == [1])
                assert other.taken[mine] == one.taken[theirs] == []

    run(body())


def test_what_moves_goes_to_its_new_owner_from_where_the_former_was(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        one = FakePresence()
        other = FakePresence(beside=one)
        async with (
            coordinator(etcd.address, tmp_path) as it,
            edge(it) as publisher,
            presence(etcd.address, one),
            presence(etcd.address, other, "p2", []) as taker,
        ):
            await publisher.publish(it, "/a", "x", "y")
            partition = owned(it, "/a")[1]
            await until(lambda: one.taken[partition] == [1, 2])
            # The former owner hangs with what comes next, while it loses the partition.
            one.go.clear()
            await publisher.publish(it, "/a", "z")
            await until(lambda: one.in_flight)
            one.holds.discard(partition)
            await taker.claim([partition])
            await until(lambda: other.taken[partition] == [3])
            one.go.set()
            await publisher.publish(it, "/a", "more")
            await until(lambda: other.taken[partition] == [3, 4])
            assert one.taken[partition] == [1, 2]
            await until(lambda: it.reporter.lag() == 0)
            assert it.reporter.silent_s() == 0

    run(body())


def test_who_has_the_key_and_not_the_claim_yet_is_asked_again_and_no_other_partition_waits(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        fake = FakePresence()
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as publisher:
            await until(lambda: len(it.holdings) == PARTITIONS)
            partition = owned(it, "/a")[1]
            fake.holds.discard(partition)
            await publisher.publish(it, "/a", "x")
            async with presence(etcd.address, fake):
                await until(lambda: fake.calls >= 3)
                assert it.reporter.lag() == 1
                assert it.reporter.silent_s() > 0
                fake.holds.add(partition)
                await until(lambda: fake.taken[partition] == [1])
                await until(lambda: it.reporter.silent_s() == 0)

    run(body())


def test_without_an_owner_partitions_wait_and_that_shows(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        fake = FakePresence()
        async with coordinator(etcd.address, tmp_path) as it:
            await until(lambda: len(it.holdings) == PARTITIONS)
            assert it.reporter.silent_s() > 0
            async with presence(etcd.address, fake, owns=list(ALL)[1:]) as claiming:
                await until(lambda: fake.calls)
                assert it.reporter.silent_s() > 0
                await claiming.claim(list(ALL)[:1])
                await until(lambda: it.reporter.silent_s() == 0)

    run(body())
