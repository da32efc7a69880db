"""Asks other services what an edge does not hold: messages of the log, stories, lost endpoints.

Knows who answers which question, and how long to wait; must not know who asked. Every call but a
watch has a deadline; what nobody answered is a refusal.

Any presence replica answers, from the store that all share. The one that owns the user's partition
is preferred, because it hears first of what changes; one that failed lately is asked last.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import Message
from onward.coordinator.v1 import coordinator_pb2, coordinator_pb2_grpc
from onward.presence.v1 import (
    deliveries_pb2_grpc,
    presence_pb2,
    presence_pb2_grpc,
    registry_pb2_grpc,
    users_pb2_grpc,
)

from services.chassis import logs
from services.chassis.channel import credentials, open_channel
from services.chassis.cluster import Directory, DirectoryChange
from services.chassis.refusals import Code, Refusal, refuse
from services.chassis.subjects import partition_of
from services.chassis.tls import Trust
from services.edge.members import Members

_READ_S: Final = 2.0
_EXPLAIN_S: Final = 5.0
_GONE_S: Final = 0.5  # a connect waits for it
_COORDINATORS_ASKED: Final = 2
_PRESENCES_ASKED: Final = 2
_REGISTRY_S: Final = 5.0  # it writes to the store and to etcd
_REGISTRY_REFUSES: Final = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
)
# Of deliveries, by method: how long each may take; the others as the first.
_DELIVERIES_S: Final = 5.0
_DELIVERIES_LONGER_S: Final = {
    "ReplayDeadLetters": 25.0,
    "DropDeadLetters": 25.0,
    "SendTest": 25.0,
}
# Whoever asks twice sends twice.
_ASKED_ONCE: Final = ("SendTest",)
# A replica that failed is asked last for so long: about until the directory says if it is gone.
_AVOIDED_S: Final = 5.0
# What may take longer, since it is about many users, or waits for what is under way.
_SLOW: Final = frozenset({"AddFollows", "RemoveFollows", "Revoke", "EraseUser"})
_SLOW_S: Final = 60.0
# Which bound of a user's data a method can reach.
_BOUNDS: Final = {
    "AddFollows": Code.TOO_MANY_SUBSCRIPTIONS,
    "AddEndpoint": Code.TOO_MANY_EXTERNAL_TOKENS,
    "UpdateProfile": Code.ARGUMENT_INVALID,
    "Mute": Code.ARGUMENT_INVALID,
}
_NO_PRESENCE: Final = "No presence service is there."
_PRESENCE_SILENT: Final = "The presence service does not answer."
log = logs.get(__name__)


class Readers:
    """Channels to coordinators and presence, opened when needed; `members` asks how all stand."""

    def __init__(self, directory: Directory, trust: Trust | str) -> None:
        self.members = Members(directory, trust)
        self._directory = directory
        self._trust = trust
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._avoided: dict[str, float] = {}  # address of a presence replica → until when
        directory.on_change(self._on_change)

    def __len__(self) -> int:
        """Channels that are open."""
        return len(self._channels)

    async def messages(
        self, partition: int, subject: str, after_seq: int, limit: int
    ) -> coordinator_pb2.ReadMessagesResponse | Refusal:
        """Messages of a subject, from its owner if it is there, else from any coordinator."""
        request = coordinator_pb2.ReadMessagesRequest(
            subject=subject, after_seq=after_seq, limit=limit
        )
        answer: coordinator_pb2.ReadMessagesResponse | Refusal = await self._ask_coordinators(
            "ReadMessages", partition, request
        )
        return answer

    async def retained(
        self, partition: int, subject: str
    ) -> coordinator_pb2.ReadRetainedResponse | Refusal:
        """A subject's retained message, likewise."""
        request = coordinator_pb2.ReadRetainedRequest(subject=subject)
        answer: coordinator_pb2.ReadRetainedResponse | Refusal = await self._ask_coordinators(
            "ReadRetained", partition, request
        )
        return answer

    async def _ask_coordinators(self, method: str, partition: int, request: Any) -> Any:
        addresses = list(self._directory.coordinators.values())
        if (owner := self._directory.owner(partition)) is not None:
            addresses = [owner.address, *(one for one in addresses if one != owner.address)]
        for address in addresses[:_COORDINATORS_ASKED]:
            stub = coordinator_pb2_grpc.CoordinatorServiceStub(self._channel(address))
            try:
                return await getattr(stub, method)(request, timeout=_READ_S)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                    return refuse(Code.ARGUMENT_INVALID, "The log cannot be read so.")
                log.warning("read_failed", method=method, status=error.code().name)
            except asyncio.CancelledError:
                _raise_if_cancelled()
        return refuse(Code.UNAVAILABLE, "No coordinator can read the log now.", 1000)

    async def explain(
        self, request: presence_pb2.ExplainRequest
    ) -> presence_pb2.ExplainResponse | Refusal:
        """The story of a user's messages."""
        answer: presence_pb2.ExplainResponse | Refusal = await self._ask_presence(
            "Explain", request.user, request, _EXPLAIN_S
        )
        return answer

    async def presence(
        self, request: presence_pb2.GetPresenceRequest
    ) -> presence_pb2.GetPresenceResponse | Refusal:
        """Who is there."""
        key = request.user or request.subject
        answer: presence_pb2.GetPresenceResponse | Refusal = await self._ask_presence(
            "GetPresence", key, request, _EXPLAIN_S
        )
        return answer

    async def users(self, method: str, user: str, request: Message) -> Any:
        """What a method of `UserService` answers, or a refusal."""
        deadline_s = _SLOW_S if method in _SLOW else _EXPLAIN_S
        return await self._ask_presence(
            method, user, request, deadline_s, users_pb2_grpc.UserServiceStub
        )

    async def watch_story(
        self, question: presence_pb2.ExplainRequest
    ) -> AsyncIterator[presence_pb2.ExplainResponse | Refusal]:
        """The story now and after each change; it ends with the refusal that ended the watch."""
        request = presence_pb2.WatchStoryRequest(question=question)
        async with aclosing(self._watch("WatchStory", question.user, request)) as told:
            async for one in told:
                yield one if isinstance(one, Refusal) else one.story

    async def watch_presence(
        self, question: presence_pb2.GetPresenceRequest
    ) -> AsyncIterator[presence_pb2.GetPresenceResponse | Refusal]:
        """Who is there, likewise."""
        request = presence_pb2.WatchPresenceRequest(question=question)
        key = question.user or question.subject
        async with aclosing(self._watch("WatchPresence", key, request)) as told:
            async for one in told:
                yield one if isinstance(one, Refusal) else one.presence

    async def _watch(self, method: str, key: str, request: Message) -> AsyncGenerator[Any, None]:
        refusal = refuse(Code.UNAVAILABLE, _NO_PRESENCE, 1000)
        for address in self._presences(key):
            told = False
            stub = presence_pb2_grpc.PresenceQueryServiceStub(self._channel(address))
            call = getattr(stub, method)(request, metadata=credentials(self._trust))
            try:
                async for one in call:
                    told = True
                    yield one
                refusal = refuse(Code.UNAVAILABLE, _PRESENCE_SILENT, 1000)
            except grpc.aio.AioRpcError as error:
                refusal = _watch_refusal(error.code())
            except asyncio.CancelledError:
                _raise_if_cancelled()
                refusal = refuse(Code.UNAVAILABLE, _PRESENCE_SILENT, 1000)
            finally:
                call.cancel()
            if refusal.code == Code.UNAVAILABLE:
                self._avoid(address)
            # Who has told something is not followed by another, who may be behind it.
            if told or refusal.code != Code.UNAVAILABLE:
                break
        yield refusal

    async def gone_endpoints(self, user: str, client_id: str) -> Sequence[str]:
        """External tokens reported gone; none if presence does not answer quickly."""
        request = presence_pb2.ListGoneEndpointsRequest(user=user, client_id=client_id)
        answer = await self._ask_presence("ListGoneEndpoints", user, request, _GONE_S)
        return () if isinstance(answer, Refusal) else tuple(answer.uris)

    async def ask_registry(self, method: str, request: Any) -> Any:
        """Calls a method of presence's registry, on any replica; its answer, or a refusal. Each
        of them can be called again."""
        refusal = refuse(Code.UNAVAILABLE, _NO_PRESENCE, 1000)
        for address in self._presences(""):
            stub = registry_pb2_grpc.RegistryServiceStub(self._channel(address))
            try:
                return await getattr(stub, method)(request, timeout=_REGISTRY_S)
            except grpc.aio.AioRpcError as error:
                if error.code() in _REGISTRY_REFUSES:
                    # Presence's own words, about what an operator gave.
                    return refuse(Code.ARGUMENT_INVALID, error.details() or "It cannot be taken.")
                log.warning("registry_failed", method=method, status=error.code().name)
            except asyncio.CancelledError:
                _raise_if_cancelled()
            self._avoid(address)
            refusal = refuse(Code.UNAVAILABLE, _PRESENCE_SILENT, 1000)
        return refusal

    async def ask_deliveries(self, method: str, request: Any) -> Any:
        """Calls a method of presence's `DeliveryService`, on any replica; its answer, a refusal, or
        None for NOT_FOUND. What a replica that failed had begun may be begun again."""
        refusal = refuse(Code.UNAVAILABLE, _NO_PRESENCE, 1000)
        clock = asyncio.get_running_loop()
        until = clock.time() + _DELIVERIES_LONGER_S.get(method, _DELIVERIES_S)
        for address in self._presences(""):
            stub = deliveries_pb2_grpc.DeliveryServiceStub(self._channel(address))
            try:
                return await getattr(stub, method)(request, timeout=until - clock.time())
            except grpc.aio.AioRpcError as error:
                status, words = error.code(), error.details() or _PRESENCE_SILENT
                if status is grpc.StatusCode.NOT_FOUND:
                    return None
                if status is grpc.StatusCode.INVALID_ARGUMENT:
                    # Presence's own words, as those below.
                    return refuse(Code.ARGUMENT_INVALID, words)
                if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    return refuse(Code.STORE_FULL, words, 5000)
                if status is grpc.StatusCode.FAILED_PRECONDITION:
                    return refuse(Code.UNAVAILABLE, words)
                log.warning("deliveries_failed", method=method, status=status.name)
            except asyncio.CancelledError:
                _raise_if_cancelled()
            self._avoid(address)
            refusal = refuse(Code.UNAVAILABLE, _PRESENCE_SILENT, 1000)
            if method in _ASKED_ONCE or clock.time() >= until:
                break
        return refusal

    async def close(self) -> None:
        """Ends all calls."""
        await self.members.close()
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()
        for closing in self._closing:
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _ask_presence(
        self,
        method: str,
        key: str,
        request: Any,
        deadline_s: float,
        stub_of: Callable[[grpc.aio.Channel], Any] = presence_pb2_grpc.PresenceQueryServiceStub,
    ) -> Any:
        """The answer of who is asked first and answers; `key`: of whose partition."""
        refusal = refuse(Code.UNAVAILABLE, _NO_PRESENCE, 1000)
        clock = asyncio.get_running_loop()
        until = clock.time() + deadline_s
        for address in self._presences(key):
            stub = stub_of(self._channel(address))
            try:
                return await getattr(stub, method)(request, timeout=until - clock.time())
            except grpc.aio.AioRpcError as error:
                if final := _final_refusal(method, error):
                    return final
            except asyncio.CancelledError:
                _raise_if_cancelled()
            self._avoid(address)
            refusal = refuse(Code.UNAVAILABLE, _PRESENCE_SILENT, 1000)
            if clock.time() >= until:
                break
        return refusal

    def _presences(self, key: str) -> list[str]:
        """Whom to ask about a user or a subject, one after the other."""
        directory = self._directory
        now = asyncio.get_running_loop().time()
        self._avoided = {one: until for one, until in self._avoided.items() if until > now}
        owner = None
        if directory.partitions:
            owner = directory.presence_owner(partition_of(key, directory.partitions))
        first = owner.address if owner is not None else ""
        addresses = sorted(
            set(directory.presences.values()) - {""},
            key=lambda it: (it in self._avoided, it != first, it),
        )
        return addresses[:_PRESENCES_ASKED]

    def _avoid(self, address: str) -> None:
        self._avoided[address] = asyncio.get_running_loop().time() + _AVOIDED_S

    def _on_change(self, change: DirectoryChange) -> None:
        """Closes the channels to whoever is there no longer."""
        if not (change.coordinators or change.presences):
            return
        there = {*self._directory.coordinators.values(), *self._directory.presences.values()}
        for address in self._channels.keys() - there:
            # Calls under way end by their own deadlines; only a watch is cut off.
            closing = asyncio.create_task(self._channels.pop(address).close(_EXPLAIN_S))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _channel(self, address: str) -> grpc.aio.Channel:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = open_channel(address, self._trust)
        return channel


def _raise_if_cancelled() -> None:
    """Goes on cancelling, unless it was the call alone that ended, with its channel."""
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise


def _final_refusal(method: str, error: grpc.aio.AioRpcError) -> Refusal | None:
    """What every replica would say; None: another may do better."""
    words = error.details() or "Presence cannot answer that."
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return refuse(Code.ARGUMENT_INVALID, words)
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and method in _BOUNDS:
        return refuse(_BOUNDS[method], words)
    return None


def _watch_refusal(status: grpc.StatusCode) -> Refusal:
    if status is grpc.StatusCode.INVALID_ARGUMENT:
        return refuse(Code.ARGUMENT_INVALID, "Presence cannot answer that.")
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return refuse(Code.OVERLOADED, "Too many watch at the presence service.", 5000)
    return refuse(Code.UNAVAILABLE, _PRESENCE_SILENT, 1000)
