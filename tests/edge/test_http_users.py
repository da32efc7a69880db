"""Users' data over HTTP: who may see and change what, and what presence is asked."""

from typing import Any

import aiohttp
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from onward.presence.v1 import users_pb2 as pb
from yarl import URL

from services.chassis.refusals import Code, refuse
from services.edge.http_users import OWN_RATES
from tests.edge.door import open_door, run_on_uvloop
from tests.edge.test_http_api import bearer, call

MAIL = "mailto:ann@example.org"
ADMIN = bearer("backend", admin=True)
ANN = bearer("ann", subscribe=["/chat/*"])
OWN = [
    ("GET", "follows", None),
    ("POST", "follows", {"subjects": ["/chat/1"]}),
    ("DELETE", "follows", {"subjects": ["/chat/1"]}),
    ("GET", "endpoints", None),
    ("POST", "endpoints", {"uri": "fcm:1"}),
    ("DELETE", "endpoints", {"uri": MAIL}),
    ("GET", "profile", None),
    ("PATCH", "profile", {"locale": "de"}),
    ("GET", "mutes", None),
    ("POST", "mutes", {"subject": "/chat/1"}),
    ("DELETE", "mutes", {"subject": "/chat/1"}),
]
BACKENDS = [
    *((method, f"/v1/users/ann/{name}", body) for method, name, body in OWN),
    ("POST", "/v1/users/ann/revoke", {}),
    ("DELETE", "/v1/users/ann", None),
    ("POST", "/v1/follows", {"users": ["ann"], "subjects": ["/chat/1"]}),
    ("DELETE", "/v1/follows", {"users": ["ann"], "subjects": ["/chat/1"]}),
]


@pytest.mark.parametrize(("method", "path", "body"), BACKENDS)
def test_what_is_another_users_is_for_administrators_alone(
    method: str, path: str, body: Any
) -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            for headers, expected in (({}, 401), (ANN, 403), (ADMIN, 200)):
                status, answer = await call(door, method, path, json=body, headers=headers)
                assert status == expected, answer
            assert len(door.backend.asked_users) == 1, "who may not, does not get to presence"

    run_on_uvloop(main())


@pytest.mark.parametrize(("method", "name", "body"), OWN)
def test_what_is_ones_own_needs_a_token_and_no_more(method: str, name: str, body: Any) -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            status, _ = await call(door, method, f"/v1/me/{name}", json=body)
            assert status == 401
            # The parameter `user` means nothing beside a token.
            path = f"/v1/me/{name}?user=bob"
            status, answer = await call(door, method, path, json=body, headers=ANN)
            assert status == 200, answer
            [(_, user, asked)] = door.backend.asked_users
            assert user == "ann"
            assert "bob" not in str(asked)

    run_on_uvloop(main())


def test_one_user_may_not_ask_for_ever_and_others_go_on() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            statuses: list[int] = []
            while 429 not in statuses and len(statuses) < 1_000:
                status, answer = await call(door, "GET", "/v1/me/profile", headers=ANN)
                statuses.append(status)
            assert (answer["code"], answer["retryAfterMs"] > 0) == ("RATE_LIMITED", True)
            assert len(statuses) > OWN_RATES.burst
            for path, headers in (
                ("/v1/me/profile", bearer("bob")),
                ("/v1/users/ann/profile", ADMIN),
            ):
                assert (await call(door, "GET", path, headers=headers))[0] == 200

    run_on_uvloop(main())


def test_without_tokens_the_parameter_says_who_one_is() -> None:
    async def main() -> None:
        async with open_door() as door:
            await call(door, "GET", "/v1/me/profile?user=ann")
            await call(door, "GET", "/v1/users/bob/profile")
            assert [user for _, user, _ in door.backend.asked_users] == ["ann", "bob"]

    run_on_uvloop(main())


def test_one_may_follow_what_one_may_subscribe_to() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            body = {"subjects": ["/chat/1", "/secret"]}
            status, answer = await call(door, "POST", "/v1/me/follows", json=body, headers=ANN)
            assert (status, answer["code"]) == (403, "SUBJECT_FORBIDDEN")
            assert not door.backend.asked_users
            door.backend.users_answers["AddFollows"] = pb.AddFollowsResponse(added=1)
            body = {"subjects": ["/chat/1"]}
            status, answer = await call(door, "POST", "/v1/me/follows", json=body, headers=ANN)
            assert (status, answer) == (200, {"added": 1})
            [(_, _, asked)] = door.backend.asked_users
            assert asked == pb.AddFollowsRequest(users=["ann"], subjects=["/chat/1"], own=True)

    run_on_uvloop(main())


def test_one_leaves_a_subject_everywhere_and_a_backend_says_whether_it_means_that() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            body: dict[str, Any] = {"subjects": ["/secret"]}
            await call(door, "DELETE", "/v1/me/follows", json=body, headers=ANN)
            await call(door, "DELETE", "/v1/users/ann/follows", json=body, headers=ADMIN)
            body["everywhere"] = True
            await call(door, "DELETE", "/v1/users/ann/follows", json=body, headers=ADMIN)
            body["users"] = ["ann", "bob"]
            await call(door, "DELETE", "/v1/follows", json=body, headers=ADMIN)
            asked = [request for _, _, request in door.backend.asked_users]
            assert [(list(one.users), one.everywhere) for one in asked] == [
                (["ann"], True), (["ann"], False), (["ann"], True), (["ann", "bob"], True),
            ]  # fmt: skip

    run_on_uvloop(main())


def test_one_may_register_what_ones_token_says_and_a_backend_what_is_an_external_token() -> None:
    async def main() -> None:
        async with open_door(anonymous=False) as door:
            expected = [
                ("/v1/me/endpoints", ANN, MAIL, (403, "EXTERNAL_TOKEN_FORBIDDEN")),
                ("/v1/me/endpoints", ANN, "sms:+1", (400, "EXTERNAL_TOKEN_INVALID")),
                ("/v1/me/endpoints", ANN, 7, (400, "EXTERNAL_TOKEN_INVALID")),
                ("/v1/me/endpoints", ANN, None, (400, "EXTERNAL_TOKEN_INVALID")),
                ("/v1/users/ann/endpoints", ADMIN, "sms:+1", (400, "EXTERNAL_TOKEN_INVALID")),
                ("/v1/users/ann/endpoints", ADMIN, MAIL, (200, None)),
            ]
            for path, headers, uri, found in expected:
                body = {"uri": uri}
                status, answer = await call(door, "POST", path, json=body, headers=headers)
                assert (status, answer.get("code")) == found
            mine = bearer("ann", external_tokens=[MAIL])
            await call(door, "POST", "/v1/me/endpoints", json={"uri": MAIL}, headers=mine)
            asked = [(method, request.uri) for method, _, request in door.backend.asked_users]
            assert asked == [("AddEndpoint", MAIL)] * 2

    run_on_uvloop(main())


def test_the_parts_of_a_profile_that_a_body_names_are_replaced() -> None:
    async def main() -> None:
        async with open_door() as door:
            profile = pb.UserProfile(time_zone="Europe/Berlin")
            door.backend.users_answers["UpdateProfile"] = pb.UpdateProfileResponse(profile=profile)
            body = {"timeZone": "Europe/Berlin", "quietHours": None, "mutes": []}
            status, answer = await call(door, "PATCH", "/v1/users/ann/profile", json=body)
            assert (status, answer["profile"]["timeZone"]) == (200, "Europe/Berlin")
            [(_, _, asked)] = door.backend.asked_users
            assert asked == pb.UpdateProfileRequest(
                user="ann", profile=profile, parts=["time_zone", "quiet_hours", "mutes"]
            )

    run_on_uvloop(main())


BAD_BODIES = {
    "another's name": ("POST", "/v1/me/mutes", {"subject": "/a", "user": "bob"}),
    "an unknown part": ("PATCH", "/v1/me/profile", {"name": "Ann"}),
    "a name of our own": ("PATCH", "/v1/me/profile", {"time_zone": "UTC"}),
    "a wrong type": ("PATCH", "/v1/me/profile", {"locale": 7}),
    "no time": ("POST", "/v1/me/mutes", {"subject": "/a", "until": "tomorrow"}),
    "a time out of range": (
        "POST",
        "/v1/me/mutes",
        {"subject": "/a", "until": "99999-01-01T00:00:00Z"},
    ),
    "users of one's own follows": (
        "POST",
        "/v1/me/follows",
        {"users": ["bob"], "subjects": ["/a"]},
    ),
    "everywhere of one's own": (
        "DELETE",
        "/v1/me/follows",
        {"subjects": ["/a"], "everywhere": False},
    ),
    "a list": ("POST", "/v1/follows", []),
    "no list of users": ("POST", "/v1/follows", {"users": "ann", "subjects": ["/a"]}),
    "deep nesting": ("PATCH", "/v1/me/profile", {"mutes": [[[[[[[[]]]]]]]]}),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_refused_and_not_quoted(name: str) -> None:
    method, path, body = BAD_BODIES[name]

    async def main() -> None:
        async with open_door() as door:
            status, answer = await call(door, method, path, json=body)
            assert (status, answer["code"]) == (400, "FRAME_MALFORMED")
            assert "bob" not in answer["message"] and "tomorrow" not in answer["message"]
            assert not door.backend.asked_users

    run_on_uvloop(main())


PREFERENCE = {"category": "a", "channel": "fcm", "allowed": True}
NAMED = [
    ("PATCH", "profile", {"locale": 7}, "`locale` is a text."),
    ("PATCH", "profile", {"timeZone": ["Mars"]}, "`timeZone` is a text."),
    ("PATCH", "profile", {"quietHours": "night"}, "`quietHours` is an object."),
    ("PATCH", "profile", {"quietHours": {"fromMinute": "night"}},
     "`quietHours.fromMinute` is a whole number in its range."),
    ("PATCH", "profile", {"quietHours": {"toMinute": -1}},
     "`quietHours.toMinute` is a whole number in its range."),
    ("PATCH", "profile", {"quietHours": {"days": "Mon"}}, "`quietHours.days` is a list."),
    ("PATCH", "profile", {"quietHours": {"days": [1, "Mon"]}},
     "`quietHours.days[1]` is a whole number in its range."),
    ("PATCH", "profile", {"quietHours": {"from": 1}},
     "The body has a field `from` in `quietHours` that is not known."),
    ("PATCH", "profile", {"preferences": [PREFERENCE, PREFERENCE | {"allowed": "Mars"}]},
     "`preferences[1].allowed` is true or false."),
    ("PATCH", "profile", {"preferences": PREFERENCE}, "`preferences` is a list."),
    ("PATCH", "profile", {"preferences": ["Mars"]}, "`preferences[0]` is an object."),
    ("PATCH", "profile", {"mutes": [{"subject": "/a"}, {"until": "Mars"}]},
     "`mutes[1].until` is a time, as in 2026-11-22T12:00:00Z."),
    ("PATCH", "profile", {"mutes": [{"subject": "/a", "x y": 1}]},
     "The body has a field in `mutes[0]` that is not known."),
    ("PATCH", "profile", {"name": "Mars"}, "The body has a field `name` that is not known. "
     "It has `locale`, `timeZone`, `quietHours`, `preferences`, `mutes`."),
    ("POST", "mutes", {"subject": ["/a"]}, "`subject` is a text."),
    ("POST", "mutes", {"subject": "/a", "until": "Mars"},
     "`until` is a time, as in 2026-11-22T12:00:00Z."),
    ("POST", "mutes", {"subject": "/a", "user": "Mars"},
     "The body has a field `user` that is not known."),
    ("DELETE", "mutes", {"subject": 7}, "`subject` is a text."),
    ("DELETE", "mutes", {"subject": "/a", "until": "Mars"},
     "The body has a field `until` that is not known. It has `subject`."),
    ("POST", "follows", {"subjects": "/a"}, "`subjects` is a list."),
    ("POST", "follows", {"subjects": ["/a", 7]}, "`subjects[1]` is a text."),
    ("POST", "follows", {"subjects": ["/a", "Mars"]},
     "`subjects[1]` cannot be taken. A subject starts with '/'."),
    ("DELETE", "follows", {"subjects": ["/Mars/"]},
     "`subjects[0]` cannot be taken. A subject has no empty segment and no '/' at its end."),
    ("POST", "endpoints", {"uri": 7}, "`uri` is an external token."),
    ("POST", "endpoints", {"uri": "mailto:Mars"}, "`uri` cannot be taken. A mailto: token is one "
     "plain address, as in mailto:ann@example.org."),
    ("DELETE", "endpoints", {}, "`uri` is an external token."),
    ("POST", "endpoints", {"uri": "fcm:1", "token": "Mars"},
     "The body has a field `token` that is not known. It has `uri`."),
]  # fmt: skip


@pytest.mark.parametrize(("method", "name", "body", "sentence"), NAMED, ids=str)
def test_the_field_that_is_wrong_is_named_and_what_stands_there_is_not_quoted(
    method: str, name: str, body: Any, sentence: str
) -> None:
    async def main() -> None:
        async with open_door() as door:
            status, answer = await call(door, method, f"/v1/me/{name}?user=ann", json=body)
            assert (status, answer["message"]) == (400, sentence)
            assert "Mars" not in answer["message"]
            assert not door.backend.asked_users

    run_on_uvloop(main())


def test_fields_that_presence_names_have_their_names_in_json() -> None:
    sentences = {
        "`quiet_hours.from_minute` is 0 to 1439.": "`quietHours.fromMinute` is 0 to 1439.",
        "`time_zone` is an IANA name, as in Europe/Berlin.": "`timeZone` is an IANA name, "
        "as in Europe/Berlin.",
        "`mutes[1].until` and snake_case.": "`mutes[1].until` and snake_case.",
    }

    async def main() -> None:
        async with open_door() as door:
            for said, told in sentences.items():
                door.backend.refusal = refuse(Code.ARGUMENT_INVALID, said)
                _, answer = await call(door, "PATCH", "/v1/me/profile?user=ann", json={})
                assert answer["message"] == told
                assert door.backend.refusal.message == said

    run_on_uvloop(main())


def test_a_bad_subject_and_a_bad_user_are_refused() -> None:
    async def main() -> None:
        async with open_door() as door:
            for method, path, body, code in (
                ("POST", "/v1/me/follows", {"subjects": ["chat"]}, "SUBJECT_INVALID"),
                ("POST", "/v1/users/ann/revoke", {"subject": "chat"}, "SUBJECT_INVALID"),
                ("GET", f"/v1/users/{'x' * 129}/profile", None, "ARGUMENT_INVALID"),
                ("GET", "/v1/users/a%0Ab/profile", None, "ARGUMENT_INVALID"),
                ("GET", "/v1/me/follows?limit=0", None, "ARGUMENT_INVALID"),
            ):
                status, answer = await call(door, method, path, json=body)
                assert (status, answer["code"]) == (400, code)

    run_on_uvloop(main())


def test_a_user_whose_name_has_a_slash_is_written_with_percent() -> None:
    async def main() -> None:
        async with open_door() as door:
            path = URL(f"{door.url}/v1/users/team%2Fann%40x/profile", encoded=True)
            async with aiohttp.ClientSession() as session, session.get(path) as response:
                assert response.status == 200
            assert [user for _, user, _ in door.backend.asked_users] == ["team/ann@x"]

    run_on_uvloop(main())


def test_lists_come_as_json_with_all_fields() -> None:
    async def main() -> None:
        async with open_door() as door:
            until = Timestamp(seconds=1_000)
            follow = pb.FollowedSubject(subject="/a", base=7, muted_until=until)
            door.backend.users_answers = {
                "ListFollows": pb.ListFollowsResponse(follows=[follow], next_after_subject="/a"),
                "ListEndpoints": pb.ListEndpointsResponse(endpoints=[pb.UserEndpoint(uri=MAIL)]),
                "GetProfile": pb.GetProfileResponse(
                    profile=pb.UserProfile(mutes=[pb.SubjectMute(subject="/a", until=until)])
                ),
            }
            _, answer = await call(door, "GET", "/v1/users/ann/follows?after=/0&limit=9")
            assert answer == {
                "follows": [
                    {
                        "subject": "/a",
                        "clientId": "",
                        "base": "7",
                        "mutedUntil": "1970-01-01T00:16:40Z",
                    },
                ],
                "nextAfterSubject": "/a",
            }
            assert door.backend.asked_users[0][2] == pb.ListFollowsRequest(
                user="ann", after_subject="/0", limit=9
            )
            _, answer = await call(door, "GET", "/v1/users/ann/endpoints")
            assert answer["endpoints"] == [{"uri": MAIL, "clientIds": [], "optedOut": False}]
            _, answer = await call(door, "GET", "/v1/users/ann/mutes")
            assert answer == {"mutes": [{"subject": "/a", "until": "1970-01-01T00:16:40Z"}]}

    run_on_uvloop(main())


def test_what_presence_refuses_is_told_as_it_is() -> None:
    async def main() -> None:
        async with open_door() as door:
            door.backend.refusal = refuse(Code.TOO_MANY_EXTERNAL_TOKENS, "At most 16.")
            status, answer = await call(door, "POST", "/v1/users/ann/endpoints", json={"uri": MAIL})
            assert (status, answer["code"], answer["message"]) == (
                400, "TOO_MANY_EXTERNAL_TOKENS", "At most 16.",
            )  # fmt: skip

    run_on_uvloop(main())
