"""`/v1/extensions` over a real server: for administrators only, and what it refuses."""

from typing import Any

import aiohttp
import pytest
from onward.presence.v1 import registry_pb2

from services.chassis.refusals import Code, refuse
from tests.edge.door import Door, open_door, run_on_uvloop
from tests.edge.test_http_status import bearer

ADMIN = bearer(admin=True)
LISTED = registry_pb2.ListExtensionsResponse(
    extensions=[
        registry_pb2.RegisteredExtension(
            name="chat",
            address=registry_pb2.PluginAddress(address="h:1", plain=True, server_name="there"),
            subjects=["/chat/*"],
            behind=1 << 60,
            fault="a call ended with UNAVAILABLE",
        )
    ]
)


async def call(
    door: Door, method: str, path: str, body: bytes | None = None, headers: Any = ADMIN
) -> tuple[int, Any]:
    door.backend.registry_answers = {
        "ListExtensions": LISTED,
        "AddExtension": registry_pb2.AddExtensionResponse(),
        "RemoveExtension": registry_pb2.RemoveExtensionResponse(removed=True),
    }
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, door.url + path, data=body, headers=headers) as response,
    ):
        return response.status, await response.json()


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "TOKEN_INVALID"),
        ({"Authorization": "Bearer x.y.z"}, 401, "TOKEN_INVALID"),
        (bearer(subscribe=["/*"], publish=["/*"]), 403, "FORBIDDEN"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/extensions"),
        ("POST", "/v1/extensions"),
        ("DELETE", "/v1/extensions/chat"),
    ],
)
def test_only_administrators_may(
    method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            body = b'{"name": "x", "address": "h:1"}' if method == "POST" else None
            answered, answer = await call(door, method, path, body, headers)
            assert (answered, answer.get("code")) == (status, code)
            assert door.backend.registry == []

    run_on_uvloop(main())


def test_all_that_is_known_is_listed() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            status, answer = await call(door, "GET", "/v1/extensions")
            assert status == 200
            assert answer == {
                "extensions": [
                    {
                        "name": "chat",
                        "address": "h:1",
                        "plain": True,
                        "serverName": "there",
                        "subjects": ["/chat/*"],
                        "behind": str(1 << 60),
                        "fault": "a call ended with UNAVAILABLE",
                    }
                ]
            }

    run_on_uvloop(main())


def test_one_is_added_and_removed() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            body = (
                b'{"name": "chat", "address": "h:1", "plain": true, "serverName": "there",'
                b' "subjects": ["/chat/*"]}'
            )
            assert await call(door, "POST", "/v1/extensions", body) == (200, {"name": "chat"})
            assert await call(door, "DELETE", "/v1/extensions/chat") == (200, {"removed": True})
            assert door.backend.registry == [
                (
                    "AddExtension",
                    registry_pb2.AddExtensionRequest(
                        name="chat",
                        address=registry_pb2.PluginAddress(
                            address="h:1", plain=True, server_name="there"
                        ),
                        subjects=["/chat/*"],
                    ),
                ),
                ("RemoveExtension", registry_pb2.RemoveExtensionRequest(name="chat")),
            ]

    run_on_uvloop(main())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "FRAME_MALFORMED"),
        (b"[]", "FRAME_MALFORMED"),
        (b'{"name": 7}', "ARGUMENT_INVALID"),
        (b'{"name": "x", "address": ["h:1"]}', "ARGUMENT_INVALID"),
        (b'{"name": "x", "plain": "yes"}', "ARGUMENT_INVALID"),
        (b'{"name": "x", "subjects": "/a"}', "ARGUMENT_INVALID"),
        (b'{"name": "x", "subjects": [1]}', "ARGUMENT_INVALID"),
    ],
)
def test_what_cannot_be_read_is_refused_before_anybody_is_asked(body: bytes, code: str) -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            status, answer = await call(door, "POST", "/v1/extensions", body)
            assert (status, answer["code"]) == (400, code)
            assert door.backend.registry == []

    run_on_uvloop(main())


def test_what_presence_refuses_is_shown_as_it_is() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            door.backend.refusal = refuse(Code.ARGUMENT_INVALID, "An address is host:port.")
            status, answer = await call(door, "POST", "/v1/extensions", b'{"name": "x"}')
            assert (status, answer["message"]) == (400, "An address is host:port.")

    run_on_uvloop(main())
