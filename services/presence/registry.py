"""Where plugins are and how they are called: of the settings, or registered by operators. Pure.

What is registered stands in etcd under `notifiers/<name>` and is read by every replica. Knows its
JSON and what may stand in it. Must not know etcd, nor connections. To drive it: `of_setting(text)`
for each plugin of the settings; `fault_of(registration)` before one is registered; `encode` and
`decode`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.chassis.channel_names import MEANT, SCHEME
from services.chassis.errors import SettingError
from services.chassis.tls import Trust
from services.presence.descriptions import ANY, CHANNELS_MAX, NAME

# The kind of key in etcd.
NOTIFIERS = "notifiers"
# Each has its connection, from every replica; more are not registered.
NOTIFIERS_MAX = 100
_PLAIN = "grpc://"
_ADDRESS_MAX = 255
# A name, an IPv4 address, or an IPv6 address in brackets; what is behind it is no URL's.
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_SERVER_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Registration:
    """A plugin to be called. `name`: of the settings, its address."""

    name: str
    address: str
    # Without TLS whatever the services have, and shown the secret alone.
    plain: bool = False
    # In its certificate; empty: as its host, or as the settings say for all.
    server_name: str = ""
    # The channels it is used for; empty: all that it serves.
    channels: tuple[str, ...] = ()
    of_settings: bool = False


def of_setting(text: str) -> Registration:
    """A plugin of the settings: `host:port` is one like our own services, `grpc://host:port` has
    no TLS."""
    address = text.removeprefix(_PLAIN)
    return Registration(address, address, plain=text != address, of_settings=True)


def shown_to(registration: Registration, trust: Trust | str) -> Trust | str:
    """What is shown to the plugin, and asked of it. Raises SettingError."""
    if not registration.plain:
        return trust
    secret = trust.secret if isinstance(trust, Trust) else trust
    if not secret:
        named = (
            f"ONWARD_PRESENCE_PLUGINS names grpc://{registration.address}, which"
            if registration.of_settings
            else f"the notifier {registration.name}"
        )
        raise SettingError(
            f"{named} is called without TLS, and ONWARD_SECRET is not set; set it, or give that "
            "plugin a certificate"
        )
    return secret


def fault_of(registration: Registration) -> str:
    """Why it cannot be registered, in one sentence; empty: it can."""
    if fault := name_fault(registration.name):
        return fault
    if fault := address_fault(registration.address, registration.server_name):
        return fault
    if len(registration.channels) > CHANNELS_MAX:
        return f"A notifier is used for at most {CHANNELS_MAX} channels."
    if any(channel != ANY and not SCHEME.fullmatch(channel) for channel in registration.channels):
        return "A channel is the scheme of external tokens in lower case, as in mailto, or `*`."
    return ""


def misnamed(registration: Registration) -> str:
    """Which channel has another name, in one sentence; empty: none. What stands in etcd already
    may name one, which is passed over."""
    wrong = [channel for channel in registration.channels if channel in MEANT]
    return f"The tokens of {wrong[0]} start with `{MEANT[wrong[0]]}:`; name that." if wrong else ""


def name_fault(name: str) -> str:
    """Why nothing can be registered under it; empty: it can."""
    if NAME.fullmatch(name):
        return ""
    return "A name is 1 to 40 lower-case letters, digits and hyphens."


def address_fault(address: str, server_name: str) -> str:
    """Why no plugin can be called there; empty: one can."""
    host, _, port = address.rpartition(":")
    if (
        len(address) > _ADDRESS_MAX
        or not _HOST.fullmatch(host)
        or not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65_536)
    ):
        return "An address is host:port, as in mailer.example.org:4500."
    if server_name and (len(server_name) > _ADDRESS_MAX or not _SERVER_NAME.fullmatch(server_name)):
        return "A server name is a host name, as it stands in a certificate."
    return ""


def encode(registration: Registration) -> str:
    """The value of its key."""
    return json.dumps(
        {
            "address": registration.address,
            "plain": registration.plain,
            "server_name": registration.server_name,
            "channels": list(registration.channels),
        }
    )


def decode(name: str, value: Mapping[str, Any]) -> Registration | None:
    """The registration of a key; None: its value was not written by us, or is damaged."""
    channels = value.get("channels") or []
    if not isinstance(channels, list):
        return None
    found = Registration(
        name,
        str(value.get("address") or ""),
        value.get("plain") is True,
        str(value.get("server_name") or ""),
        tuple(str(channel) for channel in channels),
    )
    return None if fault_of(found) else found
