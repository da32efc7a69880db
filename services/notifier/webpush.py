"""Sends to browsers by Web Push: the shell around `webpush_rendering`, on httpx.

One delivery is one POST to the URL that the browser's push service drew, encrypted for that browser
by pywebpush's encoder (RFC 8291) and signed with the operator's key (RFC 8292). The URL is user
input: only public addresses are connected to, nothing is redirected, and a push service that is not
listed speaks for its own endpoint alone, however it answers and however slowly. Nothing is repeated
here.
"""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
from pywebpush import WebPusher

from services.notifier import results
from services.notifier.harness import Channel, Delivery, Result
from services.notifier.http_call import Broken, NotConnected, Timeouts, no_cookies, post
from services.notifier.public_address import Forbidden, PublicTransport
from services.notifier.vapid import Vapid
from services.notifier.webpush_endpoint import (
    NotASubscription,
    Subscription,
    entry_of,
    is_named,
    listed_at,
    subscription_of,
)
from services.notifier.webpush_rendering import headers, payload
from services.notifier.webpush_verdicts import verdict

# The push services of the browsers: Chrome and its kin, Firefox, Safari, Edge.
SERVICES = (
    "fcm.googleapis.com",
    "updates.push.services.mozilla.com",
    "*.push.apple.com",
    "*.notify.windows.com",
)
CROWDED_WAIT_S = 5.0  # asked for where push services that are not listed have no turn left
# While a listed service has answered within so long, the network is there.
HEARD_S = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of the Web Push client."""

    connections: int = 32  # sends at a time; more wait their turn
    # Of them to push services that are not listed: slow ones must not hold up the others. More are
    # to be tried again later.
    unlisted: int = 8
    idle: int = 16  # kept connections, of each of the two
    idle_s: float = 60.0  # one unused for longer is closed
    timeouts: Timeouts = field(default_factory=Timeouts)


class WebPush:
    """The channel `webpush`."""

    name = "webpush"
    channels = (Channel(scheme="webpush", repeats_unknown=True),)

    def __init__(
        self,
        vapid: Vapid,
        services: Sequence[str] = SERVICES,
        allow_private: bool = False,
        limits: Limits | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        verify: ssl.SSLContext | None = None,
    ) -> None:
        """`services` are believed what they say of our set-up, each until it has accepted anything;
        see `webpush_endpoint.entry_of`.
        `allow_private`: the operator's own network may be sent to. `verify`: for its
        certificates."""
        self._vapid = vapid
        self._services = services
        self._allow_private = allow_private
        self._limits = limits or Limits()
        self._now = now
        self._unlisted = 0  # under way
        # Those of `services` that accepted something: to them the key and the subject are right.
        # Some are stricter than others, so it says nothing of those. By entry of the list, not by
        # host: below a pattern anybody can make up hosts.
        self._proven: set[str] = set()
        self._heard_at: datetime | None = None  # when a listed service last answered
        self.concurrency = self._limits.connections
        # Apart, so that names which nobody answers for keep no listed host's name from being found.
        self._clients = {
            True: self._client(self._limits.connections, verify),
            False: self._client(self._limits.unlisted, verify),
        }

    async def send(self, delivery: Delivery) -> Result:
        """Hand one notification to a push service."""
        try:
            to = subscription_of(delivery.endpoint, self._allow_private)
        except NotASubscription as error:
            return results.rejected_message(str(error))
        entry = entry_of(to.host, to.port, self._services)
        if entry is not None:
            return await self._send(delivery, to, entry)
        if self._unlisted >= self._limits.unlisted:
            return results.retry("too many to push services that are not listed", CROWDED_WAIT_S)
        self._unlisted += 1
        try:
            return await self._send(delivery, to, None)
        finally:
            self._unlisted -= 1

    async def close(self) -> None:
        """Let go of connections."""
        for client in self._clients.values():
            await client.aclose()

    def _client(self, connections: int, verify: ssl.SSLContext | None) -> httpx.AsyncClient:
        transport = PublicTransport(
            self._allow_private,
            verify=verify,
            connections_max=connections,
            idle_max=min(self._limits.idle, connections),
            idle_s=self._limits.idle_s,
        )
        # A proxy would look names up by itself, so the environment's is not asked.
        return httpx.AsyncClient(transport=transport, trust_env=False, cookies=no_cookies())

    async def _send(self, delivery: Delivery, to: Subscription, entry: str | None) -> Result:
        """`entry`: of the list, which `to` falls under, if any."""
        now = self._now()
        sent = {
            **headers(delivery, now),
            "authorization": self._vapid.authorization(to.origin, now.timestamp()),
            "content-encoding": "aes128gcm",
            "content-type": "application/octet-stream",
        }
        try:
            body = encrypted(to, payload(delivery))
            client = self._clients[entry is not None]
            answer = await post(self.name, client, to.url, body, sent, self._limits.timeouts)
        except Forbidden:
            return results.rejected_message("the push service's address is not public")
        except NotConnected as error:
            if not error.untrusted and self._is_about_network(to, now):
                raise
            return results.retry(f"the push service cannot be reached: {error}")
        except Broken as error:
            return results.unknown(f"no answer after the request was sent ({error})")
        except httpx.InvalidURL:
            return results.rejected_message("the push service's URL cannot be read")
        now = self._now()
        after = answer.headers.get("retry-after")
        listed, proven = entry is not None, entry in self._proven
        result = verdict(answer.status, after, now, listed=listed, proven=proven)
        if entry is not None:
            self._heard_at = now
            if result.outcome == Result.ACCEPTED:
                self._proven.add(entry)
        return result

    def _is_about_network(self, to: Subscription, now: datetime) -> bool:
        """Whether not reaching `to` means that no push service is reached. Browsers' are there; but
        anybody can make up a host below one of them, and one may be away while others are not."""
        if not is_named(to.host, listed_at(to.port, self._services)):
            return False
        heard_at = self._heard_at
        return heard_at is None or (now - heard_at).total_seconds() > HEARD_S


def encrypted(to: Subscription, plain: bytes) -> bytes:
    """`plain` for that browser's eyes only, as `aes128gcm`."""
    subscription = {"endpoint": to.url, "keys": {"p256dh": to.key, "auth": to.secret}}
    body = WebPusher(subscription).encode(plain)["body"]
    assert isinstance(body, bytes)
    return body
