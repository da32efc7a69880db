"""Plays rows with seeds, one after the other, and keeps what each came to.

    python -m tests.faults.season [--row all] [--seed 1,2,3] [--results FOLDER] [--per-second N]

What has a good result in the folder is left out, so a season that was cut short, or in which a run
was bad, can be continued. The history of a bad run is kept.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import row_run, run
from tests.faults.row_run import Outcome
from tests.faults.rows import ROWS
from tests.faults.run import Verdict

NAMES = [*ROWS, "kills", "power", "story"]


def play(name: str, seed: int, folder: Path, per_second: float = 0.0) -> Outcome | Verdict:
    """Play a row of either kind. `per_second`: publishes of all, instead of the row's own."""
    if name not in ROWS:
        return run.play(name, seed, folder)
    row = ROWS[name]()
    if per_second:
        row.per_second = per_second / row_run.PUBLISHERS  # type: ignore[misc]
    return row_run.play(row, seed, folder)


def why_not(name: str) -> str:
    """Why a row cannot be played on this machine; empty: it can."""
    return ROWS[name]().why_not() if name in ROWS else ""


def named(text: str) -> list[str]:
    """The rows that a list names, or all. Raises SystemExit for one that there is not."""
    if text == "all":
        return NAMES
    names = text.split(",")
    for name in names:
        if name not in NAMES and name not in run.ROWS:
            raise SystemExit(f"there is no row {name}; there are {', '.join(NAMES)}")
    return names


def season(names: list[str], seeds: list[int], results: Path, per_second: float = 0.0) -> bool:
    """Play what has no good result yet; returns whether all have one then."""
    results.mkdir(parents=True, exist_ok=True)
    good = True
    for seed in seeds:  # every row once, before any a second time
        for name in names:
            good &= _played(name, seed, results / f"{name}-{seed}.json", per_second)
    return good


def _played(name: str, seed: int, result: Path, per_second: float) -> bool:
    if result.exists() and json.loads(result.read_text())["good"]:
        return True
    if reason := why_not(name):
        print(f"{name}, seed {seed}: left out, {reason}", flush=True)
        return True
    folder, began = Path(tempfile.mkdtemp(prefix=f"onward-{name}-{seed}-")), time.monotonic()
    try:
        outcome = play(name, seed, folder, per_second)
    except Exception as error:  # noqa: BLE001 - the season goes on, the next row may be sound
        print(f"{name}, seed {seed}: NOT PLAYED, {error!r}; see {folder}", flush=True)
        return False
    seconds = time.monotonic() - began
    word = "good" if outcome.good else "BAD"
    print(f"{name}, seed {seed}: {word}, {seconds:.0f} s\n{outcome}\n", flush=True)
    result.write_text(json.dumps(outcome.record() | {"good": outcome.good}))
    if outcome.good:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome.good


def main() -> None:
    """From the command line."""
    # What was started is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    options = argparse.ArgumentParser(prog="python -m tests.faults.season")
    options.add_argument("--row", default="all", help="names parted by commas, or all")
    options.add_argument("--seed", default="1,2,3", help="numbers parted by commas")
    options.add_argument("--results", type=Path, default=Path("build/faults"))
    options.add_argument("--per-second", type=float, default=0.0, help="publishes, of all")
    given = options.parse_args()
    seeds = [int(seed) for seed in given.seed.split(",")]
    played = season(named(given.row), seeds, given.results, given.per_second)
    raise SystemExit(0 if played else 1)


if __name__ == "__main__":
    main()
