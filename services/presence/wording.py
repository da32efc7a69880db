"""The words of a delivery: what is told, the usual words for it, and the bounds of all words. Pure.

Knows what a delivery stands for, as plain values, and how long words may be. Must not know
templates (`templates`), the contract with plugins (`answers`), nor who speaks which language: the
usual words are English, and a template says them in others. To drive it: `usual_words(told)`;
whatever others made goes through `bounded`. What users wrote is taken for hostile: titles are one
line, and control characters are left out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

# Characters of each part; of what is longer the rest is cut, with "…".
TITLE_MAX = 200
BODY_MAX = 4_000
# Of the newest message's text in the usual body.
TEXT_MAX = 1_000
# Half an address, and half a page, are worse than none: what is longer is left out. Mail programs
# fold HTML away from about this size on.
URL_MAX = 2_048
HTML_MAX = 100_000

# Users without a name of their own, drawn by the edge: nothing to show to people.
_ANONYMOUS = "anon:"
# Control characters (Unicode's Cc, Cs, Zl, Zp) but line ends and tabs, and those that reorder what
# follows them, which could make a text look like another's.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]"
)


@dataclass(frozen=True, slots=True)
class Told:
    """A message that is told."""

    seq: int
    publisher: str
    # Seconds since 1970.
    accepted_at: float
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""
    # None: its content is bytes.
    text: str | None = ""


@dataclass(frozen=True, slots=True)
class Telling:
    """What one delivery tells, to whom."""

    user: str
    subject: str
    # How many messages it stands for; those that are listed are the newest, oldest first.
    count: int
    messages: Sequence[Told] = ()
    category: str = ""
    # As in the routing file: `normal`.
    priority: str = ""
    # A BCP 47 tag; empty: not known.
    locale: str = ""
    mute_url: str = ""
    # Seconds since 1970.
    expires_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Words:
    """What plugins are given to show."""

    title: str
    body: str = ""
    # Empty: none, as with the following.
    html: str = ""
    url: str = ""


def usual_words(telling: Telling) -> Words:
    """The words of a delivery without a template."""
    messages = telling.messages
    if not messages:
        many = "New message" if telling.count == 1 else "New messages"
        return bounded(Words(f"{many} in {telling.subject}"))
    newest = messages[-1]
    named = "" if newest.publisher.startswith(_ANONYMOUS) else newest.publisher
    title = one_line(newest.headers.get("title", "")) or one_line(named) or telling.subject
    body = _text(newest)
    if telling.count > 1:
        body = f"{telling.count} new messages\n{body}".rstrip()
    return bounded(Words(title, body, url=newest.headers.get("url", "")))


def bounded(words: Words) -> Words:
    """The words within their bounds, and harmless: a title of one line, an address that a browser
    opens."""
    fits = len(words.html) <= HTML_MAX
    return replace(
        words,
        title=_cut(one_line(words.title), TITLE_MAX),
        body=_cut(_clean(words.body).strip(), BODY_MAX),
        html=_clean(words.html).strip() if fits else "",
        url=web_address(words.url),
    )


def web_address(text: str) -> str:
    """`text` if it is an absolute http or https URL of printable ASCII, else nothing."""
    url = text.strip()
    if len(url) > URL_MAX or not (url.isascii() and url.isprintable()) or " " in url:
        return ""
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname)
    except ValueError:
        return ""
    return url if named and parts.scheme in ("http", "https") else ""


def one_line(text: str) -> str:
    """`text` in one line, each stretch of white space and control characters as one blank."""
    return " ".join(_CONTROL.sub(" ", text).split())


def _text(message: Told) -> str:
    if message.text is not None:
        return _cut(message.text.strip(), TEXT_MAX)
    if message.content_type.startswith("image/"):
        return "An image"
    return "A message that is not text"


def _clean(text: str) -> str:
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def _cut(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else text[: characters_max - 1].rstrip() + "…"
