"""Registering extensions: what is refused, what is kept where, and from when on it is told."""

import json
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from onward.presence.v1 import registry_pb2, registry_pb2_grpc

from services.chassis.channel import open_channel
from services.chassis.errors import Unavailable
from services.chassis.server import Server
from services.presence.extensions import registration_of
from services.presence.extensions_registry import EXTENSIONS_MAX, ExtensionsRegistry
from tests.presence.observer import Observer
from tests.presence.stage import SECRET, Client, Stage, staged
from tests.presence.test_tellers import kept_up
from tests.waiting import until


class Face(ExtensionsRegistry, registry_pb2_grpc.RegistryServiceServicer):
    """The calls about extensions; there are no others."""


class Registry:
    """The registry of a stage, whose etcd is the stage's dict."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.etcd_down = False

    @asynccontextmanager
    async def serving(self):
        server = Server("127.0.0.1:0", SECRET, [])
        servicer = Face(self.stage.store, self.stage.workers.tellers, self._keep, self._forget)
        registry_pb2_grpc.add_RegistryServiceServicer_to_server(servicer, server.grpc)
        await server.start()
        async with open_channel(f"127.0.0.1:{server.port}", SECRET) as channel:
            self.stub = registry_pb2_grpc.RegistryServiceStub(channel)
            yield self
        await server.drain(0)

    async def add(self, name="x", address="127.0.0.1:1", subjects=(), **at):
        return await self.stub.AddExtension(
            registry_pb2.AddExtensionRequest(
                name=name,
                address=registry_pb2.PluginAddress(address=address, **at),
                subjects=subjects,
            ),
            timeout=10,
        )

    async def remove(self, name="x") -> bool:
        request = registry_pb2.RemoveExtensionRequest(name=name)
        return (await self.stub.RemoveExtension(request, timeout=10)).removed

    async def list(self):
        request = registry_pb2.ListExtensionsRequest()
        return list((await self.stub.ListExtensions(request, timeout=10)).extensions)

    async def _keep(self, name: str, value: str) -> None:
        if self.etcd_down:
            raise Unavailable("etcd does not answer")
        self.stage.extensions[name] = json.loads(value)
        self.stage.workers.extensions_changed()

    async def _forget(self, name: str) -> None:
        if self.etcd_down:
            raise Unavailable("etcd does not answer")
        self.stage.extensions.pop(name, None)
        self.stage.workers.extensions_changed()


@asynccontextmanager
async def registry(tmp_path, **settings):
    async with staged(tmp_path, **settings) as stage, Registry(stage).serving() as found:
        yield found


async def refused(call) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details() or ""


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"name": ""}, "name"),
        ({"name": "Has Capitals"}, "name"),
        ({"name": "x" * 41}, "name"),
        ({"name": "../notifiers/x"}, "name"),
        ({"address": ""}, "host:port"),
        ({"address": "nowhere"}, "host:port"),
        ({"address": "host:0"}, "host:port"),
        ({"address": "host:99999"}, "host:port"),
        ({"address": "host:12345678901234567890"}, "host:port"),
        ({"address": "a" * 400 + ":1"}, "host:port"),
        ({"address": "ho\nst:1"}, "host:port"),
        ({"server_name": "na\x00me"}, "server name"),
        ({"subjects": ["chat"]}, "pattern"),
        ({"subjects": ["/chat/*/x/*", "/a/"]}, "pattern"),
        ({"subjects": ["/a"] * 101}, "patterns"),
    ],
    ids=str,
)
def test_what_cannot_be_registered_is_refused_in_words(run, tmp_path, wrong, word):
    async def claim():
        async with registry(tmp_path) as found:
            code, words = await refused(found.add(**wrong))
            assert (code, word in words) == (grpc.StatusCode.INVALID_ARGUMENT, True), words
            assert await found.list() == []
            assert not await found.stage.store.read(lambda tx: tx.is_observed())

    run(claim())


def test_what_is_published_after_the_answer_is_told(run, tmp_path, store_settings):
    async def claim():
        observer = Observer(SECRET)
        address = await observer.start()
        async with registry(tmp_path, **store_settings) as found:
            found.stage.log.publish("/a", "before")
            await found.stage.report()
            await found.add(address=address)
            found.stage.log.publish("/a", "after")
            Client(found.stage.log, "ann").connect("/a")
            await found.stage.report()
            await kept_up(found.stage)
            assert observer.texts("/a") == ["after"]
            assert len(observer.presences("ann")) == 1
        await observer.stop()

    run(claim())


def test_the_list_says_where_each_is_how_far_and_what_it_failed_with(run, tmp_path):
    async def claim():
        async with registry(tmp_path) as found:
            await found.add("y", "127.0.0.1:1", ["/chat/*"], plain=True, server_name="there")
            await found.add("x", "127.0.0.1:1")
            found.stage.log.publish("/a", "1")
            found.stage.log.publish("/chat/1", "1")
            await found.stage.report()
            x, y = await found.list()
            assert (x.name, x.behind, list(x.subjects)) == ("x", 2, [])
            assert (y.name, y.address.address, y.address.plain) == ("y", "127.0.0.1:1", True)
            assert (y.address.server_name, list(y.subjects)) == ("there", ["/chat/*"])
            assert "not connected" in x.fault
            assert await found.remove("y") is True
            assert await found.remove("y") is False
            assert [one.name for one in await found.list()] == ["x"]

    run(claim())


def test_one_that_is_told_shows_no_fault(run, tmp_path):
    async def claim():
        observer = Observer(SECRET)
        address = await observer.start()
        async with registry(tmp_path) as found:
            await found.add(address=address)
            found.stage.log.publish("/a", "1")
            await found.stage.report()
            await kept_up(found.stage)

            async def well() -> bool:
                [one] = await found.list()
                return (one.behind, one.fault) == (0, "")

            await until(well, 5)
        await observer.stop()

    run(claim())


def test_a_registration_that_ended_half_way_is_made_again(run, tmp_path):
    async def claim():
        observer = Observer(SECRET)
        address = await observer.start()
        async with registry(tmp_path) as found:
            found.etcd_down = True
            assert (await refused(found.add(address=address)))[0] is grpc.StatusCode.UNAVAILABLE
            [half] = await found.list()
            assert "add it again" in half.fault and half.address.address == ""
            found.stage.log.publish("/a", "meanwhile")
            await found.stage.report()
            found.etcd_down = False
            await found.add(address=address)
            await kept_up(found.stage)
            assert observer.texts("/a") == ["meanwhile"]
            found.etcd_down = True
            assert (await refused(found.remove()))[0] is grpc.StatusCode.UNAVAILABLE
            found.etcd_down = False
            assert await found.remove() is True
        await observer.stop()

    run(claim())


def test_there_are_only_so_many(run, tmp_path):
    async def claim():
        async with registry(tmp_path) as found:
            for n in range(EXTENSIONS_MAX):
                await found.add(f"x{n}")
            code, words = await refused(found.add("one-more"))
            assert code is grpc.StatusCode.FAILED_PRECONDITION and "remove one" in words
            await found.add("x0", "127.0.0.1:2")

    run(claim())


def test_a_damaged_key_is_nobody():
    assert registration_of("x", {}) is None
    assert registration_of("x", {"address": "a:1", "subjects": "/a"}) is None
    assert registration_of("../x", {"address": "a:1"}) is None
    found = registration_of("x", {"address": "a:1", "plain": 1, "more": 2})
    assert found is not None and not found.plain
