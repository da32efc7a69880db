"""The e-mail channel against a real SMTP server."""

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.notifier.email import Email, Limits
from services.notifier.email_rendering import Sender
from services.notifier.results import Result
from services.notifier.smtp_url import parse
from tests.notifier.deliveries import ID, delivery, message
from tests.notifier.mail_server import Mailbox, only, running, server_context
from tests.waiting import until

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
SENDER = Sender("onward@example.org", "Onward")


def email(port: int, options: str = "", login: str = "", limits: Limits | None = None) -> Email:
    server = parse(f"smtp://{login}127.0.0.1:{port}{options}")
    return Email(server, SENDER, limits or Limits(reply_s=2), lambda: NOW)


async def send_one(mailbox: Mailbox, **options: Any) -> Result:
    """The verdict on one delivery to the server of `mailbox`."""
    async with running(mailbox):
        plugin = email(mailbox.port, **options)
        try:
            return await plugin.send(delivery(message("one")))
        finally:
            await plugin.close()


def test_an_email_is_handed_over_with_its_queue_name(run: Any) -> None:
    mailbox = Mailbox()
    result = run(send_one(mailbox))
    assert (result.outcome, result.provider_id) == (Result.ACCEPTED, "4F2A")
    assert mailbox.recipients == ["ann@example.org"]
    assert mailbox.received[0]["Message-ID"] == f"<{ID}@example.org>"
    assert "one" in mailbox.received[0].get_content()


@pytest.mark.parametrize(
    ("script", "outcome", "detail"),
    [
        ({"rcpt": ["550 5.1.1 unknown"]}, Result.ENDPOINT_GONE, "recipient 550 5.1.1"),
        ({"rcpt": ["556 5.1.10 null MX"]}, Result.ENDPOINT_GONE, "recipient 556 5.1.10"),
        ({"rcpt": ["550 5.7.1 denied"]}, Result.MISCONFIGURED, "recipient 550 5.7.1"),
        ({"rcpt": ["553 bad name"]}, Result.REJECTED_MESSAGE, "recipient 553"),
        ({"rcpt": ["451 4.7.1 later"]}, Result.RETRY, "recipient 451 4.7.1"),
        ({"mail": ["451 busy"]}, Result.RETRY, "sender 451"),
        ({"mail": ["550 5.1.8 who"]}, Result.MISCONFIGURED, "sender 550 5.1.8"),
        ({"start": ["451 4.3.0 later"]}, Result.RETRY, "start 451 4.3.0"),
        ({"start": ["554 5.5.1 nobody"]}, Result.REJECTED_MESSAGE, "start 554 5.5.1"),
        ({"start": ["250 what"]}, Result.RETRY, "start 250"),
        ({"data": ["451 4.3.0 later"]}, Result.RETRY, "data 451 4.3.0"),
        ({"data": ["554 5.6.0 odd"]}, Result.REJECTED_MESSAGE, "data 554 5.6.0"),
        ({"data": ["550 5.1.1 unknown"]}, Result.ENDPOINT_GONE, "data 550 5.1.1"),
        ({"data": ["lost"]}, Result.UNKNOWN, "the connection was lost after DATA"),
    ],
)
def test_a_reply_gives_its_verdict(run: Any, script: Any, outcome: int, detail: str) -> None:
    mailbox = Mailbox(**script)
    result = run(send_one(mailbox))
    assert (result.outcome, result.detail) == (outcome, detail)
    assert result.retry_after.seconds == (300 if outcome == Result.RETRY else 0)
    assert not mailbox.received


def test_a_server_silent_after_data_leaves_the_outcome_unknown(run: Any) -> None:
    limits = Limits(reply_s=0.3, data_reply_s=0.3)
    result = run(send_one(Mailbox(data=["silent"]), limits=limits))
    assert result.outcome == Result.UNKNOWN


@pytest.mark.parametrize("start", ["silent", "lost"])
def test_a_server_that_never_asks_for_the_message_is_waited_for_as_at_any_command_and_has_nothing(
    run: Any, start: str
) -> None:
    mailbox = Mailbox(start=[start])

    async def body() -> None:
        async with running(mailbox), asyncio.timeout(20):
            plugin = email(mailbox.port, limits=Limits(reply_s=0.3, data_reply_s=600))
            result = await plugin.send(delivery(message("one")))
            assert (result.outcome, result.detail) == (
                Result.RETRY,
                "the connection was lost at start",
            )
            # Nor does it get the next one over that connection.
            assert (await plugin.send(delivery(message("two")))).outcome == Result.ACCEPTED
            assert mailbox.connections == 2
            assert len(mailbox.received) == 1
            await plugin.close()

    run(body())


def test_the_reply_to_a_message_may_take_longer_than_others(run: Any) -> None:
    mailbox = Mailbox(data=["slow"])
    result = run(send_one(mailbox, limits=Limits(reply_s=0.2, data_reply_s=20)))
    assert result.outcome == Result.ACCEPTED
    assert len(mailbox.received) == 1


def test_the_reply_is_waited_for_ten_minutes_unless_the_mail_expires_before(run: Any) -> None:
    assert email(1, limits=Limits()).extra_s == 600
    mailbox = Mailbox(data=["silent"])
    made = delivery(message("one"))
    made.expires_at.FromDatetime(NOW + timedelta(seconds=1))

    async def body() -> None:
        async with running(mailbox):
            plugin = email(mailbox.port, limits=Limits(reply_s=0.3))
            async with asyncio.timeout(20):
                assert (await plugin.send(made)).outcome == Result.UNKNOWN
            await plugin.close()

    run(body())


def test_a_refused_connection_is_tried_again(run: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        result = run(email(closed.getsockname()[1]).send(delivery(message())))
    assert result.outcome == Result.PROVIDER_UNAVAILABLE


def test_a_server_that_greets_no_one_is_tried_again(run: Any) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        plugin = email(mute.getsockname()[1], limits=Limits(reply_s=0.2))
        assert run(plugin.send(delivery(message()))).outcome == Result.PROVIDER_UNAVAILABLE


@pytest.mark.parametrize(
    "endpoint",
    ["mailto:", "mailto:a@b.c,d@e.f", "mailto:a%0d%0aBcc:e@f.g", "mailto:a@b.c?cc=d@e.f"],
)
def test_an_odd_address_is_refused_without_a_connection(run: Any, endpoint: str) -> None:
    result = run(email(1).send(delivery(message(), endpoint=endpoint)))
    assert result.outcome == Result.REJECTED_MESSAGE
    assert "@" not in result.detail


def test_a_connection_is_kept_for_the_next_delivery(run: Any) -> None:
    async def body() -> None:
        async with running(Mailbox(rcpt=["550 5.1.1 gone"])) as mailbox:
            plugin = email(mailbox.port)
            outcomes = [(await plugin.send(delivery(message()))).outcome for _ in range(3)]
            assert outcomes == [Result.ENDPOINT_GONE, Result.ACCEPTED, Result.ACCEPTED]
            assert mailbox.connections == 1
            await plugin.close()

    run(body())


def test_a_kept_connection_that_was_closed_is_replaced(run: Any) -> None:
    async def body() -> None:
        async with running(Mailbox()) as mailbox:
            plugin = email(mailbox.port)
            await plugin.send(delivery(message("one")))
            mailbox.transports[0].abort()
            assert (await plugin.send(delivery(message("two")))).outcome == Result.ACCEPTED
            assert len(mailbox.received) == mailbox.connections == 2
            await plugin.close()

    run(body())


def test_a_connection_is_closed_after_its_uses_and_when_idle(run: Any) -> None:
    async def body() -> None:
        async with running(Mailbox()) as mailbox:
            for limits in (Limits(uses_max=1), Limits(idle_s=0)):
                plugin = email(mailbox.port, limits=limits)
                before = mailbox.connections
                for _ in range(2):
                    await plugin.send(delivery(message()))
                assert mailbox.connections == before + 2
                await plugin.close()

    run(body())


def test_starttls_is_used_when_required(run: Any, tmp_path: Path) -> None:
    async def body() -> None:
        options = {"tls_context": server_context(tmp_path), "require_starttls": True}
        async with running(Mailbox(), **options) as mailbox:
            plugin = email(mailbox.port, "?starttls=required")
            assert (await plugin.send(delivery(message()))).outcome == Result.ACCEPTED
            plugin_auto = email(mailbox.port)
            assert (await plugin_auto.send(delivery(message()))).outcome == Result.ACCEPTED
            assert mailbox.over_tls == [True, True]
            plugin_clear = email(mailbox.port, "?starttls=no")
            refused = await plugin_clear.send(delivery(message()))
            assert refused.outcome == Result.MISCONFIGURED
            for used in (plugin, plugin_auto, plugin_clear):
                await used.close()

    run(body())


def test_a_server_without_starttls_is_refused_when_it_is_required(run: Any) -> None:
    mailbox = Mailbox()
    assert run(send_one(mailbox, options="?starttls=required")).outcome == Result.MISCONFIGURED
    assert not mailbox.received


def test_a_certificate_that_nobody_vouches_for_is_refused(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Loopback is exempt from checking, so for this test it is not loopback.
    monkeypatch.setattr("services.notifier.smtp_url.is_loopback", lambda host: False)

    async def body() -> None:
        async with running(Mailbox(), tls_context=server_context(tmp_path)) as mailbox:
            result = await email(mailbox.port, "?starttls=required").send(delivery(message()))
            assert result.outcome == Result.MISCONFIGURED
            assert not mailbox.received

    run(body())


def test_right_credentials_are_taken_and_wrong_ones_are_our_setup(run: Any) -> None:
    async def body() -> None:
        options: dict[str, Any] = {
            "authenticator": only("onward", "pass word"),
            "auth_required": True,
            "auth_require_tls": False,
        }
        async with running(Mailbox(), **options) as mailbox:
            good = email(mailbox.port, login="onward:pass%20word@")
            assert (await good.send(delivery(message()))).outcome == Result.ACCEPTED
            wrong = await email(mailbox.port, login="onward:wrong@").send(delivery(message()))
            assert wrong.outcome == Result.MISCONFIGURED
            assert wrong.detail.startswith("session 535")
            none = email(mailbox.port)
            assert (await none.send(delivery(message()))).outcome == Result.MISCONFIGURED
            assert len(mailbox.received) == 1
            await good.close()
            await none.close()

    run(body())


def test_a_login_that_was_refused_is_not_tried_for_each_delivery_of_a_batch(run: Any) -> None:
    async def body() -> None:
        options: dict[str, Any] = {
            "authenticator": only("onward", "pass word"),
            "auth_required": True,
            "auth_require_tls": False,
        }
        async with running(Mailbox(), **options) as mailbox:
            limits = Limits(refused_s=0.3)
            wrong = email(mailbox.port, login="onward:wrong@", limits=limits)
            batch = [await wrong.send(delivery(message())) for _ in range(20)]
            assert {one.outcome for one in batch} == {Result.MISCONFIGURED}
            assert mailbox.connections == 1

            async def asked_again() -> bool:
                await wrong.send(delivery(message()))
                return mailbox.connections == 2

            await until(asked_again)
            await wrong.close()

    run(body())


def test_a_server_without_authentication_is_our_setup(run: Any) -> None:
    mailbox = Mailbox()
    result = run(send_one(mailbox, login="onward:pw@"))
    assert result.outcome == Result.MISCONFIGURED
    assert not mailbox.received


def test_sends_side_by_side_have_a_connection_each(run: Any) -> None:
    async def body() -> None:
        async with running(Mailbox()) as mailbox:
            plugin = email(mailbox.port)
            made = [plugin.send(delivery(message(str(n)))) for n in range(3)]
            outcomes = {result.outcome for result in await asyncio.gather(*made)}
            assert outcomes == {Result.ACCEPTED}
            assert mailbox.connections == 3
            await plugin.close()
            await until(lambda: all(t.is_closing() for t in mailbox.transports))

    run(body())
