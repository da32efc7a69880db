"""Runs through real processes keep every promise, whatever breaks in them.

`FAULT_ROWS` names the rows to play (`season.NAMES`, and `short`), `FAULT_SEEDS` the seeds of each,
both parted by commas; `make faults-selection` sets them.
"""

import os
from pathlib import Path

import pytest

from tests.faults import report, season
from tests.faults.row_run import Outcome

ROWS = os.environ.get("FAULT_ROWS", "short").split(",")
SEEDS = [int(seed) for seed in os.environ.get("FAULT_SEEDS", "1").split(",")]
READY_S_MAX = 3.0  # from the start after everything was killed


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("row", season.named(",".join(ROWS)))
def test_a_run_keeps_every_promise(row: str, seed: int, tmp_path: Path) -> None:
    if reason := season.why_not(row):
        pytest.skip(reason)
    outcome = season.play(row, seed, tmp_path)
    print(outcome)
    report.save(f"{row}-{seed}", outcome.record())
    assert outcome.good, str(outcome)
    tally = (outcome.verdict if isinstance(outcome, Outcome) else outcome).tally
    assert tally.counts["accepted"] and tally.counts["mail"] and tally.checked, "nothing happened"
    for seconds in tally.started_s:
        assert seconds <= READY_S_MAX * tally.slowest


def test_a_row_that_there_is_not_is_named() -> None:
    with pytest.raises(SystemExit, match="no row quake"):
        season.named("power,quake")


def test_a_result_that_is_good_is_not_played_again(tmp_path: Path) -> None:
    (tmp_path / "power-1.json").write_text('{"good": true}')
    assert season.season(["power"], [1], tmp_path)
