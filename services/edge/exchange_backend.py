"""What the HTTP API asks, answered by the exchange and the other services.

Knows no HTTP.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.message import Message
from onward.client.v1 import client_pb2
from onward.presence.v1 import presence_pb2
from onward.types.v1 import refusal_pb2

from services.chassis.refusals import Code, Refusal, refuse
from services.edge.backend import Accepted, Draining, History
from services.edge.cluster_status import Picture
from services.edge.exchange import Exchange
from services.edge.publishing import publish_refusal
from services.edge.rates import Rates
from services.edge.readers import Readers


class ExchangeBackend:
    """Implements `backend.Backend`."""

    def __init__(self, exchange: Exchange, readers: Readers) -> None:
        self._exchange = exchange
        self._readers = readers
        self.rates = Rates(exchange.limits.http)

    async def publish(
        self, publisher: str, publish: client_pb2.Publish
    ) -> Accepted | refusal_pb2.Refusal:
        if refusal := publish_refusal(publish, self._exchange.limits.session):
            return refusal
        if wait_ms := self.rates.take(publisher, asyncio.get_running_loop().time()):
            return refuse(Code.RATE_LIMITED, "This user publishes too fast.", wait_ms)
        outcome: asyncio.Future[client_pb2.Published | Refusal] = (
            asyncio.get_running_loop().create_future()
        )

        def answer(told: client_pb2.Published | Refusal) -> None:
            if not outcome.done():  # the caller may have gone
                outcome.set_result(told)

        self._exchange.publish(publisher, publish, answer)
        told = await outcome
        if isinstance(told, Refusal):
            return told
        return Accepted(told.seq, told.epoch, told.duplicate)

    async def read_messages(
        self, subject: str, after_seq: int, limit: int
    ) -> History | refusal_pb2.Refusal:
        if not self._exchange.hub.partitions:
            return refuse(Code.UNAVAILABLE, "This edge is starting.", 500)
        partition = self._exchange.hub.partition(subject)
        response = await self._readers.messages(partition, subject, after_seq, limit)
        if isinstance(response, Refusal):
            return response
        messages = [delivery.message for delivery in response.messages]
        return History(messages, response.head, response.floor, response.log_id)

    async def explain(
        self, request: presence_pb2.ExplainRequest
    ) -> presence_pb2.ExplainResponse | refusal_pb2.Refusal:
        return await self._readers.explain(request)

    def watch_story(
        self, request: presence_pb2.ExplainRequest
    ) -> AsyncIterator[presence_pb2.ExplainResponse | refusal_pb2.Refusal]:
        return self._readers.watch_story(request)

    async def ask_registry(self, method: str, request: Any) -> Any:
        return await self._readers.ask_registry(method, request)

    async def ask_deliveries(self, method: str, request: Any) -> Any:
        return await self._readers.ask_deliveries(method, request)

    async def presence(
        self, request: presence_pb2.GetPresenceRequest
    ) -> presence_pb2.GetPresenceResponse | refusal_pb2.Refusal:
        return await self._readers.presence(request)

    def watch_presence(
        self, request: presence_pb2.GetPresenceRequest
    ) -> AsyncIterator[presence_pb2.GetPresenceResponse | refusal_pb2.Refusal]:
        return self._readers.watch_presence(request)

    async def users(self, method: str, user: str, request: Message) -> Any:
        return await self._readers.users(method, user, request)

    async def picture(self) -> Picture:
        return await self._readers.members.picture()

    async def drain(self, member: str) -> Draining | refusal_pb2.Refusal:
        return await self._readers.members.drain(member)
