"""The process that runs templates: `python -m services.presence.render_process`.

A template may loop, or ask for all memory; here that ends nothing but the delivery at fault, or
this process, which `render_worker` starts anew. It has no secret in its environment, writes no
file, and its standard error goes nowhere, since the words of exceptions may quote what messages
say: of a failure the exception's type is answered, and nothing else.

On both pipes: four bytes of length, big endian, then that much JSON. `read_frame` and `frame` are
all of it. Asked {"sources", "jobs", "budget_s", "cpu_s"}; a job has "fields", the number of the
source of each field, and "values". Answered {"results", "ends"}, a result for each job in order:
"words", or "failed". With "ends" it has run out of memory: jobs after that are not answered, and
the process ends.
"""

import json
import math
import resource
import signal
import sys
from datetime import UTC, datetime
from functools import lru_cache
from types import FrameType, SimpleNamespace
from typing import Any, BinaryIO

from jinja2 import Template

from services.presence.sandbox import environment
from services.presence.wording import BODY_MAX, HTML_MAX, TITLE_MAX, URL_MAX, web_address

# For the interpreter, what is compiled, one batch, and one template at its work.
MEMORY_BYTES_MAX = 256 * 1024 * 1024
# After a template has used up its time or killed the process so often in one batch, it is not run
# for further deliveries of the batch.
STRIKES_MAX = 3
READY = {"ready": True}
# The failure of a template that has used up its time.
OVERRUN = "Overrun"
_COMPILED_MAX = 2_000
# What is longer is cut anyway, but only after it has been cleaned.
_CUT_AT = {"title": 8 * TITLE_MAX, "body": 2 * BODY_MAX, "html": HTML_MAX + 1, "url": URL_MAX + 1}
_AGAIN_S = 0.05


class _Overrun(BaseException):
    """A template has used up its time. No Exception, for those some filters take as an answer."""


class _Clock:
    """Ends a job that has used up its time on the processor, as often as it takes."""

    def __init__(self) -> None:
        self._running = False
        signal.signal(signal.SIGPROF, self._ring)

    def start(self, budget_s: float) -> None:
        self._running = True
        signal.setitimer(signal.ITIMER_PROF, budget_s, _AGAIN_S)

    def stop(self) -> None:
        self._running = False
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _ring(self, number: int, at: FrameType | None) -> None:
        if self._running:
            raise _Overrun


def frame(value: object) -> bytes:
    """A value as it goes through a pipe."""
    data = json.dumps(value, separators=(",", ":")).encode()
    return len(data).to_bytes(4, "big") + data


def read_frame(pipe: BinaryIO) -> Any:
    """The next value of a pipe; None: it has ended."""
    head = pipe.read(4)
    size = int.from_bytes(head, "big")
    data = pipe.read(size)
    return json.loads(data) if len(head) == 4 and len(data) == size else None


def answer(asked: dict[str, Any], clock: _Clock) -> dict[str, Any]:
    """Run the jobs of one batch."""
    results: list[dict[str, Any]] = []
    strikes: dict[str, int] = {}
    for job in asked["jobs"]:
        name = json.dumps(job["fields"], sort_keys=True)
        if strikes.get(name, 0) >= STRIKES_MAX:
            results.append({"failed": OVERRUN})
            continue
        try:
            clock.start(asked["budget_s"])
            words = _run(job, asked["sources"])
            clock.stop()
            results.append({"words": words})
        except _Overrun:
            clock.stop()
            strikes[name] = strikes.get(name, 0) + 1
            results.append({"failed": OVERRUN})
        except MemoryError:
            clock.stop()
            return {"results": [*results, {"failed": "MemoryError"}], "ends": True}
        except Exception as error:  # noqa: BLE001  # a template raises anything; its type is the answer
            clock.stop()
            results.append({"failed": type(error).__name__})
    return {"results": results, "ends": False}


def _run(job: dict[str, Any], sources: list[str]) -> dict[str, str]:
    values = _values(job["values"])
    words: dict[str, str] = {}
    # The address comes first, since the other fields may link to it.
    for part, place in sorted(job["fields"].items(), key=lambda field: field[0] != "url"):
        made = _compiled(sources[place], part == "html").render(values)[: _CUT_AT[part]]
        words[part] = made
        if part == "url":
            values["url"] = web_address(made)
    return words


def _values(values: dict[str, Any]) -> dict[str, Any]:
    """What a template is given: times as such, and the newest message by a name of its own."""
    messages = [
        {**one, "accepted_at": datetime.fromtimestamp(one["accepted_at"], UTC)}
        for one in values["messages"]
    ]
    # Where no message is kept any more there is still something to name.
    nothing = {"text": "", "publisher": "", "headers": {}, "seq": 0, "content_type": ""}
    return {
        **values,
        "messages": messages,
        "newest": messages[-1] if messages else {**nothing, "accepted_at": None},
        "expires_at": datetime.fromtimestamp(values["expires_at"], UTC),
    }


@lru_cache(maxsize=_COMPILED_MAX)
def _compiled(source: str, html: bool) -> Template:
    template: Template = _environment(html).from_string(source)
    return template


@lru_cache(maxsize=2)
def _environment(html: bool) -> Any:
    return environment(html)


def _limit() -> None:
    for what, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES_MAX),
        # A core would hold what messages say.
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(what, (most, most))


def _limit_time(cpu_s: float) -> None:
    """What the alarm cannot end, the kernel does: a single step that takes for ever."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = math.ceil(used.ru_utime + used.ru_stime + cpu_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def main() -> None:
    """Answer until the pipe ends."""
    # Whoever stops all processes at once still wants what is under way to be sent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _limit()
    clock = _Clock()
    pipes = SimpleNamespace(asked=sys.stdin.buffer, answered=sys.stdout.buffer)
    said: dict[str, Any] = dict(READY)
    while True:
        pipes.answered.write(frame(said))
        pipes.answered.flush()
        asked = None if said.get("ends") else read_frame(pipes.asked)
        if asked is None:
            return
        _limit_time(asked["cpu_s"])
        said = answer(asked, clock)


if __name__ == "__main__":
    main()
