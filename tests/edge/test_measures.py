"""What /metrics shows of the edge's core."""

from types import SimpleNamespace
from typing import Any

from prometheus_client import REGISTRY, generate_latest

from services.edge import measures
from tests.edge.fake_coordinator import FakeCoordinator
from tests.edge.test_exchange import Run, rig
from tests.waiting import until


class Doorless(list[Any]):
    """In place of a gateway: nobody is at the door."""

    intake = SimpleNamespace(paused=0, unfinished_bytes=0, frames=0, bytes=0, pongs=0)
    requests = 0
    doorstep = ()


def shown(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def counted() -> dict[str, float]:
    """What the first test makes happen."""
    published, begun = "onward_edge_publish_seconds_count", "onward_edge_subscriptions_begun_total"
    return {
        "accepted": shown(published, outcome="accepted"),
        "transient": shown(published, outcome="transient"),
        "connected": shown("onward_edge_event_seconds_count", event="connected"),
        "recovered": shown(begun, outcome="recovered"),
        "ahead": shown(begun, outcome="AHEAD"),
        "refused": shown("onward_edge_frames_refused_total", code="SUBJECT_INVALID"),
        "formed": shown("onward_edge_forming_seconds_count"),
        "sent": shown("onward_edge_uplink_appends_count"),
        "taken": shown("onward_edge_uplink_deliveries_sum"),
    }


def test_every_queue_of_the_core_is_shown_and_what_happens_is_counted(run: Run) -> None:
    async def main() -> None:
        async with rig(coordinator := FakeCoordinator()) as edge:
            measures.follow(edge.exchange, edge.backend, edge.readers, edge.uplinks, Doorless())  # type: ignore[arg-type]
            before = counted()
            coordinator.log.add("/a", "1")
            ann, bob = edge.client(), edge.client()
            await ann.connect({"subject": "/a", "afterSeq": "0"}, {"subject": "/b"})
            await bob.connect({"subject": "/a", "afterSeq": "9"}, client_id="c2")
            ann.say(id="1", publish={"subject": "/a", "text": "x"})
            ann.say(id="2", publish={"subject": "/a", "text": "y", "transient": True})
            ann.say(id="3", publish={"subject": "a"})
            await ann.get("published", 2)
            await bob.get("message", 2)
            bob.connection.on_paused()
            after = counted()
            change = {name: after[name] - before[name] for name in before}
            assert change.pop("sent") >= 2
            assert change == {
                "accepted": 1, "transient": 1, "connected": 2, "recovered": 1, "ahead": 1,
                "refused": 1, "formed": 2, "taken": 1,
            }  # fmt: skip
            assert shown("onward_edge_lagging") == 1
            assert shown("onward_edge_sessions") == 2
            assert shown("onward_edge_subscriptions") == 3
            assert shown("onward_edge_subjects") == 2
            assert shown("onward_edge_uplinks") == 1
            assert shown("onward_edge_transients_sent") == 2
            assert shown("onward_edge_ring_bytes") > 0
            assert b"onward_edge_fan_out_writes 0.0" in generate_latest()

    run(main())


def test_a_close_is_counted_by_its_cause(run: Run) -> None:
    async def main() -> None:
        async with rig(FakeCoordinator()) as edge:
            reasons = ["Too far behind.", "Too much is waiting to be recovered."]
            counted = [
                shown("onward_edge_sessions_closed_total", code="4001", reason=reason)
                for reason in reasons
            ]
            for number, cause in enumerate(("ring", "backlogs")):
                client = edge.client()
                await client.connect(client_id=f"c{number}")
                client.connection.on_too_far(cause)
                await until(lambda client=client: client.socket.closed)
                assert client.socket.closed == [(4001, reasons[number])]
            assert [
                shown("onward_edge_sessions_closed_total", code="4001", reason=reason)
                for reason in reasons
            ] == [one + 1 for one in counted]

    run(main())
