"""Many stories of faults, each from its seed, in virtual time: none breaks a promise.

A few of them run with all tests; `make simulate` runs a thousand, `make simulate SEEDS=5000` more.
A seed that fails is printed with its last events, and repeats exactly, with all of them, by

    python -m tests.simulation.story SEED

What is simulated, and what is real, is told in `members` and `replicas`; what may happen, in
`adversary` and `presence_faults`.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.story import play

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "60"))
PARTS = 8 if SEEDS > 100 else 2
ROOT = Path(__file__).parents[2]


def _digest(seed: int) -> str:
    records = [sorted(record.items()) for record in play(seed).records]
    return hashlib.sha256(repr(records).encode()).hexdigest()


@pytest.mark.timeout(120 + SEEDS)
@pytest.mark.parametrize("part", range(PARTS))
def test_no_story_breaks_a_promise(part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        outcome = play(seed)
        assert not outcome.broken, str(outcome)


def test_a_seed_is_the_same_story_in_every_process() -> None:
    """Whatever order the hashes of texts have."""
    program = "from tests.simulation.test_seeds import _digest; print(_digest(5), _digest(6))"
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "17", "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == [_digest(5), _digest(6)]
