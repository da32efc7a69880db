"""FCM over HTTP, with a double that checks what it is sent."""

import asyncio
import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from chat import Outcome, Push
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fcm import FcmSender, verdict

PUSH = Push("bob", "hello", "2-7", {"subject": "/chat/1", "seq": "7"})


class FakeGoogle:
    """Gives access tokens for assertions that it can verify, and answers pushes as scripted."""

    def __init__(self, path) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.pushes: list[dict] = []
        self.exchanges = 0
        self.script: list[tuple[int, object]] = []
        google = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = google.answer(self.path, self.headers, body)
                text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        account = {
            "project_id": "chat",
            "client_email": "sender@chat.example",
            "private_key": pem.decode(),
            "token_uri": f"{self.url}/token",
        }
        self.key_file = path / "key.json"
        self.key_file.write_text(json.dumps(account))

    def answer(self, path, headers, body):
        if path == "/token":
            form = urllib.parse.parse_qs(body.decode())
            claims = jwt.decode(
                form["assertion"][0],
                self._key.public_key(),
                ["RS256"],
                audience=f"{self.url}/token",
            )
            assert claims["iss"] == "sender@chat.example"
            assert claims["scope"].endswith("/firebase.messaging")
            self.exchanges += 1
            return 200, {"access_token": f"access-{self.exchanges}", "expires_in": 3600}
        assert path == "/v1/projects/chat/messages:send"
        assert headers["Authorization"] == f"Bearer access-{self.exchanges}"
        self.pushes.append(json.loads(body))
        return self.script.pop(0) if self.script else (200, {"name": "projects/chat/messages/1"})

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def google(tmp_path):
    found = FakeGoogle(tmp_path)
    yield found
    found.stop()


def send(google, count=1) -> list[Outcome]:
    async def main():
        sender = FcmSender(str(google.key_file), google.url)
        return [await sender.send("token-1", PUSH) for _ in range(count)]

    return asyncio.run(main())


def test_a_push_carries_what_is_shown_and_a_tag_that_makes_it_once(google):
    assert send(google, 3) == [Outcome.SENT] * 3
    assert google.exchanges == 1, "the access token is used until it ends"
    assert google.pushes[0] == {
        "message": {
            "token": "token-1",
            "notification": {"title": "bob", "body": "hello"},
            "data": {"subject": "/chat/1", "seq": "7"},
            "android": {"priority": "HIGH", "notification": {"tag": "2-7"}},
            "apns": {"headers": {"apns-collapse-id": "2-7"}},
        }
    }


def test_an_access_token_that_is_refused_is_replaced(google):
    google.script = [(401, {"error": {"status": "UNAUTHENTICATED"}})]
    assert send(google, 2) == [Outcome.LATER, Outcome.SENT]
    assert google.exchanges == 2


def test_a_provider_that_is_away_is_waited_for(google):
    google.stop()
    assert send(google) == [Outcome.LATER]


def details(*found) -> dict:
    return {"error": {"details": list(found)}}


@pytest.mark.parametrize(
    ("status", "answer", "outcome"),
    [
        (200, {}, Outcome.SENT),
        (404, details({"errorCode": "UNREGISTERED"}), Outcome.GONE),
        (400, details({"fieldViolations": [{"field": "message.token"}]}), Outcome.GONE),
        (400, details({"fieldViolations": [{"field": "message.data"}]}), Outcome.DROPPED),
        (400, {}, Outcome.DROPPED),
        (404, {}, Outcome.LATER),
        (401, {}, Outcome.LATER),
        (403, {}, Outcome.LATER),
        (403, details({"errorCode": "SENDER_ID_MISMATCH"}), Outcome.DROPPED),
        (413, {}, Outcome.DROPPED),
        (418, {}, Outcome.DROPPED),
        (408, {}, Outcome.LATER),
        (429, details({"errorCode": "QUOTA_EXCEEDED"}), Outcome.LATER),
        (500, {}, Outcome.LATER),
        (503, {"error": "a text"}, Outcome.LATER),
        (404, {"error": {"details": "a text"}}, Outcome.LATER),
        (404, details({"errorCode": ["UNREGISTERED"]}), Outcome.LATER),
        (404, {"error": {"details": [7, {"fieldViolations": [7]}]}}, Outcome.LATER),
    ],
    ids=str,
)
def test_what_an_answer_means(status, answer, outcome):
    assert verdict(status, answer) is outcome


def test_a_foreign_token_is_dropped_and_the_log_does_not_tell_it(google, caplog):
    google.script = [(403, details({"errorCode": "SENDER_ID_MISMATCH"}))]
    assert send(google) == [Outcome.DROPPED]
    assert "FCM answered 403: dropped" in caplog.text
    assert "token-1" not in caplog.text and "hello" not in caplog.text


def test_an_answer_that_is_no_json_says_nothing(google):
    google.script = [(503, b"<html>"), (404, b"<html>"), (200, b"[]")]
    assert send(google, 3) == [Outcome.LATER, Outcome.LATER, Outcome.SENT]


def test_a_file_that_is_no_key_is_refused_in_words(tmp_path):
    path = tmp_path / "key.json"
    path.write_text('{"project_id": "chat"}')
    with pytest.raises(ValueError, match="client_email"):
        FcmSender(str(path))
