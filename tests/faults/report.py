"""Writes `docs/faults.md`, and its plots, from what runs came to.

    python -m tests.faults.report FOLDER

FOLDER holds the records that `make faults` and `make mutations` leave in it.
"""

import json
import os
import platform
import statistics
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.faults.plot import svg
from tests.faults.rows import ROWS

PAGE = Path(__file__).parents[2] / "docs/faults.md"
Record = dict[str, Any]

PLOTS = PAGE.parent / "faults"

_INTRODUCTION = """# Faults

What happens to messages when processes, links, disks and clocks fail. Generated from runs of
`tests/faults` by `python -m tests.faults.report`; every number was measured.

Real processes of every service and a real etcd; every event that a publisher, a subscriber or the
mail server saw is in a history, and a checker that imports nothing of Onward decides from it.
Processes that end are started again after 0.2 s, as `onward up` does it. The lease is 5 s.
"""
_ROWS = """## Faults, one at a time

Six publishers publish 20 messages a second each on twelve subjects; six people stay, three leave
and return, four leave for good and have an e-mail address. Then the fault. The time that has a
bound is from the fault until a message published after it was accepted on the subject where that
took longest; where the bound says so, from the end of the fault, or until what it names.

Lost: accepted, and not in the log (L1, L2), or a term of ownership out of order (L4). Duplicated:
in the log twice (L3). Reordered: against their publisher's order (L5). To readers: duplicates,
reordering and silent holes (D1, D2). Missing: neither acknowledged nor notified nor suppressed
(N1); doubled: notified twice (N2, P2); late: sent though known to be acknowledged (N3). Longest
wait: of any message, until it was accepted. All over all seeds.
"""
_RUNS = """## Many faults in a run

In a run of the row `kills`, started by `onward up`, 20 publishers publish 50 messages a second
each over WebSocket; 20 subscribers stay, 10 leave and return, 10 leave for good and have an e-mail
address. Each of etcd, coordinator, edge, presence and notifier is killed (SIGKILL), twice, in an
order drawn from the seed; then some are stopped and continued, one of them beyond its lease.
`power` kills everything at once, `story` kills, stops and cuts at random among few people. Graces
are shorter than the defaults.

Published: over the whole run; a publisher with 150 unanswered messages makes no new ones until the
fault is over. Repeated: mails whose outcome was unknown when a process died, sent again with the
same id, as `explain` shows.
"""


def save(name: str, record: Record) -> None:
    """Keep a record, if `$FAULT_RESULTS` names a folder for them."""
    if folder := os.environ.get("FAULT_RESULTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.json").write_text(json.dumps(record))


def page(records: list[Record]) -> str:
    """The page."""
    played = [one for one in records if "row" in one]
    rows = _by_row([one for one in played if "points" in one])
    runs = sorted(
        (one for one in played if "points" not in one), key=lambda one: (one["row"], one["seed"])
    )
    mutants = [one for one in records if "mistake" in one]
    lines = [_INTRODUCTION, *_rows(rows), "", *_plots(rows), "", *_runs(runs), ""]
    lines += [*_waits(runs), "", *_mutants(mutants), ""]
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    cpus = os.cpu_count()
    lines.append(f"{when}, Python {platform.python_version()}, {cpus} CPUs, {platform.machine()}.")
    return "\n".join(lines) + "\n"


def plots(records: list[Record]) -> dict[str, str]:
    """The plot of each row, of its first seed, by file name."""
    rows = _by_row([one for one in records if "points" in one])
    return {
        f"{name}.svg": svg(runs[0]["says"], runs[0]["points"], runs[0]["lasted_s"])
        for name, runs in rows.items()
    }


def _by_row(records: list[Record]) -> dict[str, list[Record]]:
    """Runs of rows by name, in the order of the table, each in order of seed."""
    rows: dict[str, list[Record]] = {}
    for one in sorted(records, key=lambda one: (list(ROWS).index(one["row"]), one["seed"])):
        rows.setdefault(one["row"], []).append(one)
    return rows


def _rows(rows: dict[str, list[Record]]) -> list[str]:
    lines = [
        _ROWS,
        "| fault | must happen | bound | measured s, by seed | longest wait s | refused "
        "| accepted | lost | duplicated | reordered | wrong to readers "
        "| missing | doubled | late |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for runs in rows.values():
        one, broken = runs[0], _broken(runs)
        cells = [
            one["says"], one["must"], one["bound"], ", ".join(map(_measured, runs)),
            f"{max(each['waited_s'] for each in runs):.1f}", sum(each["refused"] for each in runs),
            f"{sum(each['accepted'] for each in runs):,}",
            broken["L1"] + broken["L2"] + broken["L4"], broken["L3"], broken["L5"],
            broken["D1"] + broken["D2"], broken["N1"], broken["N2"] + broken["P2"], broken["N3"],
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    wrong = [f"{one['row']}, seed {one['seed']}: {text}" for runs in rows.values() for one in runs
             for text in one["wrong"]]  # fmt: skip
    slow = max((one["slow"] for runs in rows.values() for one in runs), default=1.0)
    lines += [
        "",
        f"Bold: beyond its bound. The machine was up to {slow:.1f} times slower than usual.",
    ]
    return [*lines, *(f"\nBesides: {one}." for one in wrong)]


def _measured(one: Record) -> str:
    if one["measured_s"] is None:
        return "**never**" if one["bound_s"] is not None else "–"
    text = f"{one['measured_s']:.2f}"
    return (
        f"**{text}**" if one["bound_s"] is not None and one["measured_s"] > one["bound_s"] else text
    )


def _broken(runs: list[Record]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for one in runs:
        counts.update(one["broken"])
    return counts


def _plots(rows: dict[str, list[Record]]) -> list[str]:
    lines = [
        "### Acceptances a second",
        "",
        "Shaded: from the fault to its end. Of the first seed.",
    ]
    for name, runs in rows.items():
        lines += ["", f"{runs[0]['says']}:", "", f"![{runs[0]['says']}](faults/{name}.svg)"]
    return lines


def _runs(runs: list[Record]) -> list[str]:
    lines = [
        _RUNS,
        "| row | seed | published/s of | accepted | lost | duplicated | reordered | delivered "
        "| wrong to readers | decisions checked | missing | doubled | late | mails | repeated |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in runs:
        broken = _broken([one])
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
    return lines


def main() -> None:
    """From the command line."""
    records = [json.loads(path.read_text()) for path in sorted(Path(sys.argv[1]).glob("*.json"))]
    PAGE.write_text(page(records))
    PLOTS.mkdir(exist_ok=True)
    for name, plot in plots(records).items():
        (PLOTS / name).write_text(plot)


if __name__ == "__main__":
    main()
