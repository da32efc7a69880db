"""The gRPC face of presence for operators of extensions: list, add, remove.

A registration is two things: positions in the store, from which on happenings are written, and a
key in etcd, by which every replica learns whom to tell. The positions come first and go last: so
whatever happens after AddExtension has answered is told, and a call that ended half-way is simply
made again. Any replica answers, whether or not it owns anything.

Knows the contract; `keep(name, value)` and `forget(name)` write the key in etcd, and raise
Unavailable.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from onward.presence.v1 import registry_pb2

from services.chassis import logs
from services.chassis.errors import Fault
from services.presence.extensions import Registration, registered_value
from services.presence.registry import name_fault
from services.presence.servicer import abort
from services.presence.store import Store, Transaction
from services.presence.tellers import Tellers

log = logs.get(__name__)
Context = grpc.aio.ServicerContext[Any, Any]

# Every happening is told to each of them; more are not registered.
EXTENSIONS_MAX = 20
_BEHIND_MAX = 100_000
_NO_KEY = "etcd does not say where it is; add it again, or remove it"


class ExtensionsRegistry:
    """Serves the calls of `RegistryService` about extensions."""

    def __init__(
        self,
        store: Store,
        tellers: Tellers,
        keep: Callable[[str, str], Awaitable[None]],
        forget: Callable[[str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._tellers = tellers
        self._keep = keep
        self._forget = forget

    async def ListExtensions(
        self, request: registry_pb2.ListExtensionsRequest, context: Context
    ) -> registry_pb2.ListExtensionsResponse:
        try:
            behind = await self._store.read(lambda tx: tx.extensions_behind())
        except Fault as fault:
            await abort(context, fault)
        known = {one.name: one for one in self._tellers.registrations}
        told = self._tellers.extensions
        response = registry_pb2.ListExtensionsResponse()
        for name in sorted({*known, *behind}):
            registration = known.get(name) or Registration(name, "")
            fault_now = told[name].fault if name in told else ""
            response.extensions.add(
                name=name,
                address=registry_pb2.PluginAddress(
                    address=registration.address,
                    plain=registration.plain,
                    server_name=registration.server_name,
                ),
                subjects=registration.subjects,
                behind=min(behind.get(name, 0), _BEHIND_MAX),
                fault=fault_now if name in known else _NO_KEY,
            )
        return response

    async def AddExtension(
        self, request: registry_pb2.AddExtensionRequest, context: Context
    ) -> registry_pb2.AddExtensionResponse:
        at = request.address
        registration = Registration(
            request.name, at.address, at.plain, at.server_name, tuple(request.subjects)
        )
        if wrong := registration.fault():
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, wrong)

        def register(tx: Transaction) -> bool:
            known = tx.extensions_behind()
            if registration.name not in known and len(known) >= EXTENSIONS_MAX:
                return False
            tx.register_extension(registration.name)
            return True

        try:
            if not await self._store.write(register):
                full = f"There are {EXTENSIONS_MAX} extensions already; remove one first."
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, full)
            await self._keep(registration.name, json.dumps(registered_value(registration)))
        except Fault as fault:
            await abort(context, fault)
        log.info("extension_added", extension=registration.name)
        return registry_pb2.AddExtensionResponse()

    async def RemoveExtension(
        self, request: registry_pb2.RemoveExtensionRequest, context: Context
    ) -> registry_pb2.RemoveExtensionResponse:
        if wrong := name_fault(request.name):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, wrong)
        try:
            await self._forget(request.name)
            removed = await self._store.write(lambda tx: tx.forget_extension(request.name))
        except Fault as fault:
            await abort(context, fault)
        log.info("extension_removed", extension=request.name, removed=removed)
        return registry_pb2.RemoveExtensionResponse(removed=removed)
