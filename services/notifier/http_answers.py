"""What HTTP tells beside a status: whether anything was sent, and when to come back. Pure.

It knows httpx's exceptions and RFC 9110; it must not know any channel. `sent_nothing(error)` and
`is_tls(error)` look at what a request raised, `retry_after_s(headers, now)` at what was answered.
"""

import json
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

RETRY_AFTER_S_MAX = 86_400.0  # a longer wish is cut: nothing is kept for longer

# What is raised before the first byte of a request has left.
_BEFORE_SENDING = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


def sent_nothing(error: httpx.TransportError) -> bool:
    """Whether the request surely never left. Otherwise it may have been taken."""
    return isinstance(error, _BEFORE_SENDING)


def is_tls(error: BaseException) -> bool:
    """Whether TLS, or the certificate, is why there is no connection."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds of Retry-After (RFC 9110, 10.2.3), given in seconds or as a date; None if absent
    or unreadable. Names of `headers` in lower case."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), RETRY_AFTER_S_MAX)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
    return min(max(0.0, seconds.total_seconds()), RETRY_AFTER_S_MAX)


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is; empty if it is anything else, such as a page of a proxy."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
