"""Takes what providers send to a plugin by HTTP: receipts of a text message, a bounced mail.

Whoever asks is known to nobody here: the plugin checks the provider's signature, and so is given
the request as it came, with the URL that the provider used. Knows the bounds of such a request;
must not know what it means. Nothing of it is logged. `GET` and `POST /v1/callbacks/{plugin}`.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web
from onward.notifier.v1 import notifier_pb2
from onward.presence.v1 import deliveries_pb2

from services.chassis.refusals import Code, Refusal, refuse
from services.edge.addresses import address_of
from services.edge.http_delivery import Ask
from services.edge.http_refusal import Refused
from services.edge.rates import RateLimits, Rates

BODY_BYTES_MAX: Final = 64 * 1024  # more: 413
HEADER_BYTES_MAX: Final = 8 * 1024  # of all headers; more: 431
ANSWER_S: Final = 5.0  # after which providers give up
_PLUGIN: Final = re.compile("[a-z0-9-]{1,40}")
# What a plugin answers comes from our origin, and must do nothing there.
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}
_TYPE: Final = re.compile(r"[\w.+-]{1,64}/[\w.+-]{1,64}(; ?charset=[\w-]{1,32})?", re.ASCII)
_TYPE_OTHERWISE: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class CallbackLimits:
    """Where providers reach the edges, and how much they may send."""

    # As providers were given it, without a path; empty: whatever host a request names.
    public_url: str = ""
    # Of one network address; more: 429.
    rates: RateLimits = field(default_factory=lambda: RateLimits(500.0, 1_000))
    # With plugins at a time; more: 503, and providers come again. A slow plugin must not take the
    # edge's room for all requests. One whose body is still to come is not with a plugin.
    under_way_max: int = 64


class CallbackRoutes:
    """Handlers. `in_time(reading)`: what it reads of a request; raises Refused if that is late."""

    def __init__(
        self,
        deliveries: Ask,
        limits: CallbackLimits,
        in_time: Callable[[Awaitable[bytes]], Awaitable[bytes]],
    ) -> None:
        self._deliveries = deliveries
        self._in_time = in_time
        self._public_url = limits.public_url.rstrip("/")
        self._rates = Rates(limits.rates)
        self._room = limits.under_way_max

    def routes(self) -> list[web.RouteDef]:
        """Their paths."""
        return [
            web.get("/v1/callbacks/{plugin}", self._take, allow_head=False),
            web.post("/v1/callbacks/{plugin}", self._take),
        ]

    async def _take(self, request: web.Request) -> web.StreamResponse:
        address = address_of(request.get_extra_info("peername"))
        if wait_ms := self._rates.take(address, asyncio.get_running_loop().time()):
            raise Refused(refuse(Code.RATE_LIMITED, "This address asks too often.", wait_ms))
        plugin = request.match_info["plugin"]
        if not _PLUGIN.fullmatch(plugin):
            raise Refused(_no_plugin(), 404)
        answer = await self._forwarded(plugin, await self._callback(request))
        if isinstance(answer, Refusal):
            # Whatever kept it from being recorded, the provider is to send it again.
            raise Refused(answer, 503)
        if answer is None:
            raise Refused(_no_plugin(), 404)
        return _response(answer)

    async def _forwarded(self, plugin: str, callback: notifier_pb2.HandleCallbackRequest) -> Any:
        """What presence answers. Takes a place for as long as that takes."""
        if self._room <= 0:
            full = refuse(Code.OVERLOADED, "As many callbacks are under way as may be.", 1_000)
            raise Refused(full, 503)
        self._room -= 1
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._deliveries(
                    "ForwardCallback",
                    deliveries_pb2.ForwardCallbackRequest(plugin=plugin, callback=callback),
                )
        except TimeoutError:
            late = refuse(Code.UNAVAILABLE, "The plugin does not answer.", 1_000)
            raise Refused(late) from None
        finally:
            self._room += 1

    async def _callback(self, request: web.Request) -> notifier_pb2.HandleCallbackRequest:
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]},{value}" if key in headers else value
        if sum(len(name) + len(value) for name, value in headers.items()) > HEADER_BYTES_MAX:
            message = f"A callback has at most {HEADER_BYTES_MAX} bytes of headers."
            raise Refused(refuse(Code.HEADERS_TOO_LARGE, message), 431)
        body = b""
        if (request.content_length or 0) <= BODY_BYTES_MAX:
            body = await self._in_time(_read(request))
        if (request.content_length or len(body)) > BODY_BYTES_MAX:
            message = f"A callback has at most {BODY_BYTES_MAX} bytes."
            raise Refused(refuse(Code.CONTENT_TOO_LARGE, message))
        base = self._public_url or f"{request.scheme}://{request.host}"
        try:
            return notifier_pb2.HandleCallbackRequest(
                method=request.method, url=base + request.raw_path, headers=headers, body=body
            )
        except ValueError:  # bytes that are no text, which plugins could not be given
            malformed = refuse(Code.FRAME_MALFORMED, "The request has bytes that are no UTF-8.")
            raise Refused(malformed) from None


async def _read(request: web.Request) -> bytes:
    """The body, or a little more of it than may be."""
    parts = bytearray()
    async for part in request.content.iter_any():
        parts += part
        if len(parts) > BODY_BYTES_MAX:
            break
    return bytes(parts)


def _no_plugin() -> Any:
    return refuse(Code.UNSUPPORTED, "No plugin of that name takes callbacks.")


def _response(answer: deliveries_pb2.ForwardCallbackResponse) -> web.Response:
    body = answer.body.encode()
    response = web.Response(status=answer.status, body=body or None, headers=_HEADERS)
    if body:
        known = _TYPE.fullmatch(answer.content_type)
        response.headers["Content-Type"] = answer.content_type if known else _TYPE_OTHERWISE
    return response
