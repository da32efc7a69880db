"""F7: what a connection costs that only waits: the edge's memory in user space, and its CPU."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine, programs, suite
from bench.fanout import connect_frame
from bench.report import Figure

_FIRST = 200  # connected before the measurement, so that what is made once is there


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    clients: int = 5_000
    seconds: float = 12.0  # half of the time in which each connection is pinged once


def measure(directory: Path, size: Size) -> list[Figure]:
    """F7 with one subject for all, and with a subject for each; and the CPU of the first."""
    shared, cpu = _connected(directory, "shared", "/bench/idle", size)
    own, _ = _connected(directory, "own", "/bench/idle/{i}", size)
    count = f"{size.clients:,} idle"
    return [
        Figure("F7", f"{count}, one subject: edge memory, each", "KiB", [shared["rss_kib"]], 5.0,
               notes=shared),
        Figure("", f"{count}, a subject each: edge memory, each", "KiB", [own["rss_kib"]],
               notes=own),
        Figure("", f"{count}: CPU of the edge, share of a core", "%", [cpu["edge"] * 100],
               notes=cpu),
    ]  # fmt: skip


def _connected(
    directory: Path, name: str, subject: str, size: Size
) -> tuple[dict[str, Any], dict[str, float]]:
    with suite.running(directory / f"idle-{name}") as up:
        edge = up.child("edge")

        def subscribe(prefix: str, count: int) -> Any:
            connect = connect_frame(subject.replace("{i}", prefix + "{i}"), "PONG")
            return programs.running(
                directory, "subscribe", port=up.port, clients=count, user=prefix + "{i}",
                connect=connect,
            )  # fmt: skip

        with subscribe("first", _FIRST) as first:
            first.wait_for("ready", 30)
            time.sleep(2)
            before = machine.memory(edge)
            with subscribe("idle", size.clients) as idle:
                idle.wait_for("ready", 90)
                time.sleep(4)
                after = machine.memory(edge)
                parts, began = up.cpu_by_service(), time.monotonic()
                time.sleep(size.seconds)
                elapsed_s = time.monotonic() - began
                cpu = {
                    name: round((at - parts[name]) / elapsed_s, 4)
                    for name, at in up.cpu_by_service().items()
                }
    grown = {
        f"{name}_kib": (getattr(after, name) - getattr(before, name)) / size.clients / 1024
        for name in ("rss", "pss", "private")
    }
    return grown | {"edge_mib": after.pss / 2**20}, cpu
