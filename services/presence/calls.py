"""One call of a plugin: what the messages say, the words, the call, what its answers make.

Knows the contract with plugins, where messages are read and words are made. Must not know when
something is due or who is next; `dispatch` does. To drive it: `fitting` and `read` before the
claim, `send` after it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import grpc
import grpc.aio
from onward.notifier.v1 import notifier_pb2
from onward.types.v1 import entry_pb2

from services.chassis import logs
from services.chassis.errors import Fault, StoreFull, Unavailable
from services.presence import answers, metrics, receipts
from services.presence.claims import Claimed, hasten
from services.presence.contents import Contents, newest_seqs
from services.presence.notifications import (
    COUNTED,
    NOT_CALLED,
    PLUGIN_FAULTS,
    PLUGIN_WORKS,
    Answer,
    Delivery,
    Effect,
    Limits,
    Outcome,
    PutDelivery,
    Span,
    is_last_try,
    settle,
)
from services.presence.plugins import Lane
from services.presence.recording import Recording
from services.presence.render_worker import Failure
from services.presence.rendering import Asked, Rendering
from services.presence.store import Store, Transaction
from services.presence.store_outbox import Attempt
from services.presence.wording import Told

log = logs.get(__name__)

_FAULT_PAUSE_S = 0.5
# A batch is cut where its contents reach this many bytes; far below what a gRPC message may be.
_BATCH_BYTES_MAX = 8 * 1024 * 1024

# Of what is sent in one request, with words that may be longer than the contents.
_REQUEST_BYTES_MAX = 16 * 1024 * 1024
# After one of these, a further request would only meet the same.
_NO_FURTHER = frozenset({Outcome.CALL_REFUSED, Outcome.CALL_BROKEN, Outcome.CALL_TIMED_OUT})

Contained = Mapping[str, Sequence[entry_pb2.Message]]


class Caller:
    """Calls plugins with what was claimed. `plugin_bytes_max` bounds the contents in all calls of
    one plugin; `chance()` is a random number in [0, 1); `rendering` makes the words; `mute_url()`
    gives what a user opens to hear no more of a delivery's subject, or nothing."""

    def __init__(
        self,
        store: Store,
        contents: Contents,
        limits: Limits,
        deadline_s: float,
        plugin_bytes_max: int,
        chance: Callable[[], float],
        rendering: Rendering,
        mute_url: Callable[[Delivery], str] = lambda _: "",
    ) -> None:
        self._store = store
        self._contents = contents
        self._limits = limits
        self._deadline_s = deadline_s
        self._plugin_bytes_max = plugin_bytes_max
        self._chance = chance
        self._rendering = rendering
        self._mute_url = mute_url

    def fitting(self, lane: Lane, sizes: Sequence[int]) -> int:
        """How many of these, by the bytes of their messages, go into one call: at least one."""
        room = self._batch_bytes(lane)
        for number, size in enumerate(sizes):
            room -= size
            if room < 0:
                return max(1, number)
        return len(sizes)

    async def read(
        self, lane: Lane, batch: Sequence[tuple[Delivery, Sequence[Span]]]
    ) -> dict[str, Sequence[entry_pb2.Message]]:
        """The newest messages of each delivery, by its id; those beyond one call's bytes, and those
        behind one that cannot be read, are left out. Raises Unavailable, LogReplaced for the
        first."""
        found: dict[str, Sequence[entry_pb2.Message]] = {}
        room = self._batch_bytes(lane)
        for delivery, spans in batch:
            try:
                messages = await self._contents.newest(delivery.subject, spans)
            except Fault:
                if not found:
                    raise
                break
            room -= sum(message.ByteSize() for message in messages)
            if found and room < 0:
                break
            found[delivery.id] = messages
        return found

    async def send(
        self,
        lane: Lane,
        claimed: Sequence[Claimed],
        looked_for: Mapping[str, Sequence[Span]],
        read: Contained,
    ) -> bool:
        """Call the plugin with what was claimed, and record its answers; whether any is due again.

        `read` is what was read before the claim, for the spans in `looked_for`. Raises Deposed.
        """
        contents = await self._newest(lane, claimed, looked_for, read)
        deliveries, results = await self._worded(claimed, contents)
        for batch in answers.batches(deliveries, _REQUEST_BYTES_MAX):
            results |= await self._call(lane, batch, results)
        return await self._settle(lane, claimed, results)

    def _batch_bytes(self, lane: Lane) -> int:
        description = lane.plugin.description
        assert description is not None
        return min(_BATCH_BYTES_MAX, self._plugin_bytes_max // description.concurrency_max)

    async def _newest(
        self,
        lane: Lane,
        claimed: Sequence[Claimed],
        looked_for: Mapping[str, Sequence[Span]],
        read: Contained,
    ) -> Contained:
        """`read`, with the newest messages of deliveries that others joined before the claim."""
        contents = dict(read)
        room = self._batch_bytes(lane)
        room -= sum(message.ByteSize() for messages in read.values() for message in messages)
        for one in claimed:
            own_id = one.delivery.id
            known = newest_seqs(looked_for[own_id]) if own_id in looked_for else []
            if known and set(newest_seqs(one.spans)) <= set(known):
                continue
            try:
                messages = await self._contents.newest(one.delivery.subject, one.spans)
            except Fault as fault:
                # It is claimed, so it goes out: with the right count, and what was read before.
                log.warning("joined_unread", fault=type(fault).__name__)
                break
            room -= sum(message.ByteSize() for message in messages)
            if room < 0 and own_id in contents:
                break
            contents[own_id] = messages
        return contents

    async def _worded(
        self, claimed: Sequence[Claimed], contents: Contained
    ) -> tuple[list[notifier_pb2.Delivery], dict[str, Answer]]:
        """What the plugin is given; and, by id, what becomes of those that got no words."""
        told = [answers.told(one, contents.get(one.delivery.id, ())) for one in claimed]
        urls = [self._mute_url(one.delivery) for one in claimed]
        # The same messages for all that they are told to, as those of a large crowd are.
        in_words: dict[tuple[str, tuple[int, ...]], tuple[Told, ...]] = {}
        asked: list[Asked] = []
        for one, messages, url in zip(claimed, told, urls, strict=True):
            key = one.delivery.subject, tuple(message.seq for message in messages)
            if key not in in_words:
                in_words[key] = answers.in_words(messages)
            telling = answers.telling(one, in_words[key], url)
            asked.append(Asked(one.plan.template, one.delivery.scheme, telling))
        words = await self._rendering.words(asked)
        deliveries: list[notifier_pb2.Delivery] = []
        wordless: dict[str, Answer] = {}
        for one, messages, url, made in zip(claimed, told, urls, words, strict=True):
            if isinstance(made, Failure):
                wordless[one.delivery.id] = answers.of_failure(made, one.plan.template)
            else:
                deliveries.append(answers.delivery_message(one, messages, made, url))
        return deliveries, wordless

    async def _call(
        self,
        lane: Lane,
        deliveries: Sequence[notifier_pb2.Delivery],
        before: Mapping[str, Answer],
    ) -> dict[str, Answer]:
        """Hand over one request; `before`: what the requests before it came to."""
        asked = [delivery.delivery_id for delivery in deliveries]
        if any(answer.outcome in _NO_FURTHER for answer in before.values()):
            return dict.fromkeys(
                asked, Answer(Outcome.CALL_REFUSED, detail="not called after that")
            )
        began = time.perf_counter()
        try:
            response = await lane.plugin.notify(
                notifier_pb2.NotifyRequest(deliveries=deliveries), self._deadline_s
            )
        except grpc.aio.AioRpcError as error:
            log.warning("plugin_call_failed", plugin=lane.plugin.label, status=error.code().name)
            return dict.fromkeys(asked, answers.of_error(error.code()))
        finally:
            metrics.notify_seconds.labels(lane.plugin.label, lane.channel).observe(
                time.perf_counter() - began
            )
        return answers.of_response(response, asked)

    async def _settle(
        self, lane: Lane, claimed: Sequence[Claimed], results: Mapping[str, Answer]
    ) -> bool:
        alone = self._learn(lane, claimed, results)
        for answer in results.values():
            metrics.attempts.labels(lane.plugin.label, lane.channel, answer.outcome.value).inc()
        chances = {own_id: self._chance() for own_id in results}

        def record(tx: Transaction) -> bool:
            tx.lock({one.delivery.user for one in claimed})
            effects: list[Effect] = []
            attempts: list[Attempt] = []
            now = tx.now()
            # Receipts may have overtaken the answer.
            words = tx.early_words([one.delivery.id for one in claimed])
            for one in claimed:
                own_id = one.delivery.id
                answer = results[own_id]
                chance, others_work = chances[own_id], own_id in alone
                age_s = self._age_s(tx, one)
                settled = settle(
                    one.delivery, answer, now, chance, self._limits, others_work, age_s
                )
                effects += receipts.after_answer(settled, words.get(own_id, ""))
                attempts.append(answers.ended(one.attempt, answer, now))
            recording = Recording(tx)
            answers.write(tx, effects, recording)
            recording.write()
            tx.put_attempts(attempts)
            _go_on(tx, claimed, effects)
            return any(
                isinstance(e, PutDelivery) and e.delivery.due_at is not None for e in effects
            )

        while True:
            try:
                return await self._store.write(record)
            except (StoreFull, Unavailable) as fault:
                # What the plugin said must not be lost: without it the delivery is unknown. Where
                # it is not known whether it was recorded, the claim of the store has ended with
                # that, and the next try is refused.
                log.error(
                    "answers_unrecorded", plugin=lane.plugin.label, fault=type(fault).__name__
                )
                await asyncio.sleep(_FAULT_PAUSE_S)

    def _age_s(self, tx: Transaction, claimed: Claimed) -> float:
        """Since the first of its tries that count, and that were not before it was replayed; read
        where it decides whether this one was the last."""
        delivery = claimed.delivery
        if not is_last_try(delivery, self._limits):
            return 0.0
        counted = [one.at for one in tx.attempts(delivery.id) if one.outcome in COUNTED]
        of_this_life = sorted(counted)[-delivery.tries :] if delivery.tries else []
        return tx.now() - min([*of_this_life, claimed.attempt.at])

    def _learn(
        self, lane: Lane, claimed: Sequence[Claimed], results: Mapping[str, Answer]
    ) -> frozenset[str]:
        """What the answers say of the channel; returns whose faults are no fault of the channel."""
        works = any(answer.outcome in PLUGIN_WORKS for answer in results.values())
        lane.proven |= works
        misfits = lane.misfits
        misfits.learn([one.delivery for one in claimed], results, lane.proven)
        telling = [answer for own_id, answer in results.items() if own_id not in misfits]
        called = [answer for answer in telling if answer.outcome not in NOT_CALLED]
        faults = [answer for answer in called if answer.outcome in PLUGIN_FAULTS]
        if not faults and all(map(_takes_nothing, called)):
            faults = called  # Further calls would be in vain.
        if not called:
            lane.breaker = lane.breaker.release()  # Nothing was learnt of the plugin.
        elif works or not faults:
            lane.breaker = lane.breaker.succeed()
            lane.fault = ""
        else:
            lane.proven = False
            now = asyncio.get_running_loop().time()
            lane.breaker = lane.breaker.fail(now, self._chance())
            lane.open_until = time.time() + lane.breaker.open_until - now
            lane.fault = f"{faults[0].outcome.value} {faults[0].detail}".strip()
            log.warning(
                "plugin_left_alone",
                plugin=lane.plugin.label,
                channel=lane.channel,
                outcome=faults[0].outcome.value,
                failures=lane.breaker.failures,
            )
        metrics.breaker_open.labels(lane.plugin.label, lane.channel).set(
            0 if lane.breaker.closed else 1
        )
        return frozenset(results if works else (one for one in results if one in misfits))


def _takes_nothing(answer: Answer) -> bool:
    """Whether the plugin is busy, and not only with what goes where this one goes."""
    return answer.outcome is Outcome.NOT_BEGUN and not answer.retry_after_s


def _go_on(tx: Transaction, claimed: Sequence[Claimed], effects: Sequence[Effect]) -> None:
    """Where a delivery has ended with nothing sent, use the next channel of its escalation."""
    escalating = {one.delivery.id for one in claimed if len(one.plan.steps) > 1}
    ended = [
        effect.delivery
        for effect in effects
        if isinstance(effect, PutDelivery)
        and effect.delivery.id in escalating
        and effect.delivery.due_at is None
    ]
    if ended:
        found = tx.notifications([one.notification_id for one in ended])
        hasten(tx, ended, [found.get(one.notification_id) for one in ended])
