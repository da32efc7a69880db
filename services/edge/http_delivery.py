"""Notifiers, dead letters and tests of channels over plain HTTP, for operators.

Reads requests and writes JSON; presence does the work, and checks what is asked. Must not know who
asks: `admin` refuses whoever is no administrator, before anything is read.

    GET    /v1/notifiers            {"notifiers": [{name, address, plain, serverName, channels,
                                    ofSettings, connected, health, served,
                                    shadowed: [{channel, by}]}]}
    POST   /v1/notifiers            {name, address, plain?, serverName?, channels?}; answers {name}
    DELETE /v1/notifiers/{name}     {"removed": whether there was one}
    GET    /v1/dead-letters?user=&channel=&reason=&id=&after=&limit=
                                    {"letters": [DeadLetter], "nextAfterId"}; `id` several times
    GET    /v1/dead-letters/{id}    GetDeadLetterResponse; 404
    POST   /v1/dead-letters/replay  {user?, channel?, reason?, ids?, all?, after?}; answers
                                    {replayed, expired, nextAfterId}
    POST   /v1/dead-letters/drop    likewise; {dropped, nextAfterId}
    POST   /v1/send-test            {endpoint, user?, text?}; answers {plugin, outcome, detail,
                                    providerId}
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
from aiohttp import web
from onward.presence.v1 import deliveries_pb2, registry_pb2

from services.chassis.refusals import Code, refuse
from services.edge.http_refusal import Refused, json_response
from services.edge.http_request import shown, unless_refused

# Calls a method of a service of presence: its answer, a refusal, or None where there is no such
# thing as is asked for.
Ask = Callable[[str, Any], Awaitable[Any]]

_LIMIT_MAX: Final = 1_000
_NAMES: Final = {
    "name": str, "address": str, "plain": bool, "serverName": str, "channels": list,
}  # fmt: skip
_WHICH: Final = {
    "user": str, "channel": str, "reason": str, "ids": list, "all": bool, "after": str,
}  # fmt: skip
_TEST: Final = {"endpoint": str, "user": str, "text": str}
_WORDS: Final = {str: "a text", bool: "true or false", list: "a list of texts"}


class DeliveryRoutes:
    """Handlers. `admin(request)` raises Refused; `read(request)` gives the body."""

    def __init__(
        self,
        registry: Ask,
        deliveries: Ask,
        admin: Callable[[web.Request], None],
        read: Callable[[web.Request], Awaitable[bytes]],
    ) -> None:
        self._registry = registry
        self._deliveries = deliveries
        self._admin = admin
        self._read = read

    def routes(self) -> list[web.RouteDef]:
        """Their paths."""
        return [
            web.get("/v1/notifiers", self._notifiers),
            web.post("/v1/notifiers", self._add),
            web.delete("/v1/notifiers/{name}", self._remove),
            web.get("/v1/dead-letters", self._letters),
            web.get("/v1/dead-letters/{id}", self._letter),
            web.post("/v1/dead-letters/replay", self._replay),
            web.post("/v1/dead-letters/drop", self._drop),
            web.post("/v1/send-test", self._send_test),
        ]

    async def _notifiers(self, request: web.Request) -> web.StreamResponse:
        self._admin(request)
        asked = registry_pb2.ListNotifiersRequest()
        found = unless_refused(await self._registry("ListNotifiers", asked))
        return json_response({"notifiers": [_notifier(one) for one in found.notifiers]})

    async def _add(self, request: web.Request) -> web.StreamResponse:
        self._admin(request)
        wanted = _fields(await self._read(request), _NAMES)
        asked = registry_pb2.AddNotifierRequest(
            name=wanted["name"],
            address=registry_pb2.PluginAddress(
                address=wanted["address"],
                plain=wanted["plain"],
                server_name=wanted["serverName"],
            ),
            channels=wanted["channels"],
        )
        unless_refused(await self._registry("AddNotifier", asked))
        return json_response({"name": asked.name})

    async def _remove(self, request: web.Request) -> web.StreamResponse:
        self._admin(request)
        asked = registry_pb2.RemoveNotifierRequest(name=request.match_info["name"])
        found = unless_refused(await self._registry("RemoveNotifier", asked))
        return json_response({"removed": found.removed})

    async def _letters(self, request: web.Request) -> web.StreamResponse:
        self._admin(request)
        query = request.query
        limit = query.get("limit", "0")
        if not (limit.isascii() and limit.isdigit() and len(limit) <= 4) or int(limit) > _LIMIT_MAX:
            message = f"`limit` is a whole number up to {_LIMIT_MAX}."
            raise Refused(refuse(Code.ARGUMENT_INVALID, message))
        which = {name: query.get(name, "") for name in ("user", "channel", "reason")}
        asked = deliveries_pb2.ListDeadLettersRequest(
            filter=deliveries_pb2.DeadLetterFilter(**which, delivery_ids=query.getall("id", [])),
            after_id=query.get("after", ""),
            limit=int(limit),
        )
        found = await self._deliveries("ListDeadLetters", asked)
        return json_response(shown(unless_refused(found, _in_query)))

    async def _letter(self, request: web.Request) -> web.StreamResponse:
        self._admin(request)
        asked = deliveries_pb2.GetDeadLetterRequest(delivery_id=request.match_info["id"])
        found = await self._deliveries("GetDeadLetter", asked)
        if found is None:
            none = refuse(Code.ARGUMENT_INVALID, "There is no dead letter of that id.")
            raise Refused(none, 404)
        return json_response(shown(unless_refused(found)))

    async def _replay(self, request: web.Request) -> web.StreamResponse:
        self._admin(request)
        which, after = _which(await self._read(request))
        asked = deliveries_pb2.ReplayDeadLettersRequest(filter=which, after_id=after)
        done = await self._deliveries("ReplayDeadLetters", asked)
        return json_response(shown(unless_refused(done, _in_body)))

    async def _drop(self, request: web.Request) -> web.StreamResponse:
        self._admin(request)
        which, after = _which(await self._read(request))
        asked = deliveries_pb2.DropDeadLettersRequest(filter=which, after_id=after)
        done = await self._deliveries("DropDeadLetters", asked)
        return json_response(shown(unless_refused(done, _in_body)))

    async def _send_test(self, request: web.Request) -> web.StreamResponse:
        self._admin(request)
        asked = deliveries_pb2.SendTestRequest(**_fields(await self._read(request), _TEST))
        return json_response(shown(unless_refused(await self._deliveries("SendTest", asked))))


def _in_query(sentence: str) -> str:
    """Presence calls fields by the names of its contract; a query has others."""
    return sentence.replace("`delivery_ids`", "`id`").replace("`after_id`", "`after`")


def _in_body(sentence: str) -> str:
    """And so has a body."""
    return sentence.replace("`delivery_ids`", "`ids`").replace("`after_id`", "`after`")


def _which(body: bytes) -> tuple[deliveries_pb2.DeadLetterFilter, str]:
    """Which dead letters. All of them must be said, so that nobody means some and forgets to."""
    wanted = _fields(body, _WHICH)
    asked = deliveries_pb2.DeadLetterFilter(
        user=wanted["user"],
        channel=wanted["channel"],
        reason=wanted["reason"],
        delivery_ids=wanted["ids"],
    )
    if (asked == deliveries_pb2.DeadLetterFilter()) is not wanted["all"]:
        message = "Say which: by `ids`, `user`, `channel`, `reason`, or `all` and none of those."
        raise Refused(refuse(Code.ARGUMENT_INVALID, message))
    return asked, wanted["after"]


def _fields(body: bytes, kinds: Mapping[str, type]) -> dict[str, Any]:
    """The fields of the body, each of its kind; those that are absent are empty or false."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        malformed = refuse(Code.FRAME_MALFORMED, "The body is no valid JSON.")
        raise Refused(malformed) from None
    if not isinstance(value, dict):
        raise Refused(refuse(Code.FRAME_MALFORMED, "The body is a JSON object."))
    if unknown := value.keys() - kinds.keys():
        several = ", ".join(f"`{name}`" for name in kinds)
        message = f"The body has {len(unknown)} fields besides {several}."
        raise Refused(refuse(Code.FRAME_MALFORMED, message))
    found: dict[str, Any] = {}
    for name, kind in kinds.items():
        part = found[name] = value.get(name, kind())
        texts = kind is not list or (
            isinstance(part, list) and all(isinstance(one, str) for one in part)
        )
        if not isinstance(part, kind) or not texts:
            raise Refused(refuse(Code.ARGUMENT_INVALID, f"`{name}` is {_WORDS[kind]}."))
    return found


def _notifier(one: registry_pb2.RegisteredNotifier) -> dict[str, Any]:
    return {
        "name": one.name,
        "address": one.address.address,
        "plain": one.address.plain,
        "serverName": one.address.server_name,
        "channels": list(one.channels),
        "ofSettings": one.of_settings,
        "connected": one.connected,
        "health": one.health,
        "served": list(one.served),
        "shadowed": [{"channel": each.channel, "by": each.by} for each in one.shadowed],
    }
