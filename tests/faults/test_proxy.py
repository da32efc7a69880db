"""A link passes bytes, and can be cut, frozen, slowed, garbled and healed."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.proxy import Links
from tests.waiting import wait_for

PATIENCE_S = 0.3  # for what must not come


@pytest.fixture
def echo() -> Iterator[str]:
    """The address of a server that sends back what comes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(one: socket.socket) -> None:
        with one:
            try:
                while data := one.recv(65_536):
                    one.sendall(data)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                one, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(one,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


@pytest.fixture
def links() -> Iterator[Links]:
    with Links() as made:
        yield made


def dial(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    one = socket.create_connection((host, int(port)), 5)
    one.settimeout(5)
    return one


def asked(one: socket.socket, text: bytes) -> bytes:
    one.sendall(text)
    return received(one, len(text))


def received(one: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        data = one.recv(count - len(found))
        if not data:
            raise ConnectionResetError
        found += data
    return found


def test_a_sound_link_passes_much_both_ways_and_its_end(echo: str, links: Links) -> None:
    link = links.open(echo)
    much = os.urandom(3_000_000)
    with dial(link.address) as one:
        threading.Thread(target=one.sendall, args=(much,), daemon=True).start()
        assert received(one, len(much)) == much
        one.shutdown(socket.SHUT_WR)
        assert one.recv(1) == b""
    wait_for(lambda: link.connections == 0, 5, "the connection is forgotten")


def test_a_cut_resets_what_there_is_and_what_comes(echo: str, links: Links) -> None:
    link = links.open(echo)
    before = dial(link.address)
    assert asked(before, b"a") == b"a"
    link.cut()
    with pytest.raises(ConnectionError):
        asked(before, b"b")
    with pytest.raises(ConnectionError):
        asked(dial(link.address), b"c")
    link.heal()
    assert asked(dial(link.address), b"d") == b"d"


def test_a_frozen_link_is_silent_and_then_passes_what_was_kept_in_order(
    echo: str, links: Links
) -> None:
    link = links.open(echo)
    before = dial(link.address)
    assert asked(before, b"a") == b"a"
    link.freeze()
    during = dial(link.address)
    for one in (before, during):
        one.settimeout(PATIENCE_S)
        one.sendall(b"1")
        with pytest.raises(TimeoutError):
            one.recv(1)
        one.sendall(b"2")
    link.heal()
    for one in (before, during):
        one.settimeout(5)
        assert received(one, 2) == b"12"


def test_a_frozen_link_that_is_cut_resets(echo: str, links: Links) -> None:
    link = links.open(echo)
    link.freeze()
    one = dial(link.address)
    link.cut()
    with pytest.raises(ConnectionError):
        asked(one, b"a")


def test_a_delay_is_for_each_way_and_keeps_the_order(echo: str, links: Links) -> None:
    link = links.open(echo)
    with dial(link.address) as one:
        link.delay(0.2)
        began = time.monotonic()
        for letter in (b"a", b"b", b"c"):
            one.sendall(letter)
        assert received(one, 3) == b"abc"
        assert time.monotonic() - began >= 0.4
        link.heal()


def test_a_garbled_link_answers_as_much_of_something_else(echo: str, links: Links) -> None:
    link = links.open(echo)
    link.garble()
    with dial(link.address) as one:
        assert asked(one, b"a" * 1_000) != b"a" * 1_000
        link.heal()
        assert asked(one, b"b") == b"b"


@pytest.mark.parametrize(
    "dialled",
    ["socket.socket(), '127.0.0.1'", "socket.socket(socket.AF_INET6), '::ffff:127.0.0.1'"],
)
def test_a_fault_may_be_for_the_connections_of_one_process(
    echo: str, links: Links, dialled: str
) -> None:
    link = links.open(echo)
    program = (
        f"import socket, sys; s, host = {dialled}; s.connect((host, int(sys.argv[1])));"
        "print('open', flush=True); sys.stdin.readline(); s.sendall(b'x');"
        "print(s.recv(1).decode() or 'end', flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, link.address.rpartition(":")[2]],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdin and other.stdout
        assert other.stdout.readline() == "open\n"
        own = dial(link.address)
        assert asked(own, b"a") == b"a"
        link.freeze(only=lambda: {other.pid})
        other.stdin.write("\n")
        other.stdin.flush()
        assert asked(own, b"b") == b"b"
        assert asked(dial(link.address), b"c") == b"c"
        link.freeze(only=lambda: {os.getpid()})  # the other's passes again
        assert other.stdout.readline() == "x\n"
        own.settimeout(PATIENCE_S)
        with pytest.raises(TimeoutError):
            asked(own, b"d")


def test_nobody_at_the_other_end_is_a_reset(links: Links) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    with pytest.raises(ConnectionError):
        asked(dial(links.open(address).address), b"a")
