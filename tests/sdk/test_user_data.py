"""Users' data and who is there, as programs ask for them over plain HTTP."""

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from onward.presence.v1 import presence_pb2, users_pb2
from onward_sdk import Api, Refused, Unreachable

from services.chassis.refusals import Code, refuse
from tests.edge.door import open_door, run_on_uvloop
from tests.sdk.scripted_edge import scripted_edge

Run = Callable[[Coroutine[Any, Any, None]], None]


def test_ones_own_data_and_anothers_stand_at_different_paths(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/me/follows"] = (200, {"added": 2, "removed": 1})
            edge.answers["/v1/users/ann/follows"] = (200, {"removed": 3})
            async with Api(edge.url, user="ann") as api:
                assert await api.me.follow(["/a", "/b"]) == 2
                assert await api.me.unfollow(["/a"], everywhere=True) == 1
                assert await api.user("ann").unfollow(["/a"], everywhere=True) == 3
            who = {"user": "ann"}
            assert edge.requests == [
                ("/v1/me/follows", who, {"subjects": ["/a", "/b"]}),
                ("/v1/me/follows", who, {"subjects": ["/a"]}),
                ("/v1/users/ann/follows", who, {"subjects": ["/a"], "everywhere": True}),
            ]

    run(story())


def test_a_user_without_a_name_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="name"):
        Api("http://127.0.0.1:1").user("")


def test_a_user_whose_name_has_a_slash_is_reached() -> None:
    async def main() -> None:
        async with open_door() as door, Api(door.url) as api:
            await api.user("team/ann %2F?#").profile()
            assert [user for _, user, _ in door.backend.asked_users] == ["team/ann %2F?#"]

    run_on_uvloop(main())


def test_follows_are_read_to_their_end(run: Run) -> None:
    async def story() -> None:
        pages = {
            "": {"follows": [{"subject": "/a"}], "nextAfterSubject": "/a"},
            "/a": {"follows": [{"subject": "/b"}], "nextAfterSubject": ""},
        }
        async with scripted_edge() as edge, Api(edge.url) as api:
            edge.answers["/v1/me/follows"] = (200, pages[""])
            subjects = []
            async for one in api.me.follows():
                subjects.append(one["subject"])
                edge.answers["/v1/me/follows"] = (200, pages["/a"])
            assert subjects == ["/a", "/b"]
            assert [query["after"] for _, query, _ in edge.requests] == ["", "/a"]

    run(story())


def test_many_users_follow_many_subjects_by_one_call(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge, Api(edge.url) as api:
            edge.answers["/v1/follows"] = (200, {"added": 4, "removed": 2})
            assert await api.follow(["ann", "bob"], ["/a", "/b"]) == 4
            assert await api.unfollow(["ann"], ["/a"]) == 2
            assert edge.requests[1][2] == {
                "users": ["ann"], "subjects": ["/a"], "everywhere": False,
            }  # fmt: skip

    run(story())


def test_the_edge_understands_all_of_it() -> None:
    async def main() -> None:
        async with open_door() as door, Api(door.url) as api:
            ann = api.user("ann")
            await ann.add_endpoint("mailto:ann@example.org")
            await ann.remove_endpoint("mailto:ann@example.org")
            assert await ann.endpoints() == []
            told = users_pb2.UpdateProfileResponse(profile=users_pb2.UserProfile(locale="de"))
            door.backend.users_answers["UpdateProfile"] = told
            profile = await ann.update_profile({"locale": "de", "quietHours": None})
            assert profile["locale"] == "de"
            berlin = timezone(timedelta(hours=1))
            await ann.mute("/a", datetime(2030, 1, 1, 12, tzinfo=berlin))
            await ann.mute("/b/*")
            await ann.unmute("/a")
            assert await ann.revoke() == await ann.revoke("/a") == 0
            await ann.erase()
            asked = [(method, request) for method, _, request in door.backend.asked_users]
            assert [method for method, _ in asked] == [
                "AddEndpoint", "RemoveEndpoint", "ListEndpoints", "UpdateProfile", "Mute", "Mute",
                "Unmute", "Revoke", "Revoke", "EraseUser",
            ]  # fmt: skip
            until = datetime(2030, 1, 1, 11, tzinfo=UTC)
            assert asked[4][1].mute.until.ToDatetime(UTC) == until  # type: ignore[attr-defined]
            assert asked[3][1] == users_pb2.UpdateProfileRequest(
                user="ann",
                profile=users_pb2.UserProfile(locale="de"),
                parts=["locale", "quiet_hours"],
            )

    run_on_uvloop(main())


# -- who is there ----------------------------------------------------------------------------------


def test_presence_is_asked_of_a_subject_or_of_a_user(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge, Api(edge.url, user="bob") as api:
            edge.answers["/v1/presence"] = (200, {"present": "1"})
            assert (await api.presence(subject="/a", after="x"))["present"] == "1"
            await api.presence(user="ann")
            with pytest.raises(ValueError, match="either"):
                await api.presence()
            assert [query for _, query, _ in edge.requests] == [
                {"subject": "/a", "limit": "100", "after": "x"},
                {"user": "ann"},
            ]

    run(story())


def test_presence_is_watched_until_the_edge_stops() -> None:
    async def main() -> None:
        async with open_door() as door, Api(door.url) as api:
            door.backend.presences = [presence_pb2.GetPresenceResponse(present=7)]
            watch = api.watch_presence(subject="/a")
            assert (await anext(watch))["present"] == "7"
            door.gateway._api.end_streams()
            with pytest.raises(Unreachable, match="stopping"):
                await anext(watch)

    run_on_uvloop(main())


def test_a_watch_that_is_refused_carries_the_refusal() -> None:
    async def main() -> None:
        async with open_door() as door, Api(door.url) as api:
            door.backend.presences = [refuse(Code.ARGUMENT_INVALID, "No.")]
            with pytest.raises(Refused, match="No"):
                await anext(api.watch_presence(subject="/a"))
        async with open_door(anonymous=False) as door, Api(door.url) as api:
            with pytest.raises(Refused) as refused:
                await anext(api.watch_presence(subject="/a"))
            assert refused.value.code == "TOKEN_INVALID"

    run_on_uvloop(main())


def test_a_watch_of_somebody_else_or_nobody_is_unreachable(run: Run) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            gone = edge.url
            edge.answers["/v1/presence"] = (200, {"present": "1"})
            async with Api(edge.url) as api:
                with pytest.raises(Unreachable, match="no events"):
                    await anext(api.watch_presence(subject="/a"))
        async with Api(gone) as api:
            with pytest.raises(Unreachable, match="cannot be reached"):
                await anext(api.watch_presence(subject="/a"))

    run(story())
