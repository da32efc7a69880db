"""The other side of the process that runs templates: starts it, asks it, ends it, starts it anew.

A batch is one round trip. If it brings no answer in time, or ends the process, its jobs are asked
one by one, so that the one at fault fails alone. A job that is slow because the machine is (its
process had no processor) has not failed: it is to be tried later. A template that is struck out is
not run for a while, and its jobs wait for nobody.

Knows processes and pipes. Must not know deliveries or where templates come from; and takes what
comes out of the pipe for anything, since a template made it. To drive it: `render(jobs)`, and
`close()` in the end. The process begins with the first job.
"""

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from pathlib import Path
from typing import Any

from services.chassis import logs
from services.presence import metrics
from services.presence.render_process import OVERRUN, READY, STRIKES_MAX, frame
from services.presence.strikes import Key, Strikes

log = logs.get(__name__)

# In one round trip.
JOBS_MAX = 100
_ANSWER_BYTES_MAX = 64 * 1024 * 1024
_START_S = 30.0
# A job that is asked alone is given so long to get a processor on a busy machine; whether it has
# used up its time there is looked at so often.
_ALONE_S = 15.0
_LOOK_EVERY_S = 0.05
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Job:
    """One delivery's fields, each with its source, and the values for them, fit for JSON."""

    template: str
    fields: Mapping[str, str]
    values: Mapping[str, Any]

    @property
    def key(self) -> Key:
        """The template, as it is for this channel and locale."""
        text = json.dumps(self.fields, sort_keys=True).encode()
        return self.template, blake2b(text, digest_size=16).digest()


class Failure(Enum):
    """Why there are no words."""

    # The template failed, looped or wanted too much memory, or is not there.
    TEMPLATE = "template"
    # It could not be run now.
    MACHINE = "machine"


Rendered = dict[str, str] | Failure


class _Ended(Exception):
    """The process has ended, or what it says makes no sense."""


class _Late(Exception):
    """There was no answer in time. `busy`: the process had a processor to itself long enough."""

    def __init__(self, busy: bool) -> None:
        super().__init__()
        self.busy = busy


class _NoProcess(Exception):
    """The process cannot be started."""


class RenderWorker:
    """One process at a time. `deadline_s`: for a batch; `budget_s`: of the processor's time for
    one job. `clock`: seconds that do not jump."""

    def __init__(
        self, deadline_s: float, budget_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._deadline_s = deadline_s
        self._budget_s = budget_s
        self._process: Process | None = None
        self._one_at_a_time = asyncio.Lock()
        self._strikes = Strikes(clock)
        # Of a batch: what has been logged.
        self._told: set[tuple[str, str]] = set()

    @property
    def pid(self) -> int | None:
        """The process that there is now."""
        return self._process.pid if self._process else None

    async def render(self, jobs: Sequence[Job]) -> list[Rendered]:
        """The fields of each job, in order."""
        keys = [job.key for job in jobs]
        if all(map(self._strikes.out, keys)):
            return [Failure.TEMPLATE] * len(jobs)
        async with self._one_at_a_time:
            rendered: dict[int, Rendered] = {
                # As the batches before this one left it.
                number: Failure.TEMPLATE
                for number, key in enumerate(keys)
                if self._strikes.out(key)
            }
            strikes: Counter[Key] = Counter()
            self._told.clear()
            while len(rendered) < len(jobs):
                for number, key in enumerate(keys):
                    if number not in rendered and strikes[key] >= STRIKES_MAX:
                        rendered[number] = Failure.TEMPLATE
                left = [number for number in range(len(jobs)) if number not in rendered]
                batch = [jobs[number] for number in left[:JOBS_MAX]]
                if batch:
                    rendered |= zip(left, await self._batch(batch, strikes), strict=False)
            made = [rendered[number] for number in range(len(jobs))]
            worded = {key for key, one in zip(keys, made, strict=True) if isinstance(one, dict)}
            self._strikes.learn(strikes, worded)
            return made

    async def close(self) -> None:
        """End the process."""
        async with self._one_at_a_time:
            await self._end()

    async def _batch(self, jobs: Sequence[Job], strikes: Counter[Key]) -> list[Rendered]:
        """The first of these jobs, at least one: what runs out of memory is the last."""
        try:
            rendered = await self._ask(jobs, strikes)
        except _NoProcess:
            return [Failure.MACHINE] * len(jobs)
        except (_Ended, _Late):
            return await self._one_by_one(jobs, strikes)
        if len(rendered) < len(jobs):
            strikes[jobs[len(rendered) - 1].key] += 1
        return rendered

    async def _one_by_one(self, jobs: Sequence[Job], strikes: Counter[Key]) -> list[Rendered]:
        rendered: list[Rendered] = []
        for job in jobs:
            if strikes[job.key] >= STRIKES_MAX:
                rendered.append(Failure.TEMPLATE)
                continue
            try:
                rendered += await self._ask([job], strikes, alone=True)
                continue
            except _NoProcess:
                break
            except _Late as late:
                if not late.busy:
                    log.warning("renderer_gets_no_processor", name=job.template)
                    break
            except _Ended:
                pass
            self._tell(job, "Killed")
            strikes[job.key] += 1
            rendered.append(Failure.TEMPLATE)
        # The machine has no time for them, so the rest need not be tried now.
        return rendered + [Failure.MACHINE] * (len(jobs) - len(rendered))

    async def _ask(
        self, jobs: Sequence[Job], strikes: Counter[Key], alone: bool = False
    ) -> list[Rendered]:
        """One round trip: the first jobs' results, at least one. Raises _Ended, _Late, _NoProcess;
        the process is then gone."""
        process = self._process or await self._start()
        used_before_s = _processor_s(process.pid)

        def is_busy() -> bool:
            # An alarm ends it at its budget; twice that is what no alarm could end.
            return _processor_s(process.pid) - used_before_s >= 2 * self._budget_s

        done = False
        try:
            request = self._request(jobs)
            if alone:
                said = await _answer_of_one(process, request, is_busy)
            else:
                async with asyncio.timeout(self._deadline_s):
                    said = await _exchange(process, request)
            results = self._results(said, jobs, strikes)
            done = not said.get("ends")
            return results
        except TimeoutError:
            raise _Late(is_busy()) from None
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
            raise _Ended from None
        finally:
            if not done:
                # Also where this task was cancelled: an answer would be taken for the next one's.
                await self._end()

    def _request(self, jobs: Sequence[Job]) -> bytes:
        places: dict[str, int] = {}
        asked = [
            {
                "fields": {
                    part: places.setdefault(source, len(places))
                    for part, source in job.fields.items()
                },
                "values": job.values,
            }
            for job in jobs
        ]
        return frame(
            {
                "sources": list(places),
                "jobs": asked,
                "budget_s": self._budget_s,
                "cpu_s": self._deadline_s,
            }
        )

    def _results(self, said: Any, jobs: Sequence[Job], strikes: Counter[Key]) -> list[Rendered]:
        results = said["results"]
        if not 1 <= len(results) <= len(jobs) or (len(results) < len(jobs) and not said["ends"]):
            raise EOFError
        return [self._rendered(one, job, strikes) for one, job in zip(results, jobs, strict=False)]

    def _rendered(self, result: Mapping[str, Any], job: Job, strikes: Counter[Key]) -> Rendered:
        words = result.get("words")
        if words is None:
            strikes[job.key] += result["failed"] == OVERRUN
            self._tell(job, str(result["failed"]))
            return Failure.TEMPLATE
        if words.keys() != job.fields.keys() or not all(isinstance(w, str) for w in words.values()):
            raise EOFError
        return dict(words)

    def _tell(self, job: Job, error: str) -> None:
        """Log a failure: the template, and the type of an exception."""
        known = (job.template, error)
        if known not in self._told:
            self._told.add(known)
            # A type's name, as far as the process can be believed.
            shown = error if error.isidentifier() and len(error) <= 64 else "-"
            log.warning("template_failed", name=job.template, error=shown)

    async def _start(self) -> Process:
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "services.presence.render_process",
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env=_environment(),
            )
            async with asyncio.timeout(_START_S):
                if await _read(process) != READY:
                    raise EOFError
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            log.warning("renderer_does_not_start", error=type(error).__name__)
            await self._end()
            raise _NoProcess from None
        except BaseException:  # Cancelled: nobody will ask it.
            await self._end()
            raise
        metrics.render_starts.inc()
        return process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.kill()
        except ProcessLookupError:
            pass
        await process.wait()


async def _exchange(process: Process, request: bytes) -> Any:
    assert process.stdin is not None
    process.stdin.write(request)
    await process.stdin.drain()
    return await _read(process)


async def _answer_of_one(process: Process, request: bytes, is_busy: Callable[[], bool]) -> Any:
    """Raises TimeoutError once it `is_busy` for too long, or does not get to its work."""
    answer = asyncio.create_task(_exchange(process, request))
    try:
        async with asyncio.timeout(_ALONE_S):
            while not (await asyncio.wait({answer}, timeout=_LOOK_EVERY_S))[0]:
                if is_busy():
                    raise TimeoutError
        return answer.result()
    finally:
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)


async def _read(process: Process) -> Any:
    assert process.stdout is not None
    size = int.from_bytes(await process.stdout.readexactly(4), "big")
    if size > _ANSWER_BYTES_MAX:
        raise EOFError
    return json.loads(await process.stdout.readexactly(size))


def _environment() -> dict[str, str]:
    """Where Python finds what this process found; and nothing else, above all no secret."""
    paths = [str(Path(path or ".").resolve()) for path in sys.path]
    return {"PYTHONPATH": os.pathsep.join(paths), "PATH": os.environ.get("PATH", os.defpath)}


def _processor_s(pid: int) -> float:
    """The processor's time that a process has used."""
    try:
        # The second field, in brackets, is a name and may hold blanks.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND
