"""What lies between processes: delays, cuts, answers that get lost. Knows no content.

Two ways to speak. `ask` is one question with a deadline: where it fails, what was asked for may
have been done. A `Pipe` is one direction of a connection: what goes in comes out, in order, later;
while the way is cut it waits; it ends at most once, and then nothing more comes.
"""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from tests.simulation.virtual_time import WORLD, VirtualLoop

_USUAL_S = 0.004


class LostError(Exception):
    """Nobody answered in time, or the connection broke."""


class Network:
    """All ways, by the names of their two ends."""

    def __init__(self, loop: VirtualLoop, random: Random) -> None:
        self.loop = loop
        self.random = random
        self.cuts: set[frozenset[str]] = set()
        self.slow: dict[frozenset[str], float] = {}  # additional seconds, at most
        self.lossy: dict[frozenset[str], float] = {}  # share of questions that go wrong
        self.stuck: dict[frozenset[str], float] = {}  # share of questions that arrive much later
        self.down: set[str] = set()  # who takes nothing now, such as a store that fails over
        # By asker and asked: what happens as the next question is on its way, arrived or answered.
        self.traps: dict[tuple[str, str], tuple[str, Callable[[], None]]] = {}
        self._pipes: list[Pipe] = []

    def later(self, seconds: float, call: Callable[..., None], *arguments: object) -> None:
        """Something that happens whoever lives."""
        self.loop.call_later(seconds, call, *arguments, context=WORLD)

    def delay(self, one: str, other: str) -> float:
        """How long something takes now."""
        random = self.random.random
        seconds = 0.0003 + random() ** 3 * _USUAL_S
        if self.slow:
            seconds += random() * self.slow.get(frozenset((one, other)), 0.0)
        return seconds

    def reachable(self, one: str, other: str) -> bool:
        """Whether the way is open and the other end takes something."""
        return not self.cuts or frozenset((one, other)) not in self.cuts

    # Questions.

    async def ask(self, asker: str, asked: str, work: Callable[[], Any], deadline_s: float) -> Any:
        """Have `work` done at the other end, and its result, or what it raised, here."""
        answer = self.loop.create_future()
        way = frozenset((asker, asked))
        lost = ""
        if self.lossy and self.random.random() < self.lossy.get(way, 0.0):
            lost = self.random.choice(("question", "answer"))

        late_s = 0.0
        if self.stuck and self.random.random() < self.stuck.get(way, 0.0):
            late_s = self.random.uniform(0.5, 8.0)

        def spring(moment: str) -> None:
            if self.traps and self.traps.get((asker, asked), ("",))[0] == moment:
                self.traps.pop((asker, asked))[1]()

        def arrive() -> None:
            spring("on its way")
            if not self.reachable(asker, asked) or asked in self.down or lost == "question":
                return
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - it is the asker's to hear
                self.later(self.delay(asked, asker), tell, None, error)
                return
            spring("arrived")
            if lost != "answer":
                self.later(self.delay(asked, asker), tell, result, None)

        def tell(result: Any, error: Exception | None) -> None:
            if answer.done() or not self.reachable(asker, asked) or asked in self.down:
                return
            spring("answered")
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)

        def give_up() -> None:
            if not answer.done():
                answer.set_exception(LostError(f"{asked} does not answer {asker}"))

        self.later(self.delay(asker, asked) + late_s, arrive)
        # A connection that broke is noticed sooner than a silent one.
        wait_s = deadline_s * self.random.random() if lost else deadline_s
        timer = self.loop.call_later(wait_s, give_up, context=WORLD)
        try:
            return await answer
        finally:
            timer.cancel()

    # Connections.

    def add(self, pipe: "Pipe") -> None:
        self._pipes.append(pipe)

    def heal(self) -> None:
        """Every way is open again, and quick."""
        self.cuts.clear()
        self.slow.clear()
        self.lossy.clear()
        self.traps.clear()
        self.stuck.clear()
        self.down.clear()
        self.flow()

    def open_way(self, one: str, other: str) -> None:
        """One way is open again."""
        self.cuts.discard(frozenset((one, other)))
        self.flow()

    def flow(self) -> None:
        """What waited goes on."""
        self._pipes = [pipe for pipe in self._pipes if not pipe.over]
        for pipe in self._pipes:
            pipe.flow()

    def end_of(self, name: str) -> None:
        """A process has died: its kernel ends its connections, as far as the ways are open."""
        for pipe in self._pipes:
            if name == pipe.sender:
                pipe.end()
            elif name == pipe.taker:
                pipe.close()


_END = object()


class Pipe:
    """One direction of a connection. `take` is called with what comes, `ended` once at the end."""

    def __init__(
        self,
        network: Network,
        sender: str,
        taker: str,
        take: Callable[[Any], None],
        ended: Callable[[], None],
    ) -> None:
        self.sender = sender
        self.taker = taker
        self.over = False
        self._network = network
        self._take = take
        self._ended = ended
        self._under_way: deque[Any] = deque()
        self._last_at = 0.0
        self._stuck = False
        self._ending = False
        network.add(self)

    def send(self, item: Any) -> None:
        """Put something in; nothing happens once it has ended."""
        if not self.over and not self._ending:
            self._put(item)

    def end(self) -> None:
        """The end, behind everything that was put in."""
        if not self.over and not self._ending:
            self._ending = True
            self._put(_END)

    def close(self) -> None:
        """The taker wants nothing more."""
        self.over = True
        self._under_way.clear()

    def flow(self) -> None:
        """The way may be open again."""
        if self._stuck:
            self._stuck = False
            for _ in self._under_way:
                self._schedule()

    def _put(self, item: Any) -> None:
        self._under_way.append(item)
        if not self._stuck:
            self._schedule()

    def _schedule(self) -> None:
        network = self._network
        at = max(self._last_at, network.loop.now + network.delay(self.sender, self.taker))
        self._last_at = at
        network.loop.call_at(at, self._arrive, context=WORLD)

    def _arrive(self) -> None:
        if self.over or self._stuck or not self._under_way:
            return
        if not self._network.reachable(self.sender, self.taker):
            self._stuck = True
            return
        item = self._under_way.popleft()
        if item is _END:
            self.over = True
            self._ended()
        else:
            self._take(item)
