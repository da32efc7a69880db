"""The disk under both stores and the logs of all processes is full, and then has space again.

A small tmpfs stands for the disk; etcd, whose own files are larger than that, is elsewhere.
"""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from onward.coordinator.v1 import coordinator_pb2, coordinator_pb2_grpc

from services.chassis.channel import credentials
from tests.path.mailbox import Mailbox
from tests.path.socket_client import Socket, connecting
from tests.path.stack import QUICK, Suite, ended, free_port
from tests.waiting import wait_for

DISK = "16m"
SUBJECT = "/news"
LONG = "x" * 20_000
ROOM = 2 * 1024 * 1024  # for some dozens of messages in both stores
IN_A_ROW = 5  # refusals without an acceptance between them: the disk is full to the last page


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("only root can mount a tmpfs")
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(where)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


@contextmanager
def running(directory: Path, disk: Path, mailbox: Mailbox) -> Iterator[tuple[Suite, str]]:
    """`onward up` with all but etcd on the disk, and where its coordinator's metrics are."""
    directory.mkdir()
    for name in ("coordinator", "presence", "logs"):
        (disk / name).mkdir()
        (directory / name).symlink_to(disk / name)
    port = free_port()
    settings = {
        "ONWARD_COORDINATOR_METRICS_PORT": str(port),
        "ONWARD_PRESENCE_COLLAPSE_S": "0.5",
    }
    up = Suite(directory, QUICK | mailbox.settings | settings)
    with ended(up):
        up.wait_ready()
        yield up, f"http://127.0.0.1:{port}/metrics"


def fill(disk: Path, but: int) -> Path:
    """Take all the space there is but so many bytes."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - but))
    return ballast


class Publisher:
    """Publishes by HTTP and WebSocket in turn, and remembers what it was told."""

    def __init__(self, suite: Suite, socket: Socket) -> None:
        self.accepted: dict[str, int] = {}
        self.refused: list[str] = []
        self._suite = suite
        self._socket = socket
        self._socket.ask(connect=connecting("bob-1"))
        self._number = 0

    def next(self) -> str | None:
        """Publish the next message; returns the refusal's code."""
        self._number += 1
        return self.publish(f"p{self._number}")

    def publish(self, publication_id: str) -> str | None:
        number = int(publication_id[1:])
        by_http = number % 2 == 0
        fields = {"text": f"{publication_id} {LONG}", "publicationId": publication_id}
        code = self._by_http(**fields) if by_http else self._by_socket(**fields)
        if isinstance(code, int):
            self.accepted.setdefault(publication_id, code)
            assert self.accepted[publication_id] == code, "the same id, the same place"
            return None
        self.refused.append(publication_id)
        return code

    def _by_http(self, **fields: str) -> int | str:
        try:
            return int(self._suite.publish(SUBJECT, **fields)["seq"])
        except urllib.error.HTTPError as error:
            return str(json.load(error)["code"])

    def _by_socket(self, **fields: str) -> int | str:
        answer = self._socket.ask(publish={"subject": SUBJECT, **fields})
        if "error" in answer:
            return str(answer["error"]["code"])
        return int(answer["published"]["seq"])


def follower_leaves(suite: Suite) -> None:
    """Somebody with an e-mail address follows the subject, and goes away."""
    with Socket(suite, "ann") as socket:
        follow = connecting(
            "ann-1", {"subject": SUBJECT}, externalTokens=[{"uri": "mailto:ann@example.org"}]
        )
        assert "connected" in socket.ask(connect=follow)


def alarmed(suite: Suite, metrics: str) -> bool:
    """Whether the coordinator's status shows the alarm, and its metrics."""
    raw = Path(f"/proc/{suite.child('coordinator')}/environ").read_bytes().decode()
    environ = dict(item.split("=", 1) for item in raw.split("\0") if item)
    with grpc.insecure_channel(environ["ONWARD_COORDINATOR_LISTEN"]) as channel:
        status = coordinator_pb2_grpc.CoordinatorServiceStub(channel).GetStatus(
            coordinator_pb2.GetStatusRequest(),
            metadata=credentials(environ["ONWARD_SECRET"]),
            timeout=5,
        )
    with urllib.request.urlopen(metrics, timeout=5) as answer:
        measured = 'onward_coordinator_alarm{name="STORE_FULL"} 1.0' in answer.read().decode()
    assert measured == ("STORE_FULL" in {alarm.name for alarm in status.alarms})
    return measured


def history(suite: Suite) -> list[dict[str, Any]]:
    """All messages of the subject."""
    found: list[dict[str, Any]] = []
    while True:
        after = found[-1]["seq"] if found else 0
        page = suite.get(f"/v1/history?user=bob&subject={SUBJECT}&after={after}&limit=100")
        if not page["messages"]:
            return found
        found += page["messages"]


def refused_in_a_row(publisher: Publisher) -> list[str | None]:
    """Publish until the disk takes nothing for a while; the last codes."""
    codes: list[str | None] = [None]
    while len(codes) < IN_A_ROW or None in codes[-IN_A_ROW:]:
        codes.append(publisher.next())
        assert len(codes) < 2_000, "the disk does not fill"
    return codes[-IN_A_ROW:]


def test_a_full_disk_refuses_loses_nothing_and_recovers_by_itself(
    disk: Path, tmp_path: Path, mailbox: Mailbox
) -> None:
    with running(tmp_path / "data", disk, mailbox) as (suite, metrics), Socket(suite, "bob") as bob:
        publisher = Publisher(suite, bob)
        follower_leaves(suite)
        assert publisher.next() is None
        wait_for(lambda: mailbox.mails, 15, "the mail of the first message")
        pids = {name: suite.child(name) for name in ("coordinator", "presence", "edge")}

        ballast = fill(disk, but=ROOM)
        assert set(refused_in_a_row(publisher)) == {"STORE_FULL"}, "by HTTP and by WebSocket"
        assert len(publisher.accepted) > IN_A_ROW, "it filled by messages"
        wait_for(lambda: alarmed(suite, metrics), 5, "the alarm")
        accepted_while_full = dict(publisher.accepted)

        ballast.unlink()
        wait_for(lambda: not alarmed(suite, metrics), 10, "the alarm to go by itself")
        for publication_id in [*accepted_while_full, *dict.fromkeys(publisher.refused)]:
            assert publisher.publish(publication_id) is None

        seqs = publisher.accepted
        told = {int(m["seq"]): m["text"].split()[0] for m in history(suite)}
        assert told == {seq: publication_id for publication_id, seq in seqs.items()}
        assert sorted(told) == list(range(1, len(seqs) + 1))
        wait_for(
            lambda: all(
                suite.explain("ann", SUBJECT, seq)["state"] == "NOTIFIED" for seq in (1, *told)
            ),
            20,
            "a notification about each message",
        )
        assert pids == {name: suite.child(name) for name in pids}, "nobody was restarted"
