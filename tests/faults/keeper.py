"""Keeps the processes of a plan running: `python -m tests.faults.keeper PLAN.json`.

The plan is an object by name, each with `command` (a list; `{keeper}` in it is this process's pid),
`environ` and `log`; it is read again whenever a process starts. A process that ends is started
again, as `onward up` does it: after 0.2 s, and twice as long with each further end. Standard input
takes `hold NAME` (not to be started again), `start NAME`, and ends everything when it is closed;
standard output says `started NAME PID`, `ended NAME CODE` and `held NAME 0`. What runs dies with
this process.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
SETTLED_S = 30.0  # having run for this long, earlier ends are forgotten


class Keeper:
    """All processes of the plan."""

    def __init__(self, plan: Path) -> None:
        self._plan = plan
        self._wanted = {name: asyncio.Event() for name in self._read()}
        self._running: dict[str, asyncio.subprocess.Process] = {}

    def _read(self) -> dict[str, Any]:
        return dict(json.loads(self._plan.read_text()))

    async def run(self) -> None:
        """Until standard input ends."""
        tasks = [asyncio.create_task(self._keep(name)) for name in self._wanted]
        for wanted in self._wanted.values():
            wanted.set()
        try:
            await self._obey()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for process in self._running.values():
                process.kill()
            await asyncio.gather(*(one.wait() for one in self._running.values()))

    async def _obey(self) -> None:
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():
            word, name = line.decode().split()
            if word == "hold":
                self._wanted[name].clear()
                print(f"held {name} 0", flush=True)
            else:
                self._wanted[name].set()

    async def _keep(self, name: str) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            await self._wanted[name].wait()
            began = time.monotonic()
            process = await self._start(name)
            self._running[name] = process
            print(f"started {name} {process.pid}", flush=True)
            code = await process.wait()
            del self._running[name]
            print(f"ended {name} {code}", flush=True)
            if not self._wanted[name].is_set():
                continue  # it was asked for: its next start does not wait
            if time.monotonic() - began >= SETTLED_S:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _start(self, name: str) -> asyncio.subprocess.Process:
        given, own_pid = self._read()[name], str(os.getpid())
        log = os.open(given["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            return await asyncio.create_subprocess_exec(
                *(word.replace("{keeper}", own_pid) for word in given["command"]),
                env=given["environ"] | {"ONWARD_PARENT_PID": own_pid},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)


if __name__ == "__main__":
    asyncio.run(Keeper(Path(sys.argv[1])).run())
