"""A gRPC server as every service has it: health, reflection, the shared secret, metrics, draining.

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
    """A gRPC server on `address` (`host:port`, port 0 draws one) that asks for `secret`.

    `services` are the full names of the registered services, for reflection and health.
    """

    def __init__(self, address: str, secret: str, services: Sequence[str]) -> None:
        interceptors = [_RequireSecret(secret), Measure()]
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
            self.port = self.grpc.add_insecure_port(self._address)
        except (OSError, RuntimeError):
            # A server that was never stopped prints tracebacks when the process ends.
            await self.grpc.stop(None)
            raise StartError(
                f"cannot listen on {self._address}; is another process there? choose another"
            ) from None
        await self.set_serving(False)
        await self.grpc.start()

    async def set_serving(self, serving: bool) -> None:
        """Tell health checks whether this process can do its work now."""
        status = health_pb2.HealthCheckResponse
        for name in self._services:
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def drain(self, grace_s: float) -> None:
        """Take no new calls, give those under way `grace_s`, then stop."""
        await self._health.enter_graceful_shutdown()
        await self.grpc.stop(grace_s)


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
