"""`POST /v1/drain` over a real server: for operators only, and what it refuses."""

from typing import Any

import aiohttp
import pytest

from services.chassis.refusals import Code, refuse
from tests.edge.door import Door, open_door, run_on_uvloop
from tests.edge.test_http_status import bearer


async def drain(door: Door, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{door.url}/v1/drain", data=body, headers=headers) as response,
    ):
        return response.status, await response.json()


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "TOKEN_INVALID"),
        ({"Authorization": "Bearer x.y.z"}, 401, "TOKEN_INVALID"),
        (bearer(subscribe=["/*"], publish=["/*"]), 403, "FORBIDDEN"),
        (bearer(admin=True), 200, None),
    ],
)
def test_only_operators_may(headers: dict[str, str], status: int, code: str | None) -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            answered, answer = await drain(door, b'{"member": "c1"}', headers)
            assert (answered, answer.get("code")) == (status, code)
            assert door.backend.drained == (["c1"] if status == 200 else [])

    run_on_uvloop(main())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "FRAME_MALFORMED"),
        (b"[]", "FRAME_MALFORMED"),
        (b"{}", "ARGUMENT_INVALID"),
        (b'{"member": 7}', "ARGUMENT_INVALID"),
    ],
)
def test_who_names_no_member_drains_none(body: bytes, code: str) -> None:
    async def main() -> None:
        async with open_door() as door:
            status, answer = await drain(door, body)
            assert (status, answer["code"]) == (400, code)
            assert not door.backend.drained

    run_on_uvloop(main())


def test_a_member_that_is_not_there_is_refused_as_the_backend_says() -> None:
    async def main() -> None:
        async with open_door() as door:
            door.backend.refusal = refuse(Code.UNAVAILABLE, "It does not answer.", 1_000)
            status, answer = await drain(door, b'{"member": "c1"}')
            assert (status, answer["code"], answer["retryAfterMs"]) == (503, "UNAVAILABLE", 1_000)

    run_on_uvloop(main())


def test_the_answer_names_the_member_and_the_time_it_may_take() -> None:
    async def main() -> None:
        async with open_door() as door:
            assert await drain(door, b'{"member": "c1"}') == (
                200,
                {"service": "coordinator", "name": "c1", "address": "h:1", "atMostMs": 2_500},
            )

    run_on_uvloop(main())
