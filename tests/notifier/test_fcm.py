"""The FCM channel against a fake that checks each request by Google's published schema."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from services.chassis.errors import Unavailable
from services.notifier.fcm import Fcm, Limits
from services.notifier.google_credentials import read_service_account
from services.notifier.http_call import Timeouts
from services.notifier.results import Result
from tests.notifier.deliveries import delivery, message
from tests.notifier.fake_fcm import PROJECT, FakeFcm, error, fcm_error, violation
from tests.notifier.mail_server import server_context
from tests.notifier.provider import LOST, SILENT

HTML = {"content-type": "text/html"}
TO = "fcm:device-1"


# A busy machine may take longer than a provider may.
PATIENT = {"connect_s": 30.0, "turn_s": 30.0, "answer_s": 30.0, "whole_s": 50.0}


def fcm(fake: FakeFcm, folder: Path, url: str = "", **timeouts: float) -> Fcm:
    account = read_service_account(str(fake.credentials(folder)), "X")
    return Fcm(account, url or fake.url, Limits(timeouts=Timeouts(**PATIENT | timeouts)))


async def send(plugin: Fcm, endpoint: str = TO) -> Result:
    try:
        return await plugin.send(delivery(message("one"), endpoint=endpoint))
    finally:
        await plugin.close()


def test_a_notification_is_handed_over_and_gets_fcms_name(run: Any, tmp_path: Path) -> None:
    with FakeFcm() as fake:
        result = run(send(fcm(fake, tmp_path)))
        assert result.outcome == Result.ACCEPTED
        assert result.provider_id.startswith(f"projects/{PROJECT}/messages/")
        assert fake.messages[0]["token"] == "device-1"
        assert fake.messages[0]["notification"]["body"] == "one"


@pytest.mark.parametrize(
    ("status", "body", "headers", "outcome", "after_s"),
    [
        (404, error(404, "NOT_FOUND", fcm_error("UNREGISTERED")).body, {},
         Result.ENDPOINT_GONE, 0),
        (400, error(400, "INVALID_ARGUMENT", violation("message.token")).body, {},
         Result.ENDPOINT_GONE, 0),
        (429, error(429, "RESOURCE_EXHAUSTED").body, {"retry-after": "7"}, Result.RETRY, 7),
        (429, error(429, "RESOURCE_EXHAUSTED").body, {}, Result.RETRY, 60),
        (500, error(500, "INTERNAL").body, {}, Result.RETRY, 10),
        (503, error(503, "UNAVAILABLE").body, {"retry-after": "3"}, Result.RETRY, 3),
        (503, error(503, "UNAVAILABLE").body, {}, Result.RETRY, 10),
        (502, b"<html>Bad Gateway</html>", HTML, Result.RETRY, 10),
        (404, error(404, "NOT_FOUND").body, {}, Result.MISCONFIGURED, 0),
        (404, b"<html>Not Found</html>", HTML, Result.MISCONFIGURED, 0),
        (403, error(403, "PERMISSION_DENIED", fcm_error("SENDER_ID_MISMATCH")).body, {},
         Result.MISCONFIGURED, 0),
        (401, error(401, "UNAUTHENTICATED", fcm_error("THIRD_PARTY_AUTH_ERROR")).body, {},
         Result.MISCONFIGURED, 0),
        (400, error(400, "INVALID_ARGUMENT", violation("message.data")).body, {},
         Result.REJECTED_MESSAGE, 0),
        (400, b"<html>Bad Request</html>", HTML, Result.REJECTED_MESSAGE, 0),
        (302, b"", {"location": "https://example.org/"}, Result.MISCONFIGURED, 0),
        (LOST, b"", {}, Result.UNKNOWN, 0),
    ],
)  # fmt: skip
def test_an_answer_gives_its_result_at_the_first_try(
    run: Any, tmp_path: Path, status: int, body: bytes, headers: Any, outcome: int, after_s: int
) -> None:
    with FakeFcm() as fake:
        fake.answer(status, body, headers)
        result = run(send(fcm(fake, tmp_path)))
        assert result.outcome == outcome, result
        assert result.retry_after.seconds == after_s
        assert len(fake.requests) == 1  # nothing is repeated here


def test_a_token_of_another_project_fails_alone_once_anything_was_accepted(
    run: Any, tmp_path: Path
) -> None:
    mismatch = error(403, "PERMISSION_DENIED", fcm_error("SENDER_ID_MISMATCH")).body

    async def body() -> list[int]:
        plugin = fcm(fake, tmp_path)
        outcomes: list[int] = []
        try:
            for status in (403, 200, 403):
                if status == 403:
                    fake.answer(403, mismatch, {})
                made = delivery(message("one"), endpoint=TO)
                outcomes.append((await plugin.send(made)).outcome)
        finally:
            await plugin.close()
        return outcomes

    with FakeFcm() as fake:
        assert run(body()) == [Result.MISCONFIGURED, Result.ACCEPTED, Result.REJECTED_MESSAGE]


def test_silence_after_the_request_leaves_the_outcome_unknown(run: Any, tmp_path: Path) -> None:
    with FakeFcm() as fake:
        fake.answer(SILENT)
        result = run(send(fcm(fake, tmp_path, answer_s=0.3)))
        assert result.outcome == Result.UNKNOWN
        assert len(fake.requests) == 1


def test_a_huge_answer_is_not_read_to_its_end(run: Any, tmp_path: Path) -> None:
    with FakeFcm() as fake:
        fake.answer(503, b"x" * 5_000_000)
        assert run(send(fcm(fake, tmp_path))).outcome == Result.RETRY


def test_where_nobody_listens_the_provider_is_unavailable(run: Any, tmp_path: Path) -> None:
    with FakeFcm() as fake, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(Unavailable):
            run(send(fcm(fake, tmp_path, url)))


def test_a_certificate_that_is_not_trusted_is_for_the_operator(run: Any, tmp_path: Path) -> None:
    async def body() -> Result:
        server = await asyncio.start_server(
            lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=server_context(tmp_path)
        )
        async with server:
            url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            return await send(fcm(fake, tmp_path, url))

    with FakeFcm() as fake:
        assert run(body()).outcome == Result.MISCONFIGURED


@pytest.mark.parametrize("endpoint", ["fcm:", "fcm:a b", "fcm:" + "x" * 10_000])
def test_what_is_no_token_is_refused_without_asking(
    run: Any, tmp_path: Path, endpoint: str
) -> None:
    with FakeFcm() as fake:
        result = run(send(fcm(fake, tmp_path), endpoint))
        assert result.outcome == Result.REJECTED_MESSAGE
        assert fake.requests == []
        assert fake.exchanges == 0


def test_a_refused_access_token_is_renewed_once(run: Any, tmp_path: Path) -> None:
    with FakeFcm() as fake:
        fake.answer(401, error(401, "UNAUTHENTICATED").body)
        assert run(send(fcm(fake, tmp_path))).outcome == Result.ACCEPTED
        assert (fake.exchanges, len(fake.requests)) == (2, 2)
    with FakeFcm() as fake:
        fake.answer(401, error(401, "UNAUTHENTICATED").body)
        fake.answer(401, error(401, "UNAUTHENTICATED").body)
        assert run(send(fcm(fake, tmp_path))).outcome == Result.MISCONFIGURED
        assert (fake.exchanges, len(fake.requests)) == (2, 2)


def test_many_sends_share_one_exchange_of_tokens(run: Any, tmp_path: Path) -> None:
    async def body() -> list[Result]:
        plugin = fcm(fake, tmp_path)
        try:
            return await asyncio.gather(
                *(plugin.send(delivery(message("x"), endpoint=TO)) for _ in range(20))
            )
        finally:
            await plugin.close()

    with FakeFcm() as fake:
        assert [r for r in run(body()) if r.outcome != Result.ACCEPTED] == []
        assert (fake.exchanges, len(fake.requests)) == (1, 20)


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, b'{"error": "invalid_grant"}', Result.MISCONFIGURED),
        (401, b"<html>", Result.MISCONFIGURED),
        (200, b"<html>a proxy's page</html>", Result.MISCONFIGURED),
        (200, b'{"access_token": "", "expires_in": -1}', Result.MISCONFIGURED),
        (200, b'{"access_token": 7, "expires_in": 60}', Result.MISCONFIGURED),
        (429, b"", None),
        (503, b"<html>", None),
        (LOST, b"", None),
    ],
)
def test_without_an_access_token_nothing_is_asked_of_fcm(
    run: Any, tmp_path: Path, status: int, body: bytes, outcome: int | None
) -> None:
    with FakeFcm() as fake:
        fake.token_answer(status, body)
        if outcome is None:
            with pytest.raises(Unavailable):
                run(send(fcm(fake, tmp_path)))
        else:
            assert run(send(fcm(fake, tmp_path))).outcome == outcome
        assert (fake.exchanges, fake.requests) == (1, [])


def test_a_refused_key_is_not_shown_a_hundred_times(run: Any, tmp_path: Path) -> None:
    async def body() -> set[int]:
        plugin = fcm(fake, tmp_path)
        try:
            return {
                (await plugin.send(delivery(message("x"), endpoint=TO))).outcome for _ in range(100)
            }
        finally:
            await plugin.close()

    with FakeFcm() as fake:
        for _ in range(100):
            fake.token_answer(400, b"{}")
        assert run(body()) == {Result.MISCONFIGURED}
        assert fake.exchanges <= 3


def test_the_exchange_is_not_ended_by_who_gives_up_waiting(run: Any, tmp_path: Path) -> None:
    async def body() -> Result:
        plugin = fcm(fake, tmp_path)
        first = asyncio.create_task(plugin.send(delivery(message("x"), endpoint=TO)))
        second = asyncio.create_task(plugin.send(delivery(message("y"), endpoint=TO)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        try:
            return await second
        finally:
            await plugin.close()

    with FakeFcm() as fake:
        assert run(body()).outcome == Result.ACCEPTED
        assert fake.exchanges == 1
