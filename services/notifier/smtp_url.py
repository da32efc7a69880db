"""Reads an SMTP URL: `smtp://[user:password@]host[:port][?starttls=required|auto|no]`, `smtps://…`.

Pure. A wrong URL is a SettingError whose sentence names the remedy and never repeats the URL,
which may hold a password.

- `smtps` is TLS from the first byte (port 465); `smtp` begins in clear (port 25, or 587 with a
  user).
- `starttls=required` refuses a server without STARTTLS; `auto` takes it if offered; `no` does
  not ask. Default: `required` if there is a password to protect, else `auto`.
- On loopback, where nobody sits in between, the default is `auto` and certificates are not
  checked: hardly any names 127.0.0.1. With `auto` they are not checked either, as whoever could
  forge one could as well strike out the offer.
"""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from services.chassis.errors import SettingError

Starttls = Literal["required", "auto", "no"]
FORM = "smtp://[user:password@]host[:port][?starttls=required|auto|no] or smtps://…"


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where and how to hand over mail."""

    host: str
    port: int
    tls: bool  # from the first byte
    starttls: Starttls  # "no" with `tls`
    verify: bool  # check the server's certificate
    user: str = ""  # empty: no authentication
    password: str = ""


def parse(url: str, variable: str = "ONWARD_SMTP_URL") -> SmtpServer:
    """The server that `url` names. Raises SettingError, naming `variable`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _wrong(variable, "has a host or port that cannot be read") from None
    if parts.scheme not in ("smtp", "smtps"):
        raise _wrong(variable, "does not start with smtp:// or smtps://")
    if not parts.hostname or port == 0:
        raise _wrong(variable, "names no host" if port != 0 else "has port 0")
    if parts.path not in ("", "/") or parts.fragment:
        raise _wrong(variable, "has a path, which means nothing here")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if bool(user) != bool(password):
        raise _wrong(variable, "has a user without a password, or the reverse")
    tls = parts.scheme == "smtps"
    asked = _starttls(variable, parts.query)
    if tls and asked in ("required", "auto"):
        raise _wrong(variable, "asks for STARTTLS on smtps, which is TLS already")
    loopback = is_loopback(parts.hostname)
    by_default: Starttls = "required" if password and not loopback else "auto"
    starttls: Starttls = "no" if tls else asked or by_default
    return SmtpServer(
        host=parts.hostname,
        port=port or (465 if tls else 587 if user else 25),
        tls=tls,
        starttls=starttls,
        verify=not loopback and (tls or starttls == "required" or bool(password)),
        user=user,
        password=password,
    )


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine, by its name alone (nothing is resolved)."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _starttls(variable: str, query: str) -> Starttls | None:
    try:
        options = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise _wrong(variable, "has options that cannot be read") from None
    names = [name for name, _ in options]
    if any(name != "starttls" for name in names) or len(names) > 1:
        raise _wrong(variable, "has an option other than one starttls")
    if not options:
        return None
    if options[0][1] not in ("required", "auto", "no"):
        raise _wrong(variable, "has a starttls other than required, auto or no")
    return cast(Starttls, options[0][1])


def _wrong(variable: str, what: str) -> SettingError:
    return SettingError(f"{variable} {what}; set it to {FORM}")
