"""`/v1/mute?t=…`: mutes a subject by the link in a notification, without a login.

A GET shows a page with a button and changes nothing, because programs that look through mail open
every link. A POST mutes: by the button, or by a mail program's own (RFC 8058, section 3.2, whose
body says `List-Unsubscribe=One-Click`; what grants it is the signed token, so bodies are not read).
The page that says so has a button that undoes it, a POST with `&undo=1`. Knows the pages; what a
token says is known to `mute_tokens`.
"""

import time
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from html import escape
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web
from onward.presence.v1 import users_pb2

from services.chassis import mute_tokens
from services.chassis.mute_tokens import MuteLink
from services.chassis.refusals import Code, Refusal
from services.edge.backend import Backend
from services.edge.http_refusal import status_of

_STYLE: Final = """
body { margin: 0; min-height: 100vh; display: grid; place-items: center; color-scheme: light dark;
  font: 1.05rem/1.5 system-ui, sans-serif; background: light-dark(#f4f5f7, #15171a);
  color: light-dark(#1c1f24, #e6e8eb) }
main { box-sizing: border-box; max-width: 26rem; margin: 1rem; padding: 2rem; border-radius: .75rem;
  background: light-dark(#fff, #1f2226); overflow-wrap: anywhere; text-align: center }
button { font: inherit; padding: .5rem 1.5rem; border: 0; border-radius: .5rem; color: #fff;
  background: #2457c5; cursor: pointer }
button:focus-visible { outline: 3px solid light-dark(#9db8f2, #6b8fe0); outline-offset: 2px }
"""
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>Notifications</title>
<style>{style}</style></head>
<body><main><p>{text}</p>{form}</main></body></html>
"""
_STYLE_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()
_BUTTON: Final = '<form method="post" action="?{query}"><button>{word}</button></form>'
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; base-uri 'none'; "
    f"frame-ancestors 'none'; style-src 'sha256-{_STYLE_HASH}'",
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
            web.post(mute_tokens.PATH, self._change),
        ]

    async def _ask(self, request: web.Request) -> web.StreamResponse:
        link = self._link(request)
        if link is None:
            return _not_good()
        form = _button("Mute", request)
        return _page(f"Mute notifications about {escape(link.subject)}?", form=form)

    async def _change(self, request: web.Request) -> web.StreamResponse:
        link = self._link(request)
        if link is None:
            return _not_good()
        undo = request.query.get("undo") == "1"
        answer = await (self._unmute(link) if undo else self._mute(link))
        if isinstance(answer, Refusal):
            wait = "Try again later." if answer.code == Code.UNAVAILABLE else answer.message
            return _page(f"This could not be done. {escape(wait)}", status_of(answer))
        if undo:
            text = f"Notifications about {escape(link.subject)} are not muted any more."
            return _page(text, form=_button("Mute", request))
        text = f"Notifications about {escape(link.subject)} are muted."
        return _page(text, form=_button("Undo", request, undo="1"))

    async def _mute(self, link: MuteLink) -> Any:
        mute = users_pb2.SubjectMute(subject=link.subject)
        asked = users_pb2.MuteRequest(user=link.user, mute=mute)
        return await self._backend.users("Mute", link.user, asked)

    async def _unmute(self, link: MuteLink) -> Any:
        asked = users_pb2.UnmuteRequest(user=link.user, subject=link.subject)
        return await self._backend.users("Unmute", link.user, asked)

    def _link(self, request: web.Request) -> MuteLink | None:
        return mute_tokens.read(self._key, request.query.get("t", ""), self._clock())


def _button(word: str, request: web.Request, **also: str) -> str:
    """A button that posts to this address, by the same link."""
    query = urlencode({"t": request.query["t"], **also})
    return _BUTTON.format(query=escape(query), word=word)


def _not_good() -> web.Response:
    return _page("This link is not valid, or not any more.", 404)


def _page(text: str, status: int = 200, form: str = "") -> web.Response:
    return web.Response(
        text=_PAGE.format(style=_STYLE, text=text, form=form),
        status=status,
        content_type="text/html",
        headers=_HEADERS,
    )
