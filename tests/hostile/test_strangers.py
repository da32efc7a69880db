"""Connections that mean no good are refused by their limit, and cost those inside nothing."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hostile.raw import RawClient, dial, drop, handshake
from tests.hostile.scene import Process, Watcher, closed, metric, process, refused
from tests.path.stack import Suite
from tests.waiting import wait_for

COUNT, PER_ADDRESS = 600, 100  # above half_open_max, below address_connections_max
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def crowd(suite: Suite) -> Iterator[Process]:
    """Clients inside, who check the order of what they get, and in the end that it is all."""
    with process("crowd", suite.port, "/calm", 5, 2, 50, 200) as one:
        yield one
        assert one.ask("stop")["last"] > 0


@pytest.mark.parametrize(
    ("how", "limits"),
    [
        ("silent", {"half_open_max": 200, "request_s": 400}),
        ("slow", {"half_open_max": 200, "request_s": 400}),
        ("garbage", {"not_http": COUNT}),
    ],
)
def test_connections_without_a_request_end_by_their_limits(
    suite: Suite, crowd: Process, how: str, limits: dict[str, int]
) -> None:
    crowd.ask("mark")
    watcher = Watcher(suite)
    before = {limit: refused(suite, limit) for limit in limits}
    with process("attacker", suite.port, how, COUNT, PER_ADDRESS) as attacker:
        watcher.look()
        wait_for(lambda: attacker.ask("report")["open"] == 0, 20, "all are closed")
        ended = {limit: refused(suite, limit) - count for limit, count in before.items()}
        assert sum(ended.values()) == COUNT
        for limit, least in limits.items():
            # A machine that is slow to open them has closed some for their time by then.
            assert ended[limit] >= (least if limit == "not_http" else 1)
    assert metric(suite, "onward_edge_half_open") <= 1  # who asks for it may be seen in it
    assert crowd.ask("report")["delivered"] > 0
    watcher.wait_back()


@pytest.mark.parametrize(("how", "code"), [("garbage_frames", "1002"), ("unconnected", "4501")])
def test_sockets_without_a_session_end_by_their_codes(
    suite: Suite, crowd: Process, how: str, code: str
) -> None:
    crowd.ask("mark")
    watcher = Watcher(suite)
    before = closed(suite, code)
    with process("attacker", suite.port, how, 200, PER_ADDRESS) as attacker:
        wait_for(lambda: attacker.ask("report")["open"] == 0, 30, "all are closed")
    assert closed(suite, code) - before >= (100 if how == "garbage_frames" else 200)
    assert crowd.ask("report")["delivered"] > 0
    watcher.wait_back()


def answer(one: socket.socket) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of an HTTP answer, after which the edge hangs up."""
    data = b""
    while chunk := one.recv(65_536):
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)


def test_an_address_has_so_many_connections_and_another_is_not_touched(suite: Suite) -> None:
    inside = [RawClient(suite.port, f"one-{n}", "127.0.5.1") for n in range(150)]
    assert all(client.status == 101 for client in inside)
    further = dial(suite.port, "127.0.5.1")
    further.sendall(handshake("further"))
    status, refusal = answer(further)
    assert (status, refusal["code"]) == (429, "TOO_MANY_CONNECTIONS")
    assert refusal["retryAfterMs"] > 0
    elsewhere = RawClient(suite.port, "elsewhere", "127.0.5.2")
    assert "connected" in elsewhere.ask(connect={"clientId": "e"})
    # Far beyond the limit nothing is said any more.
    silent = [dial(suite.port, "127.0.5.1") for _ in range(70)]
    silent[-1].settimeout(5)
    with pytest.raises(ConnectionError):
        assert silent[-1].recv(1) == b""
        raise ConnectionError
    for one in [further, *silent, inside[0].socket]:
        drop(one)

    def has_room() -> bool:
        client = RawClient(suite.port, "again", "127.0.5.1")
        drop(client.socket)
        return client.status == 101

    wait_for(has_room, 10, "room for one more")
    for client in [*inside, elsewhere]:
        drop(client.socket)


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET /v1/history?subject=/" + b"s" * MEGABYTE, 431, "HEADERS_TOO_LARGE"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"h" * MEGABYTE, 431, "HEADERS_TOO_LARGE"),
        (b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 200_000, 431, "HEADERS_TOO_LARGE"),
    ],
    ids=["subject", "header", "headers"],
)
def test_a_large_request_head_is_refused(
    suite: Suite, request_bytes: bytes, status: int, code: str
) -> None:
    watcher = Watcher(suite)
    one = dial(suite.port)
    # The edge drops what follows, and may hang up before it has been sent.
    one.sendall(request_bytes[:60_000])
    given, refusal = answer(one)
    assert (given, refusal["code"]) == (status, code)
    drop(one)
    watcher.wait_back()


def test_large_subjects_and_headers_in_frames_are_refused(suite: Suite) -> None:
    watcher = Watcher(suite)
    client = RawClient(suite.port, "large")
    client.ask(connect={"clientId": "large", "subscriptions": {"list": []}})
    long = "/" + "s" * 400_000
    assert client.ask(publish={"subject": long})["error"]["code"] == "SUBJECT_INVALID"
    subscribed = client.ask(subscribe={"subscriptions": [{"subject": long[:20_000]}]})
    assert subscribed["error"]["code"] == "SUBJECT_INVALID"
    headers = {"subject": "/a", "text": "x", "headers": {"h": "h" * 400_000}}
    assert client.ask(publish=headers)["error"]["code"] == "HEADERS_TOO_LARGE"
    many = {"subject": "/a", "text": "x", "headers": {str(n): "" for n in range(20_000)}}
    assert client.ask(publish=many)["error"]["code"] == "HEADERS_TOO_LARGE"
    client.send({"publish": {"subject": "/" + "s" * MEGABYTE}})
    wait_for(lambda: client.read() == [] and client.closed_with is not None, 10, "the close")
    assert client.closed_with == 1009
    watcher.wait_back()


def test_a_session_cannot_have_a_hundred_thousand_subscriptions(suite: Suite) -> None:
    watcher = Watcher(suite)
    client = RawClient(suite.port, "greedy")
    client.ask(connect={"clientId": "greedy", "subscriptions": {"list": []}})
    for count, code in ((4_000, "TOO_MANY_SUBSCRIPTIONS"), (15_000, "ARGUMENT_INVALID")):
        subjects = [{"subject": f"/g/{n}"} for n in range(count)]
        assert client.ask(subscribe={"subscriptions": subjects})["error"]["code"] == code
    assert metric(suite, "onward_edge_subscriptions") < 100
    drop(client.socket)
    watcher.wait_back()
