"""The streams to coordinators: when one that could not be opened is tried again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from onward.coordinator.v1 import coordinator_pb2, coordinator_pb2_grpc

from services.chassis.channel import open_channel
from services.chassis.server import Server
from services.edge import uplink
from services.edge.outbox import Outbox, OutboxLimits
from services.edge.uplink import Uplinks
from tests.edge.cluster import free_port
from tests.edge.fake_coordinator import SECRET, FakeCoordinator
from tests.edge.making import EDGE
from tests.waiting import until

Run = Callable[[Any], Any]


class Deaf:
    """A receiver to whom nothing matters."""

    def on_link_up(self, coordinator: str, hello: coordinator_pb2.UplinkResponse.Hello) -> None:
        pass

    def on_link_down(self, coordinator: str) -> None:
        pass

    def on_batch(self, batch: coordinator_pb2.UplinkResponse.Batch) -> None:
        pass

    async def room(self) -> None:
        pass


@asynccontextmanager
async def uplinks() -> AsyncIterator[Uplinks]:
    async with asyncio.TaskGroup() as tasks:
        made = Uplinks(Outbox(OutboxLimits()), Deaf(), SECRET)
        running = tasks.create_task(made.run(tasks))
        await asyncio.sleep(0)
        try:
            yield made
        finally:
            running.cancel()


@asynccontextmanager
async def listening(address: str) -> AsyncIterator[None]:
    server = Server(address, SECRET, [])
    it = FakeCoordinator()  # type: ignore[abstract]
    coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(it, server.grpc)
    await server.start()
    try:
        yield
    finally:
        await server.drain(0)


def test_a_coordinator_that_is_seen_alive_is_tried_at_once(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    class Noted:
        def __init__(self, address: str, trust: Any) -> None:
            self._channel = open_channel(address, trust)

        async def __aenter__(self) -> grpc.aio.Channel:
            return await self._channel.__aenter__()

        async def __aexit__(self, *error: Any) -> None:
            await self._channel.__aexit__(*error)
            tried.append("in vain")

    monkeypatch.setattr(uplink, "open_channel", Noted)
    monkeypatch.setattr(uplink, "_RECONNECT_S", 1_000.0)

    async def main() -> None:
        address = f"127.0.0.1:{free_port()}"
        async with uplinks() as links:
            links.follow(EDGE, {"c": address})
            await until(lambda: tried)
            async with listening(address):
                links.hurry({"somebody else"})
                assert links.up == set()
                links.hurry({"c"})
                await until(lambda: links.up == {"c"})
                assert tried == ["in vain"]
                links.follow(EDGE, {})

    run(main())
