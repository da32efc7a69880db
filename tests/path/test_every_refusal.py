"""Every frame kind, refusal code and close code, as a user can meet it, over the real wire.

Each story below says what it shows; a witness notes what really went over its socket, and the
story must have shown it. `ELSEWHERE` names the tests of what a story would be too much for. A name
that a proto or `services/edge/socket.py` has and neither shows makes the first test fail.
"""

import asyncio
import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from onward.client.v1 import client_pb2
from onward.coordinator.v1 import coordinator_pb2 as wire
from onward.coordinator.v1 import coordinator_pb2_grpc
from onward.types.v1 import refusal_pb2
from websockets.exceptions import ConnectionClosed

from services.chassis.channel import credentials, open_channel
from services.chassis.cluster import join_edge
from services.chassis.etcd import Etcd
from services.edge import socket as close_codes
from services.edge.websocket import FRAGMENTS_MAX
from tests.path.socket_client import Socket, connecting
from tests.path.stack import QUICK, ROOT, Suite, ended
from tests.path.test_race_table import environment
from tests.waiting import wait_for

KEY = "a key to sign tokens with, of 32 bytes and more"
SETTINGS = QUICK | {
    "ONWARD_EDGE_JWT_HS256_SECRET": KEY,
    "ONWARD_EDGE_CONNECT_S": "6",
    "ONWARD_EDGE_ROUND_S": "0.25",
    "ONWARD_EDGE_UNACKNOWLEDGED_S": "6",
    "ONWARD_EDGE_SLOW_S": "1.5",
    "ONWARD_EDGE_CLOSE_S": "20",
    "ONWARD_EDGE_WRITE_HIGH_BYTES": "16384",
    "ONWARD_EDGE_SUBSCRIPTIONS_MAX": "5",
    "ONWARD_EDGE_PUBLISH_RATE": "1",
    "ONWARD_EDGE_PUBLISH_BURST": "100",
    "ONWARD_EDGE_PUBLISH_WAIT_S": "1.5",
    "ONWARD_EDGE_ADDRESS_CONNECTIONS_MAX": "30",
    "ONWARD_COORDINATOR_CLIENTS_MAX": "2",
}

# What is shown by a test of another file, and why not here.
ELSEWHERE = {
    # The edge must have missed messages that are trimmed before it asks again.
    "down:gap": "tests/edge/test_hub_bounds.py::"
    "test_a_watch_whose_missed_messages_are_all_trimmed_is_a_gap",
    # A disk must be full.
    "code:STORE_FULL": "tests/path/test_disk_full.py::"
    "test_a_full_disk_refuses_loses_nothing_and_recovers_by_itself",
}

Story = Callable[["Stage"], None]
STORIES: dict[Story, frozenset[str]] = {}  # with what each shows


def shows(*names: str) -> Callable[[Story], Story]:
    """Puts a story on the list."""

    def put(story: Story) -> Story:
        STORIES[story] = frozenset(names)
        return story

    return put


def every_name() -> set[str]:
    """All that there is to show."""
    up, down = client_pb2.ClientFrame.DESCRIPTOR, client_pb2.ServerFrame.DESCRIPTOR
    return {
        *(f"up:{field.json_name}" for field in up.fields if field.name != "id"),
        *(f"down:{field.json_name}" for field in down.fields if field.name != "id"),
        *(f"kind:{name}" for name in client_pb2.Message.Kind.keys()[1:]),
        *(f"code:{name}" for name in refusal_pb2.Refusal.Code.keys()[1:]),
        *(f"close:{value}" for name, value in vars(close_codes).items() if name[:6] == "CLOSE_"),
    }


class Witness(Socket):
    """A client that notes what goes over its wire."""

    def __init__(self, stage: "Stage", user: str, **options: Any) -> None:
        super().__init__(stage.suite, user, **options)
        self._seen = stage.seen

    def send(self, frame: dict[str, Any] | str | bytes) -> None:
        super().send(frame)
        if isinstance(frame, dict):
            self._seen |= {f"up:{kind}" for kind in frame}

    def raw(self, data: bytes) -> None:
        """Send bytes that are no frame of a good client."""
        self.connection.socket.sendall(data)

    def closed(self, deadline_s: float = 15) -> int:
        """Read on until the server closes; the code."""
        end = time.monotonic() + deadline_s
        try:
            while True:
                self._read(end - time.monotonic())
        except ConnectionClosed:
            code = self.connection.close_code
        assert code is not None
        self._seen.add(f"close:{code}")
        return code

    def _read(self, timeout_s: float) -> dict[str, Any]:
        frame = super()._read(timeout_s)
        self._seen |= {f"down:{kind}" for kind in frame}
        if "message" in frame:
            self._seen.add(f"kind:{frame['message']['kind']}")
        if "error" in frame:
            self._seen.add(f"code:{frame['error']['code']}")
        return frame


class Stage:
    """The suite, and what one story has shown."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.seen: set[str] = set()

    def client(self, user: str, *subscriptions: Any, **fields: Any) -> Witness:
        """A client with its session."""
        witness = Witness(self, user)
        answer = witness.ask(connect=connecting(f"{user}-1", *subscriptions, **fields))
        assert "connected" in answer, answer
        return witness

    def http(self, path: str, body: Any = None, token: str = "") -> int:
        """The status of an answer whose refusal is noted."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.suite.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            self.seen.add(f"code:{json.load(error)['code']}")
            return error.code


def token(user: str, lives_s: float = 3_600, **onward: Any) -> str:
    """A good token."""
    claims = {"sub": user, "exp": time.time() + lives_s, "onward": onward}
    return jwt.encode(claims, KEY, algorithm="HS256")


@pytest.fixture(scope="module")
def quick_suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """`onward up` with limits that are soon reached."""
    up = Suite(tmp_path_factory.mktemp("data"), SETTINGS)
    with ended(up):
        up.wait_ready()
        yield up


def test_every_name_has_a_story_or_a_test_elsewhere() -> None:
    shown = set[str]().union(*STORIES.values())
    assert shown | ELSEWHERE.keys() == every_name()
    assert not shown & ELSEWHERE.keys()
    for place in ELSEWHERE.values():
        path, _, test = place.partition("::")
        assert f"def {test}(" in (ROOT / path).read_text(), place


@shows("up:connect", "up:subscribe", "up:unsubscribe", "up:publish", "up:setExternalToken",
       "up:removeExternalToken", "up:setActivity", "up:refresh", "up:ack", "up:logout",
       "down:connected", "down:subscribed", "down:published", "down:message", "down:synced",
       "down:done", "kind:LIVE", "kind:RECOVERED", "kind:HISTORY", "kind:SNAPSHOT",
       "kind:TRANSIENT", "close:4503")  # fmt: skip
def a_conversation(stage: Stage) -> None:
    grants = {"subscribe": ["/*"], "publish": ["/*"]}
    ann = stage.client("", {"subject": "/talk"}, token=token("ann", **grants))
    publish = {"subject": "/talk", "text": "hello"}
    assert ann.ask(publish=publish | {"retain": True})["published"]["seq"] == "1"
    assert ann.receive()["message"]["kind"] == "LIVE"
    assert ann.ask(publish=publish | {"transient": True})["published"]["seq"] == "0"
    assert ann.receive()["message"]["kind"] == "TRANSIENT"
    ann.ask(publish=publish)
    assert ann.receive()["message"]["seq"] == "2"
    for start, first in (
        ({"afterSeq": "0"}, "RECOVERED"),
        ({"history": 1}, "HISTORY"),
        ({"snapshot": True}, "SNAPSHOT"),
    ):
        bob = stage.client("bob")
        assert "subscribed" in bob.ask(subscribe={"subscriptions": [{"subject": "/talk"} | start]})
        assert bob.receive()["message"]["kind"] == first
        if first == "RECOVERED":
            assert bob.receive()["message"]["seq"] == "2"
            assert bob.receive()["synced"]["seq"] == "2"
        assert "done" in bob.ask(ack={"positions": [{"subject": "/talk", "seq": "2"}]})
        assert "done" in bob.ask(unsubscribe={"subjects": ["/talk"]})
        bob.connection.close()
    assert "done" in ann.ask(setExternalToken={"uri": "fcm:abc"})
    assert "done" in ann.ask(removeExternalToken={"uri": "fcm:abc"})
    assert "done" in ann.ask(setActivity={"active": False})
    assert "done" in ann.ask(refresh={"token": token("ann", **grants)})
    assert "done" in ann.ask(refresh={"token": token("ann", publish=["/*"])})
    assert ann.receive()["error"]["subject"] == "/talk"  # it is no longer subscribed to
    assert "done" in ann.ask(logout={})
    assert ann.closed() == 4503


@shows("down:error", "code:CONNECT_REQUIRED", "code:CLIENT_ID_INVALID",
       "code:TOO_MANY_EXTERNAL_TOKENS", "code:UNSUPPORTED", "code:FRAME_MALFORMED",
       "code:FRAME_UNKNOWN", "code:ALREADY_CONNECTED", "code:SUBJECT_INVALID",
       "code:CONTENT_TOO_LARGE", "code:HEADERS_TOO_LARGE", "code:PUBLICATION_ID_INVALID",
       "code:PUBLICATION_ID_REUSED", "code:EXTERNAL_TOKEN_INVALID", "code:ARGUMENT_INVALID",
       "code:TOO_MANY_SUBSCRIPTIONS", "code:RATE_LIMITED")  # fmt: skip
def one_mistake_after_the_other_on_one_connection(stage: Stage) -> None:
    eve = Witness(stage, "eve")
    tokens = [{"uri": f"fcm:{number}"} for number in range(17)]
    eve.ask(publish={"subject": "/a", "text": "x"})
    eve.ask(connect=connecting("x" * 129))
    eve.ask(connect=connecting("eve-1", externalTokens=tokens))
    observer = stage.client("eve", acknowledges="NONE")
    observer.ask(setExternalToken={"uri": "fcm:abc"})
    assert "connected" in eve.ask(connect=connecting("eve-1"))
    eve.ask(connect=connecting("eve-1"))
    for text in ("{", '{"id": "1", "dance": {}}'):
        eve.send(text)
        eve.receive()
    eve.ask(publish={"subject": "a", "text": "x"})
    eve.ask(publish={"subject": "/a", "text": "x" * 65_537})
    eve.ask(publish={"subject": "/a", "text": "x", "headers": {"h": "x" * 4_097}})
    eve.ask(publish={"subject": "/a", "text": "x", "publicationId": "x" * 129})
    eve.ask(publish={"subject": "/a", "text": "x", "publicationId": "p"})
    eve.ask(publish={"subject": "/a", "text": "y", "publicationId": "p"})
    eve.ask(publish={"subject": "/a", "text": "x", "retain": True, "transient": True})
    eve.ask(setExternalToken={"uri": "sms:7"})
    eve.ask(subscribe={"subscriptions": [{"subject": f"/a/{number}"} for number in range(6)]})
    for number in range(120):
        eve.send({"id": f"p{number}", "publish": {"subject": "/a", "text": "x"}})
    wait_for(
        lambda: eve.receive() and "code:RATE_LIMITED" in stage.seen, 10, "the rate to be limited"
    )


@shows("code:TOKEN_INVALID", "close:4500", "code:TOKEN_EXPIRED", "close:4003",
       "code:SUBJECT_FORBIDDEN", "code:EXTERNAL_TOKEN_FORBIDDEN", "code:FORBIDDEN")  # fmt: skip
def tokens_that_do_not_allow_it(stage: Stage) -> None:
    for bad, code in (("no.such.token", 4500), (token("ann", -60), 4003)):
        client = Witness(stage, "")
        client.ask(connect=connecting("ann-1", token=bad))
        assert client.closed() == code
    narrow = token("ann", subscribe=["/chat/*"], external_tokens=["mailto:ann@example.org"])
    client = Witness(stage, "")
    other = [{"uri": "mailto:somebody@example.org"}]
    client.ask(connect=connecting("ann-1", token=narrow, externalTokens=other))
    answer = client.ask(connect=connecting("ann-1", {"subject": "/else"}, token=narrow))
    assert answer["error"]["subject"] == "/else"
    assert stage.http("/v1/explain?user=bob&subject=/chat/1", token=narrow) == 403


@shows("code:STALE_SESSION", "code:TOO_MANY_CLIENTS", "close:4502")
def clients_of_one_user(stage: Stage) -> None:
    older, newer = Witness(stage, "una"), Witness(stage, "una")
    older.ask(connect=connecting("una-1"))
    newer.ask(connect=connecting("una-1"))
    assert older.closed() == 4502
    newer.connection.close()
    for client_id in ("una-2", "una-3"):
        last = Witness(stage, "una")
        # Who follows nothing and can be reached nowhere is not counted.
        last.ask(connect=connecting(client_id, {"subject": "/una"}, lastGeneration="77"))
        answer = last.ask(connect=connecting(client_id, {"subject": "/una"}))
    assert "error" in answer or "connected" in answer
    newer = Witness(stage, "una")
    newer.ask(connect=connecting("una-4", {"subject": "/una"}))


@shows("code:TOO_MANY_CONNECTIONS")
def connections_of_one_address(stage: Stage) -> None:
    sockets = []
    try:
        for _ in range(31):
            one = socket.create_connection(
                ("127.0.0.1", stage.suite.port), 10, source_address=("127.0.0.9", 0)
            )
            sockets.append(one)
            one.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = one.recv(4_096)
        assert answer.startswith(b"HTTP/1.1 429 ")
        stage.seen.add(f"code:{json.loads(answer.partition(bytes([13, 10]) * 2)[2])['code']}")
    finally:
        for one in sockets:
            one.close()


@shows("close:1002", "close:1006", "close:1007", "close:1008", "close:1009")
def bytes_that_are_no_frames(stage: Stage) -> None:
    mask = bytes(4)
    piece = b"\x00\x80" + mask  # an empty continuation
    for data, code in (
        (b"\x81\x01x", 1002),  # not masked
        (b"\x81\x81" + mask + b"\xff", 1007),
        (b"\x01\x80" + mask + piece * FRAGMENTS_MAX, 1008),
        (b"\x81\xff" + (1 << 20).to_bytes(8, "big") + mask, 1009),
    ):
        client = stage.client("eve")
        client.raw(data)
        assert client.closed() == code
    # 1006 is never on the wire: it is how the edge counts a connection that was cut.
    stage.client("eve").drop()

    def counted() -> bool:
        with urllib.request.urlopen(stage.suite.url + "/metrics", timeout=5) as answer:
            return b'onward_edge_sockets_closed_total{code="1006"}' in answer.read()

    wait_for(counted, 10, "the edge to notice")
    stage.seen.add("close:1006")


@shows("close:4001", "close:4002", "close:4003", "close:4501")
def times_that_run_out(stage: Stage) -> None:
    silent = Witness(stage, "eve")
    expiring = stage.client("", token=token("ann", 5))
    lazy = stage.client("lou", {"subject": "/lazy"})
    lazy.ask(publish={"subject": "/lazy", "text": "never acknowledged"})
    deaf_socket = socket.socket()
    deaf_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    deaf_socket.connect(("127.0.0.1", stage.suite.port))
    deaf = Witness(stage, "dan", sock=deaf_socket, max_queue=1)
    deaf.ask(connect=connecting("dan-1", {"subject": "/loud"}))
    loud = stage.client("lou2")
    for _ in range(24):
        assert "published" in loud.ask(publish={"subject": "/loud", "text": "x" * 60_000})
    wait_for(lambda: given_up(stage.suite), 20, "the edge to give up the deaf one")
    assert deaf.closed() == 4001
    assert lazy.closed() == 4002
    assert expiring.closed() == 4003
    assert silent.closed() == 4501


def given_up(suite: Suite) -> bool:
    """Whether the edge has begun to close a slow session; its client has 20 s to read that."""
    with urllib.request.urlopen(suite.url + "/metrics", timeout=5) as answer:
        return b'onward_edge_sessions_closed_total{code="4001"' in answer.read()


@shows("code:NOT_OWNER")
def an_edge_that_names_a_wrong_epoch(stage: Stage) -> None:
    """Between services the refusal has a message of its own, `NotOwner`."""

    async def ask() -> wire.NotOwner:
        around = environment(stage.suite, "edge")
        etcd = Etcd(around["ONWARD_ETCD"])
        lease = await join_edge(etcd, "127.0.0.1:1", 10)
        member = (await etcd.range("/onward/coordinators/")).keys[0]
        hello = wire.UplinkRequest(hello=wire.UplinkRequest.Hello(edge_id=lease.id))
        requests = [
            wire.PartitionRequests(partition=3, epoch=1, watches=[wire.Watch(subject="/a")])
        ]
        batch = wire.UplinkRequest(batch=wire.UplinkRequest.Batch(partitions=requests))
        secret = around["ONWARD_SECRET"]
        async with open_channel(json.loads(member.value)["address"], secret) as channel:
            stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
            call = stub.Uplink(metadata=credentials(secret))
            await call.write(hello)
            await call.write(batch)
            async for response in call:
                if response.batch.not_owner:
                    break
        await lease.revoke()
        await etcd.close()
        return response.batch.not_owner[0]

    answer = asyncio.run(asyncio.wait_for(ask(), 20))
    assert (answer.partition, answer.epoch) == (3, 1)
    stage.seen.add("code:NOT_OWNER")


@shows("down:goingAway", "close:4000")
def an_edge_that_stops(stage: Stage) -> None:
    client = stage.client("eve")
    edge = stage.suite.child("edge")
    os.kill(edge, signal.SIGTERM)
    assert client.closed() == 4000
    wait_for(lambda: not Path(f"/proc/{edge}").exists(), 10, "the edge to end")
    wait_for(lambda: ready(stage), 20, "another edge to be ready")


def ready(stage: Stage) -> bool:
    """Whether clients can come."""
    try:
        return stage.http("/readyz") == 200
    except (OSError, KeyError):
        return False


@shows("code:UNAVAILABLE", "code:OVERLOADED", "close:4004")
def a_coordinator_that_stands_still(stage: Stage) -> None:
    client, other = stage.client("eve"), Witness(stage, "eve")
    coordinator = stage.suite.child("coordinator")
    os.kill(coordinator, signal.SIGSTOP)
    try:
        other.send({"id": "1", "connect": connecting("eve-2")})
        client.send({"id": "p", "publish": {"subject": "/a", "text": "x"}})
        for number in range(70):
            client.send({"id": f"t{number}", "setExternalToken": {"uri": f"fcm:{number}"}})
        wait_for(
            lambda: client.receive() and {"code:UNAVAILABLE", "code:OVERLOADED"} <= stage.seen,
            15,
            "the publish and the last frames to be turned down",
        )
        assert other.closed() == 4004
    finally:
        os.kill(coordinator, signal.SIGCONT)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_story_shows_what_it_says(quick_suite: Suite, story: Story) -> None:
    stage = Stage(quick_suite)
    story(stage)
    assert STORIES[story] <= stage.seen, STORIES[story] - stage.seen
