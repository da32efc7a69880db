"""A client's socket on the event loop: our own protocol on the transport of the handshake.

Feeds the parser, hands complete messages to the connection, and writes prebuilt frames. Knows
transports and RFC 6455's order of closing; must not know what a message says. Drive it:
`SocketProtocol(wire)`, `attach(transport, connection, tail)`; everything else are callbacks of the
event loop, of the connection (`socket.Socket`) and of the sweep.

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
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from services.edge import websocket
from services.edge.metrics import SOCKETS, SOCKETS_CLOSED
from services.edge.socket import CLOSE_LOST, CLOSE_SLOW_CONSUMER, Connection
from services.edge.websocket import BinaryMessage, Closed, Parser, Ping, Pong, TextMessage

# So much of one tick is held back at most. It also keeps `paused` honest while somebody sends a
# lot at once, since only what the transport holds counts there.
_QUEUED_BYTES_MAX: Final = 64 * 1024


class _State(Enum):
    OPEN = auto()
    CLOSING = auto()
    ENDING = auto()
    LOST = auto()


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """What one socket may hold, and for how long. Shared by all sockets of a process."""

    frame_bytes_max: int = websocket.BYTES_MAX  # a larger frame or message: 1009
    write_high_bytes: int = 256 * 1024  # buffered more: paused, until a quarter of it is left
    write_bytes_max: int = 2 * 1024 * 1024  # buffered more: closed with 4001
    close_s: float = 5.0  # an unfinished close handshake is cut off after this


class Ticker:
    """Ends each tick in which something was sent, once for all sockets of the loop."""

    __slots__ = ("_armed", "_flushes", "_loop", "number")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.number = 1  # of the current tick
        self._loop = loop
        self._armed = False
        self._flushes: list[Callable[[], None]] = []

    def time(self) -> float:
        """The event loop's clock, in seconds."""
        return self._loop.time()

    def arm(self) -> None:
        """Makes sure that this tick ends."""
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._end)

    def at_end(self, flush: Callable[[], None]) -> None:
        """Calls `flush` when this tick ends; only after `arm`."""
        self._flushes.append(flush)

    def _end(self) -> None:
        self._armed = False
        self.number += 1
        flushes, self._flushes = self._flushes, []
        for flush in flushes:
            flush()


class SocketProtocol(asyncio.Protocol):
    """One client's socket (`socket.Socket`). `turn` says in which round of the sweep it is due.

    `on_lost` is told when the transport is gone.
    """

    __slots__ = (
        "_close_by",
        "_code",
        "_connection",
        "_limits",
        "_on_lost",
        "_owed_pong",
        "_parser",
        "_paused",
        "_queue",
        "_queued_bytes",
        "_state",
        "_tick",
        "_ticker",
        "_transport",
        "_turn",
    )

    def __init__(
        self,
        ticker: Ticker,
        limits: SocketLimits,
        turn: int,
        on_lost: "Callable[[SocketProtocol], None]",
    ) -> None:
        self._ticker = ticker
        self._limits = limits
        self._turn = turn
        self._on_lost = on_lost
        self._parser = Parser(limits.frame_bytes_max)
        self._transport: asyncio.Transport | None = None
        self._connection: Connection | None = None
        self._state = _State.OPEN
        self._paused = False
        self._tick = 0  # the tick of the last write
        self._queue: list[bytes] | None = None  # frames that wait for the end of the tick
        self._queued_bytes = 0
        self._owed_pong: bytes | None = None  # held back while paused; the newest replaces it
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
        if self._state is _State.OPEN:
            self._send(frame)

    def ping(self, payload: bytes) -> None:
        self.send(websocket.ping_frame(payload))

    def close(self, code: int, reason: str = "") -> None:
        if self._state is not _State.OPEN:
            return
        self._begin_close(code, reason)
        self._state = _State.CLOSING

    def abort(self) -> None:
        if self._transport is not None:
            self._state = _State.ENDING
            self._transport.abort()

    # What the sweep calls.

    @property
    def connection(self) -> Connection | None:
        """The connection, while there is one to talk to."""
        return self._connection if self._state is _State.OPEN else None

    def on_sweep(self, now: float, round_number: int, rounds: int) -> None:
        """Looks at the times of this socket; its turn comes once in `rounds`."""
        if self._state is _State.OPEN:
            assert self._connection is not None
            in_turn = (round_number + self._turn) % rounds == 0
            self._connection.on_sweep(now, round_number, in_turn)
        elif self._close_by and now >= self._close_by:
            self.abort()

    # What the event loop calls (asyncio.Protocol).

    def data_received(self, data: bytes) -> None:
        if self._state in (_State.ENDING, _State.LOST):
            return
        for event in self._parser.feed(data):
            if self._state is _State.OPEN:
                self._take(event)
            elif self._state is _State.CLOSING and isinstance(event, Closed | websocket.Violation):
                self._hang_up()
                self._report(clean=False)

    def pause_writing(self) -> None:
        self._paused = True
        if self._state is _State.OPEN and self._connection is not None:
            self._connection.on_paused()

    def resume_writing(self) -> None:
        self._paused = False
        if self._state is not _State.OPEN or self._connection is None:
            return
        if self._owed_pong is not None:
            pong, self._owed_pong = self._owed_pong, None
            self._send(pong)
        self._connection.on_resumed()

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        self._state = _State.LOST
        self._transport = None
        self._queue = None
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
            self._begin_close(event.code, event.reason)
            self._fail()

    def _answer_ping(self, payload: bytes) -> None:
        pong = websocket.pong_frame(payload)
        if self._paused:
            self._owed_pong = pong
        else:
            self._send(pong)

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
        transport = self._transport
        assert transport is not None
        transport.write(frame)
        if self._paused and transport.get_write_buffer_size() > self._limits.write_bytes_max:
            self.close(CLOSE_SLOW_CONSUMER, "Too much is unread.")

    def _flush(self) -> None:
        queue, self._queue = self._queue, None
        if queue is None or self._transport is None:
            return
        self._queued_bytes = 0
        self._transport.writelines(queue)
        if self._paused and (
            self._transport.get_write_buffer_size() > self._limits.write_bytes_max
        ):
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
        self._state = _State.ENDING
        assert self._transport is not None
        self._transport.close()

    def _fail(self) -> None:
        """Only our close frame is there. The peer's input is read and dropped until it hangs up.

        Closing with input unread would make the kernel send a reset, and the peer might then
        never see why.
        """
        self._state = _State.ENDING
        assert self._transport is not None
        self._transport.write_eof()
        self._report(clean=False)

    def _report(self, *, clean: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # A client may choose among thousands of codes: they share one label.
            SOCKETS_CLOSED.labels("client" if clean else str(self._code)).inc()
            connection.on_closed(clean, self._code)
