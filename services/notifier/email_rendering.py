"""Makes an e-mail of a delivery. Pure.

It knows deliveries and RFC 5322; it must not know SMTP. The same delivery gives the same Message-ID
on every try, so that a mailbox can drop a repeat. What to show are the title, text and HTML of a
template, where there is one, and nothing besides, since it may be there to hide what the messages
hold; else it is made from the messages. Whatever a user wrote is taken for hostile: no control
character reaches a header, and none but line ends and tabs reach the body. That what is in the HTML
is escaped is up to whoever rendered it.

`render(delivery, address, sender, now)` is all there is to call.
"""

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy
from hashlib import blake2b

from onward.notifier.v1 import notifier_pb2

Delivery = notifier_pb2.Delivery
NotifiedMessage = notifier_pb2.NotifiedMessage

HEADER_CHARACTERS_MAX = 160  # of what users write into one header; the rest is cut, with "…"
TEXT_CHARACTERS_MAX = 4_000  # of one message's text; the rest is cut, with "…"

HTML_CHARACTERS_MAX = 200_000  # longer HTML is left out: half of it would show as anything
BODY_CHARACTERS_MAX = 50_000  # of a text that is given; the rest is cut, with "…"

# What can stand between the angle brackets of List-Unsubscribe, in a line of 998 characters.
_UNSUBSCRIBE_URL = re.compile(r"(?:https://|mailto:)[!-;=?-~]{1,900}")
_WAYS = ("https:", "mailto:")
# A line may have 998 characters (RFC 5322, section 2.1.1), and this one is not folded.
_VALUE_CHARACTERS_MAX = 998 - len("List-Unsubscribe: ")
# Characters that reorder what follows them: they could make a text look like another's.
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})


class _Policy(EmailPolicy):
    """Leaves List-Unsubscribe as it is. Folding makes encoded words (RFC 2047) of a long URL,
    and no mail program finds a URL in those."""

    def fold(self, name: str, value: str) -> str:
        if name == "List-Unsubscribe":
            return f"{name}: {value}{self.linesep}"
        return str(super().fold(name, value))

    def fold_binary(self, name: str, value: str) -> bytes:
        if name == "List-Unsubscribe":
            return self.fold(name, value).encode("ascii")
        return bytes(super().fold_binary(name, value))


# 7bit: bodies are encoded where needed, and no server has to offer 8BITMIME.
_POLICY = _Policy(linesep="\r\n", cte_type="7bit")


@dataclass(frozen=True, slots=True)
class Sender:
    """Who mail is from, as set up."""

    address: str
    name: str = ""
    reply_to: str = ""  # an address; empty: no Reply-To
    unsubscribe: str = ""  # an https: or mailto: URL, for List-Unsubscribe (RFC 2369); or empty


def render(delivery: Delivery, address: str, sender: Sender, now: datetime) -> EmailMessage:
    """The e-mail for `delivery` to the plain `address`. `now` is its Date."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = Address(sender.name, addr_spec=sender.address)
    message["To"] = Address(addr_spec=address)
    if sender.reply_to:
        message["Reply-To"] = Address(addr_spec=sender.reply_to)
    mute_url = delivery.mute_url if _UNSUBSCRIBE_URL.fullmatch(delivery.mute_url) else ""
    ways = unsubscribing(mute_url, sender.unsubscribe)
    if ways:
        message["List-Unsubscribe"] = ways
    if mute_url.startswith("https:"):
        # RFC 8058: a mail program may post there by itself, without asking further.
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message["Subject"] = _literal(title(delivery))
    message["Date"] = now
    message["Message-ID"] = f"<{_message_id(delivery)}@{sender.address.rpartition('@')[2]}>"
    # RFC 3834: no vacation notes in answer. The second is what Exchange understands.
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(body(delivery))
    html = _clean(delivery.html)
    if html.strip() and len(html) <= HTML_CHARACTERS_MAX:
        message.add_alternative(html, subtype="html")
    return message


def unsubscribing(mute_url: str, operators: str) -> str:
    """The value of List-Unsubscribe: one URL of https, and one of mailto where there is one.

    A mail program takes the one URL of https for where it may post (RFC 8058, section 3.1): with
    two it would have to choose, and the operator's need not know what a post means.
    """
    given = [url for url in (mute_url, operators) if url]
    ways = [next((url for url in given if url.startswith(kind)), "") for kind in _WAYS]
    shown = [f"<{url}>" for url in ways if url]
    value = ", ".join(shown)
    return value if len(value) <= _VALUE_CHARACTERS_MAX else shown[0]


def _literal(text: str) -> str:
    """`text` without encoded words (RFC 2047), for a header.

    `EmailMessage` decodes those it finds in a value, and what comes out is not looked at again:
    `=?utf-8?q?=0D=0A…?=`, all of it printable, would begin a header of its own.
    """
    return text.replace("=?", "= ?")


def title(delivery: Delivery) -> str:
    """The subject line: the title given; else how many and where, or for one message its own
    `title`, if it has one."""
    ready = header_text(delivery.title) if _is_worded(delivery) else ""
    if ready:
        return ready
    subject = header_text(delivery.subject)
    if delivery.count > 1:
        return f"{delivery.count} new messages in {subject}"
    own = delivery.messages[-1].headers.get("title", "") if delivery.messages else ""
    given = "" if _is_worded(delivery) else header_text(own)
    return given or f"New message in {subject}"


def body(delivery: Delivery) -> str:
    """The text: the one given, or the title where only that is. Without a template, the listed
    messages."""
    if _is_worded(delivery):
        given = _cut(_clean(delivery.body), BODY_CHARACTERS_MAX).strip()
        shown = given or title(delivery)
    else:
        shown = _digest(delivery)
    parts = [shown]
    # What is no URL to open is no URL to show either.
    if delivery.url.startswith(("https://", "http://")) and delivery.url not in shown:
        parts.append(header_text(delivery.url))
    return "\n\n".join(parts) + "\n"


def _is_worded(delivery: Delivery) -> bool:
    """Whether its words were chosen for it; the usual ones are shorter than a mail may be."""
    return delivery.templated or delivery.test


def _digest(delivery: Delivery) -> str:
    """The listed messages, oldest first, and how many more there are."""
    many = "1 new message" if delivery.count == 1 else f"{delivery.count} new messages"
    parts = [f"{many} in {header_text(delivery.subject)}"]
    earlier = delivery.count - len(delivery.messages)
    if delivery.messages and earlier > 0:
        parts.append(f"({earlier} earlier not shown)")
    parts += [_entry(message) for message in delivery.messages]
    return "\n\n".join(parts)


def header_text(text: str) -> str:
    """`text` as one header may carry it: one line, no control characters, bounded length."""
    clean = "".join(" " if _is_control(c) else c for c in text)
    return _cut(" ".join(clean.split()), HEADER_CHARACTERS_MAX)


def body_text(text: str) -> str:
    """`text` for the body: line ends made `\\n`, other control characters but tabs left out."""
    return _cut(_clean(text), TEXT_CHARACTERS_MAX)


def _clean(text: str) -> str:
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in lines if c in "\n\t" or not _is_control(c))


def _entry(message: NotifiedMessage) -> str:
    publisher = header_text(message.publisher)
    accepted_at = message.accepted_at.ToDatetime(tzinfo=UTC)
    heading = f"{publisher}, {accepted_at:%Y-%m-%d %H:%M} UTC"
    given = header_text(message.headers.get("title", ""))
    return "\n".join(line for line in (heading, given, _content(message)) if line)


def _content(message: NotifiedMessage) -> str:
    """The text, also of data that says it is text; other data is described."""
    if message.WhichOneof("content") != "data":
        return body_text(message.text)
    media_type = header_text(message.content_type) or "application/octet-stream"
    if media_type.startswith("text/"):
        try:
            return body_text(message.data.decode())
        except UnicodeDecodeError:
            pass
    return f"[{media_type}, {len(message.data):,} bytes]"


def _message_id(delivery: Delivery) -> str:
    delivery_id = delivery.delivery_id
    if delivery_id.isascii() and delivery_id.isalnum():
        return delivery_id
    return blake2b(delivery_id.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in _CONTROL or character in _BIDI


def _cut(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"
