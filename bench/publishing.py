"""F6: durable publishes that one coordinator accepts in a second, and what each costs.

Over uplinks, where the coordinator and its log are the limit, and over WebSocket, where the edge
reads, checks and answers every one by itself. Every answered publish is on disk.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench import programs, suite
from bench.report import Figure


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    runs: int = 3
    seconds: float = 4.0
    window: int = 4_000  # unanswered publishes of the one uplink
    clients: int = 20  # that publish over WebSocket,
    client_window: int = 50  # each with so many unanswered


@dataclass(frozen=True, slots=True)
class _Run:
    per_s: float
    cpu_us: dict[str, float]  # a message: of all processes, of each service, of the load


def measure(directory: Path, size: Size) -> list[Figure]:
    """F6, and the same over WebSocket."""
    with suite.running(directory / "publishing") as up:
        time.sleep(1)
        uplink, socket = [], []
        for _ in range(size.runs):
            uplink.append(_over_uplink(up, size))
            socket.append(_over_websocket(directory, up, size))
    return [
        Figure("F6", "durable publishes over one uplink", "/s", [one.per_s for one in uplink],
               12_000, most=False, notes={"us_per_message": [one.cpu_us for one in uplink]}),
        Figure("", "CPU of all, a publish over an uplink", "µs",
               [one.cpu_us["all"] for one in uplink]),
        Figure("", f"durable publishes over {size.clients} WebSockets", "/s",
               [one.per_s for one in socket],
               notes={"us_per_message": [one.cpu_us for one in socket]}),
        Figure("", "CPU of all, a publish over WebSocket", "µs",
               [one.cpu_us["all"] for one in socket]),
    ]  # fmt: skip


def _over_uplink(up: suite.Suite, size: Size) -> _Run:
    environ = up.environ("coordinator")
    given = {name: environ[name] for name in ("ONWARD_ETCD", "ONWARD_SECRET")}
    command = [sys.executable, "-m", "bench.uplink_load", str(size.seconds), str(size.window)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=dict(os.environ) | given
    ) as load:
        assert load.stdout is not None
        load.stdout.readline()
        before, parts = up.cpu_s(), up.cpu_by_service()
        result = json.loads(load.stdout.readline())
        cpu_s = up.cpu_s() - before
        services = {name: at - parts[name] for name, at in up.cpu_by_service().items()}
    assert not result["refused"], result
    return _run(result["accepted"], result["seconds"], cpu_s, services | {"load": result["cpu_s"]})


def _over_websocket(directory: Path, up: suite.Suite, size: Size) -> _Run:
    options = {"clients": size.clients, "window": size.client_window, "sample": 16}
    with programs.running(
        directory, "publish", port=up.port, user="p{i}", subject="/bench/socket/{i}", **options
    ) as load:
        load.wait_for("ready", 10)
        load.tell("go")
        time.sleep(1)
        before, parts = up.cpu_s(), up.cpu_by_service()
        (got,) = programs.counted([load], size.seconds)
        cpu_s = up.cpu_s() - before
        services = {name: at - parts[name] for name, at in up.cpu_by_service().items()}
    assert not got["errors"], got
    return _run(got["answered"], got["seconds"], cpu_s, services | {"load": got["cpu_s"]})


def _run(count: int, seconds: float, cpu_s: float, parts: dict[str, float]) -> _Run:
    parts = {"all": cpu_s} | parts
    return _Run(count / seconds, {name: round(at / count * 1e6, 1) for name, at in parts.items()})
