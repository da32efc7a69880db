"""Reads HTTP requests: who asks, the body, parameters; and shows messages as JSON.

Knows `Authorization: Bearer <token>`, `?user=` where anonymous access is on, and the proto3 JSON
mapping; must not know what is asked for. What cannot be read is raised as `Refused`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import orjson
from aiohttp import web
from google.protobuf import json_format
from google.protobuf.message import Message

from services.chassis.refusals import Code, Refusal, refuse
from services.chassis.subjects import name_fault, subject_fault
from services.edge.body_fault import body_fault
from services.edge.http_refusal import Refused
from services.edge.tokens import Authenticator, Caller

T = TypeVar("T")
M = TypeVar("M", bound=Message)

_HTTP_CLIENT: Final = "http"  # makes the user `anon:http` of who gives no name


class Requests:
    """Reads requests. `body_s`: seconds a body may take to arrive."""

    def __init__(self, authenticator: Authenticator, body_s: float) -> None:
        self._authenticator = authenticator
        self._body_s = body_s

    def caller(self, request: web.Request, user: str | None = None) -> Caller:
        """Who asks: by token, else `user`; None: as the parameter `user` says."""
        if user is None:
            user = request.query.get("user", "")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme and (scheme.lower() != "bearer" or not token.strip()):
            message = "The header Authorization is not `Bearer <token>`."
            raise Refused(refuse(Code.TOKEN_INVALID, message))
        return unless_refused(self._authenticator.identify(token.strip(), user, _HTTP_CLIENT))

    def admin(self, request: web.Request, what: str) -> Caller:
        """Who asks, and may do what only an administrator may: `what`, for the refusal."""
        caller = self.caller(request, "")
        if not caller.grants.admin:
            raise Refused(refuse(Code.FORBIDDEN, f"Only an administrator may {what}."))
        return caller

    async def body(self, request: web.Request) -> bytes:
        """The body, once all of it is there."""
        return await self.in_time(request.read())

    async def in_time(self, reading: Awaitable[bytes]) -> bytes:
        """The body as `reading` has it, which must not take longer than a body may."""
        try:
            async with asyncio.timeout(self._body_s):
                return await reading
        except TimeoutError:
            late = refuse(Code.ARGUMENT_INVALID, "The body did not come in time.")
            raise Refused(late, 408) from None

    async def object(self, request: web.Request) -> dict[str, Any]:
        """The body, a JSON object."""
        body = await self.body(request)
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            malformed = refuse(Code.FRAME_MALFORMED, "The body is no valid JSON.")
            raise Refused(malformed) from None
        if not isinstance(value, dict):
            raise Refused(refuse(Code.FRAME_MALFORMED, "The body is a JSON object."))
        return value

    async def message(self, request: web.Request, message: M) -> M:
        """`message`, with the fields that the body names."""
        return message_of(await self.object(request), message)


def unless_refused(answer: T | Refusal, told: Callable[[str], str] | None = None) -> T:
    """The answer; a refusal is raised, its sentence as it is `told` to whoever asked."""
    if not isinstance(answer, Refusal):
        return answer
    if told is None:
        raise Refused(answer)
    refusal = Refusal()
    refusal.CopyFrom(answer)
    refusal.message = told(answer.message)
    raise Refused(refusal)


def message_of(value: dict[str, Any], message: M) -> M:
    """`message`, with the fields of a JSON object."""
    try:
        json_format.ParseDict(value, message)
    except (json_format.ParseError, ValueError, RecursionError):
        # Their words quote the body.
        words = body_fault(value, type(message))
        raise Refused(refuse(Code.FRAME_MALFORMED, words)) from None
    return message


def shown(message: Message) -> dict[str, Any]:
    """A message as JSON, its zero values too."""
    value: dict[str, Any] = json_format.MessageToDict(
        message, always_print_fields_with_no_presence=True
    )
    return value


def check_subject(subject: str, name: str = "subject") -> None:
    """Raises Refused unless `subject`, the parameter or field `name`, is one."""
    if fault := subject_fault(subject):
        raise Refused(refuse(Code.SUBJECT_INVALID, f"`{name}` cannot be taken. {fault}"))


def check_name(name: str, user: str) -> None:
    """Raises Refused unless `user`, the parameter or field `name`, can be a user."""
    if fault := name_fault(user):
        raise Refused(refuse(Code.ARGUMENT_INVALID, f"`{name}` cannot be taken. {fault}"))


def number(request: web.Request, name: str, least: int, most: int, *, default: int) -> int:
    """The parameter `name`, a whole number; `default` if it is absent."""
    text = request.query.get(name)
    if text is None:
        return default
    # No number in these bounds has more digits, and long ones take long to convert.
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else -1
    if not least <= value <= most:
        message = f"`{name}` is a whole number from {least} to {most}."
        raise Refused(refuse(Code.ARGUMENT_INVALID, message))
    return value
