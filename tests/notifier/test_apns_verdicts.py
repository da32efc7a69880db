import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.notifier.apns_verdicts import reason_of, verdict
from services.notifier.results import Result

NOW = datetime(2026, 11, 22, tzinfo=UTC)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner),
    max_leaves=3,
)


def judged(status: int, body: bytes, proven: bool = False, **headers: str) -> Result:
    return verdict(status, headers, body, NOW, proven=proven, back_off_s=60)


@given(st.integers(100, 999), st.binary(max_size=50) | st.just(b"[" * 10_000), st.booleans())
def test_every_answer_has_a_verdict_and_none_that_is_not_apples_removes(
    status: int, body: bytes, proven: bool
) -> None:
    result = judged(status, body, proven)
    assert result.outcome not in (Result.OUTCOME_UNSPECIFIED, Result.ENDPOINT_GONE)
    assert (result.outcome == Result.ACCEPTED) == (status == 200)


@given(st.sampled_from([400, 403, 410, 500]), anything, anything, st.text())
def test_whatever_stands_in_the_body_is_judged(
    status: int, reason: Any, timestamp: Any, wait: str
) -> None:
    body = json.dumps({"reason": reason, "timestamp": timestamp}).encode()
    result = judged(status, body, **{"retry-after": wait})
    assert result.outcome != Result.OUTCOME_UNSPECIFIED
    assert len(result.detail.encode()) <= 256


def test_a_reason_is_a_word_of_apples_or_nothing() -> None:
    assert reason_of(b'{"reason": "BadTopic"}') == "BadTopic"
    for body in (b"", b"{}", b"[]", b'{"reason": 7}', b'{"reason": "a b"}', b"<html>", b"\xff"):
        assert reason_of(body) == ""
