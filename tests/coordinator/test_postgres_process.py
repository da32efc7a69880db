"""Coordinators as processes over one PostgreSQL."""

import asyncio
import signal
from pathlib import Path

from services.chassis.cluster import Keys, join
from services.chassis.etcd import Etcd
from services.chassis.subjects import partition_of
from tests.coordinator.harness import PARTITIONS, Edge, Run, publish
from tests.coordinator.test_process import epoch_at, process
from tests.real_etcd import EtcdServer
from tests.waiting import until

SUBJECT = "/a"
PARTITION = partition_of(SUBJECT, PARTITIONS)


def test_a_killed_coordinator_goes_on_from_wherever_it_is_started(
    run: Run, etcd: EtcdServer, postgres_url: str, tmp_path: Path
) -> None:
    async def publish_all(address: str, *texts: str) -> list[tuple[int, bool]]:
        edge = Edge(address, 7)
        await edge.open()
        appends = [edge.append(publish=publish(SUBJECT, text, text)) for text in texts]
        await edge.ask(await epoch_at(etcd, PARTITION), PARTITION, appends=appends)
        answers = await edge.answers(*(it.request for it in appends))
        await edge.close()
        return [(it.accepted.seq, it.accepted.duplicate) for it in answers]

    async def body() -> None:
        variables = {"ONWARD_COORDINATOR_STORE": postgres_url}
        folder = tmp_path / "unused"
        async with process(etcd, folder, **variables) as one:
            child = one.start()
            await one.serving()
            assert await publish_all(one.address, "p1", "p2") == [(1, False), (2, False)]
            child.kill()
            child.wait()
        async with process(etcd, folder, **variables) as two:
            two.start()
            await two.serving()
            assert await publish_all(two.address, "p2", "p3") == [(2, True), (3, False)]
        assert not folder.exists()

    run(body())


def test_a_coordinator_waits_for_its_store_and_stops_when_it_is_told(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        nobody = "postgresql://u:a-password@127.0.0.1:1/x"
        async with process(etcd, tmp_path, ONWARD_COORDINATOR_STORE=nobody) as it:
            child = it.start()
            assert child.stderr is not None
            said = await asyncio.to_thread(child.stderr.readline)
            assert "waiting_for_store" in said and "a-password" not in said
            child.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(child.wait, 10) == 0

    run(body())


def test_others_have_what_a_former_life_held_while_the_next_still_waits_for_its_store(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        client = Etcd(etcd.address)
        former = await join(client, Keys().coordinator("c9"), "h:1", 60)
        await client.put(Keys().owner(1), "{}", former.id)
        nobody = "postgresql://u@127.0.0.1:1/x"
        more = {"ONWARD_COORDINATOR_STORE": nobody, "ONWARD_COORDINATOR_NAME": "c9"}
        async with process(etcd, tmp_path, **more) as it:
            it.start()

            async def gone() -> bool:
                return await client.get(Keys().owner(1)) is None

            await until(gone)
            assert await client.get(Keys().coordinator("c9")) is None
        await client.close()

    run(body())
