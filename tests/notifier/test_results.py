from datetime import UTC, datetime

from services.notifier import results
from services.notifier.results import Result


def test_each_constructor_gives_its_outcome() -> None:
    made = {
        Result.ACCEPTED: results.accepted("p1"),
        Result.DELIVERED: results.delivered("p1"),
        Result.RETRY: results.retry("busy", after_s=1.5),
        Result.REJECTED_MESSAGE: results.rejected_message(),
        Result.ENDPOINT_GONE: results.endpoint_gone(since=datetime(2026, 1, 1, tzinfo=UTC)),
        Result.OPTED_OUT: results.opted_out(),
        Result.MISCONFIGURED: results.misconfigured(),
        Result.EXPIRED: results.expired(),
        Result.UNKNOWN: results.unknown(),
    }
    assert all(result.outcome == outcome for outcome, result in made.items())
    assert made[Result.RETRY].retry_after.ToTimedelta().total_seconds() == 1.5
    assert made[Result.ENDPOINT_GONE].gone_since.ToJsonString() == "2026-01-01T00:00:00Z"


def test_no_advice_is_no_duration_rather_than_zero() -> None:
    assert not results.retry("busy").HasField("retry_after")
    assert not results.endpoint_gone().HasField("gone_since")


def test_a_detail_is_cut_between_characters() -> None:
    assert results.unknown("ä" * 200).detail == "ä" * 128
    assert results.accepted("x" * 300).provider_id == "x" * 256
