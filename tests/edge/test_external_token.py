"""Which URIs are external tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.edge.external_token import external_token_fault, scheme_of

GOOD = [
    "fcm:abc-DEF_123:xyz",
    "apns:00ff",
    "webpush:eyJlbmRwb2ludCI6Imh0dHBzOi8vIn0",
    "mailto:ann@example.org",
    "mailto:ann.o'neil+chat@mail.example.org",
    "mailto:ann@localhost",
    "tel:+15551234567",
    "tel:+4930123456",
    "https://hooks.example.org/in?key=1",
    "https://[2001:db8::1]:8443/",
    "apprise:ops-2",
    "fcm:" + "x" * 4092,
    "slack:U024BE7LH",
    "mqtt+tls:devices/7",
]
BAD = [
    "",
    "fcm",
    "fcm:",
    "apns:",
    "webpush:",
    "mailto:",
    "tel:",
    "https:",
    "https://",
    "FCM:abc",
    "smtp:ann@example.org",
    "sms:+15551234567",
    "webhook:https://example.org/",
    "Slack:U024BE7LH",
    "slack:",
    "a channel:x",
    "x" * 33 + ":y",
    "http://example.org/",
    "/chat/1",
    "fcm:" + "x" * 4093,
    "fcm:a b",
    "fcm:a\nb",
    "fcm:a\x00b",
    "fcm:é",
    "mailto:ann",
    "mailto:@example.org",
    "mailto:ann@",
    "mailto:ann@exa mple.org",
    "mailto:ann@example.org\r\nBcc: eve@example.org",
    "mailto:ann@example.org?bcc=eve@example.org",
    "mailto:ann@example.org,eve@example.org",
    "mailto:ann%0aBcc@example.org",
    "mailto:<ann@example.org>",
    'mailto:"ann"@example.org',
    "mailto:ann@-example.org",
    "mailto:ann@example..org",
    "mailto:.ann@example.org",
    "mailto:ann.@example.org",
    "mailto:a@b@example.org",
    "mailto:" + "x" * 65 + "@example.org",
    "mailto:ann@" + ".".join(["x" * 60] * 5),
    "tel:15551234567",
    "tel:+05551234567",
    "tel:+123",
    "tel:+1234567890123456",
    "tel:+1555-123-4567",
    "apprise:",
    "apprise:Ops",
    "apprise:ops/x",
    "apprise:file:///etc/passwd",
    "apprise:json://127.0.0.1/",
    "apprise:" + "x" * 65,
    "https:example.org",
    "https:///path",
    "https://user:pw@example.org/",
    "https://example.org:99999/",
    "https://example.org:0/",
    "https://[::1/",
]


@pytest.mark.parametrize("uri", GOOD)
def test_a_known_form_and_any_other_scheme_is_one(uri: str) -> None:
    assert external_token_fault(uri) is None
    assert uri.startswith(scheme_of(uri) + ":")


@pytest.mark.parametrize("uri", BAD)
def test_anything_else_is_refused_without_quoting_it(uri: str) -> None:
    fault = external_token_fault(uri)
    assert fault
    assert len(uri) < 12 or uri not in fault


@pytest.mark.parametrize(
    ("uri", "right"), [("sms:+15551234567", "tel:"), ("http://example.org/", "https:")]
)
def test_another_name_of_a_channel_is_refused_with_the_right_one(uri: str, right: str) -> None:
    assert right in (external_token_fault(uri) or "")


@given(
    st.sampled_from(["fcm", "apns", "webpush", "mailto", "tel", "https", "apprise", "slack"]),
    st.text(max_size=40),
)
def test_what_passes_has_no_character_that_could_end_a_line_or_a_word(scheme: str, s: str) -> None:
    uri = f"{scheme}:{s}"
    if external_token_fault(uri) is None:
        assert all(0x21 <= ord(c) <= 0x7E for c in uri)
