"""Extensions over plain HTTP, for operators: list, add, remove.

Reads requests and writes JSON; presence's registry does the work. Must not know who asks: `admin`
refuses whoever is no administrator, before anything is read.

    GET    /v1/extensions          {"extensions": [{name, address, plain, serverName, subjects,
                                   behind, fault}]}
    POST   /v1/extensions          {name, address, plain?, serverName?, subjects?}; answers {"name"}
    DELETE /v1/extensions/{name}   {"removed": whether there was one}
"""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web
from onward.presence.v1 import registry_pb2

from services.chassis.refusals import Code, Refusal, refuse
from services.edge.http_refusal import Refused, json_response

# Calls a method of presence's registry.
Registry = Callable[[str, Any], Awaitable[Any]]


class ExtensionRoutes:
    """Handlers. `admin(request)` raises Refused; `read(request)` gives the body."""

    def __init__(
        self,
        registry: Registry,
        admin: Callable[[web.Request], None],
        read: Callable[[web.Request], Awaitable[bytes]],
    ) -> None:
        self._registry = registry
        self._admin = admin
        self._read = read

    def routes(self) -> list[web.RouteDef]:
        """Their paths."""
        return [
            web.get("/v1/extensions", self._list),
            web.post("/v1/extensions", self._add),
            web.delete("/v1/extensions/{name}", self._remove),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        self._admin(request)
        asked = registry_pb2.ListExtensionsRequest()
        found = await self._ask("ListExtensions", asked)
        return json_response({"extensions": [_shown(one) for one in found.extensions]})

    async def _add(self, request: web.Request) -> web.StreamResponse:
        self._admin(request)
        asked = _wanted(await self._read(request))
        await self._ask("AddExtension", asked)
        return json_response({"name": asked.name})

    async def _remove(self, request: web.Request) -> web.StreamResponse:
        self._admin(request)
        asked = registry_pb2.RemoveExtensionRequest(name=request.match_info["name"])
        found = await self._ask("RemoveExtension", asked)
        return json_response({"removed": found.removed})

    async def _ask(self, method: str, asked: Any) -> Any:
        answer = await self._registry(method, asked)
        if isinstance(answer, Refusal):
            raise Refused(answer)
        return answer


def _shown(one: registry_pb2.RegisteredExtension) -> dict[str, Any]:
    return {
        "name": one.name,
        "address": one.address.address,
        "plain": one.address.plain,
        "serverName": one.address.server_name,
        "subjects": list(one.subjects),
        "behind": str(one.behind),
        "fault": one.fault,
    }


def _wanted(body: bytes) -> registry_pb2.AddExtensionRequest:
    """What the body asks for. What stands in it is checked by presence; here, that it is of the
    right kind."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        malformed = refuse(Code.FRAME_MALFORMED, "The body is no valid JSON.")
        raise Refused(malformed) from None
    if not isinstance(value, dict):
        raise Refused(refuse(Code.FRAME_MALFORMED, "The body is a JSON object."))
    subjects = value.get("subjects", [])
    if not isinstance(subjects, list) or not all(isinstance(one, str) for one in subjects):
        raise Refused(refuse(Code.ARGUMENT_INVALID, "`subjects` is a list of texts."))
    plain = value.get("plain", False)
    if not isinstance(plain, bool):
        raise Refused(refuse(Code.ARGUMENT_INVALID, "`plain` is true or false."))
    return registry_pb2.AddExtensionRequest(
        name=_text(value, "name"),
        address=registry_pb2.PluginAddress(
            address=_text(value, "address"), plain=plain, server_name=_text(value, "serverName")
        ),
        subjects=subjects,
    )


def _text(value: dict[str, Any], name: str) -> str:
    found = value.get(name, "")
    if not isinstance(found, str):
        raise Refused(refuse(Code.ARGUMENT_INVALID, f"`{name}` is a text."))
    return found
