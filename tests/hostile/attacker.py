"""Connections that mean no good, in a process of their own.

`python -m tests.hostile.attacker PORT HOW COUNT PER_ADDRESS`: opens so many connections, so many of
them from each of a few loopback addresses, says so, and then holds them. `HOW`:

- `silent`: they send nothing; `slow`: a byte of a request every half second;
- `garbage`: random bytes, no HTTP; `garbage_frames`: random bytes after the handshake;
- `unconnected`: a handshake, and no `connect`.

`report` on standard input is answered with how many are still open.
"""

import contextlib
import json
import os
import random
import selectors
import socket
import sys
import time

from tests.hostile.raw import drop, handshake, source_of

_REQUEST = b"GET /v1/connect HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 1000


class Attack:
    """The connections. Whatever the edge answers is read and dropped."""

    def __init__(self, port: int, how: str, count: int, per_address: int) -> None:
        self._how = how
        self._selector = selectors.EpollSelector()
        self._open: dict[int, socket.socket] = {}
        self._sent = 0
        self._chance = random.Random(1)
        for number in range(count):
            one = socket.socket()
            one.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            one.bind((source_of(number, per_address), 0))
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", port))
            self._open[one.fileno()] = one
            self._selector.register(one, selectors.EVENT_WRITE)
            if number % 50 == 0:
                self._turn(0)
        while any(key.events == selectors.EVENT_WRITE for key in self._selector.get_map().values()):
            self._turn(0.1)

    def run(self) -> None:
        """Hold them until standard input ends."""
        print(json.dumps({"ready": True}), flush=True)
        os.set_blocking(0, False)
        due = time.monotonic()
        while True:
            if self._how == "slow" and time.monotonic() > due:
                due += 0.5
                self._drip()
            self._turn(0.05)
            line = sys.stdin.readline()
            if line:
                print(json.dumps({"open": len(self._open)}), flush=True)

    def _turn(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            one = key.fileobj
            assert isinstance(one, socket.socket)
            try:
                if key.events == selectors.EVENT_WRITE:
                    self._selector.modify(one, selectors.EVENT_READ)
                    self._greet(one)
                elif not one.recv(65_536):
                    self._lose(one)
            except BlockingIOError:
                pass
            except OSError:
                self._lose(one)

    def _greet(self, one: socket.socket) -> None:
        if self._how == "garbage":
            one.send(self._chance.randbytes(200))
        elif self._how == "slow":
            one.send(_REQUEST[:10])
        elif self._how in ("garbage_frames", "unconnected"):
            noise = self._chance.randbytes(200) if self._how == "garbage_frames" else b""
            one.send(handshake("eve") + noise)

    def _drip(self) -> None:
        self._sent += 1
        at = 10 + self._sent
        for one in list(self._open.values()):
            try:
                one.send(_REQUEST[at : at + 1])
            except OSError:
                self._lose(one)

    def _lose(self, one: socket.socket) -> None:
        if self._open.pop(one.fileno(), None) is not None:
            self._selector.unregister(one)
        drop(one)


if __name__ == "__main__":
    Attack(int(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:5])).run()
