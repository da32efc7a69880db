"""How an edge stands, and what it raises an alarm for."""

from dataclasses import replace

from onward.edge.v1 import edge_pb2, edge_pb2_grpc

from services.chassis.channel import open_channel
from services.chassis.server import Server
from services.edge.servicer import SERVICE, Servicer
from services.edge.status import Standing, Status, raised
from services.edge.sweep import Sweep
from tests.edge.fake_coordinator import SECRET, FakeCoordinator
from tests.edge.making import EDGE
from tests.edge.test_exchange import Run, rig
from tests.waiting import until

WELL = Standing(
    edge_id=77,
    partitions=8,
    owned=8,
    presence_owned=8,
    presence_missing_s=0.0,
    links_down=(),
    outbox=0.1,
    sockets=10,
    sockets_max=11,
)


def test_an_edge_that_works_raises_nothing() -> None:
    assert raised(WELL) == {}


def test_each_thing_that_can_be_wrong_has_its_alarm() -> None:
    assert list(raised(replace(WELL, edge_id=0))) == ["NO_LEASE"]
    assert list(raised(replace(WELL, partitions=0, owned=0))) == ["NO_OWNER"]
    assert "3 of 8" in raised(replace(WELL, owned=5))["NO_OWNER"]
    moving = replace(WELL, presence_owned=6, presence_missing_s=9.0)
    assert raised(moving) == {}
    orphaned = replace(moving, presence_missing_s=11.0)
    assert "2 of 8" in raised(orphaned)["NO_PRESENCE_OWNER"]
    assert "c1, c2" in raised(replace(WELL, links_down=("c1", "c2")))["UPLINK_DOWN"]
    assert "90%" in raised(replace(WELL, outbox=0.9))["OUTBOX_FULL"]
    assert list(raised(replace(WELL, sockets=11))) == ["SOCKETS_FULL"]


def test_the_status_by_grpc_tells_links_sessions_and_alarms(run: Run) -> None:
    async def main() -> None:
        async with rig(coordinator := FakeCoordinator()) as edge:
            sweep = Sweep(edge.exchange.begin_round, 1.0, 12)
            status = Status(edge.exchange, edge.uplinks, edge.directory, sweep, "h:1", 0)
            server = Server("127.0.0.1:0", SECRET, [SERVICE])
            edge_pb2_grpc.add_EdgeServiceServicer_to_server(
                Servicer(status, lambda: 1.5), server.grpc
            )
            await server.start()
            client = edge.client()
            await client.connect("/a", "/b")
            async with open_channel(f"127.0.0.1:{server.port}", SECRET) as channel:
                stub = edge_pb2_grpc.EdgeServiceStub(channel)
                drained = await stub.Drain(edge_pb2.DrainRequest(), timeout=5)
                assert drained.at_most_ms == 1_500
                told = await stub.GetStatus(edge_pb2.GetStatusRequest(), timeout=5)
                assert (told.edge_id, told.address) == (EDGE, "h:1")
                assert [(link.coordinator, link.up) for link in told.links] == [("c", True)]
                assert (told.sessions, told.subscriptions, told.subjects) == (1, 2, 2)
                assert (told.sockets, told.lagging, told.held_publishes) == (0, 0, 0)
                assert [one.name for one in told.alarms] == ["NO_OWNER", "SOCKETS_FULL"]
                since = told.alarms[0].since
                client.connection.on_paused()
                await coordinator.stop()
                await until(lambda: not edge.uplinks.up)
                told = await stub.GetStatus(edge_pb2.GetStatusRequest(), timeout=5)
                assert told.lagging == 1
                assert [(link.coordinator, link.up) for link in told.links] == [("c", False)]
                names = [one.name for one in told.alarms]
                assert names == ["NO_OWNER", "SOCKETS_FULL", "UPLINK_DOWN"]
                assert told.alarms[0].since == since
            await server.drain(0)

    run(main())
