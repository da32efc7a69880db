"""What an external token may look like. Pure.

An external token is a URI that says where a user can be reached outside the socket. Knows the
forms of those that Onward's own plugins serve, and takes any other scheme, since plugins of others
bring their own. Must not know who may register which (`entitlement`), nor whether anybody is there.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from services.chassis.channel_names import MEANT, SCHEME

URI_BYTES_MAX: Final = 4096
_LOCAL_BYTES_MAX: Final = 64  # RFC 5321, section 4.5.3.1.1
_ADDRESS_BYTES_MAX: Final = 254  # RFC 5321, section 4.5.3.1.3, less the angle brackets

# Addresses that mean the same in a URI, in an SMTP command and in a header: no percent-encoding,
# no quoting, no `?` (a mailto URI may carry headers behind it), no list.
_LOCAL: Final = re.compile(r"[A-Za-z0-9!#$&'*+/=^_`{|}~-]+(\.[A-Za-z0-9!#$&'*+/=^_`{|}~-]+)*")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# The operator's name for a target of Apprise. Never a URL of Apprise's: one may read files.
_TARGET: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")

# Schemes whose tokens are drawn by a provider so that nobody can guess them.
UNGUESSABLE: Final = frozenset({"fcm", "apns", "webpush"})


def scheme_of(uri: str) -> str:
    """The scheme as written, without its colon; empty if there is none."""
    return uri.partition(":")[0] if ":" in uri else ""


def external_token_fault(uri: str) -> str | None:
    """Why `uri` is no external token, in one sentence that does not quote it; None if it is one."""
    if not uri:
        return "The external token is empty."
    if len(uri) > URI_BYTES_MAX:
        return f"An external token has at most {URI_BYTES_MAX} bytes."
    if not (uri.isascii() and uri.isprintable()) or " " in uri:
        return "An external token has printable ASCII characters only, and no space."
    scheme = scheme_of(uri)
    if scheme in MEANT:
        return f"An external token of {scheme}: starts with {MEANT[scheme]}: instead."
    if not SCHEME.fullmatch(scheme):
        return "An external token starts with its channel in lower case and a colon, as in mailto:."
    rest = uri[len(scheme) + 1 :]
    if scheme == "mailto":
        return _address_fault(rest)
    if scheme == "tel":
        return (
            None
            if _E164.fullmatch(rest)
            else "A tel: token is an E.164 number, as in +15551234567."
        )
    if scheme == "https":
        return _url_fault(uri)
    if scheme == "apprise":
        return None if _TARGET.fullmatch(rest) else "An apprise: token is a name of [a-z0-9-]."
    return None if rest else "An external token has something behind the colon."


def _address_fault(address: str) -> str | None:
    local, _, domain = address.rpartition("@")
    if (
        len(address) <= _ADDRESS_BYTES_MAX
        and len(local) <= _LOCAL_BYTES_MAX
        and _LOCAL.fullmatch(local)
        and _DOMAIN.fullmatch(domain)
    ):
        return None
    return "A mailto: token is one plain address, as in mailto:ann@example.org."


def _url_fault(uri: str) -> str | None:
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return "An https: token is a URL with a host."
    if not uri.startswith("https://") or not parts.hostname or port == 0:
        return "An https: token is a URL with a host."
    if parts.username is not None or parts.password is not None:
        return "An https: token has no user name or password."
    return None
