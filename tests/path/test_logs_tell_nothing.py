"""Whatever users send, and however badly, the logs of all services at debug level hold none of it.

Everything here carries a word of its own, or a shape, that `tests/log_scan.py` looks for; the same
look is taken at the logs of the whole run when it ends.
"""

import base64
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.log_scan import CANARY, leaks_in, logs_below
from tests.path.mailbox import Mailbox
from tests.path.socket_client import Socket, connecting
from tests.path.stack import QUICK, Suite, ended
from tests.path.test_every_refusal import KEY, token
from tests.waiting import wait_for

ADDRESS = f"mailto:{CANARY}@example.org"


@pytest.fixture
def suite(tmp_path: Any) -> Iterator[Suite]:
    """`onward up` at debug level, with e-mail that is refused in words of its own."""
    with Mailbox() as mailbox:
        settings = QUICK | mailbox.settings | {"ONWARD_LOG_LEVEL": "debug"}
        up = Suite(tmp_path, settings | {"ONWARD_EDGE_JWT_HS256_SECRET": KEY})
        with ended(up):
            up.wait_ready()
            yield up


def tries_all_ways_to_leak(suite: Suite) -> None:
    """Good and bad requests, each with the word in every place that takes one."""
    client = Socket(suite, "eve")
    fields = {
        "text": CANARY,
        "contentType": f"text/{CANARY}",
        "publicationId": CANARY,
        "headers": {"title": CANARY, CANARY: "x"},
    }
    tokens = [{"uri": ADDRESS}]
    connect = connecting("eve-1", {"subject": "/logs"}, externalTokens=tokens, info={"a": CANARY})
    assert "connected" in client.ask(connect=connect)
    assert "published" in client.ask(publish={"subject": "/logs", **fields})
    data = base64.b64encode(CANARY.encode()).decode()
    client.ask(publish={"subject": "/logs", "data": data, "transient": True})
    client.ask(publish={"subject": "/logs", **fields, "text": f"other {CANARY}"})
    client.ask(publish={"subject": f"/{CANARY}//", **fields})
    client.ask(setExternalToken={"uri": f"fcm:{CANARY}", "replaces": f"fcm:old-{CANARY}"})
    client.ask(setExternalToken={"uri": f"pigeon:{CANARY}"})
    client.ask(refresh={"token": token("somebody else")})
    client.ask(refresh={"token": f"eyJ{CANARY}.{CANARY}.x"})
    for text in (f'{{"{CANARY}', f'{{"{CANARY}": 1}}', f'{{"publish": {{"subject": "{CANARY}"}}'):
        client.send(text)
        client.receive()
    client.send(CANARY.encode())
    client.connection.close()
    for path, body, bearer in (
        (f"/v1/publish?user=eve&x={CANARY}", f'{{"text": "{CANARY}"', ""),
        (f"/v1/{CANARY}", None, token("eve")),
        (f"/v1/history?subject={CANARY}&after={CANARY}", None, f"eyJ{CANARY}"),
        (f"/v1/explain?user={CANARY}&subject=/logs&seq={CANARY}", None, ""),
    ):
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        request = urllib.request.Request(suite.url + path, body and body.encode(), headers)
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(request, timeout=20)
    with Socket(suite, "eve") as broken:
        broken.connection.socket.sendall(f"\x81\x05{CANARY}".encode())


def notified(suite: Suite) -> bool:
    """Whether the mail has gone out; while the coordinator is away nobody can tell."""
    try:
        story = suite.get("/v1/explain?user=eve&subject=/logs")
    except urllib.error.HTTPError:
        return False
    return any(outcome["state"] == "NOTIFIED" for outcome in story["outcomes"])


def test_no_log_holds_what_users_sent(suite: Suite) -> None:
    tries_all_ways_to_leak(suite)
    # A notification goes out, and what holds content is killed with it under way.
    suite.publish("/logs", f"for Eve, who is away: {CANARY}", headers={"title": CANARY})
    os.kill(suite.child("coordinator"), signal.SIGKILL)
    wait_for(lambda: notified(suite), 30, "the mail")
    assert suite.end() == 0
    logs = logs_below(suite.data_dir / "logs")
    assert {path.stem for path in logs} >= {"edge", "coordinator", "presence", "notifier", "etcd"}
    assert "level=debug" in (suite.data_dir / "logs/edge.log").read_text(), "at debug level"
    assert not [str(leak) for path in logs for leak in leaks_in(path)]
