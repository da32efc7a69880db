"""Runs through real processes keep every promise, whatever breaks in them.

`FAULT_ROWS` names the rows to play (`run.ROWS`), `FAULT_SEEDS` the seeds of each, both parted by
commas; `make faults` sets them. The history of a run is kept beside its data directory.
"""

import os
from pathlib import Path

import pytest

from tests.faults import report
from tests.faults.run import ROWS, play

ASKED = os.environ.get("FAULT_ROWS", "short,story").split(",")
SEEDS = [int(seed) for seed in os.environ.get("FAULT_SEEDS", "1").split(",")]
READY_S_MAX = 3.0  # from the start after everything was killed


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("row", ASKED)
def test_a_run_keeps_every_promise(row: str, seed: int, tmp_path: Path) -> None:
    verdict = play(row, seed, tmp_path)
    print(verdict)
    report.save(f"{row}-{seed}", verdict.record())
    assert verdict.good, str(verdict)
    counts = verdict.tally.counts
    assert counts["accepted"] and counts["mail"] and verdict.tally.checked, "nothing has happened"
    for seconds in verdict.tally.started_s:
        assert seconds <= READY_S_MAX * verdict.tally.slowest


def test_every_row_has_a_name_that_can_be_asked_for() -> None:
    assert set(ASKED) <= set(ROWS)
