"""A real SMTP server (aiosmtpd) in the test's own event loop, whose replies a test scripts."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Mailbox:
    """What the server does, and what came of it. Scripted replies are used up one by one."""

    port: int = 0
    mail: list[str] = field(default_factory=list)  # replies to MAIL; empty: 250
    rcpt: list[str] = field(default_factory=list)
    # To DATA, in the stead of 354. "lost": close instead; "silent": say nothing
    start: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    # After the message. "lost": close instead; "silent": say nothing; "slow": 250, after a second
    received: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    connections: int = 0
    over_tls: list[bool] = field(default_factory=list)
    transports: list[Any] = field(default_factory=list)

    async def handle_MAIL(self, server: SMTP, session: Any, envelope: Any, address: str, options: Any) -> str:  # fmt: skip  # noqa: E501
        if self.mail:
            return self.mail.pop(0)
        envelope.mail_from = address
        return "250 2.1.0 Ok"

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: Any) -> str:  # fmt: skip  # noqa: E501
        if self.rcpt:
            return self.rcpt.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        reply = self.data.pop(0) if self.data else "250 2.0.0 Ok: queued as 4F2A"
        if reply == "lost":
            server.transport.abort()
            return "250 lost"
        if reply == "silent":
            await asyncio.sleep(30)
        if reply == "slow":
            await asyncio.sleep(1)
            reply = "250 2.0.0 Ok: queued as 4F2A"
        if reply.startswith("2"):
            self.received.append(message_from_bytes(envelope.content, policy=policy.SMTP))
            self.recipients += envelope.rcpt_tos
            self.over_tls.append(session.ssl is not None)
        return reply


class _Recording(SMTP):
    def connection_made(self, transport: Any) -> None:
        self.event_handler.connections += 1
        if transport.get_extra_info("sslcontext") is None:
            # After STARTTLS the first transport carries the second: aborting it ends both.
            self.event_handler.transports.append(transport)
        super().connection_made(transport)

    async def smtp_DATA(self, arg: str) -> None:
        start = self.event_handler.start.pop(0) if self.event_handler.start else ""
        if start == "lost":
            self.transport.abort()
        elif start == "silent":
            await asyncio.sleep(30)
        elif start:
            await self.push(start)
        else:
            await super().smtp_DATA(arg)


@asynccontextmanager
async def running(
    mailbox: Mailbox, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[Mailbox]:
    """The server on a free port of 127.0.0.1. `tls`: from the first byte; `options` are
    aiosmtpd's."""
    loop = asyncio.get_running_loop()
    tasks_before = asyncio.all_tasks()
    server = await loop.create_server(
        lambda: _Recording(mailbox, loop=loop, hostname="localhost", **options),
        "127.0.0.1",
        0,
        ssl=tls,
    )
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        server.close()
        for transport in mailbox.transports:
            transport.abort()
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - tasks_before:
            task.cancel()


def only(user: str, password: str) -> Any:
    """An authenticator that lets in one user."""

    def check(server: Any, session: Any, envelope: Any, mechanism: str, login: Any) -> AuthResult:
        good = login.login == user.encode() and login.password == password.encode()
        # Not handled: aiosmtpd itself answers 535 to what is wrong.
        return AuthResult(success=good, handled=False)

    return check


def server_context(folder: Path) -> ssl.SSLContext:
    """A TLS context with a self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    loopback = x509.IPAddress(ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([loopback]), False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    return context
