"""Every row of the table of push services' answers."""

from datetime import UTC, datetime

import pytest

from services.notifier.results import Result
from services.notifier.webpush_verdicts import verdict

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "listed", "proven", "unlisted"),
    [
        (200, Result.ACCEPTED, Result.ACCEPTED, Result.ACCEPTED),
        (201, Result.ACCEPTED, Result.ACCEPTED, Result.ACCEPTED),
        (202, Result.ACCEPTED, Result.ACCEPTED, Result.ACCEPTED),
        (404, Result.ENDPOINT_GONE, Result.ENDPOINT_GONE, Result.ENDPOINT_GONE),
        (410, Result.ENDPOINT_GONE, Result.ENDPOINT_GONE, Result.ENDPOINT_GONE),
        (400, Result.MISCONFIGURED, Result.REJECTED_MESSAGE, Result.REJECTED_MESSAGE),
        (401, Result.MISCONFIGURED, Result.RETRY, Result.RETRY),
        (403, Result.MISCONFIGURED, Result.RETRY, Result.RETRY),
        (413, Result.REJECTED_MESSAGE, Result.REJECTED_MESSAGE, Result.REJECTED_MESSAGE),
        (422, Result.REJECTED_MESSAGE, Result.REJECTED_MESSAGE, Result.REJECTED_MESSAGE),
        (405, Result.REJECTED_MESSAGE, Result.REJECTED_MESSAGE, Result.RETRY),
        (451, Result.REJECTED_MESSAGE, Result.REJECTED_MESSAGE, Result.RETRY),
        (301, Result.REJECTED_MESSAGE, Result.REJECTED_MESSAGE, Result.RETRY),
        (307, Result.REJECTED_MESSAGE, Result.REJECTED_MESSAGE, Result.RETRY),
        (408, Result.RETRY, Result.RETRY, Result.RETRY),
        (429, Result.RETRY, Result.RETRY, Result.RETRY),
        (500, Result.RETRY, Result.RETRY, Result.RETRY),
        (503, Result.RETRY, Result.RETRY, Result.RETRY),
        (101, Result.UNKNOWN, Result.UNKNOWN, Result.UNKNOWN),
        (999, Result.UNKNOWN, Result.UNKNOWN, Result.UNKNOWN),
    ],
)
def test_an_answer_has_its_verdict(status: int, listed: int, proven: int, unlisted: int) -> None:
    assert verdict(status, None, NOW, listed=True, proven=False).outcome == listed
    assert verdict(status, None, NOW, listed=True, proven=True).outcome == proven
    for either in (False, True):
        assert verdict(status, None, NOW, listed=False, proven=either).outcome == unlisted


def test_nothing_that_an_unlisted_service_answers_stops_the_channel() -> None:
    for status in range(100, 1_000):
        for proven in (False, True):
            assert verdict(status, None, NOW, listed=False, proven=proven).outcome not in (
                Result.MISCONFIGURED,
                Result.PROVIDER_UNAVAILABLE,
            )


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("Sun, 22 Nov 2026 14:00:30 GMT", 30),
        ("99999999999", 86_400),
        ("x", 10),
        (None, 10),
    ],
)
def test_a_retry_waits_as_long_as_is_wished_within_a_day_and_else_10_s(
    after: str | None, seconds: int
) -> None:
    for status in (429, 503):
        for listed in (False, True):
            result = verdict(status, after, NOW, listed=listed, proven=True)
            assert result.retry_after.seconds == seconds
            assert result.HasField("retry_after")


@pytest.mark.parametrize("status", [401, 403])
def test_who_refuses_what_it_took_before_is_asked_again_in_ten_minutes_or_as_it_says(
    status: int,
) -> None:
    for after, seconds in ((None, 600), ("7", 7), ("99999999999", 86_400)):
        result = verdict(status, after, NOW, listed=True, proven=True)
        assert result.retry_after.seconds == seconds
    assert verdict(status, None, NOW, listed=False, proven=False).retry_after.seconds == 10
