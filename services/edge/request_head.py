"""Whether the first bytes of a connection are, or may become, the head of an HTTP request. Pure.

Looks only as closely as it takes to keep others out: what passes is parsed by the HTTP server.
"""

from enum import Enum, auto
from typing import Final

HEAD_BYTES_MAX: Final = 32 * 1024  # request line and headers together

_METHODS: Final = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ")
_METHOD_BYTES_MAX: Final = max(map(len, _METHODS))
_END: Final = b"\r\n\r\n"


class Head(Enum):
    """What is known of it so far."""

    COMPLETE = auto()
    UNFINISHED = auto()
    TOO_LARGE = auto()
    GARBAGE = auto()  # it will never be a request


def judge_head(data: bytes | bytearray, seen: int) -> Head:
    """Judges what came so far, of which the first `seen` bytes were judged before."""
    if seen < _METHOD_BYTES_MAX and not data.startswith(_METHODS):
        start = bytes(data[:_METHOD_BYTES_MAX])
        if len(start) == _METHOD_BYTES_MAX or not any(one.startswith(start) for one in _METHODS):
            return Head.GARBAGE
    end = data.find(_END, max(0, seen - len(_END) + 1))
    if (end if end >= 0 else len(data)) > HEAD_BYTES_MAX:
        return Head.TOO_LARGE
    return Head.COMPLETE if end >= 0 else Head.UNFINISHED
