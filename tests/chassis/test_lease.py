"""A lease, kept and lost, with a real etcd."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from services.chassis.etcd import Etcd, Lease, Put, boottime
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


def test_a_revoked_lease_takes_all_its_keys(run: Run, server: EtcdServer) -> None:
    async def body(etcd: Etcd) -> None:
        lease = await Lease.grant(etcd, 5)
        await etcd.txn([], [Put("/l/a", ""), Put("/l/b", "")], lease.id)
        assert 0 < await etcd.lease_time_to_live(lease.id) <= 5
        keeper = asyncio.create_task(lease.keep())
        await lease.revoke()
        await asyncio.wait_for(keeper, 2)
        assert (await etcd.range("/l/")).keys == []
        assert not lease.valid()
        assert await etcd.lease_time_to_live(lease.id) == -1
        await etcd.lease_revoke(lease.id)

    run(with_etcd(server, body))


def test_a_kept_lease_outlives_its_ttl(run: Run, server: EtcdServer) -> None:
    async def body(etcd: Etcd) -> None:
        lease = await Lease.grant(etcd, 2)
        first = lease.valid_until
        keeper = asyncio.create_task(lease.keep())
        await until(lambda: boottime() > first + 0.3, 5)
        assert lease.valid() and lease.valid_until > first
        keeper.cancel()

    run(with_etcd(server, body))


def test_a_lease_that_somebody_revoked_is_noticed(run: Run, server: EtcdServer) -> None:
    async def body(etcd: Etcd) -> None:
        lease = await Lease.grant(etcd, 2)
        keeper = asyncio.create_task(lease.keep())
        await etcd.lease_revoke(lease.id)
        await asyncio.wait_for(lease.lost.wait(), 3)
        await keeper

    run(with_etcd(server, body))


def test_a_lease_is_not_valid_in_its_last_second_while_etcd_is_silent(
    run: Run, server: EtcdServer
) -> None:
    async def body(etcd: Etcd) -> None:
        lease = await Lease.grant(etcd, 2)
        granted = boottime()
        keeper = asyncio.create_task(lease.keep())
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await asyncio.wait_for(lease.lost.wait(), 5)
            assert boottime() < granted + 2
            assert not lease.valid()
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await keeper

    run(with_etcd(server, body))
