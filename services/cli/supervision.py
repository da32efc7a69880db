"""Decides which child processes run: the core of `onward up`. Pure.

It knows names, exit codes and `now` (seconds, any monotonic clock); it must not know what a child
is for, nor how one is started. Drive it: call a method when something happened, carry out the
effects in their order, and call `tick` at `next_deadline`.

Its rules:
- All children start at once. When every one is ready for the first time: Ready.
- A child that ends is started again after a back-off, which doubles with each end and is
  forgotten once the child has run for long enough.
- A child that ends with code 2 says that it cannot start as it is set up. Before the first Ready
  this ends everything, with code 2. It is believed only once what the child needs is ready.
- A stop ends one group of children after the other. Each has its share of the time, and what those
  before it left of theirs; when that is over they are killed and the next one's turn has come. A
  second stop kills all at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from signal import Signals

CANNOT_START = 2  # exit code of a process that names what is wrong with its settings


@dataclass(frozen=True, slots=True)
class Start:
    """Start the child; tell `became_ready` when it can do its work, `exited` when it ended."""

    name: str


@dataclass(frozen=True, slots=True)
class Terminate:
    """Send the child SIGTERM."""

    name: str


@dataclass(frozen=True, slots=True)
class Kill:
    """Send the child SIGKILL."""

    name: str


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the person at the terminal."""

    text: str


@dataclass(frozen=True, slots=True)
class ShowRefusal:
    """Show the sentence with which the child ended."""

    name: str


@dataclass(frozen=True, slots=True)
class Ready:
    """All children are ready for the first time: say so."""


@dataclass(frozen=True, slots=True)
class End:
    """No child is left: end with this exit code."""

    code: int


Effect = Start | Terminate | Kill | Report | ShowRefusal | Ready | End


@dataclass(frozen=True, slots=True)
class Limits:
    """Times, in seconds."""

    backoff_first_s: float = 0.2
    backoff_longest_s: float = 10.0
    settled_s: float = 30.0  # having run for this long, a child's earlier ends are forgotten


Group = tuple[str, ...]  # names of children


@dataclass(slots=True)
class _Child:
    needs: Sequence[str]
    running: bool = False
    ready: bool = False
    killed: bool = False
    started_at: float = 0.0
    start_at: float | None = None  # when it is due to start again
    backoff_s: float = 0.0


@dataclass(slots=True)
class Supervision:
    """The children by name, each with the names it needs, in the order in which they start.

    `stop_shares` names those that stop together, in the order in which they stop, with the seconds
    that each such group may take.
    """

    children: Mapping[str, Sequence[str]]
    stop_shares: Mapping[Group, float]
    limits: Limits = field(default_factory=Limits)
    _state: dict[str, _Child] = field(default_factory=dict)
    _was_ready: bool = False
    _stopping: bool = False
    _code: int = 0
    _turn: Group = ()  # the children that are being stopped
    _turn_ends_at: float = 0.0
    _turns_end_at: dict[Group, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        stopped = [name for group in self.stop_shares for name in group]
        assert sorted(stopped) == sorted(self.children)
        self._state = {name: _Child(needs) for name, needs in self.children.items()}

    def start(self, now: float) -> list[Effect]:
        """Start all."""
        return [effect for name in self._state for effect in self._start(name, now)]

    def became_ready(self, name: str, now: float) -> list[Effect]:
        """The child can do its work."""
        child = self._state[name]
        if self._stopping or not child.running or child.ready:
            return []
        child.ready = True
        again = " again" if self._was_ready else ""
        effects: list[Effect] = [Report(f"{name} is ready{again} ({now - child.started_at:.1f} s)")]
        if not self._was_ready and all(child.ready for child in self._state.values()):
            self._was_ready = True
            effects.append(Ready())
        return effects

    def exited(self, name: str, code: int, now: float) -> list[Effect]:
        """The child ended; `code` is negative for a signal."""
        child = self._state[name]
        child.running = child.ready = False
        if self._stopping:
            return self._go_on_stopping(now)
        needed_ready = all(self._state[needed].ready for needed in child.needs)
        if code == CANNOT_START and not self._was_ready and needed_ready:
            self._code = CANNOT_START
            return [ShowRefusal(name), *self.stop(now)]
        if now - child.started_at >= self.limits.settled_s:
            child.backoff_s = 0.0
        child.backoff_s = min(
            max(self.limits.backoff_first_s, 2 * child.backoff_s), self.limits.backoff_longest_s
        )
        child.start_at = now + child.backoff_s
        how = f"by {_signal_name(-code)}" if code < 0 else f"with code {code}"
        return [Report(f"{name} ended {how}; starting it again in {child.backoff_s:g} s")]

    def tick(self, now: float) -> list[Effect]:
        """Do what has fallen due."""
        if self._stopping:
            return self._go_on_stopping(now)
        due = [n for n, c in self._state.items() if c.start_at is not None and c.start_at <= now]
        return [effect for name in due for effect in self._start(name, now)]

    def stop(self, now: float) -> list[Effect]:
        """Stop all, in order; called again: at once."""
        if self._stopping:
            return [self._kill(name) for name, c in self._state.items() if c.running]
        self._stopping = True
        end = now
        for group, share_s in self.stop_shares.items():
            end += share_s
            self._turns_end_at[group] = end
        return self._go_on_stopping(now)

    def next_deadline(self) -> float | None:
        """When `tick` has something to do; None: not before something happens."""
        if self._stopping:
            return self._turn_ends_at if self._turn else None
        return min(
            (c.start_at for c in self._state.values() if c.start_at is not None), default=None
        )

    def _start(self, name: str, now: float) -> list[Effect]:
        child = self._state[name]
        child.running, child.started_at, child.start_at = True, now, None
        return [Start(name)]

    def _kill(self, name: str) -> Effect:
        self._state[name].killed = True
        return Kill(name)

    def _may_terminate(self, name: str) -> bool:
        return self._state[name].running and not self._state[name].killed

    def _go_on_stopping(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if late := [name for name in self._turn if self._state[name].running]:
            if now < self._turn_ends_at:
                return []
            for name in late:
                effects += [Report(f"{name} takes too long to stop"), self._kill(name)]
        self._turn = ()
        for group, end in self._turns_end_at.items():
            due = tuple(name for name in group if self._may_terminate(name))
            if due:
                self._turn, self._turn_ends_at = due, end
                return [*effects, *(Terminate(name) for name in due)]
        if not any(child.running for child in self._state.values()):
            effects.append(End(self._code))
        return effects


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"
