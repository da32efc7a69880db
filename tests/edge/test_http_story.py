"""Stories as server-sent events over a real server: told anew, interrupted, bounded, ended."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import jwt
import pytest
from onward.presence.v1 import presence_pb2
from prometheus_client import REGISTRY

from services.chassis.refusals import Code, refuse
from services.edge.gateway import GatewayLimits
from services.edge.http_story import StoryLimits
from tests.edge.door import SECRET, Door, open_door, run_on_uvloop
from tests.edge.test_http_api import bearer
from tests.waiting import until

STORY = "/v1/explain?user=ann&subject=/a"
QUICK = StoryLimits(heartbeat_s=0.05, retry_s=0.02, write_s=0.2, away_s=0.1)
State = presence_pb2.Outcome.State


def story(state: Any = State.NOTIFIED, text: str = "") -> presence_pb2.ExplainResponse:
    outcome = presence_pb2.Outcome(from_seq=1, to_seq=1, state=state, text=text)
    return presence_pb2.ExplainResponse(outcomes=[outcome])


class Events:
    """Reads a stream of events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> tuple[str, Any]:
        """The next event and its data; comments are passed over."""
        name = ""
        async for line in self.response.content:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                return name, json.loads(value)
        raise AssertionError("the stream has ended")


@asynccontextmanager
async def listening(door: Door, path: str = STORY, **headers: str) -> AsyncIterator[Events]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(door.url + path, headers={"Accept": "text/event-stream", **headers}) as got,
    ):
        assert got.status == 200, await got.text()
        assert got.content_type == "text/event-stream"
        yield Events(got)


async def watch_of(door: Door, number: int = 0) -> Any:
    await until(lambda: len(door.backend.watches) > number)
    return door.backend.watches[number]


async def refused(door: Door, path: str = STORY, **headers: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(door.url + path, headers={"Accept": "text/event-stream", **headers}) as got,
    ):
        return got.status, (await got.json())["code"]


def ended(reason: str) -> float:
    name = "onward_edge_story_streams_ended_total"
    return REGISTRY.get_sample_value(name, {"reason": reason}) or 0.0


def test_each_change_of_the_story_is_told_as_plain_explain_tells_it() -> None:
    async def main() -> None:
        async with open_door() as door, listening(door, STORY + "&seq=1") as events:
            watch = await watch_of(door)
            watch.put_nowait(story(State.ANSWERED_FOR))
            name, told = await events.next()
            assert (name, told["outcomes"][0]["state"]) == ("story", "ANSWERED_FOR")
            watch.put_nowait(story(State.NOTIFIED))
            _, told = await events.next()
            async with (
                aiohttp.ClientSession() as session,
                session.get(door.url + STORY) as plain,
            ):
                assert told == await plain.json()
            [asked, _] = door.backend.asked
            assert (asked.user, asked.subject, asked.seq, asked.limit) == ("ann", "/a", 1, 100)

    run_on_uvloop(main())


def test_presence_away_is_said_once_and_the_story_comes_back_by_itself() -> None:
    async def main() -> None:
        async with open_door(stories=QUICK) as door, listening(door) as events:
            for number in range(3):
                (await watch_of(door, number)).put_nowait(
                    refuse(Code.UNAVAILABLE, "Not there.", 500)
                )
            (await watch_of(door, 3)).put_nowait(story())
            assert await events.next() == (
                "unavailable",
                {"code": "UNAVAILABLE", "message": "Not there.", "retryAfterMs": 500},
            )
            assert (await events.next())[0] == "story"

    run_on_uvloop(main())


def test_a_quiet_stream_shows_that_it_lives() -> None:
    async def main() -> None:
        async with open_door(stories=QUICK) as door, listening(door) as events:
            lines = [await events.response.content.readline() for _ in range(6)]
            assert lines[0].startswith(b"retry: ")
            assert lines.count(b": \n") == 2

    run_on_uvloop(main())


def test_a_story_that_presence_refuses_ends_the_stream() -> None:
    async def main() -> None:
        async with open_door() as door, listening(door) as events:
            (await watch_of(door)).put_nowait(refuse(Code.ARGUMENT_INVALID, "No."))
            name, told = await events.next()
            assert (name, told["code"]) == ("refused", "ARGUMENT_INVALID")
            assert await events.response.content.read() == b"\n"

    run_on_uvloop(main())


def test_there_are_only_so_many_streams_and_one_that_ends_makes_room() -> None:
    async def main() -> None:
        async with open_door(stories=StoryLimits(streams_max=1)) as door:
            async with listening(door):
                assert await refused(door) == (503, "OVERLOADED")
            await until(lambda: door.backend.watches_ended == 1)
            async with listening(door):
                pass

    run_on_uvloop(main())


def test_one_user_has_only_so_many_streams_and_an_administrator_more() -> None:
    async def main() -> None:
        limits = StoryLimits(user_streams_max=1)
        async with open_door(anonymous=False, stories=limits) as door:
            own = bearer("ann")
            async with listening(door, **own):
                assert await refused(door, **own) == (503, "OVERLOADED")
                admin = bearer("backend", admin=True)
                async with listening(door, **admin), listening(door, **admin):
                    pass

    run_on_uvloop(main())


def test_a_reader_that_does_not_read_is_cut_and_holds_one_story_at_most() -> None:
    async def main() -> None:
        async with open_door(GatewayLimits(send_buffer_bytes=4096), stories=QUICK) as door:
            before = ended("slow")
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", door.gateway.port, limit=1024
            )
            writer.write(
                f"GET {STORY} HTTP/1.1\r\nHost: localhost\r\n"
                "Accept: text/event-stream\r\n\r\n".encode()
            )
            watch = await watch_of(door)

            async def tell() -> bool:
                watch.put_nowait(story(text="x" * 500_000))
                await asyncio.sleep(0.01)
                return ended("slow") > before

            await until(tell, deadline_s=20)
            await until(lambda: door.backend.watches_ended == 1)
            del reader
            writer.close()

    run_on_uvloop(main())


def test_a_drain_tells_readers_to_come_back_and_ends_their_streams() -> None:
    async def main() -> None:
        async with open_door(stories=QUICK) as door, listening(door) as events:
            await watch_of(door)
            draining = asyncio.create_task(door.gateway.drain())
            name, told = await events.next()
            assert name == "goingAway"
            assert 0 <= told["reconnectAfterMs"] <= 100
            assert await events.response.content.read() == b"\n"
            await draining
            assert door.backend.watches_ended == 1

    run_on_uvloop(main())


def test_a_stream_ends_when_the_token_does() -> None:
    async def main() -> None:
        claims = {"sub": "ann", "exp": int(time.time()) + 2}
        token = jwt.encode(claims, SECRET, algorithm="HS256")
        async with (
            open_door(anonymous=False) as door,
            listening(door, Authorization=f"Bearer {token}") as events,
        ):
            name, told = await events.next()
            assert (name, told["code"]) == ("refused", "TOKEN_EXPIRED")
            assert await events.response.content.read() == b"\n"

    run_on_uvloop(main())


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/explain?user=ann", 400, "SUBJECT_INVALID"),
        ("/v1/explain?subject=/a", 400, "ARGUMENT_INVALID"),
        (STORY + "&limit=101", 400, "ARGUMENT_INVALID"),
        (STORY + "&seq=x", 400, "ARGUMENT_INVALID"),
    ],
)
def test_a_bad_question_is_refused_before_anything_is_streamed(
    path: str, status: int, code: str
) -> None:
    async def main() -> None:
        async with open_door() as door:
            assert await refused(door, path) == (status, code)
            assert not door.backend.watches

    run_on_uvloop(main())


def test_another_users_story_needs_the_claim_admin() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            for sub, admin, expected in (("bob", False, 403), ("bob", True, 200)):
                claims = {"sub": sub, "exp": int(time.time()) + 60, "onward": {"admin": admin}}
                token = jwt.encode(claims, SECRET, algorithm="HS256")
                header = {"Authorization": f"Bearer {token}"}
                if expected == 200:
                    async with listening(door, STORY, **header):
                        pass
                else:
                    assert await refused(door, STORY, **header) == (403, "FORBIDDEN")
            assert await refused(door) == (401, "TOKEN_INVALID")

    run_on_uvloop(main())


def test_a_bug_costs_one_stream() -> None:
    async def main() -> None:
        async with open_door() as door:
            door.backend.fault = RuntimeError("a secret word")
            async with listening(door) as events:
                name, told = await events.next()
                assert (name, told["message"]) == ("refused", "This server had a fault.")

    run_on_uvloop(main())
