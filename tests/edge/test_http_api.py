"""The HTTP API over a real server: answers, refusals, and who may ask what."""

import asyncio
import time
from typing import Any

import aiohttp
import jwt
import pytest

from services.chassis.errors import Unavailable
from services.chassis.refusals import Code, refuse
from tests.edge.door import SECRET, Door, open_door, run_on_uvloop


def bearer(user: str = "ann", **onward: Any) -> dict[str, str]:
    claims = {"sub": user, "exp": int(time.time()) + 3_600, "onward": onward}
    return {"Authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}


async def call(door: Door, method: str, path: str, **options: Any) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, door.url + path, **options) as response,
    ):
        return response.status, await response.json()


def test_a_publish_is_answered_when_it_is_durable() -> None:
    async def main() -> None:
        async with open_door() as door:
            body = {"subject": "/chat/1", "text": "hi", "headers": {"title": "T"}}
            status, answer = await call(door, "POST", "/v1/publish?user=bob", json=body)
            assert (status, answer) == (
                200,
                {"seq": "7", "epoch": str(1 << 48), "duplicate": False},
            )
            [(publisher, publish)] = door.backend.published
            assert publisher == "bob"
            assert (publish.subject, publish.text) == ("/chat/1", "hi")
            assert publish.headers["title"] == "T"

    run_on_uvloop(main())


def test_who_gives_no_name_publishes_as_nobody_in_particular() -> None:
    async def main() -> None:
        async with open_door() as door:
            await call(door, "POST", "/v1/publish", json={"subject": "/a", "data": "AAE="})
            [(publisher, publish)] = door.backend.published
            assert publisher == "anon:http"
            assert publish.data == b"\x00\x01"

    run_on_uvloop(main())


BAD_BODIES = {
    "no JSON": (b"{", 400, "FRAME_MALFORMED"),
    "nothing": (b"", 400, "FRAME_MALFORMED"),
    "no UTF-8": (b'{"subject":"\xff"}', 400, "FRAME_MALFORMED"),
    "a list": (b"[]", 400, "FRAME_MALFORMED"),
    "null": (b"null", 400, "FRAME_MALFORMED"),
    "an unknown field": (b'{"subject":"/a","colour":"red"}', 400, "FRAME_MALFORMED"),
    "a wrong type": (b'{"subject":1}', 400, "FRAME_MALFORMED"),
    "no base64": (b'{"subject":"/a","data":"A"}', 400, "FRAME_MALFORMED"),
    "no subject": (b"{}", 400, "SUBJECT_INVALID"),
    "a bad subject": (b'{"subject":"chat"}', 400, "SUBJECT_INVALID"),
    "a whole frame": (b'{"publish":{"subject":"/a"}}', 400, "FRAME_MALFORMED"),
    "deep nesting": (b'{"headers":' + b'{"a":' * 5000 + b"1" + b"}" * 5001, 400, "FRAME_MALFORMED"),
    # Orjson reads deeper than it writes.
    "some nesting": (b'{"text":' + b"[" * 300 + b"]" * 300 + b"}", 400, "FRAME_MALFORMED"),
    "too much": (b" " * 524_289, 413, "CONTENT_TOO_LARGE"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_refused(name: str) -> None:
    body, status, code = BAD_BODIES[name]

    async def main() -> None:
        async with open_door() as door:
            answered, answer = await call(door, "POST", "/v1/publish?user=bob", data=body)
            assert (answered, answer["code"]) == (status, code)
            assert answer["message"]
            assert not door.backend.published

    run_on_uvloop(main())


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def main() -> None:
        async with open_door() as door:
            reader, writer = await door.dial()
            head = b"POST /v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
            writer.write(head + b"{")
            assert b" 408 " in await reader.readuntil(b"\r\n")
            writer.close()

    run_on_uvloop(main())


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.SUBJECT_INVALID, 400),
        (Code.TOKEN_EXPIRED, 401),
        (Code.SUBJECT_FORBIDDEN, 403),
        (Code.PUBLICATION_ID_REUSED, 409),
        (Code.CONTENT_TOO_LARGE, 413),
        (Code.RATE_LIMITED, 429),
        (Code.UNAVAILABLE, 503),
        (Code.OVERLOADED, 503),
        (Code.STORE_FULL, 507),
    ],
)
def test_a_refusal_comes_with_a_status_that_fits(code: Any, status: int) -> None:
    async def main() -> None:
        async with open_door() as door:
            door.backend.refusal = refuse(code, "No.", 1500)
            async with (
                aiohttp.ClientSession() as session,
                session.post(f"{door.url}/v1/publish", json={"subject": "/a"}) as response,
            ):
                assert response.status == status
                assert response.headers["Retry-After"] == "2"
                assert await response.json() == {
                    "code": Code.Name(code),
                    "message": "No.",
                    "retryAfterMs": 1500,
                }

    run_on_uvloop(main())


def test_a_fault_is_unavailable() -> None:
    async def main() -> None:
        async with open_door() as door:
            door.backend.fault = Unavailable()
            for method, path, options in (
                ("POST", "/v1/publish", {"json": {"subject": "/a"}}),
                ("GET", "/v1/history?subject=/a", {}),
                ("GET", "/v1/explain?user=ann&subject=/a", {}),
            ):
                status, answer = await call(door, method, path, **options)  # type: ignore[arg-type]
                assert (status, answer["code"]) == (503, "UNAVAILABLE")

    run_on_uvloop(main())


def test_history_has_the_shape_of_message_frames() -> None:
    async def main() -> None:
        async with open_door() as door:
            status, answer = await call(door, "GET", "/v1/history?subject=/a&after=5&limit=2")
            assert status == 200
            messages = answer.pop("messages")
            assert answer == {"subject": "/a", "head": "20", "floor": "3", "logId": "log-1"}
            assert [message["seq"] for message in messages] == ["6", "7"]
            assert messages[0]["kind"] == "HISTORY"
            assert messages[0]["text"] == "m6"
            assert messages[0]["publisher"] == "bob"

    run_on_uvloop(main())


@pytest.mark.parametrize(
    ("query", "first", "final"),
    [("", 4, 20), ("&last=5", 16, 20), ("&last=1000", 4, 20), ("&after=19", 20, 20)],
)
def test_history_starts_where_it_is_asked_to(query: str, first: int, final: int) -> None:
    async def main() -> None:
        async with open_door() as door:
            _, answer = await call(door, "GET", f"/v1/history?subject=/a{query}")
            seqs = [int(message["seq"]) for message in answer["messages"]]
            assert (seqs[0], seqs[-1]) == (first, final)

    run_on_uvloop(main())


@pytest.mark.parametrize(
    "query",
    [
        "subject=/a&after=x",
        "subject=/a&after=-1",
        "subject=/a&after=9223372036854775808",
        "subject=/a&after=" + "9" * 5000,
        "subject=/a&after=1_0",
        "subject=/a&limit=0",
        "subject=/a&limit=1001",
        "subject=/a&last=0",
        "subject=/a&last=5&after=1",
        "subject=/a&last=5&limit=1",
        "subject=/a&limit=",
    ],
)
def test_a_bad_number_is_refused(query: str) -> None:
    async def main() -> None:
        async with open_door() as door:
            status, answer = await call(door, "GET", f"/v1/history?{query}")
            assert (status, answer["code"]) == (400, "ARGUMENT_INVALID")

    run_on_uvloop(main())


def test_explain_tells_the_story() -> None:
    async def main() -> None:
        async with open_door() as door:
            status, answer = await call(door, "GET", "/v1/explain?user=ann&subject=/a&seq=1")
            assert status == 200
            assert answer["outcomes"][0]["state"] == "NOTIFIED"
            [asked] = door.backend.asked
            assert (asked.user, asked.subject, asked.seq, asked.limit) == ("ann", "/a", 1, 100)

    run_on_uvloop(main())


@pytest.mark.parametrize("query", ["subject=/a", "user=ann", "user=a%0Ab&subject=/a"])
def test_explain_needs_a_user_and_a_subject(query: str) -> None:
    async def main() -> None:
        async with open_door() as door:
            status, _ = await call(door, "GET", f"/v1/explain?{query}")
            assert status == 400

    run_on_uvloop(main())


PUBLISH = ("POST", "/v1/publish", {"json": {"subject": "/a"}})
HISTORY = ("GET", "/v1/history?subject=/a", {})
EXPLAIN = ("GET", "/v1/explain?user=ann&subject=/a", {})


@pytest.mark.parametrize(
    ("request_", "headers", "status", "code"),
    [
        (PUBLISH, {}, 401, "TOKEN_INVALID"),
        (HISTORY, {}, 401, "TOKEN_INVALID"),
        (EXPLAIN, {}, 401, "TOKEN_INVALID"),
        (PUBLISH, {"Authorization": "Basic YTpi"}, 401, "TOKEN_INVALID"),
        (PUBLISH, {"Authorization": "Bearer "}, 401, "TOKEN_INVALID"),
        (PUBLISH, {"Authorization": "Bearer x.y.z"}, 401, "TOKEN_INVALID"),
        (PUBLISH, bearer(), 403, "SUBJECT_FORBIDDEN"),
        (PUBLISH, bearer(subscribe=["/*"]), 403, "SUBJECT_FORBIDDEN"),
        (PUBLISH, bearer(publish=["/a"]), 200, None),
        (HISTORY, bearer(publish=["/*"]), 403, "SUBJECT_FORBIDDEN"),
        (HISTORY, bearer(subscribe=["/a"]), 200, None),
        (EXPLAIN, bearer("bob"), 403, "FORBIDDEN"),
        (EXPLAIN, bearer("bob", admin=True), 200, None),
        (EXPLAIN, bearer("ann"), 200, None),
    ],
)
def test_with_authentication_each_needs_its_grant(
    request_: tuple[str, str, dict[str, Any]],
    headers: dict[str, str],
    status: int,
    code: str | None,
) -> None:
    method, path, options = request_

    async def main() -> None:
        async with open_door(anonymous=False) as door:
            answered, answer = await call(door, method, path, headers=headers, **options)
            assert (answered, answer.get("code")) == (status, code)

    run_on_uvloop(main())


def test_with_authentication_nobody_chooses_a_name() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            path = "/v1/publish?user=eve"
            headers = bearer("ann", publish=["/a"])
            await call(door, "POST", path, json={"subject": "/a"}, headers=headers)
            assert door.backend.published[0][0] == "ann"

    run_on_uvloop(main())


def test_operators_see_life_readiness_and_metrics() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door, aiohttp.ClientSession() as session:
            statuses = []
            for ready in (True, False):
                door.backend.ready = ready
                for path in ("/healthz", "/readyz"):
                    async with session.get(door.url + path) as response:
                        statuses.append(response.status)
            assert statuses == [200, 200, 200, 503]
            async with session.get(door.url + "/metrics") as response:
                text = await response.text()
                assert "onward_edge_sockets " in text
            async with session.get(door.url + "/") as response:
                assert response.status == 404

    run_on_uvloop(main())


def test_wrong_paths_and_methods_are_refused_in_json() -> None:
    async def main() -> None:
        async with open_door() as door:
            assert (await call(door, "GET", "/v1/nothing"))[0] == 404
            assert (await call(door, "DELETE", "/v1/publish"))[0] == 405

    run_on_uvloop(main())


def test_requests_are_served_side_by_side() -> None:
    async def main() -> None:
        async with open_door() as door:
            answers = await asyncio.gather(*(call(door, *HISTORY[:2]) for _ in range(50)))
            assert all(status == 200 for status, _ in answers)

    run_on_uvloop(main())


def test_the_page_is_served_where_it_is_wanted() -> None:
    async def main() -> None:
        async with (
            open_door(page=True) as door,
            aiohttp.ClientSession() as session,
            session.get(door.url + "/") as response,
        ):
            assert response.status == 200
            assert response.content_type == "text/html"
            assert "<html" in await response.text()

    run_on_uvloop(main())
