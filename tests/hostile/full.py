"""The attacks at full size, with numbers: `python -m tests.hostile.full slow|strangers|flood …`.

- `slow`: 100 clients stop reading a subject of 1,000 messages a second, among 100 calm ones; three
  runs with and three without, in turn. The calm ones' p99, and that every slow one recovers all.
- `strangers`: 10,000 connections of each kind that `attacker` knows.
- `flood`: each kind of client that `flooder` knows, for ten seconds.
- `subscriptions`: 100,000 asked for by one session, and by 200 sessions of 500.

Each prints lines of JSON: the edge's memory before, at its peak and after; what was refused, and by
which limit; p50 and p99 of the clients inside, before and meanwhile. `ONWARD_FULL_PER_SECOND`
lowers the rate of `slow` where the machine is too small for it. `slow` needs a C compiler, for the
calm clients, which must not be what is slow.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.fanout import connect_frame
from bench.programs import build, running
from tests.hostile.flooder import frames_of
from tests.hostile.laggards import Laggard
from tests.hostile.raw import RawClient, drop, source_of
from tests.hostile.scene import (
    Process,
    Watcher,
    closed,
    cpu_seconds,
    edge_memory,
    metric,
    process,
    refused,
    suite_with,
    tell,
)
from tests.path.stack import Suite

PER_SECOND = int(os.environ.get("ONWARD_FULL_PER_SECOND", "1000"))
MIB = 1 << 20
CALM = 100
LIMITS = (
    *("request_s", "half_open_max", "not_http", "head_bytes_max", "malformed"),
    *("address_connections_max", "requests_max"),
)


def window(crowd: Process, watcher: Watcher, seconds: float) -> dict[str, float]:
    """What those inside see for that long."""
    crowd.ask("mark")
    watcher.rest(seconds)
    return crowd.ask("report")


def head(suite: Suite, subject: str) -> int:
    """The newest seq of a subject."""
    return int(suite.get(f"/v1/history?subject={subject}&user=x&last=1")["head"])


def slow_run(suite: Suite, binaries: Path, number: int, slow: int) -> float:
    """One run; returns the calm ones' p99 in ms."""
    subject = f"/full/{number}"
    watcher = Watcher(suite)
    calm = {
        "clients": CALM,
        "user": "calm{i}",
        "connect": connect_frame(subject, "PONG"),
        "pause-us": 500,
    }
    load = {
        "clients": 20,
        "user": "p{i}",
        "subject": subject,
        "bytes": 100,
        "rate": PER_SECOND // 20,
    }
    with (
        running(binaries, "subscribe", port=suite.port, **calm) as subscribers,
        running(binaries, "publish", port=suite.port, **load) as publishers,
    ):
        subscribers.wait_for("ready", 30)
        publishers.wait_for("ready", 30)
        subscribers.tell("mark")
        publishers.tell("go")
        watcher.rest(2)
        delivered = int(subscribers.report()["deliveries"])
        before = closed(suite, "4001")
        laggards = [Laggard(suite, subject, n) for n in range(slow)]
        began, cpu = time.monotonic(), cpu_seconds(suite.child("edge"))
        subscribers.report()  # the samples begin anew with it
        watcher.rest(30)
        seen = subscribers.report()
        cpu = (cpu_seconds(suite.child("edge")) - cpu) / (time.monotonic() - began)
        while slow and closed(suite, "4001") - before < slow and time.monotonic() - began < 60:
            watcher.rest(0.5)
        ended, took = closed(suite, "4001") - before, time.monotonic() - began
        publishers.tell("stop")
        watcher.rest(3)
        last = head(suite, subject)
        everything = int(subscribers.report()["deliveries"]) == CALM * last
    codes = [laggard.read_out() for laggard in laggards]
    missed = [last - laggard.last for laggard in laggards]
    recovered = 0
    for laggard in laggards:
        recovered += laggard.come_back()
        laggard.catch_up(last)
    after = watcher.wait_back(64 * MIB, 60)
    tell(
        run=number,
        slow=slow,
        messages=last,
        delivered_per_s=round((int(seen["deliveries"]) - delivered) / 30),
        calm_have_everything=everything,
        p50_ms=round(seen["p50_us"] / 1000, 2),
        p99_ms=round(seen["p99_us"] / 1000, 2),
        edge_cpu_share=round(cpu, 2),
        mib=[watcher.before // MIB, watcher.peak // MIB, after // MIB],
        closed_with_4001=ended,
        after_s=round(took, 1),
        codes_read=sorted(set(codes)),
        missed=[min(missed), max(missed)] if missed else [],
        recovered_at_once=recovered,
        slow_have_everything=len(laggards),
    )
    return float(seen["p99_us"]) / 1000


def slow(folder: Path) -> None:
    """100 slow among 100 calm."""
    with_slow, without = [], []
    build(folder)
    with suite_with(folder / "data") as suite:
        slow_run(suite, folder, 0, 0)  # what only the first run pays
        for turn in range(3):
            without.append(slow_run(suite, folder, 2 * turn + 1, 0))
            with_slow.append(slow_run(suite, folder, 2 * turn + 2, 100))
    middle, middle_with = statistics.median(without), statistics.median(with_slow)
    tell(
        p99_ms_without=without,
        p99_ms_with=with_slow,
        medians=[middle, middle_with],
        ratio=round(middle_with / middle, 3),
    )


def strangers(folder: Path) -> None:
    """10,000 of each kind."""
    kinds = sys.argv[2:] or ["silent", "slow", "garbage", "garbage_frames", "unconnected"]
    with (
        suite_with(folder) as suite,
        process("crowd", suite.port, "/inside", 20, 5, 100, 200) as crowd,
    ):
        for how in kinds:
            watcher = Watcher(suite)
            calm = window(crowd, watcher, 10)
            before = {limit: refused(suite, limit) for limit in LIMITS}
            codes = {code: closed(suite, code) for code in ("1002", "1006", "4501")}
            crowd.ask("mark")
            began, cpu = time.monotonic(), cpu_seconds(suite.child("edge"))
            with process("attacker", suite.port, how, 10_000, 900) as attacker:
                opened = time.monotonic() - began
                held = attacker.ask("report")["open"]
                while attacker.ask("report")["open"] and time.monotonic() - began < 90:
                    watcher.rest(0.5)
                left = attacker.ask("report")["open"]
                cpu = cpu_seconds(suite.child("edge")) - cpu
                seen = crowd.ask("report")
            limits = {limit: refused(suite, limit) - n for limit, n in before.items()}
            ended = {code: closed(suite, code) - n for code, n in codes.items()}
            tell(
                attack=how,
                opened_in_s=round(opened, 1),
                open_then=held,
                open_in_the_end=left,
                refused_by={limit: n for limit, n in limits.items() if n},
                closed_with={code: n for code, n in ended.items() if n},
                edge_cpu_s=round(cpu, 2),
                mib=[watcher.before // MIB, watcher.peak // MIB, watcher.wait_back() // MIB],
                before=calm,
                meanwhile=seen,
            )
        tell(inside_got_everything_up_to=crowd.ask("stop")["last"])


def flood(folder: Path) -> None:
    """Each kind for ten seconds."""
    kinds = sys.argv[2:] or ["publish", "ping", "refused", "tiny_fragments", "subscribe"]
    assert all(frames_of(how) for how in kinds)
    with (
        suite_with(folder) as suite,
        process("crowd", suite.port, "/inside", 20, 5, 100, 200) as crowd,
    ):
        for how in kinds:
            watcher = Watcher(suite)
            calm = window(crowd, watcher, 10)
            cpu = cpu_seconds(suite.child("edge"))
            frames = metric(suite, "onward_edge_frames_received")
            with process("flooder", suite.port, how) as flooder:
                seen = window(crowd, watcher, 10)
                report = flooder.ask("report")
                cpu = cpu_seconds(suite.child("edge")) - cpu
                frames = metric(suite, "onward_edge_frames_received") - frames
            tell(
                flood=how,
                **report,
                frames_counted=frames,
                edge_cpu_s=round(cpu, 2),
                mib=[watcher.before // MIB, watcher.peak // MIB, watcher.wait_back() // MIB],
                before=calm,
                meanwhile=seen,
            )
        tell(inside_got_everything_up_to=crowd.ask("stop")["last"])


def subscriptions(folder: Path) -> None:
    """100,000 by one session; and twice by 200 of 500 each where 50,000 are allowed in all.

    Python keeps the arenas in which anything small has stayed: the memory does not go all the way
    back, but the second time needs no more.
    """
    with (
        suite_with(folder, subscriptions_in_all_max=50_000) as suite,
        process("crowd", suite.port, "/inside", 20, 5, 100, 200) as crowd,
    ):
        watcher = Watcher(suite)
        calm = window(crowd, watcher, 10)
        tell(before=calm, mib=watcher.before // MIB)
        for sessions in (1, 200, 200):
            watcher = Watcher(suite)
            crowd.ask("mark")
            clients, codes = _greedy_clients(suite, watcher, sessions)
            seen = crowd.ask("report")
            held = metric(suite, "onward_edge_subscriptions")
            for client in clients:
                drop(client.socket)
            watcher.rest(20)
            mib = [watcher.before // MIB, watcher.peak // MIB, edge_memory(suite) // MIB]
            tell(sessions=sessions, answers=codes, held=held, mib=mib, meanwhile=seen)
        tell(inside_got_everything_up_to=crowd.ask("stop")["last"])


def _greedy_clients(
    suite: Suite, watcher: Watcher, sessions: int
) -> tuple[list[RawClient], dict[str, int]]:
    """So many sessions ask for 100,000 between them; returns them, and what was answered."""
    clients: list[RawClient] = []
    codes: dict[str, int] = {}
    at_once = min(4_000, 100_000 // sessions)
    for first in range(0, 100_000, at_once):
        if first % (100_000 // sessions) == 0 or clients[-1].closed_with:
            # A client that asks for too much is not read for a while, nor is its pong.
            clients.append(_greedy(suite, len(clients)))
        _ask(clients[-1], first, at_once, codes)
        watcher.look()
    return clients, codes


def _greedy(suite: Suite, number: int) -> RawClient:
    client = RawClient(suite.port, f"greedy-{number}", source_of(number))
    client.ask(connect={"clientId": "g", "acknowledges": "NONE"})
    return client


def _ask(client: RawClient, first: int, count: int, codes: dict[str, int]) -> None:
    subjects = [{"subject": f"/g/{first + n}"} for n in range(count)]
    try:
        answer = client.ask(subscribe={"subscriptions": subjects})
        code = answer["error"]["code"] if "error" in answer else "subscribed"
    except ConnectionError:
        code = f"closed with {client.closed_with}"
    codes[code] = codes.get(code, 0) + 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        {"slow": slow, "strangers": strangers, "flood": flood, "subscriptions": subscriptions}[
            sys.argv[1]
        ](Path(made))
