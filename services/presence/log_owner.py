"""Asks the owner of a user's log to end what the user's clients follow, or to forget them.

What a coordinator keeps of a client decides what the client follows when it returns, so follows of
clients end there, by an entry that presence then takes like every other. What the owner answers is
durable, and says where in the log it stands.

Knows who owns a partition, by a function, and the two calls. A call is repeated, with its id, while
ownership moves. Must not know presence's store. To drive it: await its calls; they raise
Unavailable, after which the outcome is unknown and the same may be asked again.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from onward.coordinator.v1 import coordinator_pb2

from services.chassis.errors import Unavailable
from services.chassis.subjects import partition_of
from services.presence.log_reader import LogReader, Unanswered

if TYPE_CHECKING:
    from services.presence.log_reader import Stub

R = TypeVar("R")

# Longer than the sessions of a user who is forgotten are given to end.
_CALL_S = 5.0
_AGAIN_S = 0.1
# About what it takes until another has the partitions of a coordinator that died.
_WAIT_S = 6.0


@dataclass(frozen=True, slots=True)
class Ended:
    """It is in the log of the partition, up to `pos`. `follows`: how many were ended."""

    partition: int
    pos: int
    follows: int = 0


class LogOwner:
    """`owner(partition)` tells the address of the coordinator that owns it; None: nobody, now.
    `wait_s`: how long somebody is looked for who answers as the owner."""

    def __init__(
        self,
        reader: LogReader,
        owner: Callable[[int], str | None],
        partitions: int,
        wait_s: float = _WAIT_S,
    ) -> None:
        self._reader = reader
        self._owner = owner
        self._partitions = partitions
        self._wait_s = wait_s

    async def end_follows(self, user: str, subjects: Sequence[str]) -> Ended:
        """Ends the follows of the user's clients, of these subjects or (none given) of all."""
        request = coordinator_pb2.EndFollowsRequest(
            call_id=uuid.uuid4().hex, user=user, subjects=subjects
        )

        async def ask(stub: "Stub") -> coordinator_pb2.EndFollowsResponse:
            return await stub.EndFollows(request, timeout=_CALL_S)

        answer = await self._ask(user, ask)
        return Ended(answer.partition, answer.pos, answer.ended)

    async def forget(self, user: str) -> Ended:
        """Logs out the user's clients, and has the log's owner forget them."""
        request = coordinator_pb2.ForgetUserRequest(user=user)

        async def ask(stub: "Stub") -> coordinator_pb2.ForgetUserResponse:
            return await stub.ForgetUser(request, timeout=_CALL_S)

        answer = await self._ask(user, ask)
        return Ended(answer.partition, answer.pos)

    async def _ask(self, user: str, ask: "Callable[[Stub], Awaitable[R]]") -> R:
        partition = partition_of(user, self._partitions)
        clock = asyncio.get_running_loop()
        until = clock.time() + self._wait_s
        while True:
            address = self._owner(partition)
            if address is not None:
                try:
                    return await self._reader.at(address, ask)
                except Unanswered:
                    pass  # ownership may be moving, and the next answer be another's
            if clock.time() >= until:
                raise Unavailable("the owner of the user's log does not answer; try again")
            await asyncio.sleep(_AGAIN_S)
