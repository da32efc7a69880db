"""Keeps web pages from elsewhere out of an edge that asks nobody for a token.

Without tokens, whoever reaches the port may do everything, and a browser on this machine reaches
it for every page that it shows. So where anonymous access is on, a request must name this machine
as its host (a name that an attacker lets point here does not), and if it comes from a page, that
page must be from here. The page behind a link to mute is let through from anywhere: its address is
signed and is all that it goes by, and it has no referrer, so that browsers call its origin `null`.
Knows the headers Host and Origin; must not know users.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from services.chassis import mute_tokens
from services.chassis.refusals import Code, refuse
from services.edge.http_refusal import refused


@web.middleware
async def only_from_here(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuses requests for another host, or from another host's page, with 403."""
    host = request.headers.get("Host", "")
    origin = request.headers.get("Origin")
    if not is_loopback(_hostname(f"//{host}")):
        message = "Without tokens this server answers to localhost and loopback addresses only."
        return refused(refuse(Code.FORBIDDEN, message))
    if (
        request.path != mute_tokens.PATH
        and origin is not None
        and origin.partition("://")[2] != host
    ):
        return refused(refuse(Code.FORBIDDEN, "Without tokens no other site's page may ask."))
    return await handler(request)


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address without brackets, can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
