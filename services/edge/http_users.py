"""Users' data over HTTP: one's own under `/v1/me/…`, anybody's, for administrators, under
`/v1/users/{user}/…`, and of many under `/v1/follows`.

Says who may ask what, and turns bodies into requests of `UserService`; what they do is presence's.
Must not know where presence is. External tokens stand in bodies only, since addresses of requests
get into the logs of others. To drive it: `routes()`.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from google.protobuf.message import Message
from onward.presence.v1 import users_pb2

from services.chassis.refusals import Code, refuse
from services.edge.admission import external_token_refusal
from services.edge.backend import Backend
from services.edge.body_fault import unknown_field
from services.edge.external_token import external_token_fault
from services.edge.http_refusal import Refused, json_response
from services.edge.http_request import (
    Requests,
    check_name,
    check_subject,
    message_of,
    number,
    shown,
    unless_refused,
)
from services.edge.rates import RateLimits, Rates
from services.edge.tokens import Caller

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OfUser = Callable[[web.Request, "Whose"], Awaitable[web.StreamResponse]]

# How often one user may see and change what is their own; each change is a transaction of presence.
OWN_RATES: Final = RateLimits(per_s=20.0, burst=100)
_LIMIT: Final = 100
_LIMIT_MAX: Final = 1_000
# Fields of a profile as JSON has them, and the part that each is.
_PARTS: Final = {
    "locale": "locale",
    "timeZone": "time_zone",
    "quietHours": "quiet_hours",
    "preferences": "preferences",
    "mutes": "mutes",
}
# A field as the sentences of presence name it, and where its JSON name has a capital.
_FIELD: Final = re.compile(r"`[a-z_.\[\]0-9]+`")
_HUMP: Final = re.compile("_([a-z])")


class Whose:
    """Whose data a request is about. `own`: the caller's; else an administrator asks."""

    __slots__ = ("caller", "own", "user")

    def __init__(self, caller: Caller, user: str, own: bool) -> None:
        self.caller = caller
        self.user = user
        self.own = own


class HttpUsers:
    """Handlers for users' data."""

    def __init__(
        self, backend: Backend, requests: Requests, own_rates: RateLimits = OWN_RATES
    ) -> None:
        self._backend = backend
        self._requests = requests
        self._rates = Rates(own_rates)

    def routes(self) -> list[web.RouteDef]:
        """All paths."""
        of_user: dict[tuple[str, str], OfUser] = {
            ("GET", "follows"): self._list_follows,
            ("POST", "follows"): self._add_follows,
            ("DELETE", "follows"): self._remove_follows,
            ("GET", "endpoints"): self._list_endpoints,
            ("POST", "endpoints"): self._add_endpoint,
            ("DELETE", "endpoints"): self._remove_endpoint,
            ("GET", "profile"): self._get_profile,
            ("PATCH", "profile"): self._update_profile,
            ("GET", "mutes"): self._list_mutes,
            ("POST", "mutes"): self._mute,
            ("DELETE", "mutes"): self._unmute,
        }
        return [
            *(
                web.route(method, f"/v1/{where}/{name}", whose(handler))
                for (method, name), handler in of_user.items()
                for where, whose in (("me", self._own), ("users/{user}", self._anybodys))
            ),
            web.post("/v1/users/{user}/revoke", self._anybodys(self._revoke)),
            web.delete("/v1/users/{user}", self._anybodys(self._erase)),
            web.post("/v1/follows", self._add_follows_of_many),
            web.delete("/v1/follows", self._remove_follows_of_many),
        ]

    def _own(self, handler: OfUser) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            caller = self._requests.caller(request)
            if wait_ms := self._rates.take(caller.user, asyncio.get_running_loop().time()):
                raise Refused(refuse(Code.RATE_LIMITED, "This user asks too often.", wait_ms))
            return await handler(request, Whose(caller, caller.user, own=True))

        return handle

    def _anybodys(self, handler: OfUser) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            caller = self._requests.admin(request, "see or change what is another user's")
            user = request.match_info["user"]
            check_name("user", user)
            return await handler(request, Whose(caller, user, own=False))

        return handle

    async def _ask(self, method: str, user: str, request: Message) -> Any:
        return unless_refused(await self._backend.users(method, user, request), _as_json_names)

    # -- follows ------------------------------------------------------------------------------

    async def _list_follows(self, request: web.Request, whose: Whose) -> web.StreamResponse:
        asked = users_pb2.ListFollowsRequest(
            user=whose.user,
            after_subject=request.query.get("after", ""),
            limit=number(request, "limit", 1, _LIMIT_MAX, default=_LIMIT),
        )
        return json_response(shown(await self._ask("ListFollows", whose.user, asked)))

    async def _add_follows(self, request: web.Request, whose: Whose) -> web.StreamResponse:
        """A user may follow what they may subscribe to."""
        asked = users_pb2.AddFollowsRequest(users=[whose.user], own=whose.own)
        await self._subjects(request, asked)
        for subject in asked.subjects:
            if whose.own and not whose.caller.may_subscribe(subject):
                forbidden = f"The subject {subject} may not be subscribed to."
                raise Refused(refuse(Code.SUBJECT_FORBIDDEN, forbidden, subject=subject))
        return json_response(shown(await self._ask("AddFollows", whose.user, asked)))

    async def _remove_follows(self, request: web.Request, whose: Whose) -> web.StreamResponse:
        """A user leaves a subject everywhere; a backend says whether it means that."""
        asked = users_pb2.RemoveFollowsRequest(users=[whose.user], everywhere=whose.own)
        await self._subjects(request, asked, *(() if whose.own else ("everywhere",)))
        return json_response(shown(await self._ask("RemoveFollows", whose.user, asked)))

    async def _subjects(
        self,
        request: web.Request,
        asked: users_pb2.AddFollowsRequest | users_pb2.RemoveFollowsRequest,
        *also: str,
    ) -> None:
        """Reads the body, `{"subjects": […]}`, and further fields that it may have."""
        body = await self._requests.object(request)
        message_of(_only(body, "subjects", *also), asked)
        for place, subject in enumerate(asked.subjects):
            check_subject(subject, f"subjects[{place}]")

    async def _add_follows_of_many(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/follows`: `{"users": […], "subjects": […]}`."""
        self._requests.admin(request, "have users follow")
        asked = await self._requests.message(request, users_pb2.AddFollowsRequest())
        return json_response(shown(await self._ask("AddFollows", _first(asked.users), asked)))

    async def _remove_follows_of_many(self, request: web.Request) -> web.StreamResponse:
        """`DELETE /v1/follows`: likewise, and `"everywhere"`."""
        self._requests.admin(request, "end what users follow")
        asked = await self._requests.message(request, users_pb2.RemoveFollowsRequest())
        return json_response(shown(await self._ask("RemoveFollows", _first(asked.users), asked)))

    # -- endpoints ----------------------------------------------------------------------------

    async def _list_endpoints(self, _: web.Request, whose: Whose) -> web.StreamResponse:
        asked = users_pb2.ListEndpointsRequest(user=whose.user)
        return json_response(shown(await self._ask("ListEndpoints", whose.user, asked)))

    async def _add_endpoint(self, request: web.Request, whose: Whose) -> web.StreamResponse:
        """A user may add what their token lets them register; an administrator what is one."""
        uri = await self._uri(request)
        if fault := external_token_fault(uri):
            raise Refused(refuse(Code.EXTERNAL_TOKEN_INVALID, f"`uri` cannot be taken. {fault}"))
        if whose.own and (refusal := external_token_refusal(uri, whose.caller)):
            raise Refused(refusal)
        asked = users_pb2.AddEndpointRequest(user=whose.user, uri=uri)
        return json_response(shown(await self._ask("AddEndpoint", whose.user, asked)))

    async def _remove_endpoint(self, request: web.Request, whose: Whose) -> web.StreamResponse:
        asked = users_pb2.RemoveEndpointRequest(user=whose.user, uri=await self._uri(request))
        return json_response(shown(await self._ask("RemoveEndpoint", whose.user, asked)))

    async def _uri(self, request: web.Request) -> str:
        """The body, `{"uri": …}`."""
        uri = _only(await self._requests.object(request), "uri").get("uri")
        if not isinstance(uri, str):
            raise Refused(refuse(Code.EXTERNAL_TOKEN_INVALID, "`uri` is an external token."))
        return uri

    # -- profiles -----------------------------------------------------------------------------

    async def _get_profile(self, _: web.Request, whose: Whose) -> web.StreamResponse:
        asked = users_pb2.GetProfileRequest(user=whose.user)
        return json_response(shown(await self._ask("GetProfile", whose.user, asked)))

    async def _update_profile(self, request: web.Request, whose: Whose) -> web.StreamResponse:
        """The parts that the body names are replaced; null takes one away."""
        body = _only(await self._requests.object(request), *_PARTS)
        asked = users_pb2.UpdateProfileRequest(
            user=whose.user,
            profile=message_of(body, users_pb2.UserProfile()),
            parts=[_PARTS[name] for name in body],
        )
        return json_response(shown(await self._ask("UpdateProfile", whose.user, asked)))

    async def _list_mutes(self, _: web.Request, whose: Whose) -> web.StreamResponse:
        asked = users_pb2.GetProfileRequest(user=whose.user)
        told = await self._ask("GetProfile", whose.user, asked)
        return json_response({"mutes": [shown(mute) for mute in told.profile.mutes]})

    async def _mute(self, request: web.Request, whose: Whose) -> web.StreamResponse:
        """`{"subject": …, "until": …}`; without `until`: until it is ended."""
        mute = await self._requests.message(request, users_pb2.SubjectMute())
        asked = users_pb2.MuteRequest(user=whose.user, mute=mute)
        return json_response(shown(await self._ask("Mute", whose.user, asked)))

    async def _unmute(self, request: web.Request, whose: Whose) -> web.StreamResponse:
        """`{"subject": …}`, as it was muted."""
        body = _only(await self._requests.object(request), "subject")
        asked = message_of(body, users_pb2.UnmuteRequest(user=whose.user))
        return json_response(shown(await self._ask("Unmute", whose.user, asked)))

    # -- ends ---------------------------------------------------------------------------------

    async def _revoke(self, request: web.Request, whose: Whose) -> web.StreamResponse:
        """`{"subject": …}`; without one, of all subjects."""
        body = _only(await self._requests.object(request), "subject")
        asked = message_of(body, users_pb2.RevokeRequest(user=whose.user))
        if asked.subject:
            check_subject(asked.subject)
        return json_response(shown(await self._ask("Revoke", whose.user, asked)))

    async def _erase(self, _: web.Request, whose: Whose) -> web.StreamResponse:
        asked = users_pb2.EraseUserRequest(user=whose.user)
        return json_response(shown(await self._ask("EraseUser", whose.user, asked)))


def _only(body: dict[str, Any], *names: str) -> dict[str, Any]:
    """The body, which has no other fields: whose data it is about, the path says."""
    if others := [name for name in body if name not in names]:
        words = f"{unknown_field(others[0])} It has {', '.join(f'`{name}`' for name in names)}."
        raise Refused(refuse(Code.FRAME_MALFORMED, words))
    return body


def _as_json_names(sentence: str) -> str:
    """Presence names fields as the proto does, and whoever asks over HTTP knows them as JSON has
    them: `quiet_hours.from_minute` is `quietHours.fromMinute`."""
    return _FIELD.sub(lambda found: _HUMP.sub(lambda hump: hump[1].upper(), found[0]), sentence)


def _first(users: Any) -> str:
    """Whose presence service is asked; presence refuses an empty list itself."""
    return users[0] if users else ""
