"""`GET /v1/status` over a real server: for operators only, and never held up by one member."""

import time
from typing import Any

import aiohttp
import jwt
import pytest

from services.edge.cluster_status import Member, Picture
from tests.edge.door import SECRET, Door, open_door, run_on_uvloop


def bearer(**onward: Any) -> dict[str, str]:
    claims = {"sub": "ann", "exp": int(time.time()) + 3_600, "onward": onward}
    return {"Authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}


async def status_of(door: Door, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{door.url}/v1/status", headers=headers) as response,
    ):
        return response.status, await response.json()


def test_the_status_is_one_object_that_also_shows_who_is_silent() -> None:
    async def main() -> None:
        async with open_door() as door:
            silent = Member("coordinator", "c1", "127.0.0.1:1", "UNAVAILABLE")
            door.backend.cluster = Picture(2, {0: (5, "c1")}, {0: (9, "p1")}, [silent])
            status, shown = await status_of(door)
            assert status == 200
            assert set(shown) == {
                "logId",
                "partitions",
                "coordinators",
                "presences",
                "edges",
                "plugins",
                "deliveries",
                "alarms",
            }
            assert shown["coordinators"][0]["fault"] == "UNAVAILABLE"
            assert shown["partitions"]["withoutOwner"] == [1]

    run_on_uvloop(main())


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "TOKEN_INVALID"),
        ({"Authorization": "Bearer x.y.z"}, 401, "TOKEN_INVALID"),
        (bearer(subscribe=["/*"], publish=["/*"]), 403, "FORBIDDEN"),
        (bearer(admin=True), 200, None),
    ],
)
def test_only_operators_see_it(headers: dict[str, str], status: int, code: str | None) -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            answered, answer = await status_of(door, headers)
            assert (answered, answer.get("code")) == (status, code)

    run_on_uvloop(main())
