import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.notifier.results import Result
from services.notifier.sms_verdicts import Event, event_kind, verdict
from tests.notifier.test_apns_verdicts import anything

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@given(st.integers(100, 999), st.binary(max_size=50))
def test_every_answer_has_a_verdict_and_none_that_is_not_twilios_removes(
    status: int, body: bytes
) -> None:
    result = verdict(status, {}, body, NOW)
    assert result.outcome not in (
        Result.OUTCOME_UNSPECIFIED,
        Result.ENDPOINT_GONE,
        Result.OPTED_OUT,
    )
    assert (result.outcome == Result.ACCEPTED) == (status in (200, 201))


@given(st.integers(200, 599), anything, anything, st.text())
def test_whatever_stands_in_the_body_is_judged(status: int, code: Any, sid: Any, wait: str) -> None:
    body = json.dumps({"code": code, "sid": sid}).encode()
    result = verdict(status, {"retry-after": wait}, body, NOW)
    assert result.outcome != Result.OUTCOME_UNSPECIFIED
    assert len(result.detail.encode()) <= 256
    assert len(result.provider_id.encode()) <= 256


def test_what_may_have_been_taken_is_never_called_a_retry() -> None:
    for status in (500, 502, 503, 504, 520, 599):
        assert verdict(status, {}, b"<html>", NOW).outcome == Result.UNKNOWN
        assert verdict(status, {}, b'{"code": 20500}', NOW).outcome == Result.UNKNOWN
        assert verdict(status, {}, b'{"code": true}', NOW).outcome == Result.UNKNOWN
        assert verdict(status, {}, b'{"code": 0}', NOW).outcome == Result.UNKNOWN
        if status != 503:
            assert verdict(status, {}, b'{"code": 29999}', NOW).outcome == Result.UNKNOWN


def test_what_twilio_says_it_did_not_take_is_tried_again() -> None:
    for status, code in ((503, 20503), (503, 29999), (429, 20429), (400, 21611)):
        body = json.dumps({"code": code}).encode()
        assert verdict(status, {}, body, NOW).outcome == Result.RETRY


@given(st.text(), st.text())
def test_a_word_that_twilio_does_not_say_reports_nothing(status: str, code: str) -> None:
    assert event_kind(f"?{status}", code) is None
    assert event_kind("failed", f"?{code}") == Event.FAILED
