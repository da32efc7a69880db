"""Sends to Apple devices: APNs over HTTP/2, with a provider token.

The endpoint is `apns:` and the device token in hex. One delivery is one request; nothing is
repeated here, except that a request refused for an expired provider token is sent once more with
a new one. Apple keeps one notification of an app for a device that is offline, so each one is a
summary that stands for all it covers. `render` is pure; what answers mean is in `apns_verdicts`.
"""

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import httpx
import jwt

from services.notifier import results
from services.notifier.apns_verdicts import reason_of, verdict
from services.notifier.harness import Channel, Delivery, Result
from services.notifier.http_call import Answer, Broken, NotConnected, Timeouts, no_cookies, post
from services.notifier.wording import TEXT_BYTES_MIN, as_json, cut_json, links, words

APPLE = "https://api.push.apple.com"
PAYLOAD_BYTES_MAX = 4_096
COLLAPSE_BYTES_MAX = 64
# Apple takes a provider token for 60 minutes, and new ones every 20 at most.
TOKEN_REUSED_S = 40 * 60
TOKEN_AGE_LEAST_S = 20 * 60

# Apple says not to rely on a length. What is no hex would end up in the path of a request.
_DEVICE_TOKEN = re.compile(r"(?:[0-9A-Fa-f]{2}){8,128}")
_ID = re.compile(r"([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})")


@dataclass(frozen=True, slots=True)
class Access:
    """Who we are to Apple, and which of its servers is asked."""

    key: str = field(repr=False)  # the .p8 file's text: an EC key, PEM
    key_id: str
    team_id: str
    topic: str  # the app's bundle id
    url: str = APPLE


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of the APNs client."""

    concurrency: int = 100  # requests under way, streams of few connections
    connections: int = 2
    timeouts: Timeouts = field(default_factory=Timeouts)
    # Apple asks to stay connected. But a connection that the other side, or a firewall, gave up
    # while nothing was sent shows it only when a request is lost; and most of them wait longer.
    idle_s: float = 60.0
    back_off_s: float = 60.0  # after 429 and 5xx, where Apple names no time


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent for one delivery, but for the provider token."""

    path: str
    headers: dict[str, str]
    body: bytes


class Apns:
    """The channel `apns`."""

    name = "apns"
    channels = (Channel(scheme="apns", repeats_unknown=True),)

    def __init__(
        self,
        access: Access,
        limits: Limits | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._access = access
        self._now = now
        self._token = ProviderToken(access, now)
        # Something was accepted: the environment and the topic are right.
        self._proven = False
        self.concurrency = self._limits.concurrency
        self._client = httpx.AsyncClient(
            base_url=access.url,
            http1=False,
            http2=True,
            verify=tls or ssl.create_default_context(),
            cookies=no_cookies(),
            limits=httpx.Limits(
                max_connections=self._limits.connections, keepalive_expiry=self._limits.idle_s
            ),
        )

    async def send(self, delivery: Delivery) -> Result:
        """Hand one notification to Apple."""
        request = render(delivery, self._access.topic)
        if isinstance(request, Result):
            return request
        token = self._token.current()
        try:
            answer = await self._post(request, token)
            if reason_of(answer.body) == "ExpiredProviderToken":
                fresh = self._token.renewed(token)
                if fresh != token:
                    answer = await self._post(request, fresh)
        except NotConnected as error:
            if error.untrusted:
                return results.misconfigured("TLS failed, or its certificate")
            raise
        except Broken as error:
            return results.unknown(f"no answer after the request was sent ({error})")
        result = verdict(
            answer.status,
            answer.headers,
            answer.body,
            self._now(),
            proven=self._proven,
            back_off_s=self._limits.back_off_s,
        )
        self._proven |= result.outcome == Result.ACCEPTED
        return result

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _post(self, request: Request, token: str) -> Answer:
        headers = {**request.headers, "authorization": f"bearer {token}"}
        return await post(
            self.name, self._client, request.path, request.body, headers, self._limits.timeouts
        )


class ProviderToken:
    """The JWT that says who we are, signed anew when it must be and not more often."""

    def __init__(self, access: Access, now: Callable[[], datetime]) -> None:
        self._access = access
        self._now = now
        self._token = ""
        self._signed_at = 0.0
        self._refused_at = -float(TOKEN_AGE_LEAST_S)

    def current(self) -> str:
        """The token in use."""
        now_s = self._now().timestamp()
        if not self._token or not 0 <= now_s - self._signed_at < TOKEN_REUSED_S:
            self._sign(now_s)
        return self._token

    def renewed(self, refused: str) -> str:
        """The token to use after Apple called `refused` expired. The same one if it was renewed
        for that reason a short while ago: then the clock is wrong, and signing does not help."""
        now_s = self._now().timestamp()
        if refused == self._token and abs(now_s - self._refused_at) >= TOKEN_AGE_LEAST_S:
            self._refused_at = now_s
            self._sign(now_s)
        return self._token

    def _sign(self, now_s: float) -> None:
        claims = {"iss": self._access.team_id, "iat": int(now_s)}
        headers = {"kid": self._access.key_id}
        self._token = jwt.encode(claims, self._access.key, algorithm="ES256", headers=headers)
        self._signed_at = now_s


def render(delivery: Delivery, topic: str) -> Request | Result:
    """The request for `delivery`, or why there is none."""
    device_token = delivery.endpoint.partition(":")[2]
    if not _DEVICE_TOKEN.fullmatch(device_token):
        return results.rejected_message("the endpoint is no device token")
    body = _payload(delivery)
    if body is None:
        return results.rejected_message(f"more than {PAYLOAD_BYTES_MAX} bytes without any text")
    low = delivery.priority == Delivery.LOW
    headers = {
        "apns-id": _apns_id(delivery.delivery_id),
        "apns-topic": topic,
        "apns-push-type": "alert",
        "apns-priority": "5" if low else "10",
    }
    if delivery.collapse_key:
        headers["apns-collapse-id"] = _collapse_id(delivery.collapse_key)
    if delivery.HasField("expires_at"):
        # 0 would mean: not kept at all for a device that is offline.
        headers["apns-expiration"] = str(max(1, delivery.expires_at.seconds))
    return Request(f"/3/device/{device_token.lower()}", headers, body)


def _payload(delivery: Delivery) -> bytes | None:
    """The JSON in at most PAYLOAD_BYTES_MAX bytes: the text is cut, then links are left out."""
    shown = words(delivery)
    wanted = min(len(as_json(shown.body)), TEXT_BYTES_MIN)
    for opened in links(delivery):
        room = PAYLOAD_BYTES_MAX - len(as_json(_told(delivery, shown.title, "", opened)))
        if room >= wanted:
            break
    if room < 0:
        return None
    return as_json(_told(delivery, shown.title, cut_json(shown.body, room), opened))


def _told(delivery: Delivery, title: str, body: str, opened: dict[str, str]) -> dict[str, Any]:
    low = delivery.priority == Delivery.LOW
    aps: dict[str, Any] = {
        "alert": {"title": title, "body": body},
        "thread-id": delivery.subject,
        "interruption-level": "passive" if low else "active",
    }
    if not low:
        aps["sound"] = "default"
    if delivery.category:
        aps["category"] = delivery.category
    onward: dict[str, Any] = {
        "subject": delivery.subject,
        "first_seq": delivery.first_seq,
        "last_seq": delivery.last_seq,
        "count": delivery.count,
        "notification_id": delivery.notification_id,
        "delivery_id": delivery.delivery_id,
        **opened,
    }
    if delivery.test:
        onward["test"] = True
    return {"aps": aps, "onward": onward}


def _apns_id(delivery_id: str) -> str:
    """The id as a UUID, the same on every try; what is none is hashed."""
    match = _ID.fullmatch(delivery_id)
    if match is None:
        match = _ID.fullmatch(blake2b(delivery_id.encode(), digest_size=16).hexdigest())
        assert match, "sixteen bytes are 32 hex digits"
    return "-".join(match.groups())


def _collapse_id(key: str) -> str:
    """The key as a header can carry it; a long one, or one with other characters, is hashed."""
    if (
        len(key) <= COLLAPSE_BYTES_MAX
        and key.isascii()
        and key.isprintable()
        and key == key.strip()
    ):
        return key
    return blake2b(key.encode(), digest_size=16).hexdigest()
