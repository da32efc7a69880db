"""`onward dead-letters` and `onward send-test`: what is told, asked for, and refused."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import ended
from tests.sdk.scripted_edge import scripted_edge

Run = Callable[[Coroutine[Any, Any, None]], None]
LETTER = {
    "deliveryId": "0123456789abcdef0123456789abcdef", "user": "ann\x1b[31m", "subject": "/a",
    "channel": "mailto", "reason": "TRIES_EXHAUSTED", "expiresAt": "2026-11-22T12:00:00.123Z",
    "attempts": 8,
    "lastAttempt": {"at": "2026-11-22T11:00:00Z", "outcome": "RETRY", "detail": "451 busy"},
}  # fmt: skip


def test_the_list_shows_why_each_was_given_up(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/dead-letters"] = (200, {"letters": [LETTER], "nextAfterId": ""})
            done = await ended("dead-letters", "list", "--user", "ann", home=tmp_path, url=edge.url)
            assert done.code == 0
            flat = "".join(done.out.split())
            for word in ("ann", "mailto", "451", "8"):
                assert word in flat, done.out
            assert "\x1b" not in done.out
            assert edge.requests[0][1] == {"user": "ann", "limit": "100"}
            args = ("dead-letters", "list", "--json", "--limit", "1")
            done = await ended(*args, home=tmp_path, url=edge.url)
            assert done.lines == [{"event": "deadLetter", **LETTER}]
            edge.answers["/v1/dead-letters"] = (200, {"letters": []})
            done = await ended("dead-letters", "list", home=tmp_path, url=edge.url)
            assert done.out == "There are none.\n"

    run(story())


def test_one_is_shown_with_every_try(run: Run, tmp_path: Path) -> None:
    found = {"letter": LETTER, "attempts": [LETTER["lastAttempt"]] * 2, "firstSeq": "3",
             "lastSeq": "5", "count": 3}  # fmt: skip

    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/dead-letters/d1"] = (200, found)
            done = await ended("dead-letters", "show", "d1", home=tmp_path, url=edge.url)
            assert done.code == 0
            assert done.out.count("2026-11-22 11:00:00 RETRY (451 busy)") == 2
            assert "/a, messages 3 to 5 (3)" in done.out
            edge.answers["/v1/dead-letters/d1"] = (
                404, {"code": "ARGUMENT_INVALID", "message": "There is no dead letter of that id."}
            )  # fmt: skip
            done = await ended("dead-letters", "show", "d1", home=tmp_path, url=edge.url)
            assert (done.code, done.out) == (1, "")

    run(story())


@pytest.mark.parametrize(
    ("words", "which"),
    [
        (["--all"], {"all": True}),
        (["d1", "d2"], {"ids": ["d1", "d2"]}),
        (["--user", "ann", "--channel", "tel"], {"user": "ann", "channel": "tel"}),
        (["--reason", "TEMPLATE_FAILED"], {"reason": "TEMPLATE_FAILED"}),
    ],
)
def test_some_or_all_are_replayed_or_dropped(
    run: Run, tmp_path: Path, words: list[str], which: dict[str, Any]
) -> None:
    nothing = {"ids": [], "user": "", "channel": "", "reason": "", "all": False, "after": ""}

    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/dead-letters/replay"] = (200, {"replayed": 3, "expired": 1})
            edge.answers["/v1/dead-letters/drop"] = (200, {"dropped": 1})
            done = await ended("dead-letters", "replay", *words, home=tmp_path, url=edge.url)
            assert done.out == (
                "3 dead letters are due again; 1 dead letter has expired and stays\n"
            )
            assert edge.requests[0] == ("/v1/dead-letters/replay", {}, nothing | which)
            done = await ended("dead-letters", "drop", *words, home=tmp_path, url=edge.url)
            assert done.out == "1 dead letter is dropped\n"
            done = await ended(
                "dead-letters", "replay", *words, "--json", home=tmp_path, url=edge.url
            )
            assert done.lines == [{"event": "replayed", "replayed": 3, "expired": 1}]

    run(story())


@pytest.mark.parametrize("verb", ["replay", "drop"])
@pytest.mark.parametrize("words", [[], ["--all", "--user", "ann"], ["--all", "d1"]])
def test_nothing_is_not_everything(run: Run, tmp_path: Path, verb: str, words: list[str]) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            done = await ended("dead-letters", verb, *words, home=tmp_path, url=edge.url)
            assert done.code == 2
            assert "--all" in done.err
            assert not edge.requests

    run(story())


@pytest.mark.parametrize(("outcome", "code"), [("ACCEPTED", 0), ("MISCONFIGURED", 1)])
def test_a_test_is_told_by_its_word_and_the_exit_code(
    run: Run, tmp_path: Path, outcome: str, code: int
) -> None:
    told = {"plugin": "mailer", "outcome": outcome, "detail": "250 ok", "providerId": "p1"}

    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/send-test"] = (200, told)
            args = ("send-test", "mailto:ann@example.org", "--text", "hi")
            done = await ended(*args, home=tmp_path, url=edge.url)
            assert done.out == f"mailer: {outcome} (250 ok), by the provider's name p1\n"
            assert done.code == code
            body = {"endpoint": "mailto:ann@example.org", "user": "", "text": "hi"}
            assert edge.requests[0] == ("/v1/send-test", {}, body)
            done = await ended(*args, "--json", home=tmp_path, url=edge.url)
            assert (done.lines, done.code) == ([{"event": "tested", **told}], code)

    run(story())
