"""A fake of Apple's push service, by its published contract: HTTP/2 over TLS, ES256 tokens.

It checks what Apple checks before it looks at a device token: the provider token, the headers, the
size. What it says of a device token, tests tell it. It proves that we keep the contract, not how
Apple behaves.
"""

import json
import re
import time
import uuid
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.notifier.apns import Access
from tests.notifier.http_double import Answer, HttpDouble, Request

KEY_ID, TEAM_ID, TOPIC = "ABC123DEFG", "TEAM123456", "org.example.chat"
PATH = re.compile("/3/device/([0-9a-f]{16,})")


class FakeApns(HttpDouble):
    """Accepts what is right; `gone` maps device tokens to the time (ms) they went."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, alpn=("h2",))
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.gone: dict[str, int] = {}
        self.expired: set[str] = set()  # provider tokens that are refused as expired

    @property
    def key(self) -> str:
        """The .p8 file's text."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    @property
    def access(self) -> Access:
        return Access(self.key, KEY_ID, TEAM_ID, TOPIC, self.url)

    def refuse(self, status: int, reason: str, **more: Any) -> None:
        """Say this next, as Apple says it."""
        self.answer(refusal(status, reason, **more))

    def respond(self, request: Request) -> Answer:
        assert request.http_version == "2", "Apple speaks nothing else"
        fault = self._fault(request)
        if fault:
            return fault
        match = PATH.fullmatch(request.path)
        if match is None:
            return refusal(400, "BadDeviceToken")
        if match[1] in self.gone:
            return refusal(410, "Unregistered", timestamp=self.gone[match[1]])
        name = request.headers.get("apns-id") or str(uuid.uuid4())
        return Answer(200, headers={"apns-id": name})

    def _fault(self, request: Request) -> Answer | None:
        headers = request.headers
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme != "bearer":
            return refusal(403, "MissingProviderToken")
        try:
            head = jwt.get_unverified_header(token)
            claims = jwt.decode(
                token, self._key.public_key(), ["ES256"], options={"verify_iat": False}
            )
        except jwt.InvalidTokenError:
            return refusal(403, "InvalidProviderToken")
        if (head.get("kid"), claims.get("iss")) != (KEY_ID, TEAM_ID):
            return refusal(403, "InvalidProviderToken")
        if token in self.expired or not -60 < time.time() - claims["iat"] < 3600:
            return refusal(403, "ExpiredProviderToken")
        if headers.get("apns-topic") != TOPIC:
            return refusal(400, "MissingTopic" if "apns-topic" not in headers else "BadTopic")
        return _shape_fault(request)


def _shape_fault(request: Request) -> Answer | None:
    headers = request.headers
    if request.method != "POST":
        return refusal(405, "MethodNotAllowed")
    if len(request.body) > 4096:
        return refusal(413, "PayloadTooLarge")
    if not request.body:
        return refusal(400, "PayloadEmpty")
    if len(headers.get("apns-collapse-id", "").encode()) > 64:
        return refusal(400, "BadCollapseId")
    if headers.get("apns-priority", "10") not in ("1", "5", "10"):
        return refusal(400, "BadPriority")
    if not headers.get("apns-expiration", "0").isdigit():
        return refusal(400, "BadExpirationDate")
    if headers.get("apns-push-type") != "alert":
        return refusal(400, "InvalidPushType")
    try:
        uuid.UUID(headers.get("apns-id", str(uuid.uuid4())))
    except ValueError:
        return refusal(400, "BadMessageId")
    return None


def refusal(status: int, reason: str, **more: Any) -> Answer:
    return Answer(status, json.dumps({"reason": reason, **more}).encode())
