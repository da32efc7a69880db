"""What is asked of others is bounded, waits its turn, and is asked again."""

import asyncio
import json
from typing import Any

import pytest

from services.chassis.cluster import Keys
from services.chassis.etcd import KeyValue, Snapshot
from services.chassis.refusals import Code, refuse
from services.edge import lookups
from tests.edge.fake_coordinator import FakeCoordinator
from tests.edge.test_exchange import Run, rig
from tests.waiting import until


class Gate:
    """Holds reads of the log back, and counts those under way."""

    def __init__(self, edge: Any) -> None:
        self.open = asyncio.Event()
        self.under_way = self.most = self.reads = 0
        self.empty = 0  # so many more answers hold nothing
        self._messages = edge.readers.messages
        edge.readers.messages = self.messages

    async def messages(self, *asked: Any) -> Any:
        self.under_way += 1
        self.reads += 1
        self.most = max(self.most, self.under_way)
        await self.open.wait()
        self.under_way -= 1
        answer = await self._messages(*asked)
        if self.empty:
            self.empty -= 1
            del answer.messages[:]
        return answer


def recovering(subjects: int) -> list[dict[str, str]]:
    return [{"subject": f"/{number}", "afterSeq": "1"} for number in range(subjects)]


def with_messages(subjects: int) -> FakeCoordinator:
    """Each subject has two messages."""
    coordinator = FakeCoordinator()
    for number in range(subjects):
        for text in ("one", "two"):
            coordinator.log.add(f"/{number}", text)
    return coordinator


def test_so_many_reads_are_under_way_at_once_and_the_others_wait(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "READS_MAX", 2)

    async def main() -> None:
        async with rig(with_messages(5)) as edge:
            gate, ann = Gate(edge), edge.client()
            connecting = asyncio.create_task(ann.connect(*recovering(5)))
            await until(lambda: gate.under_way == 2)
            asked = edge.exchange.lookups
            assert (asked.reading, asked.waiting) == (2, 3)
            gate.open.set()
            await connecting
            await until(lambda: not asked.reading)
            assert gate.most == 2 and gate.reads == 5
            assert (asked.waiting, asked.turned_away) == (0, 0)
            await ann.get("message", 5)

    run(main())


def test_a_read_beyond_those_that_may_wait_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "READS_MAX", 1)
    monkeypatch.setattr(lookups, "WAITING_MAX", 1)

    async def main() -> None:
        async with rig(with_messages(3)) as edge:
            gate, ann = Gate(edge), edge.client()
            await ann.connect()
            ann.say(id="2", subscribe={"subscriptions": recovering(3)})
            error = await ann.get("error")
            assert (error["id"], error["error"]["code"]) == ("2", "UNAVAILABLE")
            assert edge.exchange.lookups.turned_away == 1
            gate.open.set()
            await until(lambda: not edge.exchange.lookups.reading)
            ann.say(id="3", subscribe={"subscriptions": recovering(1)})
            assert (await ann.get("subscribed"))["id"] == "3"

    run(main())


def test_nobody_is_read_for_who_has_gone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "READS_MAX", 1)

    async def main() -> None:
        async with rig(with_messages(4)) as edge:
            gate, ann = Gate(edge), edge.client()
            connect = {"clientId": "c1", "subscriptions": {"list": recovering(4)}}
            ann.say(id="c", connect=connect)
            await until(lambda: edge.exchange.lookups.waiting == 3 and gate.under_way)
            ann.connection.on_closed(True, 1000)
            gate.open.set()
            await until(lambda: not edge.exchange.lookups.reading)
            assert gate.reads == 1

    run(main())


def test_a_hole_that_a_read_does_not_help_is_read_again_after_a_pause(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "_FILL_RETRY_S", 0.05)

    async def main() -> None:
        async with rig(coordinator := FakeCoordinator()) as edge:
            gate, ann = Gate(edge), edge.client()
            gate.open.set()
            gate.empty = 2
            await ann.connect("/a")
            coordinator.log.add("/a", "1")
            loop = asyncio.get_running_loop()
            began = loop.time()
            coordinator.publish("/a", "2")
            await ann.get("message", 2)
            assert gate.reads == 3 and loop.time() - began >= 0.1
            assert ann.seqs == [("LIVE", 1), ("LIVE", 2)]

    run(main())


def test_too_many_questions_for_lost_endpoints_are_not_asked_now(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "GONE_MAX", 1)

    async def main() -> None:
        async with rig(FakeCoordinator()) as edge:
            answering = asyncio.Event()

            async def gone(user: str, client_id: str) -> list[str]:
                await answering.wait()
                return ["fcm:1"]

            edge.readers.gone_endpoints = gone  # type: ignore[method-assign]
            first, second = edge.client(), edge.client()
            first.say(id="c", connect={"clientId": "c1", "subscriptions": {"list": []}})
            connected = await second.connect(client_id="c2")
            assert connected["endpointsGone"] == []
            assert edge.exchange.lookups.turned_away == 1
            answering.set()
            assert (await first.get("connected"))["connected"]["endpointsGone"] == ["fcm:1"]
            assert edge.exchange.lookups.asking_gone == 0

    run(main())


def test_a_channel_to_who_is_there_no_longer_is_closed(run: Run) -> None:
    async def main() -> None:
        async with rig(coordinator := FakeCoordinator()) as edge:
            coordinator.log.add("/a", "1")
            await edge.backend.read_messages("/a", 0, 1)
            assert len(edge.readers) == 1
            edge.directory.apply(edge.nobody())
            assert len(edge.readers) == 0
            address = json.dumps({"address": "127.0.0.1:1"})
            edge.directory.apply(Snapshot(3, [KeyValue(Keys().coordinator("d"), address, 1, 1, 1)]))
            assert len(edge.readers) == 0

    run(main())


def test_a_replaced_log_leaves_no_watch_of_the_former_behind(run: Run) -> None:
    async def main() -> None:
        async with rig(coordinator := FakeCoordinator()) as edge:
            ann = edge.client()
            await ann.connect("/a")
            edge.exchange.place.log_id = "former"
            coordinator.break_streams()
            await until(lambda: ann.socket.closed)
            assert ann.socket.closed[0][0] == 4004
            await until(lambda: edge.exchange.place.log_id == "L")
            ann.connection.on_closed(False, 4004)
            bob = edge.client()
            await bob.connect("/b", client_id="c2")
            watched = [watch.subject for one in coordinator.requests for watch in one.watches]
            assert watched == ["/a", "/b"]
            assert edge.exchange.hub.subscriptions == 1 and len(edge.exchange.hub) == 1

    run(main())


def test_what_is_read_for_sessions_that_are_not_durable_yet_is_bounded(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "FORMING_BYTES_MAX", 1)

    async def main() -> None:
        async with rig(coordinator := with_messages(2)) as edge:
            ann, bob = edge.client(), edge.client()
            await bob.connect(client_id="c2")
            coordinator.mute_events = True
            connect = {"clientId": "c1", "subscriptions": {"list": recovering(1)}}
            ann.say(id="c", connect=connect)
            await until(lambda: edge.exchange.lookups.forming_bytes > 1)
            bob.say(id="2", subscribe={"subscriptions": recovering(1)})
            error = await bob.get("error")
            assert (error["id"], error["error"]["code"]) == ("2", "UNAVAILABLE")
            coordinator.mute_events = False
            coordinator.break_streams()
            await ann.get("synced")
            assert edge.exchange.lookups.forming_bytes == 0
            bob.say(id="3", subscribe={"subscriptions": recovering(1)})
            await bob.get("synced")
            ann.connection.on_closed(True, 1000)
            assert edge.exchange.lookups.forming_bytes == 0

    run(main())


def test_a_session_that_goes_while_it_forms_gives_back_what_was_read_for_it(run: Run) -> None:
    async def main() -> None:
        async with rig(coordinator := with_messages(1)) as edge:
            ann = edge.client()
            await ann.connect()
            coordinator.mute_events = True
            ann.say(id="2", subscribe={"subscriptions": recovering(1)})
            await until(lambda: edge.exchange.lookups.forming_bytes)
            ann.connection.on_closed(True, 1000)
            assert edge.exchange.lookups.forming_bytes == 0

    run(main())


def test_only_what_a_session_keeps_of_what_was_read_counts(run: Run) -> None:
    async def main() -> None:
        async with rig(coordinator := FakeCoordinator()) as edge:
            for _ in range(30):
                coordinator.log.add("/a", "x" * 60_000)
            ann = edge.client()
            await ann.connect()
            coordinator.mute_events = True
            ann.say(id="2", subscribe={"subscriptions": [{"subject": "/a", "afterSeq": "1"}]})
            # More than a recovery may be: it is dropped before the event is formed.
            await until(lambda: any(one.HasField("followed") for one in coordinator.log.events))
            assert edge.exchange.lookups.forming_bytes == 0

    run(main())


def test_what_is_read_after_its_frame_was_refused_does_not_count(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "READS_MAX", 1)

    async def main() -> None:
        async with rig(with_messages(3)) as edge:
            gate, ann = Gate(edge), edge.client()
            await ann.connect()
            messages = edge.readers.messages
            refusals = [refuse(Code.UNAVAILABLE, "No.")]

            async def at_first_refused(*asked: Any) -> Any:
                read = await messages(*asked)
                return refusals.pop() if refusals else read

            edge.readers.messages = at_first_refused  # type: ignore[method-assign]
            gate.open.set()
            ann.say(id="2", subscribe={"subscriptions": recovering(3)})
            assert (await ann.get("error"))["error"]["code"] == "UNAVAILABLE"
            await until(lambda: not edge.exchange.lookups.reading)
            assert gate.reads == 3 and edge.exchange.lookups.forming_bytes == 0

    run(main())


def test_the_backlogs_of_a_replaced_log_are_not_counted_in_the_next(run: Run) -> None:
    async def main() -> None:
        async with rig(coordinator := with_messages(1)) as edge:
            ann = edge.client()
            ann.socket.paused = True
            ann.say(id="c", connect={"clientId": "c1", "subscriptions": {"list": recovering(1)}})
            await until(lambda: edge.exchange.hub.backlog_bytes)
            edge.exchange.place.log_id = "former"
            coordinator.break_streams()
            await until(lambda: edge.exchange.place.log_id == "L")
            ann.connection.on_closed(False, 4004)
            await until(lambda: not edge.exchange.connections)
            assert edge.exchange.hub.backlog_bytes == 0

    run(main())
