"""The crowd's socket opens, takes frames however they are cut, answers pings and tells its end."""

import asyncio
from typing import Any

import pytest

from tests.faults.thin_socket import LOST, ThinSocket

OPENED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
LONG = b"x" * 300


class Wire(asyncio.Transport):
    """What is written, and whether it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed = b"", False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed


class Told:
    """A socket, its wire, and what it has told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.wire = Wire()
        self.socket = ThinSocket(
            "127.0.0.1:1", "ann", lambda: self.told.append("opened"), self.told.append,
            lambda code, advice_ms: self.told.append((code, advice_ms)),
        )  # fmt: skip
        self.socket.connection_made(self.wire)


@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_frames_are_taken_however_they_are_cut(size: int) -> None:
    one = Told()
    stream = OPENED + b"\x81\x02hi" + b"\x81\x7e\x01\x2c" + LONG + b"\x89\x01p"
    for at in range(0, len(stream), size):
        one.socket.data_received(stream[at : at + size])
    assert one.told == ["opened", b"hi", LONG]
    assert one.wire.written.endswith(b"\x8a\x81\0\0\0\0p"), "the ping is answered"


def test_a_close_frame_is_answered_and_its_code_told() -> None:
    one = Told()
    one.socket.data_received(OPENED + b"\x88\x02\x0f\xa4")
    assert one.wire.closed and one.wire.written.endswith(b"\x88\x82\0\0\0\0\x0f\xa4")
    one.socket.connection_lost(None)
    one.socket.connection_lost(None)
    assert one.told == ["opened", (4004, None)]


def test_an_end_without_a_word_is_told_from_one_that_was_never_open() -> None:
    opened, refused = Told(), Told()
    opened.socket.data_received(OPENED)
    for one in (opened, refused):
        one.socket.connection_lost(None)
    assert opened.told == ["opened", (LOST, None)]
    assert refused.told == [(0, None)]


def test_the_advice_of_an_edge_that_has_no_room_is_told() -> None:
    one = Told()
    one.socket.data_received(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\n\r\n")
    assert one.told == [(0, 2_000)]
