"""`onward publish`, `history`, `explain` as processes, against written answers."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import ended
from tests.sdk.scripted_edge import message, scripted_edge

Run = Callable[[Coroutine[Any, Any, None]], None]

STORY = {
    "outcomes": [
        {"fromSeq": "1", "toSeq": "1", "state": "ACKNOWLEDGED", "text": "Client ann-1 has it."},
        {
            "fromSeq": "2",
            "toSeq": "4",
            "state": "NOTIFIED",
            "notificationId": "n1",
            "deliveries": [
                {
                    "deliveryId": "d1",
                    "channel": "mailto",
                    "state": "accepted",
                    "attempts": [
                        {"at": "2026-11-22T12:00:01Z", "outcome": "RETRY", "detail": "busy"},
                        {"at": "2026-11-22T12:00:09Z", "outcome": "ACCEPTED", "detail": ""},
                    ],
                }
            ],
        },
    ],
    "clients": [
        {"clientId": "ann-1", "state": "offline", "generation": "2", "base": "0", "acked": "1"}
    ],
}


def test_publish_prints_the_number(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/publish"] = (200, {"seq": "7", "epoch": "9", "duplicate": False})
            asked = ("publish", "/a", "hi", "--user", "bob", "--header", "title=Bob = you")
            assert (await ended(*asked, home=tmp_path, url=edge.url)).out == "7\n"
            (line,) = (await ended(*asked, "--json", home=tmp_path, url=edge.url)).lines
            assert line == {
                "event": "published",
                "subject": "/a",
                "seq": 7,
                "epoch": 9,
                "duplicate": False,
            }
            body = {"subject": "/a", "text": "hi", "headers": {"title": "Bob = you"}}
            assert edge.requests[0] == ("/v1/publish", {"user": "bob"}, body)

    run(story())


def test_publish_says_whether_it_is_retained_or_transient(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/publish"] = (200, {"seq": "7", "epoch": "9", "duplicate": False})
            asked = ("publish", "/a", "hi", "--user", "bob")
            await ended(*asked, "--retain", home=tmp_path, url=edge.url)
            edge.answers["/v1/publish"] = (200, {"seq": "0", "epoch": "9", "duplicate": False})
            typing = await ended(*asked, "--transient", home=tmp_path, url=edge.url)
            assert (typing.code, typing.out) == (0, ""), "it has no number"
            bodies = [body for _, _, body in edge.requests]
            plain = {"subject": "/a", "text": "hi"}
            assert bodies == [plain | {"retain": True}, plain | {"transient": True}]

    run(story())


def test_a_refusal_is_its_code_and_sentence_on_stderr(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            refusal = {"code": "SUBJECT_INVALID", "message": "A subject starts with '/'."}
            edge.answers["/v1/publish"] = (400, refusal)
            result = await ended("publish", "a", "hi", home=tmp_path, url=edge.url)
            assert (result.code, result.out) == (1, "")
            assert result.err == "SUBJECT_INVALID: A subject starts with '/'.\n"

    run(story())


@pytest.mark.parametrize(
    "arguments",
    [
        ("publish", "/a"),
        ("publish", "/a", "hi", "--header", "no-value"),
        ("publish", "/a", "hi", "--url", "127.0.0.1:8080"),
        ("publish", "/a", "hi", "--retain", "--transient"),
        ("history", "/a", "--limit", "0"),
        ("explain", "--user", "ann"),
        ("dance",),
        ("up", "--port", "70000"),
    ],
)
def test_wrong_usage_is_code_2(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    async def story() -> None:
        result = await ended(*arguments, home=tmp_path)
        assert result.code == 2
        assert "Usage" in result.err

    run(story())


def test_history_reads_on_until_the_head(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            page = {"messages": [message("/a", 3), message("/a", 4)], "head": "4", "logId": "L"}
            edge.answers["/v1/history"] = (200, page)
            asked = ("history", "/a", "--after", "2", "--limit", "5000", "--json")
            result = await ended(*asked, home=tmp_path, url=edge.url)
            assert [(line["seq"], line["text"]) for line in result.lines] == [(3, "m3"), (4, "m4")]
            query = {"subject": "/a", "after": "2", "limit": "1000"}
            assert edge.requests == [("/v1/history", query, None)]
            result = await ended("history", "/a", home=tmp_path, url=edge.url)
            assert [line.split()[0] for line in result.out.splitlines()] == ["3", "4"]

    run(story())


def test_explain_tells_the_story_of_each_message(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with scripted_edge() as edge:
            edge.answers["/v1/explain"] = (200, STORY)
            asked = ("explain", "--user", "ann", "--subject", "/a")
            one, two = (await ended(*asked, "--json", home=tmp_path, url=edge.url)).lines
            assert (one["fromSeq"], one["state"]) == ("1", "ACKNOWLEDGED")
            assert (two["toSeq"], two["deliveries"][0]["channel"]) == ("4", "mailto")
            assert two["clients"][0]["state"] == "offline"
            shown = (await ended(*asked, home=tmp_path, url=edge.url)).out
            for word in ("ACKNOWLEDGED", "2–4", "mailto", "accepted, 2", "ann-1"):
                assert word in shown
            assert edge.requests[0][1] == {"user": "ann", "subject": "/a"}
            edge.answers["/v1/explain"] = (200, {**STORY, "outcomes": STORY["outcomes"][1:]})
            shown = (await ended(*asked, home=tmp_path, url=edge.url)).out
            assert "/a for ann, messages 2–4: NOTIFIED" in shown
            assert "RETRY 2026-11-22 12:00:01 (busy)" in shown

    run(story())


def test_nobody_there_is_a_sentence_with_the_remedy(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        result = await ended("history", "/a", home=tmp_path, url="http://127.0.0.1:1")
        assert result.code == 1
        assert "cannot be reached" in result.err
        assert "onward up" in result.err
        assert result.err.count("\n") == 1

    run(story())
