"""`onward routing check`: what is told of a file, to people and to programs; its exit codes."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli import routing
from services.cli.__main__ import app
from tests.cli.commands import Ended, ended

Run = Callable[[Coroutine[Any, Any, None]], None]
ROOT = Path(__file__).parents[2]
WRONG = """routes:
  - {subject: /a/*/b, channels: [email]}
rates: 5
templates: {t: {title: "{{ usr }}"}}
"""
RIGHT = """categories:
  news: {title: News, default: off, off_on: [tel]}
routes:
  - {subject: /a/*, headers: {kind: alarm}, channels: [[fcm, slack], [tel]], escalate_s: 300}
  - {subject: /n, category: news, digest_s: 60, template: t}
rates: {tel: {at_most: 5, per_s: 60, then: drop}}
templates: {t: {title: Hi}}
"""


def checked(run: Run, tmp_path: Path, text: str, *more: str) -> Ended:
    file = tmp_path / "routing.yaml"
    file.write_text(text)
    found: list[Ended] = []

    async def body() -> None:
        found.append(await ended("routing", "check", str(file), *more, home=tmp_path))

    run(body())
    return found[0]


def test_all_that_is_wrong_is_told_by_line_and_the_exit_code_says_so(
    run: Run, tmp_path: Path
) -> None:
    done = checked(run, tmp_path, WRONG)
    assert done.code == 1
    *told, last = done.out.splitlines()
    path = tmp_path / "routing.yaml"
    assert [line.startswith(f"{path}:{n}: ") for n, line in zip((2, 2, 3, 4), told, strict=True)]
    assert any("write `mailto`" in line for line in told)
    assert last == "4 mistakes; presence would not take this file."


def test_what_is_wrong_is_told_to_programs_too(run: Run, tmp_path: Path) -> None:
    done = checked(run, tmp_path, WRONG, "--json")
    assert done.code == 1
    assert [(one["event"], one["line"]) for one in done.lines] == [
        ("problem", 2), ("problem", 2), ("problem", 3), ("problem", 4),
    ]  # fmt: skip
    assert all(one["text"] for one in done.lines)


def test_what_a_file_says_is_shown(run: Run, tmp_path: Path) -> None:
    done = checked(run, tmp_path, RIGHT)
    assert (done.code, done.err) == (0, "")
    for words in ("/a/* {kind: alarm}: by fcm + slack, after 300 s by tel, policy user",
                  "anything else: by all channels, ", "template t, digest 60 s",
                  "Category news (News): off by default, off on tel.",
                  "At most 5 in 60 s by tel; what is more is dropped.", "Template t.",
                  "2 routes; channels that it names: fcm, slack, tel."):  # fmt: skip
        assert words in done.out


def test_what_a_file_says_is_told_to_programs_whole(run: Run, tmp_path: Path) -> None:
    done = checked(run, tmp_path, RIGHT, "--json")
    assert done.code == 0
    kinds = [one["event"] for one in done.lines]
    assert kinds == ["category", "route", "route", "defaults", "rate", "template", "checked"]
    route = done.lines[1]
    assert (route["subject"], route["headers"]) == ("/a/*", {"kind": "alarm"})
    assert (route["channels"], route["escalateS"]) == ([["fcm", "slack"], ["tel"]], 300.0)
    assert (route["expiryS"], route["policy"], route["priority"]) == (None, "user", "normal")
    assert done.lines[-1]["channels"] == ["fcm", "slack", "tel"]


def test_the_expiry_of_the_settings_can_be_said(run: Run, tmp_path: Path) -> None:
    done = checked(run, tmp_path, RIGHT, "--expiry-s", "30")
    assert done.code == 1
    assert "never sent" in done.out


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["routing", "check", str(tmp_path / "nothing.yaml")])
    assert found.exit_code == 2


def test_where_presence_is_not_installed_the_remedy_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "routing.yaml"
    file.write_text(RIGHT)
    monkeypatch.setattr(routing, "_CHECK", "services.presence_that_is_not_there")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = CliRunner().invoke(app, ["routing", "check", str(file)])
    assert found.exit_code == 1
    assert "pip install onward[presence]" in found.stderr
