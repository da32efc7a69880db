"""Runs a service: event loop, signals, exit codes.

`run(main)` is the whole of a service's `if __name__ == "__main__"`. `main` gets an event that is
set by SIGTERM or SIGINT; it drains and returns. A SettingError or StartError is printed as the
one sentence it is, with exit code 2; any other exception is a bug and ends the process with its
type and place in the log, and code 1. (Its words might be a user's.)
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn

import uvloop

from services.chassis import logs
from services.chassis.errors import SettingError

_PR_SET_PDEATHSIG = 1


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> NoReturn:
    """Run `main(stop)` to its end and exit the process."""
    if os.environ.get("ONWARD_DIE_WITH_PARENT") == "1":
        die_with_parent()
    logs.take_over_hooks()
    try:
        uvloop.run(_supervise(main))
    except SettingError as error:
        print(f"{error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, so that none is left behind.

    The flag belongs to the parent's thread that forked; the parent must fork from its main
    thread. A parent that died before the flag was set is noticed by the check after it.
    """
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    expected = os.environ.get("ONWARD_PARENT_PID", str(parent))
    if os.getppid() != int(expected):
        os._exit(1)


async def _supervise(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await main(stop)
