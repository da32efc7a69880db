"""Every row of the table of push services' answers."""

from datetime import UTC, datetime

import pytest

from services.notifier.results import Result
from services.notifier.webpush_verdicts import verdict

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "listed", "unlisted"),
    [
        (200, Result.ACCEPTED, Result.ACCEPTED),
        (201, Result.ACCEPTED, Result.ACCEPTED),
        (202, Result.ACCEPTED, Result.ACCEPTED),
        (404, Result.ENDPOINT_GONE, Result.ENDPOINT_GONE),
        (410, Result.ENDPOINT_GONE, Result.ENDPOINT_GONE),
        (400, Result.MISCONFIGURED, Result.REJECTED_MESSAGE),
        (401, Result.MISCONFIGURED, Result.REJECTED_MESSAGE),
        (403, Result.MISCONFIGURED, Result.REJECTED_MESSAGE),
        (413, Result.REJECTED_MESSAGE, Result.REJECTED_MESSAGE),
        (405, Result.REJECTED_MESSAGE, Result.REJECTED_MESSAGE),
        (301, Result.REJECTED_MESSAGE, Result.REJECTED_MESSAGE),
        (307, Result.REJECTED_MESSAGE, Result.REJECTED_MESSAGE),
        (408, Result.RETRY, Result.RETRY),
        (429, Result.RETRY, Result.RETRY),
        (500, Result.RETRY, Result.RETRY),
        (503, Result.RETRY, Result.RETRY),
        (101, Result.UNKNOWN, Result.UNKNOWN),
        (999, Result.UNKNOWN, Result.UNKNOWN),
    ],
)
def test_an_answer_has_its_verdict(status: int, listed: int, unlisted: int) -> None:
    assert verdict(status, None, True, NOW).outcome == listed
    assert verdict(status, None, False, NOW).outcome == unlisted


@pytest.mark.parametrize(
    ("after", "seconds"),
    [("7", 7), ("Sun, 22 Nov 2026 14:00:30 GMT", 30), ("99999999999", 86_400), ("x", 0), (None, 0)],
)
def test_a_retry_waits_as_long_as_is_wished_within_a_day(after: str | None, seconds: int) -> None:
    for status in (429, 503):
        result = verdict(status, after, False, NOW)
        assert result.retry_after.seconds == seconds
        assert result.HasField("retry_after") == (seconds > 0)
