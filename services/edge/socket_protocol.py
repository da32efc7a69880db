"""A client's socket on the event loop: our own protocol on the transport of the handshake.

Feeds the parser, hands complete messages to the connection, and writes prebuilt frames. Knows
transports and RFC 6455's order of closing; must not know what a message says. Drive it:
`SocketProtocol(wire)`, `attach(transport, connection, tail)`; everything else are callbacks of the
event loop, of the connection (`socket.Socket`) and of the sweep.

Reading: a socket has its portion, then waits for its turn or for its allowance (`intake`), and
meanwhile the kernel's buffer fills and the peer has to wait.

Writing: the first frame of a tick goes to the kernel at once, those after it wait for the end of
the tick and go out in one `writelines`, so that a busy socket costs one system call a tick. There
is no task, timer or future here; what must happen in time happens in `on_sweep`. A socket is

- OPEN: both directions work;
- CLOSING: our close frame is out, the peer's is awaited, its messages are dropped;
- ENDING: the last byte is written, and the transport is to go; input is dropped unread;
- LOST: the transport is gone.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from services.edge import websocket
from services.edge.intake import Intake
from services.edge.meter import PORTION_BYTES, PORTION_FRAMES, InputLimits, Meter
from services.edge.metrics import SOCKETS, SOCKETS_CLOSED
from services.edge.socket import CLOSE_LOST, CLOSE_POLICY, CLOSE_SLOW_CONSUMER, Connection
from services.edge.websocket import BinaryMessage, Closed, Parser, Ping, Pong, TextMessage

# So much of one tick is held back at most. It also keeps `paused` honest while somebody sends a
# lot at once, since only what the transport holds counts there.
_QUEUED_BYTES_MAX: Final = 64 * 1024


class _State(Enum):
    OPEN = auto()
    CLOSING = auto()
    ENDING = auto()
    LOST = auto()


# Names of the module, since reaching a member through its Enum takes long for what is asked with
# every frame.
_OPEN: Final = _State.OPEN
_CLOSING: Final = _State.CLOSING
_ENDING: Final = _State.ENDING
_LOST: Final = _State.LOST


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """What one socket may hold, and for how long. Shared by all sockets of a process."""

    frame_bytes_max: int = websocket.BYTES_MAX  # a larger frame or message: 1009
    write_high_bytes: int = 256 * 1024  # buffered more: paused, until a quarter of it is left
    write_bytes_max: int = 2 * 1024 * 1024  # buffered more: closed with 4001
    close_s: float = 5.0  # an unfinished close handshake is cut off after this
    message_s: float = 60.0  # a message that has begun and does not end: closed with 1008
    input: InputLimits = field(default_factory=InputLimits)  # beyond: not read for a while


class Ticker:
    """Ends each tick in which something was sent, once for all sockets of the loop."""

    __slots__ = ("_flushes", "_loop", "armed", "number")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.number = 1  # of the current tick
        self._loop = loop
        self.armed = False  # this tick is going to end
        self._flushes: list[Callable[[], None]] = []

    def time(self) -> float:
        """The event loop's clock, in seconds."""
        return self._loop.time()

    def arm(self) -> None:
        """Makes sure that this tick ends."""
        if not self.armed:
            self.armed = True
            self._loop.call_soon(self._end)

    def at_end(self, flush: Callable[[], None]) -> None:
        """Calls `flush` when this tick ends; only after `arm`."""
        self._flushes.append(flush)

    def _end(self) -> None:
        self.armed = False
        self.number += 1
        flushes, self._flushes = self._flushes, []
        for flush in flushes:
            flush()


class SocketProtocol(asyncio.Protocol):
    """One client's socket (`socket.Socket`). `turn` says in which round of the sweep it is due.

    `address`: whom it is counted for. `on_lost` is told when the transport is gone.
    """

    __slots__ = (
        "_bytes_left",
        "_close_by",
        "_code",
        "_connection",
        "_intake",
        "_limits",
        "_meter",
        "_on_lost",
        "_owed_pong",
        "_parser",
        "_paused",
        "_pong_tick",
        "_portion",
        "_queue",
        "_queued_bytes",
        "_state",
        "_tick",
        "_ticker",
        "_transport",
        "_turn",
        "_unfinished",
        "_unfinished_since",
        "address",
    )

    def __init__(
        self,
        ticker: Ticker,
        intake: Intake,
        limits: SocketLimits,
        turn: int,
        on_lost: "Callable[[SocketProtocol], None]",
        address: str = "",
    ) -> None:
        self.address = address
        self._ticker = ticker
        self._intake = intake
        self._limits = limits
        self._turn = turn
        self._on_lost = on_lost
        self._parser = Parser(limits.frame_bytes_max)
        self._meter = Meter(limits.input, ticker.time())
        self._portion = self._parser.frames_left = PORTION_FRAMES
        self._bytes_left = PORTION_BYTES
        self._unfinished = -1  # the number of a message that was not complete at the last sweep
        self._unfinished_since = 0.0  # loop time of the sweep that saw it first
        self._transport: asyncio.Transport | None = None
        self._connection: Connection | None = None
        self._state = _OPEN
        self._paused = False
        self._tick = 0  # the tick of the last write
        self._queue: list[bytes] | None = None  # frames that wait for the end of the tick
        self._queued_bytes = 0
        self._pong_tick = 0  # the tick of the last pong
        self._owed_pong: bytes | None = None  # held back; the newest replaces it
        self._code = CLOSE_LOST
        self._close_by = 0.0  # loop time by which the transport must be gone; 0: no such time

    def attach(self, transport: asyncio.Transport, connection: Connection, tail: bytes) -> None:
        """Begins: `transport` is ours now, and `tail` came on it already."""
        self._transport = transport
        self._connection = connection
        high = self._limits.write_high_bytes
        transport.set_write_buffer_limits(high=high, low=high // 4)
        SOCKETS.inc()
        if tail:
            self.data_received(tail)

    # What the connection calls (socket.Socket).

    @property
    def paused(self) -> bool:
        return self._paused

    def send(self, frame: bytes) -> None:
        if self._state is not _OPEN:
            return
        ticker = self._ticker
        if self._tick != ticker.number and ticker.armed:
            # As `_send` does it, without its calls: this is done for each delivery.
            self._tick = ticker.number
            self._transport.write(frame)  # type: ignore[union-attr]
            if self._paused:
                self._check_unread()
        else:
            self._send(frame)

    def charge(self, frames: int) -> None:
        self._parser.frames_left -= frames

    def ping(self, payload: bytes) -> None:
        self.send(websocket.ping_frame(payload))

    def close(self, code: int, reason: str = "") -> None:
        if self._state is not _OPEN:
            return
        self._begin_close(code, reason)
        self._state = _CLOSING

    def abort(self) -> None:
        if self._transport is not None:
            self._state = _ENDING
            self._transport.abort()

    # What the sweep calls.

    @property
    def connection(self) -> Connection | None:
        """The connection, while there is one to talk to."""
        return self._connection if self._state is _OPEN else None

    def on_sweep(self, now: float, round_number: int, rounds: int) -> None:
        """Looks at the times of this socket; its turn comes once in `rounds`."""
        if self._state is _OPEN:
            assert self._connection is not None
            self._connection.on_sweep(now, round_number, (round_number + self._turn) % rounds == 0)
            self._look_at_unfinished(now)
        elif self._close_by and now >= self._close_by:
            self.abort()

    # What the intake calls (intake.Reader).

    def read_on(self) -> None:
        if self._transport is None:
            return
        if not self._portion and not self._next_portion():
            self._intake.wait(self)
            return
        self._transport.resume_reading()
        self.data_received(b"")

    def drop_unfinished(self) -> None:
        if self._state is _OPEN:
            self._violate(CLOSE_POLICY, "This server holds too much that is not complete.")
        else:
            self.abort()

    # What the event loop calls (asyncio.Protocol).

    def data_received(self, data: bytes) -> None:
        self._bytes_left -= len(data)
        if self._state is not _ENDING:
            parser = self._parser
            for event in parser.feed(data):
                if self._state is _OPEN:
                    self._take(event)
                elif self._state is _CLOSING:
                    self._take_last(event)
            if parser.frames_left > 0 < self._bytes_left and not parser.held:
                return
        elif self._bytes_left > 0:
            return
        self._end_portion()

    def pause_writing(self) -> None:
        self._paused = True
        if self._state is _OPEN and self._connection is not None:
            self._connection.on_paused()

    def resume_writing(self) -> None:
        self._paused = False
        if self._state is not _OPEN or self._connection is None:
            return
        self._send_owed_pong()
        self._connection.on_resumed()

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        self._state = _LOST
        self._transport = None
        self._queue = None
        self._next_portion()
        self._intake.forget(self)
        SOCKETS.dec()
        self._report(clean=False)
        self._on_lost(self)

    def _take(self, event: websocket.Event) -> None:
        connection = self._connection
        assert connection is not None
        if isinstance(event, TextMessage):
            connection.on_text(event.payload)
        elif isinstance(event, Pong):
            connection.on_pong(event.payload)
        elif isinstance(event, Ping):
            self._answer_ping(event.payload)
        elif isinstance(event, BinaryMessage):
            connection.on_binary()
        elif isinstance(event, Closed):
            self._begin_close(event.code, "")
            self._hang_up()
            self._report(clean=True)
        else:
            self._violate(event.code, event.reason)

    def _take_last(self, event: websocket.Event) -> None:
        """Our close frame is out: only the peer's counts."""
        if isinstance(event, Closed | websocket.Violation):
            self._hang_up()
            self._report(clean=False)

    def _end_portion(self) -> None:
        """Begins the next portion; until there is one, the peer's data stays in the kernel."""
        if self._transport is None:
            return
        self._intake.hold(self, self._parser.unfinished)
        if not self._next_portion():
            self._transport.pause_reading()
            self._intake.wait(self)
        elif self._parser.held:
            self._transport.pause_reading()
            self._intake.take_turn(self)

    def _next_portion(self) -> int:
        """Counts what came of the present portion; returns how many frames the next one has."""
        parser, intake = self._parser, self._intake
        frames = self._portion - parser.frames_left
        size = PORTION_BYTES - self._bytes_left
        intake.frames += frames
        intake.bytes += size
        now = self._ticker.time()
        portion = self._meter.next_portion(self._limits.input, frames, size, now)
        self._portion = parser.frames_left = portion
        self._bytes_left = PORTION_BYTES
        return portion

    def _look_at_unfinished(self, now: float) -> None:
        """Bounds how much of a message that is not complete is kept, and for how long."""
        size, number = self._parser.unfinished, self._parser.messages
        self._intake.hold(self, size)
        if not size:
            self._unfinished = -1
        elif self._unfinished != number:
            self._unfinished, self._unfinished_since = number, now
        elif now - self._unfinished_since > self._limits.message_s:
            self._violate(CLOSE_POLICY, "The message does not end.")

    def _answer_ping(self, payload: bytes) -> None:
        """Answers the first ping of a tick at once, and of the others the last, at its end.

        While paused, only the last one, later (RFC 6455, section 5.5.3).
        """
        pong, ticker = websocket.pong_frame(payload), self._ticker
        if self._owed_pong is not None or self._paused:
            self._owed_pong = pong
        elif self._pong_tick != ticker.number:
            self._pong_tick = ticker.number
            self._send(pong)
        else:
            self._owed_pong = pong
            ticker.arm()
            ticker.at_end(self._send_owed_pong)

    def _send_owed_pong(self) -> None:
        if self._owed_pong is not None and not self._paused:
            pong, self._owed_pong = self._owed_pong, None
            self.send(pong)

    def _send(self, frame: bytes) -> None:
        ticker = self._ticker
        if self._tick != ticker.number:
            self._tick = ticker.number
            ticker.arm()
            self._write(frame)
        elif self._queue is None:
            self._queue = [frame]
            self._queued_bytes = len(frame)
            ticker.at_end(self._flush)
        else:
            self._queue.append(frame)
            self._queued_bytes += len(frame)
            if self._queued_bytes > _QUEUED_BYTES_MAX:
                self._flush()

    def _write(self, frame: bytes) -> None:
        assert self._transport is not None
        self._transport.write(frame)
        if self._paused:
            self._check_unread()

    def _flush(self) -> None:
        queue, self._queue = self._queue, None
        if queue is None or self._transport is None:
            return
        self._queued_bytes = 0
        self._transport.writelines(queue)
        if self._paused:
            self._check_unread()

    def _check_unread(self) -> None:
        """Gives up on a peer that leaves too much unread."""
        assert self._transport is not None
        if self._transport.get_write_buffer_size() > self._limits.write_bytes_max:
            self.close(CLOSE_SLOW_CONSUMER, "Too much is unread.")

    def _begin_close(self, code: int, reason: str) -> None:
        """Writes what is queued, then a close frame; the time to go begins to run."""
        self._code = code
        self._close_by = self._ticker.time() + self._limits.close_s
        queue, self._queue = self._queue or [], None
        assert self._transport is not None
        self._transport.writelines([*queue, websocket.close_frame(code, reason)])

    def _hang_up(self) -> None:
        """Both close frames are there: the server ends the TCP connection first."""
        self._state = _ENDING
        assert self._transport is not None
        self._transport.close()

    def _fail(self) -> None:
        """Only our close frame is there. The peer's input is read and dropped until it hangs up.

        Closing with input unread would make the kernel send a reset, and the peer might then
        never see why.
        """
        self._state = _ENDING
        self._parser.stop()
        assert self._transport is not None
        self._transport.write_eof()
        self._report(clean=False)

    def _violate(self, code: int, reason: str) -> None:
        if self._state is _OPEN:
            self._begin_close(code, reason)
            self._fail()

    def _report(self, *, clean: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # A client may choose among thousands of codes: they share one label.
            SOCKETS_CLOSED.labels("client" if clean else str(self._code)).inc()
            connection.on_closed(clean, self._code)
