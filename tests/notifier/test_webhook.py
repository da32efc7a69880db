"""Webhooks, cell by cell, against a receiver that checks signatures by the published rule."""

import asyncio
import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.notifier.http_call import Timeouts
from services.notifier.results import Result
from services.notifier.webhook import (
    PAYLOAD_BYTES_MAX,
    Limits,
    Webhook,
    render,
    secret_of,
    signatures,
)
from tests.notifier.deliveries import ID, Delivery, delivery, message
from tests.notifier.http_double import Answer
from tests.notifier.receiver import Receiver
from tests.notifier.test_harness import notify, served
from tests.waiting import until

OLD = "whsec_" + "b2xk" * 8
NEW = "whsec_" + "bmV3" * 8
NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
OWN = ("127.0.0.1",)  # the receiver's host, as one that is believed
LIMITS = Limits(timeouts=Timeouts(connect_s=1, answer_s=2))


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(tmp_path, NEW) as made:
        yield made


def plugin(
    receiver: Receiver,
    secrets: tuple[str, ...] = (NEW,),
    allow_private: bool = True,
    limits: Limits = LIMITS,
    **options: Any,
) -> Webhook:
    tls = ssl.create_default_context(cafile=receiver.ca_file)
    keys = [secret_of(secret) for secret in secrets]
    return Webhook(keys, allow_private, limits, lambda: NOW, tls, **options)


async def send_one(receiver: Receiver, made: Delivery | None = None, **options: Any) -> Result:
    sender = plugin(receiver, **options)
    try:
        return await sender.send(made or hook(receiver))
    finally:
        await sender.close()


def hook(receiver: Receiver, *messages: Any, **fields: Any) -> Delivery:
    made = delivery(*(messages or (message("hi"),)), endpoint=receiver.endpoint)
    made.MergeFrom(Delivery(**fields))
    return made


def test_a_receiver_that_takes_it_has_it(run: Any, receiver: Receiver) -> None:
    result = run(send_one(receiver, hook(receiver, title="From bob", body="hi")))
    assert (result.outcome, result.detail) == (Result.DELIVERED, "204")
    (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", "/hook")
    assert request.headers["webhook-id"] == ID
    assert request.headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    (payload,) = receiver.payloads()
    assert payload["type"] == "onward.notification"
    assert payload["timestamp"] == "2026-11-22T13:30:00Z"
    assert payload["data"]["deliveryId"] == ID
    assert payload["data"]["messages"][0]["text"] == "hi"
    assert (payload["data"]["title"], payload["data"]["lastSeq"]) == ("From bob", "1")
    assert "endpoint" not in payload["data"]
    assert receiver.endpoint not in request.body.decode()


def test_the_signature_is_the_one_of_the_specifications_example() -> None:
    key = secret_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signatures([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_a_secret_is_replaced_both_sign(run: Any, receiver: Receiver) -> None:
    for known, secrets, outcome in (
        ([OLD], (NEW, OLD), Result.DELIVERED),
        ([NEW], (NEW, OLD), Result.DELIVERED),
        ([NEW, OLD], (NEW,), Result.DELIVERED),
        ([OLD], (NEW,), Result.MISCONFIGURED),
    ):
        receiver.secrets = known
        result = run(send_one(receiver, secrets=secrets, believed=OWN))
        assert result.outcome == outcome
    assert receiver.requests[0].headers["webhook-signature"].count("v1,") == 2


@pytest.mark.parametrize(
    "text",
    ["", "whsec_", "whsec_short", NEW.removeprefix("whsec_"), NEW + "!", "whsec_" + "QUJD" * 22],
)
def test_what_is_no_secret_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        secret_of(text)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Result.DELIVERED),
        (202, Result.DELIVERED),
        (301, Result.MISCONFIGURED),
        (307, Result.MISCONFIGURED),
        (400, Result.MISCONFIGURED),
        (401, Result.MISCONFIGURED),
        (404, Result.MISCONFIGURED),
        (408, Result.RETRY),
        (410, Result.ENDPOINT_GONE),
        (413, Result.REJECTED_MESSAGE),
        (429, Result.RETRY),
        (500, Result.RETRY),
        (502, Result.RETRY),
        (503, Result.RETRY),
        (504, Result.RETRY),
    ],
)
def test_a_status_gives_its_verdict(
    run: Any, receiver: Receiver, status: int, outcome: int
) -> None:
    elsewhere = {"location": f"{receiver.url}/elsewhere"}
    receiver.answer(Answer(status, b"" if status == 204 else b"hi", elsewhere))
    result = run(send_one(receiver, believed=OWN))
    assert (result.outcome, result.detail) == (outcome, str(status))
    assert len(receiver.requests) == 1, "no redirect is followed, nothing is repeated"


@pytest.mark.parametrize(
    ("believed", "outcome"),
    [
        (("*",), Result.MISCONFIGURED),
        (("example.org", "127.0.0.1"), Result.MISCONFIGURED),
        (("*.0.0.1",), Result.MISCONFIGURED),
        (("example.org", "*.example.org", "7.0.0.1", "*.127.0.0.1"), Result.RETRY),
        ((), Result.RETRY),
    ],
)
def test_only_a_host_that_is_believed_can_make_the_channel_wait(
    run: Any, receiver: Receiver, believed: tuple[str, ...], outcome: int
) -> None:
    receiver.answer(Answer(404))
    assert run(send_one(receiver, believed=believed)).outcome == outcome


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (301, Result.RETRY),
        (307, Result.RETRY),
        (400, Result.REJECTED_MESSAGE),
        (401, Result.RETRY),
        (403, Result.RETRY),
        (404, Result.RETRY),
        (405, Result.RETRY),
        (410, Result.ENDPOINT_GONE),
        (413, Result.REJECTED_MESSAGE),
        (422, Result.REJECTED_MESSAGE),
        (429, Result.RETRY),
        (451, Result.RETRY),
        (500, Result.RETRY),
    ],
)
def test_who_is_not_named_speaks_of_one_notification_alone(
    run: Any, receiver: Receiver, status: int, outcome: int
) -> None:
    elsewhere = {"location": f"{receiver.url}/elsewhere", "retry-after": "3"}
    receiver.answer(Answer(status, headers=elsewhere))
    result = run(send_one(receiver))
    assert (result.outcome, result.detail) == (outcome, str(status))
    assert result.retry_after.seconds == (3 if outcome == Result.RETRY else 0)
    assert len(receiver.requests) == 1


def test_a_slow_host_does_not_take_the_turns_of_others(run: Any, receiver: Receiver) -> None:
    async def body() -> None:
        limits = Limits(concurrency=4, per_host=2, timeouts=Timeouts(answer_s=20, whole_s=25))
        # Hosts are told apart by name, so one machine has two.
        receiver.scripts.say("slow", *[Answer(before_s=5)] * 6)
        async with served(plugin(receiver, limits=limits)) as stub:
            slow = [
                hook(receiver, delivery_id=f"{n:032x}", endpoint=f"{receiver.endpoint}?slow")
                for n in range(6)
            ]
            waiting = asyncio.create_task(notify(stub, *slow))
            await until(lambda: len(receiver.requests) == 2)
            other = receiver.endpoint.replace("127.0.0.1", "localhost")
            [told] = await notify(stub, hook(receiver, delivery_id="f" * 32, endpoint=other))
            assert told.outcome == Result.DELIVERED
            assert len(receiver.requests) == 3, "only two are under way to the slow one"
            waiting.cancel()
            await asyncio.wait([waiting])

    run(body())


def test_a_lane_is_a_host(receiver: Receiver) -> None:
    made = plugin(receiver)
    for endpoint, lane in (
        ("https://Example.org/a", "example.org"),
        ("https://example.org:8443/b", "example.org"),
        ("https://[::1]/", "::1"),
        ("nonsense", ""),
    ):
        assert made.lane(Delivery(endpoint=endpoint)) == lane


def test_a_receivers_cookies_are_not_kept(run: Any, receiver: Receiver) -> None:
    async def body() -> None:
        sender = plugin(receiver)
        receiver.answer(Answer(204, headers={"set-cookie": "a=b; Path=/"}))
        for _ in range(2):
            assert (await sender.send(hook(receiver))).outcome == Result.DELIVERED
        await sender.close()

    run(body())
    assert "cookie" not in receiver.requests[1].headers


def test_a_receivers_wish_to_wait_is_passed_on(run: Any, receiver: Receiver) -> None:
    for text, seconds in (
        ("30", 30),
        ("Sun, 22 Nov 2026 14:02:00 GMT", 120),
        ("Sun, 22 Nov 2026 13:00:00 GMT", 0),
        ("9" * 400, 86_400),
        ("soon", 0),
        ("-5", 0),
    ):
        receiver.answer(Answer(503, headers={"retry-after": text}))
        result = run(send_one(receiver))
        assert result.outcome == Result.RETRY
        assert result.retry_after.seconds == seconds, text


def test_a_try_has_the_same_id_and_a_new_time(run: Any, receiver: Receiver) -> None:
    receiver.answer(Answer(503))
    for attempt in (1, 2):
        made = hook(receiver)
        made.attempt = attempt
        run(send_one(receiver, made))
    assert {request.headers["webhook-id"] for request in receiver.requests} == {ID}
    assert all(map(receiver.signed, receiver.requests))


def test_no_answer_after_sending_is_unknown_and_repeated_with_the_same_id(
    run: Any, receiver: Receiver
) -> None:
    receiver.answer(Answer(cut=True))
    assert run(send_one(receiver)).outcome == Result.UNKNOWN
    receiver.answer(Answer(before_s=3))
    result = run(send_one(receiver, limits=Limits(timeouts=Timeouts(answer_s=0.3))))
    assert (result.outcome, result.detail.startswith("no answer")) == (Result.UNKNOWN, True)
    assert Webhook.channels[0].repeats_unknown


def test_a_receiver_that_is_not_there_is_tried_again(run: Any, tmp_path: Path) -> None:
    absent = Receiver(tmp_path)
    result = run(send_one(absent))
    assert (result.outcome, result.detail) == (Result.RETRY, "not connected")


def test_a_receiver_without_a_valid_certificate_gets_nothing(
    run: Any, receiver: Receiver, tmp_path: Path
) -> None:
    other = Receiver(tmp_path / "other")
    assert run(send_one(other, hook(receiver))).outcome == Result.RETRY
    assert not receiver.requests


def test_an_answer_without_end_is_not_read_to_it(run: Any, tmp_path: Path) -> None:
    async def body() -> None:
        async def endless(reader: Any, writer: Any) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n")
            try:
                while True:
                    writer.write(b"x" * 65536)
                    await writer.drain()
            except OSError:
                ended.set()
            finally:
                writer.close()

        ended = asyncio.Event()
        stand_in = Receiver(tmp_path)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        assert stand_in.certificate
        context.load_cert_chain(stand_in.certificate.cert, stand_in.certificate.key)
        server = await asyncio.start_server(endless, "127.0.0.1", 0, ssl=context)
        made = hook(stand_in)
        made.endpoint = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        sender = plugin(stand_in)
        assert (await sender.send(made)).outcome == Result.DELIVERED
        await sender.close()
        await until(ended.is_set)
        server.close()

    run(body())


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "0.0.0.0", "2130706433"],
)  # fmt: skip
def test_a_private_address_is_refused_unless_allowed(
    run: Any, receiver: Receiver, host: str
) -> None:
    made = hook(receiver)
    made.endpoint = f"https://{host}:{receiver.url.rpartition(':')[2]}/hook"
    result = run(send_one(receiver, made, allow_private=False))
    assert result.outcome == Result.REJECTED_MESSAGE
    assert host not in result.detail
    assert not receiver.requests


@pytest.mark.parametrize(
    "endpoint",
    [
        "https:",
        "https://",
        "https:///x",
        "http://example.org/",
        "https://user:pw@example.org/",
        "https://example.org:99999/",
        "https://[::1/",
        "https://exa mple.org/\r\nx: y",
    ],
)
def test_what_is_no_https_url_is_refused(run: Any, receiver: Receiver, endpoint: str) -> None:
    made = hook(receiver)
    made.endpoint = endpoint
    result = run(send_one(receiver, made))
    assert result.outcome == Result.REJECTED_MESSAGE
    assert "example" not in result.detail


def test_an_id_that_would_break_a_header_is_refused(run: Any, receiver: Receiver) -> None:
    made = hook(receiver)
    made.delivery_id = "a\r\nwebhook-signature: v1,x"
    assert run(send_one(receiver, made)).outcome == Result.REJECTED_MESSAGE


def data_of(made: Delivery) -> dict[str, Any]:
    body = render(made, NOW)
    assert body is not None
    assert len(body) <= PAYLOAD_BYTES_MAX
    return dict(json.loads(body)["data"])


def test_a_payload_fits_20_kb_and_leaves_out_whole_parts(receiver: Receiver) -> None:
    many = [message(f"{n} " + "ä" * 1_400) for n in range(10)]
    data = data_of(hook(receiver, *many, html="<p>" * 4_000, body="b" * 100))
    assert "html" not in data
    texts = [one["text"] for one in data["messages"]]
    assert texts == [one.text for one in many][-len(texts) :]
    assert 5 <= len(texts) < 10
    assert data["count"] == 10
    kept = data_of(hook(receiver, message("hi"), html="<p>hi</p>"))
    assert kept["html"] == "<p>hi</p>"
    huge = data_of(
        hook(receiver, message('"' * 30_000), title="t", body="\n" * 9_000 + '"' * 9_000)
    )
    assert "messages" not in huge
    assert huge["body"]
    assert render(hook(receiver, subject="/" + "s" * 30_000), NOW) is None
