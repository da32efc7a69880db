"""`onward conformance` is shown plugins that break one rule each, and names that rule."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.chassis.tls import Trust
from services.cli.conformance_callbacks import Request
from services.cli.conformance_plugin import Examined, Wishes
from services.cli.conformance_rules import RULES, Judged, Verdict, judge
from tests.path.stack import base_environ
from tests.plugins.broken import FAULTS, SECRET, signature_of

pytestmark = pytest.mark.timeout(300)  # all of them are examined before the first test

ROOT = Path(__file__).parents[2]
BREAKS = {
    "wrong recipient": "right-recipient",
    "answered twice": "once-each",
    "missing recipient": "every-recipient",
    "answers for strangers": "no-strangers",
    "ignores the deadline": "deadline",
    "sends twice for one id": "repeats",
    "accepts an unknown channel": "unknown-channel",
    "describes a channel that it rejects": "claimed-channels",
    "describes a channel by a name of another": "describe",
    "dies on an oversized batch": "oversized",
    "says serving and works not": "health",
    "works and says not serving": "health",
    "sends what has expired": "expired",
    "quotes the message": "discreet",
    "stumbles over garbage": "garbage",
    "wedges on cancellation": "cancellation",
    "takes one call at a time": "concurrency",
    "forgets itself": "reconnect",
    "believes anybody's callback": "callbacks",
    "describes no channel": "describe",
    "believes what looks signed": "callbacks",
    "asks for the secret in Notify alone": "callers",
}
AT_A_TIME = 7  # a machine with few cores should not be what a deadline is missed for


def wishes(log: Path) -> Wishes:
    url, body = "https://onward.example/v1/callbacks/example?channel=example", b"status=delivered"
    sample = Request(
        method="POST", url=url, body=body, headers={"x-signature": signature_of(url, body)}
    )
    endpoints = ("example:{n}", "pigeon:{n}")
    return Wishes(endpoints=endpoints, slow="example:slow", sent=log, callback=sample)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Judged]]]:
    """What the rules come to for each of the plugins."""
    folder = tmp_path_factory.mktemp("plugins")
    processes = {
        fault: subprocess.Popen(
            [sys.executable, "-m", "tests.plugins.broken", fault, str(folder / f"{fault}.jsonl")],
            cwd=ROOT,
            env=base_environ(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for fault in FAULTS
    }
    turns = asyncio.Semaphore(AT_A_TIME)

    async def examined(fault: str, process: "subprocess.Popen[str]") -> list[Judged]:
        assert process.stdout is not None
        port = int(await asyncio.to_thread(process.stdout.readline))
        log = folder / f"{fault}.jsonl"
        async with turns, Examined(f"127.0.0.1:{port}", Trust(SECRET), wishes(log)) as plugin:
            return await judge(plugin, RULES)

    async def all_of_them() -> dict[str, list[Judged]]:
        found = await asyncio.gather(*(examined(*one) for one in processes.items()))
        return dict(zip(processes, found, strict=True))

    try:
        yield asyncio.run(all_of_them())
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def failed(judged: list[Judged]) -> list[str]:
    return [f"{one.rule.name}: {one.reason}" for one in judged if one.verdict is Verdict.FAILED]


def test_a_sound_plugin_passes_every_rule_but_the_one_about_callbacks(
    verdicts: dict[str, list[Judged]],
) -> None:
    judged = verdicts["sound"]
    assert not failed(judged)
    assert [one.rule.name for one in judged if one.verdict is Verdict.SKIPPED] == ["callbacks"]


def test_a_sound_plugin_that_takes_callbacks_passes_that_rule_too(
    verdicts: dict[str, list[Judged]],
) -> None:
    assert {one.verdict for one in verdicts["sound with callbacks"]} == {Verdict.PASSED}
    assert verdicts["sound with callbacks"][-1].reason.endswith("1 events of the sample")


@pytest.mark.parametrize("fault", BREAKS)
def test_the_broken_rule_is_named_and_no_other(
    fault: str, verdicts: dict[str, list[Judged]]
) -> None:
    broken = failed(verdicts[fault])
    assert [one.partition(":")[0] for one in broken] == [BREAKS[fault]], broken


def test_a_plugin_that_serves_strangers_is_found_out(verdicts: dict[str, list[Judged]]) -> None:
    broken = {one.partition(":")[0] for one in failed(verdicts["says serving of anything"])}
    assert {"callers", "health"} <= broken


def test_every_fault_is_looked_at() -> None:
    assert FAULTS.keys() == {
        *BREAKS,
        "sound",
        "sound with callbacks",
        "says serving of anything",
    }
