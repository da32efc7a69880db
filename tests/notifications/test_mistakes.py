"""The stories find mistakes: with each of them made, some seed breaks a promise."""

import os

import pytest

from tests.notifications.mistakes import MISTAKES
from tests.notifications.story import play

SEEDS_MAX = 200
# With all tests, those alone that a handful of stories shows.
QUICK = (
    "own_messages_told", "rates_not_counted", "no_check_at_send", "urgent_waits",
    "digests_ignored", "away_clients_answer",
)  # fmt: skip
TRIED = list(MISTAKES) if "NOTIFICATION_SEEDS" in os.environ else QUICK


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", TRIED)
def test_a_mistake_is_found(name: str) -> None:
    with MISTAKES[name]():
        found = next((seed for seed in range(SEEDS_MAX) if play(seed).broken), None)
    assert found is not None, f"{SEEDS_MAX} seeds did not show it"
