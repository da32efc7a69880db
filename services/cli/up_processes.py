"""Carries out the effects of `supervision`: starts processes, watches them, signals them.

The shell around the core. `Processes.run()` is the loop: it waits for the next thing that
happens (an exit, a readiness, a signal, a deadline), tells the core, and does what it says.
"""

import asyncio
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.cli import up_data
from services.cli.supervision import (
    Effect,
    End,
    Kill,
    Ready,
    Report,
    ShowRefusal,
    Start,
    Supervision,
    Terminate,
)
from services.cli.up_plan import Child

EVENTS_MAX = 100  # waiting to be told to the core; beyond it their senders wait
SHOWN_LINE_BYTES_MAX = 1024 * 1024  # what is longer of a shown child's line is left out
LOGS_CHECKED_EVERY_S = 10.0  # whether they have grown too long
_CANNOT_EXECUTE = 126

_Event = Callable[[float], list[Effect]]


@dataclass(slots=True)
class Processes:
    """The children as processes.

    `show` takes a line for the terminal, `complain` a sentence for standard error; `ready` is
    called once.
    """

    children: Sequence[Child]
    core: Supervision
    directory: Path
    secret: str
    show: Callable[[str], None]
    complain: Callable[[str], None]
    ready: Callable[[], None]
    _events: asyncio.Queue[_Event] = field(default_factory=lambda: asyncio.Queue(EVENTS_MAX))
    _running: dict[str, Process] = field(default_factory=dict)
    _tasks: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)
    _code: int | None = None

    async def run(self) -> int:
        """Run all children until they are stopped; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_IGN:
                continue  # As nohup asks, and shells do for what runs in the background.
            loop.add_signal_handler(number, self._events.put_nowait, self.core.stop)
        async with self._tasks:
            logs = self._tasks.create_task(self._bound_logs())
            await self._do(self.core.start(time.monotonic()))
            while self._code is None:
                event = await self._next_event()
                await self._do(event(time.monotonic()))
            logs.cancel()
        return self._code

    async def _bound_logs(self) -> None:
        while True:
            for child in self.children:
                path = up_data.log_path(self.directory, child.name)
                try:
                    await asyncio.to_thread(up_data.set_aside, path)
                except OSError as error:
                    self.show(f"onward: {path} cannot be set aside: {error.strerror}")
            await asyncio.sleep(LOGS_CHECKED_EVERY_S)

    async def _next_event(self) -> _Event:
        deadline = self.core.next_deadline()
        try:
            async with asyncio.timeout(
                None if deadline is None else max(0.0, deadline - time.monotonic())
            ):
                return await self._events.get()
        except TimeoutError:
            return self.core.tick

    async def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Start(name):
                    await self._start(name)
                case Terminate(name):
                    self._signal(name, signal.SIGTERM)
                case Kill(name):
                    self._signal(name, signal.SIGKILL)
                case Report(text):
                    self.show(f"onward: {text}")
                case ShowRefusal(name):
                    sentence = up_data.last_line(up_data.log_path(self.directory, name))
                    self.complain(f"{name} cannot start: {sentence}")
                case Ready():
                    self.ready()
                case End(code):
                    self._code = code

    async def _start(self, name: str) -> None:
        child = next(child for child in self.children if child.name == name)
        try:
            with up_data.log_path(self.directory, name).open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *child.command,
                    env=child.environ,
                    stdin=DEVNULL,
                    stdout=PIPE if child.shown else log,
                    stderr=log,
                    limit=SHOWN_LINE_BYTES_MAX,
                    # Ctrl-C reaches the whole foreground group; the order of stopping is ours.
                    start_new_session=True,
                )
        except OSError as error:
            self.show(f"onward: {name} cannot be started: {error.strerror}")
            await self._events.put(lambda now: self.core.exited(name, _CANNOT_EXECUTE, now))
            return
        self._running[name] = process
        self._tasks.create_task(self._watch(child, process))

    async def _watch(self, child: Child, process: Process) -> None:
        """From the start of a process to its end."""
        readiness = self._tasks.create_task(self._tell_ready(child))
        showing = self._tasks.create_task(self._show_output(process))
        code = await process.wait()
        readiness.cancel()
        await asyncio.wait([showing], timeout=1)
        showing.cancel()
        await self._events.put(lambda now: self.core.exited(child.name, code, now))

    async def _tell_ready(self, child: Child) -> None:
        # Imported here: gRPC takes a while, and the children have been started by now.
        from services.cli.up_health import wait_ready

        await wait_ready(child, self.secret)
        await self._events.put(lambda now: self.core.became_ready(child.name, now))

    async def _show_output(self, process: Process) -> None:
        if process.stdout is None:
            return
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                # Go on reading: a child whose output nobody takes stands still when it prints.
                self.show("onward: a line too long to show")
                continue
            if not line:
                return
            self.show(line.decode("utf-8", "replace").rstrip("\n"))

    def _signal(self, name: str, number: signal.Signals) -> None:
        try:
            self._running[name].send_signal(number)
        except ProcessLookupError:
            pass  # It has just ended; its exit is on the way.
