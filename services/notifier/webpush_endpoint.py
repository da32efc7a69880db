"""Reads a Web Push endpoint: `webpush:` and the subscription in base64url. Pure.

The subscription is what a page gets from `pushManager.subscribe()`, as JSON: `endpoint`, the URL
of the push service, and `keys` with `p256dh` and `auth`. Padding may be there or not, and other
members are passed over. All of it is user input. Knows forms only: where the URL leads is looked
at when it is connected to (`public_address`).
"""

import binascii
import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec

SCHEME = "webpush:"
ENDPOINT_BYTES_MAX = 4_096  # as the edge takes them; longer is refused
URL_BYTES_MAX = 2_048  # those of push services have some hundred bytes
KEY_BYTES = 65  # an uncompressed point of P-256 (RFC 8291, section 3.1)
SECRET_BYTES = 16  # RFC 8291, section 3.2
# Where push services listen. Others of a host may speak anything, and be steered by a request.
PORTS = frozenset({443, 8443})
PORT_LISTED = 443  # where those listen that are listed without a port

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+={0,2}")
_WITH_PORT = re.compile(r"([^:]+|\[[^\]]+\]):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Subscription:
    """Where to send, and for whom to encrypt."""

    url: str
    host: str  # in lower case, without brackets
    port: int
    origin: str  # as a VAPID claim names it (RFC 8292, section 2)
    key: str  # base64url without padding, as are both
    secret: str


class NotASubscription(ValueError):
    """The endpoint is of another form. The message says how, and quotes nothing of it."""


def subscription_of(endpoint: str, allow_private: bool = False) -> Subscription:
    """The subscription of `webpush:<base64url>`. Raises NotASubscription.

    `allow_private`: a push service of the operator's own may be http:, and on any port.
    """
    if len(endpoint) > ENDPOINT_BYTES_MAX:
        raise NotASubscription(f"the endpoint has more than {ENDPOINT_BYTES_MAX} bytes")
    if not endpoint.startswith(SCHEME):
        raise NotASubscription("the endpoint is not webpush:")
    said = _object(_decoded(endpoint.removeprefix(SCHEME), "the endpoint"))
    keys = said.get("keys")
    if not isinstance(keys, dict):
        raise NotASubscription("the subscription has no keys")
    key = _key(keys.get("p256dh"), "p256dh", KEY_BYTES)
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), urlsafe_b64decode(key + "=="))
    except ValueError:
        raise NotASubscription("the subscription's p256dh is no point of the curve") from None
    secret = _key(keys.get("auth"), "auth", SECRET_BYTES)
    url = said.get("endpoint")
    if not isinstance(url, str):
        raise NotASubscription("the subscription has no endpoint")
    host, port, origin = _looked_at(url, allow_private)
    return Subscription(url, host, port, origin, key, secret)


def is_listed(host: str, services: Sequence[str]) -> bool:
    """Whether `host` is one of `services`: names, `*.example.org` for those below, or `*`."""
    for service in services:
        name = service.lower()
        if name in ("*", host) or (name.startswith("*.") and host.endswith(name[1:])):
            return True
    return False


def is_named(host: str, services: Sequence[str]) -> bool:
    """Whether `host` itself is one of `services`: nobody but who lists them can have made it up."""
    return any(service.lower() == host for service in services)


def entry_of(host: str, port: int, services: Sequence[str]) -> str | None:
    """The first of `services` that lists `host` at `port`, as it stands there; None: none does."""
    for service in services:
        if is_listed(host, listed_at(port, [service])):
            return service
    return None


def listed_at(port: int, services: Sequence[str]) -> list[str]:
    """Those of `services` that are listed at `port`, without it: at the one after `:`, or at 443.
    At another port of a host that is listed anything may answer, or nothing."""
    found = []
    for service in services:
        match = _WITH_PORT.fullmatch(service)
        name, at = (match[1], int(match[2])) if match else (service, PORT_LISTED)
        if at == port:
            found.append(name.strip("[]"))
    return found


def _looked_at(url: str, allow_private: bool) -> tuple[str, int, str]:
    """Host, port and origin of a URL that may be asked. Raises NotASubscription."""
    if not (url.isascii() and url.isprintable()) or " " in url or "\\" in url:
        raise NotASubscription("the push service's URL has characters that a URL has not")
    if len(url) > URL_BYTES_MAX:
        raise NotASubscription(f"the push service's URL has more than {URL_BYTES_MAX} bytes")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise NotASubscription("the push service's URL cannot be read") from None
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        raise NotASubscription("the push service's URL is not https:")
    if not host:
        raise NotASubscription("the push service's URL has no host")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise NotASubscription("the push service's URL has a user name")
    usual = 443 if parts.scheme == "https" else 80
    if (not allow_private and (port or usual) not in PORTS) or port == 0:
        raise NotASubscription("the push service's URL has a port that is not allowed")
    bare = f"[{host}]" if ":" in host else host
    shown = f":{port}" if port not in (None, usual) else ""
    return host, port or usual, f"{parts.scheme}://{bare}{shown}"


def _key(value: object, name: str, size: int) -> str:
    if not isinstance(value, str):
        raise NotASubscription(f"the subscription has no {name}")
    if len(_decoded(value, f"the subscription's {name}")) != size:
        raise NotASubscription(f"the subscription's {name} has not {size} bytes")
    return value.rstrip("=")


def _decoded(text: str, what: str) -> bytes:
    if _BASE64URL.fullmatch(text):
        try:
            return urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
        except (ValueError, binascii.Error):
            pass
    raise NotASubscription(f"{what} is not base64url")


def _object(text: bytes) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise NotASubscription("the subscription is no JSON object")
    return said
