"""Runs an edge: `python -m services.edge`, with settings from the environment."""

import asyncio
import gc
import math
import os
from collections.abc import Callable
from functools import partial
from typing import Final

from onward.edge.v1 import edge_pb2_grpc

from services.chassis import logs, metrics, process
from services.chassis.cluster import Directory
from services.chassis.errors import SettingError, first_of
from services.chassis.etcd import Etcd
from services.chassis.server import Server
from services.chassis.settings import load
from services.chassis.tasks import lasting
from services.chassis.tls import trust_of
from services.edge import measures
from services.edge.exchange import TICK_S, Exchange, ExchangeLimits
from services.edge.exchange_backend import ExchangeBackend
from services.edge.gateway import Gateway, GatewayLimits
from services.edge.http_api import HttpApi
from services.edge.http_callbacks import CallbackLimits
from services.edge.http_story import StoryLimits
from services.edge.limits import HubLimits, Limits
from services.edge.meter import InputLimits
from services.edge.outbox import OutboxLimits
from services.edge.rates import RateLimits
from services.edge.readers import Readers
from services.edge.servicer import SERVICE, Servicer
from services.edge.settings import Settings, check
from services.edge.socket_protocol import SocketLimits
from services.edge.status import Status
from services.edge.sweep import Sweep
from services.edge.term import Term
from services.edge.tokens import Authenticator
from services.edge.uplink import Uplinks
from services.edge.worker_processes import WorkerProcesses

_ROUNDS: Final = 12  # a quiet socket is pinged once in so many rounds
_AWAY_S: Final = 2.0  # readers of stories come back within so long
# What the sessions' last events are given to become durable, beyond a lease's time: a coordinator
# that dies meanwhile is followed by another.
_LAST_EVENTS_S: Final = 2.0
_POLL_S: Final = 0.05
_GC_THRESHOLDS: Final = (50_000, 20, 20)
log = logs.get(__name__)


async def main(stop: asyncio.Event) -> None:
    """Builds an edge and runs it until `stop` is set; then drains it."""
    settings = load(Settings, "edge", os.environ)
    check(settings)
    logs.configure("edge", settings.log_level)
    if settings.workers != 1:
        await WorkerProcesses(settings, settings.drain_s + _last_events_s(settings)).run(stop)
        return
    metrics.serve(settings.metrics_port, settings.metrics_host)
    fault: BaseException | None = None
    try:
        await _serve(settings, stop)
    except* SettingError as errors:
        fault = first_of(errors)
    if fault is not None:
        raise fault


async def _serve(settings: Settings, stop: asyncio.Event) -> None:
    trust = trust_of(settings, "edge")
    etcd = Etcd(settings.etcd, access=settings.etcd_access())
    directory = Directory(etcd)
    readers = Readers(directory, trust)
    authenticator = Authenticator(settings.jwt_hs256_secret, anonymous=settings.anonymous)

    server = Server(settings.grpc_address, trust, [SERVICE])
    try:
        async with asyncio.TaskGroup() as tasks:
            exchange = Exchange(_exchange_limits(settings), authenticator.identify, readers, tasks)
            uplinks = Uplinks(exchange.outbox, exchange, trust)
            exchange.wake = uplinks.wake
            term = Term(etcd, directory, exchange, uplinks, settings.lease_ttl_s)
            exchange.begin_anew = term.begin_anew
            sweep = Sweep(exchange.begin_round, settings.round_s, _ROUNDS)
            backend = ExchangeBackend(exchange, readers)
            api = _http_api(
                settings, backend, authenticator, lambda: term.ready and not stop.is_set()
            )
            gateway = _gateway(settings, exchange, sweep, api)
            measures.follow(exchange, backend, readers, uplinks, gateway)
            await gateway.start()
            address = f"{settings.address.rpartition(':')[0]}:{gateway.port}"
            status = Status(exchange, uplinks, directory, sweep, address, settings.sockets_max)
            edge_pb2_grpc.add_EdgeServiceServicer_to_server(
                Servicer(status, partial(_begin_to_drain, settings, stop)), server.grpc
            )
            await server.start()
            grpc_address = f"{settings.grpc_address.rpartition(':')[0]}:{server.port}"
            tasks.create_task(lasting(directory.run()))
            tasks.create_task(lasting(uplinks.run(tasks)))
            tasks.create_task(lasting(term.run(address, grpc_address)))
            tasks.create_task(lasting(status.run()))
            tasks.create_task(lasting(sweep.run()))
            tasks.create_task(lasting(_tick(exchange, gateway)))
            health = tasks.create_task(_tell_health(server, term))
            _settle_memory()
            log.info("listening", port=gateway.port, health_port=server.port)
            await stop.wait()
            health.cancel()
            await server.set_serving(False)
            await _drain(settings, term, gateway, exchange)
            raise _Drained
    except* _Drained:
        pass  # the way to end every task of the group
    await readers.close()
    await server.drain(0.1)
    await etcd.close()


def _begin_to_drain(settings: Settings, stop: asyncio.Event) -> float:
    """As SIGTERM does; returns the seconds that it may take."""
    stop.set()
    return settings.drain_s + _last_events_s(settings)


def _last_events_s(settings: Settings) -> float:
    return settings.lease_ttl_s + _LAST_EVENTS_S


async def _drain(settings: Settings, term: Term, gateway: Gateway, exchange: Exchange) -> None:
    log.info("draining", sessions=len(exchange.connections))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(term.drain())  # etcd may be slow, and clients need not wait for it
        await gateway.drain()
        await _last_events(exchange, _last_events_s(settings))
    await term.end()


class _Drained(Exception):
    """Everything that was to be done is done."""


def _settle_memory() -> None:
    """Keeps the garbage collector from what stays: no collection need look at it again.

    The thresholds are raised because a connection makes few objects that only a collection frees.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def _http_api(
    settings: Settings,
    backend: ExchangeBackend,
    authenticator: Authenticator,
    is_ready: Callable[[], bool],
) -> HttpApi:
    return HttpApi(
        backend,
        authenticator,
        is_ready,
        body_s=settings.request_s,
        page=settings.page,
        shared=settings.shared_address,
        stories=StoryLimits(
            streams_max=settings.stories_max, away_s=min(settings.drain_s, _AWAY_S)
        ),
        callbacks=CallbackLimits(
            settings.public_url, RateLimits(settings.callback_rate, settings.callback_burst)
        ),
        link_key=settings.link_key(),
    )


def _gateway(settings: Settings, exchange: Exchange, sweep: Sweep, api: HttpApi) -> Gateway:
    return Gateway(
        settings.address,
        exchange,
        sweep,
        api,
        GatewayLimits(
            shared=settings.shared_address,
            sockets_max=settings.sockets_max,
            requests_max=settings.requests_max,
            half_open_max=settings.half_open_max,
            address_connections_max=settings.address_connections_max,
            body_bytes_max=settings.frame_bytes_max,
            request_s=settings.request_s,
            unfinished_bytes_max=settings.unfinished_bytes_max,
            drain_s=settings.drain_s,
            drain_rate=settings.drain_rate,
            send_buffer_bytes=settings.send_buffer_bytes,
            receive_buffer_bytes=settings.receive_buffer_bytes,
            tcp_user_timeout_ms=settings.tcp_user_timeout_ms,
        ),
        SocketLimits(
            frame_bytes_max=settings.frame_bytes_max,
            write_high_bytes=settings.write_high_bytes,
            write_bytes_max=settings.write_bytes_max,
            close_s=settings.close_s,
            message_s=settings.message_s,
            input=InputLimits(
                # Publishes are limited for themselves, and refused; they must get that far.
                frames_per_s=max(settings.frame_rate, 2 * settings.publish_rate),
                frames_burst=max(settings.frame_burst, 2 * settings.publish_burst),
                bytes_per_s=settings.input_rate_bytes,
                bytes_burst=settings.input_burst_bytes,
            ),
        ),
        local_only=settings.anonymous,
    )


def _exchange_limits(settings: Settings) -> ExchangeLimits:
    return ExchangeLimits(
        session=Limits(
            content_bytes_max=settings.content_bytes_max,
            frame_bytes_max=settings.frame_bytes_max,
            headers_bytes_max=settings.headers_bytes_max,
            subscriptions_max=settings.subscriptions_max,
            external_tokens_max=settings.external_tokens_max,
            publishes_per_s=settings.publish_rate,
            publishes_burst=settings.publish_burst,
            recovery_messages_max=settings.recovery_messages_max,
            recovery_bytes_max=settings.recovery_bytes_max,
            recoveries_bytes_max=settings.recoveries_bytes_max,
            history_max=settings.history_max,
            connect_s=settings.connect_s,
            pong_s=settings.pong_s,
            ack_s=settings.unacknowledged_s,
            lag_s=settings.slow_s,
            dedupe_window_ms=settings.dedupe_window_s * 1000,
            ping_interval_ms=round(settings.round_s * _ROUNDS * 1000),
        ),
        hub=HubLimits(
            subscriptions_max=settings.subscriptions_in_all_max,
            ring_messages=settings.ring_messages,
            ring_bytes=settings.ring_bytes,
            rings_bytes=settings.rings_bytes,
            backlogs_bytes=settings.backlogs_bytes,
            notes_max=math.ceil(settings.unacknowledged_s / settings.round_s) + _ROUNDS,
        ),
        outbox=OutboxLimits(
            publishes_max=settings.held_publishes_max,
            publish_bytes_max=settings.held_bytes_max,
            publish_wait_s=settings.publish_wait_s,
        ),
        http=RateLimits(per_s=settings.http_publish_rate, burst=settings.http_publish_burst),
    )


async def _tick(exchange: Exchange, gateway: Gateway) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(TICK_S)
        exchange.tick(loop.time())
        gateway.tick()


async def _tell_health(server: Server, term: Term) -> None:
    """Health follows readiness."""
    told = False
    while True:
        if term.ready != told:
            told = term.ready
            await server.set_serving(told)
        await asyncio.sleep(_POLL_S)


async def _last_events(exchange: Exchange, at_most_s: float) -> None:
    """Waits until every session's last event is durable, for a bounded time."""
    for _ in range(int(at_most_s / _POLL_S)):
        if not exchange.connections and not len(exchange.outbox):
            return
        await asyncio.sleep(_POLL_S)
    if exchange.connections:
        log.warning("last_events_not_durable", sessions=len(exchange.connections))


if __name__ == "__main__":
    process.run(main)
