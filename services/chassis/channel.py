"""A gRPC channel to another service: keepalive that notices a frozen peer, the secret, TLS."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from services.chassis.tls import Certificates, Trust

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
    # Else all channels to an address share its connection, and how long is waited for the next.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 32 * 1024 * 1024),
    ("grpc.max_send_message_length", 32 * 1024 * 1024),
)
# What calls that began before a renewal of certificates are given to end.
_FORMER_CALLS_S = 30.0

Interceptors = Sequence[grpc.aio.ClientInterceptor]


def open_channel(
    address: str, trust: Trust | str | None, server_name: str = ""
) -> grpc.aio.Channel:
    """A channel to `host:port` that reconnects by itself. Close it when done.

    `trust`: what is shown to the peer and asked of it; a text is the shared secret alone. The
    secret goes with every call but streams, which are given `credentials` when they are opened: an
    intercepted stream is slower, and leaves tasks behind. None: a server not ours. `server_name`:
    in the peer's certificate, where that is neither its host nor what the settings say for all.
    """
    secret, certificates = _parts(trust)
    interceptors = [_Secret(secret)] if secret else []
    if certificates is None:
        return grpc.aio.insecure_channel(address, options=list(_OPTIONS), interceptors=interceptors)
    return _Renewing(address, certificates, interceptors, server_name)


def credentials(trust: Trust | str) -> tuple[tuple[str, str], ...]:
    """The metadata that every call between services carries."""
    secret, _ = _parts(trust)
    return (("authorization", f"Bearer {secret}"),) if secret else ()


def _parts(trust: Trust | str | None) -> tuple[str, Certificates | None]:
    if isinstance(trust, Trust):
        return trust.secret, trust.certificates
    return trust or "", None


class _Secret(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, secret: str) -> None:
        self._credentials = credentials(secret)

    async def intercept_unary_unary(self, continuation, details, request):  # type: ignore[no-untyped-def]
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *self._credentials)
        return await continuation(details._replace(metadata=metadata), request)


class _Renewing(grpc.aio.Channel):
    """A TLS channel whose calls go through one made with the current certificates.

    gRPC keeps a channel's certificates as long as the channel: connections that it makes anew
    would be refused once those have expired. So a call that finds newer ones opens another channel.
    Calls under way stay on the former one for a while.
    """

    def __init__(
        self,
        address: str,
        certificates: Certificates,
        interceptors: Interceptors,
        server_name: str,
    ) -> None:
        self._address = address
        self._name = server_name or certificates.name
        self._certificates = certificates
        self._interceptors = interceptors
        self._closing: set[asyncio.Task[None]] = set()
        self._pems = certificates.current()
        self._channel = self._open()

    def _open(self) -> grpc.aio.Channel:
        pems, name = self._pems, self._name
        options: list[tuple[str, Any]] = list(_OPTIONS)
        if name:
            options.append(("grpc.ssl_target_name_override", name))
        shown = grpc.ssl_channel_credentials(pems.ca, pems.key, pems.cert)
        return grpc.aio.secure_channel(
            self._address, shown, options=options, interceptors=self._interceptors
        )

    def current(self) -> grpc.aio.Channel:
        """The channel for a call that begins now."""
        pems = self._certificates.current()
        if pems is not self._pems:
            self._pems, former = pems, self._channel
            self._channel = self._open()
            closing = asyncio.create_task(former.close(_FORMER_CALLS_S))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        return self._channel

    async def __aenter__(self) -> "_Renewing":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """As of any channel; former ones get no grace."""
        await self._channel.close(grace)
        for closing in self._closing:
            closing.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Of the connection that the next call would use."""
        return self.current().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Also returns when that connection has been replaced."""
        await self.current().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Returns once connected."""
        while (state := self.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            await self.wait_for_state_change(state)

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        return _Callable(self, "unary_unary", arguments, options)

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        return _Callable(self, "unary_stream", arguments, options)

    def stream_unary(self, *arguments: Any, **options: Any) -> Any:
        return _Callable(self, "stream_unary", arguments, options)

    def stream_stream(self, *arguments: Any, **options: Any) -> Any:
        return _Callable(self, "stream_stream", arguments, options)


class _Callable:
    """A method of a stub: made anew for each channel that its calls go through."""

    def __init__(
        self, renewing: _Renewing, kind: str, arguments: Sequence[Any], options: dict[str, Any]
    ) -> None:
        self._renewing = renewing
        self._make = kind, arguments, options
        self._channel: grpc.aio.Channel | None = None
        self._call: Any = None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        channel = self._renewing.current()
        if channel is not self._channel:
            kind, made_of, with_options = self._make
            self._call = getattr(channel, kind)(*made_of, **with_options)
            self._channel = channel
        return self._call(*arguments, **options)
