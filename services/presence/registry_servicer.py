"""The gRPC face of the registry: which programs presence calls.

What is registered is written to etcd, where every replica reads it; what is told of it is how this
replica sees it. Knows the contract, and which key holds what. Must not know connections.
"""

from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio
from onward.presence.v1 import registry_pb2 as pb
from onward.presence.v1 import registry_pb2_grpc

from services.chassis import logs
from services.chassis.cluster import Keys
from services.chassis.errors import Fault, SettingError
from services.chassis.etcd import Etcd
from services.chassis.tls import Trust
from services.presence.descriptions import shadowed
from services.presence.extensions_registry import ExtensionsRegistry
from services.presence.plugins import Plugin, Plugins
from services.presence.registry import (
    NOTIFIERS,
    NOTIFIERS_MAX,
    Registration,
    encode,
    fault_of,
    misnamed,
    name_fault,
    shown_to,
)
from services.presence.servicer import abort

log = logs.get(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


class RegistryServicer(registry_pb2_grpc.RegistryServiceServicer):
    """Registers programs. `trust`: what this replica shows to others. `extensions`: answers for
    those; None: there are none here."""

    def __init__(
        self,
        plugins: Plugins,
        etcd: Etcd,
        keys: Keys,
        trust: Trust | str,
        extensions: ExtensionsRegistry | None = None,
    ) -> None:
        self._extensions = extensions
        self._plugins = plugins
        self._etcd = etcd
        self._keys = keys
        self._trust = trust

    # -- notifiers ----------------------------------------------------------------------------

    async def ListNotifiers(
        self, request: pb.ListNotifiersRequest, context: Context
    ) -> pb.ListNotifiersResponse:
        plugins = self._plugins.list
        hidden = shadowed(
            [plugin.description for plugin in plugins], [plugin.ready for plugin in plugins]
        )
        return pb.ListNotifiersResponse(
            notifiers=[
                _notifier(plugin, {one: plugins[by].registration.name for one, by in its.items()})
                for plugin, its in zip(plugins, hidden, strict=True)
            ]
        )

    async def AddNotifier(
        self, request: pb.AddNotifierRequest, context: Context
    ) -> pb.AddNotifierResponse:
        address = request.address
        wanted = Registration(
            name=request.name,
            address=address.address,
            plain=address.plain,
            server_name=address.server_name,
            channels=tuple(dict.fromkeys(channel.lower() for channel in request.channels)),
        )
        if wrong := fault_of(wanted) or misnamed(wanted):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, wrong)
        there = {plugin.registration.name for plugin in self._plugins.list}
        if wanted.name not in there and len(there) >= NOTIFIERS_MAX:
            await context.abort(_PRECONDITION, f"At most {NOTIFIERS_MAX} notifiers are called.")
        if any(p.registration.of_settings and p.label == wanted.name for p in self._plugins.list):
            await context.abort(_PRECONDITION, "A notifier of the settings has that name.")
        try:
            shown_to(wanted, self._trust)
            await self._etcd.put(self._keys.registered(NOTIFIERS, wanted.name), encode(wanted))
        except SettingError as error:
            await context.abort(_PRECONDITION, str(error))
        except Fault as fault:
            await abort(context, fault)
        log.info("notifier_registered", plugin=wanted.name)
        return pb.AddNotifierResponse()

    async def RemoveNotifier(
        self, request: pb.RemoveNotifierRequest, context: Context
    ) -> pb.RemoveNotifierResponse:
        if wrong := name_fault(request.name):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, wrong)
        key = self._keys.registered(NOTIFIERS, request.name)
        try:
            removed = await self._etcd.get(key) is not None
            await self._etcd.delete(key)
        except Fault as fault:
            await abort(context, fault)
        if removed:
            log.info("notifier_removed", plugin=request.name)
        return pb.RemoveNotifierResponse(removed=removed)

    # -- extensions ---------------------------------------------------------------------------

    async def ListExtensions(
        self, request: pb.ListExtensionsRequest, context: Context
    ) -> pb.ListExtensionsResponse:
        extensions = await self._other_half(context)
        return await extensions.ListExtensions(request, context)

    async def AddExtension(
        self, request: pb.AddExtensionRequest, context: Context
    ) -> pb.AddExtensionResponse:
        extensions = await self._other_half(context)
        return await extensions.AddExtension(request, context)

    async def RemoveExtension(
        self, request: pb.RemoveExtensionRequest, context: Context
    ) -> pb.RemoveExtensionResponse:
        extensions = await self._other_half(context)
        return await extensions.RemoveExtension(request, context)

    async def _other_half(self, context: Context) -> ExtensionsRegistry:
        if self._extensions is None:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED, "this presence service has no extensions"
            )
            raise AssertionError("abort always raises")
        return self._extensions


def _notifier(plugin: Plugin, hidden: Mapping[str, str]) -> pb.RegisteredNotifier:
    """`hidden`: channels that another gets, and its name."""
    one = plugin.registration
    return pb.RegisteredNotifier(
        name=one.name,
        address=pb.PluginAddress(address=one.address, plain=one.plain, server_name=one.server_name),
        channels=one.channels,
        of_settings=one.of_settings,
        connected=plugin.connected.is_set(),
        health=plugin.health,
        served=plugin.description.served if plugin.description else (),
        shadowed=[
            pb.ShadowedChannel(channel=channel, by=by) for channel, by in sorted(hidden.items())
        ],
    )
