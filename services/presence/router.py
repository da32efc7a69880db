"""Keeps the routing file at hand: reads it at the start, and anew whenever it has changed.

A file that cannot be taken at the start stops the start; later the last good one stands, and
`fault` says what is wrong, for the status. To drive it: `Router(path)`, let `run()` run, read
`routing` and `templates`. Without a path there is no file, and both are empty.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from services.chassis import logs
from services.chassis.errors import StartError
from services.presence.routing import Route, Routing
from services.presence.routing_file import Line, RoutingFault, parse
from services.presence.routing_file import Path as Place
from services.presence.templates import (
    NO_TEMPLATES,
    Places,
    Templates,
    WrongTemplates,
    parse_templates,
)

log = logs.get(__name__)

_LOOK_EVERY_S = 1.0
_TOLD_MAX = 3


class Router:
    """The routing of now. Raises StartError if the file cannot be taken."""

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None
        self._stamp: object = None
        self._listeners: list[Callable[[], None]] = []
        self.routing = Routing()
        self.templates = NO_TEMPLATES
        # What is wrong with the file as it is now; empty: nothing.
        self.fault = ""
        if self._path is not None:
            self._stamp = _stamp(self._path)
            fault = self._load()
            if fault:
                raise StartError(
                    f"ONWARD_PRESENCE_ROUTING names {path}, which cannot be taken. {fault}"
                )

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after the routing has changed."""
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
            self.fault = await asyncio.to_thread(self._load)
            if self.fault:
                log.error("routing_refused", fault=self.fault)
                continue
            log.info("routing_changed")
            for listener in self._listeners:
                listener()

    def _load(self) -> str:
        """Read the file; what is wrong with it, or empty."""
        assert self._path is not None
        try:
            text = self._path.read_text("utf-8")
            routing, templates = _read(text)
        except OSError as error:
            return f"It cannot be read ({error.strerror})."
        except UnicodeDecodeError:
            return "It is not UTF-8."
        except Exception as error:  # noqa: BLE001  # whatever a file makes of its reader
            if not isinstance(error, RoutingFault):
                log.error("routing_unread", error=type(error).__name__)
                return f"It cannot be understood ({type(error).__name__})."
            fault = error
            more = len(fault.problems) - _TOLD_MAX
            told = " ".join(fault.problems[:_TOLD_MAX])
            return f"{told} And {more} more." if more > 0 else told
        self.routing, self.templates = routing, templates
        return ""


def _read(text: str) -> tuple[Routing, Templates]:
    """What the file says of decisions and of words. Raises RoutingFault."""
    routing, said, line = parse(text)
    try:
        templates = parse_templates(said, Places(line=line))
    except WrongTemplates as wrong:
        raise RoutingFault([str(mistake) for mistake in wrong.mistakes]) from None
    missing = _missing(routing.default, ("defaults",), templates, line)
    for number, route in enumerate(routing.routes):
        missing += _missing(route, ("routes", number), templates, line)
    if missing:
        raise RoutingFault(missing)
    return routing, templates


def _missing(route: Route, at: Place, templates: Templates, line: Line) -> list[str]:
    name = route.plan.template
    if not name or name in templates.named:
        return []
    where = line((*at, "template"))
    return [f"Line {where}: there is no template `{name}`; write it under `templates`."]


def _stamp(path: Path) -> object:
    """Changes whenever the file does; a mounted configuration is replaced by another inode."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
