"""What is wrong with a channel's settings is said in one sentence, without quoting a secret."""

from pathlib import Path
from typing import Any

import pytest

from services.chassis.errors import SettingError
from services.notifier.channel_settings import (
    apns_access,
    callback_url,
    process_name,
    sms_account,
    webhook_secrets,
)
from tests.notifier.fake_apns import FakeApns
from tests.notifier.test_main import APPLE, TWILIO, WEBHOOK
from tests.notifier.test_settings import settings


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "key.p8"
    path.write_text(FakeApns(tmp_path).key)
    return str(path)


def test_without_their_first_variable_channels_are_not_set_up() -> None:
    nothing = settings()
    assert apns_access(nothing) is None
    assert sms_account(nothing) is None
    assert webhook_secrets(nothing) is None
    assert callback_url(nothing) == ""
    assert process_name(nothing) == "notifier"


def test_apple_is_asked_with_the_key_of_the_file(key_file: str) -> None:
    access = apns_access(settings(ONWARD_APNS_KEY_FILE=key_file, **APPLE))
    assert access
    assert (access.key_id, access.team_id) == ("ABC123DEFG", "TEAM123456")
    assert access.url == "https://api.push.apple.com"
    assert "PRIVATE" in access.key
    assert "PRIVATE" not in repr(access)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ONWARD_APNS_KEY_ID", ""),
        ("ONWARD_APNS_TEAM_ID", "abc"),
        ("ONWARD_APNS_TOPIC", ""),
        ("ONWARD_APNS_TOPIC", "a\r\nb: c"),
        ("ONWARD_APNS_URL", "http://api.push.apple.com"),
        ("ONWARD_APNS_URL", "https://[::1"),
    ],
)
def test_a_wrong_variable_of_apns_is_named(key_file: str, name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name):
        apns_access(settings(**{"ONWARD_APNS_KEY_FILE": key_file, **APPLE, name: value}))


@pytest.mark.parametrize("content", [None, b"", b"hidden", b"\xff\xfe", "rsa"])
def test_a_file_that_is_no_key_of_apples_is_said(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "key.p8"
    if content == "rsa":
        content = RSA_KEY.encode()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingError, match="ONWARD_APNS_KEY_FILE") as raised:
        apns_access(settings(ONWARD_APNS_KEY_FILE=str(path), **APPLE))
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ONWARD_TWILIO_ACCOUNT_SID", "hidden-token"),
        ("ONWARD_TWILIO_AUTH_TOKEN", ""),
        ("ONWARD_TWILIO_FROM", ""),
        ("ONWARD_TWILIO_FROM", "15005550006"),
        ("ONWARD_TWILIO_FROM", "A name too long"),
        ("ONWARD_TWILIO_URL", "api.twilio.com"),
        ("ONWARD_TWILIO_URL", "https://user:hidden-token@api.twilio.com"),
        ("ONWARD_PUBLIC_URL", "chat.example.org"),
        ("ONWARD_PUBLIC_URL", "https://chat.example.org/?a=b"),
        ("ONWARD_NOTIFIER_NAME", "No Name"),
    ],
)
def test_a_wrong_variable_of_sms_is_named(name: str, value: str) -> None:
    public = {"ONWARD_PUBLIC_URL": "https://chat.example.org"}
    with pytest.raises(SettingError, match=name) as raised:
        sms_account(settings(**{**TWILIO, **public, name: value}))
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("sender", ["+15005550006", "MG" + "0c" * 16, "Onward"])
def test_an_sms_comes_from_a_number_a_service_or_a_name(sender: str) -> None:
    account = sms_account(settings(**{**TWILIO, "ONWARD_TWILIO_FROM": sender}))
    assert account
    assert (account.sender, account.callback_url) == (sender, "")


def test_twilio_reports_to_the_edges_under_the_name_of_the_process() -> None:
    account = sms_account(
        settings(
            **TWILIO, ONWARD_PUBLIC_URL="https://chat.example.org/", ONWARD_NOTIFIER_NAME="sms-2"
        )
    )
    assert account
    assert account.callback_url == "https://chat.example.org/v1/callbacks/sms-2"


def test_webhook_secrets_are_read_the_newest_first() -> None:
    two = "whsec_" + "bmV3" * 8 + ", whsec_" + "b2xk" * 8
    assert webhook_secrets(settings(ONWARD_WEBHOOK_SECRETS=two)) == [b"new" * 8, b"old" * 8]
    assert webhook_secrets(settings(**WEBHOOK)) == [b"new" * 8]
    for wrong in ("hidden", "whsec_hidden", f"{two},whsec_"):
        with pytest.raises(SettingError, match="ONWARD_WEBHOOK_SECRETS") as raised:
            webhook_secrets(settings(ONWARD_WEBHOOK_SECRETS=wrong))
        assert "hidden" not in str(raised.value)


def _rsa() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


RSA_KEY = _rsa()
