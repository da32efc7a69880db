"""Reads of the log while coordinators come and go."""

import asyncio

import pytest
from onward.coordinator.v1 import coordinator_pb2_grpc

from services.chassis.errors import Unavailable
from services.chassis.server import Server
from services.presence.log_reader import LogReader
from tests.presence.stage import SECRET
from tests.waiting import until


class StoppedLog(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Takes calls and answers none."""

    def __init__(self) -> None:
        self.calls = 0

    async def ReadTails(self, request, context):
        self.calls += 1
        await asyncio.sleep(30)


def test_a_read_at_a_coordinator_that_another_read_finds_gone_is_unavailable(run):
    async def claim():
        server, stopped = Server("127.0.0.1:0", SECRET, []), StoppedLog()
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(stopped, server.grpc)
        await server.start()
        addresses = [f"127.0.0.1:{server.port}"]
        reader = LogReader(lambda: addresses, SECRET, deadline_s=20)
        try:
            first = asyncio.create_task(reader.tails([1]))
            await until(lambda: stopped.calls == 1)
            addresses.clear()
            with pytest.raises(Unavailable):
                await reader.tails([1])
            with pytest.raises(Unavailable):
                await first
        finally:
            await reader.close()
            await server.drain(0)

    run(claim())


def test_a_cancelled_read_is_cancelled(run):
    async def claim():
        server, stopped = Server("127.0.0.1:0", SECRET, []), StoppedLog()
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(stopped, server.grpc)
        await server.start()
        reader = LogReader(lambda: [f"127.0.0.1:{server.port}"], SECRET, deadline_s=20)
        try:
            read = asyncio.create_task(reader.tails([1]))
            await until(lambda: stopped.calls == 1)
            read.cancel()
            with pytest.raises(asyncio.CancelledError):
                await read
        finally:
            await reader.close()
            await server.drain(0)

    run(claim())
