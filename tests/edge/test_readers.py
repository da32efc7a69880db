"""Watching a story over real gRPC: what presence tells, and what becomes of a watch that ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import grpc
import pytest
from onward.presence.v1 import presence_pb2, presence_pb2_grpc

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

    def __init__(self, end: grpc.StatusCode | None) -> None:
        self.end = end  # None: it goes on
        self.asked: list[presence_pb2.ExplainRequest] = []
        self.left = 0

    async def WatchStory(
        self, request: presence_pb2.WatchStoryRequest, context: Any
    ) -> AsyncIterator[presence_pb2.WatchStoryResponse]:
        self.asked.append(request.question)
        try:
            for text in ("one", "two"):
                yield presence_pb2.WatchStoryResponse(story=story(text))
            if self.end is None:
                await asyncio.Event().wait()
            elif self.end is not grpc.StatusCode.OK:
                await context.abort(self.end, "no more")
        finally:
            self.left += 1


def directory(address: str) -> Directory:
    """A directory in which presence works at `address`; empty: nowhere."""
    keys = {"presence-owner": {"name": "p1"}, "presence/p1": {"address": address}}
    found = Directory(None)  # type: ignore[arg-type] - it is fed by hand
    kept = [KeyValue(f"/onward/{k}", json.dumps(v), 1, 1, 0) for k, v in keys.items()]
    found.apply(Snapshot(1, kept if address else []))
    return found


@asynccontextmanager
async def watching(end: grpc.StatusCode | None) -> AsyncIterator[tuple[Presence, Readers]]:
    server = Server("127.0.0.1:0", SECRET, [])
    presence = Presence(end)
    presence_pb2_grpc.add_PresenceQueryServiceServicer_to_server(presence, server.grpc)
    await server.start()
    readers = Readers(directory(f"127.0.0.1:{server.port}"), SECRET)
    try:
        yield presence, readers
    finally:
        await readers.close()
        await server.drain(0)


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


def test_without_presence_a_watch_says_so(run: Run) -> None:
    async def main() -> None:
        readers = Readers(directory(""), SECRET)
        [told] = [told async for told in readers.watch_story(QUESTION)]
        assert isinstance(told, Refusal)
        assert told.code == Code.UNAVAILABLE
        await readers.close()

    run(main())
