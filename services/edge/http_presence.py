"""`GET /v1/presence`: who is there, on a subject or of one user; once, or as a stream.

Says who may ask; must not know where presence is, nor how events are written.
"""

from functools import partial
from typing import Final

from aiohttp import web
from onward.presence.v1 import presence_pb2

from services.chassis.refusals import Code, refuse
from services.edge.backend import Backend
from services.edge.http_refusal import Refused, json_response
from services.edge.http_request import (
    Requests,
    check_name,
    check_subject,
    number,
    shown,
    unless_refused,
)
from services.edge.http_story import MEDIA_TYPE, StoryStreams
from services.edge.tokens import Caller

_LIMIT: Final = 100
_LIMIT_MAX: Final = 1_000


class HttpPresence:
    """The handler. `streams`: those of this edge."""

    def __init__(self, backend: Backend, requests: Requests, streams: StoryStreams) -> None:
        self._backend = backend
        self._requests = requests
        self._streams = streams

    def routes(self) -> list[web.RouteDef]:
        """Its path."""
        return [web.get("/v1/presence", self._presence)]

    async def _presence(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/presence?subject=&after=&limit=`, or `?user=`."""
        # Here `user` says whom the question is about.
        caller = self._requests.caller(request, "")
        asked = _question(request, caller)
        if MEDIA_TYPE in request.headers.get("Accept", ""):
            told = partial(self._backend.watch_presence, asked)
            return await self._streams.serve(request, "presence", told, caller)
        return json_response(shown(unless_refused(await self._backend.presence(asked))))


def _question(request: web.Request, caller: Caller) -> presence_pb2.GetPresenceRequest:
    """What is asked, by somebody who may."""
    subject, user = request.query.get("subject"), request.query.get("user")
    if (subject is None) == (user is None):
        raise Refused(refuse(Code.ARGUMENT_INVALID, "Give either `subject` or `user`."))
    if user is not None:
        check_name("user", user)
        if not caller.grants.may_explain(user):
            raise Refused(refuse(Code.FORBIDDEN, "That is another user's presence."))
        return presence_pb2.GetPresenceRequest(user=user)
    assert subject is not None
    check_subject(subject)
    if not caller.may_subscribe(subject):
        raise Refused(refuse(Code.SUBJECT_FORBIDDEN, "Reading that subject is not granted."))
    after = request.query.get("after", "")
    if after:
        check_name("after", after)
    return presence_pb2.GetPresenceRequest(
        subject=subject,
        after_user=after,
        limit=number(request, "limit", 1, _LIMIT_MAX, default=_LIMIT),
    )
