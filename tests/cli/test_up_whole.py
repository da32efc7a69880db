"""`run_up` with every service: a crash, and an etcd that lost its data."""

import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.cli import up_data
from tests.cli.test_up import command, descendants, environ, wait_for

READY = "onward ready: "


class Suite:
    """A running `onward up` and what it has printed."""

    def __init__(self, process: "subprocess.Popen[str]", output: Path) -> None:
        self.process = process
        self._output = output

    def lines(self) -> list[str]:
        return self._output.read_text().splitlines()

    def wait_line(self, words: str) -> str:
        wait_for(lambda: any(words in row for row in self.lines()) or self._ended(), 40)
        return next(row for row in self.lines() if words in row)

    def _ended(self) -> bool:
        assert self.process.poll() is None, self.lines()
        return False

    def child(self, word: str) -> int:
        for pid in descendants(self.process.pid):
            if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
        raise AssertionError(f"no process runs {word}")

    def publish(self, text: str) -> Any:
        url = self.wait_line(READY).removeprefix(READY)
        request = urllib.request.Request(
            f"{url}/v1/publish?user=bob",
            json.dumps({"subject": "/chat/1", "text": text}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(json.load(answer)["seq"])


@contextmanager
def running(data_dir: Path) -> Iterator[Suite]:
    """The suite, ready; stopped by SIGTERM with the block."""
    output = data_dir.with_suffix(".out")
    with output.open("w") as out:
        process = subprocess.Popen(
            command(data_dir), env=environ(), stdout=out, stderr=subprocess.STDOUT
        )
    suite = Suite(process, output)
    try:
        suite.wait_line(READY)
        yield suite
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def test_a_crashed_service_is_back_and_messages_go_on(tmp_path: Path) -> None:
    with running(tmp_path / "data") as suite:
        assert any("anonymous access is on" in row for row in suite.lines())
        assert suite.publish("one") == 1
        os.kill(suite.child("services.coordinator"), signal.SIGKILL)
        suite.wait_line("coordinator ended by SIGKILL; starting it again")
        suite.wait_line("coordinator is ready again")
        assert suite.publish("two") == 2


def test_after_etcd_lost_its_data_the_log_goes_on_in_a_higher_era(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data) as suite:
        assert suite.publish("one") == 1
    shutil.rmtree(data / "etcd")
    with running(data) as suite:
        assert suite.publish("two") == 2
    with up_data.held(data) as directory:
        assert up_data.era(directory) == 1
