"""Running `onward …` as a process of its own, as a person or a script would."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATHS = os.pathsep.join(str(ROOT / part) for part in (".", "gen", "sdk/python"))


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Running:
    """A command that runs: what it has printed so far, and its end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def event(self, name: str) -> dict[str, Any]:
        """Reads up to the next event of that name."""
        assert self.process.stdout is not None
        while True:
            async with asyncio.timeout(20):
                line = await self.process.stdout.readline()
            assert line, f"ended before {name}"
            event = dict(json.loads(line))
            if event["event"] == name:
                return event

    async def end(self) -> Ended:
        async with asyncio.timeout(20):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return Ended(self.process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def started(*arguments: str, home: Path, url: str = "") -> AsyncIterator[Running]:
    """Starts `onward` with these arguments; kills it at the end if it still runs."""
    environ = {"PYTHONPATH": PATHS, "HOME": str(home), "PATH": os.environ["PATH"]}
    if url:
        environ["ONWARD_URL"] = url
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.cli",
        *arguments,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ended(*arguments: str, home: Path, url: str = "") -> Ended:
    """Runs `onward` with these arguments to its end."""
    async with started(*arguments, home=home, url=url) as running:
        return await running.end()
