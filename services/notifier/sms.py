"""Sends SMS by Twilio, and takes its status callbacks.

The endpoint is `tel:` and an E.164 number. One delivery is one request over a connection of its
own: on a kept connection that the other side just closed, a request may or may not have been
read, and an SMS whose outcome is unknown is never sent again. Of twilio's client two things are
not relied on: the timeout of its constructor, which it ignores, and its retries, which would send
twice. Codes become outcomes in `sms_verdicts`; `text_of` and `render` are pure.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

import aiohttp
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from services.notifier import results
from services.notifier.harness import Callback, CallbackAnswer, Channel, Delivery, Result
from services.notifier.sms_verdicts import Event, event_kind, verdict
from services.notifier.wording import ELLIPSIS, words

TWILIO = "https://api.twilio.com"
CHARACTERS_MAX = 1_600  # of one message, as Twilio counts: units of UTF-16
VALIDITY_S_MAX = 36_000  # how long Twilio may keep a message that it cannot send yet

_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_SERVICE = re.compile(r"MG[0-9a-fA-F]{32}")
_DELIVERY_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Account:
    """Who we are to Twilio."""

    sid: str
    token: str = field(repr=False)  # also the key of callbacks' signatures
    sender: str  # a number, an alphanumeric sender, or the sid of a messaging service
    url: str = TWILIO
    callback_url: str = ""  # where Twilio reports; empty: it does not


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of the Twilio client."""

    concurrency: int = 8
    connect_s: float = 5.0
    answer_s: float = 10.0  # for all of a request; longer: the outcome is unknown
    characters_max: int = 480  # the rest is cut; about three SMS are paid for


class Sms:
    """The channel `tel`."""

    name = "sms"

    def __init__(
        self,
        account: Account,
        limits: Limits | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._account = account
        self._limits = limits or Limits()
        self._now = now
        self.concurrency = self._limits.concurrency
        receipts = bool(account.callback_url)
        self.channels = (Channel(scheme="tel", repeats_unknown=False, receipts=receipts),)
        self._validator = RequestValidator(account.token)
        self._client: Client | None = None

    async def send(self, delivery: Delivery) -> Result:
        """Hand one SMS to Twilio."""
        form = render(delivery, self._account, self._limits.characters_max, self._now())
        if isinstance(form, Result):
            return form
        client = self._connected()
        url = f"{self._account.url}/2010-04-01/Accounts/{self._account.sid}/Messages.json"
        try:
            async with asyncio.timeout(self._limits.answer_s):
                response = await client.request_async("POST", url, data=form)
        except (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError):
            return results.misconfigured("TLS failed, or its certificate")
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return results.provider_unavailable(f"no connection: {type(error).__name__}")
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            return results.unknown(f"no answer: {type(error).__name__}")
        headers = {name.lower(): value for name, value in (response.headers or {}).items()}
        return verdict(response.status_code, headers, response.text.encode(), self._now())

    async def callback(self, request: Callback) -> CallbackAnswer:
        """What Twilio reports of a message, if it is Twilio."""
        form = dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
        if not self._signed(request, form):
            return CallbackAnswer(status=403)
        delivery_id = _delivery_of(request.url)
        code = form.get("ErrorCode", "")
        status = form.get("MessageStatus", "")
        kind = event_kind(status, code)
        if kind is None or not delivery_id:
            return CallbackAnswer()
        known_code = code if code.isascii() and code.isdigit() else ""
        event = Event(
            delivery_id=delivery_id,
            kind=kind,
            provider_id=results.cut(form.get("MessageSid", ""), results.PROVIDER_ID_BYTES_MAX),
            detail=results.cut(f"{status} {known_code}".strip(), results.DETAIL_BYTES_MAX),
        )
        return CallbackAnswer(events=[event])

    async def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            await self._client.http_client.close()
            self._client = None

    def _signed(self, request: Callback, form: Mapping[str, str]) -> bool:
        signature = request.headers.get("x-twilio-signature", "")
        try:
            return bool(self._validator.validate(request.url, form, signature))
        except ValueError:
            return False  # The URL has a port that is none.

    def _connected(self) -> Client:
        """The client. Made at the first send: a session of aiohttp belongs to a running loop."""
        if self._client is None:
            http = AsyncTwilioHttpClient(pool_connections=False)
            http.session = _Session(self._limits)
            # Its own environment: variables of the machine would change where it connects.
            self._client = Client(
                self._account.sid, self._account.token, http_client=http, environment={"-": ""}
            )
        return self._client


class _Session:
    """What twilio's client asks by. It passes `timeout=None`, which means no limit to aiohttp."""

    def __init__(self, limits: Limits) -> None:
        self._timeout = aiohttp.ClientTimeout(total=None, connect=limits.connect_s)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=limits.concurrency)
        )

    async def request(self, **options: Any) -> aiohttp.ClientResponse:
        return await self._session.request(**{**options, "timeout": self._timeout})

    async def close(self) -> None:
        await self._session.close()


def render(
    delivery: Delivery, account: Account, characters_max: int, now: datetime
) -> dict[str, str | int] | Result:
    """The form fields of the request, or why there are none."""
    number = delivery.endpoint.partition(":")[2]
    if not _NUMBER.fullmatch(number):
        return results.rejected_message("the endpoint is no E.164 number")
    by_service = _SERVICE.fullmatch(account.sender) is not None
    form: dict[str, str | int] = {
        "To": number,
        "MessagingServiceSid" if by_service else "From": account.sender,
        "Body": text_of(delivery, characters_max),
    }
    if delivery.HasField("expires_at"):
        left_s = int((delivery.expires_at.ToDatetime(tzinfo=UTC) - now).total_seconds())
        form["ValidityPeriod"] = max(1, min(left_s, VALIDITY_S_MAX))
    if account.callback_url:
        # Quoted: an id that is not of ours must not change the URL. Twilio signs it as it is.
        query = f"channel=sms&delivery={quote(delivery.delivery_id, safe='')}"
        form["StatusCallback"] = f"{account.callback_url}?{query}"
    return form


def text_of(delivery: Delivery, characters_max: int) -> str:
    """Title, text and URL, in lines. The text is cut first, then the title; a URL that leaves no
    room for a title is left out."""
    shown = words(delivery)
    link = f"\n{shown.url}" if shown.url and _units(shown.url) < characters_max // 2 else ""
    room = characters_max - _units(link)
    lines = f"{shown.title}\n{shown.body}" if shown.body else shown.title
    return _cut(lines, room) + link


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _cut(text: str, units_max: int) -> str:
    if _units(text) <= units_max:
        return text
    return text.encode("utf-16-le")[: 2 * (units_max - 1)].decode("utf-16-le", "ignore") + ELLIPSIS


def _delivery_of(url: str) -> str:
    named = parse_qs(urlsplit(url).query).get("delivery", [""])[0]
    return named if _DELIVERY_ID.fullmatch(named) else ""
