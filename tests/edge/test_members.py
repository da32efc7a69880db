"""Asking every member how it stands, over real gRPC, with members that answer, hang or are gone."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from onward.coordinator.v1 import coordinator_pb2, coordinator_pb2_grpc
from onward.presence.v1 import presence_pb2, presence_pb2_grpc

from services.chassis.cluster import Directory
from services.chassis.etcd import KeyValue, Snapshot
from services.chassis.refusals import Code, Refusal
from services.chassis.server import Server
from services.edge.backend import Draining
from services.edge.members import Members

SECRET = "a secret of sixteen characters"
Run = Callable[[Any], Any]


class Coordinator(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Says its name, once it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.drained = 0
        self.let = asyncio.Event()
        self.let.set()

    async def GetStatus(self, request: Any, context: Any) -> coordinator_pb2.GetStatusResponse:
        self.asked += 1
        await self.let.wait()
        return coordinator_pb2.GetStatusResponse(name="c1")

    async def Drain(self, request: Any, context: Any) -> coordinator_pb2.DrainResponse:
        self.drained += 1
        return coordinator_pb2.DrainResponse(at_most_ms=300)


class Presence(presence_pb2_grpc.PresenceQueryServiceServicer):
    async def GetStatus(self, request: Any, context: Any) -> presence_pb2.GetStatusResponse:
        return presence_pb2.GetStatusResponse(name="p1")


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Coordinator, str]]:
    """A server that is coordinator and presence, and its address."""
    server = Server("127.0.0.1:0", SECRET, [])
    coordinator = Coordinator()
    coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(coordinator, server.grpc)
    presence_pb2_grpc.add_PresenceQueryServiceServicer_to_server(Presence(), server.grpc)
    await server.start()
    try:
        yield coordinator, f"127.0.0.1:{server.port}"
    finally:
        await server.drain(0)


def directory(**values: dict[str, str]) -> Directory:
    """A directory that knows these keys; `_` in a name stands for `/`."""
    keys = {f"/onward/{name.replace('_', '/')}": value for name, value in values.items()}
    found = Directory(None)  # type: ignore[arg-type] - it is fed by hand
    found.apply(
        Snapshot(
            1,
            [KeyValue(key, json.dumps(value), 1, 1, 0) for key, value in keys.items()],
        )
    )
    return found


def test_every_member_is_asked_and_the_silent_are_named(run: Run) -> None:
    async def main() -> None:
        async with serving() as (coordinator, address), serving() as (hanging, hanging_address):
            hanging.let.clear()
            members = Members(
                directory(
                    coordinators_c1={"address": address},
                    coordinators_c2={"address": hanging_address},
                    coordinators_c3={"address": "127.0.0.1:1"},
                    presence_p1={"address": address},
                    edges_7={"address": "127.0.0.1:8080"},
                ),
                SECRET,
                deadline_s=0.5,
            )
            picture = await members.picture()
            said = {
                (m.service, m.name): m.said if isinstance(m.said, str) else "answered"
                for m in picture.members
            }
            assert said == {
                ("coordinator", "c1"): "answered",
                ("coordinator", "c2"): grpc.StatusCode.DEADLINE_EXCEEDED.name,
                ("coordinator", "c3"): grpc.StatusCode.UNAVAILABLE.name,
                ("presence", "p1"): "answered",
                ("edge", "7"): "NO_ADDRESS",
            }
            assert coordinator.asked == 1
            hanging.let.set()
            await members.close()

    run(main())


def test_many_who_ask_at_a_time_share_one_answer(run: Run) -> None:
    async def main() -> None:
        async with serving() as (coordinator, address):
            members = Members(directory(coordinators_c1={"address": address}), SECRET)
            coordinator.let.clear()
            asking = [asyncio.create_task(members.picture()) for _ in range(20)]
            await asyncio.sleep(0)
            asking[0].cancel()
            coordinator.let.set()
            pictures = await asyncio.gather(*asking[1:])
            assert coordinator.asked == 1
            assert len(pictures) == 19
            await members.picture()
            assert coordinator.asked == 2
            await members.close()

    run(main())


def test_a_wrong_secret_is_a_silence_too(run: Run) -> None:
    async def main() -> None:
        async with serving() as (_, address):
            members = Members(directory(coordinators_c1={"address": address}), "another secret")
            [member] = (await members.picture()).members
            assert member.said == grpc.StatusCode.UNAUTHENTICATED.name
            await members.close()

    run(main())


def test_one_member_is_drained_by_its_name_and_nobody_by_an_unknown_one(run: Run) -> None:
    async def main() -> None:
        async with serving() as (coordinator, address):
            members = Members(
                directory(
                    coordinators_c1={"address": address},
                    coordinators_c2={"address": "127.0.0.1:1"},
                ),
                SECRET,
            )
            unknown, silent = await members.drain("c9"), await members.drain("c2")
            assert isinstance(unknown, Refusal)
            assert isinstance(silent, Refusal)
            assert (unknown.code, silent.code) == (Code.ARGUMENT_INVALID, Code.UNAVAILABLE)
            assert not coordinator.drained
            for _ in range(2):
                begun = await members.drain("c1")
                assert begun == Draining("coordinator", "c1", address, 300)
            assert coordinator.drained == 2
            await members.close()

    run(main())
