import ssl

import pytest

from services.chassis.errors import SettingError
from services.notifier.email import tls_context
from services.notifier.smtp_url import SmtpServer, parse


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://127.0.0.1:2525", SmtpServer("127.0.0.1", 2525, False, "auto", False)),
        ("smtp://mx.example.org", SmtpServer("mx.example.org", 25, False, "auto", False)),
        ("smtp://mx.example.org/", SmtpServer("mx.example.org", 25, False, "auto", False)),
        (
            "smtp://ann:s%40c%2Fret@mx.example.org",
            SmtpServer("mx.example.org", 587, False, "required", True, "ann", "s@c/ret"),
        ),
        (
            "smtp://ann:pw@localhost",
            SmtpServer("localhost", 587, False, "auto", False, "ann", "pw"),
        ),
        (
            "smtp://ann:pw@mx.example.org?starttls=auto",
            SmtpServer("mx.example.org", 587, False, "auto", True, "ann", "pw"),
        ),
        (
            "smtp://mx.example.org:26?starttls=required",
            SmtpServer("mx.example.org", 26, False, "required", True),
        ),
        ("smtp://[::1]:26?starttls=no", SmtpServer("::1", 26, False, "no", False)),
        ("smtps://mx.example.org", SmtpServer("mx.example.org", 465, True, "no", True)),
    ],
)
def test_a_url_is_read(url: str, server: SmtpServer) -> None:
    assert parse(url) == server


@pytest.mark.parametrize(
    "url",
    [
        "mail.example.org",
        "http://mail.example.org",
        "smtp://",
        "smtp://:25",
        "smtp://host:99999",
        "smtp://host:0",
        "smtp://host:port",
        "smtp://[::1",
        "smtp://host/path",
        "smtp://host#x",
        "smtp://user@host",
        "smtp://:hunter2@host",
        "smtp://host?starttls=maybe",
        "smtp://host?starttls",
        "smtp://host?tls=yes",
        "smtp://host?starttls=no&starttls=auto",
        "smtps://host?starttls=required",
        "smtp://user:hunter2@host:x",
    ],
)
def test_a_wrong_url_is_one_sentence_with_the_remedy_and_no_password(url: str) -> None:
    with pytest.raises(SettingError) as raised:
        parse(url)
    sentence = str(raised.value)
    assert sentence.startswith("ONWARD_SMTP_URL ")
    assert "set it to smtp://" in sentence
    assert "\n" not in sentence
    assert "hunter2" not in sentence


def test_certificates_are_checked_where_somebody_could_sit_in_between() -> None:
    assert tls_context(parse("smtps://mx.example.org")).verify_mode == ssl.CERT_REQUIRED
    assert tls_context(parse("smtps://mx.example.org")).check_hostname
    assert tls_context(parse("smtps://127.0.0.1")).verify_mode == ssl.CERT_NONE
