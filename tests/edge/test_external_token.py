"""Which URIs are external tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.edge.external_token import SCHEMES, external_token_fault, scheme_of

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
    "javascript:alert(1)",
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
def test_a_known_form_is_one(uri: str) -> None:
    assert external_token_fault(uri) is None
    assert scheme_of(uri) in SCHEMES


@pytest.mark.parametrize("uri", BAD)
def test_anything_else_is_refused_without_quoting_it(uri: str) -> None:
    fault = external_token_fault(uri)
    assert fault
    assert len(uri) < 12 or uri not in fault


@given(st.sampled_from(sorted(SCHEMES)), st.text(max_size=40))
def test_what_passes_has_no_character_that_could_end_a_line_or_a_word(scheme: str, s: str) -> None:
    uri = f"{scheme}:{s}"
    if external_token_fault(uri) is None:
        assert all(0x21 <= ord(c) <= 0x7E for c in uri)
