"""Asks a child whether it can do its work: grpc.health.v1, and HTTP where it serves that."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis.channel import open_channel
from services.cli.up_plan import HOST, Child

EVERY_S = 0.03
_ANSWER_S = 1.0  # a check without an answer for longer is asked again


async def wait_ready(child: Child, secret: str) -> None:
    """Return once the child says that it is ready. Never gives up; cancel it."""
    if child.http_port:
        await _until(lambda: _http_ok(child.http_port, child.http_path))
    if not child.grpc_port:
        return
    async with AsyncExitStack() as channels:
        health = {}
        for port in child.stand_in_ports or (child.grpc_port,):
            channel = await channels.enter_async_context(open_channel(f"{HOST}:{port}", secret))
            health[port] = health_pb2_grpc.HealthStub(channel)
        own = health[child.grpc_port]
        await _until(lambda: _said(own))
        await _until(lambda: _one_serves(list(health.values())))


async def _until(check: Callable[[], Awaitable[int]]) -> None:
    while True:
        if await check():
            return
        await asyncio.sleep(EVERY_S)


async def _one_serves(health: Sequence[health_pb2_grpc.HealthStub]) -> bool:
    said = await asyncio.gather(*map(_said, health))
    return health_pb2.HealthCheckResponse.SERVING in said


async def _said(health: health_pb2_grpc.HealthStub) -> int:
    """The status of a server; 0, which is none, if it does not answer."""
    try:
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=_ANSWER_S)
    except grpc.aio.AioRpcError:
        return 0
    return int(answer.status)


async def _http_ok(port: int, path: str) -> bool:
    """Whether `GET path` is answered with 200. (All of a client that this takes.)"""
    try:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                request = f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n"
                writer.write(request.encode())
                status = await reader.readline()
                return status.split(b" ")[1:2] == [b"200"]
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
