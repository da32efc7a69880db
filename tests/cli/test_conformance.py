"""`onward conformance`: its usage, its output, its exit codes. What it finds: tests/plugins."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.cli.__main__ import app
from services.cli.conformance_callbacks import read_sample
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


def test_a_plugin_that_serves_whoever_shows_nothing_does_not_conform(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.plugins.broken", "says serving of anything"]
    with subprocess.Popen(
        [*command, str(tmp_path / "sent.jsonl")],
        cwd=ROOT, env=base_environ(), stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        address = f"127.0.0.1:{int(process.stdout.readline())}"
        try:
            for shown in ([], ["--secret", SECRET]):
                ended = conformance(address, *shown, "--rule", "callers")
                assert ended.exit_code == 1
                assert "does not conform: callers" in ended.stdout
                assert "shows nothing" in ended.stdout
        finally:
            process.kill()


BAD_SAMPLES = [
    ("", "is no JSON"),
    ("[]", "is no JSON object with a url"),
    ('{"body": "topsecret"}', "is no JSON object with a url"),
    ('{"url": "https://e.org", "topsecret": 1}', "has a field besides method, url"),
    ('{"url": "https://e.org", "headers": ["topsecret"]}', "`headers`"),
    ('{"url": "https://e.org", "headers": {"a": 1}}', "`headers`"),
    ('{"url": "https://e.org", "body": "topsecret", "bodyBase64": ""}', "has both"),
    ('{"url": "https://e.org", "bodyBase64": "topsecret!"}', "is no Base64"),
    (json.dumps({"url": "https://e.org", "body": "x" * 65_537}), "more than 65536 bytes"),
]


@pytest.mark.parametrize(("text", "words"), BAD_SAMPLES)
def test_a_sample_that_is_none_is_wrong_usage_and_is_not_quoted(
    tmp_path: Path, text: str, words: str
) -> None:
    sample = tmp_path / "sample.json"
    sample.write_text(text)
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        read_sample(sample)
    assert "topsecret" not in str(refused.value)
    assert conformance("127.0.0.1:1", "--callback", str(sample)).exit_code == 2
    sample.unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        read_sample(sample)


def test_a_sample_is_read_as_it_stands(tmp_path: Path) -> None:
    sample = tmp_path / "sample.json"
    sample.write_text('{"url": "https://e.org/?a=b", "headers": {"X-Sig": "s"}, "body": "é=1"}')
    read = read_sample(sample)
    assert (read.method, read.url, dict(read.headers)) == (
        "POST", "https://e.org/?a=b", {"x-sig": "s"},
    )  # fmt: skip
    assert read.body == "é=1".encode()
    sample.write_text('{"method": "GET", "url": "https://e.org/", "bodyBase64": "AP8="}')
    read = read_sample(sample)
    assert (read.method, read.body) == ("GET", b"\x00\xff")


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
