"""APNs, cell by cell, against a fake that keeps Apple's published contract."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.notifier.apns import (
    PAYLOAD_BYTES_MAX,
    TOKEN_AGE_LEAST_S,
    TOKEN_REUSED_S,
    Apns,
    Limits,
    ProviderToken,
    Request,
    render,
)
from services.notifier.http_call import NotConnected, Timeouts
from services.notifier.results import Result
from tests.notifier.deliveries import ID, Delivery, delivery, message
from tests.notifier.fake_apns import TOPIC, FakeApns
from tests.notifier.http_double import Answer

DEVICE = "a1b2c3d4" * 8
LIMITS = Limits(timeouts=Timeouts(answer_s=2), back_off_s=90)


@pytest.fixture
def apns(tmp_path: Path) -> Iterator[FakeApns]:
    with FakeApns(tmp_path) as fake:
        yield fake


@asynccontextmanager
async def plugin(fake: FakeApns, **options: Any) -> AsyncIterator[Apns]:
    made = Apns(
        options.pop("access", fake.access),
        options.pop("limits", LIMITS),
        tls=ssl.create_default_context(cafile=fake.ca_file),
        **options,
    )
    try:
        yield made
    finally:
        await made.close()


async def send_one(fake: FakeApns, made: Delivery | None = None, **options: Any) -> Result:
    async with plugin(fake, **options) as sender:
        return await sender.send(made or push())


def push(endpoint: str = f"apns:{DEVICE}", **fields: Any) -> Delivery:
    made = delivery(message("hi"), endpoint=endpoint)
    made.MergeFrom(Delivery(**fields))
    return made


def test_a_notification_is_accepted_with_its_own_id(run: Any, apns: FakeApns) -> None:
    result = run(send_one(apns, push(title="From bob", body="hi", url="https://example.org/1")))
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    assert (result.outcome, result.provider_id) == (Result.ACCEPTED, uuid)
    (request,) = apns.requests
    assert request.path == f"/3/device/{DEVICE}"
    assert request.headers["apns-collapse-id"] == "/chat/1"
    payload = json.loads(request.body)
    assert payload["aps"]["alert"] == {"title": "From bob", "body": "hi"}
    assert payload["onward"]["url"] == "https://example.org/1"
    assert payload["onward"]["count"] == 1


@pytest.mark.parametrize(
    ("answer", "outcome", "detail"),
    [
        ((400, "DeviceTokenNotForTopic"), Result.MISCONFIGURED, "400 DeviceTokenNotForTopic"),
        ((400, "BadTopic"), Result.MISCONFIGURED, "400 BadTopic"),
        ((400, "TopicDisallowed"), Result.MISCONFIGURED, "400 TopicDisallowed"),
        ((400, "BadDeviceToken"), Result.MISCONFIGURED, "400 BadDeviceToken"),
        ((400, "BadCollapseId"), Result.REJECTED_MESSAGE, "400 BadCollapseId"),
        ((400, "IdleTimeout"), Result.RETRY, "400 IdleTimeout"),
        ((403, "InvalidProviderToken"), Result.MISCONFIGURED, "403 InvalidProviderToken"),
        ((403, "Forbidden"), Result.MISCONFIGURED, "403 Forbidden"),
        ((404, "BadPath"), Result.MISCONFIGURED, "404 BadPath"),
        ((405, "MethodNotAllowed"), Result.MISCONFIGURED, "405 MethodNotAllowed"),
        ((410, "Unregistered"), Result.ENDPOINT_GONE, "410 Unregistered"),
        ((410, "ExpiredToken"), Result.ENDPOINT_GONE, "410 ExpiredToken"),
        ((413, "PayloadTooLarge"), Result.REJECTED_MESSAGE, "413 PayloadTooLarge"),
        ((429, "TooManyRequests"), Result.RETRY, "429 TooManyRequests"),
        ((429, "TooManyProviderTokenUpdates"), Result.RETRY, "429 TooManyProviderTokenUpdates"),
        ((500, "InternalServerError"), Result.RETRY, "500 InternalServerError"),
        ((503, "ServiceUnavailable"), Result.RETRY, "503 ServiceUnavailable"),
        ((503, "Shutdown"), Result.RETRY, "503 Shutdown"),
    ],
)
def test_a_reason_gives_its_verdict(
    run: Any, apns: FakeApns, answer: tuple[int, str], outcome: int, detail: str
) -> None:
    apns.refuse(*answer)
    result = run(send_one(apns))
    assert (result.outcome, result.detail) == (outcome, detail)
    assert len(apns.requests) == 1, "nothing is repeated here"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (502, Result.RETRY),
        (504, Result.RETRY),
        (403, Result.MISCONFIGURED),
        (410, Result.RETRY),  # not Apple's word: nothing may be deleted for it
        (302, Result.UNKNOWN),
    ],
)
def test_a_page_of_something_in_between_is_no_word_of_apples(
    run: Any, apns: FakeApns, status: int, outcome: int
) -> None:
    page = b"<html><body>Bad gateway: hi</body></html>"
    apns.answer(Answer(status, page, {"content-type": "text/html"}))
    result = run(send_one(apns))
    assert (result.outcome, result.detail) == (outcome, str(status))


def test_a_device_that_is_gone_tells_since_when(run: Any, apns: FakeApns) -> None:
    apns.gone[DEVICE] = 1_780_000_000_123
    result = run(send_one(apns))
    assert result.outcome == Result.ENDPOINT_GONE
    assert result.gone_since.ToMilliseconds() == 1_780_000_000_123


@pytest.mark.parametrize("odd", ["yesterday", -5, 10**18, None, True, [1]])
def test_a_time_that_is_none_is_left_out(run: Any, apns: FakeApns, odd: Any) -> None:
    apns.refuse(410, "Unregistered", timestamp=odd)
    result = run(send_one(apns))
    assert result.outcome == Result.ENDPOINT_GONE
    assert not result.HasField("gone_since")


def test_a_busy_apple_is_left_alone_for_as_long_as_it_says(run: Any, apns: FakeApns) -> None:
    apns.answer(Answer(429, b'{"reason":"TooManyRequests"}', {"retry-after": "180"}))
    assert run(send_one(apns)).retry_after.seconds == 180
    apns.refuse(503, "ServiceUnavailable")
    assert run(send_one(apns)).retry_after.seconds == 90, "the back-off that is set"


def test_a_bad_token_holds_up_nobody_once_the_environment_is_proven(
    run: Any, apns: FakeApns
) -> None:
    async def body() -> None:
        async with plugin(apns) as sender:
            apns.refuse(400, "BadDeviceToken")
            assert (await sender.send(push())).outcome == Result.MISCONFIGURED
            assert (await sender.send(push())).outcome == Result.ACCEPTED
            for reason in ("BadDeviceToken", "DeviceTokenNotForTopic"):
                apns.refuse(400, reason)
                assert (await sender.send(push())).outcome == Result.REJECTED_MESSAGE
            apns.refuse(400, "BadTopic")
            assert (await sender.send(push())).outcome == Result.MISCONFIGURED

    run(body())


def test_many_sends_share_a_few_connections(run: Any, apns: FakeApns) -> None:
    async def body() -> None:
        async with plugin(apns) as sender:
            sent = await asyncio.gather(*(sender.send(push()) for _ in range(150)))
            assert {result.outcome for result in sent} == {Result.ACCEPTED}

    run(body())
    assert len(apns.requests) == 150
    assert apns.connections <= LIMITS.connections + 1, "and the one that saw that it listens"


def test_one_provider_token_serves_many_requests(run: Any, apns: FakeApns) -> None:
    async def body() -> None:
        async with plugin(apns) as sender:
            for _ in range(3):
                assert (await sender.send(push())).outcome == Result.ACCEPTED

    run(body())
    assert len({request.headers["authorization"] for request in apns.requests}) == 1


def test_a_provider_token_is_signed_anew_between_20_and_60_minutes(apns: FakeApns) -> None:
    assert 20 * 60 <= TOKEN_REUSED_S < 60 * 60
    clock = Clock()
    token = ProviderToken(apns.access, clock)
    first = token.current()
    clock.pass_s(TOKEN_REUSED_S - 1)
    assert token.current() == first
    clock.pass_s(2)
    assert token.current() != first
    clock.pass_s(-2 * TOKEN_REUSED_S)  # set back: the old time of issue would be in the future
    assert token.current() != first


def test_an_expired_provider_token_is_signed_again_once(run: Any, apns: FakeApns) -> None:
    clock = Clock()

    async def body() -> None:
        async with plugin(apns, now=clock) as sender:
            await sender.send(push())
            apns.expired.add(apns.requests[0].headers["authorization"].split()[1])
            clock.pass_s(20)
            assert (await sender.send(push())).outcome == Result.ACCEPTED
            assert len(apns.requests) == 3

    run(body())


def test_a_wrong_clock_does_not_sign_again_and_again(run: Any, apns: FakeApns) -> None:
    clock = Clock()
    clock.pass_s(-2 * 3600)

    async def body() -> None:
        async with plugin(apns, now=clock) as sender:
            for count in (2, 3, 4):
                clock.pass_s(1)
                result = await sender.send(push())
                assert (result.outcome, result.detail) == (
                    Result.MISCONFIGURED,
                    "403 ExpiredProviderToken",
                )
                assert len(apns.requests) == count
            clock.pass_s(TOKEN_AGE_LEAST_S)
            await sender.send(push())
            assert len(apns.requests) == 6, "after a while it is tried again"

    run(body())


def test_a_key_of_somebody_else_is_our_setup(run: Any, apns: FakeApns, tmp_path: Path) -> None:
    other = FakeApns(tmp_path / "other").access
    access = type(other)(other.key, other.key_id, other.team_id, other.topic, apns.url)
    result = run(send_one(apns, access=access))
    assert (result.outcome, result.detail) == (Result.MISCONFIGURED, "403 InvalidProviderToken")


def test_a_connection_lost_after_sending_leaves_the_outcome_unknown(
    run: Any, apns: FakeApns
) -> None:
    apns.answer(Answer(cut=True))
    assert run(send_one(apns)).outcome == Result.UNKNOWN
    apns.answer(Answer(before_s=3))
    began = time.monotonic()
    result = run(send_one(apns, limits=Limits(timeouts=Timeouts(answer_s=0.3))))
    assert result.outcome == Result.UNKNOWN
    assert time.monotonic() - began < 2


def test_nobody_there_is_a_provider_that_cannot_be_reached(run: Any, tmp_path: Path) -> None:
    fake = FakeApns(tmp_path)
    with pytest.raises(NotConnected):  # which the harness answers with PROVIDER_UNAVAILABLE
        run(send_one(fake))


def test_a_certificate_that_nobody_vouches_for_is_our_setup(run: Any, apns: FakeApns) -> None:
    async def body() -> Result:
        sender = Apns(apns.access, LIMITS)
        try:
            return await sender.send(push())
        finally:
            await sender.close()

    assert run(body()).outcome == Result.MISCONFIGURED
    assert not apns.requests


@pytest.mark.parametrize(
    "endpoint",
    ["apns:", "apns:abc", "apns:../../x", f"apns:{DEVICE}\n", "apns:" + "ab" * 129, "apns:ä" * 8],
)
def test_what_is_no_device_token_is_refused_without_asking(endpoint: str) -> None:
    refused = render(push(endpoint=""), TOPIC)
    assert isinstance(refused, Result)
    made = push()
    made.endpoint = endpoint
    refused = render(made, TOPIC)
    assert isinstance(refused, Result)
    assert refused.outcome == Result.REJECTED_MESSAGE
    assert "ab" not in refused.detail


def rendered(**fields: Any) -> Request:
    made = render(push(**fields), TOPIC)
    assert isinstance(made, Request)
    return made


@pytest.mark.parametrize("letter", ["x", "ä", '"', "\n\\", "😀"])
def test_a_payload_fits_4096_bytes_whatever_is_in_it(run: Any, apns: FakeApns, letter: str) -> None:
    made = push(
        title=letter * 500, body=f"begin {letter * 9_000}", url="https://e.org/" + "u" * 999
    )
    request = render(made, TOPIC)
    assert isinstance(request, Request)
    assert PAYLOAD_BYTES_MAX - 100 < len(request.body) <= PAYLOAD_BYTES_MAX
    told = json.loads(request.body)
    assert told["aps"]["alert"]["body"].startswith("begin ")
    assert told["onward"]["url"] == made.url
    assert run(send_one(apns, made)).outcome == Result.ACCEPTED


def test_links_that_leave_no_room_for_the_text_are_left_out() -> None:
    url, mute_url = "https://e.org/" + "u" * 1_900, "https://e.org/" + "m" * 1_900
    for body, names in (("x" * 500, {"url"}), ("", {"url"})):
        told = json.loads(rendered(title="t", body=body, url=url, mute_url=mute_url).body)["onward"]
        assert {"url", "mute_url"} & told.keys() == names
    short = json.loads(rendered(url="https://e.org/1", mute_url="https://e.org/2").body)["onward"]
    assert (short["url"], short["mute_url"]) == ("https://e.org/1", "https://e.org/2")


def test_what_cannot_fit_is_refused() -> None:
    refused = render(push(subject="/" + "s" * 5_000), TOPIC)
    assert isinstance(refused, Result)
    assert refused.outcome == Result.REJECTED_MESSAGE


def test_a_collapse_id_is_the_key_or_its_hash_in_64_bytes() -> None:
    made = push()
    for key in ("k" * 64, "/chat/1"):
        made.collapse_key = key
        request = render(made, TOPIC)
        assert isinstance(request, Request)
        assert request.headers["apns-collapse-id"] == key
    seen = set()
    for key in ("k" * 65, "k" * 66, "/räum/1", "a\r\nb: c", " x"):
        made.collapse_key = key
        request = render(made, TOPIC)
        assert isinstance(request, Request)
        value = request.headers["apns-collapse-id"]
        assert value.isalnum()
        assert len(value) <= 64
        seen.add(value)
    assert len(seen) == 5


def test_priority_and_expiry_are_in_the_headers() -> None:
    until = datetime(2026, 11, 23, tzinfo=UTC)
    made = push(priority=Delivery.LOW)
    made.expires_at.FromDatetime(until)
    low = render(made, TOPIC)
    assert isinstance(low, Request)
    assert low.headers["apns-priority"] == "5"
    assert low.headers["apns-expiration"] == str(int(until.timestamp()))
    assert "sound" not in json.loads(low.body)["aps"]
    normal = rendered(priority=Delivery.URGENT)
    assert normal.headers["apns-priority"] == "10"
    assert "apns-expiration" not in normal.headers


def test_each_try_has_the_same_id() -> None:
    first, again = rendered(), rendered(attempt=3)
    assert first.headers["apns-id"] == again.headers["apns-id"]
    assert first.headers["apns-id"].replace("-", "") == ID
    made = push()
    made.delivery_id = "no hex"
    hashed = render(made, TOPIC)
    assert isinstance(hashed, Request)
    assert len(hashed.headers["apns-id"]) == 36


class Clock:
    """The time, and what a test adds to it."""

    def __init__(self) -> None:
        self._added = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._added

    def pass_s(self, seconds: float) -> None:
        self._added += timedelta(seconds=seconds)
