"""The usual words of a delivery, and the bounds of all words."""

import pytest

from services.presence.wording import (
    BODY_MAX,
    HTML_MAX,
    TEXT_MAX,
    TITLE_MAX,
    URL_MAX,
    Telling,
    Told,
    Words,
    bounded,
    usual_words,
    web_address,
)


def told(text: str | None = "hi", publisher: str = "bob", **fields) -> Told:
    return Told(1, publisher, 0.0, text=text, **fields)


def usual(*messages: Told, count: int | None = None) -> Words:
    return usual_words(Telling("ann", "/chat/1", count or len(messages), messages))


def test_one_message_is_its_publisher_and_its_text() -> None:
    assert usual(told("are you there?")) == Words("bob", "are you there?")


def test_a_title_and_an_address_in_the_headers_are_used() -> None:
    headers = {"title": "Your order", "url": "https://shop.example/7"}
    assert usual(told("shipped", headers=headers)) == Words(
        "Your order", "shipped", url="https://shop.example/7"
    )


def test_several_messages_are_counted_and_the_newest_is_told() -> None:
    newest = told("third", "carl", headers={"title": "Lunch"})
    assert usual(told(), newest, count=3) == Words("Lunch", "3 new messages\nthird")


def test_whoever_has_no_name_is_not_named() -> None:
    assert usual(told(publisher="anon:8f2c")).title == "/chat/1"
    assert usual(told(publisher="")).title == "/chat/1"


def test_content_that_is_no_text_is_named_and_not_shown() -> None:
    assert usual(told(None)).body == "A message that is not text"
    assert usual(told(None, content_type="image/png")).body == "An image"


def test_messages_that_are_not_kept_any_more_are_told_by_their_subject() -> None:
    assert usual(count=1) == Words("New message in /chat/1")
    assert usual(count=4) == Words("New messages in /chat/1")


def test_what_is_too_long_is_cut_and_a_title_is_one_line_without_control_characters() -> None:
    headers = {"title": "a\r\nBcc:\x00 \u202eb " + "c" * 10_000}
    words = usual(told("x" * 10_000, headers=headers))
    assert words.title.startswith("a Bcc: b ccc")
    assert (len(words.title), words.title[-1]) == (TITLE_MAX, "…")
    assert (len(words.body), words.body[-1]) == (TEXT_MAX, "…")
    assert len(bounded(Words("t", "b" * 10_000)).body) == BODY_MAX
    assert bounded(Words("t", "a\r\nb\x1b[31m\tc")).body == "a\nb[31m\tc"


def test_a_page_that_is_too_long_is_left_out_since_half_a_page_is_none() -> None:
    assert len(bounded(Words("t", html="h" * HTML_MAX)).html) == HTML_MAX
    assert bounded(Words("t", html="h" * (HTML_MAX + 1))).html == ""


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "//host/path",
        "/chat/1",
        "http://",
        "https:///path",
        "http://[::1",
        "https://host/ b",
        "https://host/\nb",
        "https://host/ü",
        "https://host/" + "a" * URL_MAX,
        "",
    ],
)
def test_only_an_absolute_web_address_is_one(url: str) -> None:
    assert web_address(url) == ""


@pytest.mark.parametrize("url", ["http://h", "https://host:8443/a?b=c#d", "HTTPS://host/"])
def test_absolute_web_addresses_stay_as_they_are(url: str) -> None:
    assert web_address(f" {url} ") == url
