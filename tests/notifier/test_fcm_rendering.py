"""What FCM is asked to show, held against Google's published schema."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.notifier.fcm_rendering import (
    PAYLOAD_BYTES_MAX,
    TTL_DEFAULT_S,
    TTL_S_MAX,
    collapse_name,
    render,
    token_of,
)
from tests.notifier.deliveries import ID, Delivery, delivery, message
from tests.notifier.discovery import Schema

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
FCM = Schema.of("fcm")


def made(**fields: Any) -> dict[str, Any]:
    given_ = delivery(message("hello"), endpoint="fcm:tok")
    given_.MergeFrom(Delivery(**fields))
    said = render(given_, "tok", NOW)
    assert FCM.faults(said, "SendMessageRequest") == []
    inner: dict[str, Any] = said["message"]
    return inner


def size(said: dict[str, Any]) -> int:
    shown = {"notification": said["notification"], "data": said["data"]}
    return len(json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode())


def test_a_message_shows_its_words_and_tells_the_app_what_it_stands_for() -> None:
    said = made(title="Bob", body="hello there", url="https://chat.example.org/1", category="chat")
    assert said["token"] == "tok"
    assert said["notification"] == {"title": "Bob", "body": "hello there"}
    assert said["data"] == {
        "subject": "/chat/1",
        "first_seq": "1",
        "last_seq": "1",
        "count": "1",
        "notification_id": "n1",
        "delivery_id": ID,
        "url": "https://chat.example.org/1",
        "category": "chat",
    }


def test_every_value_of_data_is_a_string() -> None:
    assert all(isinstance(value, str) for value in made(test=True)["data"].values())
    assert made(test=True)["data"]["test"] == "true"


@pytest.mark.parametrize(
    ("priority", "android", "shown", "apple"),
    [
        (Delivery.LOW, "NORMAL", "PRIORITY_LOW", "5"),
        (Delivery.PRIORITY_UNSPECIFIED, "HIGH", "PRIORITY_DEFAULT", "10"),
        (Delivery.NORMAL, "HIGH", "PRIORITY_DEFAULT", "10"),
        (Delivery.HIGH, "HIGH", "PRIORITY_HIGH", "10"),
        (Delivery.URGENT, "HIGH", "PRIORITY_MAX", "10"),
    ],
)
def test_the_priority_is_said_in_each_systems_words(
    priority: Any, android: str, shown: str, apple: str
) -> None:
    said = made(priority=priority)
    assert said["android"]["priority"] == android
    assert said["android"]["notification"]["notificationPriority"] == shown
    assert said["apns"]["headers"]["apns-priority"] == apple


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
    given_ = delivery(message("hello"), endpoint="fcm:tok")
    if expires_at:
        given_.expires_at.FromJsonString(expires_at)
    said = render(given_, "tok", NOW)["message"]
    assert said["android"]["ttl"] == f"{ttl_s}s"
    assert said["apns"]["headers"]["apns-expiration"] == str(int(NOW.timestamp()) + ttl_s)


def test_the_collapse_key_is_the_same_for_both_systems_and_fits_apples() -> None:
    said = made(collapse_key="/chat/42")
    assert said["android"]["collapseKey"] == "/chat/42"
    assert said["android"]["notification"]["tag"] == "/chat/42"
    assert said["apns"]["headers"]["apns-collapse-id"] == "/chat/42"
    assert collapse_name("a" * 64) == "a" * 64
    assert len(collapse_name("a" * 65)) == 32
    assert len(collapse_name("/ä")) == 32  # a header of Apple's is ASCII
    assert collapse_name("a" * 65) != collapse_name("a" * 66)


@pytest.mark.parametrize("letter", ["x", "ä", "👋", '"', "\n", "\\"])
def test_too_long_a_text_is_cut_and_the_ids_are_kept(letter: str) -> None:
    said = made(title="Bob", body="a" + letter * 8_000 + "z", url="https://e.org/" + "u" * 1_000)
    assert 3_000 < size(said) <= PAYLOAD_BYTES_MAX
    assert said["notification"]["body"].endswith("…")
    assert said["data"]["delivery_id"] == ID
    assert said["data"]["url"].endswith("u" * 1_000)


def test_links_that_leave_no_room_are_left_out_and_the_ids_are_kept() -> None:
    long = "https://e.org/?" + '"' * 1_000
    said = made(title="Bob", body="hello", url=long, mute_url=long)
    assert "mute_url" not in said["data"]
    assert said["data"]["url"] == long
    said = made(title="Bob", body="hello", url=long + '"' * 1_000)
    assert "url" not in said["data"]
    assert said["notification"]["body"] == "hello"
    assert said["data"]["delivery_id"] == ID


def test_the_app_is_told_what_mutes_the_subject() -> None:
    assert made(mute_url="https://e.org/mute")["data"]["mute_url"] == "https://e.org/mute"
    assert "mute_url" not in made(mute_url="javascript:x")["data"]


@given(st.text(), st.text(max_size=12_000), st.text(max_size=255))
@settings(max_examples=50, deadline=None)
def test_whatever_users_write_fits(title: str, body: str, subject: str) -> None:
    assert size(made(title=title, body=body, subject=subject)) <= PAYLOAD_BYTES_MAX


@pytest.mark.parametrize(
    "endpoint",
    ["fcm:", "fcm: x", "fcm:a b", "fcm:ä", "fcm:" + "x" * 10_000, "apns:x", "fcm:x\n", "fcm:a/b"],
)
def test_what_cannot_be_a_token_is_none(endpoint: str) -> None:
    assert token_of(endpoint) is None


def test_a_token_is_what_stands_behind_the_scheme() -> None:
    assert token_of("fcm:dQw4:APA91b-_x") == "dQw4:APA91b-_x"
