"""The edge's lease on a real etcd: one after the other, each a name of its own."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from services.chassis.cluster import Keys
from services.chassis.etcd import Etcd
from services.edge.term import Term
from tests.edge.test_exchange import rig
from tests.real_etcd import EtcdServer, running
from tests.waiting import until

Run = Callable[[Any], Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with running(tmp_path_factory.mktemp("etcd")) as started:
        yield started


def test_an_edge_whose_log_was_replaced_goes_on_under_another_name(
    run: Run, server: EtcdServer
) -> None:
    """At once: the former name is gone from etcd before its lease could have run out."""

    async def main() -> None:
        etcd = Etcd(server.address)
        async with rig() as edge:
            place = edge.exchange.place
            place.edge_id = 0
            term = Term(etcd, edge.directory, edge.exchange, edge.uplinks, 60)
            edge.exchange.begin_anew = term.begin_anew
            holding = asyncio.create_task(term.run("127.0.0.1:1", "127.0.0.1:2"))
            former = await until(lambda: place.edge_id)
            edge.exchange.begin_anew()
            edge.exchange.begin_anew()  # told by each coordinator
            present = await until(lambda: place.edge_id not in (0, former) and place.edge_id)

            async def only_the_present() -> bool:
                keys = (await etcd.range(f"{Keys().prefix}edges/")).keys
                return [one.key for one in keys] == [Keys().edge(present)]

            await until(only_the_present)
            await term.end()
            await holding
        await etcd.close()

    run(main())
