"""The extension: takes what presence tells, and pushes messages to those who are offline.

A call that cannot be done now is not answered: presence makes it again, and what was done of it is
remembered. So a message is pushed to each token once, unless this program dies between a push and
its note of it; then the push carries the same tag, and takes the place of the first on the screen.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import grpc
from memory import Memory
from offline import Client, Event
from onward.extension.v1 import extension_pb2, extension_pb2_grpc

SCHEME = "fcm:"
PUSHES_MAX = 20  # at a time, of one message
BODY_CHARACTERS_MAX = 500
# A message that was accepted longer ago is passed over: nobody is to be rung up for it any more,
# and where pushes must wait (a wrong key, FCM is away) it no longer holds up those behind it.
AGE_MAX_S = 3_600.0

log = logging.getLogger("fcm-chat")


class Outcome(Enum):
    """What became of a push."""

    SENT = "sent"
    GONE = "gone"  # the token is nobody's any more
    DROPPED = "dropped"  # this push can never be taken
    LATER = "later"  # try again


@dataclass(frozen=True)
class Push:
    """What is shown. `tag`: two with the same one are the same."""

    title: str
    body: str
    tag: str
    data: dict[str, str]


class Sender(Protocol):
    """Pushes to one token of the provider's."""

    async def send(self, token: str, push: Push) -> Outcome: ...


class ChatExtension(extension_pb2_grpc.PresenceExtensionServiceServicer):
    """The calls of the contract."""

    def __init__(self, memory: Memory, sender: Sender) -> None:
        self._memory = memory
        self._sender = sender

    async def OnUserPresence(self, request, context):
        """Notes who is there."""
        events = [(one.position.number, one.user, event_of(one)) for one in request.events]
        if request.events:
            self._memory.take(request.events[0].position.partition, events)
        return extension_pb2.OnUserPresenceResponse()

    async def OnClusterMessage(self, request, context):
        """Pushes each message to those who follow its subject and are offline."""
        for told in request.messages:
            partition, number = told.position.partition, told.position.number
            if number <= self._memory.position(partition):
                continue  # A repeat.
            message = told.message
            if age_s(message, time.time()) > AGE_MAX_S:
                log.warning("passed over %d of partition %d: too old", number, partition)
                self._memory.done(partition, number)
                continue
            tokens = self._memory.tokens_for(message.subject, message.publisher)
            tokens = [one.removeprefix(SCHEME) for one in tokens if one.startswith(SCHEME)]
            left = self._memory.left(partition, number, tokens)
            if not await self._push(partition, number, left, push_of(message, partition, number)):
                await context.abort(grpc.StatusCode.UNAVAILABLE, "some pushes must wait")
            self._memory.done(partition, number)
        return extension_pb2.OnClusterMessageResponse()

    async def OnGap(self, request, context):
        """What was lost was lost; what is known of these users may be wrong."""
        log.warning(
            "lost %d to %d of partition %d",
            request.from_number, request.to_number, request.partition,
        )  # fmt: skip
        self._memory.lose(request.partition, request.to_number)
        return extension_pb2.OnGapResponse()

    async def _push(self, partition: int, number: int, tokens: Sequence[str], push: Push) -> bool:
        """Push to each; False: some must wait."""
        room = asyncio.Semaphore(PUSHES_MAX)

        async def one(token: str) -> Outcome:
            async with room:
                outcome = await self._sender.send(token, push)
            if outcome is Outcome.GONE:
                self._memory.lost(token)
            elif outcome is not Outcome.LATER:
                self._memory.pushed(partition, number, token)
            return outcome

        outcomes = await asyncio.gather(*(one(token) for token in tokens))
        return Outcome.LATER not in outcomes


def event_of(told) -> Event:
    """What matters here of a `UserPresence`."""
    client = Client(told.generation, told.client_offline, tuple(told.subjects))
    return Event(told.client_id, client, tuple(told.external_tokens), told.is_offline)


def age_s(message, now: float) -> float:
    """How long ago it was accepted; 0 where it does not say."""
    accepted_at = message.accepted_at
    if not message.HasField("accepted_at"):
        return 0.0
    return now - (accepted_at.seconds + accepted_at.nanos / 1e9)


def push_of(message, partition: int, number: int) -> Push:
    """What is shown of a message."""
    text = message.content.text
    body = text if len(text) <= BODY_CHARACTERS_MAX else text[: BODY_CHARACTERS_MAX - 1] + "…"
    return Push(
        title=message.content.headers.get("title") or message.publisher,
        body=body or "A new message",
        tag=f"{partition}-{number}",
        data={"subject": message.subject, "seq": str(message.seq)},
    )
