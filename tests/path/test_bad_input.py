"""What a client does wrong is refused with a code, and the connection stays usable."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.path.socket_client import Socket, connecting
from tests.path.stack import Suite

LONG = "/" + "a" * 255
REFUSED_FRAMES: list[tuple[str, dict[str, Any] | str | bytes, str]] = [
    ("not JSON", "{", "FRAME_MALFORMED"),
    ("no object", "[]", "FRAME_MALFORMED"),
    ("an unknown field", {"id": "1", "publish": {"subjekt": "/a"}}, "FRAME_MALFORMED"),
    ("a wrong type", {"id": "1", "publish": {"subject": 7}}, "FRAME_MALFORMED"),
    ("two kinds", {"id": "1", "logout": {}, "refresh": {"token": "x"}}, "FRAME_MALFORMED"),
    ("a number out of range", {"id": "1", "ack": {"positions": [{"subject": "/a", "seq": "-1"}]}},
     "FRAME_MALFORMED"),
    ("binary", b'{"id":"1"}', "FRAME_MALFORMED"),
    ("no kind", {"id": "1"}, "FRAME_UNKNOWN"),
    ("an unknown kind", {"id": "1", "dance": {}}, "FRAME_UNKNOWN"),
    ("a second connect", {"id": "1", "connect": {"clientId": "x"}}, "ALREADY_CONNECTED"),
    ("a subject without slash", {"id": "1", "publish": {"subject": "a"}}, "SUBJECT_INVALID"),
    ("a subject too long", {"id": "1", "publish": {"subject": LONG}}, "SUBJECT_INVALID"),
    ("a bad subscription", {"id": "1", "subscribe": {"subscriptions": [{"subject": "/a/"}]}},
     "SUBJECT_INVALID"),
    ("large content", {"id": "1", "publish": {"subject": "/a", "text": "x" * 65_537}},
     "CONTENT_TOO_LARGE"),
    ("large headers", {"id": "1", "publish": {"subject": "/a", "headers": {"h": "x" * 4_097}}},
     "HEADERS_TOO_LARGE"),
    ("a bad publication id", {"id": "1", "publish": {"subject": "/a", "publicationId": "x" * 129}},
     "PUBLICATION_ID_INVALID"),
    ("transient and retained",
     {"id": "1", "publish": {"subject": "/a", "transient": True, "retain": True}},
     "ARGUMENT_INVALID"),
    ("a token of no channel", {"id": "1", "setExternalToken": {"uri": "sms:+15551234567"}},
     "EXTERNAL_TOKEN_INVALID"),
    ("CR and LF in an address", {"id": "1", "setExternalToken": {"uri": "mailto:a@b.c\r\nBcc: x"}},
     "EXTERNAL_TOKEN_INVALID"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("frame", "code"), [case[1:] for case in REFUSED_FRAMES], ids=[c[0] for c in REFUSED_FRAMES]
)
def test_a_bad_frame_gets_its_code_and_the_connection_stays(
    suite: Suite, frame: dict[str, Any] | str | bytes, code: str
) -> None:
    with Socket(suite, "eve") as client:
        assert "connected" in client.ask(connect=connecting("eve-1"))
        client.send(frame)
        assert client.receive()["error"]["code"] == code
        assert "published" in client.ask(publish={"subject": "/bad/after", "text": "still here"})


def test_a_frame_before_connect_is_refused(suite: Suite) -> None:
    with Socket(suite, "eve") as client:
        answer = client.ask(publish={"subject": "/bad/early", "text": "x"})
        assert answer["error"]["code"] == "CONNECT_REQUIRED"
        assert "connected" in client.ask(connect=connecting("eve-2"))


def test_an_unknown_generation_is_refused_with_the_current_one(suite: Suite) -> None:
    with Socket(suite, "eve") as client:
        generation = client.ask(connect=connecting("eve-3"))["connected"]["generation"]
    with Socket(suite, "eve") as client:
        answer = client.ask(connect=connecting("eve-3", lastGeneration="77"))
        assert answer["error"]["code"] == "STALE_SESSION"
        assert answer["error"]["generation"] == generation
        answer = client.ask(connect=connecting("eve-3", lastGeneration=generation))
        assert int(answer["connected"]["generation"]) > int(generation)


def test_a_publication_id_with_other_content_is_refused(suite: Suite) -> None:
    with Socket(suite, "eve") as client:
        client.ask(connect=connecting("eve-4"))
        message = {"subject": "/bad/reuse", "publicationId": "p-1"}
        first = client.ask(publish=message | {"text": "a"})["published"]
        again = client.ask(publish=message | {"text": "a"})["published"]
        assert again == first | {"duplicate": True}
        other = client.ask(publish=message | {"text": "b"})["error"]
        assert other["code"] == "PUBLICATION_ID_REUSED"


def test_a_newer_session_of_a_client_replaces_the_older(suite: Suite) -> None:
    with Socket(suite, "eve") as older, Socket(suite, "eve") as newer:
        older.ask(connect=connecting("eve-5"))
        newer.ask(connect=connecting("eve-5"))
        with pytest.raises(Exception, match="4502"):
            older.receive()


@pytest.mark.parametrize(
    ("body", "code", "status"),
    [
        (b"{", "FRAME_MALFORMED", 400),
        (b'{"subject": "nope", "text": "x"}', "SUBJECT_INVALID", 400),
        (b'{"subject": "/a", "text": "x", "no": 1}', "FRAME_MALFORMED", 400),
    ],
)
def test_http_answers_a_refusal_with_its_code(
    suite: Suite, body: bytes, code: str, status: int
) -> None:

    request = urllib.request.Request(f"{suite.url}/v1/publish?user=eve", body)
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request, timeout=10)
    assert raised.value.code == status
    assert json.load(raised.value)["code"] == code
