"""`/v1/mute?t=…`: mutes a subject by the link in a notification, without a login.

A GET shows a page with a button and changes nothing, because programs that look through mail open
every link. A POST mutes: by the button, or by a mail program's own (RFC 8058, section 3.2, whose
body says `List-Unsubscribe=One-Click`; what grants it is the signed token, so bodies are not read).
Knows the page; what a token says is known to `mute_tokens`.
"""

import time
from collections.abc import Callable
from html import escape
from typing import Final

from aiohttp import web
from onward.presence.v1 import users_pb2

from services.chassis import mute_tokens
from services.chassis.mute_tokens import MuteLink
from services.chassis.refusals import Code, Refusal
from services.edge.backend import Backend
from services.edge.http_refusal import status_of

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>Notifications</title></head>
<body><main><p>{text}</p>{form}</main></body></html>
"""
_BUTTON: Final = '<form method="post"><button>Mute</button></form>'
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    # The address is the key.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class HttpMute:
    """The handlers. `key`: what the links are signed with; empty: none is good."""

    def __init__(self, backend: Backend, key: str, clock: Callable[[], float] = time.time) -> None:
        self._backend = backend
        self._key = key
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """Its path."""
        return [
            web.get(mute_tokens.PATH, self._ask, allow_head=True),
            web.post(mute_tokens.PATH, self._mute),
        ]

    async def _ask(self, request: web.Request) -> web.StreamResponse:
        link = self._link(request)
        if link is None:
            return _not_good()
        return _page(f"Mute notifications about {escape(link.subject)}?", form=_BUTTON)

    async def _mute(self, request: web.Request) -> web.StreamResponse:
        link = self._link(request)
        if link is None:
            return _not_good()
        asked = users_pb2.MuteRequest(
            user=link.user, mute=users_pb2.SubjectMute(subject=link.subject)
        )
        answer = await self._backend.users("Mute", link.user, asked)
        if isinstance(answer, Refusal):
            wait = "Try again later." if answer.code == Code.UNAVAILABLE else answer.message
            return _page(f"This could not be done. {escape(wait)}", status_of(answer))
        return _page(f"Notifications about {escape(link.subject)} are muted.")

    def _link(self, request: web.Request) -> MuteLink | None:
        return mute_tokens.read(self._key, request.query.get("t", ""), self._clock())


def _not_good() -> web.Response:
    return _page("This link is not valid, or not any more.", 404)


def _page(text: str, status: int = 200, form: str = "") -> web.Response:
    return web.Response(
        text=_PAGE.format(text=text, form=form),
        status=status,
        content_type="text/html",
        headers=_HEADERS,
    )
