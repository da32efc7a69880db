"""The gRPC face of what became of deliveries: dead letters, tests, receipts, callbacks.

Knows the contract and maps faults to statuses; the work is that of `dead_letters`, `trial`,
`receiving` and `callbacks`.
"""

import re
from typing import Any

import grpc
import grpc.aio
from onward.presence.v1 import deliveries_pb2 as pb
from onward.presence.v1 import deliveries_pb2_grpc, presence_pb2

from services.chassis.channel_names import SCHEME
from services.chassis.errors import Fault
from services.chassis.subjects import name_fault
from services.presence.callbacks import Callbacks
from services.presence.dead_letters import DeadLetters
from services.presence.notifications import DEAD_REASONS, Delivery
from services.presence.receiving import EVENTS_MAX, Receiving
from services.presence.servicer import abort
from services.presence.store_deliveries import Which
from services.presence.store_outbox import Attempt
from services.presence.trial import TEXT_MAX, Trial, endpoint_fault

Context = grpc.aio.ServicerContext[Any, Any]

IDS_MAX = 1_000
_LIMIT_DEFAULT, _LIMIT_MAX = 100, 1_000
_USER_MAX = 255
# As they are made, and nothing that a person may take for one: who writes an id in capitals is told
# so, instead of that there is none, or of another being meant.
_LETTER_ID = re.compile("[0-9a-f]{32}")
_ID_SENTENCE = "is the id of a delivery as explain tells it: 32 hex digits in lower case."


class DeliveryServicer(deliveries_pb2_grpc.DeliveryServiceServicer):
    """Answers operators, plugins and edges."""

    def __init__(
        self, receiving: Receiving, letters: DeadLetters, trial: Trial, callbacks: Callbacks
    ) -> None:
        self._receiving = receiving
        self._letters = letters
        self._trial = trial
        self._callbacks = callbacks

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: Context
    ) -> pb.ListDeadLettersResponse:
        which = await _which(request.filter, request.after_id, context)
        if request.limit > _LIMIT_MAX:
            await _invalid(context, f"A page has at most {_LIMIT_MAX} dead letters.")
        try:
            found = await self._letters.page(
                which, request.after_id, request.limit or _LIMIT_DEFAULT
            )
        except Fault as fault:
            await abort(context, fault)
        return pb.ListDeadLettersResponse(
            letters=[_letter(one, found.last_attempts.get(one.id)) for one in found.letters],
            next_after_id=found.next_after_id,
        )

    async def GetDeadLetter(
        self, request: pb.GetDeadLetterRequest, context: Context
    ) -> pb.GetDeadLetterResponse:
        found = None
        if _LETTER_ID.fullmatch(request.delivery_id):
            try:
                found = await self._letters.get(request.delivery_id)
            except Fault as fault:
                await abort(context, fault)
        if found is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no dead letter of that id.")
        spans = found.spans
        return pb.GetDeadLetterResponse(
            letter=_letter(found.letter, found.attempts[-1] if found.attempts else None),
            attempts=[_attempt(one) for one in found.attempts],
            first_seq=spans[0].from_seq if spans else 0,
            last_seq=spans[-1].to_seq if spans else 0,
            count=sum(span.count for span in spans),
        )

    async def ReplayDeadLetters(
        self, request: pb.ReplayDeadLettersRequest, context: Context
    ) -> pb.ReplayDeadLettersResponse:
        which = await _required(request, context)
        try:
            done = await self._letters.replay(which, request.after_id)
        except Fault as fault:
            await abort(context, fault)
        return pb.ReplayDeadLettersResponse(
            replayed=done.moved, expired=done.expired, next_after_id=done.next_after_id
        )

    async def DropDeadLetters(
        self, request: pb.DropDeadLettersRequest, context: Context
    ) -> pb.DropDeadLettersResponse:
        which = await _required(request, context)
        try:
            done = await self._letters.drop(which, request.after_id)
        except Fault as fault:
            await abort(context, fault)
        return pb.DropDeadLettersResponse(dropped=done.moved, next_after_id=done.next_after_id)

    async def SendTest(self, request: pb.SendTestRequest, context: Context) -> pb.SendTestResponse:
        if fault := endpoint_fault(request.endpoint):
            await _invalid(context, fault)
        if len(request.text) > TEXT_MAX or len(request.user) > _USER_MAX:
            await _invalid(
                context, f"A text has at most {TEXT_MAX} characters, a user {_USER_MAX}."
            )
        try:
            tried = await self._trial.send(request.endpoint, request.user, request.text)
        except Fault as fault:
            await abort(context, fault)
        return pb.SendTestResponse(
            plugin=tried.plugin,
            outcome=tried.answer.outcome.value,
            detail=tried.answer.detail,
            provider_id=tried.answer.provider_id,
        )

    async def ReportEvents(
        self, request: pb.ReportEventsRequest, context: Context
    ) -> pb.ReportEventsResponse:
        if len(request.events) > EVENTS_MAX:
            await _invalid(context, f"At most {EVENTS_MAX} events are taken at a time.")
        try:
            recorded = await self._receiving.take(request.events)
        except Fault as fault:
            await abort(context, fault)
        return pb.ReportEventsResponse(recorded=recorded)

    async def ForwardCallback(
        self, request: pb.ForwardCallbackRequest, context: Context
    ) -> pb.ForwardCallbackResponse:
        try:
            answer = await self._callbacks.forward(request.plugin, request.callback)
        except Fault as fault:
            await abort(context, fault)
        return pb.ForwardCallbackResponse(
            status=answer.status, body=answer.body, content_type=answer.content_type
        )


async def _invalid(context: Context, sentence: str) -> None:
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, sentence)


async def _which(asked: pb.DeadLetterFilter, after_id: str, context: Context) -> Which:
    if len(asked.delivery_ids) > IDS_MAX:
        await _invalid(context, f"At most {IDS_MAX} ids are taken at a time.")
    for number, one in enumerate(asked.delivery_ids, start=1):
        if not _LETTER_ID.fullmatch(one):
            which = f" (number {number} of them is none)" if len(asked.delivery_ids) > 1 else ""
            await _invalid(context, f"Each of `delivery_ids`{which} {_ID_SENTENCE}")
    if after_id and not _LETTER_ID.fullmatch(after_id):
        await _invalid(context, f"`after_id` {_ID_SENTENCE}")
    if asked.user and (fault := name_fault(asked.user)):
        await _invalid(context, f"`user` cannot be taken. {fault}")
    channel = asked.channel.lower()
    if channel and not SCHEME.fullmatch(channel):
        await _invalid(context, "`channel` is the scheme of external tokens, as in mailto.")
    if asked.reason and asked.reason not in DEAD_REASONS:
        await _invalid(context, f"`reason` is one of {', '.join(DEAD_REASONS)}, in capitals.")
    return Which(asked.user, channel, asked.reason, tuple(asked.delivery_ids))


async def _required(
    request: pb.ReplayDeadLettersRequest | pb.DropDeadLettersRequest, context: Context
) -> Which:
    if not request.HasField("filter"):
        await _invalid(context, "Say which dead letters; an empty filter means all.")
    return await _which(request.filter, request.after_id, context)


def _letter(delivery: Delivery, last: Attempt | None) -> pb.DeadLetter:
    told = pb.DeadLetter(
        delivery_id=delivery.id,
        user=delivery.user,
        subject=delivery.subject,
        channel=delivery.scheme,
        reason=delivery.reason,
        attempts=delivery.attempts,
        last_attempt=None if last is None else _attempt(last),
    )
    told.expires_at.FromNanoseconds(int(delivery.expires_at * 1e9))
    return told


def _attempt(attempt: Attempt) -> presence_pb2.AttemptStory:
    told = presence_pb2.AttemptStory(outcome=attempt.outcome, detail=attempt.detail)
    told.at.FromNanoseconds(int(attempt.at * 1e9))
    return told
