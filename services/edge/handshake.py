"""Reads a WebSocket handshake (RFC 6455, section 4.2.1). Pure.

Headers in; what was agreed on, or a refusal with its HTTP status, out. Knows which subprotocols
this server speaks; must not know sockets, users, or how the answer is written.
"""

import binascii
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.chassis.refusals import Code, Refusal, refuse

SUBPROTOCOL_JSON: Final = "onward.v1.json"
_SUBPROTOCOLS: Final = (SUBPROTOCOL_JSON,)
VERSION: Final = "13"


@dataclass(frozen=True, slots=True)
class Agreed:
    """The handshake can be accepted."""

    key: str  # its `Sec-WebSocket-Key`
    subprotocol: str  # the one to answer with; empty: none was offered


@dataclass(frozen=True, slots=True)
class Declined:
    """It cannot. A 426 is to name the protocol and version that this server speaks."""

    status: int
    refusal: Refusal


def read_handshake(
    headers: Mapping[str, str], offered: Sequence[str], *, http_1_1: bool
) -> Agreed | Declined:
    """Judges a GET request. `headers`: by any case; `offered`: its `Sec-WebSocket-Protocol`s."""
    if "websocket" not in _words(headers.get("Upgrade", "")) or not http_1_1:
        return _declined(426, "This is a WebSocket endpoint; connect with a WebSocket client.")
    if "upgrade" not in _words(headers.get("Connection", "")):
        return _declined(400, "The header Connection does not say `Upgrade`.")
    if headers.get("Sec-WebSocket-Version", "").strip() != VERSION:
        return _declined(426, f"This server speaks version {VERSION} of the WebSocket protocol.")
    key = headers.get("Sec-WebSocket-Key", "").strip()
    if not _is_key(key):
        return _declined(400, "The header Sec-WebSocket-Key is not 16 bytes in base64.")
    names = [name.strip() for line in offered for name in line.split(",") if name.strip()]
    if not names:
        return Agreed(key, "")
    for name in _SUBPROTOCOLS:
        if name in names:
            return Agreed(key, name)
    message = f"This server speaks the subprotocol {', '.join(_SUBPROTOCOLS)}."
    return Declined(400, refuse(Code.UNSUPPORTED, message))


def _words(header: str) -> set[str]:
    return {word.strip().lower() for word in header.split(",")}


def _is_key(key: str) -> bool:
    try:
        return len(b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _declined(status: int, message: str) -> Declined:
    return Declined(status, refuse(Code.ARGUMENT_INVALID, message))
