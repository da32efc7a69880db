"""The simulation finds mistakes: with each of them made, some seed breaks a promise."""

import os

import pytest

from tests.simulation.mistakes import MISTAKES
from tests.simulation.story import play

# Those that show in one of the first seeds run with all tests; the others need some hundreds.
QUICK = frozenset(
    {"acceptance_before_commit", "newer_before_older", "never_sent_again", "holes_overlooked",
     "publications_forgotten", "unknown_is_done"}
)  # fmt: skip
ALL = "SIMULATION_SEEDS" in os.environ
SEEDS_MAX = 1_000 if ALL else 40


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for name in MISTAKES if ALL or name in QUICK])
def test_a_mistake_is_found(name: str) -> None:
    with MISTAKES[name]():
        found = next((seed for seed in range(SEEDS_MAX) if play(seed).broken), None)
    assert found is not None, f"{SEEDS_MAX} seeds did not show it"
