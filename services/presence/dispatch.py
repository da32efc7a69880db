"""Sends what is due: a loop for each lane finds it, claims it and calls the plugin.

Each lane has a loop of its own, with its own bound on calls and its own breaker, so that one dead
provider keeps nobody waiting. The queue of a lane is the store: in memory are only the batches of
the calls under way. What was just accepted is found and claimed in one transaction: in that of the
Report which makes it due, where the lane has a call to spare. What must first be read from the log,
or asked of the entitlement hook, is claimed after that. A crash after the claim leaves `sending`,
which `succession` finds and calls unknown.

Knows plugins and the store. Must not know how a plugin sends; `calls` makes a call.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onward.types.v1 import entry_pb2

from services.chassis import logs
from services.chassis.errors import Fault
from services.chassis.tasks import lasting
from services.presence import metrics
from services.presence.calls import Caller, Contained
from services.presence.claims import Claimed, ClaimRules, claim_deliveries
from services.presence.contents import Contents
from services.presence.entitlement import DENIED, Entitlement, Verdicts
from services.presence.notifications import (
    Delivery,
    Limits,
    Span,
    defer,
    expire,
    is_suspect,
)
from services.presence.plugins import Lane, Plugins
from services.presence.rendering import Rendering
from services.presence.store import Store, Transaction

log = logs.get(__name__)

# A delivery that is due, and the messages that its notification stands for.
DueDelivery = tuple[Delivery, Sequence[Span]]

# A loop looks again after this long even if nothing woke it, so that a lost wake costs no more.
_LOOK_EVERY_S = 1.0
_FAULT_PAUSE_S = 0.5
# How long a delivery waits whose messages could not be read.
_UNREAD_S = 2.0
_EXPIRE_EVERY_S = 2.0
# How often a stop looks whether something that claims has ended.
_DRAIN_LOOK_S = 0.05
_PAGE = 500


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """What the dispatcher takes from the settings."""

    limits: Limits
    claims: ClaimRules
    notify_deadline_s: float
    # Of the contents in all calls of one plugin.
    plugin_bytes_max: int


@dataclass(frozen=True, slots=True)
class Found:
    """What one look found for a lane."""

    claimed: Sequence[Claimed] = ()
    # Due, but their messages are not at hand, or it is not known who is entitled to them.
    unread: Sequence[DueDelivery] = ()
    # There may be more that is due now.
    more: bool = False
    # After how many seconds something else is due.
    next_in_s: float = _LOOK_EVERY_S


@dataclass(frozen=True, slots=True)
class Reserved:
    """A call of each of these lanes, for what a Report will make due."""

    lanes: Sequence[Lane] = ()
    # What owned calls when it was reserved.
    group: asyncio.TaskGroup | None = None


# When nothing may be called now, whatever is due.
_MORE = Found(more=True)


class Dispatcher:
    """The dispatcher of all plugins. `chance()` is a random number in [0, 1); without
    `entitlement`, nobody is asked who may read what; `follows_ended()` is called after a commit
    that ended follows of those who may not; `mute_url()` as `Caller` says."""

    def __init__(
        self,
        store: Store,
        plugins: Plugins,
        contents: Contents,
        settings: DispatchSettings,
        chance: Callable[[], float],
        rendering: Rendering,
        entitlement: Entitlement | None = None,
        follows_ended: Callable[[], None] = lambda: None,
        mute_url: Callable[[Delivery], str] = lambda _: "",
    ) -> None:
        self._store = store
        self._plugins = plugins
        self._contents = contents
        self._settings = settings
        self._entitlement = entitlement
        self._follows_ended = follows_ended
        self._caller = Caller(
            store,
            contents,
            settings.limits,
            settings.notify_deadline_s,
            settings.plugin_bytes_max,
            chance,
            rendering,
            mute_url,
        )
        self._changed = asyncio.Event()
        self._stopping = False
        # Owns the calls of this run; None: nothing may begin.
        self._group: asyncio.TaskGroup | None = None
        plugins.on_change(self._plugins_changed)

    def wake(self, schemes: Collection[str] | None = None) -> None:
        """Something may be due now: of these channels, or of any."""
        for lane in self._plugins.lanes:
            if schemes is None or any(self._plugins.lane_for(one) is lane for one in schemes):
                lane.wake.set()

    async def run(self) -> None:
        """Send until cancelled, or until `drain`."""
        served: list[Lane] = []
        async with asyncio.TaskGroup() as group:
            group.create_task(lasting(self._expire()))
            self._group = group
            try:
                while True:
                    self._changed.clear()
                    lanes = list(self._plugins.lanes)
                    for lane in [one for one in lanes if one not in served]:
                        # Those of a former run have ended with it.
                        lane.in_hand.clear()
                        lane.calls.clear()
                        lane.breaker = lane.breaker.release()
                        group.create_task(lasting(self._serve(lane, group)))
                    served = lanes
                    await self._changed.wait()
            finally:
                self._group = None

    async def drain(self, grace_s: float) -> None:
        """Claim nothing more, and give calls under way `grace_s` to end. What a transaction under
        way claims is still sent: it would otherwise be unknown."""
        self._stopping = True
        self.wake()
        until = _loop_time() + grace_s
        # Calls are begun and end in many places; none need know of this.
        while self._plugins.busy and _loop_time() < until:  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_LOOK_S)
        if self._plugins.busy:
            log.warning("drain_cut_short", calls=len(self._plugins.calls))

    def _plugins_changed(self) -> None:
        self._changed.set()
        self.wake()

    # -- with a Report ------------------------------------------------------------------------

    def reserve(self) -> Reserved:
        """A call of each lane that has one to spare. Whatever becomes of the Report, `begin` must
        follow."""
        lanes: list[Lane] = []
        if self._group is not None and not self._stopping:
            for lane in self._plugins.lanes:
                # One that is probing must be alone, and is left to the lane's own loop.
                if lane.breaker.closed and lane.may_call(_loop_time()):
                    lane.reserved += 1
                    lanes.append(lane)
        return Reserved(lanes, self._group)

    def lane_for(self, scheme: str) -> Lane | None:
        """Who serves a channel; None: nobody does, as far as is known."""
        return self._plugins.lane_for(scheme)

    def claim_new(
        self,
        tx: Transaction,
        reserved: Reserved,
        schemes: Collection[str],
        messages: Sequence[entry_pb2.Message],
    ) -> dict[Lane, Found]:
        """In the Report's transaction, after its entries: claim what is due on these channels.
        `messages` are about to be remembered."""
        fresh = {(message.subject, message.seq): message for message in messages}
        concerned = {self._plugins.lane_for(scheme) for scheme in schemes}
        return {
            lane: self._find(tx, lane, schemes, fresh)
            for lane in reserved.lanes
            if lane in concerned
        }

    def begin(self, reserved: Reserved, found: Mapping[Lane, Found]) -> None:
        """After the Report's transaction: give the reserved calls back, and begin those for which
        something was claimed."""
        for lane in reserved.lanes:
            lane.reserved -= 1
        for lane, one in found.items():
            # If that run has ended, the next one calls unknown what was claimed.
            if one.claimed and reserved.group is not None and reserved.group is self._group:
                self._start(lane, reserved.group, self._send(lane, one.claimed))
            if one.more or one.unread or one.next_in_s < _LOOK_EVERY_S:
                lane.wake.set()
        for lane in reserved.lanes:
            self._wake_hungry(lane)

    # -- one lane -----------------------------------------------------------------------------

    async def _serve(self, lane: Lane, group: asyncio.TaskGroup) -> None:
        while lane in self._plugins.lanes:
            lane.wake.clear()
            found = _MORE
            if not self._stopping and lane.may_call(_loop_time()):
                found = await self._look(lane)
            if found.claimed:
                self._start(lane, group, self._send(lane, found.claimed))
            elif found.unread:
                # Before the next look, which may run before the new task does.
                lane.in_hand |= {delivery.id for delivery, _ in found.unread}
                self._start(lane, group, self._send_unread(lane, found.unread))
            lane.hungry = found.more
            if not (found.more and (found.claimed or found.unread)):
                await self._rest(lane, found.next_in_s)

    async def _look(self, lane: Lane) -> Found:
        """What is due for the lane: claimed, or at least known. A probe has begun with it."""
        # A probe must be alone, from here on: its call begins only after an await.
        lane.breaker = lane.breaker.begin(_loop_time())
        lane.looking = True
        found = Found()
        try:
            found = await self._store.write(lambda tx: self._find(tx, lane, tx.schemes_open()))
        except Fault as fault:
            log.warning("dispatch_fault", plugin=lane.plugin.label, fault=type(fault).__name__)
            await asyncio.sleep(_FAULT_PAUSE_S)
        finally:
            lane.looking = False
            if not found.claimed and not found.unread:
                lane.breaker = lane.breaker.release()
        return found

    def _find(
        self,
        tx: Transaction,
        lane: Lane,
        open_schemes: Collection[str],
        fresh: Mapping[tuple[str, int], entry_pb2.Message] | None = None,
    ) -> Found:
        description = lane.plugin.description
        assert description is not None
        # What waits for a plugin that fails is tried one at a time.
        count = description.batch_max if lane.breaker.closed else 1
        in_hand = frozenset(lane.in_hand)
        left_out = False
        schemes = self._plugins.schemes_of(lane, open_schemes)
        due = tx.deliveries_due(schemes, count + len(in_hand))
        free = [delivery for delivery in due if delivery.id not in in_hand][:count]
        if fresh is not None:
            # The Report has locked its users, and no more can be locked.
            locked = [delivery for delivery in free if tx.locked(delivery.user)]
            left_out = len(locked) < len(free)
            free = locked
        elif tx.lock({delivery.user for delivery in free}):
            free = _still_due(tx, free)
        free, alone = _alone(free)
        left_out |= alone
        if not free:
            return Found(more=left_out, next_in_s=_next_in_s(tx, schemes))
        members = tx.members_of([delivery.notification_id for delivery in free])
        verdicts = self._known(free)
        sizes = [
            self._contents.size_at_hand(one.subject, members[one.notification_id], fresh)
            if verdicts is None or (one.user, one.subject) in verdicts
            else None
            for one in free
        ]
        if sizes[0] is None:
            # The one that waits longest decides, so that it does not wait for ever.
            unread = [(one, members[one.notification_id]) for one in free]
            return Found(unread=unread, more=True)
        at_hand = [(one, size) for one, size in zip(free, sizes, strict=True) if size is not None]
        fitting = self._caller.fitting(lane, [size for _, size in at_hand])
        return Found(
            claimed=self._claim(tx, lane, [one for one, _ in at_hand[:fitting]], verdicts),
            more=left_out or len(free) == count or fitting < len(free),
            next_in_s=_next_in_s(tx, schemes),
        )

    def _claim(
        self,
        tx: Transaction,
        lane: Lane,
        deliveries: Sequence[Delivery],
        verdicts: Verdicts | None,
    ) -> Sequence[Claimed]:
        description = lane.plugin.description
        assert description is not None
        judged = None
        if self._entitlement is not None and verdicts is not None:
            judged = self._entitlement.judged(verdicts)
        claimed = claim_deliveries(tx, deliveries, description, self._settings.claims, judged)
        metrics.claim_batch.labels(lane.plugin.label, lane.channel).observe(len(claimed))
        return claimed

    def _known(self, deliveries: Sequence[Delivery]) -> Verdicts | None:
        """What is remembered of who is entitled; None: nobody need be asked."""
        if self._entitlement is None:
            return None
        return self._entitlement.known({(one.user, one.subject) for one in deliveries})

    async def _rest(self, lane: Lane, next_in_s: float) -> None:
        """Wait for a wake, the next due time, or the end of the breaker's rest."""
        pause_s = _LOOK_EVERY_S
        if lane.breaker.probing or self._stopping or not lane.plugin.ready:
            pass  # The end of the probe wakes, or the connection.
        elif not lane.breaker.closed:
            pause_s = min(pause_s, lane.breaker.open_until - _loop_time())
        elif next_in_s > 0 or not lane.in_hand:
            pause_s = min(pause_s, next_in_s)
        try:
            async with asyncio.timeout(max(pause_s, 0.005)):
                await lane.wake.wait()
        except TimeoutError:
            pass

    # -- one batch ----------------------------------------------------------------------------

    def _start(self, lane: Lane, group: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
        task = group.create_task(lasting(work))
        lane.calls.add(task)

        def done(_: asyncio.Task[None]) -> None:
            lane.calls.discard(task)
            self._wake_hungry(lane)

        task.add_done_callback(done)

    @staticmethod
    def _wake_hungry(lane: Lane) -> None:
        # Lanes may have waited for one of the plugin's calls to end.
        for one in lane.plugin.lanes.values():
            if one.hungry:
                one.wake.set()

    async def _send(self, lane: Lane, claimed: Sequence[Claimed]) -> None:
        try:
            if await self._caller.send(lane, claimed, {}, {}):
                lane.wake.set()
        except Fault as fault:
            await self._faulty(lane, fault)

    async def _send_unread(self, lane: Lane, batch: Sequence[DueDelivery]) -> None:
        """Ask who is entitled, read, claim and send what the lane has in hand; what is at fault
        before the claim is still due."""
        try:
            verdicts = None
            if self._entitlement is not None:
                pairs = {(delivery.user, delivery.subject) for delivery, _ in batch}
                verdicts = await self._entitlement.ask(pairs)
            contents = await self._read(lane, batch)

            def claim(tx: Transaction) -> Sequence[Claimed]:
                tx.lock({delivery.user for delivery, _ in batch})
                return self._claim(tx, lane, tx.deliveries(list(contents)), verdicts)

            claimed = await self._store.write(claim)
            if verdicts is not None and DENIED in verdicts.values():
                self._follows_ended()
            if claimed:
                looked_for = {delivery.id: spans for delivery, spans in batch}
                await self._caller.send(lane, claimed, looked_for, contents)
            else:
                lane.breaker = lane.breaker.release()
            lane.wake.set()
        except Fault as fault:
            await self._faulty(lane, fault)
        finally:
            lane.in_hand -= {delivery.id for delivery, _ in batch}

    async def _read(self, lane: Lane, batch: Sequence[DueDelivery]) -> Contained:
        """What the deliveries are about. Where the log of the first cannot be read it is put off,
        so that others, whose messages can be had, are not kept waiting behind it."""
        try:
            return await self._caller.read(lane, batch)
        except Fault:
            first = batch[0][0]

            def put_off(tx: Transaction) -> None:
                tx.lock([first.user])
                again = [one for one in tx.deliveries([first.id]) if one.due_at is not None]
                tx.put_deliveries([defer(one, tx.now() + _UNREAD_S, one.reason) for one in again])

            await self._store.write(put_off)
            raise

    @staticmethod
    async def _faulty(lane: Lane, fault: Fault) -> None:
        # The log cannot be read, or the store is not ours any more. What was claimed stays
        # `sending`, and its next owner calls it unknown; the rest is still due.
        log.warning("dispatch_fault", plugin=lane.plugin.label, fault=type(fault).__name__)
        lane.breaker = lane.breaker.release()
        await asyncio.sleep(_FAULT_PAUSE_S)
        lane.wake.set()

    # -- upkeep -------------------------------------------------------------------------------

    async def _expire(self) -> None:
        def expire_page(tx: Transaction) -> int:
            found = tx.deliveries_expired(_PAGE)
            if tx.lock({delivery.user for delivery in found}):
                found = [
                    one
                    for one in tx.deliveries([delivery.id for delivery in found])
                    if one.due_at is not None
                ]
            tx.put_deliveries([expire(delivery) for delivery in found])
            tx.close_notifications([one.notification_id for one in found], sent=False)
            return len(found)

        while True:
            try:
                while await self._store.write(expire_page) == _PAGE:
                    pass
            except Fault as fault:
                log.warning("dispatch_fault", plugin="-", fault=type(fault).__name__)
            await asyncio.sleep(_EXPIRE_EVERY_S)


def _alone(deliveries: list[Delivery]) -> tuple[list[Delivery], bool]:
    """Those that may go together, and whether any were left out: what was in a call that broke goes
    by itself, until it is known which of them breaks calls."""
    if deliveries and is_suspect(deliveries[0]):
        return deliveries[:1], len(deliveries) > 1
    together = [one for one in deliveries if not is_suspect(one)]
    return together, len(together) < len(deliveries)


def _still_due(tx: Transaction, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Those that are due now that their users are locked."""
    now = tx.now()
    return [
        one
        for one in tx.deliveries([delivery.id for delivery in deliveries])
        if one.due_at is not None and one.due_at <= now
    ]


def _next_in_s(tx: Transaction, schemes: Sequence[str]) -> float:
    at = tx.next_due(schemes)
    return _LOOK_EVERY_S if at is None else at - tx.now()


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
