"""A fake FCM: takes service accounts' assertions, gives tokens, and checks each message.

A message is held against Google's published discovery document, and against what that does not
say: the size of the payload, that the collapse key is one of Apple's. What is wrong fails the
test that uses it. `answer` scripts what `messages:send` answers; `token_answer` the same for the
exchange of tokens.
"""

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.notifier.discovery import Schema
from tests.notifier.provider import Got, Provider, Reply

PROJECT = "onward-test"
EMAIL = "sender@onward-test.iam.gserviceaccount.example"
KEY_ID = "key-1"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
).decode()


class FakeFcm(Provider):
    """FCM and the token service, on one port."""

    def __init__(self) -> None:
        super().__init__()
        self.schema = Schema.of("fcm")
        self.exchanges = 0
        self.token_lasts_s = 3600.0
        self.good_token = ""
        self._token_script: list[Reply] = []

    def credentials(self, folder: Path) -> Path:
        """A key file that leads here."""
        path = folder / "service-account.json"
        path.write_text(json.dumps(self.account()))
        return path

    def account(self) -> dict[str, Any]:
        """What stands in it."""
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": KEY_ID,
            "private_key": PEM,
            "client_email": EMAIL,
            "token_uri": f"{self.url}/token",
        }

    def token_answer(self, status: int, body: bytes = b"{}") -> None:
        """The next exchange gets this."""
        self._token_script.append(Reply(status, body))

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of all requests."""
        return [json.loads(got.body)["message"] for got in self.requests]

    def is_counted(self, got: Got) -> bool:
        return got.path != "/token"

    def respond(self, got: Got) -> Reply:
        if got.path == "/token":
            return self._exchange(got)
        if got.headers.get("authorization") != f"Bearer {self.good_token}":
            return error(401, "UNAUTHENTICATED")
        if got.path != f"/v1/projects/{PROJECT}/messages:send" or got.method != "POST":
            self.faults.append(f"no such method: {got.method} {got.path}")
            return Reply(404, b"<html>Not Found</html>", {"content-type": "text/html"})
        faults = self._faults(got)
        if faults:
            self.faults += faults
            return error(400, "INVALID_ARGUMENT")
        name = f"projects/{PROJECT}/messages/{len(self.requests)}"
        return Reply(200, json.dumps({"name": name}).encode())

    def _faults(self, got: Got) -> list[str]:
        if not got.headers.get("content-type", "").startswith("application/json"):
            return ["not JSON"]
        said = json.loads(got.body)
        faults = self.schema.faults(said, "SendMessageRequest")
        if faults:
            return faults
        message = said["message"]
        if sum(key in message for key in ("token", "topic", "condition", "fid")) != 1:
            faults.append("a message has one target")
        shown = {"notification": message.get("notification"), "data": message.get("data")}
        if len(json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode()) > 4096:
            faults.append("the payload is too large")
        if any(k == "from" or k.startswith(("google", "gcm")) for k in message.get("data", {})):
            faults.append("a key of data is reserved")
        headers = message.get("apns", {}).get("headers", {})
        if len(headers.get("apns-collapse-id", "").encode()) > 64:
            faults.append("apns-collapse-id has more than 64 bytes")
        if headers.get("apns-priority") not in ("5", "10", None):
            faults.append("apns-priority is neither 5 nor 10")
        return faults

    def _exchange(self, got: Got) -> Reply:
        self.exchanges += 1
        form = parse_qs(got.body.decode())
        if form.get("grant_type") != ["urn:ietf:params:oauth:grant-type:jwt-bearer"]:
            self.faults.append("grant_type")
        assertion = form["assertion"][0]
        audience = f"{self.url}/token"
        claims = jwt.decode(assertion, KEY.public_key(), ["RS256"], audience=audience)
        if claims["exp"] - claims["iat"] > 3600 or abs(claims["iat"] - time.time()) > 60:
            self.faults.append("an assertion is for an hour from now at most")
        if claims["iss"] != EMAIL or "firebase.messaging" not in claims["scope"]:
            self.faults.append("iss or scope")
        if jwt.get_unverified_header(assertion).get("kid") != KEY_ID:
            self.faults.append("kid")
        if self._token_script:
            return self._token_script.pop(0)
        self.good_token = f"ya29.{self.exchanges}"
        said = {
            "access_token": self.good_token,
            "expires_in": self.token_lasts_s,
            "token_type": "Bearer",
        }
        return Reply(200, json.dumps(said).encode())


def error(status: int, name: str, *details: dict[str, Any]) -> Reply:
    """An error as Google writes it."""
    said = {"error": {"code": status, "message": "…", "status": name, "details": list(details)}}
    return Reply(status, json.dumps(said).encode(), {"content-type": "application/json"})


def fcm_error(code: str) -> dict[str, Any]:
    """FCM's own detail of an error."""
    return {
        "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError",
        "errorCode": code,
    }


def violation(field: str) -> dict[str, Any]:
    """The detail that names a field."""
    return {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": field, "description": "…"}],
    }
