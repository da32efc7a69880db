"""Words of a template are all that any channel shows: nothing of the messages stands besides."""

import base64
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from services.notifier import (
    apns,
    email_rendering,
    fcm_rendering,
    harness,
    sms,
    webhook,
    webpush_rendering,
)
from services.notifier.apprise import Apprise
from services.notifier.console import line
from tests.notifier.deliveries import Delivery, delivery, message

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
CHANNEL = re.compile(r'^    name = "(\w+)"$', re.M)
OF_MESSAGES = ("hunter", "topsecret", "mallory", "weird")
SENDER = email_rendering.Sender("onward@example.org")
ACCOUNT = sms.Account("AC" + "0" * 32, "token", "+15005550006")

ENDPOINTS = {
    "apns": "apns:" + "ab" * 32,
    "apprise": "apprise:ops",
    "console": "x:y",
    "email": "mailto:ann@example.org",
    "fcm": "fcm:token",
    "sms": "tel:+491700000000",
    "webhook": "https://example.org/hook",
    "webpush": "webpush:x",
}


def of_apns(made: Delivery) -> str:
    request = apns.render(made, "org.example.chat")
    assert isinstance(request, apns.Request)
    return f"{request.headers} {request.body.decode()}"


def of_email(made: Delivery) -> str:
    mail = email_rendering.render(made, "ann@example.org", SENDER, NOW)
    parts = [str(one.get_content()) for one in mail.walk() if isinstance(one, EmailMessage)
             and one.get_content_maintype() == "text"]  # fmt: skip
    return "\n".join([*(f"{name}: {value}" for name, value in mail.items()), *parts])


def of_sms(made: Delivery) -> str:
    form = sms.render(made, ACCOUNT, 480, NOW)
    assert isinstance(form, Mapping)
    return json.dumps(form)


def of_webhook(made: Delivery) -> str:
    body = webhook.render(made, NOW)
    assert body is not None
    return body.decode()


SHOWN: Mapping[str, Callable[[Delivery], str]] = {
    "apns": of_apns,
    "console": line,
    "email": of_email,
    "fcm": lambda made: json.dumps(fcm_rendering.render(made, "token", NOW)),
    "sms": of_sms,
    "webhook": of_webhook,
    "webpush": lambda made: webpush_rendering.payload(made).decode(),
}


def hidden(channel: str, **fields: str) -> Delivery:
    """Of a template that tells neither what the messages hold nor who published them."""
    headers = {"title": "topsecret", "x": "topsecret"}
    made = delivery(
        message("hunter2", publisher="mallory", headers=headers),
        message(data=b"hunter3", publisher="mallory", content_type="text/weird"),
        message("hunter4", publisher="mallory", headers=headers),
        endpoint=ENDPOINTS[channel],
    )
    made.MergeFrom(Delivery(templated=True, **fields))
    return made


def assert_hides(shown: str) -> None:
    for text in (*OF_MESSAGES, base64.b64encode(b"hunter3").decode()):
        assert text not in shown


WORDS = [
    {"title": "3 new in your account", "body": "Look there.", "html": "<p>Look there.</p>"},
    {"title": "3 new in your account", "body": "Look there."},
    {"title": "3 new in your account", "html": "<p>3 new</p>"},
    {"title": "3 new in your account"},
    {},
]


@pytest.mark.parametrize("fields", WORDS, ids=lambda fields: "+".join(fields) or "nothing")
@pytest.mark.parametrize("channel", SHOWN)
def test_nothing_of_the_messages_is_shown_besides_the_template(
    channel: str, fields: dict[str, str]
) -> None:
    shown = SHOWN[channel](hidden(channel, **fields))
    assert_hides(shown)
    assert fields.get("title", "") in shown
    assert fields.get("body", "") in shown


@pytest.mark.parametrize("channel", SHOWN)
def test_one_message_is_hidden_as_well_as_several(channel: str) -> None:
    made = hidden(channel, title="New")
    del made.messages[1:]
    made.count = 1
    assert_hides(SHOWN[channel](made))


@pytest.mark.parametrize("fields", WORDS, ids=lambda fields: "+".join(fields) or "nothing")
def test_nothing_of_the_messages_is_handed_to_apprise(run: Any, fields: dict[str, str]) -> None:
    given: list[str] = []

    def send(title: str, body: str) -> bool:
        given.extend((title, body))
        return True

    run(Apprise({"ops": send}).send(hidden("apprise", **fields)))
    assert given
    assert_hides(" ".join(given))


def test_what_is_hidden_by_a_template_is_shown_without_one() -> None:
    for channel in ("console", "email", "webhook"):
        made = hidden(channel)
        made.templated = False
        assert "hunter4" in SHOWN[channel](made), "else the tests above would prove nothing"


def test_no_channel_is_forgotten_here() -> None:
    modules = Path(harness.__file__).parent.glob("*.py")
    names = {name for one in modules for name in CHANNEL.findall(one.read_text())}
    assert names == set(ENDPOINTS)
