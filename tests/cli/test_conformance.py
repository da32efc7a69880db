"""`onward conformance`: its usage, its output, its exit codes. What it finds: tests/plugins."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.cli.__main__ import app
from services.cli.conformance_rules import RULES, chosen
from tests.certificates import Authority
from tests.path.stack import base_environ, free_port
from tests.plugins.broken import SECRET

ROOT = Path(__file__).parents[2]


def conformance(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["conformance", *arguments], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a plugin that keeps every rule."""
    log = tmp_path_factory.mktemp("plugin") / "sent.jsonl"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.plugins.broken", "sound", str(log)],
        cwd=ROOT, env=base_environ(), stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "write host:port"),
        (["nowhere"], "write host:port"),
        (["127.0.0.1:99999"], "write host:port"),
        (["127.0.0.1:1", "--rule", "politeness"], "no rule is called 'politeness'"),
        (["127.0.0.1:1", "--endpoint", "ann"], "'ann' is no endpoint"),
        (["127.0.0.1:1", "--slow", ":x"], "':x' is no endpoint"),
        (["127.0.0.1:1", "--ca", "ca.pem"], "--cert is missing"),
        (["127.0.0.1:1", "--ca", "/no", "--cert", "/no", "--key", "/no"], "cannot be read"),
    ],
)
def test_wrong_usage_is_a_sentence_and_exit_code_2(arguments: list[str], words: str) -> None:
    ended = conformance(*arguments)
    assert ended.exit_code == 2
    assert words in " ".join(ended.stderr.replace("│", " ").split())


def test_a_plugin_that_is_not_there_is_a_sentence_and_exit_code_1() -> None:
    ended = conformance(f"127.0.0.1:{free_port()}", "--secret", SECRET)
    assert ended.exit_code == 1
    assert "cannot be reached" in ended.stderr


def test_tls_where_there_is_none_is_a_sentence_and_exit_code_1(plugin: str, tmp_path: Path) -> None:
    files = Authority(tmp_path).sign()
    shown = ["--ca", str(files.ca), "--cert", str(files.cert), "--key", str(files.key)]
    ended = conformance(plugin, *shown)
    assert ended.exit_code == 1
    assert "is its TLS as here?" in ended.stderr


def test_rules_are_listed_with_what_they_ask() -> None:
    listed = conformance("--rules").stdout
    assert all(rule.name in listed and rule.sentence in listed for rule in RULES)
    told = json.loads(conformance("--rules", "--json").stdout)
    assert [rule["name"] for rule in told["rules"]] == [rule.name for rule in RULES]


def test_one_rule_is_tried_with_those_that_it_needs(plugin: str) -> None:
    ended = conformance(plugin, "--secret", SECRET, "--rule", "expired", "--json")
    assert ended.exit_code == 0
    told = json.loads(ended.stdout)
    assert (told["event"], told["address"], told["conforms"]) == ("conformance", plugin, True)
    assert {rule["name"]: rule["verdict"] for rule in told["rules"]} == dict.fromkeys(
        ["describe", "health", "delivery", "expired"], "passed"
    )


def test_people_are_told_the_verdict_and_why(plugin: str) -> None:
    ended = conformance(plugin, "--secret", SECRET, "--rule", "repeats")
    assert ended.exit_code == 0
    assert "SKIPPED" in ended.stdout
    assert "give --sent FILE" in ended.stdout
    assert f"{plugin} conforms (3 passed, 1 skipped)" in ended.stdout


def test_without_the_secret_a_plugin_that_asks_for_it_does_not_conform(plugin: str) -> None:
    ended = conformance(plugin)
    assert ended.exit_code == 1
    assert "does not conform: describe" in ended.stdout
    assert "UNAUTHENTICATED" in ended.stdout


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "no line of it"), ("nonsense\n", "is no JSON object"), ("[1]\n", "is no JSON object")],
)
def test_a_log_of_sends_that_shows_nothing_is_found_out(
    plugin: str, tmp_path: Path, content: str, words: str
) -> None:
    sent = tmp_path / "sent.jsonl"
    sent.write_text(content)
    ended = conformance(
        plugin, "--secret", SECRET, "--endpoint", "example:{n}", "--sent", str(sent),
        "--rule", "delivery", "--json",
    )  # fmt: skip
    assert ended.exit_code == 1
    reasons = {rule["name"]: rule["reason"] for rule in json.loads(ended.stdout)["rules"]}
    assert words in reasons["delivery"]


def test_what_a_rule_needs_stands_before_it() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert all(names.index(needed) < names.index(rule.name) for needed in rule.needs)
    assert chosen([]) == list(RULES)
