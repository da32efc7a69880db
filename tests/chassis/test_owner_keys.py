"""Creating and removing the keys of owners, with real etcd."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from services.chassis.cluster import Keys, epoch_of
from services.chassis.errors import Unavailable
from services.chassis.etcd import Etcd, Lease
from services.chassis.owner_keys import KEYS_PER_TXN, OwnerKeys, batches
from tests.real_etcd import EtcdServer, running

Run = Callable[[Any], Any]
KEYS = Keys()
MANY = list(range(2 * KEYS_PER_TXN + 10))


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with running(tmp_path_factory.mktemp("etcd")) as etcd:
        yield etcd


def test_no_transaction_has_more_keys_than_it_may() -> None:
    assert [len(batch) for batch in batches(MANY)] == [KEYS_PER_TXN, KEYS_PER_TXN, 10]
    assert [key for batch in batches(MANY) for key in batch] == MANY


def test_many_keys_are_created_and_removed_in_few_transactions(
    run: Run, server: EtcdServer
) -> None:
    async def body() -> None:
        etcd = Etcd(server.address)
        lease = await Lease.grant(etcd, 60)
        mine = OwnerKeys(etcd, KEYS.owner, "c1", 3)
        epochs = await mine.create(MANY, lease)
        assert sorted(epochs) == MANY and len(set(epochs.values())) == 3
        found = await etcd.get(KEYS.owner(70))
        assert found is not None and found.lease == lease.id
        assert epochs[70] == epoch_of(3, found.create_revision)
        before = found.create_revision
        assert sorted(await mine.remove(epochs)) == MANY
        left = await etcd.range(KEYS.owner(0).removesuffix("0"))
        assert left.keys == [] and left.revision <= before + 5
        await etcd.close()

    run(body())


def test_what_another_has_is_neither_created_nor_removed(run: Run, server: EtcdServer) -> None:
    async def body() -> None:
        etcd = Etcd(server.address)
        lease = await Lease.grant(etcd, 60)
        mine, other = (OwnerKeys(etcd, KEYS.owner, name, 1) for name in ("c1", "c2"))
        theirs = await other.create([5], lease)
        # Of a transaction with one such key nothing is done, of the others all is.
        epochs = await mine.create(MANY, lease)
        assert sorted(epochs) == MANY[KEYS_PER_TXN:]
        wrong = {p: epoch + (p == 100) for p, epoch in epochs.items()}
        assert sorted(await mine.remove(wrong)) == [p for p in epochs if p != 100]
        assert await mine.remove({5: 1}) == []
        assert await other.remove(theirs) == [5]
        await etcd.close()

    run(body())


def test_what_etcd_does_not_answer_is_not_ours_yet(run: Run, server: EtcdServer) -> None:
    async def body() -> None:
        etcd = Etcd(server.address, deadline_s=0.2)
        lease = await Lease.grant(etcd, 60)
        mine = OwnerKeys(etcd, KEYS.owner, "c1", 1)
        server.stop()
        assert await mine.create([1, 2], lease) == {}
        with pytest.raises(Unavailable):
            await mine.remove({1: 5})
        await etcd.close()

    run(body())
