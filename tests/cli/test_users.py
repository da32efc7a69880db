"""`onward follows`, `endpoints`, `profile`, `mute`, `revoke`, `erase`, `presence` as processes."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from onward.presence.v1 import presence_pb2
from typer.testing import CliRunner

from services.cli import __main__ as cli
from tests.cli.commands import ended, started
from tests.edge.door import open_door
from tests.sdk.scripted_edge import ScriptedEdge, scripted_edge

Run = Callable[[Coroutine[Any, Any, None]], None]
FORBIDDEN = {"code": "FORBIDDEN", "message": "Only an administrator may do that."}


def test_a_refusal_is_one_sentence_and_exit_code_1(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            for path, words in (
                ("/v1/follows", ("follows", "add", "/a", "--user", "ann")),
                ("/v1/users/ann/endpoints", ("endpoints", "list", "--user", "ann")),
                ("/v1/users/ann/profile", ("profile", "get", "--user", "ann")),
                ("/v1/users/ann", ("erase", "ann", "--yes")),
            ):
                edge.answers[path] = (403, FORBIDDEN)
                done = await ended(*words, home=tmp_path, url=edge.url)
                sentence = f"FORBIDDEN: {FORBIDDEN['message']}\n"
                assert (done.code, done.out, done.err) == (1, "", sentence)

    run(story())


WRONG = [
    ("follows", "add"),
    ("follows", "nothing"),
    ("endpoints", "add"),
    ("profile", "set"),
    ("profile", "set", "--quiet", "22-7"),
    ("profile", "set", "--quiet", "24:00-07:00"),
    ("profile", "set", "--quiet", "22:00-07:00", "--days", "1,8"),
    ("profile", "set", "--quiet", "22:00-07:00", "--days", "12"),
    ("profile", "set", "--days", "1"),
    ("profile", "set", "--prefer", "chat=on"),
    ("profile", "set", "--prefer", "chat/mailto=perhaps"),
    ("mute", "/a", "--for", "8"),
    ("mute", "/a", "--for", "0h"),
    ("mute", "/a", "--for", "-1h"),
    ("presence",),
    ("presence", "--subject", "/a", "--user", "ann"),
]


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_wrong_usage_is_exit_code_2_before_anybody_is_asked(words: tuple[str, ...]) -> None:
    nobody = {"ONWARD_URL": "http://127.0.0.1:1"}
    done = CliRunner().invoke(cli.app, [*words], env=nobody)
    assert done.exit_code == 2, done.output
    assert "Usage" in done.output


async def asked(edge: ScriptedEdge, home: Path, *words: str) -> str:
    """Runs a command that must succeed; what it prints."""
    done = await ended(*words, home=home, url=edge.url)
    assert done.code == 0, (words, done.err)
    return done.out


def test_users_are_had_to_follow_and_no_longer(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/follows"] = (200, {"added": 2, "removed": 1})
            edge.answers["/v1/me/follows"] = (200, {"added": 1, "removed": 0})
            both = ("--user", "ann", "--user", "bob")
            assert await asked(edge, tmp_path, "follows", "add", "/a", *both) == "2 follows added\n"
            assert await asked(edge, tmp_path, "follows", "add", "/a") == "1 follow added\n"
            out = await asked(edge, tmp_path, "follows", "remove", "/a", *both, "--everywhere")
            assert out == "1 follow removed\n"
            out = await asked(edge, tmp_path, "follows", "remove", "/a", "--json")
            assert json.loads(out) == {"event": "removed", "count": 0}
            users = ["ann", "bob"]
            assert [(path, body) for path, _, body in edge.requests] == [
                ("/v1/follows", {"users": users, "subjects": ["/a"]}),
                ("/v1/me/follows", {"subjects": ["/a"]}),
                ("/v1/follows", {"users": users, "subjects": ["/a"], "everywhere": True}),
                ("/v1/me/follows", {"subjects": ["/a"]}),
            ]

    run(story())


def test_follows_are_listed_with_clients_and_mutes(run: Run, tmp_path: Path) -> None:
    follows = [
        {"subject": "/a", "clientId": "", "base": "3"},
        {"subject": "/b", "clientId": "tab\x1b[2J", "mutedUntil": "2030-01-01T00:00:00Z"},
        {"subject": "/c", "clientId": "tab", "mutedUntil": "9999-12-31T23:59:59Z"},
    ]

    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/users/ann/follows"] = (200, {"follows": follows})
            out = await asked(edge, tmp_path, "follows", "list", "--user", "ann")
            for words in ("/a", "(backend)", "after 3", "2030-01-01 00:00:00 UTC", "it is ended"):
                assert words in out
            assert "\x1b" not in out
            lines = await asked(edge, tmp_path, "follows", "list", "--user", "ann", "--json")
            first = json.loads(lines.splitlines()[0])
            assert first == {"event": "follow", **follows[0]}

    run(story())


def test_a_token_that_a_provider_drew_is_shown_by_its_beginning(run: Run, tmp_path: Path) -> None:
    secret = "fcm:" + "s" * 100

    async def story() -> None:
        async with scripted_edge() as edge:
            path = "/v1/users/ann/endpoints"
            endpoints = [{"uri": secret, "clientIds": ["c1"]}, {"uri": "mailto:ann@example.org"}]
            edge.answers[path] = (200, {"endpoints": endpoints, "removed": False})
            out = await asked(edge, tmp_path, "endpoints", "list", "--user", "ann")
            assert secret not in out
            assert "mailto:ann@example.org" in out
            out = await asked(edge, tmp_path, "endpoints", "list", "--user", "ann", "--json")
            assert secret in out
            await asked(edge, tmp_path, "endpoints", "add", secret, "--user", "ann")
            out = await asked(edge, tmp_path, "endpoints", "remove", secret, "--user", "ann")
            assert out == "there was none\n"
            assert [body for _, _, body in edge.requests[2:]] == [{"uri": secret}] * 2

    run(story())


def test_a_profile_is_shown_and_changed_in_parts(run: Run, tmp_path: Path) -> None:
    profile = {
        "locale": "de",
        "timeZone": "Europe/Berlin",
        "quietHours": {"fromMinute": 1320, "toMinute": 420, "days": [1, 2]},
        "preferences": [{"category": "chat", "channel": "", "allowed": False}],
        "mutes": [{"subject": "/a/*"}],
    }
    categories = [{"name": "chat", "title": "Chats", "allowed": True}]

    async def story() -> None:
        async with scripted_edge() as edge:
            path = "/v1/users/ann/profile"
            edge.answers[path] = (200, {"profile": profile, "categories": categories})
            ann = ("--user", "ann")
            out = await asked(edge, tmp_path, "profile", "get", *ann)
            for words in (
                "Europe/Berlin", "22:00-07:00, days 1,2", "chat by any channel: off",
                "/a/* until it is ended", "chat (Chats), on by default",
            ):  # fmt: skip
                assert words in out
            out = await asked(
                edge, tmp_path, "profile", "set", *ann, "--locale", "de", "--quiet", "22:00-7:05",
                "--days", "1,2", "--prefer", "chat/mailto=off", "--prefer", "/fcm=on",
            )  # fmt: skip
            assert "locale       de\n" in out
            await asked(
                edge, tmp_path, "profile", "set", *ann, "--quiet", "none", "--prefer", "none"
            )
            assert [body for _, _, body in edge.requests[1:]] == [
                {
                    "locale": "de",
                    "quietHours": {"fromMinute": 1320, "toMinute": 425, "days": [1, 2]},
                    "preferences": [
                        {"category": "chat", "channel": "mailto", "allowed": False},
                        {"category": "", "channel": "fcm", "allowed": True},
                    ],
                },
                {"quietHours": None, "preferences": []},
            ]

    run(story())


def test_a_subject_is_muted_for_a_time_or_until_it_is_ended(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/me/mutes"] = (200, {"removed": False})
            await asked(edge, tmp_path, "mute", "/a")
            out = json.loads(await asked(edge, tmp_path, "mute", "/b/*", "--for", "8h", "--json"))
            out2 = await asked(edge, tmp_path, "unmute", "/a")
            assert out2 == "it was not muted by that name\n"
            bodies = [body for _, _, body in edge.requests]
            assert bodies[0] == bodies[2] == {"subject": "/a"}
            assert bodies[1]["until"][:19] == out["until"][:19]

    run(story())


def test_a_revocation_says_how_much_it_ended(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/users/ann/revoke"] = (200, {"ended": 3})
            assert await asked(edge, tmp_path, "revoke", "ann") == "3 follows ended\n"
            await asked(edge, tmp_path, "revoke", "ann", "/a")
            assert [body for _, _, body in edge.requests] == [{}, {"subject": "/a"}]

    run(story())


def test_nobody_is_erased_without_being_meant(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/users/ann"] = (200, {})
            async with started("erase", "ann", home=tmp_path, url=edge.url) as running:
                done = await running.end()
            assert done.code == 1
            assert edge.requests == []
            out = await asked(edge, tmp_path, "erase", "ann", "--yes", "--json")
            assert json.loads(out) == {"event": "erased", "user": "ann"}

    run(story())


# -- who is there ----------------------------------------------------------------------------------


def test_who_is_there_is_shown_with_all_pages(run: Run, tmp_path: Path) -> None:
    client = {"user": "ann", "clientId": "c1", "state": "online", "active": False}
    page = {"clients": [client], "present": "2", "absent": "5", "nextAfterUser": ""}

    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/presence"] = (200, page)
            out = await asked(edge, tmp_path, "presence", "--subject", "/a")
            for words in ("/a: 2 there, 5 away", "ann", "c1", "online, in the background"):
                assert words in out
            last = {"clients": [], "lastSeen": "2026-11-22T12:00:00Z"}
            edge.answers["/v1/presence"] = (200, last)
            out = await asked(edge, tmp_path, "presence", "--user", "ann")
            assert "ann: last seen 2026-11-22 12:00:00" in out

    run(story())


def test_who_is_there_is_told_again_when_it_changes(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with open_door() as door:
            door.backend.presences = [
                presence_pb2.GetPresenceResponse(present=1),
                presence_pb2.GetPresenceResponse(present=2),
            ]
            words = ("presence", "--subject", "/a", "--watch", "--json")
            async with started(*words, home=tmp_path, url=door.url) as running:
                seen = await running.event("presence")
                while seen["present"] != "2":
                    seen = await running.event("presence")
                running.process.terminate()
                await asyncio.wait_for(running.process.wait(), 10)

    run(story())
