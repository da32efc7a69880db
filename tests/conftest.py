"""What every test may use: running coroutines."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

# Settings of the machine that runs the tests must not reach the services under test.
for _name in [name for name in os.environ if name.startswith("ONWARD_")]:
    del os.environ[_name]


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Runs a coroutine to its end on a fresh event loop, within 60 s."""

    def run_to_end(coroutine: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(60):
                return await coroutine

        return asyncio.run(bounded())

    return run_to_end
