"""The words of a notification, for channels that show a title and a text. Pure.

It knows deliveries; it must not know any channel. Presence words a notification, from a template
or from the messages; where it has not, `words` does with what is there. Whatever a user wrote is
taken for hostile: a title is one line, and nothing steers a terminal or reorders what follows it.
`cut` makes text fit a limit that is counted in bytes, `cut_json` one that counts JSON.
"""

import json
import unicodedata
from dataclasses import dataclass

from onward.notifier.v1 import notifier_pb2

Delivery = notifier_pb2.Delivery
NotifiedMessage = notifier_pb2.NotifiedMessage

TITLE_BYTES_MAX = 256  # the rest is cut; no device shows as much
BODY_BYTES_MAX = 8_192  # the rest is cut; a channel with less room cuts again
URL_BYTES_MAX = 2_048  # a longer URL is left out: half of one opens something else
TEXT_BYTES_MIN = 400  # of a body that is as long; links that leave it less room are left out
ELLIPSIS = "…"

# Control characters, halves of surrogate pairs, line and paragraph separators.
_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Characters that reorder what follows them: they could make a text look like another's.
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# What a browser would run instead of opening.
_RUN = frozenset({"javascript", "data", "vbscript", "blob"})


@dataclass(frozen=True, slots=True)
class Words:
    """What is shown, and what is opened when it is touched."""

    title: str  # one line, never empty
    body: str  # may be empty
    url: str  # absolute, or empty


def words(delivery: Delivery) -> Words:
    """The words of `delivery`: as given, or made from its messages if it has no title."""
    given = _line(delivery.title)
    if given or delivery.templated:
        # A template may be there to hide what the messages hold: nothing is taken from those.
        title = given or _line(delivery.subject) or "Notification"
        body = _text(delivery.body)
    else:
        title = _line(_own_title(delivery)) or _line(delivery.subject) or "Notification"
        body = _text(delivery.body) or _text(_newest_text(delivery)) or how_many(delivery)
    return Words(
        cut(title, TITLE_BYTES_MAX),
        cut(body, BODY_BYTES_MAX),
        openable(delivery.url),
    )


def links(delivery: Delivery) -> list[dict[str, str]]:
    """What may be opened, by name, in the order in which to try what there is room for."""
    url, mute_url = openable(delivery.url), openable(delivery.mute_url)
    both = {"url": url, "mute_url": mute_url}
    return [{name: to for name, to in some.items() if to} for some in (both, {"url": url}, {})]


def openable(url: str) -> str:
    """`url` if it is absolute and a device may open it, else nothing."""
    return url if _can_be_opened(url) else ""


def cut(text: str, bytes_max: int) -> str:
    """`text` in at most `bytes_max` bytes of UTF-8; what is cut ends with an ellipsis.

    Cut between characters, and not before a combining one, which would change the last.
    """
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= bytes_max:
        return encoded.decode()
    room = bytes_max - len(ELLIPSIS.encode())
    if room < 0:
        return ""  # There is no room for the ellipsis either.
    kept = encoded[:room].decode("utf-8", "ignore")
    following = encoded.decode()[len(kept) : len(kept) + 1]
    while kept and _continues(following):
        kept, following = kept[:-1], kept[-1]
    return kept + ELLIPSIS


def cut_json(text: str, bytes_max: int) -> str:
    """As `cut`, but what fits is its JSON string without the quotes, in UTF-8."""
    made, room = text, bytes_max
    while room > 0:
        made = cut(text, room)
        over = len(as_json(made)) - 2 - bytes_max
        if over <= 0:
            return made
        # An escape is at most six bytes for one, so this takes few rounds.
        room = min(room, len(made.encode())) - max(over // 6, 1)
    return ""


def as_json(value: object) -> bytes:
    """Compact JSON in UTF-8, as payloads with a limit are counted."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def how_many(delivery: Delivery) -> str:
    """The number of messages in words; empty if there is none."""
    if delivery.count == 0:
        return ""
    return "1 new message" if delivery.count == 1 else f"{delivery.count} new messages"


def _own_title(delivery: Delivery) -> str:
    """The newest message's own title."""
    return delivery.messages[-1].headers.get("title", "") if delivery.messages else ""


def _newest_text(delivery: Delivery) -> str:
    return next((m.text for m in reversed(delivery.messages) if m.text), "")


def _line(text: str) -> str:
    """One line of what can be shown."""
    return " ".join("".join(" " if _is_control(c) else c for c in text).split())


def _text(text: str) -> str:
    """Lines of what can be shown."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in lines if c in "\n\t" or not _is_control(c)).strip()


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in _CONTROL or character in _BIDI


def _continues(character: str) -> bool:
    """Whether it belongs to the character before it: an accent, a joiner, a skin tone."""
    return bool(character) and (
        unicodedata.category(character) in ("Mn", "Me", "Mc")
        or character in "\u200d\ufe0f"
        or "\U0001f3fb" <= character <= "\U0001f3ff"
    )


def _can_be_opened(url: str) -> bool:
    scheme, colon, rest = url.partition(":")
    return bool(
        colon
        and rest
        and scheme.isascii()
        and scheme[:1].isalpha()
        and scheme.lower() not in _RUN
        and url.isprintable()
        and " " not in url
        and len(url.encode()) <= URL_BYTES_MAX
    )
