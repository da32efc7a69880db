"""Writes `docs/faults.md` from what runs came to.

    python -m tests.faults.report FOLDER

FOLDER holds the records that `make faults` and `make mutations` leave in `$FAULT_RESULTS`.
"""

import json
import os
import platform
import statistics
import sys
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.faults.mutations import NOT_HERE

PAGE = Path(__file__).parents[2] / "docs/faults.md"
Record = dict[str, Any]

_INTRODUCTION = """# Faults

What happens to messages when processes die. Generated from runs of `tests/faults` by
`python -m tests.faults.report`; every number was measured.

Real processes of every service and a real etcd, started by `onward up`; every event that a
publisher, a subscriber or the mail server saw is in a history, and a checker that imports nothing
of Onward decides from it. In a run of the row `kills`, 20 publishers publish 50 messages a second
each over WebSocket; 20 subscribers stay, 10 leave and return, 10 leave for good and have an e-mail
address. Each of etcd, coordinator, edge, presence and notifier is killed (SIGKILL), twice, in an
order drawn from the seed; then some are stopped and continued, one of them beyond its lease.
`power` kills everything at once, `story` kills, stops and cuts at random among few people. Graces
are shorter than the defaults.
"""


def save(name: str, record: Record) -> None:
    """Keep a record, if `$FAULT_RESULTS` names a folder for them."""
    if folder := os.environ.get("FAULT_RESULTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.json").write_text(json.dumps(record))


def page(records: list[Record]) -> str:
    """The page."""
    runs = sorted(
        (one for one in records if "row" in one), key=lambda one: (one["row"], one["seed"])
    )
    mutants = [one for one in records if "mistake" in one]
    lines = [_INTRODUCTION, *_runs(runs), "", *_waits(runs), "", *_mutants(mutants), ""]
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    cpus = os.cpu_count()
    lines.append(f"{when}, Python {platform.python_version()}, {cpus} CPUs, {platform.machine()}.")
    return "\n".join(lines) + "\n"


def _runs(runs: list[Record]) -> list[str]:
    lines = [
        "## Runs",
        "",
        "Lost: accepted, and not in the log (L1, L2). Duplicated: in the log twice (L3).",
        "Reordered: against their publisher's order (L5). To readers: duplicates, reordering and",
        "silent holes (D1, D2). Missing: neither acknowledged nor notified nor suppressed (N1);",
        "doubled: notified twice (N2, P2); late: sent though known to be acknowledged (N3).",
        "Published: over the whole run; a publisher with 150 unanswered messages makes no new ones",
        "until the fault is over. Repeated: mails whose outcome was unknown when a process died,",
        "sent again with the same id, as `explain` shows.",
        "",
        "| row | seed | published/s of | accepted | lost | duplicated | reordered | delivered "
        "| wrong to readers | decisions checked | missing | doubled | late | mails | repeated |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in runs:
        broken = defaultdict(int, one["broken"])
        cells = [
            one["row"], one["seed"], f"{one['per_second']:.0f} of {one['asked']:.0f}",
            f"{one['accepted']:,}",
            broken["L1"] + broken["L2"], broken["L3"], broken["L5"], f"{one['seen']:,}",
            broken["D1"] + broken["D2"], f"{one['checked']:,}", broken["N1"],
            broken["N2"] + broken["P2"], broken["N3"], one["mails"], one["repeated"],
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _waits(runs: list[Record]) -> list[str]:
    """How long each fault kept publishers waiting, in all runs of the row `kills` and `power`."""
    waits: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in runs:
        if one["row"] in ("kills", "power"):
            for fault, service, seconds in one["waits"]:
                waits[fault, service] += seconds
    lines = [
        "## Time to accept again",
        "",
        "From the fault until a message published after it was accepted; in `kills` and `power`.",
        "SIGSTOP lasts 1–2 s, or 6 s (edge or coordinator, beyond the lease), and the time is",
        "counted from its beginning.",
        "",
        "| fault | times | median s | longest s |",
        "|---|---|---|---|",
    ]
    for (fault, service), seconds in sorted(waits.items()):
        middle, longest = statistics.median(seconds), max(seconds)
        lines.append(f"| {fault} {service} | {len(seconds)} | {middle:.2f} | {longest:.2f} |")
    started = [s for one in runs for s in one["started_s"]]
    if started:
        lines += ["", f"After SIGKILL of everything: ready in {max(started):.1f} s at most."]
    return lines


def _mutants(mutants: list[Record]) -> list[str]:
    lines = [
        "## Mistakes that the checker finds",
        "",
        "One changed place each, in a copy of the programs, with a scenario that provokes it; the",
        "same scenario without the mistake breaks nothing.",
        "",
        "| mistake | found as | seconds |",
        "|---|---|---|",
    ]
    for one in sorted(mutants, key=lambda each: each["mistake"]):
        rules = ", ".join(f"{rule} ×{count}" for rule, count in one["broken"].items())
        lines.append(f"| {one['mistake']} | {rules} | {one['seconds']:.0f} |")
    for mistake, reason in NOT_HERE.items():
        lines += ["", f"Not to be shown on one machine: {mistake} ({reason})."]
    return lines


def main() -> None:
    """From the command line."""
    records = [json.loads(path.read_text()) for path in sorted(Path(sys.argv[1]).glob("*.json"))]
    PAGE.write_text(page(records))


if __name__ == "__main__":
    main()
