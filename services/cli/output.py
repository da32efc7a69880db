"""How results are shown: for people in columns, for programs as one JSON object a line.

Knows messages and how they look; must not know where they come from. What others wrote is shown
without control characters, since those would reach the terminal. Every line is flushed at once.
"""

import base64
import sys
from typing import Any

import orjson
from onward_sdk import Message
from rich.console import Console
from rich.text import Text

_KIND_STYLES = {
    "LIVE": "green",
    "RECOVERED": "yellow",
    "HISTORY": "dim",
    "SNAPSHOT": "cyan",
    "TRANSIENT": "magenta",
}


def print_json(fields: dict[str, Any]) -> None:
    """One line of JSON on stdout."""
    sys.stdout.write(orjson.dumps(fields).decode() + "\n")
    sys.stdout.flush()


def message_fields(message: Message) -> dict[str, Any]:
    """A message as JSON shows it; `text` or, in base64, `data`."""
    fields: dict[str, Any] = {
        "event": "message",
        "subject": message.subject,
        "seq": message.seq,
        "kind": message.kind,
        "publisher": message.publisher,
    }
    if message.data is not None:
        fields["data"] = base64.b64encode(message.data).decode()
    else:
        fields["text"] = message.text or ""
    return fields | {
        "contentType": message.content_type,
        "headers": dict(message.headers),
        "acceptedAt": message.accepted_at,
        "epoch": message.epoch,
    }


class People:
    """Lines for people: results on stdout, remarks on stderr."""

    def __init__(self) -> None:
        self._out = Console(highlight=False, soft_wrap=True)
        self._remarks = Console(stderr=True, highlight=False, soft_wrap=True)

    def message(self, message: Message, show_subject: bool) -> None:
        """seq, kind, publisher and text in columns."""
        line = Text(f"{message.seq or '–':>6}  ")
        line.append(f"{message.kind:<9}", style=_KIND_STYLES.get(message.kind, ""))
        line.append(f"  {printable(message.publisher):<12}  ", style="bold")
        if show_subject:
            line.append(f"{printable(message.subject)}  ", style="dim")
        line.append(_content(message))
        self._out.print(line)
        sys.stdout.flush()

    def remark(self, sentence: str) -> None:
        """Something beside the result, such as how the connection stands."""
        self._remarks.print(Text(sentence, style="dim"))


def printable(text: str) -> str:
    """The text with control characters shown as U+FFFD; tabs and line ends become spaces."""
    plain = " ".join(text.splitlines()).replace("\t", " ")
    return "".join(one if one.isprintable() else "\ufffd" for one in plain)


def _content(message: Message) -> str:
    if message.data is not None:
        return f"[{len(message.data)} bytes {printable(message.content_type)}]"
    return printable(message.text or "")
