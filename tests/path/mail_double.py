"""A real SMTP server (aiosmtpd) with STARTTLS and a login, whose replies are scripted by recipient.

Besides, it can be set up as a server is that refuses its client as a whole. It runs in a thread of
its own.
"""

import asyncio
import email
import email.policy
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from tests.certificates import Files
from tests.notifier.scripts import Scripts
from tests.path.stack import free_port

USER, PASSWORD = "onward", "mail-password"


@dataclass(frozen=True)
class Reply:
    """What is said of one message: at RCPT, or after DATA; LOST there: nothing, and it hangs up."""

    text: str
    at: str = "RCPT"


LOST = Reply("", "LOST")


class MailDouble:
    """`mails` are those it took. `password`: the one that is right; `sender`: a reply to MAIL."""

    def __init__(self, certificate: Files) -> None:
        self.scripts: Scripts[Reply] = Scripts()
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.over_tls: list[bool] = []
        self.password = PASSWORD
        self.sender = ""
        self.logins = 0
        self._said: dict[str, Reply] = {}  # by recipient, between RCPT and DATA
        self._transports: list[Any] = []
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(certificate.cert, certificate.key)
        self._port = free_port()
        self._controller = self._make()

    @property
    def url(self) -> str:
        """For ONWARD_SMTP_URL."""
        return f"smtp://{USER}:{PASSWORD}@127.0.0.1:{self._port}?starttls=required"

    def start(self) -> None:
        self._controller.start()

    def stop(self) -> None:
        """Nobody listens any more, and connections that are kept are closed."""
        self.hang_up()
        self._controller.stop()

    def restart(self) -> None:
        """Listen again."""
        self._controller = self._make()
        self._controller.start()

    def hang_up(self) -> None:
        """End all connections."""

        async def abort() -> None:
            while self._transports:
                self._transports.pop().abort()
            await asyncio.sleep(0)  # Their sockets are closed with the loop's next pass.

        asyncio.run_coroutine_threadsafe(abort(), self._controller.loop).result(10)

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # fmt: skip  # noqa: E501, N802, RUF100
        if self.sender:
            return self.sender
        envelope.mail_from = address
        return "250 2.1.0 Ok"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # fmt: skip  # noqa: E501, N802, RUF100
        said = self.scripts.next(address)
        if said and said.at == "RCPT":
            return said.text
        if said:
            self._said[address] = said
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802, RUF100
        (address,) = envelope.rcpt_tos  # of each recipient its own reply
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.recipients.append(address)
        self.over_tls.append(session.ssl is not None)
        said = self._said.pop(address, None)
        if said is LOST:
            server.transport.abort()
        return said.text if said else "250 2.0.0 Ok: queued as 4F2A"

    def mails_to(self, address: str) -> list[EmailMessage]:
        """Every message that came whole for that address, also those that were then refused."""
        found = zip(self.mails, self.recipients, strict=True)
        return [mail for mail, recipient in found if recipient == address]

    def _login(self, server: Any, session: Any, envelope: Any, how: str, login: Any) -> AuthResult:
        self.logins += 1
        right = (login.login, login.password) == (USER.encode(), self.password.encode())
        return AuthResult(success=right, handled=False)

    def _make(self) -> Controller:
        double = self

        class Recording(SMTP):
            def connection_made(self, transport: Any) -> None:
                double._transports.append(transport)
                super().connection_made(transport)

        class Recorded(Controller):
            def factory(self) -> SMTP:
                return Recording(self.handler, **self.SMTP_kwargs)

        return Recorded(
            self,
            hostname="127.0.0.1",
            port=self._port,
            tls_context=self._tls,
            require_starttls=True,
            authenticator=self._login,
            auth_required=True,
        )
