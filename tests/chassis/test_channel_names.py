"""What a channel may be called."""

import pytest

from services.chassis.channel_names import SCHEME, channel_fault


@pytest.mark.parametrize(
    "name", ["fcm", "mailto", "tel", "https", "slack", "mqtt+tls", "x-a.b", "a", "z" * 32]
)
def test_any_scheme_may_be_one(name):
    assert channel_fault(name) is None


@pytest.mark.parametrize(
    "name", ["", "*", "1a", "+a", "a b", "a:", "a/b", "ä", "Fcm", "a\n", "z" * 33]
)
def test_what_is_no_scheme_is_refused(name):
    assert "letters, digits" in (channel_fault(name) or "")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("email", "mailto"), ("sms", "tel"), ("web-push", "webpush"), ("apn", "apns"),
     ("firebase", "fcm"), ("webhook", "https"), ("http", "https")],
)  # fmt: skip
def test_another_name_of_a_channel_is_refused_with_the_right_one(name, meant):
    assert SCHEME.fullmatch(name)
    assert f"write `{meant}`" in (channel_fault(name) or "")
