"""The server side of a WebSocket as a pure core: bytes in, events out; and the frames to send.

Pure. Knows RFC 6455 and nothing else: no transport, no clock, no meaning of a message. Drive it
with `Parser.feed(data)` for every segment received, and act on the events in their order. No
extension is negotiated, so the reserved bits must be zero. The parser moves through these states:

1. between frames, holding at most 13 bytes of a header that is not complete;
2. within a payload, collecting until it has `length` bytes, then unmasking it as a whole;
3. over: after a close frame or a violation, everything further is dropped.

A fragmented message is collected beside these states, since control frames may come between its
fragments. What a client can make the parser hold is at most one message and one frame, each
bounded by `bytes_max`, and what was fed beyond `frames_left` or `FEED_BYTES_MAX`: whoever feeds it
sets how many frames it may still read, and feeds it no more while something is `held`, but `b""`.
"""

import codecs
import sys
from dataclasses import dataclass
from typing import Final

from services.edge.mask import unmask
from services.edge.socket import (
    CLOSE_INVALID_UTF8,
    CLOSE_MESSAGE_TOO_BIG,
    CLOSE_POLICY,
    CLOSE_PROTOCOL_ERROR,
)

BYTES_MAX: Final = 512 * 1024
CONTROL_BYTES_MAX: Final = 125  # RFC 6455, section 5.5
REASON_BYTES_MAX: Final = CONTROL_BYTES_MAX - 2
CODE_ABSENT: Final = 1005  # never on the wire: a close frame without a code
FEED_BYTES_MAX: Final = 32 * 1024  # read at once; a larger frame is read whole, and no other
FRAGMENTS_MAX: Final = 1_024  # of a message; no program cuts 512 KiB finer, but to cost us time

_CONTINUATION: Final = 0x0
_TEXT: Final = 0x1
_BINARY: Final = 0x2
_CLOSE: Final = 0x8
_PING: Final = 0x9
_PONG: Final = 0xA
_OPCODES: Final = frozenset({_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG})
_FIN: Final = 0x80
_RESERVED_BITS: Final = 0x70
_MASKED: Final = 0x80

_new_decoder = codecs.getincrementaldecoder("utf-8")


@dataclass(frozen=True, slots=True)
class TextMessage:
    """A complete text message. Hand it over; `payload` is valid UTF-8."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class BinaryMessage:
    """A complete binary message. Hand it over."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping. Send a pong with the same payload; only the newest unanswered one needs it."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A pong, asked for or not. Hand it over."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The peer's close frame; the last event. Answer it unless one was sent, then hang up."""

    code: int  # 1005 if it has none
    reason: str


@dataclass(frozen=True, slots=True)
class Violation:
    """The peer broke the protocol; the last event. Send a close frame with `code`, then hang up."""

    code: int
    reason: str  # our own words, at most 123 bytes


Event = TextMessage | BinaryMessage | Ping | Pong | Closed | Violation


class _Broken(Exception):
    """Carries a violation from where it is found to `feed`."""

    def __init__(self, code: int, reason: str) -> None:
        self.violation = Violation(code, reason)


class Parser:
    """The receiving half of one connection. `bytes_max` bounds a frame and a message."""

    __slots__ = (
        "_bytes_max",
        "_decoder",
        "_first_byte",
        "_fragments",
        "_header",
        "_key",
        "_message",
        "_message_opcode",
        "_missing",
        "_over",
        "_payload",
        "frames_left",
        "held",
        "messages",
    )

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self.frames_left = sys.maxsize  # frames that may be read before the rest is held
        self.held = b""  # fed and not read, because no more may be for now
        self.messages = 0  # complete ones so far
        self._bytes_max = bytes_max
        self._over = False
        self._header = b""  # the incomplete header of the next frame
        self._payload: bytearray | None = None  # the incomplete payload of the current frame
        self._missing = 0  # bytes still to come of it
        self._first_byte = 0  # FIN, reserved bits, opcode of the current frame
        self._key = b""
        self._message: bytearray | None = None  # the fragments so far
        self._message_opcode = 0
        self._fragments = 0
        self._decoder: codecs.IncrementalDecoder | None = None  # of a fragmented text

    def feed(self, data: bytes) -> list[Event]:
        """Takes the next bytes of the connection, cut anywhere; returns what they complete.

        `b""` goes on with what was held, if `frames_left` allows it.
        """
        events: list[Event] = []
        if self._over:
            return events
        if self.held:
            data, self.held = self.held + data, b""
        try:
            self._consume(data, events)
        except _Broken as broken:
            self.stop()
            events.append(broken.violation)
        return events

    @property
    def unfinished(self) -> int:
        """The bytes it keeps of a message that is not complete, and of what it has not read."""
        payload, message = self._payload, self._message
        kept = len(self.held)
        if payload is not None:
            kept += len(payload)
        if message is not None:
            kept += len(message)
        return kept

    def stop(self) -> None:
        """Keeps nothing, and drops what comes."""
        self._over = True
        self._header = self.held = b""
        self._payload = self._message = self._decoder = None

    def _consume(self, data: bytes, events: list[Event]) -> None:
        at = 0
        if self._payload is not None:
            # Its header was paid for.
            at = self._missing
            self._payload += data[:at]
            self._missing -= min(at, len(data))
            if self._missing:
                return
            payload, self._payload = self._payload, None
            self._complete(payload, events)
        elif self._header:
            data = self._header + data
            self._header = b""
        end = len(data)
        while at < end and not self._over:
            if self.frames_left <= 0 or at > FEED_BYTES_MAX:
                self.held = data[at:]
                return
            start, length = self._read_header(data, at, end)
            if not start:
                self._header = data[at:]
                return
            self.frames_left -= 1
            at = start + length
            payload = bytearray(data[start:at])
            if at > end:
                self._missing = at - end
                self._payload = payload
                return
            self._complete(payload, events)

    def _read_header(self, data: bytes, at: int, end: int) -> tuple[int, int]:
        """Reads the header at `at`; returns where its payload starts and how long it is.

        (0, 0): the header is not complete. What breaks the protocol is refused as early as the
        bytes show it.
        """
        first = data[at]
        self._check_first_byte(first)
        if end - at < 2:
            return 0, 0
        second = data[at + 1]
        if not second & _MASKED:
            raise _Broken(CLOSE_PROTOCOL_ERROR, "A client masks its frames.")
        length = second & 0x7F
        start = at + 2
        if length > CONTROL_BYTES_MAX:
            if first & 0x08:
                raise _Broken(CLOSE_PROTOCOL_ERROR, "A control frame has at most 125 bytes.")
            width, least = (2, 126) if length == 126 else (8, 1 << 16)
            if end < start + width:
                return 0, 0
            length = int.from_bytes(data[start : start + width], "big")
            start += width
            if length < least or length >> 63:
                raise _Broken(CLOSE_PROTOCOL_ERROR, "The length is not in its shortest form.")
        self._check_size(first, length)
        if end < start + 4:
            return 0, 0
        self._first_byte = first
        self._key = data[start : start + 4]
        return start + 4, length

    def _check_first_byte(self, first: int) -> None:
        if first & _RESERVED_BITS:
            raise _Broken(CLOSE_PROTOCOL_ERROR, "No extension was agreed on.")
        opcode = first & 0x0F
        if opcode not in _OPCODES:
            raise _Broken(CLOSE_PROTOCOL_ERROR, "The opcode is unknown.")
        if opcode & 0x08:
            if not first & _FIN:
                raise _Broken(CLOSE_PROTOCOL_ERROR, "A control frame is not fragmented.")
        elif opcode == _CONTINUATION:
            if self._message is None:
                raise _Broken(CLOSE_PROTOCOL_ERROR, "There is no message to continue.")
        elif self._message is not None:
            raise _Broken(CLOSE_PROTOCOL_ERROR, "The message before is not finished.")

    def _check_size(self, first: int, length: int) -> None:
        held = len(self._message) if self._message is not None and not first & 0x08 else 0
        if held + length > self._bytes_max:
            raise _Broken(CLOSE_MESSAGE_TOO_BIG, f"A message has at most {self._bytes_max} bytes.")

    def _complete(self, payload: bytearray, events: list[Event]) -> None:
        """Takes the whole payload of the current frame; adds what it completes."""
        if payload:
            unmask(self._key, payload)
        opcode = self._first_byte & 0x0F
        if opcode == _PING:
            events.append(Ping(bytes(payload)))
        elif opcode == _PONG:
            events.append(Pong(bytes(payload)))
        elif opcode == _CLOSE:
            events.append(_read_close(payload))
            self.stop()
        elif self._first_byte & _FIN and opcode != _CONTINUATION:
            self.messages += 1
            events.append(_whole_message(opcode, payload))
        else:
            self._take_fragment(opcode, payload)
            if self._first_byte & _FIN:
                events.append(self._end_message())

    def _take_fragment(self, opcode: int, payload: bytearray) -> None:
        if self._message is None:
            self._message = bytearray()
            self._message_opcode = opcode
            self._fragments = 0
            if opcode == _TEXT:
                self._decoder = _new_decoder()
        self._fragments += 1
        if self._fragments > FRAGMENTS_MAX:
            raise _Broken(CLOSE_POLICY, f"A message has at most {FRAGMENTS_MAX} fragments.")
        if self._decoder is not None:
            try:
                self._decoder.decode(payload, bool(self._first_byte & _FIN))
            except UnicodeDecodeError:
                raise _Broken(CLOSE_INVALID_UTF8, "The text is not valid UTF-8.") from None
        self._message += payload

    def _end_message(self) -> Event:
        assert self._message is not None
        self.messages += 1
        message = bytes(self._message)
        self._message = self._decoder = None
        return TextMessage(message) if self._message_opcode == _TEXT else BinaryMessage(message)


def _whole_message(opcode: int, payload: bytearray) -> Event:
    if opcode == _BINARY:
        return BinaryMessage(bytes(payload))
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise _Broken(CLOSE_INVALID_UTF8, "The text is not valid UTF-8.") from None
    return TextMessage(bytes(payload))


def _read_close(payload: bytearray) -> Closed:
    if not payload:
        return Closed(CODE_ABSENT, "")
    if len(payload) == 1:
        raise _Broken(CLOSE_PROTOCOL_ERROR, "A close code has two bytes.")
    code = int.from_bytes(payload[:2], "big")
    if not may_be_sent(code):
        raise _Broken(CLOSE_PROTOCOL_ERROR, "The close code is not one to be sent.")
    try:
        return Closed(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise _Broken(CLOSE_INVALID_UTF8, "The close reason is not valid UTF-8.") from None


def may_be_sent(code: int) -> bool:
    """Whether a close frame may carry `code` (RFC 6455, section 7.4, and IANA's list)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def text_frame(payload: bytes) -> bytes:
    """A whole text message; `payload` is UTF-8. May be sent to any number of clients."""
    return _frame(_TEXT, payload)


def binary_frame(payload: bytes) -> bytes:
    """A whole binary message."""
    return _frame(_BINARY, payload)


def ping_frame(payload: bytes) -> bytes:
    """A ping; at most 125 bytes."""
    return _control_frame(_PING, payload)


def pong_frame(payload: bytes) -> bytes:
    """A pong; at most 125 bytes."""
    return _control_frame(_PONG, payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; `code` 1005 makes one without a code. `reason`: at most 123 bytes."""
    if code == CODE_ABSENT:
        return _control_frame(_CLOSE, b"")
    assert may_be_sent(code), code
    return _control_frame(_CLOSE, code.to_bytes(2, "big") + reason.encode())


def _control_frame(opcode: int, payload: bytes) -> bytes:
    assert len(payload) <= CONTROL_BYTES_MAX
    return bytes((_FIN | opcode, len(payload))) + payload


def _frame(opcode: int, payload: bytes) -> bytes:
    length = len(payload)
    if length <= 125:
        header = bytes((_FIN | opcode, length))
    elif length < 1 << 16:
        header = bytes((_FIN | opcode, 126)) + length.to_bytes(2, "big")
    else:
        header = bytes((_FIN | opcode, 127)) + length.to_bytes(8, "big")
    return header + payload
