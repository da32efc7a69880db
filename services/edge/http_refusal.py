"""Refusals as HTTP answers: the status of each code, and the JSON that every refusal has.

Knows HTTP's statuses and `refusal.proto`; must not know who refuses, or why.
"""

import math
import traceback
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import web

from services.chassis import logs
from services.chassis.errors import Fault
from services.chassis.refusals import Code, Refusal, code_name, refuse

log = logs.get(__name__)

_STATUS: Final[dict[int, int]] = {
    Code.TOKEN_INVALID: 401,
    Code.TOKEN_EXPIRED: 401,
    Code.SUBJECT_FORBIDDEN: 403,
    Code.EXTERNAL_TOKEN_FORBIDDEN: 403,
    Code.FORBIDDEN: 403,
    Code.PUBLICATION_ID_REUSED: 409,
    Code.STALE_SESSION: 409,
    Code.CONTENT_TOO_LARGE: 413,
    Code.HEADERS_TOO_LARGE: 413,
    Code.RATE_LIMITED: 429,
    Code.TOO_MANY_CONNECTIONS: 429,
    Code.UNAVAILABLE: 503,
    Code.OVERLOADED: 503,
    Code.NOT_OWNER: 503,
    Code.STORE_FULL: 507,
}
_STATUS_OTHERWISE: Final = 400


def status_of(refusal: Refusal) -> int:
    """The HTTP status that says most nearly what the code says."""
    return _STATUS.get(refusal.code, _STATUS_OTHERWISE)


def refusal_object(refusal: Refusal) -> dict[str, str | int]:
    """`refusal` as every answer and event over HTTP shows it."""
    return {
        "code": code_name(refusal),
        "message": refusal.message,
        "retryAfterMs": refusal.retry_after_ms,
    }


def refused(refusal: Refusal, status: int = 0) -> web.Response:
    """The answer for `refusal`; `status` 0 takes that of its code."""
    response = json_response(refusal_object(refusal), status or status_of(refusal))
    if refusal.retry_after_ms:
        response.headers["Retry-After"] = str(math.ceil(refusal.retry_after_ms / 1000))
    if response.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def refusal_bytes(refusal: Refusal, status: int = 0) -> bytes:
    """The whole answer on the wire, for a connection that ends with it."""
    body = orjson.dumps(refusal_object(refusal))
    status = status or status_of(refusal)
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if refusal.retry_after_ms:
        lines.append(f"Retry-After: {math.ceil(refusal.retry_after_ms / 1000)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def json_response(value: object, status: int = 200) -> web.Response:
    """`value` as JSON, which no cache keeps."""
    return web.Response(
        body=orjson.dumps(value),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
    )


class Refused(Exception):
    """Carries a refusal out of a handler to `refusals_in_json`; `status` 0: that of its code."""

    def __init__(self, refusal: Refusal, status: int = 0) -> None:
        super().__init__(code_name(refusal))
        self.refusal = refusal
        self.status = status


@web.middleware
async def refusals_in_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Gives every refusal one shape, also those that aiohttp makes itself, and faults their own."""
    try:
        return await handler(request)
    except Refused as error:
        return refused(error.refusal, error.status)
    except Fault:
        return refused(refuse(Code.UNAVAILABLE, "Who could answer cannot be reached now.", 1_000))
    except web.HTTPNotFound:
        return refused(refuse(Code.UNSUPPORTED, "There is nothing at this path."), 404)
    except web.HTTPMethodNotAllowed as error:
        response = refused(refuse(Code.UNSUPPORTED, "This path has no such method."), 405)
        response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        return response
    except web.HTTPRequestEntityTooLarge:
        return refused(refuse(Code.CONTENT_TOO_LARGE, "The body of the request is too large."))
    except (web.HTTPException, ConnectionError):
        raise  # aiohttp's own answers; and the client has gone
    except Exception as error:  # noqa: BLE001  # a bug costs one request; its words may quote it
        if request.transport is None:
            raise ConnectionResetError from None  # the client went while its request was read
        log.error("request_failed", error=type(error).__name__, at=_place(error))
        return refused(refuse(Code.UNAVAILABLE, "This server had a fault."), 500)


def _place(error: Exception) -> str:
    """Where in the code it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
