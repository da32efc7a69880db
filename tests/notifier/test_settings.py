from typing import Any

import pytest

from services.chassis.errors import SettingError
from services.chassis.settings import load
from services.notifier.settings import Settings, fcm_url, sender


def settings(**variables: str) -> Settings:
    return load(Settings, "notifier", {"ONWARD_SECRET": "s" * 16, **variables})


def test_without_variables_there_is_no_mail_server_and_a_usable_sender() -> None:
    assert settings().smtp_url == ""
    assert sender(settings()).address == "onward@localhost"


def test_the_sender_has_a_name_and_an_address_for_answers() -> None:
    made = sender(
        settings(
            ONWARD_SMTP_FROM="Ünward <o@example.org>", ONWARD_NOTIFIER_REPLY_TO="r@example.org"
        )
    )
    assert (made.name, made.address, made.reply_to) == ("Ünward", "o@example.org", "r@example.org")


@pytest.mark.parametrize(
    "variables",
    [
        {"ONWARD_SMTP_FROM": "nobody"},
        {"ONWARD_SMTP_FROM": "a@b.c, d@e.f"},
        {"ONWARD_SMTP_FROM": "a@b.c\r\nBcc: d@e.f"},
        {"ONWARD_SMTP_FROM": "A\x07 <a@b.c>"},
        {"ONWARD_NOTIFIER_REPLY_TO": "x y"},
        {"ONWARD_NOTIFIER_UNSUBSCRIBE": "example.org"},
        {"ONWARD_NOTIFIER_UNSUBSCRIBE": "https://example.org/>\r\nBcc: d@e.f"},
    ],
)
def test_a_wrong_address_names_its_variable(variables: Any) -> None:
    with pytest.raises(SettingError, match=next(iter(variables))):
        sender(settings(**variables))


@pytest.mark.parametrize("url", ["fcm", "ftp://x", "https://", "https://x/?a=b"])
def test_where_fcm_is_must_be_a_url(url: str) -> None:
    with pytest.raises(SettingError, match="ONWARD_FCM_URL"):
        fcm_url(settings(ONWARD_FCM_URL=url))


def test_fcm_is_googles_unless_told_otherwise() -> None:
    assert fcm_url(settings()) == "https://fcm.googleapis.com"
