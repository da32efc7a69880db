"""What every test may use: running coroutines. And logs: all of a run, at debug level, are looked
through at its end for what no log may hold."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, TextIO, TypeVar

import pytest

from services.chassis import logs
from tests.log_scan import leaks_in, logs_below
from tests.real_postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]  # fixtures

T = TypeVar("T")

# Settings of the machine that runs the tests must not reach the services under test.
# What lengthens a test is no setting.
_OF_TESTS = ("ONWARD_FUZZ_S", "ONWARD_FUZZ_SEED")
for _name in [name for name in os.environ if name.startswith("ONWARD_")]:
    if _name not in _OF_TESTS:
        del os.environ[_name]

# Shells have what runs in the background ignore Ctrl-C, and processes hand that on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


# Logs.

_Popen = subprocess.Popen
_log_folder: Path | None = None
_leaks: list[str] = []


class LoudPopen(_Popen):  # type: ignore[type-arg]
    """Starts a process with logs at debug level; what it would say to nobody goes into a file."""

    def __init__(self, args: Any, *rest: Any, **options: Any) -> None:
        environ = dict(os.environ if options.get("env") is None else options["env"])
        environ.setdefault("ONWARD_LOG_LEVEL", "debug")
        options["env"] = environ
        if options.get("stderr") != subprocess.DEVNULL or _log_folder is None:
            super().__init__(args, *rest, **options)
            return
        with (_log_folder / "processes.log").open("ab") as log:
            super().__init__(args, *rest, **(options | {"stderr": log}))


subprocess.Popen = LoudPopen  # type: ignore[misc]


@pytest.fixture(scope="session", autouse=True)
def log_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the logs go of what has no folder of its own."""
    global _log_folder
    _log_folder = tmp_path_factory.mktemp("logs")
    return _log_folder


@pytest.fixture(scope="session")
def tests_log(log_folder: Path) -> Generator[TextIO]:
    """Open all along: threads of servers that a module keeps log between its tests too."""
    with (log_folder / "tests.log").open("a", encoding="utf-8") as stream:
        yield stream
        logs.configure("tests", "debug", sys.stderr)


@pytest.fixture(autouse=True)
def log_of_this_process(tests_log: TextIO) -> None:
    """Services that run within the tests' process log into a file, at debug level."""
    logs.configure("tests", "debug", tests_log)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run in whose logs something stands that must not has failed. Where several processes share
    the tests, each looks through its own logs and tells the one that began them."""
    if _log_folder is not None:
        for path in logs_below(_log_folder.parent):
            _leaks.extend(map(str, leaks_in(path)))
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["leaks"] = _leaks
    if _leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of those processes has ended."""
    _leaks.extend(getattr(node, "workeroutput", {}).get("leaks", []))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says where."""
    if _leaks:
        terminalreporter.section("logs that tell what they must not")
        for leak in _leaks[:50]:
            terminalreporter.write_line(leak)
