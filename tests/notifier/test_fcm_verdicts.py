"""Every row of the table of FCM's answers, and answers that are none of FCM's."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.notifier.fcm_verdicts import QUOTA_WAIT_S, is_about_our_token, verdict
from services.notifier.results import Result
from tests.notifier.fake_fcm import error, fcm_error, violation

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
HTML = b"<html><body>Error 502</body></html>"


def judged(
    status: int, name: str, *details: Any, after: str | None = None, proven: bool = False
) -> Result:
    return verdict(status, after, error(status, name, *details).body, NOW, proven=proven)


@pytest.mark.parametrize(
    ("status", "name", "details", "outcome", "detail"),
    [
        (404, "NOT_FOUND", [fcm_error("UNREGISTERED")], Result.ENDPOINT_GONE,
         "404 NOT_FOUND UNREGISTERED"),
        (404, "NOT_FOUND", [], Result.MISCONFIGURED, "404 NOT_FOUND"),
        (400, "INVALID_ARGUMENT", [fcm_error("INVALID_ARGUMENT"), violation("message.token")],
         Result.ENDPOINT_GONE, "400 INVALID_ARGUMENT INVALID_ARGUMENT"),
        (400, "INVALID_ARGUMENT", [fcm_error("INVALID_ARGUMENT")], Result.REJECTED_MESSAGE,
         "400 INVALID_ARGUMENT INVALID_ARGUMENT"),
        (400, "INVALID_ARGUMENT", [violation("message.data")], Result.REJECTED_MESSAGE,
         "400 INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED", [], Result.MISCONFIGURED, "401 UNAUTHENTICATED"),
        (401, "UNAUTHENTICATED", [fcm_error("THIRD_PARTY_AUTH_ERROR")], Result.MISCONFIGURED,
         "401 UNAUTHENTICATED THIRD_PARTY_AUTH_ERROR"),
        (403, "PERMISSION_DENIED", [fcm_error("SENDER_ID_MISMATCH")], Result.MISCONFIGURED,
         "403 PERMISSION_DENIED SENDER_ID_MISMATCH"),
        (403, "PERMISSION_DENIED", [], Result.MISCONFIGURED, "403 PERMISSION_DENIED"),
        (429, "RESOURCE_EXHAUSTED", [fcm_error("QUOTA_EXCEEDED")], Result.RETRY,
         "429 RESOURCE_EXHAUSTED QUOTA_EXCEEDED"),
        (500, "INTERNAL", [fcm_error("INTERNAL")], Result.RETRY, "500 INTERNAL INTERNAL"),
        (503, "UNAVAILABLE", [fcm_error("UNAVAILABLE")], Result.RETRY,
         "503 UNAVAILABLE UNAVAILABLE"),
        (413, "", [], Result.REJECTED_MESSAGE, "413"),
    ],
)  # fmt: skip
def test_an_error_has_its_verdict(
    status: int, name: str, details: list[Any], outcome: int, detail: str
) -> None:
    result = judged(status, name, *details)
    assert (result.outcome, result.detail) == (outcome, detail)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (404, Result.MISCONFIGURED),
        (400, Result.REJECTED_MESSAGE),
        (401, Result.MISCONFIGURED),
        (403, Result.MISCONFIGURED),
        (407, Result.MISCONFIGURED),
        (405, Result.MISCONFIGURED),
        (302, Result.MISCONFIGURED),
        (408, Result.RETRY),
        (429, Result.RETRY),
        (502, Result.RETRY),
        (504, Result.RETRY),
        (200, Result.UNKNOWN),
        (101, Result.UNKNOWN),
        (999, Result.UNKNOWN),
    ],
)
@pytest.mark.parametrize(
    "body",
    [HTML, b"", b"\xff\xfe", b"[" * 20_000, b"[]", b'"x"', b'{"error": "x"}',
     b'{"error": {"details": {}, "status": 7}}', b'{"error": {"details": [1, {"errorCode": {}}]}}',
     b'{"error": {"details": [{"fieldViolations": "x"}, {"fieldViolations": [0]}]}}',
     b'{"name": ""}', b'{"name": 7}'],
)  # fmt: skip
def test_without_googles_json_the_status_alone_decides(
    status: int, body: bytes, outcome: int
) -> None:
    for proven in (False, True):
        assert verdict(status, None, body, NOW, proven=proven).outcome == outcome


def test_html_that_speaks_of_unregistered_is_not_believed() -> None:
    result = verdict(404, None, b"<p>UNREGISTERED</p>", NOW, proven=True)
    assert result.outcome == Result.MISCONFIGURED


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (403, "SENDER_ID_MISMATCH", Result.REJECTED_MESSAGE),
        (403, "", Result.MISCONFIGURED),
        (401, "THIRD_PARTY_AUTH_ERROR", Result.MISCONFIGURED),
        (404, "", Result.MISCONFIGURED),
        (404, "UNREGISTERED", Result.ENDPOINT_GONE),
        (429, "QUOTA_EXCEEDED", Result.RETRY),
    ],
)
def test_once_fcm_has_accepted_something_a_token_of_another_project_fails_alone(
    status: int, code: str, outcome: int
) -> None:
    assert judged(status, "X", fcm_error(code), proven=True).outcome == outcome


def test_what_is_accepted_has_fcms_name() -> None:
    body = b'{"name": "projects/p/messages/0:1"}'
    result = verdict(200, None, body, NOW, proven=False)
    assert (result.outcome, result.provider_id) == (Result.ACCEPTED, "projects/p/messages/0:1")


@pytest.mark.parametrize(
    ("status", "after", "seconds"),
    [
        (429, "7", 7),
        (429, "Sun, 22 Nov 2026 14:00:30 GMT", 30),
        (429, None, QUOTA_WAIT_S),
        (429, "soon", QUOTA_WAIT_S),
        (503, "120", 120),
        (503, "0", 0),
        (503, None, 10),
        (503, "soon", 10),
        (500, None, 10),
        (408, None, 10),
    ],
)
def test_a_retry_waits_as_long_as_fcm_wishes(
    status: int, after: str | None, seconds: float
) -> None:
    result = judged(status, "X", after=after)
    assert result.HasField("retry_after")
    assert result.retry_after.ToTimedelta().total_seconds() == seconds


def test_no_word_of_an_answer_reaches_the_detail() -> None:
    result = judged(400, "eyJhbGciOi.x", {"errorCode": "<script>"}, {"errorCode": "A" * 41})
    assert result.detail == "400"


def test_only_401_for_our_own_token_asks_for_another() -> None:
    assert is_about_our_token(401, HTML)
    assert is_about_our_token(401, error(401, "UNAUTHENTICATED").body)
    apples = error(401, "UNAUTHENTICATED", fcm_error("THIRD_PARTY_AUTH_ERROR")).body
    assert not is_about_our_token(401, apples)
    assert not is_about_our_token(403, HTML)
