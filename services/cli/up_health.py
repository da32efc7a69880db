"""Asks a child whether it can do its work: grpc.health.v1, and HTTP where it serves that."""

import asyncio
from collections.abc import Awaitable, Callable

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
    async with open_channel(f"{HOST}:{child.grpc_port}", secret) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        await _until(lambda: _serves(health))


async def _until(check: Callable[[], Awaitable[bool]]) -> None:
    while True:
        if await check():
            return
        await asyncio.sleep(EVERY_S)


async def _serves(health: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=_ANSWER_S)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


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
