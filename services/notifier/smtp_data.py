"""Gives a message to a mail server, on aiosmtplib's connection.

aiosmtplib has one timeout for DATA as a whole; but before the server says 354 it has nothing of the
message, and is waited for like at any other command, while its reply to the message may take
minutes. A server that vanishes meanwhile without a word, host and all, is found out by TCP.
"""

import re
import socket
from contextlib import suppress

import aiosmtplib

# TCP asks a server that says nothing for so long, so often, whether it is there; then the
# connection is lost, after a minute. Short enough that the few connections there are come free
# soon; one reply of the server's host is enough, however long the server itself thinks.
KEEPALIVE_IDLE_S = 30
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_PROBES = 3
# The same for what was sent and is not acknowledged, since TCP does not ask while that is so.
UNACKNOWLEDGED_MS = (KEEPALIVE_IDLE_S + KEEPALIVE_INTERVAL_S * KEEPALIVE_PROBES) * 1_000

# What the platform lacks is left as it is there.
_TCP_OPTIONS = {
    "TCP_KEEPIDLE": KEEPALIVE_IDLE_S,
    "TCP_KEEPINTVL": KEEPALIVE_INTERVAL_S,
    "TCP_KEEPCNT": KEEPALIVE_PROBES,
    "TCP_USER_TIMEOUT": UNACKNOWLEDGED_MS,
}
_LINE_END = re.compile(rb"\r\n|\r|\n")
_DOT = re.compile(rb"^\.", re.MULTILINE)


def keep_alive(smtp: aiosmtplib.SMTP) -> None:
    """Have TCP find out if the server vanishes; where there is TLS, on the socket below it. Raises
    SMTPServerDisconnected if the connection is lost already."""
    connected = smtp.get_transport_info("socket")
    wanted = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in _TCP_OPTIONS.items():
        if hasattr(socket, name):
            wanted.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    for level, option, value in wanted:
        # A system that does not know it after all: mail goes out without it as well.
        with suppress(OSError):
            connected.setsockopt(level, option, value)


async def ask(smtp: aiosmtplib.SMTP) -> None:
    """Ask for the message to be taken; then the server waits for it. Raises as aiosmtplib does;
    whatever it is, the server has nothing."""
    reply = await smtp.execute_command(b"DATA")
    if reply.code != aiosmtplib.SMTPStatus.start_input:
        raise aiosmtplib.SMTPDataError(reply.code, reply.message)


async def give(smtp: aiosmtplib.SMTP, message: bytes, timeout_s: float) -> aiosmtplib.SMTPResponse:
    """Send the message that was asked for; the reply. Raises as aiosmtplib does."""
    protocol = smtp.protocol
    if protocol is None:
        raise aiosmtplib.SMTPServerDisconnected("Connection lost")
    protocol.write(quoted(message))
    try:
        reply = await protocol.read_response(timeout=timeout_s)
    except aiosmtplib.SMTPTimeoutError:
        smtp.close()  # A reply that comes later would be taken for that to another command.
        raise
    if reply.code != aiosmtplib.SMTPStatus.completed:
        raise aiosmtplib.SMTPDataError(reply.code, reply.message)
    return reply


def quoted(message: bytes) -> bytes:
    """As it goes over the line, with its end (RFC 5321, section 4.5.2)."""
    lines = _LINE_END.sub(b"\r\n", message)
    if not lines.endswith(b"\r\n"):
        lines += b"\r\n"
    return _DOT.sub(b"..", lines) + b".\r\n"
