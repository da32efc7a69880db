"""Reads the log store through any live coordinator.

Knows the addresses of coordinators, given by a function, and their two read calls; `at` asks one of
them anything else. A read is
tried at each coordinator once, then raises `Unavailable`. What it returns was read from the store,
never from a process's memory.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio
from onward.coordinator.v1 import coordinator_pb2, coordinator_pb2_grpc

from services.chassis.channel import open_channel
from services.chassis.errors import LogReplaced, Unavailable
from services.chassis.tls import Trust

R = TypeVar("R")
if TYPE_CHECKING:
    Stub = coordinator_pb2_grpc.CoordinatorServiceAsyncStub

_READ_MESSAGES_MAX = 1_000
_BYTES_MAX = 1024 * 1024
_TAILS_MAX = 1_024


class Unanswered(Exception):
    """A coordinator has not answered, for the reason `status`."""

    def __init__(self, status: grpc.StatusCode) -> None:
        super().__init__(status.name)
        self.status = status


class LogReader:
    """Reads messages and tails. `addresses()` tells where coordinators are now."""

    def __init__(
        self, addresses: Callable[[], Sequence[str]], trust: Trust | str, deadline_s: float
    ) -> None:
        self._addresses = addresses
        self._trust = trust
        self._deadline_s = deadline_s
        self._channels: dict[str, grpc.aio.Channel] = {}
        # The log that presence belongs to; empty: any. Reads of another are refused.
        self.log_id = ""
        # The last read failed at every coordinator.
        self.unreadable = False

    async def messages(
        self, subject: str, after_seq: int, limit: int, bytes_max: int = _BYTES_MAX
    ) -> coordinator_pb2.ReadMessagesResponse:
        """Messages of a subject above `after_seq`, its head and its floor."""
        request = coordinator_pb2.ReadMessagesRequest(
            subject=subject,
            after_seq=after_seq,
            limit=min(limit, _READ_MESSAGES_MAX),
            bytes_max=bytes_max,
        )

        async def read(stub: "Stub") -> coordinator_pb2.ReadMessagesResponse:
            return await stub.ReadMessages(request, timeout=self._deadline_s)

        response = await self._anywhere(read)
        self._check_log(response.log_id)
        return response

    async def tails(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """The last committed pos of each partition; everything committed before is below."""
        tails: dict[int, int] = {}
        for start in range(0, len(partitions), _TAILS_MAX):
            tails |= await self._tails(partitions[start : start + _TAILS_MAX])
        return tails

    async def close(self) -> None:
        """Close all channels."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    async def _tails(self, partitions: Sequence[int]) -> dict[int, int]:
        request = coordinator_pb2.ReadTailsRequest(partitions=partitions)

        async def read(stub: "Stub") -> coordinator_pb2.ReadTailsResponse:
            return await stub.ReadTails(request, timeout=self._deadline_s)

        response = await self._anywhere(read)
        self._check_log(response.log_id)
        return {tail.partition: tail.pos for tail in response.tails}

    async def _anywhere(self, read: "Callable[[Stub], Awaitable[R]]") -> R:
        addresses = self._addresses()
        await self._forget_all_but(addresses)
        for address in addresses:
            try:
                response = await self.at(address, read)
                self.unreadable = False
                return response
            except Unanswered as error:
                failed = error.status
        self.unreadable = True
        if not addresses:
            raise Unavailable("no coordinator is there to read the log")
        raise Unavailable(f"no coordinator could read the log (the last said {failed.name})")

    async def at(self, address: str, ask: "Callable[[Stub], Awaitable[R]]") -> R:
        """What the coordinator at `address` answers. Raises Unanswered."""
        try:
            return await ask(self._stub(address))
        except grpc.aio.AioRpcError as error:
            raise Unanswered(error.code()) from None
        except asyncio.CancelledError:
            # Another read closed the channel, because that coordinator is gone; gRPC then
            # cancels the calls on it. Only a cancel of this very task may end the task.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Unanswered(grpc.StatusCode.CANCELLED) from None

    def _stub(self, address: str) -> "Stub":
        if address not in self._channels:
            self._channels[address] = open_channel(address, self._trust)
        # Typed for aio by the stubs' declarations alone: at run time there is one class.
        return coordinator_pb2_grpc.CoordinatorServiceStub(self._channels[address])

    async def _forget_all_but(self, addresses: Sequence[str]) -> None:
        for address in [known for known in self._channels if known not in addresses]:
            await self._channels.pop(address).close()

    def _check_log(self, log_id: str) -> None:
        if self.log_id and log_id != self.log_id:
            raise LogReplaced("the log is another one than presence knows; an operator must decide")
