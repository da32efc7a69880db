"""Who is there, over HTTP: who may ask, and the answer, once and as a stream."""

import json

import aiohttp
import pytest
from onward.presence.v1 import presence_pb2 as pb

from services.chassis.refusals import Code, refuse
from tests.edge.door import open_door, run_on_uvloop
from tests.edge.test_http_api import bearer, call

ANN = bearer("ann", subscribe=["/chat/*"])
ADMIN = bearer("backend", admin=True)
THERE = pb.GetPresenceResponse(
    clients=[pb.PresentClient(user="ann", client_id="c", state="online", active=True)], present=1
)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "ARGUMENT_INVALID"),
        ("subject=/chat/1&user=ann", 400, "ARGUMENT_INVALID"),
        ("subject=chat", 400, "SUBJECT_INVALID"),
        ("user=", 400, "ARGUMENT_INVALID"),
        ("subject=/chat/1&limit=1001", 400, "ARGUMENT_INVALID"),
        ("subject=/chat/1&after=a%0A", 400, "ARGUMENT_INVALID"),
        ("subject=/secret", 403, "SUBJECT_FORBIDDEN"),
        ("user=bob", 403, "FORBIDDEN"),
    ],
)
def test_a_question_that_may_not_be_asked_is_refused(query: str, status: int, code: str) -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            found = await call(door, "GET", f"/v1/presence?{query}", headers=ANN)
            assert (found[0], found[1]["code"]) == (status, code)
            assert (await call(door, "GET", f"/v1/presence?{query}"))[0] == 401
            assert not door.backend.presence_asked

    run_on_uvloop(main())


def test_who_may_subscribe_sees_who_is_there() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            door.backend.presences = [THERE]
            path = "/v1/presence?subject=/chat/1&limit=5&after=a"
            status, answer = await call(door, "GET", path, headers=ANN)
            assert (status, answer["present"], answer["absent"]) == (200, "1", "0")
            assert answer["clients"][0]["clientId"] == "c"
            [asked] = door.backend.presence_asked
            assert asked == pb.GetPresenceRequest(subject="/chat/1", limit=5, after_user="a")

    run_on_uvloop(main())


def test_a_user_and_an_administrator_see_the_user() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            door.backend.presences = [THERE]
            for headers in (ANN, ADMIN):
                status, _ = await call(door, "GET", "/v1/presence?user=ann", headers=headers)
                assert status == 200
            assert door.backend.presence_asked == [pb.GetPresenceRequest(user="ann")] * 2

    run_on_uvloop(main())


def test_as_events_each_change_is_told_as_the_plain_answer_tells_it() -> None:
    async def main() -> None:
        async with open_door() as door:
            door.backend.presences = [THERE]
            headers = {"Accept": "text/event-stream"}
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{door.url}/v1/presence?user=ann", headers=headers) as response,
            ):
                assert response.content_type == "text/event-stream"
                lines = [await response.content.readline() for _ in range(4)]
            assert lines[2] == b"event: presence\n"
            told = json.loads(lines[3].removeprefix(b"data: "))
            assert told == (await call(door, "GET", "/v1/presence?user=ann"))[1]

    run_on_uvloop(main())


def test_presence_that_does_not_answer_is_said_so() -> None:
    async def main() -> None:
        async with open_door() as door:
            door.backend.refusal = refuse(Code.UNAVAILABLE, "Not there.", 1_000)
            status, answer = await call(door, "GET", "/v1/presence?user=ann")
            assert (status, answer["code"]) == (503, "UNAVAILABLE")

    run_on_uvloop(main())
