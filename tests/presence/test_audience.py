"""Who is there: on a subject, and of one user, asked once or watched."""

import asyncio

import grpc
import grpc.aio
import pytest
from onward.presence.v1 import presence_pb2 as pb
from onward.presence.v1 import users_pb2

from services.chassis.channel import credentials
from services.presence import audience
from tests.presence.stage import SECRET, Client, Stage, staged
from tests.waiting import until


async def presence(stage: Stage, **question) -> pb.GetPresenceResponse:
    return await stage.query.GetPresence(pb.GetPresenceRequest(**question), timeout=20)


def clients(answer: pb.GetPresenceResponse) -> list[tuple[str, str, str]]:
    return [(one.user, one.client_id, one.state) for one in answer.clients]


def watching(stage: Stage, **question):
    request = pb.WatchPresenceRequest(question=pb.GetPresenceRequest(**question))
    return stage.query.WatchPresence(request, metadata=credentials(SECRET))


async def told(call) -> pb.GetPresenceResponse:
    return (await asyncio.wait_for(call.read(), 10)).presence


@pytest.mark.parametrize(
    "question",
    [
        {},
        {"subject": "a"},
        {"user": ""},
        {"user": "x" * 129},
        {"subject": "/a", "after_user": "\n"},
    ],
)
def test_a_question_about_nobody_is_refused(run, tmp_path, question):
    async def claim():
        async with staged(tmp_path) as stage:
            for call in (presence(stage, **question), told(watching(stage, **question))):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(claim())


def test_a_subject_tells_who_is_there_and_counts_who_is_not(run, tmp_path, store_settings):
    async def claim():
        async with staged(tmp_path, **store_settings) as stage:
            cid = Client(stage.log, "cid")
            cid.connect("/a")
            bob = Client(stage.log, "bob")
            bob.connect("/a")
            bob.set_activity(False)
            ann = Client(stage.log, "ann")
            ann.connect("/a")
            ann.disconnect()
            Client(stage.log, "dan").connect("/b")
            await stage.report()
            added = users_pb2.AddFollowsRequest(users=["ann", "eve"], subjects=["/a"])
            await stage.users.AddFollows(added, timeout=20)
            await until(lambda: counted(stage, 2, 1))
            answer = await presence(stage, subject="/a")
            assert clients(answer) == [("bob", "bob-1", "online"), ("cid", "cid-1", "online")]
            assert [one.active for one in answer.clients] == [False, True]
            assert all(one.since.seconds for one in answer.clients)

    async def counted(stage, present, absent):
        answer = await presence(stage, subject="/a")
        return (answer.present, answer.absent) == (present, absent)

    run(claim())


def test_who_is_there_comes_in_pages_of_whole_users(run, tmp_path, monkeypatch):
    monkeypatch.setattr(audience, "_PAGE", 3)

    async def claim():
        async with staged(tmp_path) as stage:
            for name in ("c1", "c2", "c3", "c4"):
                Client(stage.log, "bob", name).connect("/a")
            for user in ("ann", "cid", "dan"):
                Client(stage.log, user).connect("/a")
            await stage.report()
            pages, after = [], ""
            while True:
                answer = await presence(stage, subject="/a", limit=2, after_user=after)
                assert (answer.present, answer.absent) == (7, 0)
                pages.append([one.user for one in answer.clients])
                after = answer.next_after_user
                if not after:
                    break
            assert pages == [["ann", *["bob"] * 4], ["cid", "dan"]]

    run(claim())


def test_more_followers_than_one_call_reads_are_told_by_further_calls(run, tmp_path, monkeypatch):
    monkeypatch.setattr(audience, "_PAGE", 4)
    monkeypatch.setattr(audience, "COUNTED_MAX", 8)

    async def claim():
        async with staged(tmp_path) as stage:
            for number in range(10):
                Client(stage.log, f"u{number}").connect("/a")
            await stage.report()
            answer = await presence(stage, subject="/a")
            assert answer.present == 8, "counted up to the bound"
            seen = [one.user for one in answer.clients]
            assert answer.next_after_user == seen[-1]
            while answer.next_after_user:
                after = answer.next_after_user
                answer = await presence(stage, subject="/a", after_user=after)
                seen += [one.user for one in answer.clients]
            assert seen == [f"u{number}" for number in range(10)]

    run(claim())


def test_a_user_is_told_with_all_clients_and_when_last_seen(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            assert await presence(stage, user="ann") == pb.GetPresenceResponse()
            phone, tab = Client(stage.log, "ann", "phone"), Client(stage.log, "ann", "tab")
            phone.connect("/a")
            tab.connect()
            await stage.report()
            answer = await presence(stage, user="ann")
            assert clients(answer) == [("ann", "phone", "online"), ("ann", "tab", "online")]
            assert not answer.HasField("last_seen")
            phone.disconnect()
            tab.disconnect()
            await stage.report()
            await until(lambda: away(stage))
            answer = await presence(stage, user="ann")
            assert answer.last_seen == max(
                (one.since for one in answer.clients), key=lambda at: at.ToNanoseconds()
            )

    async def away(stage):
        answer = await presence(stage, user="ann")
        return {one.state for one in answer.clients} == {"offline"}

    run(claim())


@pytest.mark.parametrize("question", [{"subject": "/a"}, {"user": "ann"}])
def test_a_watch_tells_each_change(run, tmp_path, question):
    async def claim():
        async with staged(tmp_path, grace_s=1.0) as stage:
            call = watching(stage, **question)
            assert clients(await told(call)) == []
            ann = Client(stage.log, "ann")
            ann.connect("/a")
            await stage.report()
            assert clients(await told(call)) == [("ann", "ann-1", "online")]
            ann.disconnect()
            await stage.report()
            assert clients(await told(call)) == [("ann", "ann-1", "grace")]
            last = await told(call)
            assert clients(last) == ([] if "subject" in question else [("ann", "ann-1", "offline")])
            call.cancel()

    run(claim())


def test_more_watches_than_allowed_are_refused_and_a_place_that_is_left_is_free(run, tmp_path):
    async def claim():
        async with staged(tmp_path, watches_max=1) as stage:
            first = watching(stage, user="ann")
            await told(first)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await told(watching(stage, subject="/a"))
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            first.cancel()
            await until(lambda: not stage.workers._audience._watches)
            again = watching(stage, user="ann")
            await told(again)
            again.cancel()

    run(claim())


def test_watches_end_when_the_service_does(run, tmp_path):
    async def claim():
        async with staged(tmp_path) as stage:
            call = watching(stage, user="ann")
            await told(call)
            await stage.workers.drain()
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await told(call)
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE

    run(claim())
