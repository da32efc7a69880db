import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.results import Result
from services.notifier.smtp_verdicts import Stage, enhanced_code, verdict


@pytest.mark.parametrize(
    ("stage", "code", "text", "outcome"),
    [
        (Stage.RECIPIENT, 550, "5.1.1 no such user", Result.ENDPOINT_GONE),
        (Stage.RECIPIENT, 556, "5.1.10 null MX", Result.ENDPOINT_GONE),
        (Stage.RECIPIENT, 550, "no such user", Result.REJECTED_MESSAGE),
        (Stage.RECIPIENT, 550, "5.1.100 odd", Result.REJECTED_MESSAGE),
        (Stage.RECIPIENT, 552, "5.2.2 mailbox full", Result.REJECTED_MESSAGE),
        (Stage.RECIPIENT, 550, "5.7.1 relaying denied", Result.MISCONFIGURED),
        (Stage.RECIPIENT, 530, "authenticate first", Result.MISCONFIGURED),
        (Stage.RECIPIENT, 451, "4.7.1 greylisted", Result.RETRY),
        (Stage.RECIPIENT, 450, "5.1.1 classes disagree", Result.RETRY),
        (Stage.RECIPIENT, 550, "4.1.1 classes disagree", Result.REJECTED_MESSAGE),
        (Stage.DATA, 550, "5.1.1 no such user", Result.ENDPOINT_GONE),
        (Stage.DATA, 554, "5.6.0 malformed", Result.REJECTED_MESSAGE),
        (Stage.DATA, 554, "5.7.26 not authenticated", Result.MISCONFIGURED),
        (Stage.DATA, 451, "try again", Result.RETRY),
        (Stage.DATA, 421, "4.3.2 shutting down", Result.PROVIDER_UNAVAILABLE),
        (Stage.DATA, -1, "garbage", Result.UNKNOWN),
        (Stage.SENDER, 550, "5.1.1 sender unknown", Result.MISCONFIGURED),
        (Stage.SENDER, 552, "5.3.4 too big", Result.REJECTED_MESSAGE),
        (Stage.SENDER, 451, "busy", Result.RETRY),
        (Stage.SESSION, 535, "5.7.8 credentials", Result.MISCONFIGURED),
        (Stage.SESSION, 535, "credentials", Result.MISCONFIGURED),
        (Stage.SESSION, 454, "4.7.0 temporary", Result.PROVIDER_UNAVAILABLE),
        (Stage.SESSION, 421, "too many connections", Result.PROVIDER_UNAVAILABLE),
        (Stage.SESSION, 554, "no service for you", Result.MISCONFIGURED),
        (Stage.SESSION, -1, "garbage", Result.PROVIDER_UNAVAILABLE),
    ],
)
def test_a_reply_means(stage: Stage, code: int, text: str, outcome: int) -> None:
    assert verdict(stage, code, text).outcome == outcome


def test_what_is_refused_for_now_is_tried_again_after_minutes() -> None:
    for stage, code, text in (
        (Stage.RECIPIENT, 451, "4.7.1 greylisted for 60 s"),
        (Stage.DATA, 452, "4.2.2 mailbox full"),
        (Stage.SENDER, 450, "busy"),
        (Stage.RECIPIENT, -1, "garbage"),
    ):
        assert verdict(stage, code, text).retry_after.seconds == 300
        assert verdict(stage, code, text, 7.0).retry_after.seconds == 7
    for code in (421, 550, 552):
        assert not verdict(Stage.DATA, code, "").HasField("retry_after")


def test_the_text_of_a_reply_is_not_kept() -> None:
    result = verdict(Stage.RECIPIENT, 550, "5.1.1 <ann@example.org> unknown")
    assert result.detail == "recipient 550 5.1.1"


@given(st.sampled_from(Stage), st.integers(-1, 999), st.text())
def test_every_reply_has_a_verdict(stage: Stage, code: int, text: str) -> None:
    result = verdict(stage, code, text)
    assert result.outcome != Result.OUTCOME_UNSPECIFIED
    if stage in (Stage.SESSION, Stage.SENDER):
        assert result.outcome not in (Result.ENDPOINT_GONE, Result.UNKNOWN)


def test_an_enhanced_code_is_read_only_at_the_start() -> None:
    assert enhanced_code(550, "5.1.1 no") == "5.1.1"
    assert enhanced_code(550, "see 5.1.1") == ""
    assert enhanced_code(550, "5.1.1x") == ""
    assert enhanced_code(550, "5.01.010 zeros") == "5.1.10"
