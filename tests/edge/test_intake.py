"""Whose turn it is to be read, and who holds too much of what is not complete."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from services.edge.intake import Intake

Run = Callable[[Coroutine[Any, Any, None]], None]


class Reader:
    """Notes what it is told, and may want to be told again."""

    def __init__(self, intake: Intake, name: str, told: list[str], more: int = 0) -> None:
        self._intake = intake
        self._name = name
        self._told = told
        self._more = more

    def read_on(self) -> None:
        self._told.append(self._name)
        if self._more:
            self._more -= 1
            self._intake.take_turn(self)

    def drop_unfinished(self) -> None:
        self._told.append(f"drop {self._name}")


def test_turns_are_taken_one_in_each_tick_of_the_loop(run: Run) -> None:
    async def main() -> None:
        intake, told = Intake(asyncio.get_running_loop(), 1 << 20), list[str]()
        for name in ("a", "b"):
            intake.take_turn(Reader(intake, name, told, more=1))
        seen = []
        for _ in range(5):
            await asyncio.sleep(0)
            seen.append(len(told))
        assert seen == [1, 2, 3, 4, 4]
        assert told == ["a", "b", "a", "b"]
        assert intake.paused == 0

    run(main())


def test_who_waits_is_read_after_the_next_tick_of_the_edge(run: Run) -> None:
    async def main() -> None:
        intake, told = Intake(asyncio.get_running_loop(), 1 << 20), list[str]()
        first, second = Reader(intake, "a", told), Reader(intake, "b", told)
        intake.wait(first)
        intake.wait(second)
        intake.forget(second)
        await asyncio.sleep(0)
        assert (told, intake.paused) == ([], 1)
        intake.tick()
        await asyncio.sleep(0)
        assert (told, intake.paused) == (["a"], 0)

    run(main())


def test_beyond_the_bound_the_largest_is_dropped(run: Run) -> None:
    async def main() -> None:
        intake, told = Intake(asyncio.get_running_loop(), 100_000), list[str]()
        readers = [Reader(intake, name, told) for name in "abc"]
        for reader, size in zip(readers, (20_000, 60_000, 15_000), strict=True):
            intake.hold(reader, size)
        assert (told, intake.unfinished_bytes) == ([], 95_000)
        intake.hold(readers[0], 30_000)
        assert (told, intake.unfinished_bytes) == (["drop b"], 45_000)
        intake.hold(readers[0], 0)
        intake.hold(readers[2], 5)  # too little to be kept count of
        assert intake.unfinished_bytes == 0
        intake.hold(readers[2], 50_000)
        intake.forget(readers[2])
        assert intake.unfinished_bytes == 0

    run(main())
