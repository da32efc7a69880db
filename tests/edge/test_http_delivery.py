"""Notifiers, dead letters and tests of channels over HTTP: for administrators only."""

from typing import Any

import aiohttp
import pytest
from onward.presence.v1 import deliveries_pb2 as pb
from onward.presence.v1 import registry_pb2

from services.chassis.refusals import Code, refuse
from tests.edge.door import Door, open_door, run_on_uvloop
from tests.edge.test_http_status import bearer

ADMIN = bearer(admin=True)
PATHS = [
    ("GET", "/v1/notifiers"),
    ("POST", "/v1/notifiers"),
    ("DELETE", "/v1/notifiers/mailer"),
    ("GET", "/v1/dead-letters"),
    ("GET", "/v1/dead-letters/d1"),
    ("POST", "/v1/dead-letters/replay"),
    ("POST", "/v1/dead-letters/drop"),
    ("POST", "/v1/send-test"),
]


async def call(
    door: Door, method: str, path: str, body: Any = None, headers: Any = ADMIN
) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else None
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method,
            door.url + path,
            data=data,
            json=None if data is not None else body,
            headers=headers,
        ) as response,
    ):
        return response.status, await response.json()


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "TOKEN_INVALID"),
        (bearer(subscribe=["/*"], publish=["/*"]), 403, "FORBIDDEN"),
    ],
)
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_only_administrators_may(
    method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            body = None if method == "GET" else b"{"
            answered, answer = await call(door, method, path, body, headers)
            assert (answered, answer["code"]) == (status, code)
            assert not door.backend.registry
            assert not door.backend.delivery_calls

    run_on_uvloop(main())


def test_notifiers_are_listed_added_and_removed() -> None:
    address = registry_pb2.PluginAddress(address="h:1", plain=True, server_name="there")
    one = registry_pb2.RegisteredNotifier(
        name="mailer", address=address, channels=["mailto"], connected=True, health="SERVING",
        served=["mailto", "tel"],
        shadowed=[registry_pb2.ShadowedChannel(channel="mailto", by="abe")],
    )  # fmt: skip
    shown = {"name": "mailer", "address": "h:1", "plain": True, "serverName": "there",
             "channels": ["mailto"]}  # fmt: skip

    async def main() -> None:
        async with open_door(anonymous=False) as door:
            door.backend.registry_answers = {
                "ListNotifiers": registry_pb2.ListNotifiersResponse(notifiers=[one]),
                "AddNotifier": registry_pb2.AddNotifierResponse(),
                "RemoveNotifier": registry_pb2.RemoveNotifierResponse(removed=True),
            }
            listed = await call(door, "GET", "/v1/notifiers")
            said = {"ofSettings": False, "connected": True, "health": "SERVING",
                    "served": ["mailto", "tel"],
                    "shadowed": [{"channel": "mailto", "by": "abe"}]}  # fmt: skip
            assert listed == (200, {"notifiers": [shown | said]})
            added = await call(door, "POST", "/v1/notifiers", shown)
            assert added == (200, {"name": "mailer"})
            removed = await call(door, "DELETE", "/v1/notifiers/mailer")
            assert removed == (200, {"removed": True})
            assert door.backend.registry[1:] == [
                (
                    "AddNotifier",
                    registry_pb2.AddNotifierRequest(
                        name="mailer", address=address, channels=["mailto"]
                    ),
                ),
                ("RemoveNotifier", registry_pb2.RemoveNotifierRequest(name="mailer")),
            ]

    run_on_uvloop(main())


def test_dead_letters_are_shown() -> None:
    letter = pb.DeadLetter(delivery_id="d1", user="ann", channel="mailto", attempts=8)

    async def main() -> None:
        async with open_door(anonymous=False) as door:
            door.backend.delivery_answers = {
                "ListDeadLetters": pb.ListDeadLettersResponse(letters=[letter], next_after_id="d1"),
                "GetDeadLetter": pb.GetDeadLetterResponse(letter=letter, first_seq=1 << 60),
            }
            query = "user=ann&channel=mailto&reason=R&id=d1&id=d2&after=d0&limit=1"
            status, page = await call(door, "GET", f"/v1/dead-letters?{query}")
            assert (status, page["nextAfterId"]) == (200, "d1")
            assert page["letters"][0]["deliveryId"] == "d1"
            assert page["letters"][0]["subject"] == ""
            status, whole = await call(door, "GET", "/v1/dead-letters/d1")
            assert (status, whole["firstSeq"]) == (200, str(1 << 60))
            [(_, listing), (_, getting)] = door.backend.delivery_calls
            which = pb.DeadLetterFilter(
                user="ann", channel="mailto", reason="R", delivery_ids=["d1", "d2"]
            )
            assert listing == pb.ListDeadLettersRequest(filter=which, after_id="d0", limit=1)
            assert getting == pb.GetDeadLetterRequest(delivery_id="d1")

    run_on_uvloop(main())


def test_a_letter_that_is_not_there_is_404() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            status, answer = await call(door, "GET", "/v1/dead-letters/d1")
            assert (status, answer["code"]) == (404, "ARGUMENT_INVALID")

    run_on_uvloop(main())


@pytest.mark.parametrize(
    ("body", "which", "after"),
    [
        ({"all": True}, pb.DeadLetterFilter(), ""),
        ({"all": True, "after": "d9"}, pb.DeadLetterFilter(), "d9"),
        ({"ids": ["d1"]}, pb.DeadLetterFilter(delivery_ids=["d1"]), ""),
        (
            {"user": "ann", "channel": "tel", "reason": "R"},
            pb.DeadLetterFilter(user="ann", channel="tel", reason="R"),
            "",
        ),
    ],
)
def test_dead_letters_are_replayed_and_dropped(
    body: dict[str, Any], which: pb.DeadLetterFilter, after: str
) -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            door.backend.delivery_answers = {
                "ReplayDeadLetters": pb.ReplayDeadLettersResponse(replayed=3, expired=1),
                "DropDeadLetters": pb.DropDeadLettersResponse(dropped=4, next_after_id="d4"),
            }
            replayed = await call(door, "POST", "/v1/dead-letters/replay", body)
            assert replayed == (200, {"replayed": 3, "expired": 1, "nextAfterId": ""})
            dropped = await call(door, "POST", "/v1/dead-letters/drop", body)
            assert dropped == (200, {"dropped": 4, "nextAfterId": "d4"})
            assert [asked for _, asked in door.backend.delivery_calls] == [
                pb.ReplayDeadLettersRequest(filter=which, after_id=after),
                pb.DropDeadLettersRequest(filter=which, after_id=after),
            ]

    run_on_uvloop(main())


@pytest.mark.parametrize(
    ("method", "path", "body", "named"),
    [
        ("GET", "/v1/dead-letters?id=D1", None, ("`id`", "`after`")),
        ("POST", "/v1/dead-letters/replay", {"ids": ["D1"]}, ("`ids`", "`after`")),
        ("POST", "/v1/dead-letters/drop", {"ids": ["D1"]}, ("`ids`", "`after`")),
    ],
)
def test_what_is_wrong_with_a_field_is_told_by_the_name_that_the_caller_wrote(
    method: str, path: str, body: Any, named: tuple[str, str]
) -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            for ours, theirs in zip(("`delivery_ids`", "`after_id`"), named, strict=True):
                door.backend.refusal = refuse(Code.ARGUMENT_INVALID, f"Each of {ours} is an id.", 0)
                status, answer = await call(door, method, path, body)
                assert (status, answer["message"]) == (400, f"Each of {theirs} is an id.")

    run_on_uvloop(main())


def test_a_test_is_sent_and_told() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            door.backend.delivery_answers["SendTest"] = pb.SendTestResponse(
                plugin="mailer", outcome="ACCEPTED", provider_id="p1"
            )
            body = {"endpoint": "mailto:ann@example.org", "text": "hi"}
            told = {"plugin": "mailer", "outcome": "ACCEPTED", "detail": "", "providerId": "p1"}
            assert await call(door, "POST", "/v1/send-test", body) == (200, told)
            assert door.backend.delivery_calls == [("SendTest", pb.SendTestRequest(**body))]

    run_on_uvloop(main())


REPLAY, ADD, TEST = "/v1/dead-letters/replay", "/v1/notifiers", "/v1/send-test"
BAD = [
    ("POST", REPLAY, {}, "ARGUMENT_INVALID"),
    ("POST", REPLAY, {"all": True, "user": "ann"}, "ARGUMENT_INVALID"),
    ("POST", REPLAY, {"all": "yes"}, "ARGUMENT_INVALID"),
    ("POST", REPLAY, {"ids": "d1"}, "ARGUMENT_INVALID"),
    ("POST", REPLAY, {"ids": [1]}, "ARGUMENT_INVALID"),
    ("POST", REPLAY, {"users": ["ann"]}, "FRAME_MALFORMED"),
    ("POST", REPLAY, b"{", "FRAME_MALFORMED"),
    ("POST", REPLAY, [], "FRAME_MALFORMED"),
    ("POST", "/v1/dead-letters/drop", {}, "ARGUMENT_INVALID"),
    ("POST", ADD, {"name": 7}, "ARGUMENT_INVALID"),
    ("POST", ADD, {"plain": 1}, "ARGUMENT_INVALID"),
    ("POST", ADD, {"colour": "red"}, "FRAME_MALFORMED"),
    ("POST", TEST, {"endpoint": None}, "ARGUMENT_INVALID"),
    ("GET", "/v1/dead-letters?limit=x", None, "ARGUMENT_INVALID"),
    ("GET", "/v1/dead-letters?limit=1001", None, "ARGUMENT_INVALID"),
    ("GET", "/v1/dead-letters?limit=-1", None, "ARGUMENT_INVALID"),
]


@pytest.mark.parametrize(("method", "path", "body", "code"), BAD)
def test_what_cannot_be_meant_is_refused_before_anybody_is_asked(
    method: str, path: str, body: Any, code: str
) -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            status, answer = await call(door, method, path, body)
            assert (status, answer["code"]) == (400, code)
            assert not door.backend.delivery_calls
            assert not door.backend.registry

    run_on_uvloop(main())


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_what_presence_refuses_is_told(method: str, path: str) -> None:
    bodies = {
        ADD: {"name": "a", "address": "h:1"},
        TEST: {"endpoint": "tel:1"},
        "/v1/notifiers/mailer": None,
    }

    async def main() -> None:
        async with open_door(anonymous=False) as door:
            door.backend.refusal = refuse(Code.UNAVAILABLE, "No plugin serves tel.", 0)
            body = None if method == "GET" else bodies.get(path, {"all": True})
            status, answer = await call(door, method, path, body)
            assert (status, answer["message"]) == (503, "No plugin serves tel.")

    run_on_uvloop(main())
