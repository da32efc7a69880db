"""The stories find mistakes: with each of them made, some seed breaks a promise."""

import os
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from tests.notifications.mistakes import MISTAKES
from tests.notifications.story import play
from tests.notifications.workers import workers

SEEDS_MAX = 200
# With all tests, those alone that a handful of stories shows.
QUICK = (
    "own_messages_told", "rates_not_counted", "no_check_at_send", "urgent_waits",
    "digests_ignored", "away_clients_answer",
)  # fmt: skip
TRIED = list(MISTAKES) if "NOTIFICATION_SEEDS" in os.environ else QUICK


def seed_that_shows(name: str) -> int | None:
    """The first seed that breaks a promise with this mistake made."""
    with MISTAKES[name]():
        return next((seed for seed in range(SEEDS_MAX) if play(seed).broken), None)


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[int | None]]]:
    """All that were asked for, looked for at once, in a process for each core."""
    names = [name for name in TRIED if any(f"[{name}]" in i.name for i in request.session.items)]
    with workers() as pool:
        yield {name: pool.submit(seed_that_shows, name) for name in names}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", TRIED)
def test_a_mistake_is_found(name: str, found: dict[str, Future[int | None]]) -> None:
    assert found[name].result() is not None, f"{SEEDS_MAX} seeds did not show it"
