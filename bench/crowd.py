"""F11: one message to very many people who are away, all handed to a plugin in Go.

The people are put into the store of presence while it stands still: each follows the subject as a
backend has them follow it, and has one external token. Then the suite starts over that store, one
message is published, and the store's own counts say when all of it is sent. Half-way another
message is published, to somebody who follows another subject: how long that takes shows whether
the crowd keeps others waiting.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine, suite
from bench.report import Figure

SUBJECT, ASIDE = "/bench/crowd", "/bench/aside"
LONER = "loner"
_BACKEND = "@backend"
_SCHEME = "example"
_PLUGIN = Path(__file__).parents[1] / "plugins" / "go"
_DONE_S = 600.0
_LOOK_S = 0.05
# The other message is published when so much of the crowd has it.
_PART = 0.3


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    followers: int = 100_000


def fill(store: Path, followers: dict[str, list[str]]) -> None:
    """Have these users follow subjects from their beginning, and give each an external token. The
    store is that of a presence service that stands still; the subjects have no messages."""
    db = sqlite3.connect(store)
    with db:
        for subject, users in followers.items():
            db.executemany(
                "INSERT INTO follows (user, subject, client_id, opened, base, acked, acked_pos,"
                " ended, session_id, round, first_generation, last_generation)"
                f" VALUES (?, ?, '{_BACKEND}', 1, 0, 0, 0, 0, '', 0, 0, 0)",
                [(user, subject) for user in users],
            )
            db.executemany(
                f"INSERT INTO waiting (subject, user, client_id) VALUES (?, ?, '{_BACKEND}')",
                [(subject, user) for user in users],
            )
            db.executemany(
                "INSERT INTO endpoints (user, uri, clients, registered_at) VALUES (?, ?, ?, 0)",
                [(user, f"{_SCHEME}:{user}", json.dumps([_BACKEND])) for user in users],
            )
    db.close()


def measure(directory: Path, size: Size) -> list[Figure]:
    """F11, and how long another message takes meanwhile."""
    go = shutil.which("go")
    if go is None:
        print("F11 is not measured: there is no Go to build the plugin with")
        return []
    binary = directory / "notifier"
    subprocess.run([go, "build", "-o", str(binary), "."], cwd=_PLUGIN, check=True)
    data = directory / "crowd"
    with suite.running(data):
        pass  # It makes its stores, and its secret.
    users = [f"follower-{number:07d}" for number in range(size.followers)]
    fill(data / "data" / "presence" / "presence.sqlite", {SUBJECT: users, ASIDE: [LONER]})
    secret = (data / "data" / "secret").read_text().strip()
    with (
        _plugin(binary, secret) as (pid, address),
        suite.running(data, ONWARD_PRESENCE_PLUGINS=address) as up,
    ):
        return _measured(up, pid, size.followers)


def _measured(up: suite.Suite, plugin: int, followers: int) -> list[Figure]:
    before, plugin_before = up.cpu_by_service(), machine.cpu_s([plugin])
    began = time.monotonic()
    publish(up.port, SUBJECT, "to all of you")
    aside_s = 0.0
    while (sent := accepted(up.port)) < followers + bool(aside_s):
        assert time.monotonic() < began + _DONE_S, f"{sent} of {followers} were sent"
        if not aside_s and sent > followers * _PART:
            aside_s = _aside(up.port)
        time.sleep(_LOOK_S)
    elapsed_s = time.monotonic() - began
    after = up.cpu_by_service()
    notes: dict[str, Any] = {
        "elapsed_s": round(elapsed_s, 2),
        "cpu_us": {
            service: round((after[service] - before[service]) / followers * 1e6, 1)
            for service in after
        },
        "plugin_cpu_us": round((machine.cpu_s([plugin]) - plugin_before) / followers * 1e6, 1),
    }
    count = f"{followers:,} away followers"
    return [
        Figure("F11", f"{count}: handed to a Go plugin", "1/s", [followers / elapsed_s], 20_000,
               most=False, notes=notes),
        Figure("", f"{count}: presence's CPU, each", "µs", [notes["cpu_us"]["presence"]]),
        Figure("", "a message to somebody else meanwhile", "ms", [aside_s * 1e3], 1_000.0),
    ]  # fmt: skip


def _aside(port: int) -> float:
    """Seconds from a publish to the other subject until it is sent."""
    began = time.monotonic()
    publish(port, ASIDE, "to you alone")
    asked = urllib.parse.urlencode({"user": LONER, "subject": ASIDE})
    while True:
        outcomes = _get(port, f"/v1/explain?{asked}")["outcomes"]
        if outcomes and outcomes[0]["state"] == "NOTIFIED":
            return time.monotonic() - began
        assert time.monotonic() < began + _DONE_S, outcomes
        time.sleep(0.005)


def publish(port: int, subject: str, text: str) -> None:
    """Publish by HTTP."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/publish?user=bench",
        data=json.dumps({"subject": subject, "text": text}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 200


def accepted(port: int) -> int:
    """How many deliveries plugins have accepted, by the status."""
    return int(_get(port, "/v1/status")["deliveries"].get("accepted", 0))


def _get(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
        return json.load(response)


@contextmanager
def _plugin(binary: Path, secret: str) -> Iterator[tuple[int, str]]:
    """The plugin: its pid, and where it is."""
    address = f"127.0.0.1:{suite.free_port()}"
    process = subprocess.Popen(
        [str(binary)],
        env=os.environ | {"ONWARD_SECRET": secret, "ONWARD_PLUGIN_LISTEN": address},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process.pid, address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)
