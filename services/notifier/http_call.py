"""One HTTP request to a provider, to one of four ends.

An answer; `NotConnected`: nothing was sent; `Broken`: it was sent, or may have been, and nobody
knows what became of it; or what the transport raises by itself, such as `Forbidden`. Nothing is
repeated here and no redirect is followed. An answer is bounded in bytes and in time, since the
other side may be anybody. Knows httpx; must not know any channel.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
from prometheus_client import Gauge

from services.chassis.errors import Unavailable

ANSWER_BYTES_MAX = 65_536  # of a body; the rest is not read

_under_way = Gauge(
    "onward_notifier_http_under_way", "Requests that a provider has not answered yet.", ["channel"]
)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each step may take, in seconds."""

    connect_s: float = 4.0  # the connection, and again its TLS; longer: NotConnected
    turn_s: float = 2.0  # for a free connection; longer: NotConnected
    write_s: float = 5.0  # for any part of the request; longer: Broken
    answer_s: float = 10.0  # for any part of the answer; longer: Broken
    whole_s: float = 25.0  # everything; longer: Broken. Above all that may pass before the request

    def of_httpx(self) -> httpx.Timeout:
        """As httpx wants them."""
        return httpx.Timeout(
            connect=self.connect_s, pool=self.turn_s, write=self.write_s, read=self.answer_s
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    status: int
    headers: httpx.Headers
    body: bytes  # its beginning; anything at all, also where JSON was promised


class NotConnected(Unavailable):
    """There was no connection, so nothing was sent."""

    def __init__(self, untrusted: bool) -> None:
        super().__init__("TLS failed" if untrusted else "not connected")
        self.untrusted = untrusted  # its certificate was not taken


class Broken(Exception):
    """The request had begun when the connection or the patience ended."""


def no_cookies() -> CookieJar:
    """For a client's `cookies`: keeps none, since whoever answers could fill the memory."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


async def post(
    channel: str,
    client: httpx.AsyncClient,
    url: str,
    content: bytes,
    headers: Mapping[str, str],
    timeouts: Timeouts,
) -> Answer:
    """POST `content`. Raises NotConnected, Broken, and what the transport adds.

    `channel` is for the metric.
    """
    try:
        with _under_way.labels(channel).track_inprogress():
            return await _post(client, url, content, headers, timeouts)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
        raise NotConnected(_is_about_trust(error)) from error
    except (httpx.TransportError, TimeoutError) as error:
        raise Broken(type(error).__name__) from error


async def _post(
    client: httpx.AsyncClient,
    url: str,
    content: bytes,
    headers: Mapping[str, str],
    timeouts: Timeouts,
) -> Answer:
    async with (
        asyncio.timeout(timeouts.whole_s),
        client.stream(
            "POST",
            url,
            content=content,
            # What is not compressed cannot swell.
            headers={"accept-encoding": "identity", **headers},
            timeout=timeouts.of_httpx(),
            follow_redirects=False,
        ) as response,
    ):
        return Answer(response.status_code, response.headers, await _beginning(response))


async def _beginning(response: httpx.Response) -> bytes:
    body = bytearray()
    try:
        async for part in response.aiter_raw():
            body += part
            if len(body) >= ANSWER_BYTES_MAX:
                break
    except httpx.TransportError:
        pass  # The status says what became of the request; only its explanation was lost.
    return bytes(body[:ANSWER_BYTES_MAX])


def _is_about_trust(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
