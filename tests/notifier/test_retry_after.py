from datetime import UTC, datetime

import pytest

from services.notifier.retry_after import LONGEST_S, retry_after_s

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 0 ", 0),
        ("99999999", LONGEST_S),
        ("9" * 5000, LONGEST_S),
        ("Sun, 22 Nov 2026 14:00:30 GMT", 30),
        ("Sun, 22 Nov 2026 14:00:30 -0000", 30),
        ("Sun, 22 Nov 2026 13:00:00 GMT", 0),
        ("Sun, 22 Nov 2099 13:00:00 GMT", LONGEST_S),
    ],
)
def test_seconds_and_dates_are_read_within_bounds(value: str, seconds: float) -> None:
    assert retry_after_s(value, NOW) == seconds


@pytest.mark.parametrize("value", [None, "", "-1", "1.5", "soon", "٣", "Sun, 99 Nov 2026"])
def test_what_cannot_be_read_says_nothing(value: str | None) -> None:
    assert retry_after_s(value, NOW) is None
