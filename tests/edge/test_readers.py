"""Asking presence over real gRPC: which replica is asked, and what becomes of a watch that ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import grpc
import pytest
from onward.presence.v1 import (
    deliveries_pb2,
    deliveries_pb2_grpc,
    presence_pb2,
    presence_pb2_grpc,
    registry_pb2,
    registry_pb2_grpc,
    users_pb2,
    users_pb2_grpc,
)

from services.chassis.cluster import Directory
from services.chassis.etcd import KeyValue, Snapshot
from services.chassis.refusals import Code, Refusal
from services.chassis.server import Server
from services.edge.readers import Readers
from tests.waiting import until

SECRET = "a secret of sixteen characters"
QUESTION = presence_pb2.ExplainRequest(user="ann", subject="/a", limit=5)
Run = Callable[[Any], Any]


def story(text: str) -> presence_pb2.ExplainResponse:
    return presence_pb2.ExplainResponse(outcomes=[presence_pb2.Outcome(text=text)])


class Presence(presence_pb2_grpc.PresenceQueryServiceServicer):
    """Tells two stories, then does as `end` says."""

    def __init__(self, end: grpc.StatusCode | None, tells: Sequence[str] = ("one", "two")) -> None:
        self.end = end  # None: it goes on
        self.tells = tells
        self.asked: list[presence_pb2.ExplainRequest] = []
        self.left = 0

    async def WatchStory(
        self, request: presence_pb2.WatchStoryRequest, context: Any
    ) -> AsyncIterator[presence_pb2.WatchStoryResponse]:
        self.asked.append(request.question)
        try:
            for text in self.tells:
                yield presence_pb2.WatchStoryResponse(story=story(text))
            if self.end is None:
                await asyncio.Event().wait()
            elif self.end is not grpc.StatusCode.OK:
                await context.abort(self.end, "no more")
        finally:
            self.left += 1

    async def Explain(
        self, request: presence_pb2.ExplainRequest, context: Any
    ) -> presence_pb2.ExplainResponse:
        self.asked.append(request)
        if self.end is not None:
            await context.abort(self.end, "not now")
        return story(self.tells[0])


def directory(*addresses: str, owner: int = 0) -> Directory:
    """A directory of these presence replicas, of which one owns every partition."""
    keys: dict[str, Any] = {"config": {"partitions": 4}}
    for number, address in enumerate(addresses):
        keys[f"presence/p{number}"] = {"address": address}
    for partition in range(4):
        keys[f"presence-partitions/{partition}"] = {"name": f"p{owner}", "era": 0}
    found = Directory(None)  # type: ignore[arg-type] - it is fed by hand
    kept = [KeyValue(f"/onward/{k}", json.dumps(v), 1, 1, 0) for k, v in keys.items()]
    found.apply(Snapshot(1, kept))
    return found


@asynccontextmanager
async def serving(presence: Presence) -> AsyncIterator[str]:
    """A replica; its address."""
    server = Server("127.0.0.1:0", SECRET, [])
    presence_pb2_grpc.add_PresenceQueryServiceServicer_to_server(presence, server.grpc)
    await server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        await server.drain(0)


@asynccontextmanager
async def watching(end: grpc.StatusCode | None) -> AsyncIterator[tuple[Presence, Readers]]:
    presence = Presence(end)
    async with serving(presence) as address:
        readers = Readers(directory(address), SECRET)
        try:
            yield presence, readers
        finally:
            await readers.close()


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (grpc.StatusCode.OK, Code.UNAVAILABLE),
        (grpc.StatusCode.UNAVAILABLE, Code.UNAVAILABLE),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Code.OVERLOADED),
        (grpc.StatusCode.INVALID_ARGUMENT, Code.ARGUMENT_INVALID),
    ],
)
def test_a_watch_tells_each_story_and_last_the_refusal_that_ended_it(
    run: Run, end: grpc.StatusCode, code: Any
) -> None:
    async def main() -> None:
        async with watching(end) as (presence, readers):
            *stories, last = [told async for told in readers.watch_story(QUESTION)]
            assert stories == [story("one"), story("two")]
            assert isinstance(last, Refusal)
            assert last.code == code
            assert presence.asked == [QUESTION]

    run(main())


def test_a_watch_that_is_closed_leaves_presence(run: Run) -> None:
    async def main() -> None:
        async with watching(None) as (presence, readers):
            async with aclosing(cast(Any, readers.watch_story(QUESTION))) as stories:
                assert await anext(stories) == story("one")
            await until(lambda: presence.left == 1)

    run(main())


class Users(users_pb2_grpc.UserServiceServicer):
    """Ends calls as `end` says; answers others."""

    def __init__(self, end: grpc.StatusCode | None) -> None:
        self.end = end
        self.asked: list[Any] = []

    async def AddEndpoint(self, request: Any, context: Any) -> users_pb2.AddEndpointResponse:
        self.asked.append(request)
        if self.end is not None:
            await context.abort(self.end, "At most 16 of them.")
        return users_pb2.AddEndpointResponse()

    async def Mute(self, request: Any, context: Any) -> users_pb2.MuteResponse:
        assert self.end is not None
        await context.abort(self.end, "At most 500 of them.")
        raise AssertionError


@asynccontextmanager
async def serving_users(*users: Users) -> AsyncIterator[Readers]:
    """Replicas that serve users' data; the first owns every partition."""
    servers = [Server("127.0.0.1:0", SECRET, []) for _ in users]
    for server, one in zip(servers, users, strict=True):
        users_pb2_grpc.add_UserServiceServicer_to_server(one, server.grpc)
        await server.start()
    readers = Readers(directory(*(f"127.0.0.1:{server.port}" for server in servers)), SECRET)
    try:
        yield readers
    finally:
        await readers.close()
        for server in servers:
            await server.drain(0)


ADD = users_pb2.AddEndpointRequest(user="ann", uri="fcm:1")


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, Code.ARGUMENT_INVALID),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Code.TOO_MANY_EXTERNAL_TOKENS),
    ],
)
def test_what_every_replica_would_refuse_is_told_in_its_words_and_asked_once(
    run: Run, end: grpc.StatusCode, code: Any
) -> None:
    async def main() -> None:
        first, second = Users(end), Users(None)
        async with serving_users(first, second) as readers:
            refusal = await readers.users("AddEndpoint", "ann", ADD)
            assert (refusal.code, refusal.message) == (code, "At most 16 of them.")
            assert (first.asked, second.asked) == ([ADD], [])
            mute = await readers.users("Mute", "ann", users_pb2.MuteRequest(user="ann"))
            assert (mute.code, mute.message) == (Code.ARGUMENT_INVALID, "At most 500 of them.")

    run(main())


def test_a_change_that_one_replica_cannot_make_is_asked_of_another(run: Run) -> None:
    async def main() -> None:
        first, second = Users(grpc.StatusCode.UNAVAILABLE), Users(None)
        async with serving_users(first, second) as readers:
            answer = await readers.users("AddEndpoint", "ann", ADD)
            assert answer == users_pb2.AddEndpointResponse()
            assert (first.asked, second.asked) == ([ADD], [ADD])

    run(main())


def test_a_change_that_nobody_can_make_is_unavailable(run: Run) -> None:
    async def main() -> None:
        async with serving_users(Users(grpc.StatusCode.UNAVAILABLE)) as readers:
            refusal = await readers.users("AddEndpoint", "ann", ADD)
            assert refusal.code == Code.UNAVAILABLE

    run(main())


def test_without_presence_a_watch_says_so(run: Run) -> None:
    async def main() -> None:
        readers = Readers(directory(), SECRET)
        [told] = [told async for told in readers.watch_story(QUESTION)]
        assert isinstance(told, Refusal)
        assert told.code == Code.UNAVAILABLE
        await readers.close()

    run(main())


@pytest.mark.parametrize("owner", [0, 1])
def test_the_replica_that_owns_the_users_partition_is_asked(run: Run, owner: int) -> None:
    async def main() -> None:
        replicas = [Presence(None), Presence(None)]
        async with serving(replicas[0]) as first, serving(replicas[1]) as second:
            readers = Readers(directory(first, second, owner=owner), SECRET)
            assert await readers.explain(QUESTION) == story("one")
            assert [len(replica.asked) for replica in replicas] == [1 - owner, owner]
            await readers.close()

    run(main())


def test_another_replica_answers_for_one_that_cannot_and_is_asked_first_for_a_while(
    run: Run,
) -> None:
    async def main() -> None:
        away, there = Presence(grpc.StatusCode.UNAVAILABLE), Presence(None)
        async with serving(away) as first, serving(there) as second:
            readers = Readers(directory(first, second), SECRET)
            for _ in range(3):
                assert await readers.explain(QUESTION) == story("one")
            assert (len(away.asked), len(there.asked)) == (1, 3)
            await readers.close()

    run(main())


def test_a_watch_that_never_began_begins_at_another_replica(run: Run) -> None:
    async def main() -> None:
        away, there = Presence(grpc.StatusCode.UNAVAILABLE, ()), Presence(None, ["three"])
        async with serving(away) as first, serving(there) as second:
            readers = Readers(directory(first, second), SECRET)
            async with aclosing(cast(Any, readers.watch_story(QUESTION))) as stories:
                assert await anext(stories) == story("three")
            assert len(away.asked) == 1
            await readers.close()

    run(main())


def test_when_no_replica_answers_it_says_so(run: Run) -> None:
    async def main() -> None:
        readers = Readers(directory("127.0.0.1:1", "127.0.0.1:2"), SECRET)
        told = await readers.explain(QUESTION)
        assert isinstance(told, Refusal)
        assert told.code == Code.UNAVAILABLE
        await readers.close()

    run(main())


class Registry(registry_pb2_grpc.RegistryServiceServicer):
    """Answers with `status`; OK: lists nobody."""

    def __init__(self, status: grpc.StatusCode = grpc.StatusCode.OK) -> None:
        self.status = status
        self.asked = 0

    async def ListExtensions(
        self, request: registry_pb2.ListExtensionsRequest, context: Any
    ) -> registry_pb2.ListExtensionsResponse:
        self.asked += 1
        if self.status is not grpc.StatusCode.OK:
            await context.abort(self.status, "in presence's words")
        return registry_pb2.ListExtensionsResponse()


@asynccontextmanager
async def registries(*found: Registry) -> AsyncIterator[Readers]:
    servers = [Server("127.0.0.1:0", SECRET, []) for _ in found]
    for server, registry in zip(servers, found, strict=True):
        registry_pb2_grpc.add_RegistryServiceServicer_to_server(registry, server.grpc)
        await server.start()
    readers = Readers(directory(*(f"127.0.0.1:{server.port}" for server in servers)), SECRET)
    try:
        yield readers
    finally:
        await readers.close()
        for server in servers:
            await server.drain(0)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, Code.ARGUMENT_INVALID),
        (grpc.StatusCode.FAILED_PRECONDITION, Code.ARGUMENT_INVALID),
        (grpc.StatusCode.UNAVAILABLE, Code.UNAVAILABLE),
        (grpc.StatusCode.INTERNAL, Code.UNAVAILABLE),
    ],
)
def test_what_the_registry_refuses_is_told_in_its_words_and_no_other_is_asked(
    run: Run, status: grpc.StatusCode, code: Any
) -> None:
    async def main() -> None:
        asked = registry_pb2.ListExtensionsRequest()
        both = Registry(status), Registry(status)
        async with registries(*both) as readers:
            told = await readers.ask_registry("ListExtensions", asked)
            assert isinstance(told, Refusal)
            assert told.code == code
            refused = code == Code.ARGUMENT_INVALID
            assert (told.message == "in presence's words") is refused
            assert sum(one.asked for one in both) == (1 if refused else 2)

    run(main())


def test_a_registry_that_fails_is_passed_over(run: Run) -> None:
    async def main() -> None:
        asked = registry_pb2.ListExtensionsRequest()
        async with registries(Registry(grpc.StatusCode.UNAVAILABLE), Registry()) as readers:
            told = await readers.ask_registry("ListExtensions", asked)
            assert told == registry_pb2.ListExtensionsResponse()
        readers = Readers(directory(), SECRET)
        assert isinstance(await readers.ask_registry("ListExtensions", asked), Refusal)
        await readers.close()

    run(main())


class Deliveries(deliveries_pb2_grpc.DeliveryServiceServicer):
    """Answers with `status`."""

    def __init__(self, status: grpc.StatusCode = grpc.StatusCode.OK) -> None:
        self.status = status
        self.asked = 0

    async def _answer(self, context: Any) -> None:
        self.asked += 1
        if self.status is not grpc.StatusCode.OK:
            await context.abort(self.status, "in presence's words")

    async def ReplayDeadLetters(
        self, request: deliveries_pb2.ReplayDeadLettersRequest, context: Any
    ) -> deliveries_pb2.ReplayDeadLettersResponse:
        await self._answer(context)
        return deliveries_pb2.ReplayDeadLettersResponse(replayed=1)

    async def SendTest(
        self, request: deliveries_pb2.SendTestRequest, context: Any
    ) -> deliveries_pb2.SendTestResponse:
        await self._answer(context)
        return deliveries_pb2.SendTestResponse()


@asynccontextmanager
async def delivering(*found: Deliveries) -> AsyncIterator[Readers]:
    servers = [Server("127.0.0.1:0", SECRET, []) for _ in found]
    for server, one in zip(servers, found, strict=True):
        deliveries_pb2_grpc.add_DeliveryServiceServicer_to_server(one, server.grpc)
        await server.start()
    readers = Readers(directory(*(f"127.0.0.1:{server.port}" for server in servers)), SECRET)
    try:
        yield readers
    finally:
        await readers.close()
        for server in servers:
            await server.drain(0)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, Code.ARGUMENT_INVALID),
        (grpc.StatusCode.FAILED_PRECONDITION, Code.UNAVAILABLE),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Code.STORE_FULL),
    ],
)
def test_what_is_refused_of_deliveries_is_told_in_presences_words(
    run: Run, status: grpc.StatusCode, code: Any
) -> None:
    async def main() -> None:
        both = Deliveries(status), Deliveries(status)
        async with delivering(*both) as readers:
            asked = deliveries_pb2.ReplayDeadLettersRequest()
            told = await readers.ask_deliveries("ReplayDeadLetters", asked)
            assert (told.code, told.message) == (code, "in presence's words")
            assert sum(one.asked for one in both) == 1

    run(main())


def test_what_is_not_found_is_nothing(run: Run) -> None:
    async def main() -> None:
        async with delivering(Deliveries(grpc.StatusCode.NOT_FOUND)) as readers:
            asked = deliveries_pb2.ReplayDeadLettersRequest()
            assert await readers.ask_deliveries("ReplayDeadLetters", asked) is None

    run(main())


def test_another_replica_is_asked_but_for_what_would_be_sent_twice(run: Run) -> None:
    async def main() -> None:
        replay, test = deliveries_pb2.ReplayDeadLettersRequest(), deliveries_pb2.SendTestRequest()
        away, there = Deliveries(grpc.StatusCode.UNAVAILABLE), Deliveries()
        async with delivering(away, there) as readers:
            told = await readers.ask_deliveries("ReplayDeadLetters", replay)
            assert told.replayed == 1
        away, there = Deliveries(grpc.StatusCode.UNAVAILABLE), Deliveries()
        async with delivering(away, there) as readers:
            told = await readers.ask_deliveries("SendTest", test)
            assert told.code == Code.UNAVAILABLE
            assert (away.asked, there.asked) == (1, 0)

    run(main())
