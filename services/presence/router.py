"""Keeps the routing file at hand: reads it at the start, and anew whenever it has changed.

A file that cannot be taken at the start stops the start; later the last good one stands, and
`fault` says what is wrong, for the status. To drive it: `Router(path)`, let `run()` run, read
`routing` and `templates`. Without a path there is no file, and both are empty.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from services.chassis import logs
from services.chassis.errors import StartError
from services.presence.routing import Routing
from services.presence.routing_file import EXPIRY_S, RoutingFault
from services.presence.routing_whole import Whole, read_whole
from services.presence.templates import Templates
from services.presence.yaml_lines import Problem

log = logs.get(__name__)

_LOOK_EVERY_S = 1.0
# Of what is wrong at the start, on a terminal; and later, in an alarm.
_TOLD_AT_START, _TOLD = 20, 3
_CHECK = "`onward routing check {}` tells all"


class Router:
    """The routing of now. Raises StartError if the file cannot be taken. `expiry_s`: of what it
    says no expiry of."""

    def __init__(self, path: str, expiry_s: float = EXPIRY_S) -> None:
        self._path = Path(path) if path else None
        self._stamp: object = None
        self._listeners: list[Callable[[], None]] = []
        self._expiry_s = expiry_s
        self._whole = Whole()
        # Every channel that the file names.
        self.channels: frozenset[str] = frozenset()
        # What is wrong with the file as it is now; empty: nothing.
        self.fault = ""
        if self._path is not None:
            self._stamp = _stamp(self._path)
            found = self._read(self._path, _TOLD_AT_START)
            if isinstance(found, str):
                raise StartError(
                    f"ONWARD_PRESENCE_ROUTING names {path}, which cannot be taken. {found}"
                )
            self._take(found)

    @property
    def routing(self) -> Routing:
        """What the file says of decisions."""
        return self._whole.routing

    @property
    def templates(self) -> Templates:
        """What it says of words."""
        return self._whole.templates

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` when the routing has changed, before anybody on the loop meets it."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Look for changes until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if self._path is None:
                continue
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                continue
            self._stamp = stamp
            # A long file takes seconds to understand, in which this process must say that it lives.
            found = await asyncio.to_thread(self._read, self._path, _TOLD)
            self.fault = found if isinstance(found, str) else ""
            if isinstance(found, str):
                log.error("routing_refused", fault=self.fault)
                continue
            log.info("routing_changed")
            self._take(found)

    def _take(self, whole: Whole) -> None:
        """Let it count, for the listeners too, in one step of the loop: no plan may name a template
        that those who write the words do not have yet."""
        self._whole, self.channels = whole, whole.channels()
        for listener in self._listeners:
            listener()

    def _read(self, path: Path, told_max: int) -> Whole | str:
        """What the file says, or what is wrong with it. Changes nothing: it runs in a thread."""
        try:
            return read_whole(path.read_text("utf-8"), self._expiry_s)
        except OSError as error:
            return f"It cannot be read ({error.strerror})."
        except UnicodeDecodeError:
            return "It is not UTF-8."
        except RoutingFault as fault:
            return _told(fault.problems, told_max, path)
        except Exception as error:  # noqa: BLE001  # whatever a file makes of its reader
            log.error("routing_unread", error=type(error).__name__)
            return f"It cannot be understood ({type(error).__name__})."


def _told(problems: Sequence[Problem], told_max: int, path: Path) -> str:
    told = " ".join(str(one) for one in problems[:told_max])
    more = len(problems) - told_max
    return f"{told} And {more} more; {_CHECK.format(path)}." if more > 0 else told


def _stamp(path: Path) -> object:
    """Changes whenever the file does; a mounted configuration is replaced by another inode."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
