"""Looks at every socket once in a round: pings, missing pongs, deadlines, token expiry.

One task for all sockets of a process, in place of timers of their own. Knows when a round begins
and who is there; what is due is decided by each connection. A round is numbered, and its number
is told to `begin_round` before the first socket is visited, so that what it vouches for can be
noted.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator

from services.edge.socket import Connection
from services.edge.socket_protocol import SocketProtocol

_SLICE = 256  # sockets between two breaths of the event loop


class Sweep:
    """The sockets of this process, and their rounds.

    `round_s`: seconds from one round to the next. `rounds`: in so many rounds each socket has its
    turn once. `begin_round(now, number)` is called as a round begins.
    """

    def __init__(
        self, begin_round: Callable[[float, int], None], round_s: float, rounds: int
    ) -> None:
        self._begin_round = begin_round
        self._round_s = round_s
        self._rounds = rounds
        self._sockets: set[SocketProtocol] = set()
        self._turns = itertools.cycle(range(rounds))
        self._empty = asyncio.Event()
        self._empty.set()
        self.round_number = 0  # the newest round; 0: none has begun

    def __len__(self) -> int:
        return len(self._sockets)

    def next_turn(self) -> int:
        """The turn of the next socket; they are dealt out evenly."""
        return next(self._turns)

    def add(self, socket: SocketProtocol) -> None:
        """Visits `socket` from the next round on."""
        self._sockets.add(socket)
        self._empty.clear()

    def discard(self, socket: SocketProtocol) -> None:
        """Visits `socket` no longer."""
        self._sockets.discard(socket)
        if not self._sockets:
            self._empty.set()

    async def emptied(self) -> None:
        """Returns when no socket is left."""
        await self._empty.wait()

    def connections(self) -> Iterator[Connection]:
        """The connections of all open sockets; safe while sockets come and go."""
        for socket in list(self._sockets):
            if (connection := socket.connection) is not None:
                yield connection

    def abort_all(self) -> None:
        """Cuts every socket that is left."""
        for socket in list(self._sockets):
            socket.abort()

    async def run(self) -> None:
        """Begins a round every `round_s`, until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + self._round_s, loop.time())
            await asyncio.sleep(due - loop.time())
            self.round_number += 1
            self._begin_round(loop.time(), self.round_number)
            await self._visit_all(loop)

    async def _visit_all(self, loop: asyncio.AbstractEventLoop) -> None:
        for visited, socket in enumerate(list(self._sockets), 1):
            socket.on_sweep(loop.time(), self.round_number, self._rounds)
            if visited % _SLICE == 0:
                await asyncio.sleep(0)
