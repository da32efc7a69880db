"""Whose turn it is to be sent: so many at a time of a plugin, and of each of its lanes.

A lane is what may be slow by itself, such as a host that a user named. Who waits for a turn in a
lane holds none of the plugin's, so that a slow lane fills itself and nothing else. Knows numbers
and names; must not know deliveries. To drive it:

    turns = Turns(at_a_time=32, of_a_lane=8)
    async with turns.of("hooks.example.org", 2.0): …  # waits for both; "": for the plugin's alone
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class LaneFull(Exception):
    """Its lane had no turn for it in time."""


class Turns:
    """The turns of one plugin. Lanes are kept only while somebody is in them."""

    def __init__(self, at_a_time: int, of_a_lane: int = 0) -> None:
        """`of_a_lane`: 0: as many as there are."""
        self._all = asyncio.Semaphore(at_a_time)
        self._of_a_lane = of_a_lane or at_a_time
        self._lanes: dict[str, _Lane] = {}

    @property
    def lanes(self) -> int:
        """How many have somebody in them."""
        return len(self._lanes)

    @asynccontextmanager
    async def of(self, lane: str, wait_s: float) -> AsyncIterator[None]:
        """A turn, as long as it is held. Raises LaneFull where the lane has none within `wait_s`:
        whoever waits on for one keeps others waiting that came with it."""
        if not lane:
            async with self._all:
                yield
            return
        own = self._lanes.setdefault(lane, _Lane(self._of_a_lane))
        own.inside += 1
        try:
            try:
                async with asyncio.timeout(wait_s):
                    await own.turns.acquire()
            except TimeoutError:
                raise LaneFull from None
            try:
                async with self._all:
                    yield
            finally:
                own.turns.release()
        finally:
            own.inside -= 1
            if not own.inside:
                del self._lanes[lane]


class _Lane:
    """Who is in it, waiting or not."""

    __slots__ = ("inside", "turns")

    def __init__(self, at_a_time: int) -> None:
        self.turns = asyncio.Semaphore(at_a_time)
        self.inside = 0
