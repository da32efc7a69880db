"""Transient and retained messages through an exchange and its uplinks, over real gRPC."""

from onward.client.v1 import client_pb2

from services.chassis.refusals import Code, Refusal
from services.edge.exchange import ExchangeLimits
from services.edge.limits import HubLimits
from tests.edge.fake_coordinator import FakeCoordinator
from tests.edge.making import payload
from tests.edge.test_exchange import Client, Run, rig
from tests.waiting import until


def texts(client: Client) -> list[tuple[str, str]]:
    """Kind and text of the messages so far."""
    messages = [one["message"] for one in client.told if "message" in one]
    return [(one["kind"], one["text"]) for one in messages]


def test_a_transient_message_reaches_who_is_there_and_has_no_seq(run: Run) -> None:
    async def main() -> None:
        async with rig(coordinator := FakeCoordinator()) as edge:
            ann, bob, watcher = edge.client(), edge.client(), edge.client()
            await ann.connect("/a", client_id="c1")
            await bob.connect("/a", client_id="c2", token="bob")
            await watcher.connect("/a", client_id="c3", acknowledges="NONE")
            bob.say(id="1", publish={"subject": "/a", "text": "typing", "transient": True})
            published = (await bob.get("published"))["published"]
            assert published == {"seq": "0", "epoch": "7", "duplicate": False}
            for client in (ann, bob, watcher):
                message = (await client.get("message"))["message"]
                assert (message["kind"], message["seq"]) == ("TRANSIENT", "0")
                assert (message["publisher"], message["text"]) == ("bob", "typing")
            assert coordinator.log.messages == {}
            bob.say(publish={"subject": "/a", "text": "said"})
            await ann.get("message", 2)
            assert ann.seqs == [("TRANSIENT", 0), ("LIVE", 1)]
            assert edge.exchange.outbox.publishes == 0

    run(main())


def test_a_transient_message_whose_stream_breaks_is_refused_and_not_sent_again(run: Run) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        coordinator.mute_transients = True
        async with rig(coordinator) as edge:
            ann = edge.client()
            await ann.connect("/a")
            ann.say(id="1", publish={"subject": "/a", "text": "typing", "transient": True})
            ann.say(id="2", publish={"subject": "/a", "text": "said"})
            await ann.get("published")
            coordinator.mute_transients = False
            coordinator.break_streams()
            error = await ann.get("error")
            assert (error["id"], error["error"]["code"]) == ("1", "UNAVAILABLE")
            await until(lambda: len(edge.uplinks.up) == 1 and len(coordinator.hellos) == 2)
            ann.say(id="3", publish={"subject": "/a", "text": "more"})
            await ann.get("published", 2)
            await ann.get("message", 2)
            assert texts(ann) == [("LIVE", "said"), ("LIVE", "more")]

    run(main())


def test_a_transient_message_without_an_owner_is_refused_at_once(run: Run) -> None:
    async def main() -> None:
        async with rig(FakeCoordinator()) as edge:
            edge.exchange.set_owner(edge.exchange.hub.partition("/a"), None, 7)
            publish = client_pb2.Publish(subject="/a", text="x", transient=True)
            refused = await edge.backend.publish("bob", publish)
            assert isinstance(refused, Refusal) and refused.code == Code.UNAVAILABLE
            assert edge.exchange.outbox.publishes == 0

    run(main())


def test_a_snapshot_shows_the_retained_message_then_what_comes(run: Run) -> None:
    async def main() -> None:
        async with rig(coordinator := FakeCoordinator()) as edge:
            for text in ("one", "two", "three"):
                publish = client_pb2.Publish(subject="/a", text=text, retain=text == "two")
                await edge.backend.publish("bob", publish)
            ann = edge.client()
            state = await ann.connect({"subject": "/a", "snapshot": True})
            assert state["subscriptions"] == [{"subject": "/a", "seq": "3"}]
            assert (await ann.get("synced"))["synced"]["seq"] == "3"
            coordinator.publish("/a", "four")
            await ann.get("message", 2)
            assert texts(ann) == [("SNAPSHOT", "two"), ("LIVE", "four")]
            assert ann.seqs == [("SNAPSHOT", 2), ("LIVE", 4)]

    run(main())


def test_a_message_retained_while_a_snapshot_is_read_is_neither_lost_nor_shown_twice(
    run: Run,
) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        async with rig(coordinator) as edge:
            await edge.backend.publish("bob", client_pb2.Publish(subject="/a", text="old"))

            def retain_another() -> None:
                delivery = coordinator.log.add("/a", "new")
                coordinator.log.retained["/a"] = delivery
                coordinator.tell(deliveries=[delivery])

            coordinator.before_retained = retain_another
            ann = edge.client()
            await ann.connect({"subject": "/a", "snapshot": True})
            assert (await ann.get("synced"))["synced"]["seq"] == "2"
            assert texts(ann) == [("LIVE", "new")]

    run(main())


def test_a_snapshot_that_nobody_can_read_refuses_the_subscription(run: Run) -> None:
    async def main() -> None:
        async with rig(FakeCoordinator()) as edge:
            ann = edge.client()
            await ann.connect()
            edge.directory.apply(edge.nobody())
            ann.say(id="2", subscribe={"subscriptions": [{"subject": "/a", "snapshot": True}]})
            error = await ann.get("error")
            assert (error["id"], error["error"]["code"]) == ("2", "UNAVAILABLE")

    run(main())


def test_nothing_is_read_from_an_uplink_while_too_much_is_to_be_written(run: Run) -> None:
    async def main() -> None:
        limits = ExchangeLimits(hub=HubLimits(writes_max=3))
        async with rig(coordinator := FakeCoordinator(), limits) as edge:
            clients = [edge.client() for _ in range(4)]
            for number, client in enumerate(clients):
                await client.connect("/a", client_id=f"c{number}")
            exchange = edge.exchange
            exchange._pumping = True  # as if the next slice were still to come
            coordinator.publish("/a", "first")
            await until(lambda: exchange.hub.congested)
            coordinator.publish("/a", "second")
            room = exchange.room()
            exchange.pump()
            assert exchange.hub.channel("/a").last == 1  # type: ignore[union-attr]
            exchange._pumping = False
            exchange.pump()
            await room
            for client in clients:
                await client.get("message", 2)
                assert client.seqs == [("LIVE", 1), ("LIVE", 2)]

    run(main())


def test_the_frame_of_a_transient_message_is_shared(run: Run) -> None:
    async def main() -> None:
        async with rig(FakeCoordinator()) as edge:
            ann, bob = edge.client(), edge.client()
            await ann.connect("/a", client_id="c1")
            await bob.connect("/a", client_id="c2")
            ann.say(publish={"subject": "/a", "text": "x", "transient": True})
            await ann.get("message")
            await bob.get("message")
            frames = [
                next(one for one in client.socket.sent if "message" in payload(one))
                for client in (ann, bob)
            ]
            assert frames[0] is frames[1]

    run(main())


def test_a_live_session_is_told_of_messages_that_were_trimmed_before_it_got_them(
    run: Run,
) -> None:
    async def main() -> None:
        async with rig(coordinator := FakeCoordinator()) as edge:
            ann = edge.client()
            await ann.connect("/a")
            coordinator.publish("/a", "1")
            await ann.get("message")
            ann.say(ack={"positions": [{"subject": "/a", "seq": "1"}]})
            coordinator.break_streams()
            for number in range(2, 6):
                coordinator.log.add("/a", str(number))
            coordinator.log.floors["/a"] = 3
            gap = (await ann.get("gap"))["gap"]
            assert gap == {"subject": "/a", "fromSeq": "2", "toSeq": "3", "reason": "TRIMMED"}
            await ann.get("message", 3)
            assert ann.seqs == [("LIVE", 1), ("LIVE", 4), ("LIVE", 5)]
            kinds = [next(iter(one)) for one in ann.told]
            assert kinds.index("gap") < kinds.index("message", kinds.index("message") + 1)

    run(main())
