"""An event loop whose time passes only while nobody has anything to do, and processes on it.

A process is a set of tasks that can be stopped and let go on together (SIGSTOP, SIGCONT), or never
run again (SIGKILL): nothing of it is cancelled, no `finally` of it runs. What belongs to a process
is told by a context variable, which every task, timer and callback inherits from who made it.

The order in which things happen depends on nothing but the calls that were made, so a run with the
same random numbers is the same run.
"""

import asyncio
import heapq
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from random import Random
from typing import Any

PROCESS: ContextVar["Process | None"] = ContextVar("PROCESS", default=None)
WORLD = Context()  # what belongs to no process: networks, disks, kernels


class StalledError(Exception):
    """Nobody has anything to do, nor will have: the run can come to no end."""


class Process:
    """Tasks that live, stop and die together. `fuse`: it dies after so many more steps."""

    def __init__(self, loop: "VirtualLoop", name: str) -> None:
        self.name = name
        self.alive = True
        self.halted = False  # none of its tasks runs: stopped, or dead
        self.parked: list[events.Handle] = []
        self.fuse = 0  # 0: none
        self.on_fuse: Callable[[], None] = lambda: None
        self._loop = loop
        self.context = Context()
        self.context.run(PROCESS.set, self)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of this process."""
        return self._loop.create_task(work, context=self.context)

    def do(self, call: Callable[..., None], *arguments: object) -> None:
        """Have the process make a call, as soon as it runs."""
        self._loop.call_soon(call, *arguments, context=self.context)

    def stop(self) -> None:
        """SIGSTOP."""
        self.halted = True

    def go_on(self, random: Random) -> None:
        """SIGCONT. Timers that became due come before or after what else came, as chance has it."""
        if not self.alive:
            return
        self.halted = False
        parked, self.parked = self.parked, []
        if random.random() < 0.5:
            parked.sort(key=lambda handle: isinstance(handle, events.TimerHandle))
        self._loop.resume(parked)

    def kill(self) -> None:
        """SIGKILL."""
        self.alive = False
        self.halted = True


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs what is ready, in order; then time jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.steps = 0
        self.tasks: list[asyncio.Task[Any]] = []  # an event loop alone would let them vanish
        self.faults: list[str] = []  # what nobody caught
        self._over = False
        self._timers: list[tuple[float, int, Any]] = []
        self._timers_made = 0
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self.now

    def resume(self, handles: list[events.Handle]) -> None:
        """What was parked is ready again."""
        self._ready.extend(handles)

    def bury(self, processes: list[Process]) -> None:
        """End all tasks, of the dead too. What they do to others means nothing any more."""
        self._over = True
        for process in processes:
            self.resume(process.parked)
            process.parked = []
        self.run_until_complete(self._end_all())
        self.close()

    async def _end_all(self) -> None:
        own = asyncio.current_task()
        for _ in range(20):
            left = [task for task in self.tasks if not task.done() and task is not own]
            if not left:
                return
            for task in left:
                task.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
        for task in left:
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self.tasks.append(task)
        return task

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self._over:
            error = context.get("exception")
            self.faults.append(f"{context['message']}: {error!r}")

    # What the base class leaves to its selector.

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps."""

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        # Numbered: of those that are due at one moment the first goes first. And tuples are
        # compared ten times as fast as handles.
        timer = events.TimerHandle(when, callback, args, self, context)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers  # type: ignore[attr-defined]
        if not ready:
            while timers and timers[0][2]._cancelled:
                heapq.heappop(timers)
            if not timers:
                raise StalledError
            self.now = max(self.now, timers[0][0])
        now = self.now
        while timers and timers[0][0] <= now:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(PROCESS)
            if process is None or self._over:
                handle._run()
            elif process.halted:
                process.parked.append(handle)
            else:
                self.steps += 1
                handle._run()
                if process.fuse:
                    process.fuse -= 1
                    if not process.fuse:
                        process.on_fuse()
