"""Which endpoints are subscriptions, and what is wrong with those that are none."""

import json
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.webpush import SERVICES
from services.notifier.webpush_endpoint import (
    NotASubscription,
    entry_of,
    is_listed,
    is_named,
    listed_at,
    subscription_of,
)
from tests.notifier.push_server import encoded, external_token

# The browser's keys of RFC 8291, appendix A.
KEY = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
SECRET = "BTBZMqHH6r4Tts7J_aSIgg"
GOOD = {
    "endpoint": "https://updates.push.services.mozilla.com/wpush/v2/gAAA",
    "expirationTime": None,
    "keys": {"p256dh": KEY, "auth": SECRET},
}


def with_url(url: object) -> str:
    return external_token(GOOD | {"endpoint": url})


def test_what_a_page_gets_is_a_subscription() -> None:
    found = subscription_of(external_token(GOOD))
    assert found.url == GOOD["endpoint"]
    assert found.host == "updates.push.services.mozilla.com"
    assert found.origin == "https://updates.push.services.mozilla.com"
    assert (found.key, found.secret) == (KEY, SECRET)


def test_padding_may_be_there_or_not() -> None:
    said = json.dumps(GOOD | {"keys": {"p256dh": KEY + "=", "auth": SECRET + "=="}}).encode()
    padded = "webpush:" + urlsafe_b64encode(said).decode()
    assert subscription_of(padded).key == KEY


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://push.example:443/x", "https://push.example"),
        ("https://push.example:8443/x", "https://push.example:8443"),
        ("https://PUSH.example/x", "https://push.example"),
        ("https://[2606:4700::1]/x", "https://[2606:4700::1]"),
    ],
)
def test_the_origin_is_as_a_claim_names_it(url: str, origin: str) -> None:
    assert subscription_of(with_url(url)).origin == origin


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://push.example/x", "not https:"),
        ("file:///etc/passwd", "not https:"),
        ("ftp://push.example/", "not https:"),
        ("push.example", "not https:"),
        ("https://", "no host"),
        ("https:///x", "no host"),
        ("https://ann:secret@push.example/x", "user name"),
        ("https://@push.example/x", "user name"),
        ("https://fcm.googleapis.com\\@push.example/x", "characters"),
        ("https://push.example/a b", "characters"),
        ("https://push.example/a\r\nX: y", "characters"),
        ("https://püsh.example/", "characters"),
        ("https://push.example:22/x", "port"),
        ("https://push.example:80/x", "port"),
        ("https://push.example:0/x", "port"),
        ("https://push.example:99999/x", "cannot be read"),
        ("https://[::1/x", "cannot be read"),
        ("https://push.example/" + "x" * 2_048, "2048 bytes"),
        (7, "no endpoint"),
        (None, "no endpoint"),
    ],
)
def test_another_url_is_refused(url: object, fault: str) -> None:
    with pytest.raises(NotASubscription, match=fault):
        subscription_of(with_url(url))


@pytest.mark.parametrize(
    ("endpoint", "fault"),
    [
        ("webpush:", "base64url"),
        ("webpush:{}", "base64url"),
        ("webpush:A", "base64url"),
        ("fcm:x", "not webpush:"),
        ("webpush:" + encoded(b"not json"), "no JSON object"),
        ("webpush:" + encoded(b"[]"), "no JSON object"),
        ("webpush:" + encoded(b"[" * 2_000), "no JSON object"),
        ("webpush:" + encoded(b"\xff\xfe"), "no JSON object"),
        ("webpush:" + "A" * 10_000, "4096 bytes"),
        (external_token(GOOD | {"keys": None}), "no keys"),
        (external_token(GOOD | {"keys": {}}), "no p256dh"),
        (external_token(GOOD | {"keys": {"p256dh": KEY}}), "no auth"),
        (external_token(GOOD | {"keys": {"p256dh": "", "auth": SECRET}}), "p256dh is not"),
        (external_token(GOOD | {"keys": {"p256dh": KEY[:-4], "auth": SECRET}}), "p256dh has not"),
        (external_token(GOOD | {"keys": {"p256dh": KEY, "auth": "AAAA"}}), "auth has not 16"),
        (
            external_token(
                GOOD | {"keys": {"p256dh": encoded(b"\x04" + b"\x01" * 64), "auth": SECRET}}
            ),
            "no point",
        ),
    ],
)
def test_another_form_is_refused(endpoint: str, fault: str) -> None:
    with pytest.raises(NotASubscription, match=fault):
        subscription_of(endpoint)


@given(st.text(max_size=200) | st.binary(max_size=200).map(encoded))
def test_nothing_else_is_raised(text: str) -> None:
    with pytest.raises(NotASubscription):
        subscription_of("webpush:" + text)


def test_where_private_is_allowed_http_and_any_port_are_too() -> None:
    assert subscription_of(with_url("http://localhost:9000/x"), allow_private=True).origin == (
        "http://localhost:9000"
    )
    with pytest.raises(NotASubscription):
        subscription_of(with_url("ftp://localhost/x"), allow_private=True)


@pytest.mark.parametrize(
    ("host", "listed"),
    [
        ("fcm.googleapis.com", True),
        ("updates.push.services.mozilla.com", True),
        ("web.push.apple.com", True),
        ("wns2-by3p.notify.windows.com", True),
        ("evil.fcm.googleapis.com", False),
        ("fcm.googleapis.com.evil.example", False),
        ("evilpush.apple.com", False),
        ("push.example", False),
    ],
)
def test_browsers_push_services_are_listed_and_no_others(host: str, listed: bool) -> None:
    assert is_listed(host, SERVICES) == listed


def test_a_list_may_name_all() -> None:
    assert is_listed("push.example", ["*"])
    assert is_listed("push.example", ["Push.Example"])
    assert not is_listed("push.example", [])


def test_a_host_is_listed_at_443_unless_another_port_is_named() -> None:
    services = ["push.example", "push.example:8443", "*.push.example", "[::1]:9", "::1", "*:80"]
    assert listed_at(443, services) == ["push.example", "*.push.example", "::1"]
    assert listed_at(8443, services) == ["push.example"]
    assert listed_at(9, services) == ["::1"]
    assert listed_at(80, services) == ["*"]
    assert listed_at(22, services) == []
    assert listed_at(8443, SERVICES) == []


def test_what_lists_a_host_is_the_first_entry_that_fits_as_it_is_written() -> None:
    services = ["Push.Example", "push.example:8443", "*.push.example", "*"]
    assert entry_of("push.example", 443, services) == "Push.Example"
    assert entry_of("push.example", 8443, services) == "push.example:8443"
    for made_up in ("a.push.example", "b.push.example"):
        assert entry_of(made_up, 443, services) == "*.push.example"
        assert entry_of(made_up, 8443, services) is None
    assert entry_of("other.example", 443, services) == "*"
    assert entry_of("push.example", 443, []) is None


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("https://push.example/x", 443),
        ("https://push.example:443/", 443),
        ("https://a:8443/", 8443),
    ],
)
def test_a_subscription_knows_its_port(url: str, port: int) -> None:
    assert subscription_of(with_url(url)).port == port


def test_a_host_that_only_a_pattern_covers_is_not_named() -> None:
    assert is_named("fcm.googleapis.com", SERVICES)
    assert not is_named("made-up.push.apple.com", SERVICES)
    assert not is_named("push.example", ["*"])


def test_a_fault_quotes_nothing() -> None:
    with pytest.raises(NotASubscription) as raised:
        subscription_of(with_url("https://ann:hunter2@push.example/"))
    assert "hunter2" not in repr(raised.value)
