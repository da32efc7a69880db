"""A push service as browsers have one: takes messages by RFC 8030, and decrypts them by RFC 8291.

It draws subscriptions, holding the keys that a browser would hold, and checks of each message what
a push service checks and what only the browser could: the VAPID claim, TTL, Topic, Urgency, size,
and that it can be read. What is wrong fails the test that uses it. `answer` scripts answers.
"""

import json
import re
import struct
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.notifier.provider import Got, Provider, Reply

BODY_BYTES_MAX = 4096
PATH = "/wpush/v2/"


@dataclass(frozen=True)
class Push:
    """One message, as the browser gets it."""

    token: str
    payload: dict[str, Any]
    ttl: int
    topic: str
    urgency: str


@dataclass(frozen=True)
class Browser:
    """What a browser keeps of a subscription."""

    key: ec.EllipticCurvePrivateKey
    secret: bytes

    @property
    def public(self) -> bytes:
        return _point(self.key.public_key())


class PushServer(Provider):
    """The push service. `sender` is the public key it knows of the sender, if it knows one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sender = ""
        self.received: list[Push] = []
        self.browsers: dict[str, Browser] = {}
        self.gone: set[str] = set()

    def subscribe(self, token: str = "browser-1", url: str = "") -> str:
        """A new subscription, as an external token."""
        browser = Browser(ec.generate_private_key(ec.SECP256R1()), token.encode().ljust(16)[:16])
        self.browsers[token] = browser
        return external_token(
            {
                "endpoint": f"{url or self.url}{PATH}{token}",
                "expirationTime": None,
                "keys": {"p256dh": encoded(browser.public), "auth": encoded(browser.secret)},
            }
        )

    def unsubscribe(self, token: str) -> None:
        """From now on it is gone."""
        self.gone.add(token)

    def respond(self, got: Got) -> Reply:
        token = got.path.removeprefix(PATH)
        if token in self.gone:
            return Reply(410)
        if token not in self.browsers:
            return Reply(404)
        faults = list(self.faults_of(got))
        if faults:
            self.faults += faults
            return Reply(400, json.dumps(faults).encode())
        plain = decrypted(got.body, self.browsers[token])
        self.received.append(
            Push(
                token,
                json.loads(plain),
                int(got.headers["ttl"]),
                got.headers.get("topic", ""),
                got.headers.get("urgency", ""),
            )
        )
        return Reply(201, headers={"location": f"{self.url}/m/{len(self.received)}"})

    def faults_of(self, got: Got) -> list[str]:
        """What is wrong with a message, as far as a push service sees."""
        said = got.headers
        faults = []
        if got.method != "POST":
            faults.append("not POST")
        if not re.fullmatch(r"[1-9]\d*", said.get("ttl", "")):
            faults.append("TTL is no number above 0")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", said.get("topic", "x")):
            faults.append("Topic is not 1 to 32 characters of base64url")
        if said.get("urgency", "normal") not in ("very-low", "low", "normal", "high"):
            faults.append("Urgency")
        if said.get("content-encoding") != "aes128gcm":
            faults.append("Content-Encoding")
        if not 0 < len(got.body) <= BODY_BYTES_MAX:
            faults.append("the body is empty or too large")
        return faults + self._faults_of_claim(said.get("authorization", ""))

    def _faults_of_claim(self, authorization: str) -> list[str]:
        found = re.fullmatch(r"vapid t=([\w.-]+), ?k=([\w-]+)", authorization)
        if not found:
            return ["Authorization is not VAPID's"]
        if self.sender and found[2] != self.sender:
            return ["VAPID: another sender's key"]
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decoded(found[2]))
        try:
            claims = jwt.decode(found[1], key, ["ES256"], audience=self.url)
        except jwt.InvalidTokenError as error:
            return [f"VAPID: {error}"]
        faults = []
        if not claims["exp"] <= time.time() + 86_400:
            faults.append("VAPID: exp is more than a day ahead")
        if not claims.get("sub", "").startswith(("mailto:", "https://")):
            faults.append("VAPID: sub")
        return faults


def external_token(subscription: object) -> str:
    """A subscription as an endpoint's URI."""
    return "webpush:" + encoded(json.dumps(subscription).encode())


def encoded(data: bytes) -> str:
    """base64url without padding."""
    return urlsafe_b64encode(data).decode().rstrip("=")


def decoded(text: str) -> bytes:
    """And back."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def decrypted(body: bytes, browser: Browser) -> bytes:
    """What a browser reads: RFC 8188 with the keys of RFC 8291, section 3.4. One record."""
    salt, size, length = body[:16], *struct.unpack("!LB", body[16:21])
    sender, cipher = body[21 : 21 + length], body[21 + length :]
    assert len(cipher) <= size, "one record"
    shared = browser.key.exchange(
        ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender)
    )
    info = b"WebPush: info\0" + browser.public + sender
    secret = _hkdf(browser.secret, shared, info, 32)
    key = _hkdf(salt, secret, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _hkdf(salt, secret, b"Content-Encoding: nonce\0", 12)
    plain, mark, padding = AESGCM(key).decrypt(nonce, cipher, None).rpartition(b"\x02")
    assert mark and not padding.strip(b"\0"), "the last record ends with 2"
    return plain


def _hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(secret)


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
