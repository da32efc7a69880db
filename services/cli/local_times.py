"""Times of answers as people here read them: on this machine's clock, with its zone.

Pure but for the zone. Takes timestamps as JSON has them (RFC 3339), or sentences that tell times
in UTC as services write them.
"""

import re
from datetime import UTC, datetime

_IN_SENTENCES = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")


def moment(timestamp: str) -> str:
    """`2026-11-22T12:00:00.5Z` as `2026-11-22 13:00:00 CET`."""
    return _read(timestamp).strftime("%Y-%m-%d %H:%M:%S %Z")


def clock(timestamp: str, beside: str = "") -> str:
    """As `13:00:00`; with its date, if that is not the date of `beside`."""
    at = _read(timestamp)
    same = bool(beside) and at.date() == _read(beside).date()
    return at.strftime("%H:%M:%S" if same else "%Y-%m-%d %H:%M:%S")


def localised(sentence: str) -> str:
    """The sentence with its times in UTC told in the zone of here."""

    def here(found: re.Match[str]) -> str:
        at = datetime.strptime(found[0], "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
        return at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")

    return _IN_SENTENCES.sub(here, sentence)


def _read(timestamp: str) -> datetime:
    return datetime.fromisoformat(timestamp).astimezone()
