"""Stories of notifications with the real processes: `onward up`, bare clients, a plugin that fails.

A routing file has a subject for each policy. Users come, go, acknowledge and publish at random,
presence is killed now and then, and the plugin answers anything; then all heals. Whatever happened:
each message that a user follows is acknowledged, answered for, or accounted for once (N1); nothing
is told twice at an endpoint but where the first try is in doubt (N2); and nothing is told that was
acknowledged long before, but by a policy that says so (N3).

Half a minute a seed: one of them runs with all tests, five by `make notifications-real`.
"""

import os
import signal
import threading
import time
import urllib.error
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import grpc
import pytest
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc

from tests.path.socket_client import Socket, connecting
from tests.path.stack import Suite, ended
from tests.waiting import wait_for

SEEDS = [int(seed) for seed in os.environ.get("NOTIFICATION_REAL", "1").split(",")]
STORY_S = 12.0
# How long the end of a session may be on its way into presence, on a busy machine.
KNOWN_S = 4.0
ROUTING = """
routes:
  - {subject: /r/always, policy: always, collapse_s: 0}
  - {subject: /r/endpoint, policy: endpoint, collapse_s: 1}
  - {subject: /r/steps, channels: [[fcm], [tel]], escalate_s: 1, collapse_s: 1}
  - {subject: /r/user, collapse_s: 1}
"""
SUBJECTS = ("/r/always", "/r/endpoint", "/r/steps", "/r/user")
SETTINGS = {
    "GRACE_S": "0.8", "GRACE_CLEAN_S": "0.4", "GRACE_DEAD_EDGE_S": "1.5", "HOLD_MAX_S": "4",
    "HOLD_CHECK_S": "0.2", "RETRY_FIRST_S": "0.1", "RETRY_LONGEST_S": "0.5",
    "RETRY_TRIES_MAX": "40", "BREAKER_FIRST_S": "0.1", "BREAKER_LONGEST_S": "0.5",
    "NOTIFY_DEADLINE_S": "1",
}  # fmt: skip
_Result = notifier_pb2.Result
_ANSWERS = ["ACCEPTED"] * 6 + ["DELIVERED", "RETRY", "RETRY", "UNKNOWN", "PROVIDER_UNAVAILABLE"]
# What a plugin says of a try after which another one is right.
_AGAIN = {"RETRY", "PROVIDER_UNAVAILABLE"}


@dataclass
class Handed:
    """One try of a delivery, as the plugin saw it."""

    at: float
    delivery: str
    uri: str
    user: str
    subject: str
    seqs: list[int]
    said: str


class Plugin(notifier_pb2_grpc.NotifierServiceServicer):
    """Serves two channels; on `tel` nothing in doubt is repeated."""

    def __init__(self, random: Random) -> None:
        self.handed: list[Handed] = []
        self.well = False
        self._random = random
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(8))
        notifier_pb2_grpc.add_NotifierServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0)

    def Describe(self, request, context):
        channels = [
            notifier_pb2.Channel(scheme="fcm", repeats_unknown=True),
            notifier_pb2.Channel(scheme="tel"),
        ]
        return notifier_pb2.DescribeResponse(name="moody", batch_max=4, channels=channels)

    def Notify(self, request, context):
        response = notifier_pb2.NotifyResponse()
        with self._lock:
            mood = "well" if self.well else self._random.choice(("well", "moody", "moody", "late"))
            for one in request.deliveries:
                said = self._random.choice(_ANSWERS) if mood == "moody" else "ACCEPTED"
                self.handed.append(
                    Handed(
                        time.monotonic(), one.delivery_id, one.endpoint, one.user, one.subject,
                        [message.seq for message in one.messages], said if mood != "late" else "",
                    )
                )  # fmt: skip
                response.results.add(
                    delivery_id=one.delivery_id, outcome=_Result.Outcome.Value(said)
                )
            if mood == "moody" and self._random.random() < 0.3:
                response.results.add(delivery_id="f" * 32, outcome=_Result.ENDPOINT_GONE)
        if mood == "late":
            time.sleep(1.3)
        return response


@dataclass
class Client:
    """One client of a user, which registers the endpoint of its own."""

    user: str
    name: str
    uri: str
    socket: Socket | None = None
    # By subject: where its first subscription began; what it has got, and acknowledged; and when.
    base: dict[str, int] = field(default_factory=dict)
    got: dict[str, int] = field(default_factory=dict)
    acked: dict[str, int] = field(default_factory=dict)
    told: dict[tuple[str, int], float] = field(default_factory=dict)
    # By message: when its session's end told of that.
    known: dict[tuple[str, int], float] = field(default_factory=dict)

    def come(self, suite: Suite) -> None:
        subjects = SUBJECTS if not self.base else tuple(self.base)
        wanted = [
            {"subject": one} | ({"afterSeq": str(self.acked[one])} if one in self.acked else {})
            for one in subjects
        ]
        self.socket = Socket(suite, self.user)
        answer = self.socket.ask(
            connect=connecting(self.name, *wanted, externalTokens=[{"uri": self.uri}])
        )
        for one in answer["connected"]["subscriptions"]:
            subject, seq = one["subject"], int(one.get("seq", 0))
            if subject not in self.base:
                self.base[subject] = self.acked[subject] = self.got[subject] = seq

    def read(self) -> None:
        """Take what has come."""
        while self.socket is not None:
            try:
                frame = self.socket.receive(0.02)
            except TimeoutError:
                return
            if "message" in frame:
                message = frame["message"]
                self.got[message["subject"]] = int(message["seq"])

    def acknowledge(self) -> None:
        self.read()
        more = {s: n for s, n in self.got.items() if n > self.acked[s]}
        if self.socket is None or not more:
            return
        positions = [{"subject": subject, "seq": str(seq)} for subject, seq in more.items()]
        if "done" not in self.socket.ask(ack={"positions": positions}):
            return
        for subject, seq in more.items():
            for one in range(self.acked[subject] + 1, seq + 1):
                self.told[subject, one] = time.monotonic()
            self.acked[subject] = seq

    def go(self, clean: bool) -> None:
        socket, self.socket = self.socket, None
        if socket is not None:
            for message in self.told:
                self.known.setdefault(message, time.monotonic())
            if clean:
                socket.connection.close()
            else:
                socket.drop()


class Play:
    """One seed, on a suite of its own."""

    def __init__(self, seed: int, suite: Suite, plugin: Plugin) -> None:
        self.random = Random(seed)
        self.suite, self.plugin = suite, plugin
        self.publishers: dict[tuple[str, int], str] = {}
        self.kills: list[float] = []
        self.clients = [
            Client(user, f"{user}-{n}", f"fcm:{user}{n}" if n else f"tel:+49150000000{place}")
            for place, user in enumerate(("ann", "bea", "cem"))
            for n in (0, 1)
        ]

    def run(self) -> None:
        random = self.random
        end = time.monotonic() + STORY_S
        for client in self.clients:
            client.come(self.suite)
        while time.monotonic() < end:
            act = random.choice(
                [self.publish] * 5 + [self.acknowledge] * 3 + [self.turn] * 3 + [self.kill]
            )
            act()
            time.sleep(random.random() * 0.15)
        self.plugin.well = True
        for client in self.clients:
            if random.random() < 0.6:
                client.go(clean=True)
            elif client.socket is not None:
                client.acknowledge()

    def publish(self) -> None:
        subject, publisher = self.random.choice(SUBJECTS), self.random.choice(("bob", "ann"))
        for _ in range(self.random.choice((1, 1, 3))):
            answer = self.suite.publish(subject, "text", publisher)
            self.publishers[subject, int(answer["seq"])] = publisher

    def acknowledge(self) -> None:
        self.random.choice(self.clients).acknowledge()

    def turn(self) -> None:
        client = self.random.choice(self.clients)
        if client.socket is None:
            client.come(self.suite)
        else:
            client.go(clean=self.random.random() < 0.5)

    def kill(self) -> None:
        """Presence dies, wherever it is; `onward up` starts it again."""
        if self.random.random() < 0.3:
            self.kills.append(time.monotonic())
            try:
                os.kill(self.suite.child("presence"), signal.SIGKILL)
            except (AssertionError, ProcessLookupError):
                pass  # It is not up again yet.

    # -- what became of it ------------------------------------------------------------------

    def outcome(self, user: str, subject: str, seq: int) -> str:
        try:
            return str(self.suite.explain(user, subject, seq)["state"])
        except urllib.error.HTTPError:
            return "UNAVAILABLE"

    def settled(self, user: str, subject: str, seq: int) -> bool:
        here = any(one.user == user and one.socket is not None for one in self.clients)
        waits = {"PENDING", "NOT_YET", "UNAVAILABLE"} | (set() if here else {"HELD"})
        return self.outcome(user, subject, seq) not in waits

    def check(self) -> None:
        due = [
            (client.user, subject, seq)
            for client in self.clients
            for subject, seq in self.publishers
            if client.base[subject] < seq
        ]
        for user, subject, seq in dict.fromkeys(due):
            what = f"{seq} of {subject} for {user}"
            wait_for(lambda: self.settled(user, subject, seq), 40, what)  # noqa: B023
            self.check_one(user, subject, seq, what)
        self.check_handed()

    def check_one(self, user: str, subject: str, seq: int, what: str) -> None:
        """N1."""
        state = self.outcome(user, subject, seq)
        mine = [one for one in self.clients if one.user == user and one.base[subject] < seq]
        if self.publishers[subject, seq] == user:
            assert state in ("SUPPRESSED", "ACKNOWLEDGED", "ANSWERED_FOR"), what
            return
        if subject == "/r/always":
            assert state in ("NOTIFIED", "UNKNOWN"), f"{what} is {state}"
        elif state == "ACKNOWLEDGED":
            assert any((subject, seq) in one.told for one in mine), what
        elif state in ("ANSWERED_FOR", "HELD"):
            assert any(one.socket is not None for one in mine), f"{what} is {state}"
        else:
            assert state in ("NOTIFIED", "UNKNOWN"), f"{what} is {state}"

    def check_handed(self) -> None:
        tries: dict[str, list[Handed]] = defaultdict(list)
        of: dict[tuple[str, str, int], str] = {}
        for one in self.plugin.handed:
            tries[one.delivery].append(one)
            for seq in one.seqs:
                # N2: by one delivery alone.
                assert of.setdefault((one.uri, one.subject, seq), one.delivery) == one.delivery
                assert self.publishers[one.subject, seq] != one.user, "the user's own"
                self.check_silenced(one, seq)
        for calls in tries.values():
            for former in calls[:-1]:
                # A service that dies does not hear what was said; then it is in doubt.
                assert former.said in _AGAIN or former.uri.startswith("fcm:"), (former, calls)

    def check_silenced(self, one: Handed, seq: int) -> None:
        """N3: not long after an acknowledgement by a client that may silence it."""
        if one.subject == "/r/always":
            return
        for client in self.clients:
            silences = one.subject != "/r/endpoint" or client.uri == one.uri
            known = client.known.get((one.subject, seq))
            if client.user == one.user and silences and known is not None:
                # Whoever takes over may send before it has read the log to its end.
                died = any(known - KNOWN_S < at < one.at for at in self.kills)
                assert died or one.at < known + KNOWN_S, (one, seq)


@pytest.fixture
def plugin(request: pytest.FixtureRequest) -> Iterator[Plugin]:
    served = Plugin(Random(request.node.name))
    try:
        yield served
    finally:
        served.stop()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", SEEDS)
def test_everybody_is_told_once_by_real_processes(
    seed: int, plugin: Plugin, tmp_path: Path
) -> None:
    routing = tmp_path / "routing.yaml"
    routing.write_text(ROUTING)
    settings = {f"ONWARD_PRESENCE_{name}": value for name, value in SETTINGS.items()}
    settings |= {
        "ONWARD_PRESENCE_ROUTING": str(routing),
        "ONWARD_PRESENCE_PLUGINS": f"127.0.0.1:{plugin.port}",
    }
    suite = Suite(tmp_path / "data", settings)
    with ended(suite):
        suite.wait_ready()
        play = Play(seed, suite, plugin)
        play.run()
        play.check()
    assert plugin.handed
    print(f"seed {seed}: {len(play.publishers)} messages, {len(plugin.handed)} handed over")
