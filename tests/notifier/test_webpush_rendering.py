"""What a service worker gets, and what the push service is told."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.notifier.webpush_rendering import (
    PAYLOAD_BYTES_MAX,
    TTL_DEFAULT_S,
    TTL_S_MAX,
    headers,
    payload,
    topic,
)
from tests.notifier.deliveries import ID, Delivery, delivery, message

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)


def made(**fields: Any) -> Delivery:
    given_ = delivery(message("hello"), endpoint="webpush:x")
    given_.MergeFrom(Delivery(**fields))
    return given_


def test_the_payload_is_what_is_shown_and_what_it_stands_for() -> None:
    said = json.loads(payload(made(title="Bob", body="hi", url="https://e.org/1", category="chat")))
    assert said == {
        "title": "Bob",
        "body": "hi",
        "subject": "/chat/1",
        "first_seq": 1,
        "last_seq": 1,
        "count": 1,
        "notification_id": "n1",
        "delivery_id": ID,
        "tag": topic("/chat/1"),
        "url": "https://e.org/1",
        "category": "chat",
    }
    assert json.loads(payload(made(test=True)))["test"] is True


@pytest.mark.parametrize("letter", ["x", "ä", "👋", '"', "\n"])
def test_too_long_a_text_is_cut_and_the_ids_are_kept(letter: str) -> None:
    encoded = payload(made(title="Bob", body="a" + letter * 8_000 + "z", url="https://e.org/u"))
    said = json.loads(encoded)
    assert PAYLOAD_BYTES_MAX - 10 < len(encoded) <= PAYLOAD_BYTES_MAX
    assert said["body"].endswith("…")
    assert (said["delivery_id"], said["url"]) == (ID, "https://e.org/u")


def test_links_that_leave_no_room_are_left_out_and_the_ids_are_kept() -> None:
    long = "https://e.org/" + "u" * 1_400
    said = json.loads(payload(made(title="B", body="hi", url=long, mute_url=long)))
    assert ("mute_url" in said, said["url"], said["body"]) == (False, long, "hi")
    wide = {"title": "B" * 250, "url": "https://e.org/" + "u" * 2_030}
    said = json.loads(payload(made(body="x" * 1_000, **wide)))
    assert ("url" in said, said["body"]) == (False, "x" * 1_000)
    said = json.loads(payload(made(body="x", **wide)))
    assert (said["url"], said["body"]) == (wide["url"], "x")
    said = json.loads(payload(made(title="B", body="hi", url="https://e.org/" + '"' * 2_030)))
    assert "url" not in said
    assert (said["body"], said["delivery_id"]) == ("hi", ID)


def test_a_language_and_what_mutes_the_subject_are_told() -> None:
    said = json.loads(payload(made(locale="de-CH", mute_url="https://e.org/mute")))
    assert (said["lang"], said["mute_url"]) == ("de-CH", "https://e.org/mute")
    assert "lang" not in json.loads(payload(made(locale="x" * 36)))


@given(st.text(), st.text(max_size=12_000), st.text(max_size=255))
@settings(max_examples=50, deadline=None)
def test_whatever_users_write_fits(title: str, body: str, subject: str) -> None:
    assert len(payload(made(title=title, body=body, subject=subject))) <= PAYLOAD_BYTES_MAX


@pytest.mark.parametrize(
    ("expires_at", "ttl_s"),
    [
        (None, TTL_DEFAULT_S),
        ("2026-11-22T14:01:30Z", 90),
        ("2026-11-22T14:00:00.2Z", 1),
        ("2026-11-22T13:00:00Z", 1),
        ("2036-11-22T13:00:00Z", TTL_S_MAX),
    ],
)
def test_it_lives_until_it_expires_and_never_for_no_time(
    expires_at: str | None, ttl_s: int
) -> None:
    given_ = made()
    if expires_at:
        given_.expires_at.FromJsonString(expires_at)
    assert headers(given_, NOW)["ttl"] == str(ttl_s)


@pytest.mark.parametrize(
    ("priority", "urgency"),
    [
        (Delivery.PRIORITY_UNSPECIFIED, "normal"),
        (Delivery.LOW, "low"),
        (Delivery.NORMAL, "normal"),
        (Delivery.HIGH, "high"),
        (Delivery.URGENT, "high"),
    ],
)
def test_the_priority_is_the_urgency(priority: Any, urgency: str) -> None:
    assert headers(made(priority=priority), NOW)["urgency"] == urgency


@given(st.text(min_size=1))
def test_a_topic_is_at_most_32_characters_of_base64url(key: str) -> None:
    made_ = topic(key)
    assert len(made_) == 32
    assert made_.replace("-", "").replace("_", "").isalnum()
    assert made_ == topic(key) != topic(key + "x")


def test_without_a_collapse_key_there_is_no_topic() -> None:
    given_ = made()
    given_.collapse_key = ""
    assert "topic" not in headers(given_, NOW)
    assert "tag" not in json.loads(payload(given_))
