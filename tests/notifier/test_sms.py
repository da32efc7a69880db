"""SMS by Twilio, cell by cell. Requests are checked against Twilio's published description."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from onward.notifier.v1 import notifier_pb2

from services.notifier.harness import Callback
from services.notifier.results import Result
from services.notifier.sms import CHARACTERS_MAX, Limits, Sms, render, text_of
from services.notifier.sms_verdicts import Event
from tests.notifier import twilio_schema
from tests.notifier.deliveries import ID, Delivery, delivery, message
from tests.notifier.fake_twilio import SENDER, SID, TOKEN, FakeTwilio, callback, form_of
from tests.notifier.http_double import Answer
from tests.notifier.test_harness import served

CALLBACKS = "https://chat.example.org/v1/callbacks/notifier"
GIVEN = f"{CALLBACKS}?channel=sms&delivery={ID}"
LIMITS = Limits(connect_s=1, answer_s=2)


@pytest.fixture
def twilio() -> Iterator[FakeTwilio]:
    with FakeTwilio() as fake:
        yield fake


@asynccontextmanager
async def plugin(fake: FakeTwilio, limits: Limits = LIMITS, **account: Any) -> AsyncIterator[Sms]:
    made = Sms(fake.account(**account), limits)
    try:
        yield made
    finally:
        await made.close()


async def send_one(fake: FakeTwilio, made: Delivery | None = None, **options: Any) -> Result:
    async with plugin(fake, **options) as sender:
        return await sender.send(made or text())


def text(body: str = "hi", **fields: Any) -> Delivery:
    made = delivery(message(body), endpoint="tel:+15550001111")
    made.MergeFrom(Delivery(title="From bob", body=body, **fields))
    return made


def test_an_sms_is_accepted_with_twilios_name_for_it(run: Any, twilio: FakeTwilio) -> None:
    result = run(send_one(twilio, text(url="https://example.org/1")))
    assert (result.outcome, result.provider_id) == (Result.ACCEPTED, "SM" + "1b" * 16)
    form = form_of(twilio.requests[0])
    assert form == {
        "To": "+15550001111",
        "From": SENDER,
        "Body": "From bob\nhi\nhttps://example.org/1",
    }


@pytest.mark.parametrize(
    "account",
    [
        {},
        {"callback_url": CALLBACKS},
        {"sender": "MG" + "0c" * 16, "callback_url": CALLBACKS},
        {"sender": "Onward"},
    ],
)
def test_requests_keep_to_the_published_description(
    run: Any, twilio: FakeTwilio, account: Any
) -> None:
    twilio_schema.description()
    made = text("räksmörgås 😀\n" * 300, url="https://example.org/?a=1&b=2")
    made.expires_at.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    assert run(send_one(twilio, made, **account)).outcome == Result.ACCEPTED
    (request,) = twilio.requests
    found = twilio_schema.faults(
        request.method, request.path, request.headers["content-type"], request.body
    )
    assert found == []
    answer = twilio.respond(request)
    assert twilio_schema.response_faults(answer.status, answer.body) == []


def test_the_description_finds_what_is_wrong() -> None:
    path = f"/2010-04-01/Accounts/{SID}/Messages.json"
    form = "application/x-www-form-urlencoded"
    assert twilio_schema.faults("POST", path, form, b"Body=x") == ["To is missing"]
    assert twilio_schema.faults("POST", path, form, b"To=%2B15550001111&Bdy=x") == [
        "Bdy is unknown"
    ]
    assert twilio_schema.faults("POST", path, form, b"To=bob") == []  # an alphanumeric name
    assert twilio_schema.faults("POST", path, form, b"To=tel:bob@x") == ["To: 'tel:bob@x'"]
    assert twilio_schema.faults("POST", path, form, b"To=bob&ValidityPeriod=1h") == [
        "ValidityPeriod: '1h'"
    ]
    assert twilio_schema.faults("POST", "/2010-04-01/Accounts/x/Messages.json", form, b"To=bob")
    assert twilio_schema.faults("POST", path, "application/json", b"{}")
    assert twilio_schema.response_faults(201, b'{"sid": "nonsense"}') == ["sid"]


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (400, 21211, Result.ENDPOINT_GONE),
        (400, 21614, Result.ENDPOINT_GONE),
        (400, 30006, Result.ENDPOINT_GONE),
        (400, 21635, Result.ENDPOINT_GONE),
        (400, 21610, Result.OPTED_OUT),
        (429, 20429, Result.RETRY),
        (400, 21611, Result.RETRY),
        (500, 20500, Result.UNKNOWN),
        (503, 20500, Result.UNKNOWN),
        (503, 20503, Result.RETRY),
        (503, 29999, Result.RETRY),
        (502, 20501, Result.UNKNOWN),
        (401, 20003, Result.MISCONFIGURED),
        (400, 21606, Result.MISCONFIGURED),
        (400, 21408, Result.MISCONFIGURED),
        (404, 20404, Result.MISCONFIGURED),
        (400, 21617, Result.REJECTED_MESSAGE),
        (400, 29999, Result.REJECTED_MESSAGE),
        (403, 29999, Result.MISCONFIGURED),
    ],
)
def test_a_code_gives_its_verdict_and_nothing_is_sent_twice(
    run: Any, twilio: FakeTwilio, status: int, code: int, outcome: int
) -> None:
    twilio.refuse(status, code)
    result = run(send_one(twilio))
    assert (result.outcome, result.detail) == (outcome, f"{status} {code}")
    assert len(twilio.requests) == 1


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (500, Result.UNKNOWN),
        (502, Result.UNKNOWN),
        (504, Result.UNKNOWN),
        (503, Result.UNKNOWN),
        (429, Result.RETRY),
        (302, Result.MISCONFIGURED),
        (403, Result.MISCONFIGURED),
    ],
)
def test_a_page_of_a_gateway_does_not_say_that_nothing_was_sent(
    run: Any, twilio: FakeTwilio, status: int, outcome: int
) -> None:
    headers = {"content-type": "text/html; charset=utf-8", "location": "http://127.0.0.1:1/"}
    twilio.answer(Answer(status, b"<html>hi</html>", headers))
    result = run(send_one(twilio))
    assert (result.outcome, result.detail) == (outcome, str(status))
    assert len(twilio.requests) == 1, "no redirect is followed, nothing is repeated"


def test_twilios_wish_to_wait_is_passed_on(run: Any, twilio: FakeTwilio) -> None:
    twilio.refuse(429, 20429, retry_after="7")
    assert run(send_one(twilio)).retry_after.seconds == 7
    twilio.refuse(429, 20429)
    assert run(send_one(twilio)).retry_after.seconds == 10


def test_what_may_have_been_sent_is_unknown_and_never_repeated(
    run: Any, twilio: FakeTwilio
) -> None:
    twilio.answer(Answer(cut=True))
    assert run(send_one(twilio)).outcome == Result.UNKNOWN
    twilio.answer(Answer(before_s=3))
    assert run(send_one(twilio, limits=Limits(answer_s=0.3))).outcome == Result.UNKNOWN
    assert len(twilio.requests) == 2
    assert not Sms(twilio.account()).channels[0].repeats_unknown


def test_each_send_has_a_connection_of_its_own(run: Any, twilio: FakeTwilio) -> None:
    async def body() -> None:
        async with plugin(twilio) as sender:
            results = [await sender.send(text()) for _ in range(3)]
            assert {one.outcome for one in results} == {Result.ACCEPTED}

    run(body())
    assert {request.headers.get("connection") for request in twilio.requests} == {"close"}


def test_nobody_there_is_a_provider_that_cannot_be_reached(run: Any) -> None:
    assert run(send_one(FakeTwilio())).outcome == Result.PROVIDER_UNAVAILABLE


def test_a_connection_that_does_not_come_about_sent_nothing(run: Any, twilio: FakeTwilio) -> None:
    async def body() -> Result:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        # It takes connections, but never speaks TLS.
        async with plugin(
            twilio, Limits(connect_s=0.3, answer_s=5), url=f"https://127.0.0.1:{port}"
        ) as sender:
            result = await sender.send(text())
        server.close()
        return result

    assert run(body()).outcome == Result.PROVIDER_UNAVAILABLE


def test_a_certificate_that_nobody_vouches_for_is_our_setup(run: Any, tmp_path: Path) -> None:
    with FakeTwilio(tmp_path) as fake:
        assert run(send_one(fake)).outcome == Result.MISCONFIGURED
        assert not fake.requests


def test_wrong_credentials_are_our_setup(run: Any, twilio: FakeTwilio) -> None:
    result = run(send_one(twilio, token="wrong"))
    assert (result.outcome, result.detail) == (Result.MISCONFIGURED, "401 20003")


@pytest.mark.parametrize(
    "endpoint", ["tel:", "tel:5550001111", "tel:+0155500", "tel:+1555000111122233", "tel:+1a\n"]
)
def test_what_is_no_number_is_refused_without_asking(twilio: FakeTwilio, endpoint: str) -> None:
    made = text()
    made.endpoint = endpoint
    refused = render(made, twilio.account(), 480, datetime.now(UTC))
    assert isinstance(refused, Result)
    assert refused.outcome == Result.REJECTED_MESSAGE
    assert "+" not in refused.detail


def test_a_text_is_cut_to_its_limit_and_keeps_its_link() -> None:
    link = "https://example.org/1"
    for letter in ("x", "😀", "ä"):
        made = text(letter * 5_000, url=link)
        for most in (160, 480, CHARACTERS_MAX):
            cut = text_of(made, most)
            assert most - 2 <= len(cut.encode("utf-16-le")) // 2 <= most
            assert cut.endswith(f"…\n{link}")
    assert text_of(text("short"), 160) == "From bob\nshort"
    long_link = text("x" * 500, url="https://example.org/" + "u" * 200)
    assert "example.org" not in text_of(long_link, 160)


def test_twilio_keeps_no_message_longer_than_it_is_good_for(twilio: FakeTwilio) -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    for left, validity in ((timedelta(seconds=90), 90), (timedelta(days=3), 36_000)):
        made = text()
        made.expires_at.FromDatetime(now + left)
        form = render(made, twilio.account(), 480, now)
        assert isinstance(form, dict)
        assert form["ValidityPeriod"] == validity


def test_the_status_callback_names_the_delivery(twilio: FakeTwilio) -> None:
    form = render(text(), twilio.account(callback_url=CALLBACKS), 480, datetime.now(UTC))
    assert isinstance(form, dict)
    assert form["StatusCallback"] == GIVEN
    odd = text()
    odd.delivery_id = "a&b=c#d"
    form = render(odd, twilio.account(callback_url=CALLBACKS), 480, datetime.now(UTC))
    assert isinstance(form, dict)
    assert form["StatusCallback"] == f"{CALLBACKS}?channel=sms&delivery=a%26b%3Dc%23d"


def receive(url: str, headers: dict[str, str], body: bytes) -> Any:
    account = FakeTwilio().account(callback_url=CALLBACKS)
    request = Callback(method="POST", url=url, headers=headers, body=body)
    return asyncio.run(Sms(account).callback(request))


@pytest.mark.parametrize(
    ("form", "kind", "detail"),
    [
        ({"MessageStatus": "delivered"}, Event.DELIVERED, "delivered"),
        ({"MessageStatus": "read"}, Event.OPENED, "read"),
        ({"MessageStatus": "failed", "ErrorCode": "30008"}, Event.FAILED, "failed 30008"),
        ({"MessageStatus": "undelivered", "ErrorCode": "30003"}, Event.FAILED, "undelivered 30003"),
        ({"MessageStatus": "undelivered", "ErrorCode": "30004"}, Event.FAILED, "undelivered 30004"),
        ({"MessageStatus": "undelivered", "ErrorCode": "30005"}, Event.FAILED, "undelivered 30005"),
        (
            {"MessageStatus": "undelivered", "ErrorCode": "30006"},
            Event.ENDPOINT_GONE,
            "undelivered 30006",
        ),
        ({"MessageStatus": "failed", "ErrorCode": "21614"}, Event.ENDPOINT_GONE, "failed 21614"),
        ({"MessageStatus": "failed", "ErrorCode": "21610"}, Event.OPTED_OUT, "failed 21610"),
        ({"MessageStatus": "failed", "ErrorCode": "+1555"}, Event.FAILED, "failed"),
        ({"MessageStatus": "canceled"}, Event.FAILED, "canceled"),
        ({"MessageStatus": "delivered", "ErrorCode": "30006"}, Event.DELIVERED, "delivered 30006"),
    ],
)
def test_a_signed_callback_becomes_an_event(form: dict[str, str], kind: int, detail: str) -> None:
    answer = receive(GIVEN, *callback(GIVEN, **form))
    assert answer.status == 0
    (event,) = answer.events
    assert (event.delivery_id, event.kind, event.detail) == (ID, kind, detail)
    assert event.provider_id == "SM" + "1b" * 16


@pytest.mark.parametrize(
    "status", ["queued", "sending", "sent", "accepted", "scheduled", "", "odd"]
)
def test_a_step_on_the_way_is_no_event(status: str) -> None:
    answer = receive(GIVEN, *callback(GIVEN, MessageStatus=status))
    assert (answer.status, len(answer.events)) == (0, 0)


def test_a_callback_without_a_right_signature_is_refused() -> None:
    headers, body = callback(GIVEN, MessageStatus="delivered")
    other = callback(GIVEN, token="other", MessageStatus="delivered")
    forged = [
        (GIVEN, {}, body),
        (GIVEN, {**headers, "x-twilio-signature": ""}, body),
        (GIVEN, {**headers, "x-twilio-signature": "ä" * 28}, body),
        (GIVEN, headers, body.replace(b"delivered", b"failed")),
        (GIVEN, headers, body + b"&MessageStatus=failed"),
        (GIVEN.replace(ID, "f" * 32), headers, body),
        (GIVEN.replace("https:", "http:"), headers, body),
        ("https://x:port/?channel=sms", headers, body),
        (GIVEN, headers, b"\xff\xfe" * 100),
        (GIVEN, *other),
    ]
    for made in forged:
        answer = receive(*made)
        assert (answer.status, len(answer.events)) == (403, 0), made[0]


def test_a_signed_callback_for_no_delivery_of_ours_is_passed_over() -> None:
    for url in (CALLBACKS, f"{CALLBACKS}?channel=sms&delivery=DROP%20TABLE"):
        answer = receive(url, *callback(url, MessageStatus="delivered"))
        assert (answer.status, len(answer.events)) == (0, 0)


def test_a_callback_finds_its_way_through_the_process(run: Any, twilio: FakeTwilio) -> None:
    async def body() -> None:
        async with served(Sms(twilio.account(callback_url=CALLBACKS), LIMITS)) as stub:
            made = text()
            await stub.Notify(notifier_pb2.NotifyRequest(deliveries=[made]))
            url = form_of(twilio.requests[0])["StatusCallback"]
            headers, content = callback(url, MessageStatus="delivered")
            request = Callback(method="POST", url=url, headers=headers, body=content)
            answer = await stub.HandleCallback(request)
            assert [event.delivery_id for event in answer.events] == [made.delivery_id]
            request.body = content.replace(b"delivered", b"failed")
            assert (await stub.HandleCallback(request)).status == 403

    run(body())


def test_receipts_are_promised_only_where_twilio_is_told_where_to_report() -> None:
    fake = FakeTwilio()
    assert not Sms(fake.account()).channels[0].receipts
    assert Sms(fake.account(callback_url=CALLBACKS)).channels[0].receipts
    assert TOKEN not in repr(fake.account())
