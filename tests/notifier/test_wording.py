"""What a notification says, whatever it was made from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onward.notifier.v1 import notifier_pb2

from services.notifier.wording import Words, as_json, cut, cut_json, words
from tests.notifier.deliveries import delivery, message


def test_the_words_of_the_delivery_are_taken_as_they_are() -> None:
    made = delivery(message("hi"))
    made.title, made.body, made.url = "Bob", "hello", "https://chat.example.org/1"
    assert words(made) == Words("Bob", "hello", "https://chat.example.org/1")


def test_a_title_without_a_body_stands_alone() -> None:
    made = delivery(message("hi"))
    made.title = "Bob wrote"
    assert words(made).body == ""


def test_without_a_title_the_newest_messages_own_is_shown_with_its_text() -> None:
    made = delivery(
        message("old", headers={"title": "Old"}), message("new", headers={"title": "N"})
    )
    assert words(made) == Words("N", "new", "")


def test_without_any_title_the_subject_is_shown() -> None:
    assert words(delivery(message("hi"))) == Words("/chat/1", "hi", "")


def test_without_a_text_their_number_is_shown() -> None:
    assert words(delivery(message("", data=b"\x00"))).body == "1 new message"
    assert words(delivery(count=3)).body == "3 new messages"


def test_a_delivery_with_nothing_in_it_has_a_title_all_the_same() -> None:
    assert words(notifier_pb2.Delivery()) == Words("Notification", "", "")


def test_a_title_is_one_line_and_nothing_reorders_or_controls() -> None:
    made = delivery()
    made.title, made.body = "a\r\nb\x1b[31m\u202ec", "one\r\ntwo\x07\u2066"
    assert words(made) == Words("a b [31m c", "one\ntwo", "")


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "JavaScript:x", "data:text/html,x", "/chat/1", "https:", "a b:c",
     "https://x/ y", "https://x/\n", "https://x/" + "y" * 2048, "1https://x"],
)  # fmt: skip
def test_what_is_no_absolute_url_to_open_is_left_out(url: str) -> None:
    made = delivery()
    made.url = url
    assert words(made).url == ""


def test_an_apps_own_scheme_may_be_opened() -> None:
    made = delivery()
    made.url = "chat://room/1"
    assert words(made).url == "chat://room/1"


def test_text_is_cut_between_characters_with_an_ellipsis() -> None:
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abc…"
    assert cut("äöüß", 7) == "äö…"
    assert cut("abcd", 3) == "…"
    assert cut("abcd", 2) == ""


def test_what_belongs_to_a_character_is_not_cut_off_it() -> None:
    assert cut("abe\u0301def", 6) == "ab…"
    assert cut("ab👋🏽 hello", 9) == "ab…"


@given(st.text(), st.integers(0, 60))
def test_what_is_cut_fits_and_is_a_beginning(text: str, bytes_max: int) -> None:
    made = cut(text, bytes_max)
    assert len(made.encode()) <= bytes_max
    assert made == text or text.startswith(made.removesuffix("…"))


@given(st.text(), st.integers(0, 80))
def test_what_is_cut_for_json_fits_as_json(text: str, bytes_max: int) -> None:
    made = cut_json(text, bytes_max)
    assert len(as_json(made)) - 2 <= bytes_max or made == ""
    assert made == text or text.startswith(made.removesuffix("…"))


def test_a_text_of_quotes_is_cut_to_about_half() -> None:
    assert cut_json('"' * 100, 53) == '"' * 25 + "…"
