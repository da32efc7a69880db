"""Structured logs, one line an event, on stderr.

Nothing that a user wrote may reach a line: an event has a fixed name and fields of numbers, ids
and our own words. As a second fence, values of fields whose names speak of secrets or content
are replaced before they are written. Third-party loggers pass through the same renderer, at
WARNING, and of exceptions only their types and places are told, because the words of both may
quote what clients sent.
"""

import contextlib
import logging
import sys
import threading
import traceback
from collections.abc import Iterator, MutableMapping
from typing import Any, TextIO, cast

import structlog

from services.chassis.errors import SettingError

# Field names that must not carry their value out, whoever logs them.
FORBIDDEN_FIELDS = frozenset(
    {"token", "secret", "uri", "endpoint", "content", "text", "data", "headers", "body",
     "authorization", "password", "external_token"}
)  # fmt: skip

_LEAVES_MAX = 3  # exceptions of a group that are told
_PLACES_MAX = 6  # places of each
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(service: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Set up logging for this process. `level`: debug, info, warning or error."""
    if level not in _LEVELS:
        raise SettingError(f"ONWARD_LOG_LEVEL is {level!r}; set it to one of {', '.join(_LEVELS)}")
    out = stream or sys.stderr
    number = _LEVELS[level]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_service(service),
            _withhold,
            _tell_exception,
            structlog.processors.LogfmtRenderer(
                key_order=["timestamp", "level", "service", "event"]
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Lossy(out))),
        cache_logger_on_first_use=False,
    )
    handler = _ForwardHandler()
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def describe(error: BaseException) -> dict[str, str]:
    """An exception without its words: `raised`, its type; `at`, where, innermost first.

    Of a group: what is in it.
    """
    leaves = list(_leaves(error))[:_LEAVES_MAX]
    return {
        "raised": ", ".join(type(leaf).__name__ for leaf in leaves),
        "at": "; ".join(_places(leaf) for leaf in leaves),
    }


def take_over_hooks() -> None:
    """From now on what nobody catches is logged too, without its words; until the process calls
    `configure`, as of the service `start`."""
    configure("start")

    def uncaught(_: object, error: BaseException, __: object) -> None:
        get(__name__).critical("uncaught", **describe(error))

    def of_thread(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None:
            uncaught(None, arguments.exc_value, None)

    def unraisable(arguments: "sys.UnraisableHookArgs") -> None:
        if arguments.exc_value is not None:
            uncaught(None, arguments.exc_value, None)

    sys.excepthook = uncaught
    threading.excepthook = of_thread
    sys.unraisablehook = unraisable


def get(name: str) -> Any:
    """A logger: `log.info("event_name", field=value)`."""
    return structlog.get_logger(module=name)


def _add_service(service: str) -> Any:
    def add(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    return add


def _withhold(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for field in FORBIDDEN_FIELDS & event.keys():
        event[field] = "withheld"
    return event


def _tell_exception(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event.update(describe(error))
    return event


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def _places(error: BaseException) -> str:
    frames = reversed(traceback.extract_tb(error.__traceback__)[-_PLACES_MAX:])
    return " < ".join(f"{_short(frame.filename)}:{frame.lineno}" for frame in frames)


def _short(path: str) -> str:
    return "/".join(path.split("/")[-2:])


class _Lossy:
    """Writes lines, and loses those that its disk has no room for: work must not end by them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


class _ForwardHandler(logging.Handler):
    """Passes the standard library's records on: name, level and exception type, not the text.

    The text of a third party's message may quote what a client sent.
    """

    def emit(self, record: logging.LogRecord) -> None:
        raised = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        structlog.get_logger().log(
            record.levelno, "library", module=record.name, at=record.funcName, raised=raised
        )
