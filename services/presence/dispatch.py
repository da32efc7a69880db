"""Sends what is due: claims deliveries, calls plugins, records what became of them.

Each plugin has a loop of its own, with its own bound on calls and its own breaker, so that one dead
provider keeps nobody waiting. For a batch: read what the messages say; claim, in one transaction
with the check at send (`sending.may_send`); call the plugin; record the answers in one transaction.
A crash after the claim leaves `sending`, which the next start finds and calls unknown.

Knows plugins, the store and the cores' verdicts. Must not know how a plugin sends.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
from onward.notifier.v1 import notifier_pb2
from onward.types.v1 import entry_pb2

from services.chassis import logs
from services.chassis.errors import Fault, StoreFull
from services.chassis.tasks import lasting
from services.presence import answers, metrics
from services.presence.claims import Claimed, claim_deliveries
from services.presence.contents import Contents, newest_seqs
from services.presence.notifications import (
    PLUGIN_FAULTS,
    Answer,
    Delivery,
    Limits,
    Outcome,
    Span,
    expire,
    interrupted,
    settle,
)
from services.presence.plugins import Plugin, Plugins
from services.presence.store import Store, Transaction

log = logs.get(__name__)

# A delivery that is due, and the messages that its notification stands for.
DueDelivery = tuple[Delivery, Sequence[Span]]

# A loop looks again after this long even if nothing woke it, so that a lost wake costs no more.
_LOOK_EVERY_S = 1.0
_FAULT_PAUSE_S = 0.5
# A batch is cut where its contents reach this many bytes; far below what a gRPC message may be.
_BATCH_BYTES_MAX = 8 * 1024 * 1024
_EXPIRE_EVERY_S = 2.0
_PAGE = 500


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """What the dispatcher takes from the settings."""

    limits: Limits
    hold_max_s: float
    hold_check_s: float
    notify_deadline_s: float


class Dispatcher:
    """The dispatcher of all plugins. `chance()` is a random number in [0, 1)."""

    def __init__(
        self,
        store: Store,
        plugins: Plugins,
        contents: Contents,
        settings: DispatchSettings,
        chance: Callable[[], float],
    ) -> None:
        self._store = store
        self._plugins = plugins
        self._contents = contents
        self._settings = settings
        self._chance = chance
        self._wakes = [asyncio.Event() for _ in plugins.list]
        self._in_hand: set[str] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._stopping = False
        plugins.on_change(self.wake)

    def wake(self) -> None:
        """Something may be due now."""
        for wake in self._wakes:
            wake.set()

    async def recover(self) -> None:
        """Call unknown what a process that is gone had claimed. Once, before `run`."""
        while await self._store.write(self._recover_page):
            pass

    async def run(self) -> None:
        """Send until cancelled, or until `drain`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(lasting(self._expire()))
            for plugin, wake in zip(self._plugins.list, self._wakes, strict=True):
                group.create_task(lasting(self._serve(plugin, wake, group)))

    async def drain(self, grace_s: float) -> None:
        """Claim nothing more, and give calls under way `grace_s` to end."""
        self._stopping = True
        self.wake()
        if self._calls:
            _, cut_short = await asyncio.wait(self._calls, timeout=grace_s)
            if cut_short:
                log.warning("drain_cut_short", calls=len(cut_short))

    # -- one plugin ---------------------------------------------------------------------------

    async def _serve(self, plugin: Plugin, wake: asyncio.Event, group: asyncio.TaskGroup) -> None:
        calls: set[asyncio.Task[None]] = set()
        while not self._stopping:
            wake.clear()
            batch: list[DueDelivery] = []
            if self._may_call(plugin, len(calls)):
                batch = await self._due(plugin)
            # Asked again: a call under way may have opened the breaker since.
            if not batch or self._stopping or not self._may_call(plugin, len(calls)):
                await self._rest(plugin, wake, bool(calls))
                continue
            self._in_hand.update(delivery.id for delivery, _ in batch)
            # A probe must be alone, from here on: its call begins only after two awaits.
            plugin.breaker = plugin.breaker.begin(_loop_time())
            task = group.create_task(lasting(self._send(plugin, batch)))
            for tasks in (calls, self._calls):
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            task.add_done_callback(lambda _: wake.set())

    def _may_call(self, plugin: Plugin, calls: int) -> bool:
        if plugin.description is None or not plugin.connected.is_set():
            return False
        return calls < plugin.description.concurrency_max and plugin.breaker.may_call(_loop_time())

    async def _due(self, plugin: Plugin) -> list[DueDelivery]:
        """What is due for the plugin and not in hand: a batch, or one while it is only probed."""
        assert plugin.description is not None
        count = plugin.description.batch_max if plugin.breaker.closed else 1
        in_hand = frozenset(self._in_hand)

        def due(tx: Transaction) -> list[DueDelivery]:
            schemes = self._plugins.schemes_of(plugin, tx.schemes_open())
            found = tx.deliveries_due(schemes, count + len(in_hand))
            free = [delivery for delivery in found if delivery.id not in in_hand][:count]
            return [(delivery, tx.members(delivery.notification_id)) for delivery in free]

        return await self._store.read(due)

    async def _rest(self, plugin: Plugin, wake: asyncio.Event, calling: bool) -> None:
        """Wait for a wake, the next due time, or the end of the breaker's rest."""
        pause_s = _LOOK_EVERY_S

        def next_due(tx: Transaction) -> float:
            at = tx.next_due(self._plugins.schemes_of(plugin, tx.schemes_open()))
            return _LOOK_EVERY_S if at is None else at - tx.now()

        if plugin.breaker.probing:
            pass  # Its end wakes.
        elif not plugin.breaker.closed:
            pause_s = min(pause_s, plugin.breaker.open_until - _loop_time())
        elif plugin.connected.is_set():
            due_in_s = await self._store.read(next_due)
            if due_in_s > 0 or not calling:
                pause_s = min(pause_s, due_in_s)
            # Else it is in hand, or the plugin's calls are at their bound: the end of one wakes.
        try:
            async with asyncio.timeout(max(pause_s, 0.005)):
                await wake.wait()
        except TimeoutError:
            pass

    # -- one batch ----------------------------------------------------------------------------

    async def _send(self, plugin: Plugin, batch: Sequence[DueDelivery]) -> None:
        try:
            contents = await self._read_contents(batch)
            claimed = await self._claim(plugin, list(contents))
            if claimed:
                await self._read_joined(batch, claimed, contents)
                results = await self._call(plugin, claimed, contents)
                await self._settle(plugin, claimed, results)
            else:
                plugin.breaker = plugin.breaker.release()
        except Fault as fault:
            # The log cannot be read, or the store is not ours any more. What was claimed stays
            # `sending`, and its next owner calls it unknown; the rest is still due.
            log.warning("dispatch_fault", plugin=plugin.label, fault=type(fault).__name__)
            plugin.breaker = plugin.breaker.release()
            await asyncio.sleep(_FAULT_PAUSE_S)
        finally:
            self._in_hand.difference_update(delivery.id for delivery, _ in batch)

    async def _read_contents(
        self, batch: Sequence[DueDelivery]
    ) -> dict[str, list[entry_pb2.Message]]:
        """The newest messages of each delivery; those beyond the batch's bytes are left out."""
        found: dict[str, list[entry_pb2.Message]] = {}
        size = 0
        for delivery, spans in batch:
            messages = await self._contents.newest(delivery.subject, spans)
            size += sum(message.ByteSize() for message in messages)
            if found and size > _BATCH_BYTES_MAX:
                break
            found[delivery.id] = messages
        return found

    async def _read_joined(
        self,
        batch: Sequence[DueDelivery],
        claimed: Sequence[Claimed],
        contents: dict[str, list[entry_pb2.Message]],
    ) -> None:
        """Put in place the newest messages of deliveries that others joined before the claim."""
        looked_for = {delivery.id: newest_seqs(spans) for delivery, spans in batch}
        size = sum(message.ByteSize() for read in contents.values() for message in read)
        for one in claimed:
            own_id = one.delivery.id
            if set(newest_seqs(one.spans)) <= set(looked_for[own_id]):
                continue
            try:
                messages = await self._contents.newest(one.delivery.subject, one.spans)
            except Fault as fault:
                # It is claimed, so it goes out: with the right count, and what was read before.
                log.warning("joined_unread", fault=type(fault).__name__)
                return
            size += sum(message.ByteSize() for message in messages)
            if size > _BATCH_BYTES_MAX:
                return
            contents[own_id] = messages

    async def _claim(self, plugin: Plugin, delivery_ids: Sequence[str]) -> list[Claimed]:
        description = plugin.description
        assert description is not None
        settings = self._settings
        return await self._store.write(
            lambda tx: claim_deliveries(
                tx, delivery_ids, description, settings.hold_max_s, settings.hold_check_s
            )
        )

    async def _call(
        self,
        plugin: Plugin,
        claimed: Sequence[Claimed],
        contents: dict[str, list[entry_pb2.Message]],
    ) -> dict[str, Answer]:
        request = notifier_pb2.NotifyRequest(
            deliveries=[answers.delivery_message(one, contents[one.delivery.id]) for one in claimed]
        )
        asked = [one.delivery.id for one in claimed]
        try:
            response = await plugin.notify(request, self._settings.notify_deadline_s)
        except grpc.aio.AioRpcError as error:
            log.warning("plugin_call_failed", plugin=plugin.label, status=error.code().name)
            return dict.fromkeys(asked, answers.of_error(error.code()))
        return answers.of_response(response, asked)

    async def _settle(
        self, plugin: Plugin, claimed: Sequence[Claimed], results: dict[str, Answer]
    ) -> None:
        outcomes = {answer.outcome for answer in results.values()}
        if outcomes & PLUGIN_FAULTS:
            plugin.breaker = plugin.breaker.fail(_loop_time(), self._chance())
            log.warning("plugin_left_alone", plugin=plugin.label, failures=plugin.breaker.failures)
        else:
            plugin.breaker = plugin.breaker.succeed()
        metrics.breaker_open.labels(plugin.label).set(0 if plugin.breaker.closed else 1)
        for answer in results.values():
            metrics.attempts.labels(plugin.label, answer.outcome.value).inc()
        chances = {own_id: self._chance() for own_id in results}

        def record(tx: Transaction) -> None:
            for one in claimed:
                own_id = one.delivery.id
                answer = results[own_id]
                effects = settle(
                    one.delivery, answer, tx.now(), chances[own_id], self._settings.limits
                )
                answers.write(tx, effects)
                tx.end_attempt(answers.ended(one.attempt, answer, tx.now()))

        while True:
            try:
                return await self._store.write(record)
            except StoreFull:
                # What the plugin said must not be lost: without it the delivery is unknown.
                log.error("store_full", plugin=plugin.label)
                await asyncio.sleep(_FAULT_PAUSE_S)

    # -- upkeep -------------------------------------------------------------------------------

    @staticmethod
    def _recover_page(tx: Transaction) -> int:
        found = tx.deliveries_sending(_PAGE)
        for delivery in found:
            tx.put_delivery(interrupted(delivery, tx.now()))
            for attempt in tx.attempts(delivery.id)[-1:]:
                if not attempt.outcome:
                    lost = Answer(Outcome.UNKNOWN, detail="the sender stopped before the answer")
                    tx.end_attempt(answers.ended(attempt, lost, tx.now()))
        return len(found)

    async def _expire(self) -> None:
        def expire_page(tx: Transaction) -> int:
            found = tx.deliveries_expired(_PAGE)
            for delivery in found:
                tx.put_delivery(expire(delivery))
                tx.close_notification(delivery.notification_id, sent=False)
            return len(found)

        while True:
            try:
                while await self._store.write(expire_page) == _PAGE:
                    pass
            except Fault as fault:
                log.warning("dispatch_fault", plugin="-", fault=type(fault).__name__)
            await asyncio.sleep(_EXPIRE_EVERY_S)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
