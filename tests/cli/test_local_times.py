"""Times are told on the clock of here, with their zone."""

import time
from collections.abc import Iterator

import pytest

from services.cli.local_times import clock, localised, moment

AT = "2026-01-22T12:00:00.123456789Z"


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_moment_has_its_zone_in_winter_and_in_summer() -> None:
    assert moment(AT) == "2026-01-22 13:00:00 CET"
    assert moment("2026-07-22T12:00:00Z") == "2026-07-22 14:00:00 CEST"


def test_a_clock_time_has_a_date_where_it_is_another_one() -> None:
    assert clock(AT, "2026-01-22T22:59:00Z") == "13:00:00"
    assert clock(AT, "2026-01-22T23:00:00Z") == "2026-01-22 13:00:00", "midnight is of here"
    assert clock(AT) == "2026-01-22 13:00:00"


def test_a_sentence_tells_all_its_times_here_and_keeps_its_other_words() -> None:
    told = "Sent at 2026-01-22 23:30:00 UTC. Opened at 2026-07-22 12:00:00 UTC. Put off: UTC."
    assert localised(told) == (
        "Sent at 2026-01-23 00:30:00 CET. Opened at 2026-07-22 14:00:00 CEST. Put off: UTC."
    )
