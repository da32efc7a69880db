"""Registering notifiers on the wire, over a real etcd that two replicas follow."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from onward.presence.v1 import registry_pb2 as pb
from onward.presence.v1 import registry_pb2_grpc

from services.chassis.channel import open_channel
from services.chassis.cluster import Directory, Keys
from services.chassis.etcd import Etcd
from services.chassis.server import Server
from services.presence.breaker import BreakerLimits
from services.presence.plugins import Plugins
from services.presence.registry import NOTIFIERS, decode
from services.presence.registry_servicer import RegistryServicer
from tests.presence.stage import SECRET, FakePlugin
from tests.real_etcd import running
from tests.waiting import until

C = grpc.StatusCode


@pytest.fixture(scope="module")
def etcd_address(tmp_path_factory):
    with running(tmp_path_factory.mktemp("etcd")) as server:
        yield server.address


class Replica:
    """What of a presence service reads the registry and answers for it."""

    def __init__(self, etcd: Etcd, settings: tuple[str, ...] = (), trust: str = SECRET) -> None:
        self.plugins = Plugins(settings, SECRET, BreakerLimits(), 1.0)
        self.directory = Directory(etcd)
        self.directory.on_change(lambda _: self._read())
        self.server = Server("127.0.0.1:0", SECRET, [])
        servicer = RegistryServicer(self.plugins, etcd, Keys(), trust)
        registry_pb2_grpc.add_RegistryServiceServicer_to_server(servicer, self.server.grpc)

    def _read(self) -> None:
        values = self.directory.registered(NOTIFIERS).items()
        found = [decode(name, value) for name, value in values]
        self.plugins.register([one for one in found if one is not None])

    @property
    def names(self) -> list[str]:
        return [plugin.registration.name for plugin in self.plugins.list]


@asynccontextmanager
async def replicas(address: str, *made: dict):
    etcd = Etcd(address)
    for key in (await etcd.range(f"{Keys().prefix}{NOTIFIERS}/")).keys:
        await etcd.delete(key.key)
    found = [Replica(etcd, **one) for one in made or ({},)]
    following = [asyncio.create_task(one.directory.run()) for one in found]
    calling = [asyncio.create_task(one.plugins.run()) for one in found]
    for one in found:
        await one.server.start()
        await until(lambda one=one: one.directory.revision)
    channel = open_channel(f"127.0.0.1:{found[0].server.port}", SECRET)
    try:
        yield registry_pb2_grpc.RegistryServiceStub(channel), found, etcd
    finally:
        await channel.close()
        for task in (*following, *calling):
            task.cancel()
        await asyncio.gather(*calling, return_exceptions=True)
        for one in found:
            await one.server.drain(0)
        await etcd.close()


def adding(name: str, address: str, **fields) -> pb.AddNotifierRequest:
    own = {"plain": fields.pop("plain", False), "server_name": fields.pop("server_name", "")}
    return pb.AddNotifierRequest(
        name=name, address=pb.PluginAddress(address=address, **own), **fields
    )


async def refused(call) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), error.value.details() or ""


def test_what_one_replica_registers_all_of_them_call(run, etcd_address):
    async def claim():
        plugin = FakePlugin("mailer", mailto=True, tel=False)
        address = await plugin.start()
        async with replicas(etcd_address, {}, {}) as (stub, found, _):
            await stub.AddNotifier(adding("mailer", address, channels=["MAILTO"], plain=True))
            for one in found:
                await until(lambda one=one: one.plugins.list and one.plugins.list[0].ready)
                assert one.plugins.lane_for("tel") is None
                assert one.plugins.lane_for("mailto") is not None
            [told] = (await stub.ListNotifiers(pb.ListNotifiersRequest())).notifiers
            assert told == pb.RegisteredNotifier(
                name="mailer",
                address=pb.PluginAddress(address=address, plain=True),
                channels=["mailto"],
                connected=True,
                health="SERVING",
                served=["mailto", "tel"],
            )
            removing = pb.RemoveNotifierRequest(name="mailer")
            assert (await stub.RemoveNotifier(removing)).removed
            assert not (await stub.RemoveNotifier(removing)).removed
            for one in found:
                await until(lambda one=one: not one.plugins.list)
        await plugin.stop()

    run(claim())


def test_settings_are_listed_first_and_keep_their_names(run, etcd_address):
    async def claim():
        plugin = FakePlugin("mailer")
        address = await plugin.start()
        async with replicas(etcd_address, {"settings": (address,)}) as (stub, [one], _):
            await until(lambda: one.plugins.list[0].ready)
            code, words = await refused(stub.AddNotifier(adding("mailer", "h:1")))
            assert (code, words) == (
                C.FAILED_PRECONDITION,
                "A notifier of the settings has that name.",
            )
            await stub.AddNotifier(adding("abe", "127.0.0.1:1"))
            await until(lambda: len(one.names) == 2)
            told = (await stub.ListNotifiers(pb.ListNotifiersRequest())).notifiers
            assert [(n.name, n.of_settings) for n in told] == [(address, True), ("abe", False)]
        await plugin.stop()

    run(claim())


def test_a_channel_that_two_serve_is_told_as_shadowed_where_it_is_not_used(run, etcd_address):
    async def claim():
        plugins = [FakePlugin("one", mailto=True), FakePlugin("two", mailto=True, tel=False)]
        addresses = [await plugin.start() for plugin in plugins]
        async with replicas(etcd_address) as (stub, [one], _):
            await stub.AddNotifier(adding("b", addresses[0], plain=True))
            await until(lambda: one.plugins.lane_for("mailto"))
            await stub.AddNotifier(adding("c", addresses[1], plain=True))

            async def hidden():
                told = (await stub.ListNotifiers(pb.ListNotifiersRequest())).notifiers
                return {n.name: [(s.channel, s.by) for s in n.shadowed] for n in told}

            await until(lambda: one.plugins.lane_for("tel"))
            assert await hidden() == {"b": [], "c": [("mailto", "b")]}
            await stub.AddNotifier(adding("a", addresses[1], channels=["mailto"], plain=True))
            await until(lambda: len(one.names) == 3 and one.plugins.list[0].ready)
            assert await hidden() == {"a": [], "b": [("mailto", "a")], "c": [("mailto", "a")]}
        for plugin in plugins:
            await plugin.stop()

    run(claim())


def test_what_cannot_be_called_is_not_registered(run, etcd_address):
    async def claim():
        async with replicas(etcd_address) as (stub, _, etcd):
            for request in (
                adding("", "h:1"),
                adding("a/b", "h:1"),
                adding("a", "nowhere"),
                adding("a", "h:1", server_name="a b"),
                adding("a", "h:1", channels=["no scheme"]),
                pb.AddNotifierRequest(name="a"),
                adding("a", "h:1", channels=["mailto", "SMS"]),
            ):
                code, words = await refused(stub.AddNotifier(request))
                assert (code, words[-1:]) == (C.INVALID_ARGUMENT, "."), request
            removing = pb.RemoveNotifierRequest(name="a/b")
            assert (await refused(stub.RemoveNotifier(removing)))[0] is C.INVALID_ARGUMENT
            assert (await etcd.range(f"{Keys().prefix}{NOTIFIERS}/")).keys == []

    run(claim())


def test_without_a_secret_none_is_called_without_tls(run, etcd_address):
    async def claim():
        async with replicas(etcd_address, {"trust": ""}) as (stub, _, _):
            code, words = await refused(stub.AddNotifier(adding("a", "h:1", plain=True)))
            assert code is C.FAILED_PRECONDITION
            assert "ONWARD_SECRET" in words

    run(claim())


def test_what_is_damaged_in_etcd_is_passed_over(run, etcd_address):
    async def claim():
        async with replicas(etcd_address) as (stub, [one], etcd):
            await etcd.put(Keys().registered(NOTIFIERS, "bad"), "not JSON")
            await stub.AddNotifier(adding("good", "127.0.0.1:1"))
            await until(lambda: one.names == ["good"])

    run(claim())


def test_extensions_are_somebody_elses_until_they_are_given(run, etcd_address):
    async def claim():
        async with replicas(etcd_address) as (stub, _, _):
            call = stub.ListExtensions(pb.ListExtensionsRequest())
            assert (await refused(call))[0] is C.UNIMPLEMENTED

    run(claim())
