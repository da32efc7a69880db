"""Decides which workers of an edge run, each a process that is an edge of its own. Pure.

Knows numbers, exit codes and `now` (seconds, any monotonic clock); must not know processes. Drive
it: call a method when something happened, carry out the effects in their order, and call `tick` at
`next_deadline`. Its rules:

- All workers start at once. One that dies is started again after a back-off, which doubles with
  each death and is forgotten once it has run for long enough.
- One that ends with code 0 was asked to (it drained), and is not started again.
- One that ends with code 2 says that it cannot start as it is set up. If no worker has ever run for
  long, that holds for all of them, and everything ends with code 2.
- A stop ends all at once, each in its own time; who takes longer than it may is killed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

CANNOT_START: Final = 2  # exit code of a process that names what is wrong with its settings


@dataclass(frozen=True, slots=True)
class Start:
    """Start the worker of this number; tell `ended` when it has ended."""

    number: int


@dataclass(frozen=True, slots=True)
class Terminate:
    """Send it SIGTERM."""

    number: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Send it SIGKILL."""

    number: int


@dataclass(frozen=True, slots=True)
class End:
    """No worker is left: end with this exit code."""

    code: int


Effect = Start | Terminate | Kill | End


@dataclass(frozen=True, slots=True)
class CrewLimits:
    """Times, in seconds."""

    stop_s: float  # what a worker may take to end; longer: it is killed
    backoff_first_s: float = 0.5
    backoff_longest_s: float = 30.0
    settled_s: float = 30.0  # having run for so long, a worker's earlier deaths are forgotten


@dataclass(slots=True)
class _Worker:
    running: bool = False
    started_at: float = 0.0
    start_at: float | None = None  # when it is due to start again
    backoff_s: float = 0.0


@dataclass(slots=True)
class Crew:
    """`count` workers, numbered from 0."""

    count: int
    limits: CrewLimits
    _workers: list[_Worker] = field(default_factory=list)
    _settled: bool = False  # some worker has run for long
    _kill_at: float | None = None  # set by a stop
    _code: int = 0

    def __post_init__(self) -> None:
        self._workers = [_Worker() for _ in range(self.count)]

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop, or has to."""
        return self._kill_at is not None

    def start(self, now: float) -> list[Effect]:
        """Starts all."""
        return [self._start(number, now) for number in range(self.count)]

    def ended(self, number: int, code: int, now: float) -> list[Effect]:
        """A worker has ended, with this exit code (negative: by that signal)."""
        worker = self._workers[number]
        worker.running = False
        if now - worker.started_at >= self.limits.settled_s:
            self._settled, worker.backoff_s = True, 0.0
        effects: list[Effect] = []
        if not self.stopping:
            if code == CANNOT_START and not self._settled:
                self._code = CANNOT_START
                effects = self.stop(now)
            elif code != 0:
                longest = self.limits.backoff_longest_s
                worker.backoff_s = min(worker.backoff_s * 2 or self.limits.backoff_first_s, longest)
                worker.start_at = now + worker.backoff_s
        if not effects and not any(self._left()):
            effects = [End(self._code)]
        return effects

    def stop(self, now: float) -> list[Effect]:
        """Ends all in peace; a second time changes nothing."""
        if self.stopping:
            return []
        self._kill_at = now + self.limits.stop_s
        for worker in self._workers:
            worker.start_at = None
        effects: list[Effect] = [Terminate(number) for number in self._running()]
        return effects or [End(self._code)]

    def tick(self, now: float) -> list[Effect]:
        """Does what has fallen due."""
        if self._kill_at is not None:
            if now < self._kill_at:
                return []
            self._kill_at = now + self.limits.stop_s
            return [Kill(number) for number in self._running()]
        due = [
            n for n, w in enumerate(self._workers) if w.start_at is not None and w.start_at <= now
        ]
        return [self._start(number, now) for number in due]

    def next_deadline(self) -> float | None:
        """When to call `tick`; None: not until something happens."""
        times = (self._kill_at, *(worker.start_at for worker in self._workers))
        return min((at for at in times if at is not None), default=None)

    def _start(self, number: int, now: float) -> Effect:
        worker = self._workers[number]
        worker.running, worker.started_at, worker.start_at = True, now, None
        return Start(number)

    def _running(self) -> Iterator[int]:
        return (number for number, worker in enumerate(self._workers) if worker.running)

    def _left(self) -> Iterator[bool]:
        return (one.running or one.start_at is not None for one in self._workers)
