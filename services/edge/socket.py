"""The seam between a client's socket and its connection: two interfaces, and what each may assume.

Knows nothing of WebSocket frames (`websocket`), transports (`socket_protocol`) or of what the
frames mean (`connection`). The gateway makes a `Socket`, asks the `Acceptor` for its
`Connection`, and from then on the two talk only as written here: all calls are synchronous, on
the event loop's thread, and none of them blocks or raises.
"""

from dataclasses import dataclass
from typing import Protocol

CLOSE_PROTOCOL_ERROR = 1002
CLOSE_INVALID_UTF8 = 1007
CLOSE_POLICY = 1008  # too many fragments, or a message that does not end
CLOSE_MESSAGE_TOO_BIG = 1009
CLOSE_LOST = 1006  # never on the wire: the transport went away without a close frame

CLOSE_GOING_AWAY = 4000
CLOSE_SLOW_CONSUMER = 4001
CLOSE_NO_PONG = 4002
CLOSE_TOKEN_EXPIRED = 4003
CLOSE_SERVER_FAULT = 4004
CLOSE_BAD_TOKEN = 4500
CLOSE_CONNECT_PROTOCOL = 4501
CLOSE_REPLACED = 4502
CLOSE_LOGGED_OUT = 4503


@dataclass(frozen=True, slots=True)
class Handshake:
    """What the HTTP request said, before the first frame."""

    user: str  # `?user=` as given; empty: none. Means something only with anonymous access.


class Socket(Protocol):
    """A client's open socket, as its connection sees it. After `close` all calls do nothing."""

    @property
    def paused(self) -> bool:
        """True while the write buffer is above its high-water mark: send nothing but answers."""

    def send(self, frame: bytes) -> None:
        """Sends a prebuilt frame, or several in one, in order, before the tick ends.

        The same `bytes` may be given to any number of sockets. Never blocks. A caller that goes on
        while `paused` grows the buffer, up to its bound: there the socket closes with 4001.
        """

    def charge(self, frames: int) -> None:
        """Counts what just came as so many frames more, since it takes longer than others."""

    def ping(self, payload: bytes) -> None:
        """Sends a ping behind everything sent so far; its pong comes as `on_pong(payload)`.

        `payload`: at most 125 bytes.
        """

    def close(self, code: int, reason: str = "") -> None:
        """Begins the close handshake behind everything sent so far; `on_closed` follows.

        `reason`: at most 123 bytes of UTF-8. No further message is handed over. A peer that does
        not answer within the close time is cut off.
        """

    def abort(self) -> None:
        """Cuts the transport at once, dropping what is unsent; `on_closed` follows."""


class Connection(Protocol):
    """What a client's messages mean, as the socket and the sweep see it."""

    def on_text(self, text: bytes) -> None:
        """Takes one complete text message; `text` is valid UTF-8."""

    def on_binary(self) -> None:
        """A complete binary message came; binary has no meaning in `onward.v1.json`."""

    def on_pong(self, payload: bytes) -> None:
        """Takes a pong, also one that was not asked for."""

    def on_paused(self) -> None:
        """The write buffer rose above its high-water mark. May come from within `send`."""

    def on_resumed(self) -> None:
        """The write buffer has drained below its low-water mark."""

    def on_sweep(self, now: float, round_number: int, in_turn: bool) -> None:
        """Looks at the session's times, once in every round of the edge.

        `now`: the event loop's clock, in seconds. `round_number`: this round, rising by one.
        `in_turn`: true in one round of twelve, so that a quiet session too is pinged every 24 s.
        Due here: the round's ping, a missing pong, the deadline of `connect`, token expiry.
        """

    def drain(self, reconnect_after_ms: int) -> None:
        """The edge is stopping: tells the client when to connect elsewhere. It is served on."""

    def dismiss(self) -> None:
        """That time has passed, and the client is still here: closes with 4000."""

    def on_closed(self, clean: bool, code: int) -> None:
        """The socket is over; called exactly once, and nothing is called after it.

        `clean`: true if the client began a close handshake (then `code` is its code, 1005 if it
        gave none). Otherwise `code` is the one this side closed with, or 1006.
        """


class Acceptor(Protocol):
    """Makes a connection for each accepted socket."""

    def accept(self, socket: Socket, handshake: Handshake) -> Connection:
        """Returns the connection that the socket will talk to. Must not send yet."""

    def begin_round(self, now: float, round_number: int) -> None:
        """A round of the sweep begins: called before the `on_sweep` of any connection in it.

        Whatever is to be true of all connections at one moment (marks, the notes that this
        round's pongs will acknowledge) is taken here, since the sweep itself may be sliced.
        """
