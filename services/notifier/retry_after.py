"""Reads the header Retry-After (RFC 9110, section 10.2.3). Pure."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_S = 86_400.0  # a provider, or who claims to be one, gets no longer wait than this


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """The seconds to wait, from seconds or a date; None if it says nothing that can be read."""
    text = (value or "").strip()
    if not text or not text.isascii():
        return None
    if text.isdigit():
        # Longer ones are not numbers of seconds that anybody meant, and int() has a limit.
        return min(float(text), LONGEST_S) if len(text) <= 18 else LONGEST_S
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return min(max((date - now).total_seconds(), 0.0), LONGEST_S)
