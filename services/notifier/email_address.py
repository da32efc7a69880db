"""The address in a `mailto:` URI. Pure.

RFC 6068 allows several recipients and header fields in the URI; as an external token it must be
one plain address. Addresses are ASCII (a dot-atom, no quoting, no address literal): anything
else is refused rather than interpreted, because what is misread here mails a stranger.
"""

import re
from urllib.parse import unquote_to_bytes

ADDRESS_CHARACTERS_MAX = 254  # RFC 5321, 4.5.3.1, as corrected
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ADDRESS = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")


def address_of(endpoint: str) -> str | None:
    """The address of `mailto:…`, percent-decoded; None if it is not exactly one plain address."""
    scheme, _, rest = endpoint.partition(":")
    if scheme.lower() != "mailto" or re.search(r"%(?![0-9A-Fa-f]{2})", rest):
        return None
    if "?" in rest or "," in rest:
        return None
    try:
        address = unquote_to_bytes(rest).decode("ascii")
    except UnicodeError:
        return None
    return address if is_address(address) else None


def is_address(text: str) -> bool:
    """Whether `text` is one plain address and nothing more."""
    return len(text) <= ADDRESS_CHARACTERS_MAX and _ADDRESS.fullmatch(text) is not None
