"""The exchange with its uplinks, over real gRPC, against a coordinator small enough to read."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from onward.client.v1 import client_pb2

from services.chassis.cluster import Directory, Keys
from services.chassis.etcd import Etcd, KeyValue, Snapshot
from services.chassis.refusals import Code, Refusal
from services.edge import exchange
from services.edge.backend import Accepted, History
from services.edge.connection import Connection
from services.edge.exchange import TICK_S, Exchange, ExchangeLimits
from services.edge.exchange_backend import ExchangeBackend
from services.edge.limits import HubLimits
from services.edge.outbox import OutboxLimits, Target
from services.edge.rates import RateLimits
from services.edge.readers import Readers
from services.edge.socket import Handshake
from services.edge.uplink import Uplinks
from tests.edge.fake_coordinator import PARTITIONS, SECRET, FakeCoordinator
from tests.edge.making import EDGE, FakeSocket, identify, payload
from tests.waiting import until

Run = Callable[[Any], Any]


class Client:
    """A client as its socket sees it: frames down as values, up by `say`."""

    def __init__(self, exchange: Exchange) -> None:
        self.socket = FakeSocket()
        self.connection: Connection = exchange.accept(self.socket, Handshake(""))
        self.socket.connection = self.connection

    def say(self, **value: Any) -> None:
        self.connection.on_text(orjson.dumps(value))

    @property
    def told(self) -> list[Any]:
        return [payload(frame) for frame in self.socket.sent]

    @property
    def seqs(self) -> list[tuple[str, int]]:
        """Kind and seq of the messages so far."""
        messages = [one["message"] for one in self.told if "message" in one]
        return [(one["kind"], int(one["seq"])) for one in messages]

    async def get(self, kind: str, count: int = 1) -> Any:
        """The `count`-th frame of that kind, once it is there."""

        def found() -> Any:
            frames = [one for one in self.told if kind in one]
            return len(frames) >= count and frames[count - 1]

        return await until(found)

    async def connect(self, *subscriptions: Any, client_id: str = "c1", **fields: Any) -> Any:
        listed = [one if isinstance(one, dict) else {"subject": one} for one in subscriptions]
        connect = {"clientId": client_id, "subscriptions": {"list": listed}, **fields}
        self.say(id="c", connect={"acknowledges": "EXPLICIT", "logId": "L"} | connect)
        return (await self.get("connected"))["connected"]


class Rig:
    """An exchange and its uplinks. Partitions belong to `c` unless a test says otherwise."""

    def __init__(self, tasks: asyncio.TaskGroup, limits: ExchangeLimits) -> None:
        self.directory = Directory(Etcd("127.0.0.1:1"))
        self.readers = Readers(self.directory, SECRET)
        self.exchange = Exchange(
            limits, lambda token, user, client_id: identify(token, client_id), self.readers, tasks
        )
        self.uplinks = Uplinks(self.exchange.outbox, self.exchange, SECRET)
        self.exchange.wake = self.uplinks.wake
        self.backend = ExchangeBackend(self.exchange, self.readers)
        self.round = 0

    def client(self) -> Client:
        return Client(self.exchange)

    def point(self, epoch: int = 7, **coordinators: str) -> None:
        """The directory's news: who is there; the first of them owns everything."""
        keys = [
            KeyValue(Keys().coordinator(name), json.dumps({"address": address}), 1, 1, 1)
            for name, address in coordinators.items()
        ]
        self.directory.apply(Snapshot(1, keys))
        self.uplinks.follow(EDGE, coordinators)
        owner = next(iter(coordinators), None)
        for partition in range(PARTITIONS):
            self.exchange.set_owner(partition, Target(owner, epoch) if owner else None, epoch)

    def nobody(self) -> Snapshot:
        """The directory's news if nobody is there."""
        return Snapshot(2, [])

    def begin_round(self) -> None:
        self.round += 1
        self.exchange.begin_round(asyncio.get_running_loop().time(), self.round)


@asynccontextmanager
async def rig(
    coordinator: FakeCoordinator | None = None, limits: ExchangeLimits | None = None
) -> AsyncIterator[Rig]:
    """An edge, joined to `coordinator` if one is given."""
    async with asyncio.TaskGroup() as tasks:
        made = Rig(tasks, limits or ExchangeLimits())
        running = tasks.create_task(made.uplinks.run(tasks))
        ticking = tasks.create_task(_tick(made.exchange))
        await asyncio.sleep(0)
        made.exchange.begin_term(EDGE)
        if coordinator is not None:
            made.point(c=await coordinator.start())
            await until(lambda: made.exchange.open)
        try:
            yield made
        finally:
            ticking.cancel()
            running.cancel()
            await made.readers.close()
            if coordinator is not None:
                await coordinator.stop()


async def _tick(exchange: Exchange) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        exchange.tick(asyncio.get_running_loop().time())


def test_a_publish_reaches_its_publisher_and_every_subscriber(run: Run) -> None:
    async def main() -> None:
        async with rig(FakeCoordinator()) as edge:
            ann, bob = edge.client(), edge.client()
            await ann.connect("/a")
            await bob.connect(client_id="c2", token="bob")
            bob.say(id="2", publish={"subject": "/a", "text": "hi", "publicationId": "p"})
            bob.say(id="3", publish={"subject": "/a", "text": "hi", "publicationId": "p"})
            published = {"seq": "1", "epoch": "7", "duplicate": False}
            assert await bob.get("published") == {"id": "2", "published": published}
            again = await bob.get("published", 2)
            assert again == {"id": "3", "published": published | {"duplicate": True}}
            message = (await ann.get("message"))["message"]
            assert (message["text"], message["publisher"]) == ("hi", "bob")
            assert ann.seqs == [("LIVE", 1)]

    run(main())


def test_a_return_is_recovered_from_the_ring_or_from_the_store(run: Run) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        for number in range(5):
            coordinator.log.add("/a", str(number))
        async with rig(coordinator) as edge:
            ann = edge.client()
            connected = await ann.connect({"subject": "/a", "afterSeq": "2"})
            assert connected["subscriptions"] == [{"subject": "/a", "seq": "5", "recovered": True}]
            await ann.get("synced")
            assert ann.seqs == [("RECOVERED", 3), ("RECOVERED", 4), ("RECOVERED", 5)]
            coordinator.publish("/a", "6")
            await ann.get("message", 4)
            reads = coordinator.reads
            again = edge.client()
            await again.connect({"subject": "/a", "afterSeq": "5"}, lastGeneration="1")
            await again.get("synced")
            assert again.seqs == [("RECOVERED", 6)] and coordinator.reads == reads

    run(main())


def test_a_connect_without_a_list_takes_the_clients_follows(run: Run) -> None:
    async def main() -> None:
        async with rig(FakeCoordinator()) as edge:
            ann = edge.client()
            ann.say(id="c", connect={"clientId": "c1"})
            connected = (await ann.get("connected"))["connected"]
            assert connected["subscriptions"] == [{"subject": "/followed", "seq": "0"}]

    run(main())


def test_a_look_up_ends_with_its_session(run: Run) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        async with rig(coordinator) as edge:
            edge.point()
            ann, bob = edge.client(), edge.client()
            for client in (ann, bob):
                client.say(id="c", connect={"clientId": "c1"})
            ann.connection.on_closed(False, 1006)
            edge.point(c=await_address(coordinator))
            await bob.get("connected")
            assert sum(len(one.read_clients) for one in coordinator.requests) == 1
            assert list(edge.exchange.connections.values()) == [bob.connection]

    run(main())


def test_a_broken_stream_loses_nothing_and_sends_everything_again_in_order(run: Run) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        async with rig(coordinator) as edge:
            ann = edge.client()
            await ann.connect("/a")
            coordinator.freeze()
            for number in range(5):
                ann.say(id=str(number), publish={"subject": "/a", "text": str(number)})
            await asyncio.sleep(0.02)
            coordinator.break_streams()
            await ann.get("published", 5)
            await ann.get("message", 5)
            assert ann.seqs == [("LIVE", seq) for seq in range(1, 6)]
            texts = [one.message.content.text for one in coordinator.log.messages["/a"]]
            assert texts == ["0", "1", "2", "3", "4"]
            assert coordinator.hellos == [EDGE, EDGE]

    run(main())


def test_a_silent_stream_is_found_out_by_the_heartbeat(run: Run) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        async with rig(coordinator) as edge:
            ann = edge.client()
            await ann.connect("/a")
            coordinator.freeze()
            ann.say(id="2", publish={"subject": "/a", "text": "x"})
            await ann.get("published")
            assert len(coordinator.hellos) == 2

    run(main())


def test_what_was_missed_while_the_stream_was_broken_comes_before_what_follows(run: Run) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        async with rig(coordinator) as edge:
            ann = edge.client()
            await ann.connect("/a")
            coordinator.publish("/a", "1")
            await ann.get("message")
            coordinator.break_streams()
            for number in range(2, 6):
                coordinator.log.add("/a", str(number))
            await until(lambda: len(coordinator.hellos) == 2)
            await ann.get("message", 5)
            coordinator.publish("/a", "6")
            await ann.get("message", 6)
            assert ann.seqs == [("LIVE", seq) for seq in range(1, 7)]

    run(main())


def test_an_owner_that_is_none_yet_is_asked_again(run: Run) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        async with rig(coordinator) as edge:
            ann = edge.client()
            await ann.connect("/a")
            coordinator.not_owner = True
            ann.say(id="2", publish={"subject": "/a", "text": "x"})
            await until(lambda: not edge.exchange.hub.channel("/a").established)  # type: ignore[union-attr]
            coordinator.not_owner = False
            await ann.get("published")
            await ann.get("message")

    run(main())


def test_a_new_owner_takes_what_the_old_one_did_not_answer(run: Run) -> None:
    async def main() -> None:
        old = FakeCoordinator()
        async with rig(old) as edge:
            new = FakeCoordinator(old.log, epoch=9)
            ann = edge.client()
            await ann.connect("/a")
            old.freeze()
            for number in range(3):
                ann.say(id=str(number), publish={"subject": "/a", "text": str(number)})
            await asyncio.sleep(0.02)
            edge.point(9, d=await new.start())
            answer = await ann.get("published", 3)
            assert answer == {
                "id": "2",
                "published": {"seq": "3", "epoch": "9", "duplicate": False},
            }
            await ann.get("message", 3)
            assert [one["message"]["text"] for one in ann.told if "message" in one] == list("012")
            await new.stop()

    run(main())


def test_publishes_without_an_owner_are_held_for_a_bounded_time_and_number(run: Run) -> None:
    async def main() -> None:
        limits = ExchangeLimits(outbox=OutboxLimits(publishes_max=1, publish_wait_s=0.2))
        async with rig(FakeCoordinator(), limits) as edge:
            edge.exchange.set_owner(edge.exchange.hub.partition("/a"), None, 7)
            publish = client_pb2.Publish(subject="/a", text="x")
            held = asyncio.create_task(edge.backend.publish("bob", publish))
            await asyncio.sleep(0)
            full = await edge.backend.publish("bob", publish)
            assert isinstance(full, Refusal) and full.code == Code.OVERLOADED
            late = await held
            assert isinstance(late, Refusal) and late.code == Code.UNAVAILABLE
            edge.exchange.set_owner(edge.exchange.hub.partition("/a"), Target("c", 7), 7)
            assert await edge.backend.publish("bob", publish) == Accepted(1, 7, False)

    run(main())


def test_the_backend_reads_history_and_refuses_what_a_publish_frame_may_not_say(run: Run) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        async with rig(coordinator) as edge:
            for number in range(5):
                coordinator.log.add("/a", str(number))
            history = await edge.backend.read_messages("/a", 1, 2)
            assert isinstance(history, History)
            assert [one.seq for one in history.messages] == [2, 3] and history.head == 5
            both = client_pb2.Publish(subject="/a", retain=True, transient=True)
            bad = await edge.backend.publish("bob", both)
            assert isinstance(bad, Refusal) and bad.code == Code.ARGUMENT_INVALID

    run(main())


def test_a_disconnect_is_held_while_nobody_owns_the_user(run: Run) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        async with rig(coordinator) as edge:
            ann = edge.client()
            await ann.connect("/a")
            coordinator.publish("/a", "1")
            await ann.get("message")
            ann.say(ack={"positions": [{"subject": "/a", "seq": "1"}]})
            edge.point()
            ann.connection.on_closed(True, 1000)
            await asyncio.sleep(0.02)
            assert len(coordinator.log.events) == 1 and edge.exchange.connections
            edge.point(c=await_address(coordinator))
            await until(lambda: len(coordinator.log.events) == 2)
            event = coordinator.log.events[1]
            assert event.disconnected.clean and event.generation == 1
            assert [(one.subject, one.seq) for one in event.disconnected.acked] == [("/a", 1)]
            await until(lambda: not edge.exchange.connections)

    run(main())


def await_address(coordinator: FakeCoordinator) -> str:
    return f"127.0.0.1:{coordinator._server.port}"


def test_a_connect_whose_answer_was_lost_is_sent_again_and_recorded_once(run: Run) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        coordinator.mute_events = True
        async with rig(coordinator) as edge:
            ann = edge.client()
            ann.say(id="c", connect={"clientId": "c1", "subscriptions": {"list": []}})
            await until(lambda: coordinator.log.events)
            coordinator.mute_events = False
            coordinator.break_streams()
            assert (await ann.get("connected"))["connected"]["generation"] == "1"
            assert len(coordinator.log.events) == 1

    run(main())


def test_a_session_replaced_elsewhere_is_closed(run: Run) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        async with rig(coordinator) as edge:
            ann = edge.client()
            connected = await ann.connect("/a")
            coordinator.tell(replaced_sessions=["nobody", connected["sessionId"]])
            await until(lambda: ann.socket.closed)
            assert ann.socket.closed[0][0] == 4502

    run(main())


def test_a_lost_lease_closes_every_session_and_lets_nobody_in(run: Run) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        async with rig(coordinator) as edge:
            ann = edge.client()
            await ann.connect("/a")
            edge.exchange.end_term()
            assert ann.socket.closed[0][0] == 4004
            ann.connection.on_closed(False, 4004)
            late = edge.client()
            late.say(id="c", connect={"clientId": "c2"})
            assert late.socket.closed[0][0] == 4004
            edge.exchange.begin_term(EDGE + 1)
            await until(lambda: len(coordinator.log.events) == 2)
            assert coordinator.log.events[1].edge_id == EDGE
            fresh = edge.client()
            assert (await fresh.connect(client_id="c3"))["edgeId"] == str(EDGE + 1)

    run(main())


def test_marks_say_what_all_subscriptions_have_acknowledged(run: Run) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        async with rig(coordinator) as edge:
            ann, bob = edge.client(), edge.client()
            edge.begin_round()
            await ann.connect("/a")
            await bob.connect("/a", client_id="c2", token="bob")
            assert coordinator.log.events[0].round == 1
            pos = []
            for number in range(3):
                coordinator.publish("/a", str(number))
                pos.append(coordinator.log.messages["/a"][-1].pos)
            await ann.get("message", 3)
            await bob.get("message", 3)

            async def marked(expected: list[tuple[int, int]]) -> None:
                edge.begin_round()
                await until(lambda: len(coordinator.log.marks) >= len(expected))
                marks = [(one.round, one.pos) for one in coordinator.log.marks]
                assert marks == expected

            ann.say(ack={"positions": [{"subject": "/a", "seq": "3"}]})
            bob.say(ack={"positions": [{"subject": "/a", "seq": "1"}]})
            await marked([(2, pos[1] - 1)])
            bob.connection.on_closed(False, 1006)
            await until(lambda: len(coordinator.log.events) == 3)
            await marked([(2, pos[1] - 1)])  # bob owes until presence has processed his end
            coordinator.processed()
            await until(lambda: len(edge.exchange.marks) == 0)
            await marked([(2, pos[1] - 1), (4, pos[2])])

    run(main())


def test_an_end_that_is_turned_down_for_now_owes_until_it_is_processed(run: Run) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        async with rig(coordinator) as edge:
            ann = edge.client()
            await ann.connect("/a")
            edge.begin_round()
            coordinator.publish("/a", "never read")
            await ann.get("message")
            coordinator.overloaded = True
            ann.connection.on_closed(False, 1006)
            await until(lambda: coordinator.refused)
            await until(lambda: not len(edge.exchange.outbox))
            coordinator.overloaded = False
            edge.begin_round()
            await until(lambda: len(coordinator.log.events) == 2)
            edge.begin_round()
            pos = coordinator.log.messages["/a"][0].pos
            assert all(mark.pos < pos for mark in coordinator.log.marks)
            coordinator.processed()
            await until(lambda: len(edge.exchange.marks) == 0)
            edge.begin_round()
            await until(lambda: [mark.pos for mark in coordinator.log.marks if mark.pos >= pos])

    run(main())


def test_a_mark_that_is_turned_down_is_repeated(run: Run) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        async with rig(coordinator) as edge:
            ann = edge.client()
            await ann.connect("/a")
            coordinator.publish("/a", "x")
            await ann.get("message")
            ann.say(ack={"positions": [{"subject": "/a", "seq": "1"}]})
            coordinator.overloaded = True
            edge.begin_round()
            await until(lambda: coordinator.refused)
            coordinator.overloaded = False
            ann.say(id="p", publish={"subject": "/other", "text": ""})
            await ann.get("published")  # by then the mark has been answered
            assert not coordinator.log.marks
            edge.begin_round()
            await until(lambda: coordinator.log.marks)

    run(main())


def test_a_slow_socket_is_refilled_and_never_skips(run: Run) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        async with rig(coordinator) as edge:
            ann, bob = edge.client(), edge.client()
            await ann.connect("/a")
            await bob.connect("/a", client_id="c2", token="bob")
            ann.socket.room = 3
            for number in range(10):
                coordinator.publish("/a", str(number))
            await bob.get("message", 10)
            assert ann.seqs == [("LIVE", 1), ("LIVE", 2), ("LIVE", 3)]
            ann.socket.room, ann.socket.paused = None, False
            ann.connection.on_resumed()
            coordinator.publish("/a", "11")
            await ann.get("message", 11)
            assert ann.seqs == [("LIVE", seq) for seq in range(1, 12)]

    run(main())


def test_a_socket_slower_than_the_ring_is_closed(run: Run) -> None:
    async def main() -> None:
        limits = ExchangeLimits(hub=HubLimits(ring_messages=3))
        coordinator = FakeCoordinator()
        async with rig(coordinator, limits) as edge:
            ann, bob = edge.client(), edge.client()
            await ann.connect("/a")
            await bob.connect("/a", client_id="c2", token="bob")
            ann.socket.room = 1
            for number in range(10):
                coordinator.publish("/a", str(number))
            await bob.get("message", 10)
            ann.socket.room, ann.socket.paused = None, False
            ann.connection.on_resumed()
            assert ann.socket.closed[0][0] == 4001

    run(main())


def test_binary_and_malformed_frames_are_refused_and_the_session_goes_on(run: Run) -> None:
    async def main() -> None:
        async with rig(FakeCoordinator()) as edge:
            ann = edge.client()
            ann.connection.on_binary()
            ann.connection.on_text(b"{")
            errors = [one["error"]["code"] for one in ann.told]
            assert errors == ["FRAME_MALFORMED", "FRAME_MALFORMED"]
            await ann.connect("/a")

    run(main())


@pytest.mark.parametrize("part", ["session", "socket"])
def test_a_session_that_fails_is_closed_alone(run: Run, part: str) -> None:
    async def main() -> None:
        coordinator = FakeCoordinator()
        async with rig(coordinator) as edge:
            ann, bob = edge.client(), edge.client()
            await ann.connect("/a")
            await bob.connect("/a", client_id="c2", token="bob")
            if part == "session":
                ann.connection.session._vigil = None  # type: ignore[assignment]
            else:
                ann.socket.ping = None  # type: ignore[assignment, method-assign]
            ann.connection.on_sweep(asyncio.get_running_loop().time(), 3, True)
            assert ann.socket.closed[0][0] == 4004
            coordinator.publish("/a", "x")
            await bob.get("message")

    run(main())


def test_a_user_that_publishes_too_fast_by_http_is_told_when_to_go_on(run: Run) -> None:
    async def main() -> None:
        limits = ExchangeLimits(http=RateLimits(per_s=10, burst=2))
        async with rig(FakeCoordinator(), limits) as edge:
            publish = client_pb2.Publish(subject="/a", text="x")
            for _ in range(2):
                assert isinstance(await edge.backend.publish("bob", publish), Accepted)
            refused = await edge.backend.publish("bob", publish)
            assert isinstance(refused, Refusal) and refused.code == Code.RATE_LIMITED
            assert 0 < refused.retry_after_ms <= 100
            assert isinstance(await edge.backend.publish("ann", publish), Accepted)

    run(main())


def test_ends_that_were_turned_down_come_again_a_few_at_a_time(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "ENDS_PER_TICK", 2)

    async def main() -> None:
        async with rig(coordinator := FakeCoordinator()) as edge:
            clients = [edge.client() for _ in range(5)]
            for number, client in enumerate(clients):
                await client.connect(client_id=f"c{number}")
            coordinator.overloaded = True
            for client in clients:
                client.connection.on_closed(True, 1000)
            await until(lambda: edge.exchange.delayed == 5)
            now = asyncio.get_running_loop().time()
            edge.exchange.tick(now)
            assert edge.exchange.delayed == 5  # not before their time
            coordinator.overloaded = False
            edge.exchange.tick(now + 10)
            assert edge.exchange.delayed == 3
            edge.exchange.tick(now + 10)
            assert edge.exchange.delayed == 1
            await until(lambda: not edge.exchange.connections)
            assert len(coordinator.log.events) == 10 and edge.exchange.delayed == 0

    run(main())


def test_an_acknowledgement_of_many_subjects_costs_as_much_alone_as_on_a_publish(run: Run) -> None:
    async def main() -> None:
        async with rig(FakeCoordinator()) as edge:
            ann = edge.client()
            await ann.connect()
            subjects = [f"/{n:04}" for n in range(1_000)]
            ack = {"positions": [{"subject": one, "seq": "1"} for one in subjects]}
            charged = []
            for frame in (
                {"ack": ack},
                {"ack": ack, "publish": {"subject": "/a"}},
                {"unsubscribe": {"subjects": subjects}, "id": "2"},
            ):
                before = ann.socket.charged
                ann.say(**frame)
                charged.append(ann.socket.charged - before)
            assert charged[0] == charged[1] == 125  # of the 300 a second that a client may send
            assert charged[2] > 2 * 125  # any other list takes longer

    run(main())
