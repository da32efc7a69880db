"""Links by which whoever has a notification may mute its subject, without a login. Pure.

A token says who is muted what, and until when it is good, and is signed: whoever has it may do
that, undo it, and nothing else. Presence makes them, edges check them, with one key (`link_key` of
the shared settings). Times are seconds since 1970. Must not know HTTP.

    token = base64url(expiry, user, subject, parted by line ends) "." base64url(HMAC-SHA256)
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

PATH: Final = "/v1/mute"
# The secret may sign other things elsewhere; nothing that is signed there is good here.
_PURPOSE: Final = b"onward mute link 1"
# Longer than any token of ours: a user and a subject at their longest.
_CHARACTERS_MAX: Final = 1_024


@dataclass(frozen=True, slots=True)
class MuteLink:
    """What a good token says."""

    user: str
    subject: str


def mute_url(public_url: str, secret: str, link: MuteLink, expires_at: float) -> str:
    """Where the subject can be muted for the user. `public_url`: of the edges; `secret` not
    empty."""
    said = f"{int(expires_at)}\n{link.user}\n{link.subject}".encode()
    token = f"{_text(said)}.{_text(_sign(secret, said))}"
    return f"{public_url.rstrip('/')}{PATH}?t={quote(token, safe='')}"


def read(secret: str, token: str, now: float) -> MuteLink | None:
    """What the token says; None: it is not good, or not any more, or there is no key."""
    said_text, _, signature_text = token.partition(".")
    if not secret or len(token) > _CHARACTERS_MAX or not token.isascii():
        return None
    try:
        said, signature = _bytes(said_text), _bytes(signature_text)
    except (Error, ValueError):
        return None
    if not hmac.compare_digest(signature, _sign(secret, said)):
        return None
    # From here on it is ours, and of the shape that we gave it.
    expiry, user, subject = said.decode().split("\n")
    return MuteLink(user, subject) if now < int(expiry) else None


def _sign(secret: str, said: bytes) -> bytes:
    key = hmac.digest(secret.encode(), _PURPOSE, "sha256")
    return hmac.digest(key, said, "sha256")


def _text(value: bytes) -> str:
    return urlsafe_b64encode(value).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
