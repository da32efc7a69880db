"""Posts notifications to URLs that users registered, signed after Standard Webhooks 1.0.0.

The endpoint is the `https:` URL itself. The body is JSON, `{"type", "timestamp", "data"}`; `data`
is the Delivery of `notifier.proto` without its endpoint, as protobuf writes JSON, and without the
messages where a template says what is to be told of them. `webhook-id` is the delivery's id, the
same on every try, so that a receiver can drop a repeat. A receiver is never followed anywhere else,
what its answer says is not looked at, and it has a public address unless private ones are allowed.
`render`, `signatures` and `verdict` are pure.
"""

import base64
import binascii
import hmac
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256

import httpx
from google.protobuf.json_format import MessageToDict

from services.notifier import results
from services.notifier.harness import Channel, Delivery, Result
from services.notifier.http_call import Broken, NotConnected, Timeouts, no_cookies, post
from services.notifier.public_address import Forbidden, PublicTransport
from services.notifier.results import Outcome
from services.notifier.retry_after import retry_after_s
from services.notifier.webpush_endpoint import is_listed
from services.notifier.wording import as_json, cut, words

PAYLOAD_BYTES_MAX = 20_000
SECRET_PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)  # as the specification says

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of the webhook client."""

    concurrency: int = 32  # requests under way
    per_host: int = 8  # of them to one host; a slow one holds no more, and its others wait
    timeouts: Timeouts = field(default_factory=Timeouts)


class Webhook:
    """The channel `https`."""

    name = "webhook"
    # A receiver that answers 2xx has it: that is the receipt.
    channels = (Channel(scheme="https", repeats_unknown=True, receipts=True),)

    def __init__(
        self,
        secrets: Sequence[bytes],
        allow_private: bool = False,
        limits: Limits | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        tls: ssl.SSLContext | None = None,
        believed: Sequence[str] = (),
    ) -> None:
        """`secrets`: the newest first; while a secret is being replaced, both sign. `believed`:
        hosts, `*.…` for those below one and `*` for all, whose refusals are taken for ours."""
        self._secrets = tuple(secrets)
        self._believed = tuple(believed)
        self._limits = limits or Limits()
        self._now = now
        self.concurrency = self._limits.concurrency
        self.lane_concurrency = min(self._limits.per_host, self._limits.concurrency)
        self._client = httpx.AsyncClient(
            transport=PublicTransport(
                allow_private, verify=tls, connections_max=self._limits.concurrency
            ),
            trust_env=False,
            cookies=no_cookies(),
        )

    def lane(self, delivery: Delivery) -> str:
        """The host."""
        url = _url(delivery.endpoint)
        return url.host if url else ""

    async def send(self, delivery: Delivery) -> Result:
        """Post one notification."""
        url = _url(delivery.endpoint)
        if url is None:
            return results.rejected_message("the endpoint is no https URL")
        if not _ID.fullmatch(delivery.delivery_id):
            return results.rejected_message("the delivery's id is none for a header")
        now = self._now()
        body = render(delivery, now)
        if body is None:
            return results.rejected_message(f"more than {PAYLOAD_BYTES_MAX} bytes without messages")
        timestamp = int(now.timestamp())
        headers = {
            "content-type": "application/json",
            "user-agent": "Onward",
            "webhook-id": delivery.delivery_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signatures(self._secrets, delivery.delivery_id, timestamp, body),
        }
        try:
            answer = await post(
                self.name, self._client, str(url), body, headers, self._limits.timeouts
            )
        except Forbidden:
            return results.rejected_message("the endpoint's address is not public")
        except NotConnected as error:
            # One receiver's fault, so the others do not wait for it.
            return results.retry(str(error))
        except Broken as error:
            return results.unknown(f"no answer after the request was sent ({error})")
        result = verdict(answer.status, answer.headers, now)
        if result.outcome == Result.MISCONFIGURED and not is_listed(url.host, self._believed):
            # Anybody's server could hold up all others by saying no.
            return _of_anybody(answer.status, answer.headers, now)
        return result

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def secret_of(text: str) -> bytes:
    """The key in `whsec_` and Base64. Raises ValueError if it is none."""
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(SECRET_PREFIX) or len(key) not in SECRET_BYTES:
        raise ValueError("not whsec_ and 24 to 64 bytes in Base64")
    return key


def signatures(secrets: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each secret, parted by spaces."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = [hmac.new(key, signed, sha256).digest() for key in secrets]
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def render(delivery: Delivery, now: datetime) -> bytes | None:
    """The body in at most PAYLOAD_BYTES_MAX bytes, or None. What does not fit is left out whole, in
    this order: the HTML, the oldest messages, all messages; at last the text is cut."""
    shown = words(delivery)
    data = Delivery()
    data.CopyFrom(delivery)
    data.ClearField("endpoint")
    newest = data.messages[-1].accepted_at.ToDatetime(tzinfo=UTC) if data.messages else now
    if data.templated:
        data.ClearField("messages")
    data.title, data.body = shown.title, shown.body
    encoded = _encode(data, newest)
    while len(encoded) > PAYLOAD_BYTES_MAX:
        if data.html:
            data.html = ""
        elif data.messages:
            del data.messages[0]
        elif data.body:
            excess = len(encoded) - PAYLOAD_BYTES_MAX
            data.body = cut(data.body, max(0, len(data.body.encode()) - max(1, excess // 2)))
        else:
            return None
        encoded = _encode(data, newest)
    return encoded


def _encode(data: Delivery, at: datetime) -> bytes:
    told = {
        "type": "onward.notification",
        "timestamp": at.isoformat().replace("+00:00", "Z"),
        "data": MessageToDict(data),
    }
    return as_json(told)


# What a receiver's status means; the specification's section on status codes says the same.
_BY_STATUS: Mapping[int, "Outcome.ValueType"] = {
    408: Result.RETRY,
    410: Result.ENDPOINT_GONE,
    413: Result.REJECTED_MESSAGE,
    429: Result.RETRY,
}
# What any receiver may say of a body, and will say again. What else it says may be of the moment:
# by a proxy before it that is put up anew, or while it is mended.
_OF_THE_MESSAGE = frozenset({400, 422})
_BY_CLASS: Mapping[int, "Outcome.ValueType"] = {
    2: Result.DELIVERED,
    3: Result.MISCONFIGURED,
    4: Result.MISCONFIGURED,
    5: Result.RETRY,
}


def verdict(status: int, headers: Mapping[str, str], now: datetime) -> Result:
    """What an answer means. Names of `headers` in lower case."""
    outcome = _BY_STATUS.get(status, _BY_CLASS.get(status // 100, Result.UNKNOWN))
    if outcome == Result.RETRY:
        return results.retry(str(status), retry_after_s(headers.get("retry-after"), now))
    return results.build(outcome, str(status))


def _of_anybody(status: int, headers: Mapping[str, str], now: datetime) -> Result:
    """What an answer that blames our set-up means from who is not believed."""
    if status in _OF_THE_MESSAGE:
        return results.rejected_message(str(status))
    return results.retry(str(status), retry_after_s(headers.get("retry-after"), now))


def _url(endpoint: str) -> httpx.URL | None:
    try:
        url = httpx.URL(endpoint)
    except (httpx.InvalidURL, ValueError):
        return None
    plain = url.scheme == "https" and url.host and not url.userinfo
    return url if plain and (url.port is None or 0 < url.port < 65_536) else None
