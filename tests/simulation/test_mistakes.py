"""The simulation finds mistakes: with each of them made, some seed breaks a promise."""

import os

import pytest

from tests.simulation.mistakes import MISTAKES
from tests.simulation.story import play

SEEDS_MAX = 1_000 if "SIMULATION_SEEDS" in os.environ else 300


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found(name: str) -> None:
    with MISTAKES[name]():
        found = next((seed for seed in range(SEEDS_MAX) if play(seed).broken), None)
    assert found is not None, f"{SEEDS_MAX} seeds did not show it"
