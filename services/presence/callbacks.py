"""Hands HTTP requests of providers to plugins, and records what plugins learn from them.

The provider is answered only after that is recorded: what is not, it is to send again. Knows
plugins and the contract. Must not know stores, HTTP servers, or what a provider says. Nothing of
a request is logged. To drive it: `await Callbacks(…).forward(name, request)`.
"""

import grpc
import grpc.aio
from onward.notifier.v1 import notifier_pb2

from services.chassis import logs
from services.chassis.errors import Fault, Unavailable
from services.presence.plugins import Plugins
from services.presence.receiving import Receiving

log = logs.get(__name__)

DEADLINE_S = 4.0
BODY_MAX = 4_096
_NO_CONTENT, _FORBIDDEN = 204, 403


class NoSuchPlugin(Fault):
    """No plugin of that name takes requests of providers."""

    status = grpc.StatusCode.NOT_FOUND


class Callbacks:
    """Requests of providers."""

    def __init__(self, receiving: Receiving, plugins: Plugins) -> None:
        self._receiving = receiving
        self._plugins = plugins

    async def forward(
        self, name: str, request: notifier_pb2.HandleCallbackRequest
    ) -> notifier_pb2.HandleCallbackResponse:
        """What to answer; what was learnt is recorded. Raises NoSuchPlugin, Unavailable,
        or as `Store.write`."""
        named = self._plugins.named(name)
        takers = [one for one in named if one.description and one.description.callbacks]
        if not takers and any(one.description is None for one in self._plugins.list):
            # One that has not said yet who it is; a provider must not take 404 for the end of it.
            raise Unavailable("a plugin cannot be reached that may be the one")
        if not takers:
            raise NoSuchPlugin("no plugin of that name takes requests of providers")
        there = [plugin for plugin in takers if plugin.connected.is_set()]
        if not there:
            raise Unavailable("the plugin cannot be reached")
        try:
            response = await there[0].handle_callback(request, DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            log.warning("callback_failed", plugin=name, status=error.code().name)
            raise Unavailable("the plugin did not answer") from None
        answer = notifier_pb2.HandleCallbackResponse(
            status=response.status or _NO_CONTENT,
            body=response.body[:BODY_MAX],
            content_type=response.content_type,
        )
        if not 200 <= answer.status <= 599:
            raise Unavailable("the plugin answered with no status of HTTP")
        # With a wrong signature nothing can have been learnt, whatever the plugin says.
        if answer.status != _FORBIDDEN:
            await self._receiving.take(response.events)
        return answer
