"""The gRPC server of every service: the secret, health, a port that is taken."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc
from prometheus_client import REGISTRY

from services.chassis.channel import credentials, open_channel
from services.chassis.errors import StartError
from services.chassis.server import Server
from tests.waiting import until

SECRET = "0123456789abcdef"


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server("127.0.0.1:0", SECRET, ["onward.example.v1.ExampleService"])
    await server.start()
    try:
        yield server
    finally:
        await server.drain(0)


async def status(server: Server, secret: str, service: str = "") -> int:
    async with open_channel(f"127.0.0.1:{server.port}", secret) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return (await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)).status


@pytest.mark.parametrize("secret", ["", "0123456789abcdeF", "0123456789abcdef "])
def test_a_call_without_the_secret_is_refused(run, secret) -> None:
    async def scenario() -> None:
        async with serving() as server:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await status(server, secret)
            assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED

    run(scenario())


def test_a_stream_without_the_secret_is_refused(run) -> None:
    async def scenario() -> None:
        async with (
            serving() as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            # No request is sent: one that meets the end of its call is another error, at this end.
            call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                timeout=10
            )
            assert await call.code() == grpc.StatusCode.UNAUTHENTICATED

    run(scenario())


def test_health_says_serving_only_when_told(run) -> None:
    async def scenario() -> None:
        async with serving() as server:
            name = "onward.example.v1.ExampleService"
            assert await status(server, SECRET, name) == health_pb2.HealthCheckResponse.NOT_SERVING
            await server.set_serving(True)
            assert await status(server, SECRET, name) == health_pb2.HealthCheckResponse.SERVING

    run(scenario())


def test_a_port_that_is_taken_is_said_in_a_sentence(run) -> None:
    async def scenario() -> None:
        async with serving() as server:
            second = Server(f"127.0.0.1:{server.port}", SECRET, [])
            with pytest.raises(StartError, match="cannot listen on"):
                await second.start()

    run(scenario())


def shown(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_calls_are_counted_by_method_and_code_and_strangers_by_neither(run) -> None:
    async def scenario() -> None:
        async with serving() as server:
            method = "Health/Check"
            good, unknown = (
                {"method": method, "code": "OK"},
                {"method": method, "code": "NOT_FOUND"},
            )
            calls, before = "onward_grpc_server_calls_total", {}
            for labels in (good, unknown):
                before[labels["code"]] = shown(calls, **labels)
            strangers = shown("onward_grpc_server_unauthenticated_total")
            await status(server, SECRET)
            with pytest.raises(grpc.aio.AioRpcError):
                await status(server, SECRET, "nobody")
            with pytest.raises(grpc.aio.AioRpcError):
                await status(server, "another secret..")
            assert shown(calls, **good) == before["OK"] + 1
            assert shown(calls, **unknown) == before["NOT_FOUND"] + 1
            assert shown("onward_grpc_server_unauthenticated_total") == strangers + 1
            assert shown("onward_grpc_server_seconds_count", method=method) >= 2

    run(scenario())


def test_open_streams_are_shown_until_they_end(run) -> None:
    async def scenario() -> None:
        async with serving() as server, open_channel(f"127.0.0.1:{server.port}", None) as channel:
            open_now = "onward_grpc_server_streams"
            call = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(), metadata=credentials(SECRET)
            )
            await call.read()
            assert shown(open_now, method="Health/Watch") == 1
            call.cancel()
            await until(lambda: shown(open_now, method="Health/Watch") == 0)

    run(scenario())
