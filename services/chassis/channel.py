"""A gRPC channel to another service: keepalive that notices a frozen peer, and the secret."""

from collections.abc import Sequence

import grpc
import grpc.aio

# ping_timeout_ms is what notices a peer whose process is frozen while its kernel still answers
# TCP; the keepalive options alone were measured not to.
_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # In truth how long a connection may take to be made, if that is more than the backoff: with
    # less, a peer that is busy or far away would count as refusing. A refusal still fails at once.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    ("grpc.max_send_message_length", 32 * 1024 * 1024),
)


def open_channel(address: str, secret: str | None) -> grpc.aio.Channel:
    """A channel to `host:port` that reconnects by itself. Close it when done.

    `secret`: goes with every call but streams, which are given `credentials` when they are opened:
    an intercepted stream is slower, and leaves tasks behind. None: a server not ours (etcd).
    """
    interceptors = [] if secret is None else [_Secret(secret)]
    return grpc.aio.insecure_channel(address, options=list(_OPTIONS), interceptors=interceptors)


def credentials(secret: str) -> tuple[tuple[str, str], ...]:
    """The metadata that every call between services carries."""
    return (("authorization", f"Bearer {secret}"),)


class _Secret(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, secret: str) -> None:
        self._credentials = credentials(secret)

    async def intercept_unary_unary(self, continuation, details, request):  # type: ignore[no-untyped-def]
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *self._credentials)
        return await continuation(details._replace(metadata=metadata), request)
