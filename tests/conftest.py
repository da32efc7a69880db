"""What every test may use: running coroutines."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
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


_ALLOWED_SKIPS = Path(__file__).with_name("skips.txt")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        allowed = {line.split("#")[0].strip() for line in _ALLOWED_SKIPS.read_text().splitlines()}
        if item.nodeid not in allowed:
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} was skipped, and tests/skips.txt does not name it"
    return report
