"""Follows that are ended from elsewhere, with clients at two edges: online, away, coming back."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.path.socket_client import Socket, connecting
from tests.path.stack import QUICK, Suite, ended, kill
from tests.path.test_users import ask
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """`onward up` with two edges."""
    up = Suite(tmp_path_factory.mktemp("data"), QUICK, options=("--edges", "2"))
    with ended(up):
        up.wait_ready()
        yield up


def returning(client_id: str) -> dict[str, Any]:
    """The body of a `connect` frame that gives no list."""
    return {"clientId": client_id, "acknowledges": "EXPLICIT"}


def subscribed(connected: dict[str, Any]) -> list[str]:
    return [one["subject"] for one in connected["connected"]["subscriptions"]]


def away(suite: Suite, user: str, client_id: str, *subjects: str) -> None:
    """A client connects, follows, and goes."""
    with Socket(suite, user) as phone:
        wanted = ({"subject": subject} for subject in subjects)
        assert subscribed(phone.ask(connect=connecting(client_id, *wanted))) == [*subjects]


def come_back(suite: Suite, user: str, client_id: str, edge: int = 0) -> list[str]:
    """What a client that gives no list is subscribed to."""
    with Socket(suite, user, edge) as back:
        return subscribed(back.ask(connect=returning(client_id)))


def refused(socket: Socket) -> str:
    """The subject of the subscription that the next frame says is ended."""
    error = socket.receive()["error"]
    assert error["code"] == "SUBJECT_FORBIDDEN"
    return str(error["subject"])


def test_an_unsubscribe_everywhere_reaches_clients_wherever_they_are(suite: Suite) -> None:
    left, kept = "/ends/left", "/ends/kept"
    away(suite, "ann", "phone", left, kept)
    with Socket(suite, "ann", edge=1) as tab, Socket(suite, "ann", edge=1) as looks:
        tab.ask(connect=connecting("tab", {"subject": left}, {"subject": kept}))
        watching = connecting("looks", {"subject": left}) | {"acknowledges": "NONE"}
        looks.ask(connect=watching)
        body = {"users": ["ann"], "subjects": [left], "everywhere": True}
        assert ask(suite, "DELETE", "/v1/follows", body) == {"removed": 2}
        assert refused(tab) == refused(looks) == left
        suite.publish(left, "not for her")
        suite.publish(kept, "for her")
        message = tab.receive()["message"]
        assert (message["subject"], message["text"]) == (kept, "for her")
        assert ask(suite, "DELETE", "/v1/follows", body) == {"removed": 0}
        # Whoever asks for it again has it again.
        assert "subscribed" in tab.ask(subscribe={"subscriptions": [{"subject": left}]})
        suite.publish(left, "for her again")
        assert tab.receive()["message"]["text"] == "for her again"
    for edge in (0, 1):
        assert come_back(suite, "ann", "phone", edge) == [kept]
    assert sorted(come_back(suite, "ann", "tab")) == [kept, left]
    with Socket(suite, "ann") as phone:
        listed = connecting("phone", {"subject": left})
        assert subscribed(phone.ask(connect=listed)) == [left]


def test_a_revocation_holds_when_another_owns_the_log(suite: Suite) -> None:
    away(suite, "bob", "phone", "/ends/secret")
    with Socket(suite, "bob", edge=1) as tab:
        tab.ask(connect=connecting("tab", {"subject": "/ends/secret"}))
        assert ask(suite, "POST", "/v1/users/bob/revoke", {}) == {"ended": 2}
        assert refused(tab) == "/ends/secret"
        suite.publish("/ends/secret", "not for him")
        former = suite.child("coordinator")
        kill(former, signal.SIGKILL)
        wait_for(lambda: restarted(suite, former), 20, "another coordinator")
        assert ask(suite, "POST", "/v1/users/bob/revoke", {}) == {"ended": 0}
        with pytest.raises(TimeoutError):
            tab.receive(0.5)
    assert come_back(suite, "bob", "phone", edge=1) == come_back(suite, "bob", "tab") == []


def restarted(suite: Suite, former: int) -> bool:
    try:
        return suite.child("coordinator") != former
    except AssertionError:
        return False


def test_an_erased_user_is_logged_out_and_known_no_more(suite: Suite) -> None:
    away(suite, "eve", "phone", "/ends/erased")
    with Socket(suite, "eve", edge=1) as tab:
        tab.ask(connect=connecting("tab", {"subject": "/ends/erased"}))
        suite.command("erase", "eve", "--yes")
        with pytest.raises(ConnectionClosed) as closed:
            tab.receive()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 4503
    assert suite.get("/v1/users/eve/follows") == {"follows": [], "nextAfterSubject": ""}
    (there,) = suite.command("presence", "--user", "eve")
    assert not there.get("clients"), "nothing that its session said later made it known again"
    assert come_back(suite, "eve", "phone") == []
