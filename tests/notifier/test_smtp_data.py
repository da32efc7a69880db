"""A message given to a real SMTP server, and whether TCP looks if the server is still there."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest
import uvloop

from services.notifier import smtp_data
from services.notifier.email import Email, Limits
from services.notifier.email_rendering import Sender
from services.notifier.results import Result
from services.notifier.smtp_url import parse
from tests.notifier.deliveries import delivery, message
from tests.notifier.mail_server import Mailbox, running, server_context

KEPT_ALIVE = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 30,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 10,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 3,
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 60_000,
}


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        (b"", b"\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a\nb\rc\r\n", b"a\r\nb\r\nc\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\nMAIL FROM:<x>\r\n", b"a\r\n..\r\nMAIL FROM:<x>\r\n.\r\n"),
        (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r.\rb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a.\r\n..b", b"a.\r\n...b\r\n.\r\n"),
    ],
)
def test_no_line_of_a_message_ends_it_early(written: bytes, sent: bytes) -> None:
    assert smtp_data.quoted(written) == sent


def test_a_server_reads_what_was_written(run: Callable[..., Any]) -> None:
    async def body() -> None:
        async with running(Mailbox()) as mailbox:
            smtp = aiosmtplib.SMTP(hostname="127.0.0.1", port=mailbox.port, start_tls=False)
            async with smtp:
                await smtp.mail("onward@example.org")
                await smtp.rcpt("ann@example.org")
                await smtp_data.ask(smtp)
                reply = await smtp_data.give(smtp, b"Subject: x\r\n\r\n.\r\n..a\r\n", 20)
                assert (reply.code, reply.message) == (250, "2.0.0 Ok: queued as 4F2A")
            [received] = mailbox.received
            assert received.get_content().splitlines() == [".", "..a"]

    run(body())


async def sent_over(port: int, url: str) -> dict[tuple[int, int], int]:
    """Sends one; the options of the socket that it went over."""
    plugin = Email(parse(url.format(port)), Sender("onward@example.org", "Onward"), Limits())
    assert (await plugin.send(delivery(message("one")))).outcome == Result.ACCEPTED
    [kept] = plugin._idle
    used = kept.smtp.get_transport_info("socket")
    found = {option: used.getsockopt(*option) for option in KEPT_ALIVE}
    await plugin.close()
    return found


@pytest.mark.parametrize("of_uvloop", [False, True])
def test_a_server_that_vanishes_is_found_out_within_a_minute(of_uvloop: bool) -> None:
    async def body() -> None:
        async with running(Mailbox()) as mailbox, asyncio.timeout(20):
            assert await sent_over(mailbox.port, "smtp://127.0.0.1:{}") == KEPT_ALIVE

    if of_uvloop:
        uvloop.run(body())
    else:
        asyncio.run(body())


@pytest.mark.parametrize("url", ["smtps://127.0.0.1:{}", "smtp://127.0.0.1:{}?starttls=required"])
def test_so_it_is_under_tls(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str
) -> None:
    own = server_context(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))

    async def body() -> None:
        options = {"tls": own} if url.startswith("smtps:") else {"tls_context": own}
        async with running(Mailbox(), **options) as mailbox:
            assert await sent_over(mailbox.port, url) == KEPT_ALIVE

    run(body())
