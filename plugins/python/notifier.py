"""A notifier plugin: serves what `send.py` sends. Run it: `python notifier.py`.

Environment:
  ONWARD_SECRET               the shared secret that callers show, 16 characters or more
  ONWARD_PLUGIN_LISTEN        host:port; 127.0.0.1:7500 if it is not set, port 0 draws one
  ONWARD_PLUGIN_TLS_CA_FILE   with _CERT_FILE and _KEY_FILE: mutual TLS, instead of the secret
                              or with it
  ONWARD_PLUGIN_SENT_LOG      a file that gets a line for each send; for conformance tests only
"""

import asyncio
import hmac
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import grpc
import grpc.aio
from deliveries import Deliveries, Limits
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from onward.notifier.v1 import notifier_pb2, notifier_pb2_grpc
from send import CHANNELS, NAME, VERSION, send

SERVICE = "onward.notifier.v1.NotifierService"
SECRET_CHARACTERS_MIN = 16
# A call of the presence service may have 8 MiB of content.
MESSAGE_BYTES_MAX = 32 * 1024 * 1024
# Taken off the caller's deadline, so that the answer arrives before it.
ANSWER_MARGIN_S = 0.2
DRAIN_S = 5.0

log = logging.getLogger("notifier")


class Notifier(notifier_pb2_grpc.NotifierServiceServicer):
    """The calls of the contract."""

    def __init__(self, deliveries: Deliveries, limits: Limits) -> None:
        self._deliveries = deliveries
        self._limits = limits

    async def Describe(self, request, context):
        """What this plugin can do."""
        return notifier_pb2.DescribeResponse(
            name=NAME,
            version=VERSION,
            channels=CHANNELS,
            batch_max=self._limits.batch_max,
            concurrency_max=self._limits.calls_max,
        )

    async def Notify(self, request, context):
        """Answers for each delivery of the batch."""
        size = len(request.deliveries)
        if not 1 <= size <= self._limits.batch_max:
            words = f"a batch has 1 to {self._limits.batch_max} deliveries, not {size}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, words)
        left_s = context.time_remaining()
        wait_s = None if left_s is None else max(0.0, left_s - ANSWER_MARGIN_S)
        results = await self._deliveries.answer(request.deliveries, wait_s)
        outcomes = Counter(notifier_pb2.Result.Outcome.Name(one.outcome) for one in results)
        log.info("batch of %d: %s", size, dict(outcomes))
        return notifier_pb2.NotifyResponse(results=results)


class RequireSecret(grpc.aio.ServerInterceptor):
    """Refuses every call that does not carry the secret, before its body is read."""

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
    """The secret that callers show, and what TLS needs. ValueError: a sentence with the remedy."""
    secret = environ.get("ONWARD_SECRET", "")
    names = [f"ONWARD_PLUGIN_TLS_{part}_FILE" for part in ("CA", "CERT", "KEY")]
    missing = [name for name in names if not environ.get(name)]
    if secret and len(secret) < SECRET_CHARACTERS_MIN:
        raise ValueError(f"ONWARD_SECRET is shorter than {SECRET_CHARACTERS_MIN} characters")
    if len(missing) == len(names):
        if not secret:
            raise ValueError(f"ONWARD_SECRET is not set; set it, or {', '.join(names)}")
        return secret, None
    if missing:
        raise ValueError(f"{missing[0]} is not set, and others are; set all three, or none")
    ca, cert, key = (Path(environ[name]).read_bytes() for name in names)
    return secret, grpc.ssl_server_credentials([(key, cert)], ca, require_client_auth=True)


def sent_log(environ: Mapping[str, str]) -> TextIO | None:
    """What gets a line for each send, if anything."""
    path = environ.get("ONWARD_PLUGIN_SENT_LOG")
    return Path(path).open("a", encoding="utf-8") if path else None  # for good


async def serve(environ: Mapping[str, str], stop: asyncio.Event) -> None:
    """Serve until `stop`, then end what is under way."""
    secret, tls = credentials(environ)
    limits = Limits()
    schemes = [channel.scheme for channel in CHANNELS]
    deliveries = Deliveries(schemes, send, limits, sent_log(environ))

    server = grpc.aio.server(
        interceptors=[RequireSecret(secret)] if secret else [],
        options=[
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.so_reuseport", 0),
            # The presence service pings every 10 s, also while there is nothing to send.
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    notifier_pb2_grpc.add_NotifierServiceServicer_to_server(Notifier(deliveries, limits), server)
    listen = environ.get("ONWARD_PLUGIN_LISTEN") or "127.0.0.1:7500"
    port = server.add_secure_port(listen, tls) if tls else server.add_insecure_port(listen)
    await server.start()
    for name in ("", SERVICE):
        await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    print(f"{NAME} ready: {listen.rpartition(':')[0]}:{port}", flush=True)

    await stop.wait()
    await healthy.enter_graceful_shutdown()
    await server.stop(DRAIN_S)
    await deliveries.finish(DRAIN_S)


async def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(os.environ, stop)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(main())
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"{NAME}: {error}")
