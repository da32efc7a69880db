"""A story's own time, chance, channels and log, in place of those of the machine."""

import gc
import itertools
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any
from unittest.mock import patch

import structlog

from tests.simulation import replicas
from tests.simulation.virtual_time import PROCESS


@contextmanager
def in_its_own_time(story: Any, loud: bool) -> Iterator[None]:
    """Clocks, chance and channels are the story's; what services log is told, or not at all."""
    real = time.clock_gettime

    def clock_gettime(clock: int) -> float:
        return 1_000.0 + story.loop.now if clock == time.CLOCK_BOOTTIME else real(clock)

    draw = Random(7)

    def drawn() -> uuid.UUID:
        return uuid.UUID(int=draw.getrandbits(128), version=4)

    def note(_: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        process = PROCESS.get()
        what = event.pop("event")
        event.pop("module", None)
        story.record("log", who=process.name if process else "?", what=what, **event)
        raise structlog.DropEvent

    former = structlog.get_config()
    level = 10 if loud else 50
    open_channel = story.switchboard.open_channel
    with ExitStack() as stack:
        for module in (
            "services.edge.uplink", "services.edge.readers", "services.edge.members",
            "services.coordinator.reporter",
        ):  # fmt: skip
            stack.enter_context(patch(f"{module}.open_channel", open_channel))
        stack.enter_context(patch("time.clock_gettime", clock_gettime))
        stack.enter_context(
            replicas.simulated(open_channel, lambda: story.loop.now, Random(story.seed))
        )
        stack.enter_context(patch("uuid.uuid4", drawn))
        structlog.configure(
            processors=[note], wrapper_class=structlog.make_filtering_bound_logger(level)
        )
        collects = gc.isenabled()
        gc.disable()  # what a collection finds would end whenever it ran
        try:
            yield
        finally:
            structlog.configure(**former)
            if collects:
                gc.enable()
                _collect_in_turn()


_played = itertools.count(1)


def _collect_in_turn() -> None:
    """Each story leaves cycles behind; what was there before the first is not looked at again."""
    number = next(_played)
    if number == 1:
        gc.freeze()
    elif number % 10 == 0:
        with warnings.catch_warnings():
            # A process that dies leaves tasks which had not begun.
            warnings.filterwarnings("ignore", "coroutine .* was never awaited")
            gc.collect()
