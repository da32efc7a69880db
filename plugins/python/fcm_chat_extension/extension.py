"""Serves the extension: `python extension.py`.

Environment:
  ONWARD_SECRET            the shared secret that presence shows, 16 characters or more
  EXTENSION_LISTEN         host:port; 127.0.0.1:7600 if it is not set, port 0 draws one
  EXTENSION_STATE          the file of what is remembered; fcm-chat.sqlite if it is not set
  EXTENSION_TLS_CA_FILE    with _CERT_FILE and _KEY_FILE: mutual TLS, instead of the secret or
                           with it
  FCM_KEY_FILE             the key file of a service account of your Firebase project; without
                           it pushes are printed
"""

import asyncio
import hmac
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import grpc
import grpc.aio
from chat import ChatExtension, Outcome, Push, Sender
from memory import Memory
from onward.extension.v1 import extension_pb2_grpc

SECRET_CHARACTERS_MIN = 16
DRAIN_S = 5.0
# Presence pings every 10 s, also while there is nothing to tell.
OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
]


class PrintingSender:
    """Stands in for a provider: prints what would be pushed."""

    async def send(self, token: str, push: Push) -> Outcome:
        print(f"push to {token}: {push.title}: {push.body}", flush=True)
        return Outcome.SENT


class RequireSecret(grpc.aio.ServerInterceptor):
    """Refuses every call that does not carry the secret."""

    def __init__(self, secret: str) -> None:
        self._expected = f"Bearer {secret}".encode()

        async def refuse(_, context):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the shared secret is missing")

        self._refusal = grpc.unary_unary_rpc_method_handler(refuse)

    async def intercept_service(self, continuation, details):
        """Goes on, or refuses."""
        for name, value in details.invocation_metadata or ():
            given = value if isinstance(value, bytes) else value.encode()
            if name == "authorization" and hmac.compare_digest(given, self._expected):
                return await continuation(details)
        return self._refusal


def credentials(environ: Mapping[str, str]) -> tuple[str, grpc.ServerCredentials | None]:
    """The secret, and what TLS needs. ValueError: a sentence with the remedy."""
    secret = environ.get("ONWARD_SECRET", "")
    names = [f"EXTENSION_TLS_{part}_FILE" for part in ("CA", "CERT", "KEY")]
    missing = [name for name in names if not environ.get(name)]
    if secret and len(secret) < SECRET_CHARACTERS_MIN:
        raise ValueError(f"ONWARD_SECRET is shorter than {SECRET_CHARACTERS_MIN} characters")
    if missing and len(missing) < len(names):
        raise ValueError(f"{missing[0]} is not set, and others are; set all three, or none")
    if missing and not secret:
        raise ValueError(f"ONWARD_SECRET is not set; set it, or {', '.join(names)}")
    if missing:
        return secret, None
    ca, cert, key = (Path(environ[name]).read_bytes() for name in names)
    return secret, grpc.ssl_server_credentials([(key, cert)], ca, require_client_auth=True)


def sender_of(environ: Mapping[str, str]) -> Sender:
    """FCM, or what stands in for it. ValueError, OSError: the key file cannot be used."""
    if key_file := environ.get("FCM_KEY_FILE"):
        from fcm import FcmSender

        return FcmSender(key_file)
    return PrintingSender()


async def serve(environ: Mapping[str, str], sender: Sender, stop: asyncio.Event) -> None:
    """Serve until `stop`."""
    secret, tls = credentials(environ)
    memory = Memory(environ.get("EXTENSION_STATE") or "fcm-chat.sqlite")
    interceptors = [RequireSecret(secret)] if secret else []
    server = grpc.aio.server(interceptors=interceptors, options=OPTIONS)
    extension_pb2_grpc.add_PresenceExtensionServiceServicer_to_server(
        ChatExtension(memory, sender), server
    )
    listen = environ.get("EXTENSION_LISTEN") or "127.0.0.1:7600"
    port = server.add_secure_port(listen, tls) if tls else server.add_insecure_port(listen)
    await server.start()
    print(f"fcm-chat ready: {listen.rpartition(':')[0]}:{port}", flush=True)
    await stop.wait()
    await server.stop(DRAIN_S)
    memory.close()


async def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(os.environ, sender_of(os.environ), stop)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(main())
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"fcm-chat: {error}")
