"""A real SMTP server (aiosmtpd) that keeps what it takes and refuses what it is told to."""

import email
import email.policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

from tests.path.stack import free_port

# What it refuses for now is not left alone for minutes. By itself, since former versions of the
# notifier know no such setting.
SOON_AGAIN = {"ONWARD_NOTIFIER_SMTP_BACK_OFF_S": "0.1"}


class Mailbox:
    """`answers` holds replies to give to the next deliveries, per stage, before it accepts."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refusals: list[str] = []  # replies to DATA, used up in order
        self.unknown_recipients: set[str] = set()
        self.attempts = 0
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port())

    async def handle_RCPT(  # noqa: N802, RUF100 - the name that aiosmtpd looks for
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if address in self.unknown_recipients:
            self.attempts += 1
            return "550 5.1.1 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802, RUF100
        self.attempts += 1
        if self.refusals:
            return self.refusals.pop(0)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        mail["X-Rcpt-To"] = ", ".join(envelope.rcpt_tos)
        self.mails.append(mail)
        return "250 OK"

    def __enter__(self) -> "Mailbox":
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    @property
    def settings(self) -> dict[str, str]:
        """What turns e-mail on in `onward up`, with this server as the relay."""
        assert self._controller.server is not None
        port = self._controller.server.sockets[0].getsockname()[1]
        return {
            "ONWARD_SMTP_URL": f"smtp://127.0.0.1:{port}",
            "ONWARD_SMTP_FROM": "chat@onward.example",
        }

    def bodies(self) -> list[str]:
        """The text of every mail."""
        return [str(mail.get_content()) for mail in self.mails]
