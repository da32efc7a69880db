"""Tells one extension what has happened, in its own time.

Of each partition of this process it has at most one call under
way, and at most so many calls in all; the answer moves the extension's position, in a transaction
of the term, before the next call of that partition begins. So whatever ends this process, the
next owner of the partition goes on after the last position: an extension may be told something
again, but nothing is left out, and nothing comes before what is below it.

A call that fails holds back its partition, and one that says nothing of what it told (the extension
is away, or refuses everything) holds back the extension; no other extension notices. Acknowledged
positions of all partitions that come together are one transaction.

Knows the store, the extension, the log; `telling` decides what comes next. To drive it: `run()` for
as long as a term lasts, `wake` after commits, `look` when partitions were claimed, `drain` at the
end.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial

import grpc.aio
from onward.types.v1 import entry_pb2

from services.chassis import logs
from services.chassis.errors import Fault
from services.chassis.tasks import lasting
from services.presence import metrics
from services.presence.acknowledgements import Acknowledgements
from services.presence.breaker import BreakerLimits
from services.presence.extensions import Extension
from services.presence.happening_contents import HappeningContents
from services.presence.happenings import Page
from services.presence.store import Store
from services.presence.telling import Call, Gap, Messages, Pass, Presences, Read, next_step

log = logs.get(__name__)

# What is read at once of a partition, and what one call holds.
_PAGE = 200
_BYTES_MAX = 1024 * 1024
# Partitions read in one look at the store.
_PARTITIONS_AT_ONCE = 64
# What another replica or a former term has left is found by looking.
_LOOK_EVERY_S = 1.0
_FAULT_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class TellerSettings:
    """What tellers take from the settings."""

    breaker: BreakerLimits
    deadline_s: float
    calls_max: int


class _Outcome(Enum):
    TAKEN = "taken"
    REFUSED = "refused"  # because of what it was told
    NOT_NOW = "not now"  # it cannot be called


class Teller:
    """Tells one extension. `dice()` in [0, 1) spreads retries."""

    def __init__(
        self,
        extension: Extension,
        store: Store,
        contents: HappeningContents,
        settings: TellerSettings,
        dice: Callable[[], float],
    ) -> None:
        self.extension = extension
        self._store = store
        self._contents = contents
        self._settings = settings
        self._dice = dice
        self._wake = asyncio.Event()
        # Partitions that may have something to tell; who has waited longest first.
        self._pending: dict[int, None] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}
        # Partitions whose last call failed: how often in a row, and when to try again.
        self._failures: dict[int, int] = {}
        self._again_at: dict[int, float] = {}
        self._acknowledgements = Acknowledgements(store, extension.name)
        self._look_at = 0.0
        self._has_positions = False
        self._stopping = False

    def wake(self, partitions: Collection[int]) -> None:
        """Something was recorded in these partitions."""
        self._pending |= dict.fromkeys(partitions)
        self._wake.set()

    def look(self) -> None:
        """There may be anything to do."""
        self._look_at = 0.0
        self._wake.set()

    async def run(self) -> None:
        """Tell for ever; cancel to stop, at any point."""
        self._stopping = False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(lasting(self.extension.run(self._connected)))
                group.create_task(lasting(self._acknowledgements.run()))
                group.create_task(lasting(self._begin_calls()))
        finally:
            for task in list(self._calls.values()):
                task.cancel()
            await asyncio.gather(*self._calls.values(), return_exceptions=True)

    async def drain(self, wait_s: float) -> None:
        """Begin no more calls, and wait for those under way to be acknowledged."""
        self._stopping = True
        if self._calls:
            await asyncio.wait(list(self._calls.values()), timeout=wait_s)

    def _connected(self) -> None:
        """It may be another process: what the former one failed with says nothing of it."""
        self._failures.clear()
        self._again_at.clear()
        self.look()

    # -- which partitions ---------------------------------------------------------------------

    async def _begin_calls(self) -> None:
        name = self.extension.name
        while True:
            self._wake.clear()
            now = asyncio.get_running_loop().time()
            pause_s = _LOOK_EVERY_S
            try:
                if not self._has_positions:
                    # They are there, unless the store was begun anew since it was registered.
                    await self._store.write(lambda tx: tx.register_extension(name))
                    self._has_positions = True
                if now >= self._look_at:
                    behind = await self._store.read(lambda tx: tx.partitions_behind(name))
                    self._pending |= dict.fromkeys(behind)
                    self._look_at = now + _LOOK_EVERY_S
                if chosen := self._chosen(now):
                    await self._begin(chosen)
                    continue
                pause_s = self._pause_s(now)
            except Fault as fault:
                log.warning(
                    "extension_fault", extension=self.extension.name, fault=type(fault).__name__
                )
                pause_s = _FAULT_PAUSE_S
                await asyncio.sleep(pause_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()

    def _chosen(self, now: float) -> list[int]:
        """Partitions to call about now: as many as there is room for."""
        mine = self._store.mine.partitions
        self._pending = {one: None for one in self._pending if one in mine}
        extension = self.extension
        if self._stopping or not extension.may_call(now):
            return []
        room = self._settings.calls_max - len(self._calls)
        if not extension.breaker.closed:
            room = 1 - len(self._calls)  # The probe goes alone.
        ready = [
            partition
            for partition in self._pending
            if partition not in self._calls and self._again_at.get(partition, 0.0) <= now
        ]
        return ready[: max(0, min(room, _PARTITIONS_AT_ONCE))]

    def _pause_s(self, now: float) -> float:
        """Until there may be something to do without being woken."""
        times = [self._look_at]
        if self.extension.connected.is_set() and not self.extension.breaker.closed:
            times.append(self.extension.breaker.open_until)
        times += [at for partition, at in self._again_at.items() if partition not in self._calls]
        later = [at - now for at in times if at > now]
        return max(0.001, min([_LOOK_EVERY_S, *later]))

    async def _begin(self, partitions: Sequence[int]) -> None:
        name = self.extension.name
        # Whatever is recorded from here on wakes again.
        for partition in partitions:
            del self._pending[partition]
        try:
            pages = await self._store.read(
                lambda tx: tx.happenings_after(name, partitions, _PAGE, _BYTES_MAX)
            )
        except BaseException:  # Whatever ended the read, they are still to be told of.
            self._pending |= dict.fromkeys(partitions)
            raise
        now = asyncio.get_running_loop().time()
        for page in pages:
            if page.tail <= page.after:
                continue
            if not self.extension.may_call(now) or self._stopping:
                self._pending[page.partition] = None
                continue
            task = asyncio.create_task(self._tell(page))
            self._calls[page.partition] = task
            metrics.extension_calls_now.labels(name).set(len(self._calls))
            task.add_done_callback(partial(self._ended, page.partition))

    def _ended(self, partition: int, task: asyncio.Task[None]) -> None:
        del self._calls[partition]
        metrics.extension_calls_now.labels(self.extension.name).set(len(self._calls))
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug; the partition is tried again as after any failure.
            log.error(
                "extension_call_failed",
                extension=self.extension.name,
                partition=partition,
                error=type(error).__name__,
            )
            self._put_off(partition)

    # -- one partition ------------------------------------------------------------------------

    async def _tell(self, page: Page) -> None:
        """Tell a page of one partition, call after call."""
        contents: dict[tuple[str, int], entry_pb2.Message | None] = {}
        subjects = self.extension.registration.subjects
        after = page.after
        partition = page.partition
        try:
            # What was let go meanwhile is another's to tell.
            while not self._stopping and partition in self._store.mine.partitions:
                step = next_step(page, after, subjects, contents, _BYTES_MAX)
                match step:
                    case None:
                        break
                    case Read(wanted):
                        contents = dict(await self._contents.read(wanted))
                        continue
                    case Pass(last):
                        pass
                    case Presences(_, last) | Messages(_, last) | Gap(_, _, last):
                        outcome = await self._call(step)
                        if outcome is not _Outcome.TAKEN:
                            self._put_off(partition, failed=outcome is _Outcome.REFUSED)
                            return
                await self._acknowledgements.move(partition, last)
                after = last
        except Fault as fault:
            log.warning(
                "extension_fault", extension=self.extension.name, fault=type(fault).__name__
            )
            self._put_off(partition)
            return
        self._failures.pop(partition, None)
        self._again_at.pop(partition, None)
        if after < page.tail:
            self._pending[partition] = None

    async def _call(self, call: Call) -> "_Outcome":
        """Tell it."""
        extension, loop = self.extension, asyncio.get_running_loop()
        if not extension.may_call(loop.time()):
            return _Outcome.NOT_NOW
        extension.breaker = extension.breaker.begin(loop.time())
        kind, count = _kind(call)
        calls = metrics.extension_calls
        began = loop.time()
        try:
            await extension.call(call, self._settings.deadline_s)
        except grpc.aio.AioRpcError as error:
            whole = extension.failed(error, loop.time(), self._dice())
            calls.labels(extension.name, kind, error.code().name).inc()
            log.warning(
                "extension_failed",
                extension=extension.name,
                call=kind,
                status=error.code().name,
                whole=whole,
            )
            return _Outcome.NOT_NOW if whole else _Outcome.REFUSED
        except asyncio.CancelledError:
            extension.breaker = extension.breaker.release()
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return _Outcome.NOT_NOW  # The channel was closed under the call.
        extension.succeeded()
        calls.labels(extension.name, kind, "OK").inc()
        metrics.extension_seconds.labels(extension.name).observe(loop.time() - began)
        metrics.extension_told.labels(extension.name, kind).inc(count)
        return _Outcome.TAKEN

    def _put_off(self, partition: int, failed: bool = True) -> None:
        """The partition waits for its turn; after failures in a row longer and longer, with full
        jitter."""
        self._pending[partition] = None
        if not failed:
            return
        limits = self._settings.breaker
        failures = min(self._failures.get(partition, 0), 32)
        self._failures[partition] = failures + 1
        longest = min(limits.longest_s, limits.first_s * 2.0**failures)
        now = asyncio.get_running_loop().time()
        self._again_at[partition] = now + longest * self._dice()


def _kind(call: Call) -> tuple[str, int]:
    """What a call tells, and how many happenings."""
    match call:
        case Presences(events):
            return "presence", len(events)
        case Messages(messages):
            return "message", len(messages)
        case Gap(_, first, last):
            return "gap", last - first + 1
