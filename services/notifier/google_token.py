"""Access tokens of a Google service account: fetched, kept, renewed before their end.

A signed assertion is exchanged for a token at the account's token URL (RFC 7523). One exchange at
a time, whoever waits for it shares what comes out, and a refusal is remembered for a moment, so
that a batch does not ask a hundred times. Knows nothing of what a token is for, but its scope.
"""

import asyncio
import json
import time
from collections.abc import Callable
from urllib.parse import urlencode

import httpx
import jwt

from services.chassis import logs
from services.chassis.errors import Unavailable
from services.notifier.google_credentials import ServiceAccount
from services.notifier.http_call import Answer, Broken, NotConnected, Timeouts, post

log = logs.get(__name__)

ASSERTION_S = 3_600  # Google takes no longer ones
RENEWED_BEFORE_S = 300.0  # a token is renewed so long before its end
REFUSED_S = 1.0  # what came of a failed exchange is told to all who ask within this time
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class NoToken(Exception):
    """There is no token. `misconfigured`: for reasons that only an operator can end."""

    def __init__(self, detail: str, misconfigured: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.misconfigured = misconfigured


class GoogleTokens:
    """The tokens of one account and scope."""

    def __init__(
        self,
        account: ServiceAccount,
        scope: str,
        client: httpx.AsyncClient,
        timeouts: Timeouts,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._account = account
        self._scope = scope
        self._client = client
        self._timeouts = timeouts
        self._wall = wall
        self._clock = clock
        self._token = ""
        self._good_until = 0.0
        self._refusal: NoToken | None = None
        self._refused_until = 0.0
        self._exchange: asyncio.Task[str] | None = None

    async def token(self) -> str:
        """A token that is good for some minutes yet. Raises NoToken."""
        if self._token and self._clock() < self._good_until:
            return self._token
        if self._exchange is None:
            if self._refusal is not None and self._clock() < self._refused_until:
                raise NoToken(self._refusal.detail, self._refusal.misconfigured)
            self._exchange = asyncio.create_task(self._renew())
        # Who gives up waiting does not end it for the others.
        return await asyncio.shield(self._exchange)

    def drop(self, token: str) -> None:
        """`token` was refused: fetch another the next time, unless that has happened already."""
        if token == self._token:
            self._token = ""

    async def close(self) -> None:
        """End the exchange, if one is under way."""
        if self._exchange is not None:
            self._exchange.cancel()
            await asyncio.wait([self._exchange])

    async def _renew(self) -> str:
        began = self._clock()
        try:
            self._token, lasts_s = await self._fetch()
        except NoToken as refusal:
            self._refusal, self._refused_until = refusal, self._clock() + REFUSED_S
            log.warning(
                "no_access_token", detail=refusal.detail, misconfigured=refusal.misconfigured
            )
            raise
        finally:
            self._exchange = None
        # Half of its life at least: a token that ends within minutes must not be fetched each time.
        self._good_until = began + max(lasts_s - RENEWED_BEFORE_S, lasts_s / 2)
        return self._token

    async def _fetch(self) -> tuple[str, float]:
        form = urlencode({"grant_type": _GRANT, "assertion": self._assertion()}).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        try:
            answer = await post(
                "google-token",
                self._client,
                self._account.token_url,
                form,
                headers,
                self._timeouts,
            )
        except NotConnected as error:
            if error.untrusted:
                raise NoToken("the token service's certificate is not trusted", True) from None
            raise NoToken("the token service cannot be reached", False) from None
        except (Broken, Unavailable):
            # What is lost is a token, and nothing was asked of FCM.
            raise NoToken("the token service did not answer", False) from None
        return _token_of(answer)

    def _assertion(self) -> str:
        now = int(self._wall())
        claims = {
            "iss": self._account.email,
            "scope": self._scope,
            "aud": self._account.token_url,
            "iat": now,
            "exp": now + ASSERTION_S,
        }
        named = {"kid": self._account.key_id} if self._account.key_id else None
        return jwt.encode(claims, self._account.key, "RS256", headers=named)


def _token_of(answer: Answer) -> tuple[str, float]:
    """The token of an answer, and how many seconds it lasts. Raises NoToken."""
    if answer.status in (408, 429) or answer.status >= 500:
        raise NoToken(f"the token service answered {answer.status}", False)
    try:
        said = json.loads(answer.body)
        token, lasts_s = said["access_token"], float(said["expires_in"])
    except (ValueError, RecursionError, TypeError, KeyError):
        token, lasts_s = None, 0.0
    if answer.status != 200 or not isinstance(token, str) or not token.isascii() or lasts_s <= 0:
        # 400 invalid_grant: the key was deleted, or this machine's clock is wrong.
        raise NoToken(f"the token service answered {answer.status} and gave no token", True)
    return token, lasts_s
