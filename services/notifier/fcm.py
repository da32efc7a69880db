"""Sends to apps by Firebase Cloud Messaging: the shell around `fcm_rendering`, on httpx.

One delivery is one request to `messages:send` of HTTP v1. The access token comes from
`google_token`; if FCM refuses it, another is fetched and the request made once more, since a
refused one sent nothing. Nothing else is repeated here.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from services.chassis.errors import Unavailable
from services.notifier import results
from services.notifier.fcm_rendering import render, token_of
from services.notifier.fcm_verdicts import is_about_our_token, verdict
from services.notifier.google_credentials import ServiceAccount
from services.notifier.google_token import GoogleTokens, NoToken
from services.notifier.harness import Channel, Delivery, Result
from services.notifier.http_call import Answer, Broken, NotConnected, Timeouts, no_cookies, post
from services.notifier.wording import as_json

GOOGLE = "https://fcm.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of the FCM client."""

    connections: int = 16  # sends at a time, a connection each; more wait their turn
    idle_s: float = 60.0  # a kept connection unused for longer is closed
    timeouts: Timeouts = field(default_factory=Timeouts)


class Fcm:
    """The channel `fcm`."""

    name = "fcm"
    channels = (Channel(scheme="fcm", repeats_unknown=True),)

    def __init__(
        self,
        account: ServiceAccount,
        url: str = GOOGLE,
        limits: Limits | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._limits = limits or Limits()
        self._now = now
        self._url = f"{url.rstrip('/')}/v1/projects/{account.project}/messages:send"
        self.concurrency = self._limits.connections
        self._client = httpx.AsyncClient(
            verify=ssl.create_default_context(),
            cookies=no_cookies(),
            limits=httpx.Limits(
                max_connections=self._limits.connections + 1,  # and one for tokens
                max_keepalive_connections=self._limits.connections + 1,
                keepalive_expiry=self._limits.idle_s,
            ),
        )
        self._tokens = GoogleTokens(account, SCOPE, self._client, self._limits.timeouts)

    async def send(self, delivery: Delivery) -> Result:
        """Hand one notification to FCM."""
        device = token_of(delivery.endpoint)
        if device is None:
            return results.rejected_message("the endpoint is not fcm: and a registration token")
        body = as_json(render(delivery, device, self._now()))
        try:
            answer = await self._post(body)
        except NoToken as error:
            if error.misconfigured:
                return results.misconfigured(error.detail)
            raise Unavailable(error.detail) from None
        except NotConnected as error:
            if error.untrusted:
                return results.misconfigured("TLS failed, or its certificate")
            raise
        except Broken as error:
            return results.unknown(f"no answer after the request was sent ({error})")
        return verdict(answer.status, answer.headers.get("retry-after"), answer.body, self._now())

    async def close(self) -> None:
        """Let go of connections."""
        await self._tokens.close()
        await self._client.aclose()

    async def _post(self, body: bytes) -> Answer:
        access = await self._tokens.token()
        answer = await self._post_as(access, body)
        if is_about_our_token(answer.status, answer.body):
            self._tokens.drop(access)
            answer = await self._post_as(await self._tokens.token(), body)
        return answer

    async def _post_as(self, access: str, body: bytes) -> Answer:
        headers = {
            "authorization": f"Bearer {access}",
            "content-type": "application/json; charset=utf-8",
        }
        return await post(self.name, self._client, self._url, body, headers, self._limits.timeouts)
