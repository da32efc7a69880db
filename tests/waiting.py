"""Waiting for conditions, with deadlines."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(
    condition: Callable[[], T | Awaitable[T]], deadline_s: float = 10, every_s: float = 0.01
) -> T:
    """Wait until `condition()` is true and return its value; fail after `deadline_s`."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < end, f"not within {deadline_s} s: {condition}"
        await asyncio.sleep(every_s)


def wait_for(condition: Callable[[], T], deadline_s: float, what: str = "") -> T:
    """As `until`, for tests without an event loop; fails, saying `what`."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {deadline_s} s: {what or condition}"
        time.sleep(0.02)
