"""What a log must never hold, and the look for it in all logs of a test run.

Every process that the tests start logs at debug level (`tests/conftest.py` sees to it), most of
them into files below the run's folder. The marks are shapes (a JWT, an address) and the canaries
that tests put where users put secrets and content.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CANARY = "canary-5c1e"  # a word that tests write into content, headers, tokens and names

MARKS = {
    "a token": rb"eyJ[A-Za-z0-9_-]{8,}",
    "an external token": rb"\b(?:mailto|fcm|apns|webpush|sms):[^\s\"',;]|\btel:\+?\d",
    "a mail address": rb"[A-Za-z0-9._+-]+@[A-Za-z0-9-]+\.[A-Za-z]{2,}",
    "marked content": re.escape(CANARY).encode(),
    "a shared secret": rb"0123456789abcdef\b|\bs{16}\b|a key to sign tokens with",
    "a message or frame as JSON": rb"\"(?:text|publish|externalTokens|afterSeq)\":",
}
_ANY = re.compile(b"|".join(b"(" + mark + b")" for mark in MARKS.values()))
_NAMES = list(MARKS)


@dataclass(frozen=True)
class Leak:
    """Where something stands that must not."""

    path: Path
    line: int
    what: str
    event: str  # the log line's event, or how the line begins

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what} in {self.event!r}"


def leaks_in(path: Path) -> Iterator[Leak]:
    """The leaks of one file."""
    secret = path.parent.parent / "secret"  # of an `onward up`
    own = secret.read_bytes().strip() if path.parent.name == "logs" and secret.exists() else b""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            found = _ANY.search(line)
            if found:
                yield Leak(path, number, _NAMES[(found.lastindex or 1) - 1], _event(line))
            elif own and own in line:
                yield Leak(path, number, "the shared secret", _event(line))


def logs_below(folder: Path) -> list[Path]:
    """All log files below a folder."""
    return sorted(p for p in folder.rglob("*.log*") if p.is_file() and not p.is_symlink())


def _event(line: bytes) -> str:
    event = re.search(rb"\bevent=([a-z_]+)", line)
    return event[1].decode() if event else line[:40].decode("utf-8", "replace")
