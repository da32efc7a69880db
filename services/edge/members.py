"""Asks every live member of the cluster how it stands, and one to end.

Knows the directory and gRPC; must not know what is made of the answers. Each member is given
`_DEADLINE_S`, all at once; who does not answer is part of the picture. However many ask at a time,
the members are asked once: the others share the answer.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import grpc
import grpc.aio
from onward.coordinator.v1 import coordinator_pb2, coordinator_pb2_grpc
from onward.edge.v1 import edge_pb2, edge_pb2_grpc
from onward.presence.v1 import presence_pb2, presence_pb2_grpc

from services.chassis import logs
from services.chassis.channel import open_channel
from services.chassis.cluster import Directory
from services.chassis.refusals import Code, Refusal, refuse
from services.chassis.tls import Trust
from services.edge.backend import Draining
from services.edge.cluster_status import Member, Picture
from services.edge.naming import Named, the_one

_DEADLINE_S: Final = 1.5
_DRAIN_DEADLINE_S: Final = 5.0
_NO_ADDRESS: Final = "NO_ADDRESS"
# Service → its stub, and what to ask it.
_QUESTIONS: Final[Mapping[str, tuple[Any, Any]]] = {
    "coordinator": (
        coordinator_pb2_grpc.CoordinatorServiceStub,
        coordinator_pb2.GetStatusRequest(),
    ),
    "presence": (presence_pb2_grpc.PresenceQueryServiceStub, presence_pb2.GetStatusRequest()),
    "edge": (edge_pb2_grpc.EdgeServiceStub, edge_pb2.GetStatusRequest()),
}
_DRAINS: Final[Mapping[str, tuple[Any, Any]]] = {
    "coordinator": (
        coordinator_pb2_grpc.CoordinatorServiceStub,
        coordinator_pb2.DrainRequest(),
    ),
    "presence": (presence_pb2_grpc.PresenceQueryServiceStub, presence_pb2.DrainRequest()),
    "edge": (edge_pb2_grpc.EdgeServiceStub, edge_pb2.DrainRequest()),
}
log = logs.get(__name__)


class Members:
    """The cluster as an operator sees it. Close it when done."""

    def __init__(
        self, directory: Directory, trust: Trust | str, deadline_s: float = _DEADLINE_S
    ) -> None:
        self._directory = directory
        self._trust = trust
        self._deadline_s = deadline_s
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._asking: asyncio.Task[Picture] | None = None

    async def picture(self) -> Picture:
        """What every live member says now, within the deadline of one."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(self._asked)
        # Who goes away must not take the answer from the others.
        return await asyncio.shield(self._asking)

    async def drain(self, text: str) -> Draining | Refusal:
        """Has the member that `text` means end in peace."""
        meant = the_one(text, self._named())
        if isinstance(meant, Refusal):
            return meant
        stub, request = _DRAINS[meant.service]
        try:
            answer = await stub(self._channel(meant.address)).Drain(
                request, timeout=_DRAIN_DEADLINE_S
            )
        except grpc.aio.AioRpcError as error:
            status = error.code().name
            return refuse(Code.UNAVAILABLE, f"That member does not answer ({status}).", 1_000)
        log.info("drain_begun", name=meant.name, address=meant.address)
        return Draining(meant.service, meant.name, meant.address, answer.at_most_ms)

    def _named(self) -> list[Named]:
        directory = self._directory
        servers = directory.edge_servers
        return [
            *(Named("coordinator", *one) for one in directory.coordinators.items()),
            *(Named("presence", *one) for one in directory.presences.items()),
            *(
                Named("edge", str(edge_id), servers.get(edge_id, ""), address)
                for edge_id, address in directory.edges.items()
            ),
        ]

    async def close(self) -> None:
        """Ends all calls."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    def _asked(self, task: asyncio.Task[Picture]) -> None:
        self._asking = None

    async def _ask(self) -> Picture:
        directory = self._directory
        partitions, claims = directory.partitions, dict(directory.claims)
        presence_claims = dict(directory.presence_claims)
        servers = directory.edge_servers
        members = await asyncio.gather(
            *(self._member("coordinator", *one) for one in directory.coordinators.items()),
            *(self._member("presence", *one) for one in directory.presences.items()),
            *(
                self._edge(edge_id, servers.get(edge_id, ""), address)
                for edge_id, address in directory.edges.items()
            ),
        )
        await self._forget_absent({member.address for member in members})
        return Picture(partitions, claims, presence_claims, members)

    async def _edge(self, edge_id: int, address: str, client_address: str) -> Member:
        draining = edge_id in self._directory.draining_edges
        found = await self._member("edge", str(edge_id), address)
        return replace(found, client_address=client_address, draining=draining)

    async def _member(self, service: str, name: str, address: str) -> Member:
        if not address:
            return Member(service, name, address, _NO_ADDRESS)
        stub, question = _QUESTIONS[service]
        try:
            said = await stub(self._channel(address)).GetStatus(question, timeout=self._deadline_s)
        except grpc.aio.AioRpcError as error:
            said = error.code().name
        return Member(service, name, address, said)

    def _channel(self, address: str) -> grpc.aio.Channel:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = open_channel(address, self._trust)
        return channel

    async def _forget_absent(self, addresses: set[str]) -> None:
        for address in self._channels.keys() - addresses:
            await self._channels.pop(address).close()
