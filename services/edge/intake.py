"""What all sockets of an edge send it: whose turn it is to be read, and what it adds up to.

A socket that has used up its portion is read on in a later tick of the event loop, after the
others, and one such socket in each tick; one that has used up its allowance, when its meter
allows it again. So a client that floods costs what its limits say, and holds up nobody. Knows
sockets as `Reader`s; must not know frames. Drive it: `tick()` every 50 ms or so.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

# Less is what any connection costs anyway, and is not worth keeping a list for.
_UNFINISHED_LEAST: Final = 4 * 1024


class Reader(Protocol):
    """A socket whose reading can be put off."""

    def read_on(self) -> None:
        """Reads the next portion, if its allowance has room; else it says `wait` again."""

    def drop_unfinished(self) -> None:
        """Closes: of all sockets it holds the most of a message that is not complete."""


class Intake:
    """Shared by all sockets of a process. `unfinished_bytes_max`: of messages not complete."""

    def __init__(self, loop: asyncio.AbstractEventLoop, unfinished_bytes_max: int) -> None:
        self.frames = 0  # that came since the start; sockets count here
        self.bytes = 0
        self.unfinished_bytes = 0
        self._unfinished_bytes_max = unfinished_bytes_max
        self._unfinished: dict[Reader, int] = {}
        self._loop = loop
        self._turns: deque[Reader] = deque()
        self._waiting: dict[Reader, None] = {}  # without allowance
        self._armed = False

    @property
    def paused(self) -> int:
        """How many sockets are not read now."""
        return len(self._waiting) + len(self._turns)

    def take_turn(self, reader: Reader) -> None:
        """Lets `reader` read on in a later tick of the loop."""
        self._turns.append(reader)
        self._arm()

    def wait(self, reader: Reader) -> None:
        """Lets `reader` ask its meter again at the next `tick`."""
        self._waiting[reader] = None

    def tick(self) -> None:
        """Gives everybody who waits a turn."""
        if self._waiting:
            self._turns.extend(self._waiting)
            self._waiting.clear()
            self._arm()

    def hold(self, reader: Reader, size: int) -> None:
        """`reader` holds `size` bytes of a message that is not complete.

        If that is too much in all, whoever holds the most is closed.
        """
        before = self._unfinished.pop(reader, 0)
        if size >= _UNFINISHED_LEAST:
            self._unfinished[reader] = size
        else:
            size = 0
        self.unfinished_bytes += size - before
        while self.unfinished_bytes > self._unfinished_bytes_max:
            largest = max(self._unfinished, key=self._unfinished.__getitem__)
            self.unfinished_bytes -= self._unfinished.pop(largest)
            largest.drop_unfinished()

    def forget(self, reader: Reader) -> None:
        """The socket is gone."""
        self._waiting.pop(reader, None)
        self.unfinished_bytes -= self._unfinished.pop(reader, 0)

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        self._armed = False
        if self._turns:
            self._turns.popleft().read_on()
        if self._turns:
            self._arm()
