"""A gRPC server as every service has it: health, reflection, who may call, metrics, draining.

Whoever shows neither certificate nor secret, as `Trust` asks, is refused, whatever the call: health
and reflection too, since both tell what runs here, and probes can show what a peer shows.

Drive it: `Server(...)`, register servicers on `.grpc`, `await start()`, `set_serving(True)` when
the service can work, `await drain(grace_s)` at the end.
"""

import hmac
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.chassis.errors import StartError
from services.chassis.server_metrics import UNAUTHENTICATED, Measure
from services.chassis.tls import Certificates, Trust

_OPTIONS: Sequence[tuple[str, int]] = (
    # Two processes on one port would share its calls at random.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    ("grpc.max_send_message_length", 32 * 1024 * 1024),
)


class Server:
    """A gRPC server on `address` (`host:port`, port 0 draws one) for those who show what `trust`
    asks for; a text is the shared secret alone.

    `services` are the full names of the registered services, for reflection and health.
    """

    def __init__(self, address: str, trust: Trust | str, services: Sequence[str]) -> None:
        trust = Trust(trust) if isinstance(trust, str) else trust
        self._certificates = trust.certificates
        interceptors: list[grpc.aio.ServerInterceptor] = [Measure()]
        if trust.secret:
            interceptors.insert(0, _RequireSecret(trust.secret))
        self.grpc = grpc.aio.server(interceptors=interceptors, options=list(_OPTIONS))
        self.port = 0
        self._address = address
        self._services = ["", *services]
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        reflection.enable_server_reflection(
            [*services, health.SERVICE_NAME, reflection.SERVICE_NAME], self.grpc
        )

    async def start(self) -> None:
        """Listen; not serving yet. Raises StartError if the address cannot be had."""
        port = self._address.rpartition(":")[2]
        # gRPC itself takes a port above 65535, modulo 65536.
        if not (port.isascii() and port.isdigit() and int(port) <= 65535):
            raise StartError(f"{self._address!r} is no address to listen on; use host:port")
        try:
            _check_free(self._address)
            self.port = self._bind()
        except (OSError, RuntimeError):
            # A server that was never stopped prints tracebacks when the process ends.
            await self.grpc.stop(None)
            raise StartError(
                f"cannot listen on {self._address}; is another process there? choose another"
            ) from None
        await self.set_serving(False)
        await self.grpc.start()

    def _bind(self) -> int:
        if self._certificates is None:
            return self.grpc.add_insecure_port(self._address)
        first, fetch = _served(self._certificates)
        # Without a certificate of one of our CAs the handshake fails, before any call. The stubs
        # do not know that None is an answer.
        asked = grpc.dynamic_ssl_server_credentials(first, fetch, True)  # type: ignore[arg-type]
        return self.grpc.add_secure_port(self._address, asked)

    async def set_serving(self, serving: bool) -> None:
        """Tell health checks whether this process can do its work now."""
        status = health_pb2.HealthCheckResponse
        for name in self._services:
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def drain(self, grace_s: float) -> None:
        """Take no new calls, give those under way `grace_s`, then stop."""
        await self._health.enter_graceful_shutdown()
        await self.grpc.stop(grace_s)


Shown = grpc.ServerCertificateConfiguration


def _served(certificates: Certificates) -> tuple[Shown, Callable[[], Shown | None]]:
    """What a server shows first, and what gRPC asks before each handshake: None goes on with it."""
    pems = certificates.current()

    def shown() -> Shown:
        return grpc.ssl_server_certificate_configuration([(pems.key, pems.cert)], pems.ca)

    def fetch() -> Shown | None:
        # On a thread of gRPC's.
        nonlocal pems
        current = certificates.current()
        if current is pems:
            return None
        pems = current
        return shown()

    return shown(), fetch


def _check_free(address: str) -> None:
    """Raise OSError if the address cannot be had; gRPC would say so on stderr in its own words."""
    host, _, port = address.rpartition(":")
    with socket.create_server((host.strip("[]"), int(port)), family=_family(host)):
        pass


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class _RequireSecret(grpc.aio.ServerInterceptor):
    """Refuses every call that does not carry the secret, before its body is read."""

    def __init__(self, secret: str) -> None:
        self._expected = f"Bearer {secret}".encode()

        async def refuse_unary(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the shared secret is missing")

        async def refuse_stream(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the shared secret is missing")

        self._refuse_unary: Any = grpc.unary_unary_rpc_method_handler(refuse_unary)
        self._refuse_stream: Any = grpc.stream_stream_rpc_method_handler(refuse_stream)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(details)
        for name, value in details.invocation_metadata or ():
            if name == "authorization":
                given = value if isinstance(value, bytes) else value.encode()
                if hmac.compare_digest(given, self._expected):
                    return handler
        UNAUTHENTICATED.inc()
        streams = handler is not None and (handler.request_streaming or handler.response_streaming)
        return self._refuse_stream if streams else self._refuse_unary
