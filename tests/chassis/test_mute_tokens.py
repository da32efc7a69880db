"""Links that mute: what they say can be read with the key alone, and by nobody else made."""

from urllib.parse import parse_qs, urlsplit

import pytest

from services.chassis.mute_tokens import MuteLink, mute_url, read

KEY = "a key of sixteen or more"
LINK = MuteLink("ann@example.org", "/chat/München #1")


def token(link: MuteLink = LINK, expires_at: float = 100.0, key: str = KEY) -> str:
    return parse_qs(urlsplit(mute_url("https://x", key, link, expires_at)).query)["t"][0]


def test_a_link_stands_below_the_public_address() -> None:
    url = mute_url("https://chat.example.org/onward/", KEY, LINK, 100.0)
    assert url.startswith("https://chat.example.org/onward/v1/mute?t=")
    assert url.isascii() and " " not in url


def test_a_token_says_who_and_what_until_it_expires() -> None:
    assert read(KEY, token(), 99.0) == LINK
    assert read(KEY, token(), 100.0) is None


def test_the_longest_names_that_there_are_fit() -> None:
    longest = MuteLink("u" * 128, "/" + "s" * 254)
    assert read(KEY, token(longest), 1.0) == longest


def test_a_token_of_another_key_is_not_good() -> None:
    assert read("another key of sixteen", token(), 1.0) is None
    assert read("", token(key="x"), 1.0) is None


@pytest.mark.parametrize(
    "bad",
    ["", ".", "a", "a.b", "ä.ä", "!.!", "=.=", "YQ.YQ", "x" * 5_000, "x" * 500 + "." + "x" * 500],
)
def test_what_is_no_token_is_not_good(bad: str) -> None:
    assert read(KEY, bad, 1.0) is None


def test_a_changed_token_is_not_good() -> None:
    good = token()
    for at in range(len(good)):
        other = "A" if good[at] != "A" else "B"
        changed = good[:at] + other + good[at + 1 :]
        found = read(KEY, changed, 1.0)
        # The last character of base64 has bits that mean nothing.
        assert found is None or (found == LINK and at in (good.index(".") - 1, len(good) - 1))
