"""The gRPC face of presence for edges and operators: what became of messages, who is there, how it
stands.

Knows the contract and maps faults to statuses; the answers are those of `stories`, `audience` and
`status`.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
from onward.presence.v1 import presence_pb2, presence_pb2_grpc

from services.chassis import logs
from services.chassis.errors import Fault
from services.chassis.subjects import name_fault, subject_fault
from services.presence.audience import Audience
from services.presence.servicer import abort
from services.presence.status import Status
from services.presence.store import Store
from services.presence.stories import Stories

log = logs.get(__name__)
Context = grpc.aio.ServicerContext[Any, Any]

# What every store can hold; no subject comes near.
_SEQ_MAX = (1 << 63) - 1
_ENDING = "this presence service is ending"


class PresenceQueryServicer(presence_pb2_grpc.PresenceQueryServiceServicer):
    """Answers questions, and ends its process when asked.

    `drain()` begins that end, and tells how many seconds it may take.
    """

    def __init__(
        self,
        store: Store,
        stories: Stories,
        audience: Audience,
        status: Status,
        drain: Callable[[], float],
    ) -> None:
        self._store = store
        self._stories = stories
        self._audience = audience
        self._status = status
        self._drain = drain

    async def Explain(
        self, request: presence_pb2.ExplainRequest, context: Context
    ) -> presence_pb2.ExplainResponse:
        await _check(request, context)
        try:
            return await self._stories.story(request)
        except Fault as fault:
            await abort(context, fault)

    async def WatchStory(
        self, request: presence_pb2.WatchStoryRequest, context: Context
    ) -> AsyncIterator[presence_pb2.WatchStoryResponse]:
        await _check(request.question, context)
        try:
            async with aclosing(self._stories.watch(request.question)) as stories:
                async for story in stories:
                    yield presence_pb2.WatchStoryResponse(story=story)
        except Fault as fault:
            await abort(context, fault)
        await context.abort(grpc.StatusCode.UNAVAILABLE, _ENDING)

    async def GetPresence(
        self, request: presence_pb2.GetPresenceRequest, context: Context
    ) -> presence_pb2.GetPresenceResponse:
        await _check_presence(request, context)
        try:
            return await self._audience.presence(request)
        except Fault as fault:
            await abort(context, fault)

    async def WatchPresence(
        self, request: presence_pb2.WatchPresenceRequest, context: Context
    ) -> AsyncIterator[presence_pb2.WatchPresenceResponse]:
        await _check_presence(request.question, context)
        try:
            async with aclosing(self._audience.watch(request.question)) as presences:
                async for presence in presences:
                    yield presence_pb2.WatchPresenceResponse(presence=presence)
        except Fault as fault:
            await abort(context, fault)
        await context.abort(grpc.StatusCode.UNAVAILABLE, _ENDING)

    async def ListGoneEndpoints(
        self, request: presence_pb2.ListGoneEndpointsRequest, context: Context
    ) -> presence_pb2.ListGoneEndpointsResponse:
        try:
            uris = await self._store.read(
                lambda tx: tx.gone_endpoints(request.user, request.client_id)
            )
        except Fault as fault:
            await abort(context, fault)
        return presence_pb2.ListGoneEndpointsResponse(uris=uris)

    async def GetStatus(
        self, request: presence_pb2.GetStatusRequest, context: Context
    ) -> presence_pb2.GetStatusResponse:
        try:
            return await self._status.response()
        except Fault as fault:
            await abort(context, fault)

    async def Drain(
        self, request: presence_pb2.DrainRequest, context: Context
    ) -> presence_pb2.DrainResponse:
        log.info("drain_asked")
        return presence_pb2.DrainResponse(at_most_ms=round(self._drain() * 1000))


async def _check(question: presence_pb2.ExplainRequest, context: Context) -> None:
    wrong = name_fault(question.user) or subject_fault(question.subject)
    if not wrong and question.seq > _SEQ_MAX:
        wrong = f"A seq is at most {_SEQ_MAX}."
    if wrong:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, wrong)


async def _check_presence(question: presence_pb2.GetPresenceRequest, context: Context) -> None:
    of = question.WhichOneof("of")
    wrong: str | None = "A subject or a user is required."
    if of == "subject":
        wrong = subject_fault(question.subject)
        if question.after_user:
            wrong = wrong or name_fault(question.after_user)
    elif of == "user":
        wrong = name_fault(question.user)
    if wrong:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, wrong)
