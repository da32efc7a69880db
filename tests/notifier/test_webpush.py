"""The Web Push channel against a push service that decrypts and checks what it gets."""

import asyncio
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from services.chassis.errors import Unavailable
from services.notifier import webpush_endpoint
from services.notifier.http_call import Timeouts
from services.notifier.public_address import LOOKUPS_MAX
from services.notifier.results import Result
from services.notifier.vapid import Vapid
from services.notifier.webpush import CROWDED_WAIT_S, HEARD_S, Limits, WebPush
from services.notifier.webpush_rendering import topic
from tests.notifier.deliveries import Delivery, delivery, message
from tests.notifier.mail_server import server_context
from tests.notifier.provider import LOST, SILENT
from tests.notifier.push_server import PushServer
from tests.waiting import until

VAPID = Vapid(ec.generate_private_key(ec.SECP256R1()), "mailto:ops@example.org")


def plugin(*listed: int, limits: Limits | None = None, **options: Any) -> WebPush:
    """It lists the push services of this machine at these ports."""
    services = [f"{host}:{port}" for port in listed for host in ("127.0.0.1", "localhost")]
    return WebPush(VAPID, services, **{"allow_private": True, "limits": limits} | options)


async def send(to: WebPush, endpoint: str, **fields: Any) -> Result:
    made = delivery(message("one"), endpoint=endpoint)
    made.MergeFrom(Delivery(**fields))
    try:
        return await to.send(made)
    finally:
        await to.close()


def test_a_browser_can_read_it_and_the_push_service_knows_who_sends(run: Any) -> None:
    with PushServer() as server:
        server.sender = VAPID.public_key
        result = run(
            send(
                plugin(server.port),
                server.subscribe(),
                title="Bob",
                body="Grüße",
                priority=Delivery.HIGH,
            )
        )
        assert result.outcome == Result.ACCEPTED
        (push,) = server.received
        assert (push.payload["title"], push.payload["body"]) == ("Bob", "Grüße")
        assert (push.topic, push.urgency, push.ttl) == (topic("/chat/1"), "high", 86_400)


def test_the_largest_payload_is_taken(run: Any) -> None:
    with PushServer() as server:
        result = run(send(plugin(server.port), server.subscribe(), title="Bob", body="ä" * 9_000))
        assert result.outcome == Result.ACCEPTED
        assert server.received[0].payload["body"].endswith("…")


@pytest.mark.parametrize(
    ("status", "headers", "listed", "unlisted", "after_s"),
    [
        (404, {}, Result.ENDPOINT_GONE, Result.ENDPOINT_GONE, 0),
        (410, {}, Result.ENDPOINT_GONE, Result.ENDPOINT_GONE, 0),
        (429, {"retry-after": "7"}, Result.RETRY, Result.RETRY, 7),
        (429, {}, Result.RETRY, Result.RETRY, 10),
        (500, {}, Result.RETRY, Result.RETRY, 10),
        (503, {}, Result.RETRY, Result.RETRY, 10),
        (503, {"retry-after": "3"}, Result.RETRY, Result.RETRY, 3),
        (400, {}, Result.MISCONFIGURED, Result.REJECTED_MESSAGE, 0),
        (401, {"retry-after": "2"}, Result.MISCONFIGURED, Result.RETRY, 2),
        (403, {"retry-after": "2"}, Result.MISCONFIGURED, Result.RETRY, 2),
        (413, {}, Result.REJECTED_MESSAGE, Result.REJECTED_MESSAGE, 0),
        (LOST, {}, Result.UNKNOWN, Result.UNKNOWN, 0),
    ],
)
def test_an_answer_gives_its_result_at_the_first_try(
    run: Any, status: int, headers: Any, listed: int, unlisted: int, after_s: int
) -> None:
    for is_listed, outcome in ((True, listed), (False, unlisted)):
        with PushServer() as server:
            server.answer(status, b"<html>", headers)
            result = run(send(plugin(*[server.port] * is_listed), server.subscribe()))
            assert result.outcome == outcome, result
            assert result.retry_after.seconds == (after_s if outcome == Result.RETRY else 0)
            assert len(server.requests) == 1  # nothing is repeated here


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(run: Any, status: int) -> None:
    with PushServer() as server, PushServer() as other:
        server.answer(status, headers={"location": f"{other.url}/wpush/v2/browser-1"})
        result = run(send(plugin(server.port), server.subscribe()))
        assert result.outcome == Result.REJECTED_MESSAGE
        assert (len(server.requests), other.requests) == (1, [])
        server.answer(status, headers={"location": f"{other.url}/wpush/v2/browser-1"})
        assert run(send(plugin(), server.subscribe())).outcome == Result.RETRY
        assert (len(server.requests), other.requests) == (2, [])


def test_once_a_listed_service_accepted_anything_its_blame_costs_one_delivery(run: Any) -> None:
    async def body() -> list[int]:
        to = plugin(server.port)
        outcomes = []
        for status in (201, 401, 204, 201, 400, 401, 403):
            own = other if status == 201 and not outcomes else server
            own.answer(status)
            made = delivery(message("x"), endpoint=own.subscribe())
            outcomes.append((await to.send(made)).outcome)
        await to.close()
        return outcomes

    with PushServer() as server, PushServer() as other:
        # The first is accepted by one that is not listed, which proves nothing.
        assert run(body()) == [
            Result.ACCEPTED,
            Result.MISCONFIGURED,
            Result.ACCEPTED,
            Result.ACCEPTED,
            Result.REJECTED_MESSAGE,
            Result.RETRY,
            Result.RETRY,
        ]


def test_what_one_service_accepted_proves_nothing_to_another_that_may_be_stricter(run: Any) -> None:
    async def body() -> None:
        to = plugin(lax.port, strict.port)

        async def said(of: PushServer, status: int) -> Result:
            of.answer(status)
            return await to.send(delivery(message("x"), endpoint=of.subscribe()))

        assert (await said(lax, 201)).outcome == Result.ACCEPTED
        for status in (400, 401, 403):
            assert (await said(strict, status)).outcome == Result.MISCONFIGURED
        assert (await said(strict, 201)).outcome == Result.ACCEPTED
        refused = await said(strict, 403)
        assert (refused.outcome, refused.retry_after.seconds) == (Result.RETRY, 600)
        await to.close()

    with PushServer() as lax, PushServer() as strict:
        run(body())


def test_hosts_below_one_pattern_prove_for_each_other(run: Any) -> None:
    async def body() -> None:
        to = WebPush(VAPID, [f"*:{server.port}"], True)
        for host, status, outcome in (
            ("localhost", 403, Result.MISCONFIGURED),
            ("127.0.0.1", 201, Result.ACCEPTED),
            ("localhost", 403, Result.RETRY),
        ):
            server.answer(status)
            endpoint = server.subscribe(url=f"http://{host}:{server.port}")
            assert (await to.send(delivery(message("x"), endpoint=endpoint))).outcome == outcome
        await to.close()
        server.faults.clear()  # It knows itself by one of the two names only.

    with PushServer() as server:
        run(body())


def test_another_port_of_a_listed_host_is_not_believed(run: Any) -> None:
    with PushServer() as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        elsewhere = server.subscribe(url=f"http://127.0.0.1:{closed.getsockname()[1]}")
        for services in (["127.0.0.1"], [f"127.0.0.1:{server.port}0"], []):
            server.answer(403)
            result = run(send(WebPush(VAPID, services, True), server.subscribe()))
            assert result.outcome == Result.RETRY
            assert run(send(WebPush(VAPID, services, True), elsewhere)).outcome == Result.RETRY


def test_a_host_that_is_not_there_stops_nobody_though_a_pattern_lists_it(run: Any) -> None:
    with PushServer() as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        endpoint = server.subscribe(url=f"http://127.0.0.1:{port}")
        for services in ([f"*:{port}"], [f"*.0.0.1:{port}"]):
            to = WebPush(VAPID, services, True)
            assert run(send(to, endpoint)).outcome == Result.RETRY


def test_while_a_listed_service_answers_another_that_is_away_stops_nobody(run: Any) -> None:
    now = datetime.now(UTC)  # of the claim, which the service checks

    async def body() -> None:
        nonlocal now
        port = closed.getsockname()[1]
        to = plugin(server.port, port, now=lambda: now)
        away = delivery(message("x"), endpoint=server.subscribe(url=f"http://127.0.0.1:{port}"))
        server.answer(500)
        await to.send(delivery(message("x"), endpoint=server.subscribe()))
        assert (await to.send(away)).outcome == Result.RETRY
        now += timedelta(seconds=HEARD_S + 1)
        with pytest.raises(Unavailable):
            await to.send(away)
        await to.close()

    with PushServer() as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        run(body())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::1]"])
def test_an_own_address_is_never_asked_unless_allowed(
    run: Any, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    async def body() -> Result:
        connected = []
        server = await asyncio.start_server(
            lambda reader, writer: connected.append(writer.close()), "127.0.0.1", 0
        )
        async with server:
            port = server.sockets[0].getsockname()[1]
            monkeypatch.setattr(webpush_endpoint, "PORTS", {port})
            with PushServer() as keys:
                endpoint = keys.subscribe(url=f"https://{host}:{port}")
                result = await send(plugin(allow_private=False), endpoint)
            assert connected == []
            return result

    result = run(body())
    assert result.outcome == Result.REJECTED_MESSAGE
    assert result.detail == "the push service's address is not public"


@pytest.mark.parametrize(
    "endpoint", ["webpush:", "webpush:e30", "webpush:" + "A" * 10_000, "webpush:{}"]
)
def test_what_is_no_subscription_is_refused(run: Any, endpoint: str) -> None:
    result = run(send(plugin(), endpoint))
    assert result.outcome == Result.REJECTED_MESSAGE


def test_http_is_refused_unless_private_is_allowed(run: Any) -> None:
    with PushServer() as server:
        result = run(send(plugin(allow_private=False), server.subscribe()))
        assert result.outcome == Result.REJECTED_MESSAGE
        assert "not https:" in result.detail
        assert server.requests == []


def test_a_listed_service_that_cannot_be_reached_is_the_networks_fault(run: Any) -> None:
    with PushServer() as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = server.subscribe(url=f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(Unavailable):
            run(send(plugin(closed.getsockname()[1]), endpoint))
        assert run(send(plugin(), endpoint)).outcome == Result.RETRY


def test_a_name_that_is_not_found_is_tried_again(run: Any) -> None:
    with PushServer() as server:
        endpoint = server.subscribe(url="https://host.invalid")
        assert run(send(plugin(), endpoint)).outcome == Result.RETRY


def test_over_tls_the_certificate_is_checked(run: Any, tmp_path: Path) -> None:
    with PushServer(tls=server_context(tmp_path)) as server:
        endpoint = server.subscribe()
        assert run(send(plugin(server.port), endpoint)).outcome == Result.RETRY
        assert server.requests == []
        trusting = ssl.create_default_context(cafile=str(tmp_path / "server.pem"))
        assert run(send(plugin(verify=trusting), endpoint)).outcome == Result.ACCEPTED


def test_silence_leaves_the_outcome_unknown(run: Any) -> None:
    with PushServer() as server:
        server.answer(SILENT)
        limits = Limits(timeouts=Timeouts(answer_s=0.3))
        assert run(send(plugin(limits=limits), server.subscribe())).outcome == Result.UNKNOWN


def test_an_answer_that_drips_for_ever_is_given_up(run: Any) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            while not writer.is_closing():
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.02)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        writer.close()

    async def body() -> Result:
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            with PushServer() as keys:
                limits = Limits(timeouts=Timeouts(answer_s=5, whole_s=0.5))
                return await send(
                    plugin(limits=limits), keys.subscribe(url=f"http://127.0.0.1:{port}")
                )

    assert run(body()).outcome == Result.UNKNOWN


def test_slow_services_that_are_not_listed_do_not_hold_up_those_that_are(run: Any) -> None:
    async def body() -> None:
        limits = Limits(connections=4, unlisted=2, timeouts=Timeouts(answer_s=10))
        to = WebPush(VAPID, [f"127.0.0.1:{good.port}"], True, limits)
        slow = good.subscribe("slow", url=bad.url.replace("127.0.0.1", "localhost"))
        for _ in range(2):
            bad.answer(SILENT)
        waiting = [
            asyncio.create_task(to.send(delivery(message("x"), endpoint=slow))) for _ in range(2)
        ]
        await until(lambda: len(bad.requests) == 2)
        third = await to.send(delivery(message("x"), endpoint=slow))
        assert third.outcome == Result.RETRY
        assert third.retry_after.seconds == CROWDED_WAIT_S
        fourth = await to.send(delivery(message("x"), endpoint=good.subscribe()))
        assert fourth.outcome == Result.ACCEPTED
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        bad.browsers["slow"] = good.browsers["slow"]
        bad.faults.clear()
        # Their turns are free again.
        assert (await to.send(delivery(message("x"), endpoint=slow))).outcome != Result.RETRY
        await to.close()
        bad.faults.clear()

    with PushServer() as good, PushServer() as bad:
        run(body())


def test_no_cookie_is_kept(run: Any) -> None:
    async def body() -> None:
        to = plugin()
        for _ in range(2):
            server.answer(201, headers={"set-cookie": "a=b; Path=/"})
            await to.send(delivery(message("x"), endpoint=endpoint))
        await to.close()

    with PushServer() as server:
        endpoint = server.subscribe()
        run(body())
        assert len(server.requests) == 2
        assert all("cookie" not in got.headers for got in server.requests)


def test_names_that_nobody_answers_for_do_not_hold_up_listed_services(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    look_up = socket.getaddrinfo

    def slow(host: str, *arguments: Any, **options: Any) -> Any:
        if host.endswith(".slow.example"):
            let_go.wait(20)
            raise socket.gaierror("no such name")
        return look_up(host, *arguments, **options)

    async def body() -> None:
        limits = Limits(connections=32, unlisted=16)
        to = WebPush(VAPID, [f"127.0.0.1:{server.port}"], True, limits)
        stuck = [
            server.subscribe("stuck", url=f"https://{n}.slow.example")
            for n in range(LOOKUPS_MAX + 2)
        ]
        waiting = [
            asyncio.create_task(to.send(delivery(message("x"), endpoint=endpoint)))
            for endpoint in stuck
        ]
        await asyncio.sleep(0)
        sent = await to.send(delivery(message("x"), endpoint=server.subscribe()))
        assert sent.outcome == Result.ACCEPTED
        assert not any(task.done() for task in waiting)
        let_go.set()
        assert {result.outcome for result in await asyncio.gather(*waiting)} == {Result.RETRY}
        await to.close()

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with PushServer() as server:
        run(body())
