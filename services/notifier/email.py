"""Sends e-mail: the shell around `email_rendering`, on aiosmtplib and `smtp_data`.

One delivery is one SMTP transaction with one recipient, so that each has its own reply. A
connection is kept for the next delivery for a short while. Until the server asks for the message a
lost connection means that nothing was sent; after it, that nobody knows. A server may look at a
message for minutes before it answers (RFC 5321, section 4.5.3.2.6); who hangs up sooner makes it
come twice, so that reply has a limit of its own. Nothing is repeated here, except that a kept
connection which turns out to be closed before the first command is replaced.
"""

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import aiosmtplib
from prometheus_client import Counter

from services.chassis import logs
from services.notifier import results, smtp_data
from services.notifier.email_address import address_of
from services.notifier.email_rendering import Sender, render
from services.notifier.harness import Channel, Delivery, Result
from services.notifier.smtp_url import SmtpServer
from services.notifier.smtp_verdicts import BACK_OFF_S, Stage, verdict

log = logs.get(__name__)
_connections = Counter("onward_notifier_smtp_connections", "Connections opened to the mail server.")
_refusals = Counter(
    "onward_notifier_smtp_refusals", "Connections that came to nothing, by outcome.", ["outcome"]
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of the SMTP client."""

    connections: int = 4  # sends at a time, a connection each; more wait their turn
    reply_s: float = 10.0  # for one reply of the server; longer: as if the connection was lost
    # For the one to a message, though not beyond its expiry; longer: UNKNOWN.
    data_reply_s: float = 600.0
    back_off_s: float = BACK_OFF_S  # until what was refused for now is tried again
    idle_s: float = 20.0  # a kept connection unused for longer is closed
    uses_max: int = 100  # deliveries over one connection, then it is closed
    refused_s: float = 0.2  # a server that refused to talk is not asked again for so long


class Email:
    """The channel `mailto`."""

    name = "email"
    channels = (Channel(scheme="mailto", repeats_unknown=True),)

    def __init__(
        self,
        server: SmtpServer,
        sender: Sender,
        limits: Limits | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._server = server
        self._sender = sender
        self._limits = limits or Limits()
        self._now = now
        self._tls = tls_context(server)
        self._idle: list[_Connection] = []
        self._closed = False
        # The server's last refusal to talk, and until when it is not asked again.
        self._refusal = Result()
        self._refused_until = 0.0
        self.concurrency = self._limits.connections
        self.extra_s = self._limits.data_reply_s

    async def send(self, delivery: Delivery) -> Result:
        """Hand one e-mail to the server."""
        address = address_of(delivery.endpoint)
        if address is None:
            return results.rejected_message("the endpoint is not one plain e-mail address")
        now = self._now()
        message = render(delivery, address, self._sender, now).as_bytes()
        connection = await self._take()
        if isinstance(connection, Result):
            return connection
        try:
            patience_s = _patience_s(delivery, now.timestamp(), self._limits)
            result = await self._transact(connection.smtp, address, message, patience_s)
            await self._keep(connection)
        finally:
            if connection not in self._idle:
                connection.smtp.close()
        return result

    async def close(self) -> None:
        """Close what is kept."""
        self._closed = True
        while self._idle:
            await self._say_goodbye(self._idle.pop())

    async def _take(self) -> "_Connection | Result":
        """A connection that has just answered, or why there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.used_at + self._limits.idle_s > time.monotonic():
                try:
                    await connection.smtp.rset()
                except (aiosmtplib.SMTPException, OSError):
                    pass  # It was closed while it was kept; nothing had been asked of it.
                else:
                    return connection
            connection.smtp.close()
        if time.monotonic() < self._refused_until:
            # The rest of a batch must not knock, or fail to log in, a hundred times.
            return self._refusal
        return await self._connect()

    async def _connect(self) -> "_Connection | Result":
        smtp = aiosmtplib.SMTP(
            hostname=self._server.host,
            port=self._server.port,
            use_tls=self._server.tls,
            start_tls={"required": True, "auto": None, "no": False}[self._server.starttls],
            tls_context=self._tls,
            username=self._server.user or None,
            password=self._server.password or None,
            local_hostname=_greeting_name(),
            timeout=self._limits.reply_s,
        )
        try:
            await smtp.connect()
            smtp_data.keep_alive(smtp)
        except aiosmtplib.SMTPResponseException as error:
            return self._refused(verdict(Stage.SESSION, error.code, error.message))
        except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError):
            return self._refused(results.provider_unavailable("the connection was lost at once"))
        except aiosmtplib.SMTPConnectError as error:
            if isinstance(error.__cause__, ssl.SSLError):
                return self._refused(results.misconfigured("TLS failed, or its certificate"))
            return self._refused(results.provider_unavailable("the server cannot be reached"))
        except ssl.SSLError:
            return self._refused(results.misconfigured("TLS failed, or its certificate"))
        except aiosmtplib.SMTPException:
            # What the library says without a reply code: the server offers no STARTTLS or no
            # authentication, though the settings ask for it.
            return self._refused(results.misconfigured("the server lacks STARTTLS or AUTH"))
        except OSError:
            return self._refused(results.provider_unavailable("the server cannot be reached"))
        _connections.inc()
        return _Connection(smtp)

    def _refused(self, result: Result) -> Result:
        outcome = Result.Outcome.Name(result.outcome)
        log.warning("smtp_not_connected", outcome=outcome, detail=result.detail)
        _refusals.labels(outcome).inc()
        self._refusal, self._refused_until = result, time.monotonic() + self._limits.refused_s
        return result

    async def _transact(
        self, smtp: aiosmtplib.SMTP, address: str, message: bytes, patience_s: float
    ) -> Result:
        """One transaction, to its verdict. `patience_s`: for the reply to the message."""
        stage = Stage.SENDER
        try:
            await smtp.mail(self._sender.address)
            stage = Stage.RECIPIENT
            await smtp.rcpt(address)
            stage = Stage.START
            await smtp_data.ask(smtp)
            stage = Stage.DATA
            reply = await smtp_data.give(smtp, message, patience_s)
        except aiosmtplib.SMTPResponseException as error:
            return verdict(stage, error.code, error.message, self._limits.back_off_s)
        except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError, OSError):
            if stage is Stage.DATA:
                return results.unknown("the connection was lost after DATA")
            if stage is Stage.SENDER:
                return results.provider_unavailable("the connection was lost before a message")
            return results.retry(f"the connection was lost at {stage.value}")
        return results.accepted(provider_id=_queue_id(reply.message), detail=f"data {reply.code}")

    async def _keep(self, connection: "_Connection") -> None:
        connection.uses += 1
        connection.used_at = time.monotonic()
        if not connection.smtp.is_connected or self._closed:
            return
        if connection.uses < self._limits.uses_max:
            self._idle.append(connection)
        else:
            await self._say_goodbye(connection)

    async def _say_goodbye(self, connection: "_Connection") -> None:
        try:
            await connection.smtp.quit(timeout=1)
        except (aiosmtplib.SMTPException, OSError):
            pass  # Politeness only: it is closed either way.
        connection.smtp.close()


class _Connection:
    """A connection to the server, greeted, encrypted and authenticated as set up."""

    __slots__ = ("smtp", "used_at", "uses")

    def __init__(self, smtp: aiosmtplib.SMTP) -> None:
        self.smtp = smtp
        self.used_at = 0.0
        self.uses = 0


def _patience_s(delivery: Delivery, now_s: float, limits: Limits) -> float:
    """How long the reply to the message is waited for: not longer than anybody wants the mail, but
    never shorter than for other replies."""
    left_s = limits.data_reply_s
    if delivery.HasField("expires_at"):
        left_s = min(left_s, delivery.expires_at.seconds - now_s)
    return max(limits.reply_s, left_s)


def _queue_id(text: str) -> str:
    """What the server calls the message, if it says so as most do: `2.0.0 Ok: queued as 4F2A…`."""
    name = text.rpartition("queued as ")[2] if "queued as " in text else ""
    return name if name.isalnum() and name.isascii() else ""


def tls_context(server: SmtpServer) -> ssl.SSLContext:
    """Checks the certificate as the server's settings say. SSL_CERT_FILE adds an authority."""
    context = ssl.create_default_context()
    if not server.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _greeting_name() -> str:
    """The name for EHLO. Not the fully qualified one: finding that can wait long for a resolver."""
    name = socket.gethostname()
    return name if name.isascii() and name.replace("-", "").replace(".", "").isalnum() else "onward"
