"""F1 and F2: one publisher, 1,000 subscribers, 50 durable messages a second; beside the floor.

The suite and the floor take turns, so that both meet the same machine. What is counted of the
suite is the CPU of all its processes. Then, with the same subscribers, as fast as it goes.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine, programs, suite
from bench.programs import Program
from bench.report import Figure

SUBJECT = "/bench/fan"
# Subscribers read at most so often, as programs behind a network do. One that is woken for every
# message makes the sender pay for the waking, on a machine that both share.
PAUSE_US = 500


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    clients: int = 1_000
    rate: int = 50  # messages a second
    runs: int = 3
    seconds: float = 5.0  # of each run
    settle_s: float = 2.0


@dataclass(slots=True)
class _Runs:
    """What the runs of one kind have shown."""

    cpu_us: list[float]  # per delivery
    p50_ms: list[float]
    p99_ms: list[float]
    parts: list[dict[str, Any]]


def connect_frame(subject: str, acknowledges: str) -> str:
    """The connect frame of a subscriber; `{i}` is its number."""
    return (
        f'{{"id":"c","connect":{{"clientId":"c{{i}}","acknowledges":"{acknowledges}",'
        f'"subscriptions":{{"list":[{{"subject":"{subject}"}}]}}}}}}'
    )


@contextmanager
def subscribers(
    directory: Path, port: int, size: Size, acknowledges: str = "PONG"
) -> Iterator[Program]:
    """Subscribers of the subject, all connected."""
    explicit = acknowledges == "EXPLICIT"
    ack = f'{{"ack":{{"positions":[{{"subject":"{SUBJECT}","seq":"{{seq}}"}}]}}}}'
    options: dict[str, Any] = {
        "port": port,
        "clients": size.clients,
        "user": "u{i}",
        "connect": connect_frame(SUBJECT, acknowledges),
        "ack": ack if explicit else "",
        "pause-us": PAUSE_US,
    }
    with programs.running(directory, "subscribe", **options) as program:
        program.wait_for("ready", 60)
        yield program


def measure(directory: Path, size: Size) -> list[Figure]:
    """F1, F2, the saturated rates, and F1 with explicit acknowledgements."""
    with suite.running(directory / "fanout") as up, subscribers(directory, up.port, size) as subs:
        ours, floor = _beside_the_floor(directory, up, subs, size)
        saturated = [_saturated(directory, up, subs, size, burst) for burst in (1, 8)]
    explicit = _Runs([], [], [], [])
    with (
        suite.running(directory / "explicit") as up,
        subscribers(directory, up.port, size, "EXPLICIT") as subs,
        _publisher(directory, up, rate=size.rate) as publisher,
    ):
        time.sleep(size.settle_s)
        publisher.tell("go")
        time.sleep(1)
        _count(explicit, up, subs, publisher, size)
    return _figures(size, ours, floor, explicit, saturated)


def _beside_the_floor(
    directory: Path, up: suite.Suite, subs: Program, size: Size
) -> tuple[_Runs, _Runs]:
    ours, floor = _Runs([], [], [], []), _Runs([], [], [], [])
    time.sleep(size.settle_s)
    with _publisher(directory, up, rate=size.rate) as publisher:
        for _ in range(size.runs):
            publisher.tell("go")
            time.sleep(1)
            frame_bytes = _count(ours, up, subs, publisher, size)
            publisher.tell("stop")
            time.sleep(0.5)
            _count_floor(floor, directory, frame_bytes, size)
    return ours, floor


def _publisher(directory: Path, up: suite.Suite, **options: Any) -> Any:
    return _ready(programs.running(
        directory, "publish", port=up.port, user="publisher", subject=SUBJECT, **options
    ))  # fmt: skip


@contextmanager
def _ready(program: Any) -> Iterator[Program]:
    with program as started:
        started.wait_for("ready", 10)
        yield started


def _count(runs: _Runs, up: suite.Suite, subs: Program, publisher: Program, size: Size) -> int:
    """Counts one run of the suite; returns the bytes of a frame's text."""
    before, parts, watch = up.cpu_s(), up.cpu_by_service(), machine.Watch()
    got, sent = programs.counted([subs, publisher], size.seconds)
    used = up.cpu_s() - before
    count = got["deliveries"]
    assert count and not got["closed"], f"subscribers were closed: {got}"
    per_service = {
        name: round((at - parts[name]) / count * 1e6, 2) for name, at in up.cpu_by_service().items()
    }
    others = watch.others(used + got["cpu_s"] + sent["cpu_s"])
    runs.cpu_us.append(used / count * 1e6)
    runs.p50_ms.append(got["p50_us"] / 1e3)
    runs.p99_ms.append(got["p99_us"] / 1e3)
    runs.parts.append(
        {
            "us_per_delivery": per_service,
            "deliveries_per_s": round(count / got["seconds"]),
            "subscribers_cpu": round(got["cpu_s"] / got["seconds"], 3),
            "others_cpu": round(others, 3),
        }
    )
    return int(got["bytes"] // count)


def _count_floor(runs: _Runs, directory: Path, frame_bytes: int, size: Size) -> None:
    port = suite.free_port()
    options = {"clients": size.clients, "rate": size.rate, "bytes": frame_bytes}
    with programs.running(directory, "floor", port=port, **options) as server:
        server.wait_for("listening", 5)
        with subscribers(directory, port, size) as subs:
            time.sleep(0.5)
            before = machine.cpu_s([server.pid])
            (got,) = programs.counted([subs], size.seconds)
            used = machine.cpu_s([server.pid]) - before
    runs.cpu_us.append(used / got["deliveries"] * 1e6)
    runs.p50_ms.append(got["p50_us"] / 1e3)
    runs.p99_ms.append(got["p99_us"] / 1e3)


def _saturated(
    directory: Path, up: suite.Suite, subs: Program, size: Size, burst: int
) -> tuple[float, float]:
    """Deliveries a second and CPU of the suite for each, with two bursts always on their way."""
    with _publisher(directory, up, echo=2, burst=burst) as publisher:
        publisher.tell("go")
        time.sleep(1)
        before = up.cpu_s()
        (got,) = programs.counted([subs], size.seconds)
        used = up.cpu_s() - before
    assert not got["closed"], f"subscribers were closed: {got}"
    return got["deliveries"] / got["seconds"], used / got["deliveries"] * 1e6


def _figures(
    size: Size, ours: _Runs, floor: _Runs, explicit: _Runs, saturated: list[tuple[float, float]]
) -> list[Figure]:
    what = f"1 → {size.clients:,} at {size.clients * size.rate:,}/s"
    notes = {"runs": ours.parts, "explicit": explicit.parts}
    single, eight = saturated
    return [
        Figure("F1", f"{what}: CPU of all, a delivery", "µs", ours.cpu_us, 7.5,
               floor=floor.cpu_us, notes=notes),
        Figure("F2", f"{what}: p99", "ms", ours.p99_ms, 8.0, floor=floor.p99_ms),
        Figure("", f"{what}: p50", "ms", ours.p50_ms, floor=floor.p50_ms),
        Figure("", "the same, acknowledged once a second", "µs", explicit.cpu_us,
               floor=floor.cpu_us),
        Figure("", "as fast as it goes", "deliveries/s", [single[0]],
               notes={"us_per_delivery": single[1]}),
        Figure("", "as fast as it goes, 8 messages a tick", "deliveries/s", [eight[0]],
               notes={"us_per_delivery": eight[1]}),
    ]  # fmt: skip
