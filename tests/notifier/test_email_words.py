"""E-mail that shows a delivery's own title, text and HTML, and how to hear no more."""

from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given

from services.notifier.email_rendering import (
    BODY_CHARACTERS_MAX,
    HTML_CHARACTERS_MAX,
    Sender,
    body,
    render,
    unsubscribing,
)
from tests.notifier.deliveries import Delivery, delivery, message
from tests.notifier.mail_server import Mailbox, running
from tests.notifier.test_email import email
from tests.notifier.test_email_rendering import HEADERS, NOW, SENDER, anything

MUTE = "https://chat.example.org/v1/mute?token=" + "a1B2-_" * 30
ALTERNATIVES = HEADERS - {"content-transfer-encoding"}


def worded(*messages: Any, count: int = 0, **fields: Any) -> Delivery:
    """As a template has made it."""
    made = delivery(*messages, count=count)
    made.MergeFrom(Delivery(templated=True, **fields))
    return made


def sent(made: Delivery, sender: Sender = SENDER) -> EmailMessage:
    raw = render(made, "ann@example.org", sender, NOW).as_bytes()
    return message_from_bytes(raw, policy=policy.SMTP)


def part(mail: EmailMessage, kind: str) -> str:
    found = mail.get_body((kind,))
    assert found
    return str(found.get_content())


def test_title_text_and_html_are_shown_as_they_are_given() -> None:
    html = "<p>Grüße &lt;b&gt; 👩‍👩‍👧</p>"
    mail = sent(worded(message("hi"), title="Neues von Bob", body="Grüße", html=html))
    assert mail["Subject"] == "Neues von Bob"
    assert mail.get_content_type() == "multipart/alternative"
    kinds = [one.get_content_type() for one in mail.iter_parts()]
    assert kinds == ["text/plain", "text/html"], "the last is the one to prefer"
    assert part(mail, "plain").splitlines() == ["Grüße"]
    assert part(mail, "html").strip() == html


def test_without_html_it_is_plain_text() -> None:
    for html in ("", " \r\n\0 "):
        mail = sent(worded(message("hi"), title="t", body="hi", html=html))
        assert mail.get_content_type() == "text/plain"


def test_nothing_of_the_messages_stands_below_what_is_given() -> None:
    messages = [message("one"), message("two")]
    assert body(worded(*messages, title="t", body="Bob wrote:")) == "Bob wrote:\n"
    for unsaid in ({}, {"html": "<p>Bob wrote.</p>"}):
        assert body(worded(*messages, title="Two new", **unsaid)) == "Two new\n"


def test_the_url_is_below_the_text() -> None:
    url = "https://chat.example.org/1"
    assert body(worded(message("hi"), title="t", body="hi", url=url)) == f"hi\n\n{url}\n"
    assert body(worded(message("hi"), title="t", body=f"see {url}", url=url)) == f"see {url}\n"
    assert body(worded(message("hi"), body="hi", url="javascript:alert(1)")) == "hi\n"


def test_a_mail_program_may_mute_with_one_click() -> None:
    mail = sent(worded(message("hi"), mute_url=MUTE))
    assert mail["List-Unsubscribe"] == f"<{MUTE}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert "List-Unsubscribe-Post" not in sent(worded(message("hi")))


def test_a_long_url_to_mute_is_not_encoded_or_folded() -> None:
    made = worded(message("hi"), mute_url=MUTE)
    raw = render(made, "ann@example.org", SENDER, NOW).as_bytes()
    assert f"\r\nList-Unsubscribe: <{MUTE}>\r\n".encode() in raw
    assert f"\nList-Unsubscribe: <{MUTE}>" in render(made, "a@b.c", SENDER, NOW).as_string()


def test_the_operators_own_way_to_unsubscribe_comes_second() -> None:
    sender = Sender("onward@example.org", unsubscribe="mailto:stop@example.org")
    mail = sent(worded(message("hi"), mute_url=MUTE), sender)
    assert mail["List-Unsubscribe"] == f"<{MUTE}>, <mailto:stop@example.org>"
    alone = sent(worded(message("hi")), sender)
    assert alone["List-Unsubscribe"] == "<mailto:stop@example.org>"
    assert "List-Unsubscribe-Post" not in alone, "one click is for https only"


def test_there_is_one_url_to_post_to_and_it_is_the_one_that_mutes() -> None:
    sender = Sender("onward@example.org", unsubscribe="https://example.org/stop")
    mail = sent(worded(message("hi"), mute_url=MUTE), sender)
    assert mail["List-Unsubscribe"] == f"<{MUTE}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    alone = sent(worded(message("hi")), sender)
    assert alone["List-Unsubscribe"] == "<https://example.org/stop>"
    assert "List-Unsubscribe-Post" not in alone, "nobody says that it may be posted to"


def test_ways_to_unsubscribe_fit_a_line() -> None:
    longest = "https://e.org/" + "x" * 890
    assert unsubscribing(longest, "mailto:a@e.org") == f"<{longest}>, <mailto:a@e.org>"
    for mailto in ("mailto:" + "a" * 100, "mailto:" + "a" * 500):
        assert unsubscribing(longest, mailto) == f"<{longest}>"
    assert unsubscribing("", "") == ""
    assert unsubscribing("mailto:b@e.org", "mailto:a@e.org") == "<mailto:b@e.org>"


@pytest.mark.parametrize(
    "url",
    ["javascript:x", "http://e.org/", "https://e.org/>\r\nBcc: x@y", "https://e.org/ x",
     "https://e.org/é", "https://e.org/" + "x" * 1_000],
)  # fmt: skip
def test_what_is_no_url_to_mute_is_left_out(url: str) -> None:
    mail = sent(worded(message("hi"), mute_url=url))
    assert {name.lower() for name in mail.keys()} == HEADERS  # noqa: SIM118  # repeats count


def test_html_and_text_have_their_limits() -> None:
    long = worded(message("hi"), body="x" * 90_000, html="<p>" * HTML_CHARACTERS_MAX)
    assert sent(long).get_content_type() == "text/plain"
    assert len(body(long)) == BODY_CHARACTERS_MAX + 1


def test_a_title_injects_no_header() -> None:
    for title in ("x\r\nBcc: eve@example.org", "=?utf-8?q?x=0D=0ABcc:=20eve@example.org?="):
        mail = sent(worded(message("hi"), title=title))
        assert "Bcc" not in mail
        assert len(mail.keys()) == len(HEADERS)


@given(anything, anything, anything, anything)
def test_nothing_given_adds_a_header_or_breaks_a_line(
    title: str, text: str, html: str, url: str
) -> None:
    made = worded(message("hi"), title=title, body=text, html=f"<p>{html}", mute_url=url, url=url)
    raw = render(made, "ann@example.org", SENDER, NOW).as_bytes()
    head = raw.partition(b"\r\n\r\n")[0]
    names = [row.partition(b":")[0].lower() for row in head.split(b"\r\n") if row[:1] not in b" \t"]
    assert sorted(names) == sorted(name.encode() for name in ALTERNATIVES)
    assert raw.isascii()
    assert all(len(row) <= 998 for row in raw.split(b"\r\n"))
    assert b"\n" not in raw.replace(b"\r\n", b"")


def test_both_forms_arrive_at_a_real_server(run: Any) -> None:
    async def claim() -> None:
        async with running(Mailbox()) as mailbox:
            plugin = email(mailbox.port)
            made = worded(message("hi"), title="t", body="text", html="<p>html</p>", mute_url=MUTE)
            await plugin.send(made)
            await plugin.close()
            (mail,) = mailbox.received
            assert part(mail, "plain").strip() == "text"
            assert part(mail, "html").strip() == "<p>html</p>"
            assert mail["List-Unsubscribe"] == f"<{MUTE}>"

    run(claim())


def test_the_usual_words_do_not_take_the_place_of_the_list():
    usual = delivery(message("one"), message("two"))
    plain = body(usual)
    usual.MergeFrom(Delivery(title="bob", body="2 new messages\ntwo"))
    assert body(usual) == plain
    assert sent(usual)["Subject"] == "2 new messages in /chat/1"


def test_a_test_says_what_the_operator_wrote():
    tried = Delivery(title="Test", body="of the channel", count=1, test=True)
    assert body(tried) == "of the channel\n"
