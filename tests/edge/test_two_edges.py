"""Two real edges over one coordinator: clients go on at the other, and none is there twice."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from urllib.error import HTTPError

import pytest
from onward_sdk import Client, Message

from tests.edge.cluster import Cluster, Edge, Raw, cluster
from tests.waiting import until

Run = Callable[[Any], Any]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("two")) as made:
        made.coordinator()
        yield made


@pytest.fixture(scope="module")
def stays(members: Cluster) -> Edge:
    """The edge that goes on."""
    return members.edge()


@pytest.fixture(scope="module")
def goes(members: Cluster, stays: Edge) -> Edge:
    """An edge that is drained in the end."""
    return members.edge(ONWARD_EDGE_DRAIN_S="4", ONWARD_EDGE_DRAIN_RATE="20")


def edges_at(edge: Edge) -> list[dict[str, Any]]:
    """The edges, as the status of one of them shows them."""
    found: list[dict[str, Any]] = edge.get("/v1/status")["edges"]
    return found


class Publisher:
    """Publishes numbers through the SDK, one after the other, until told to stop."""

    def __init__(self, subject: str, edges: list[str]) -> None:
        self.count = 0
        self._subject = subject
        self._client = Client(edges, user="publisher")
        self._stop = asyncio.Event()

    async def run(self) -> None:
        async with self._client as client:
            while not self._stop.is_set():
                published = await client.publish(self._subject, str(self.count))
                self.count += 1
                assert published.seq == self.count
                await asyncio.sleep(0.005)

    def stop(self) -> None:
        self._stop.set()


def test_who_is_cut_off_goes_on_at_another_edge_where_it_was(
    run: Run, stays: Edge, goes: Edge
) -> None:
    async def main() -> None:
        await asyncio.gather(stays.ready(), goes.ready())
        subject = "/cut"
        publisher = Publisher(subject, [stays.url])
        ann = Raw("ann", subject)
        await ann.connect(goes)
        publishing = asyncio.create_task(publisher.run())
        for edge in (stays, goes, stays):
            await ann.read_up_to((ann.seqs or [0])[-1] + 10)
            ann.cut()
            before = publisher.count
            await until(lambda before=before: publisher.count > before + 5)  # type: ignore[misc]
            await ann.connect(edge)
            assert ann.recovered is True
        await ann.read_up_to(publisher.count + 10)
        publisher.stop()
        await publishing
        await ann.read_up_to(publisher.count)
        assert ann.seqs == list(range(1, publisher.count + 1))
        assert {"LIVE", "RECOVERED"} == set(ann.kinds)
        ann.cut()

    run(main())


def test_a_session_that_returns_at_another_edge_ends_its_former_one_there(
    run: Run, stays: Edge, goes: Edge
) -> None:
    async def main() -> None:
        await asyncio.gather(stays.ready(), goes.ready())
        former, present = Raw("eve", "/replaced"), Raw("eve", "/replaced")
        await former.connect(goes)
        present.generation = former.generation
        await present.connect(stays)  # while the former one is still open, and hears nothing
        assert await asyncio.wait_for(former.follow(), 10) == 4502
        assert int(present.generation) == int(former.generation) + 1
        stays.post("/v1/publish?user=bob", {"subject": "/replaced", "text": "x"})
        await asyncio.wait_for(present.read_up_to(1), 10)
        present.cut()

    run(main())


def test_a_drain_under_load_costs_nobody_a_message_and_no_publisher_an_error(
    run: Run, stays: Edge, goes: Edge
) -> None:
    clients, raws, subject = 8, 4, "/drain"

    async def main() -> None:
        await asyncio.gather(stays.ready(), goes.ready())
        received: list[list[int]] = [[] for _ in range(clients)]

        def note(index: int) -> Callable[[Message], None]:
            return lambda message: received[index].append(message.seq)

        # By its chance each begins at the edge that will go.
        edges = [goes.url, stays.url]
        many = [
            Client(edges, user=f"u{index}", on_message=note(index), chance=lambda: 0.0)
            for index in range(clients)
        ]
        for one in many:
            await one.connect()
        await asyncio.gather(*(one.subscribe(subject) for one in many))
        raw = [Raw(f"raw{index}", subject) for index in range(raws)]
        await asyncio.gather(*(one.connect(goes) for one in raw))

        async def come_back(one: Raw) -> None:
            assert await one.follow() == 4000
            await one.connect(stays)
            assert one.recovered is True
            await one.follow()

        publisher = Publisher(subject, edges)
        publishing = asyncio.create_task(publisher.run())
        returning = [asyncio.create_task(come_back(one)) for one in raw]
        await until(lambda: publisher.count > 30)
        address = goes.url.removeprefix("http://")
        begun = stays.post("/v1/drain", {"member": address})
        assert (begun["service"], begun["atMostMs"]) == ("edge", 4_000 + 7_000)
        again = stays.post("/v1/drain", {"member": begun["name"]})  # changes nothing
        assert again == begun
        await until(lambda: [e["draining"] for e in edges_at(stays)].count(True) == 1)
        with pytest.raises(OSError, match="refused"):
            goes.get("/readyz")  # nobody new is let in
        assert await goes.ended() == 0
        assert [e["clientAddress"] for e in edges_at(stays)] == [stays.url.removeprefix("http://")]
        during = publisher.count
        await until(lambda: publisher.count > during + 30)
        publisher.stop()
        await publishing
        whole = list(range(1, publisher.count + 1))
        await until(lambda: all(len(one) >= publisher.count for one in received), 10)
        await until(lambda: all(one.seqs[-1:] == whole[-1:] for one in raw), 10)
        assert received == [whole] * clients
        assert [one.seqs for one in raw] == [whole] * raws
        told = [
            f["goingAway"]["reconnectAfterMs"] for o in raw for f in o.frames if "goingAway" in f
        ]
        # Twelve sessions and a publisher at 20 a second: one leaves every 50 ms.
        assert len(set(told)) == raws and max(told) <= 600
        for one in raw:
            one.cut()
        await asyncio.gather(*returning)
        await asyncio.gather(*(one.disconnect() for one in many))

    run(main())


def test_only_members_that_are_there_are_drained_and_a_coordinator_ends_too(
    run: Run, members: Cluster, stays: Edge
) -> None:
    async def main() -> None:
        await stays.ready()
        for unknown in ("c2", "127.0.0.1", ""):
            with pytest.raises(HTTPError, match="400"):
                stays.post("/v1/drain", {"member": unknown})
        assert stays.post("/v1/drain", {"member": "c1"})["service"] == "coordinator"
        [coordinator, *_] = members.children
        assert await asyncio.to_thread(coordinator.wait, 15) == 0

    run(main())
