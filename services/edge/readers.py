"""Asks other services what an edge does not hold: messages of the log, stories, lost endpoints.

Knows who answers which question, and how long to wait; must not know who asked. Every call has a
deadline; what nobody answered is a refusal.
"""

from collections.abc import Sequence
from typing import Any, Final

import grpc
import grpc.aio
from onward.coordinator.v1 import coordinator_pb2, coordinator_pb2_grpc
from onward.presence.v1 import presence_pb2, presence_pb2_grpc

from services.chassis import logs
from services.chassis.channel import open_channel
from services.chassis.cluster import Directory
from services.chassis.refusals import Code, Refusal, refuse

_READ_S: Final = 2.0
_EXPLAIN_S: Final = 5.0
_GONE_S: Final = 0.5  # a connect waits for it
_COORDINATORS_ASKED: Final = 2
log = logs.get(__name__)


class Readers:
    """Channels to coordinators and presence, opened when needed."""

    def __init__(self, directory: Directory, secret: str) -> None:
        self._directory = directory
        self._secret = secret
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def messages(
        self, partition: int, subject: str, after_seq: int, limit: int
    ) -> coordinator_pb2.ReadMessagesResponse | Refusal:
        """Messages of a subject, from its owner if it is there, else from any coordinator."""
        request = coordinator_pb2.ReadMessagesRequest(
            subject=subject, after_seq=after_seq, limit=limit
        )
        addresses = list(self._directory.coordinators.values())
        if (owner := self._directory.owner(partition)) is not None:
            addresses = [owner.address, *(one for one in addresses if one != owner.address)]
        for address in addresses[:_COORDINATORS_ASKED]:
            stub = coordinator_pb2_grpc.CoordinatorServiceStub(self._channel(address))
            try:
                response: coordinator_pb2.ReadMessagesResponse = await stub.ReadMessages(
                    request, timeout=_READ_S
                )
                return response
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                    return refuse(Code.ARGUMENT_INVALID, "The log cannot be read so.")
                log.warning("read_failed", status=error.code().name)
        return refuse(Code.UNAVAILABLE, "No coordinator can read the log now.", 1000)

    async def explain(
        self, request: presence_pb2.ExplainRequest
    ) -> presence_pb2.ExplainResponse | Refusal:
        """The story of a user's messages."""
        answer: presence_pb2.ExplainResponse | Refusal = await self._ask_presence(
            "Explain", request, _EXPLAIN_S
        )
        return answer

    async def gone_endpoints(self, user: str, client_id: str) -> Sequence[str]:
        """External tokens reported gone; none if presence does not answer quickly."""
        request = presence_pb2.ListGoneEndpointsRequest(user=user, client_id=client_id)
        answer = await self._ask_presence("ListGoneEndpoints", request, _GONE_S)
        return () if isinstance(answer, Refusal) else tuple(answer.uris)

    async def close(self) -> None:
        """Ends all calls."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    async def _ask_presence(self, method: str, request: Any, deadline_s: float) -> Any:
        address = self._directory.presence_address()
        if address is None:
            return refuse(Code.UNAVAILABLE, "No presence service is there.", 1000)
        stub = presence_pb2_grpc.PresenceQueryServiceStub(self._channel(address))
        try:
            return await getattr(stub, method)(request, timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                return refuse(Code.ARGUMENT_INVALID, "Presence cannot answer that.")
            return refuse(Code.UNAVAILABLE, "The presence service does not answer.", 1000)

    def _channel(self, address: str) -> grpc.aio.Channel:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = open_channel(address, self._secret)
        return channel
