"""Runs the workers of an edge: processes that share its address, each an edge of its own.

Knows processes, signals and what differs from worker to worker; which of them run is decided by
`crew`. The parent serves nothing: it keeps the address, starts workers with the command that it
was started with, and ends when all of them have. They die with it, however it dies.
"""

import asyncio
import os
import signal
import socket as tcp
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from services.chassis import logs
from services.chassis.errors import StartError
from services.edge.crew import Crew, CrewLimits, Effect, End, Start, Terminate
from services.edge.listening import reserved_socket
from services.edge.settings import Settings

_SLACK_S: Final = 3.0  # what a worker may take to end, beyond what it knows of
log = logs.get(__name__)


def worker_count(settings: Settings) -> int:
    """How many workers there are to be."""
    return settings.workers or len(os.sched_getaffinity(0))


def worker_environ(
    settings: Settings, number: int, address: str, environ: Mapping[str, str]
) -> dict[str, str]:
    """What the worker of that number is set to; `address`: what all of them share."""
    made = {
        "ONWARD_EDGE_WORKERS": "1",
        "ONWARD_EDGE_SHARED_ADDRESS": "true",
        "ONWARD_EDGE_ADDRESS": address,
        "ONWARD_DIE_WITH_PARENT": "1",
        "ONWARD_PARENT_PID": str(os.getpid()),
    }
    host, _, port = settings.grpc_address.rpartition(":")
    if port.isdigit() and int(port):
        made["ONWARD_EDGE_GRPC_ADDRESS"] = f"{host}:{int(port) + number}"
    if settings.metrics_port:
        made["ONWARD_EDGE_METRICS_PORT"] = str(settings.metrics_port + number)
    return dict(environ) | made


class WorkerProcesses:
    """The workers, as processes. `stop_s`: what one may take to drain."""

    def __init__(self, settings: Settings, stop_s: float) -> None:
        self._settings = settings
        self._crew = Crew(worker_count(settings), CrewLimits(stop_s + _SLACK_S))
        self._pids: dict[int, int] = {}
        self._waits: dict[int, asyncio.Task[int]] = {}
        self._address = ""
        self._code: int | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Until all have ended. Raises StartError if the address cannot be had, or if workers
        cannot start, after they have said why."""
        with reserved_socket(self._settings.address) as reserved:
            self._address = _shown(self._settings.address, reserved)
            log.info("starting_workers", workers=self._crew.count, address=self._address)
            await self._run(stop)
        if self._code:
            raise StartError("the workers of this edge cannot start; see what they have said")

    async def _run(self, stop: asyncio.Event) -> None:
        now = asyncio.get_running_loop().time
        stopping = asyncio.create_task(stop.wait())
        await self._carry_out(self._crew.start(now()))
        while self._code is None:
            waits: list[asyncio.Task[int]] = list(self._waits.values())
            asked = [] if self._crew.stopping else [stopping]
            at = self._crew.next_deadline()
            timeout_s = None if at is None else max(0.0, at - now())
            await asyncio.wait(
                [*waits, *asked], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            for number, wait in list(self._waits.items()):
                if wait.done():
                    del self._waits[number], self._pids[number]
                    log.info("worker_ended", worker=number, exit_code=wait.result())
                    await self._carry_out(self._crew.ended(number, wait.result(), now()))
            if stop.is_set():
                await self._carry_out(self._crew.stop(now()))
            await self._carry_out(self._crew.tick(now()))
        stopping.cancel()

    async def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Start):
                await self._start(effect.number)
            elif isinstance(effect, End):
                self._code = effect.code
            else:
                number = signal.SIGTERM if isinstance(effect, Terminate) else signal.SIGKILL
                log.info("worker_signalled", worker=effect.number, signal=number.name)
                with suppress(ProcessLookupError):
                    os.kill(self._pids[effect.number], number)

    async def _start(self, number: int) -> None:
        environ = worker_environ(self._settings, number, self._address, os.environ)
        # As this process was started, with its interpreter's options.
        process = await asyncio.create_subprocess_exec(*sys.orig_argv, env=environ)
        log.info("worker_started", worker=number, worker_pid=process.pid)
        self._pids[number] = process.pid
        self._waits[number] = asyncio.create_task(process.wait())


def _shown(address: str, bound: tcp.socket) -> str:
    return f"{address.rpartition(':')[0]}:{bound.getsockname()[1]}"
