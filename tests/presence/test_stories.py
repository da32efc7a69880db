"""Watching a story: told at once, after each change, and to so many at a time."""

import asyncio

import grpc
import grpc.aio
import pytest
from onward.presence.v1 import presence_pb2

from services.chassis.channel import credentials
from tests.presence.stage import SECRET, Client, FakePlugin, Stage, staged
from tests.waiting import until

NAME = presence_pb2.Outcome.State.Name


def watching(stage: Stage, user: str = "ann", subject: str = "/a"):
    question = presence_pb2.ExplainRequest(user=user, subject=subject)
    request = presence_pb2.WatchStoryRequest(question=question)
    return stage.query.WatchStory(request, metadata=credentials(SECRET))


async def told(call) -> presence_pb2.ExplainResponse:
    return (await asyncio.wait_for(call.read(), 10)).story


def states(story: presence_pb2.ExplainResponse) -> list[str]:
    return [NAME(outcome.state) for outcome in story.outcomes]


def test_a_watch_tells_the_whole_story_of_a_message_as_it_happens(run, tmp_path):
    async def claim():
        async with staged(tmp_path, FakePlugin(), grace_s=0.5) as stage:
            ann = Client(stage.log, "ann")
            call = watching(stage)
            assert states(await told(call)) == []
            ann.connect("/a", endpoints=["mailto:ann@example.org"])
            await stage.report()
            story = await told(call)
            assert [(c.state, c.active) for c in story.clients] == [("online", True)]
            ann.set_activity(False)
            await stage.report()
            assert not (await told(call)).clients[0].active
            stage.log.publish("/a", "hello")
            await stage.report()
            assert states(await told(call)) == ["ANSWERED_FOR"]
            ann.disconnect()
            await stage.report()
            story = await told(call)
            assert story.clients[0].state == "grace"
            seen = [story]
            while states(seen[-1]) != ["NOTIFIED"]:
                seen.append(await told(call))
            assert len(seen) <= 6, "changes close to one another are told as one"
            call.cancel()

    run(claim())


def test_headers_that_do_not_count_are_told_from_the_log(run, tmp_path):
    async def claim():
        file = tmp_path / "routing.yaml"
        file.write_text("categories: {news: {}}\n")
        async with staged(tmp_path, FakePlugin(), routing=str(file)) as stage:
            ann = Client(stage.log, "ann")
            ann.connect("/a", endpoints=["mailto:ann@example.org"])
            ann.disconnect()
            stage.log.publish("/a", "one", category="news", priority="high")
            stage.log.publish("/a", "two", category="nws", priority="asap")
            await stage.report()
            question = presence_pb2.ExplainRequest(user="ann", subject="/a")
            right, wrong = (await stage.query.Explain(question, timeout=20)).outcomes
            assert "passed over" not in right.text
            assert "The header `category` is passed over: the routing file has no" in wrong.text
            assert "The header `priority` is passed over: it is none of" in wrong.text
            assert "nws" not in wrong.text

    run(claim())


def test_a_quiet_store_is_told_once_and_hardly_read(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            call = watching(stage)
            await told(call)
            reads = stage.log.reads
            other = Client(stage.log, "bob")
            other.connect("/elsewhere-entirely")
            await stage.report()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call.read(), 1)
            assert stage.log.reads <= reads + 2
            call.cancel()

    run(claim())


def test_more_watches_than_allowed_are_refused_and_a_place_that_is_left_is_free(run, tmp_path):
    async def claim():
        async with staged(tmp_path, watches_max=1) as stage:
            first = watching(stage)
            await told(first)
            second = watching(stage)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await told(second)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            first.cancel()
            await until(lambda: not stage.workers._stories._watches)
            third = watching(stage)
            assert states(await told(third)) == []
            third.cancel()

    run(claim())


def test_a_question_that_means_nothing_is_refused(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await told(watching(stage, subject="no subject"))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(claim())


def test_a_watch_outlives_a_log_that_cannot_be_read_for_a_while(run, tmp_path):
    async def claim():
        async with staged(tmp_path, read_deadline_s=0.2) as stage:
            ann = Client(stage.log, "ann")
            call = watching(stage)
            await told(call)
            stage.log.messages_down = True
            ann.connect("/a")
            await stage.report()
            await until(lambda: stage.workers._reader.unreadable)
            stage.log.messages_down = False
            ann.disconnect()
            await stage.report()
            assert (await told(call)).clients[0].client_id == "ann-1"
            call.cancel()

    run(claim())


def test_the_end_of_the_service_ends_its_watches(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            call = watching(stage)
            await told(call)
            await stage.workers.drain()
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await told(call)
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE

    run(claim())
