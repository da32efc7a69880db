"""The client against an edge whose answers the tests write, over real sockets."""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from onward_sdk import (
    Client,
    Closed,
    Connected,
    Disconnected,
    Event,
    Identity,
    Options,
    Refused,
    Resynced,
    Status,
    Subscription,
    Synced,
    Unreachable,
)
from onward_sdk.effects import Send
from onward_sdk.protocol import ack_frame

from tests.sdk.scripted_edge import ScriptedEdge, Visit, scripted_edge
from tests.waiting import until

Run = Callable[[Coroutine[Any, Any, None]], None]

RECOVERED = {"subject": "/a", "recovered": True}


def token(lives_s: float) -> str:
    """A JWT as far as the client looks into it."""
    claims = json.dumps({"sub": "ann", "exp": time.time() + lives_s}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.c2ln"


class Seen:
    """What a client told its application, and what it gave to be kept."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.kept: list[Identity] = []

    def texts(self) -> list[str]:
        return [event.text for event in self.events if hasattr(event, "text")]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def client_of(edge: ScriptedEdge, seen: Seen, position: int | None = 5, **options: Any) -> Client:
    positions = {} if position is None else {"/a": position}
    fields = {"ack_delay_s": 0.0} | options
    return Client(
        [edge.url],
        user="ann",
        identity=Identity("c", 0, "log-1", positions),
        options=Options(**fields),
        on_message=seen.events.append,
        on_status=seen.events.append,
        keep=seen.kept.append,
        chance=lambda: 0.1,
    )


async def opened(edge: ScriptedEdge, client: Client, seq: int = 5) -> Visit:
    await client.subscribe("/a")
    connecting = asyncio.create_task(client.connect())
    visit = await edge.visit()
    await visit.accept(RECOVERED | {"seq": str(seq)})
    await connecting
    return visit


def test_messages_come_in_order_once_and_are_acknowledged(run: Run) -> None:
    async def story() -> None:
        seen = Seen()
        async with scripted_edge() as edge:
            client = client_of(edge, seen)
            visit = await opened(edge, client)
            assert visit.user == "ann"
            for seq in (6, 6, 7):
                await visit.message("/a", seq)
            acked = 0
            while acked < 7:
                (position,) = (await visit.next("ack"))["ack"]["positions"]
                acked = int(position["seq"])
                assert seen.kept[-1].positions == {"/a": acked}, "kept before acknowledged"
            assert seen.texts() == ["m6", "m7"]
            await client.disconnect()
            assert await visit.end() == 1000

    run(story())


def test_the_ack_waits_until_the_handler_has_returned(run: Run) -> None:
    async def story() -> None:
        may_return = asyncio.Event()
        seen = Seen()

        async def slow(message: Event) -> None:
            seen.events.append(message)
            await may_return.wait()

        async with scripted_edge() as edge:
            client = client_of(edge, seen)
            client._on_message = slow
            visit = await opened(edge, client)
            await visit.message("/a", 6)
            await until(seen.texts)
            publishing = asyncio.create_task(client.publish("/b", "x"))
            assert "ack" not in await visit.next("publish")
            may_return.set()
            assert await visit.next("ack") == {
                "ack": {"positions": [{"subject": "/a", "seq": "6"}]}
            }
            publishing.cancel()
            await client.disconnect()

    run(story())


def test_after_a_lost_connection_everything_since_is_recovered(run: Run) -> None:
    async def story() -> None:
        seen = Seen()
        async with scripted_edge() as edge:
            client = client_of(edge, seen)
            visit = await opened(edge, client)
            await visit.message("/a", 6)
            await visit.next("ack")
            await visit.cut()
            visit = await edge.visit()
            connect = await visit.accept(RECOVERED | {"seq": "8"})
            assert connect["lastGeneration"] == "1"
            assert connect["subscriptions"] == {"list": [{"subject": "/a", "afterSeq": "6"}]}
            await visit.message("/a", 6, "RECOVERED")
            await visit.message("/a", 7, "RECOVERED")
            await visit.message("/a", 8, "RECOVERED")
            await visit.send({"synced": {"subject": "/a", "seq": "8"}})
            assert await until(lambda: seen.of(Synced)) == [Synced("/a", 8, 2)]
            assert seen.texts() == ["m6", "m7", "m8"]
            assert [one.will_retry for one in seen.of(Disconnected)] == [True]
            await client.disconnect()

    run(story())


def test_a_hole_is_recovered_before_anything_newer_is_shown(run: Run) -> None:
    async def story() -> None:
        seen = Seen()
        async with scripted_edge() as edge:
            client = client_of(edge, seen)
            visit = await opened(edge, client)
            await visit.message("/a", 7)
            frame = await visit.next("subscribe")
            assert frame["subscribe"] == {"subscriptions": [{"subject": "/a", "afterSeq": "5"}]}
            states = [RECOVERED | {"seq": "7"}]
            await visit.send({"id": frame["id"], "subscribed": {"subscriptions": states}})
            await visit.message("/a", 6, "RECOVERED")
            await visit.message("/a", 7, "RECOVERED")
            await until(lambda: seen.texts() == ["m6", "m7"])
            await client.disconnect()

    run(story())


def test_a_recovery_that_is_not_possible_is_told(run: Run) -> None:
    async def story() -> None:
        seen = Seen()
        async with scripted_edge() as edge:
            client = client_of(edge, seen)
            await client.subscribe("/a")
            connecting = asyncio.create_task(client.connect())
            visit = await edge.visit()
            lost = {"subject": "/a", "seq": "90", "recovered": False, "reason": "TRIMMED"}
            await visit.accept(lost)
            await connecting
            await until(lambda: seen.of(Resynced))
            assert seen.of(Resynced) == [Resynced("/a", 90, "TRIMMED", 6, 90, "log-1")]
            assert (await visit.next("ack"))["ack"]["positions"][0]["seq"] == "90"
            await client.disconnect()

    run(story())


def test_a_stale_session_connects_with_the_number_given(run: Run) -> None:
    async def story() -> None:
        seen = Seen()
        async with scripted_edge() as edge:
            client = client_of(edge, seen)
            connecting = asyncio.create_task(client.connect())
            visit = await edge.visit()
            frame = await visit.next("connect")
            error = {"code": "STALE_SESSION", "message": "Stale.", "generation": "8"}
            await visit.send({"id": frame["id"], "error": error})
            assert (await visit.accept())["lastGeneration"] == "8"
            await connecting
            await until(lambda: seen.of(Connected))
            assert seen.of(Connected)[0].generation == 9
            await client.disconnect()

    run(story())


def test_a_replaced_client_comes_back_under_another_id(run: Run) -> None:
    async def story() -> None:
        seen = Seen()
        async with scripted_edge() as edge:
            client = client_of(edge, seen)
            visit = await opened(edge, client)
            await visit.socket.close(code=4502)
            visit = await edge.visit()
            connect = await visit.accept(RECOVERED | {"seq": "5"})
            assert connect["clientId"] not in ("", "c")
            assert connect["lastGeneration"] == "0"
            assert connect["subscriptions"] == {"list": [{"subject": "/a", "afterSeq": "5"}]}
            await client.disconnect()

    run(story())


def test_a_final_close_code_ends_the_client(run: Run) -> None:
    async def story() -> None:
        seen = Seen()
        async with scripted_edge() as edge:
            client = client_of(edge, seen)
            visit = await opened(edge, client)
            await visit.socket.close(code=4501)
            with pytest.raises(Closed, match="violation"):
                await client.wait_closed()
            await until(lambda: [one.will_retry for one in seen.of(Disconnected)] == [False])
            assert edge.visits.empty()

    run(story())


def test_publishes_without_an_answer_are_sent_again_in_order(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            client = client_of(edge, Seen())
            visit = await opened(edge, client)
            publishing = [asyncio.create_task(client.publish("/a", text)) for text in "xyz"]
            before = [(await visit.next("publish"))["publish"] for _ in "xyz"]
            await visit.cut()
            visit = await edge.visit()
            await visit.accept(RECOVERED | {"seq": "5"})
            for seq in (6, 7, 8):
                frame = await visit.next("publish")
                assert frame["publish"] == before[seq - 6]
                await visit.send({"id": frame["id"], "published": {"seq": str(seq)}})
            assert [one.seq for one in await asyncio.gather(*publishing)] == [6, 7, 8]
            await client.disconnect()

    run(story())


def test_a_refused_publish_raises_and_the_connection_stays(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            client = client_of(edge, Seen())
            visit = await opened(edge, client)
            publishing = asyncio.create_task(client.publish("/b", "x"))
            frame = await visit.next("publish")
            error = {"code": "RATE_LIMITED", "message": "Slower.", "retryAfterMs": 40}
            await visit.send({"id": frame["id"], "error": error})
            with pytest.raises(Refused) as refused:
                await publishing
            assert (refused.value.code, refused.value.retry_after_ms) == ("RATE_LIMITED", 40)
            activity = asyncio.create_task(client.set_activity(False))
            frame = await visit.next("setActivity")
            await visit.send({"id": frame["id"], "done": {}})
            await activity
            await client.disconnect()

    run(story())


def test_a_refused_connect_raises(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            client = client_of(edge, Seen())
            connecting = asyncio.create_task(client.connect())
            visit = await edge.visit()
            frame = await visit.next("connect")
            error = {"code": "TOKEN_INVALID", "message": "No token."}
            await visit.send({"id": frame["id"], "error": error})
            with pytest.raises(Refused, match="TOKEN_INVALID: No token"):
                await connecting
            assert await visit.end() == 1000

    run(story())


def test_an_unreachable_edge_raises_unless_the_client_is_patient(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            gone = edge.url
        with pytest.raises(Unreachable, match=gone):
            await Client([gone], user="ann").connect()
        client = Client([gone], user="ann", chance=lambda: 0.1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.connect(patient=True)
        await client.disconnect()
        await client.wait_closed()

    run(story())


def test_what_is_no_edge_is_named(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            with pytest.raises(Unreachable, match="HTTP 404"):
                await Client([edge.url + "/elsewhere"], user="ann").connect()

    run(story())


def test_a_second_edge_is_tried_when_the_first_fails(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge, scripted_edge() as other:
            gone = "http://127.0.0.1:1"
            client = Client([gone, edge.url], user="ann", chance=lambda: 0.0)
            connecting = asyncio.create_task(client.connect())
            await (await edge.visit()).accept()
            await connecting
            await client.disconnect()
            assert other.visits.empty()

    run(story())


def test_an_edge_that_goes_away_is_left_cleanly_for_another(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            seen = Seen()
            client = client_of(edge, seen, ack_delay_s=30.0)
            visit = await opened(edge, client)
            await visit.message("/a", 6)
            await until(lambda: seen.kept[-1].positions == {"/a": 6})
            await visit.send({"goingAway": {"reconnectAfterMs": 10}})
            assert (await visit.next("ack"))["ack"]["positions"][0]["seq"] == "6"
            assert await visit.end() == 1000
            await (await edge.visit()).accept(RECOVERED | {"seq": "6"})
            await client.disconnect()

    run(story())


def test_a_failing_handler_ends_the_client_and_leaves_its_message_unacknowledged(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            seen = Seen()
            client = client_of(edge, seen)
            client._on_message = lambda message: 1 // (message.seq - 7)
            visit = await opened(edge, client)
            await visit.message("/a", 7 - 1)
            assert (await visit.next("ack"))["ack"]["positions"][0]["seq"] == "6"
            await visit.message("/a", 7)
            with pytest.raises(ZeroDivisionError):
                await client.wait_closed()
            assert await visit.end() == 1000
            assert seen.kept[-1].positions == {"/a": 6}

    run(story())


def test_events_can_be_iterated_and_are_handled_when_the_next_is_asked_for(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            client = Client([edge.url], user="ann", options=Options(ack_delay_s=0))
            await client.subscribe(Subscription("/a", after_seq=5))
            connecting = asyncio.create_task(client.connect())
            visit = await edge.visit()
            await visit.accept(RECOVERED | {"seq": "5"})
            await connecting
            await visit.message("/a", 6)
            await visit.message("/a", 7)
            texts = []
            async for message in client.messages():
                texts.append(message.text)
                if len(texts) == 2:
                    assert (await visit.next("ack"))["ack"]["positions"][0]["seq"] == "6"
                    await client.disconnect()
            assert texts == ["m6", "m7"]

    run(story())


def test_logout_is_asked_for_and_closes(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            seen = Seen()
            client = client_of(edge, seen)
            visit = await opened(edge, client)
            leaving = asyncio.create_task(client.logout())
            frame = await visit.next("logout")
            await visit.send({"id": frame["id"], "done": {}})
            await visit.socket.close(code=4503)
            await leaving
            await client.wait_closed()
            assert seen.kept[-1].positions == {}

    run(story())


def test_limits_are_known_once_the_server_told_them(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            client = client_of(edge, Seen())
            connecting = asyncio.create_task(client.connect())
            limits = {"contentBytesMax": 10, "dedupeWindowMs": "5000", "publishesPerS": 3}
            await (await edge.visit()).accept(limits=limits)
            await connecting
            assert (client.limits.content_bytes_max, client.limits.publishes_per_s) == (10, 3)
            with pytest.raises(Refused, match="CONTENT_TOO_LARGE"):
                await client.publish("/a", "x" * 11)
            await client.disconnect()

    run(story())


def test_a_token_about_to_expire_is_renewed_from_its_source(run: Run) -> None:
    async def story() -> None:
        tokens = [token(3), token(3600)]
        given: list[str] = []

        async def source() -> str:
            given.append(tokens[len(given)])
            return given[-1]

        async with scripted_edge() as edge:
            client = Client([edge.url], token=source, options=Options(token_notice_s=30.0))
            connecting = asyncio.create_task(client.connect())
            visit = await edge.visit()
            assert (await visit.accept())["token"] == tokens[0]
            await connecting
            frame = await visit.next("refresh")
            assert frame["refresh"] == {"token": tokens[1]}
            await visit.send({"id": frame["id"], "done": {}})
            await client.disconnect()

    run(story())


def test_an_expired_session_comes_back_with_a_newer_token(run: Run) -> None:
    async def story() -> None:
        count = 0

        async def source() -> str:
            nonlocal count
            count += 1
            return f"token {count}"

        async with scripted_edge() as edge:
            client = Client([edge.url], token=source, chance=lambda: 0.9)
            connecting = asyncio.create_task(client.connect())
            visit = await edge.visit()
            await visit.accept()
            await connecting
            await visit.socket.close(code=4003)
            assert (await (await edge.visit()).accept())["token"] == "token 2"
            await client.disconnect()

    run(story())


def test_a_source_of_tokens_that_fails_for_a_while_does_not_end_the_client(run: Run) -> None:
    async def story() -> None:
        answers: list[str | Exception] = ["1", ConnectionError("down"), TimeoutError(), "2"]

        async def source() -> str:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        reasons: list[str] = []

        def on_status(status: Status) -> None:
            if isinstance(status, Disconnected):
                reasons.append(status.reason)

        async with scripted_edge() as edge:
            client = Client([edge.url], token=source, on_status=on_status, chance=lambda: 0.0)
            connecting = asyncio.create_task(client.connect())
            visit = await edge.visit()
            await visit.accept()
            await connecting
            await visit.socket.close(code=4003)
            assert (await (await edge.visit()).accept())["token"] == "2"
            await client.disconnect()
        assert reasons[1:] == [
            "no token could be had: down",
            "no token could be had: no answer in time",
        ]

    run(story())


def test_a_source_of_tokens_that_fails_at_first_ends_the_client_with_its_error(run: Run) -> None:
    async def story() -> None:
        async def source() -> str:
            raise LookupError("no such key")

        async with scripted_edge() as edge:
            with pytest.raises(LookupError):
                await Client([edge.url], token=source).connect()

    run(story())


def test_a_refused_refresh_raises_and_the_former_token_stays(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            client = Client([edge.url], token="good", chance=lambda: 0.0)
            connecting = asyncio.create_task(client.connect())
            visit = await edge.visit()
            await visit.accept()
            await connecting
            refreshing = asyncio.create_task(client.refresh("bad"))
            frame = await visit.next("refresh")
            error = {"code": "TOKEN_INVALID", "message": "No."}
            await visit.send({"id": frame["id"], "error": error})
            with pytest.raises(Refused, match="TOKEN_INVALID"):
                await refreshing
            await visit.cut()
            assert (await (await edge.visit()).accept())["token"] == "good"
            await client.disconnect()

    run(story())


def test_an_edge_without_room_is_asked_again_when_it_says(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            seen = Seen()
            edge.turn_away = 1
            client = client_of(edge, seen)
            connecting = asyncio.create_task(client.connect())
            await (await edge.visit()).accept()
            await connecting
            (turned_away,) = seen.of(Disconnected)
            assert "no room" in turned_away.reason
            assert turned_away.retry_in_s == pytest.approx(1.02)
            await client.disconnect()

    run(story())


def test_acknowledgements_that_wait_to_be_written_join(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            client = client_of(edge, Seen())
            driver = client._driver
            for seq in range(1_000):
                driver.act([Send({"ack": ack_frame({"/a": seq, f"/{seq % 3}": seq})})])
            driver.act([Send({"id": "1", "logout": {}})])
            joined, logout = driver._outbox
            assert isinstance(joined, Send)
            assert joined.frame == {"ack": ack_frame({"/a": 999, "/0": 999, "/1": 997, "/2": 998})}
            assert logout == Send({"id": "1", "logout": {}})

    run(story())
