"""Turns: a slow lane fills itself, and nothing else."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from services.notifier.turns import LaneFull, Turns

PATIENT_S = 30.0


class Road:
    """Things that hold a turn until they are let go."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.held: list[str] = []
        self.most: dict[str, int] = {}
        self._go: dict[str, asyncio.Event] = {}

    async def hold(self, lane: str) -> None:
        async with self.turns.of(lane, PATIENT_S):
            with self._counted(lane):
                await self._go.setdefault(lane, asyncio.Event()).wait()

    def let_go(self, lane: str) -> None:
        self._go.setdefault(lane, asyncio.Event()).set()

    @contextmanager
    def _counted(self, lane: str) -> Iterator[None]:
        self.held.append(lane)
        self.most[lane] = max(self.most.get(lane, 0), self.held.count(lane))
        yield
        self.held.remove(lane)


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_lane_that_is_full_leaves_turns_to_others(run: Any) -> None:
    async def body() -> None:
        road = Road(Turns(at_a_time=4, of_a_lane=2))
        slow = [asyncio.create_task(road.hold("slow")) for _ in range(10)]
        await settled()
        others = [asyncio.create_task(road.hold(lane)) for lane in ("a", "b")]
        await settled()
        assert sorted(road.held) == ["a", "b", "slow", "slow"]
        for lane in ("slow", "a", "b"):
            road.let_go(lane)
        await asyncio.gather(*slow, *others)
        assert road.most["slow"] == 2

    run(body())


def test_all_lanes_together_have_no_more_turns_than_there_are(run: Any) -> None:
    async def body() -> None:
        road = Road(Turns(at_a_time=3, of_a_lane=2))
        waiting = [asyncio.create_task(road.hold(lane)) for lane in "aabbcc"]
        await settled()
        assert len(road.held) == 3
        for lane in "abc":
            road.let_go(lane)
        await asyncio.gather(*waiting)

    run(body())


def test_without_a_lane_or_a_bound_of_one_only_the_whole_counts(run: Any) -> None:
    async def body() -> None:
        for turns, lane in ((Turns(3, 1), ""), (Turns(3), "a")):
            road = Road(turns)
            waiting = [asyncio.create_task(road.hold(lane)) for _ in range(5)]
            await settled()
            assert len(road.held) == 3
            road.let_go(lane)
            await asyncio.gather(*waiting)

    run(body())


def test_a_lane_is_forgotten_when_nobody_is_in_it_also_after_a_cancel(run: Any) -> None:
    async def body() -> None:
        turns = Turns(at_a_time=1, of_a_lane=1)
        road = Road(turns)
        waiting = [asyncio.create_task(road.hold(lane)) for lane in "aab"]
        await settled()
        assert turns.lanes == 2
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert turns.lanes == 0
        road.let_go("a")
        await road.hold("a")
        assert turns.lanes == 0

    run(body())


def test_whoever_gets_no_turn_in_a_lane_in_time_leaves_and_the_lane_goes_on(run: Any) -> None:
    async def body() -> None:
        turns = Turns(at_a_time=2, of_a_lane=1)
        road = Road(turns)
        first = asyncio.create_task(road.hold("slow"))
        await settled()
        with pytest.raises(LaneFull):
            async with turns.of("slow", 0.01):
                pass
        assert turns.lanes == 1
        async with turns.of("other", 0.01):
            pass
        road.let_go("slow")
        await first
        async with turns.of("slow", 0.01):
            pass
        assert turns.lanes == 0

    run(body())


def test_a_turn_of_the_plugin_is_waited_for_with_a_lane_or_without(run: Any) -> None:
    """Only a lane can be full: who waits for the plugin itself is answered at the deadline."""

    async def body() -> None:
        road = Road(Turns(at_a_time=1, of_a_lane=1))
        first = asyncio.create_task(road.hold("a"))
        await settled()

        async def wait(lane: str) -> None:
            async with road.turns.of(lane, 0.01):
                pass

        waiting = [asyncio.create_task(wait(lane)) for lane in ("", "b")]
        assert not (await asyncio.wait(waiting, timeout=0.1))[0]
        road.let_go("a")
        await asyncio.gather(*waiting, first)

    run(body())
