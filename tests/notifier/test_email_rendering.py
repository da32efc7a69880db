from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.email_rendering import (
    HEADER_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
    Delivery,
    Sender,
    body,
    header_text,
    render,
    title,
)
from tests.notifier.deliveries import ID, delivery, message

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
SENDER = Sender("onward@example.org", "Onward", "support@example.org")
HEADERS = {
    "from", "to", "reply-to", "subject", "date", "message-id", "auto-submitted",
    "x-auto-response-suppress", "mime-version", "content-type", "content-transfer-encoding",
}  # fmt: skip
# What protobuf can carry: any characters but surrogates. And what a header's parser reads as more
# than it shows (RFC 2047), which random characters would hardly ever form.
encoded_words = st.lists(
    st.sampled_from(
        ["=?", "?=", "utf-8", "?q?", "?b?", "=0D=0A", "Bcc:", "DQpCY2M6IHhAeQ==", "é", " "]
    )
).map("".join)
anything = st.text(st.characters(exclude_categories=["Cs"])) | encoded_words


def sent(made: Delivery) -> EmailMessage:
    """As the receiver parses it, from the bytes on the wire."""
    raw = render(made, "ann@example.org", SENDER, NOW).as_bytes()
    return message_from_bytes(raw, policy=policy.SMTP)


def test_three_messages_collapse_and_are_listed() -> None:
    mail = sent(delivery(message("two"), message("three"), message("four")))
    assert mail["Subject"] == "3 new messages in /chat/1"
    assert mail.get_content().splitlines() == [
        "3 new messages in /chat/1",
        "",
        "bob, 2026-11-22 13:30 UTC",
        "two",
        "",
        "bob, 2026-11-22 13:30 UTC",
        "three",
        "",
        "bob, 2026-11-22 13:30 UTC",
        "four",
    ]


def test_more_messages_than_are_listed_are_counted() -> None:
    assert "(5 earlier not shown)" in body(delivery(message("last"), count=6))


def test_a_notification_whose_messages_are_no_longer_kept_says_how_many() -> None:
    made = delivery(count=4)
    assert title(made) == "4 new messages in /chat/1"
    assert body(made) == "4 new messages in /chat/1\n"


def test_a_single_message_gives_its_own_title() -> None:
    assert title(delivery(message("hi", headers={"title": "Lunch?"}))) == "Lunch?"
    assert title(delivery(message("hi"))) == "New message in /chat/1"
    assert title(delivery(message("hi", headers={"title": "\r\n"}))) == "New message in /chat/1"


def test_the_headers_say_who_and_that_no_machine_should_answer() -> None:
    mail = sent(delivery(message()))
    assert mail["From"] == "Onward <onward@example.org>"
    assert mail["To"] == "ann@example.org"
    assert mail["Reply-To"] == "support@example.org"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"].datetime == NOW
    stop = Sender("onward@example.org", unsubscribe="https://example.org/stop?who=ann")
    told = render(delivery(), "a@b.c", stop, NOW)["List-Unsubscribe"]
    assert told == "<https://example.org/stop?who=ann>"
    assert "Reply-To" not in render(delivery(), "a@b.c", Sender("onward@example.org"), NOW)


def test_every_try_has_the_same_message_id() -> None:
    made = delivery(message())
    assert sent(made)["Message-ID"] == f"<{ID}@example.org>"
    made.attempt = 2
    assert sent(made)["Message-ID"] == f"<{ID}@example.org>"


def test_an_odd_delivery_id_still_gives_a_stable_message_id() -> None:
    made = delivery(message(), delivery_id="a>\r\nBcc: eve@example.org")
    assert sent(made)["Message-ID"] == sent(made)["Message-ID"]
    assert "Bcc" not in sent(made)


def test_text_in_any_language_arrives_whole() -> None:
    mail = sent(delivery(message("Grüße 👩‍👩‍👧 你好", headers={"title": "Grüße 👩‍👩‍👧 你好"})))
    assert mail["Subject"] == "Grüße 👩‍👩‍👧 你好"
    assert "Grüße 👩‍👩‍👧 你好" in mail.get_content()
    assert render(delivery(message("Grüße")), "a@b.c", SENDER, NOW).as_bytes().isascii()


def test_data_is_described_and_not_dumped() -> None:
    described = body(delivery(message(data=b"\xff\xfe" * 700, content_type="image/png")))
    assert "[image/png, 1,400 bytes]" in described
    assert "[application/octet-stream, 2 bytes]" in body(delivery(message(data=b"hi")))


def test_data_that_is_text_is_shown_and_text_that_is_not_utf8_described() -> None:
    assert "grüße" in body(delivery(message(data="grüße".encode(), content_type="text/plain")))
    latin = delivery(message(data="grüße".encode("latin-1"), content_type="text/plain"))
    assert "[text/plain, 5 bytes]" in body(latin)


def test_long_texts_and_titles_are_cut() -> None:
    made = delivery(message("x" * 70_000, headers={"title": "y" * 4_000}))
    assert body(made).count("x") == TEXT_CHARACTERS_MAX - 1
    assert len(title(made)) == HEADER_CHARACTERS_MAX


def test_a_header_cannot_be_injected() -> None:
    evil = "x\r\nBcc: eve@example.org\r\n\r\n<script>\x0b\x0c\x1c\x85\u2028\u2029\u202egnp"
    mail = sent(delivery(message(evil, headers={"title": evil}, publisher=evil), subject=evil))
    assert {name.lower() for name in mail.keys()} == HEADERS  # noqa: SIM118  # repeats count
    assert len(mail.keys()) == len(HEADERS)
    assert mail["Subject"] == "x Bcc: eve@example.org <script> gnp"


@pytest.mark.parametrize(
    "word",
    ["=?utf-8?q?x=0D=0ABcc:=20eve@example.org?=", "=?utf-8?b?eA0KQmNjOiBlQGV4YW1wbGUub3Jn?="],
)
def test_a_header_cannot_be_injected_in_an_encoded_word(word: str) -> None:
    for headers, subject in (({"title": word}, "/chat/1"), ({}, f"/chat/{word}")):
        mail = sent(delivery(message("hi", headers=headers), subject=subject))
        assert len(mail.keys()) == len(HEADERS)
        assert "Bcc" not in mail
        assert word.replace("=?", "= ?") in mail["Subject"]


@given(anything, anything, anything, anything, st.integers(1, 3))
def test_no_input_adds_a_header_or_breaks_a_line(
    text: str, given_title: str, publisher: str, subject: str, count: int
) -> None:
    made = delivery(
        message(text, headers={"title": given_title}, publisher=publisher),
        subject=subject,
        count=count,
        delivery_id=text,
    )
    raw = render(made, "ann@example.org", SENDER, NOW).as_bytes()
    head, _, rest = raw.partition(b"\r\n\r\n")
    names = [row.partition(b":")[0].lower() for row in head.split(b"\r\n") if row[:1] not in b" \t"]
    assert sorted(names) == sorted(name.encode() for name in HEADERS)
    assert raw.isascii()
    assert all(len(row) <= 998 for row in raw.split(b"\r\n"))
    assert not set(head.replace(b"\r\n", b"")) & set(range(32))
    assert b"\n" not in rest.replace(b"\r\n", b"")


@given(anything)
def test_header_text_is_one_bounded_line(text: str) -> None:
    clean = header_text(text)
    assert len(clean.splitlines()) <= 1
    assert len(clean) <= HEADER_CHARACTERS_MAX
    assert header_text(clean) == clean
