"""What a channel may be called: the scheme of its external tokens. Pure.

Any scheme may be one, since plugins of others bring their own (`slack`, `mqtt+tls`). Knows the
names that people write by mistake for those that Onward's own plugins serve. Must not know which
plugins there are.
"""

import re

# RFC 3986, section 3.1; bounded, as plugins' names of channels are.
SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,31}")
# Names of nothing here, and what is meant by them.
MEANT = {
    "email": "mailto",
    "e-mail": "mailto",
    "mail": "mailto",
    "smtp": "mailto",
    "sms": "tel",
    "phone": "tel",
    "web-push": "webpush",
    "firebase": "fcm",
    "gcm": "fcm",
    "apn": "apns",
    "webhook": "https",
    "http": "https",
}


def channel_fault(name: str) -> str | None:
    """Why a file may not name this channel, with the remedy; None: it may. `name`: in lower
    case."""
    if name in MEANT:
        return f"that channel is named by the scheme of its external tokens; write `{MEANT[name]}`"
    if not SCHEME.fullmatch(name):
        return (
            "a channel is the scheme of external tokens, as `mailto`: a letter, then up to 31 "
            "letters, digits, `+`, `-` and `.`"
        )
    return None
