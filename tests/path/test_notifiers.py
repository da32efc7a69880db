"""Notifiers that come, hang and die while the suite runs, and what becomes of what waits for them.

Everything as an operator does it: real processes, `onward notifiers`, `onward dead-letters`,
`onward send-test`; a plugin is a process that is told how to answer, and is killed.
"""

import json
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.path.stack import (
    ONWARD,
    QUICK,
    ROOT,
    Program,
    Subscriber,
    Suite,
    base_environ,
    ended,
    free_port,
)
from tests.waiting import wait_for

SETTINGS = {
    "ONWARD_PRESENCE_RETRY_TRIES_MAX": "2",
    "ONWARD_PRESENCE_DEAD_LETTER_AFTER_S": "0",
    "ONWARD_PRESENCE_RETRY_FIRST_S": "0.1",
    "ONWARD_PRESENCE_BREAKER_FIRST_S": "0.2",
    "ONWARD_PRESENCE_BREAKER_LONGEST_S": "0.5",
    "ONWARD_PRESENCE_NOTIFY_DEADLINE_S": "1",
    "ONWARD_PRESENCE_COLLAPSE_S": "0",
    # The suite's own notifier serves nothing of what is sent here.
    "ONWARD_NOTIFIER_CONSOLE": "false",
    "ONWARD_SMTP_URL": "smtp://127.0.0.1:9",
    "ONWARD_SMTP_FROM": "chat@onward.example",
}


class PluginProcess(Program):
    """`tests.path.plugin_process`, which answers as `answer` says."""

    def __init__(self, suite: Suite, scheme: str, folder: Path, port: int = 0) -> None:
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._answer = folder / f"{scheme}.answer"
        self.answer("ACCEPTED")
        secret = (suite.data_dir / "secret").read_text().strip()
        arguments = [sys.executable, "-m", "tests.path.plugin_process", scheme, str(self.port)]
        environ = base_environ() | {"ONWARD_SECRET": secret, "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"}
        super().__init__([*arguments, str(self._answer)], environ)
        wait_for(lambda: self.output.all, 20, "the plugin serves")

    def answer(self, word: str) -> None:
        """Answer so from now on."""
        self._answer.write_text(word)

    @property
    def handed(self) -> list[dict[str, Any]]:
        """Every delivery so far."""
        return [json.loads(line) for line in list(self.output.all)[1:]]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """The suite without any plugin, and two users who are away: one with a scheme of its own."""
    up = Suite(tmp_path_factory.mktemp("data"), QUICK | SETTINGS)
    with ended(up):
        up.wait_ready()
        for user, token in (("ann", "fcm:a-token-of-ann"), ("tom", "pager:tom-7")):
            reader = Subscriber(
                up, tmp_path_factory.mktemp(user), "/all", f"/{user}", "--user", user,
                "--client-id", user, "--external-token", token,
            )  # fmt: skip
            with ended(reader):
                reader.wait_event("connected")
        yield up


def states(suite: Suite, user: str, subject: str, seq: int) -> list[str]:
    return [one["state"] for one in suite.explain(user, subject, seq).get("deliveries", [])]


def delivery_id(suite: Suite, user: str, subject: str, seq: int) -> str:
    [delivery] = suite.explain(user, subject, seq)["deliveries"]
    return str(delivery["deliveryId"])


def onward(suite: Suite, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ONWARD, *arguments],
        env=base_environ() | {"ONWARD_URL": suite.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_plugin_comes_dies_leaves_a_dead_letter_and_sends_it_again_under_its_id(
    suite: Suite, tmp_path: Path
) -> None:
    seq = int(suite.publish("/ann", "waits for a plugin")["seq"])
    wait_for(lambda: states(suite, "ann", "/ann", seq) == ["pending"], 20, "it waits")
    refused = onward(suite, "send-test", "fcm:a-token-of-ann")
    assert refused.returncode == 1
    assert "No plugin serves fcm" in refused.stderr

    plugin = PluginProcess(suite, "fcm", tmp_path)
    with ended(plugin):
        [added] = suite.command("notifiers", "add", "push", plugin.address)
        assert added == {
            "event": "added", "name": "push", "connected": True, "served": ["fcm"],
            "shadowed": [], "shadows": [],
        }  # fmt: skip
        wait_for(lambda: states(suite, "ann", "/ann", seq) == ["accepted"], 20, "it is sent")
        [tested] = suite.command("send-test", "fcm:a-token-of-ann", "--text", "hello")
        assert (tested["plugin"], tested["outcome"]) == ("fcm-plugin", "ACCEPTED")
        assert plugin.handed[-1]["test"]
        _told_by_a_callback(suite, seq)

        plugin.answer("RETRY")
        seq = int(suite.publish("/ann", "will be given up")["seq"])
        wait_for(lambda: states(suite, "ann", "/ann", seq) == ["dead"], 20, "it is given up")
        dead = delivery_id(suite, "ann", "/ann", seq)
        [letter] = suite.command("dead-letters", "list", "--user", "ann")
        assert (letter["deliveryId"], letter["reason"]) == (dead, "TRIES_EXHAUSTED")
        plugin.kill()
        wait_for(lambda: not _notifier(suite, "push")["connected"], 20, "it is gone")
        [done] = suite.command("dead-letters", "replay", dead)
        assert done == {"event": "replayed", "replayed": 1, "expired": 0}
        assert states(suite, "ann", "/ann", seq) == ["retry"]

    again = PluginProcess(suite, "fcm", tmp_path, plugin.port)
    with ended(again):
        wait_for(lambda: states(suite, "ann", "/ann", seq) == ["accepted"], 30, "it is sent")
        [handed] = again.handed
        assert (handed["id"], handed["attempt"]) == (dead, 3)
        assert suite.command("dead-letters", "list") == []
        assert onward(suite, "notifiers", "remove", "push").stdout == (
            "push is registered no more\n"
        )
    [own] = suite.command("notifiers", "list")
    assert own["ofSettings"]


def _notifier(suite: Suite, name: str) -> dict[str, Any]:
    return next(one for one in suite.command("notifiers", "list") if one["name"] == name)


def _told_by_a_callback(suite: Suite, seq: int) -> None:
    """As a provider does: with a bad signature, and with a good one."""
    own_id = delivery_id(suite, "ann", "/ann", seq)
    url = f"{suite.url}/v1/callbacks/fcm-plugin?a=b"

    def called(signature: str) -> tuple[int, str]:
        request = urllib.request.Request(url, own_id.encode(), {"X-Signature": signature})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    assert called("bad") == (403, "")
    assert states(suite, "ann", "/ann", seq) == ["accepted"]
    assert called("good") == (200, url)
    assert states(suite, "ann", "/ann", seq) == ["delivered"]
    assert "Delivered by fcm" in suite.explain("ann", "/ann", seq)["text"]


def _latencies(suite: Suite, plugin: PluginProcess, count: int) -> list[float]:
    """Seconds from a publish to the plugin's call, one after another."""
    found = []
    for _ in range(count):
        before = len(plugin.handed)
        began = time.time()
        suite.publish("/tom", "hello")
        wait_for(lambda b=before: len(plugin.handed) > b, 20, "it is handed over")
        found.append(plugin.handed[before]["at"] - began)
    return found


def test_a_plugin_that_hangs_keeps_nobody_waiting_and_its_own_become_dead_letters(
    suite: Suite, tmp_path: Path
) -> None:
    ill, well = PluginProcess(suite, "fcm", tmp_path), PluginProcess(suite, "pager", tmp_path)
    with ended(ill, well):
        suite.command("notifiers", "add", "ill", ill.address)
        suite.command("notifiers", "add", "well", well.address)
        alone = _latencies(suite, well, 10)
        ill.answer("hang")
        seqs = [int(suite.publish("/ann", f"hangs {n}")["seq"]) for n in range(3)]
        wait_for(lambda: len(ill.handed) > 0, 20, "the plugin hangs")
        beside = _latencies(suite, well, 10)
        medians = [statistics.median(times) * 1000 for times in (alone, beside)]
        worst = [max(times) * 1000 for times in (alone, beside)]
        print(
            f"from publish to plugin: alone {medians[0]:.0f} ms (at most {worst[0]:.0f}), beside "
            f"one that hangs {medians[1]:.0f} ms (at most {worst[1]:.0f})"
        )
        # Far below the second for which the other hangs: nobody waits for it.
        assert medians[1] < 500

        wait_for(lambda: _plugin(suite, "fcm-plugin")["breaker"] != "closed", 20, "it opens")
        assert _plugin(suite, "pager-plugin")["breaker"] == "closed"
        wait_for(
            lambda: all(states(suite, "ann", "/ann", seq) == ["dead"] for seq in seqs),
            60,
            "without an answer twice, they are given up",
        )
        dead = {delivery_id(suite, "ann", "/ann", seq) for seq in seqs}
        ill.answer("ACCEPTED")
        [done] = suite.command("dead-letters", "replay", "--channel", "fcm")
        assert done["replayed"] == len(dead)
        wait_for(
            lambda: all(states(suite, "ann", "/ann", seq) == ["accepted"] for seq in seqs),
            60,
            "they are sent",
        )
        assert {one["id"] for one in ill.handed} == dead
        for name in ("ill", "well"):
            suite.command("notifiers", "remove", name)


def _plugin(suite: Suite, name: str) -> dict[str, Any]:
    plugins = suite.get("/v1/status")["plugins"]
    return next((one for one in plugins if one["name"] == name), {"breaker": "closed"})
