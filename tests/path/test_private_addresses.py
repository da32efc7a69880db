"""Endpoints that lead to this machine are not asked, and what no channel serves is printed.

The notifier as it is by default: users may register URLs, but private networks are not theirs.
"""

import socket
from collections.abc import Callable, Iterator

import pytest

from tests.notifier.push_server import PushServer
from tests.notifier.scripts import Scripts
from tests.notifier.test_vapid import SUBJECT, TRADITIONAL
from tests.path.cells import refused, taken
from tests.path.doubles import NEW, Line
from tests.path.playing import Played, play, tries_of
from tests.path.stack import QUICK, Suite, ended
from tests.waiting import wait_for

SETTINGS = {
    "ONWARD_PRESENCE_GRACE_CLEAN_S": "0.3",
    "ONWARD_PRESENCE_COLLAPSE_S": "0",
    "ONWARD_WEBHOOK_SECRETS": NEW,
    "ONWARD_WEBPUSH_VAPID_KEY": TRADITIONAL,
    "ONWARD_WEBPUSH_SUBJECT": SUBJECT,
}
WEBHOOKS = ["webhook to 127.0.0.1", "webhook to localhost", "webhook to a number"]
WEB_PUSHES = ["web push to 127.0.0.1", "web push to localhost"]
PRIVATE = [refused(channel, "private", None) for channel in (*WEBHOOKS, *WEB_PUSHES)]
PRINTED = taken("console", "no other channel")


def _line(scheme: str, endpoint: Callable[[int], str]) -> Line:
    return Line(scheme, "ACCEPTED", Scripts(), str, endpoint)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    up = Suite(tmp_path_factory.mktemp("data"), QUICK | SETTINGS)
    with ended(up):
        up.wait_ready()
        yield up


@pytest.fixture(scope="module")
def own_server() -> Iterator[socket.socket]:
    """What listens here for others than users."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


@pytest.fixture(scope="module")
def all_played(suite: Suite, own_server: socket.socket) -> dict[str, Played]:
    port = own_server.getsockname()[1]
    keys = PushServer()  # Only its keys are used: nobody listens on a port of push services.

    def push(host: str) -> Line:
        return _line("webpush", lambda n: keys.subscribe(str(n), f"https://{host}:8443"))

    lines = {
        WEBHOOKS[0]: _line("https", lambda n: f"https://127.0.0.1:{port}/{n}"),
        WEBHOOKS[1]: _line("https", lambda n: f"https://localhost:{port}/{n}"),
        WEBHOOKS[2]: _line("https", lambda n: f"https://2130706433:{port}/{n}"),
        WEB_PUSHES[0]: push("127.0.0.1"),
        WEB_PUSHES[1]: push("localhost"),
        PRINTED.channel: _line("fcm", lambda n: f"fcm:{n}"),
    }
    return play(suite, lines, [*PRIVATE, PRINTED])


@pytest.mark.parametrize("cell", PRIVATE, ids=str)
def test_nothing_is_sent_there_and_the_endpoint_stays(
    all_played: dict[str, Played], own_server: socket.socket, cell: object
) -> None:
    played = all_played[str(cell)]
    assert tries_of(played.ended) == ["REJECTED_MESSAGE"]
    [delivery] = played.ended["deliveries"]
    assert delivery["attempts"][0]["detail"].endswith("address is not public")
    assert (played.ended["state"], played.ended["reason"]) == ("FAILED", "REJECTED_MESSAGE")
    assert len(played.listed) == 1
    assert played.told_first == played.told_later == []
    assert played.next["state"] == "FAILED"
    with pytest.raises(BlockingIOError):
        own_server.accept()  # Nobody has connected.


def test_what_no_channel_serves_is_printed(suite: Suite, all_played: dict[str, Played]) -> None:
    played = all_played[str(PRINTED)]
    assert tries_of(played.ended) == ["ACCEPTED"]
    assert played.ended["state"] == played.next["state"] == "NOTIFIED"
    assert played.listed == [played.endpoint]
    head = f"notification [fcm] to {played.user}: 1 message in {played.subject}"
    wait_for(lambda: len([line for line in suite.output.all if head in line]) == 2, 10, "both")
    assert not any(played.endpoint in line for line in suite.output.all)
