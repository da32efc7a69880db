"""A coordinator over real gRPC, as an edge sees it."""

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest
from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Code
from services.coordinator.effects import Forget
from tests.coordinator.harness import (
    DISCONNECTED,
    Edge,
    Run,
    connected,
    coordinator,
    edge,
    event,
    owned,
    publish,
)
from tests.real_etcd import EtcdServer
from tests.waiting import until

Watch = coordinator_pb2.Watch


def test_a_call_without_the_secret_is_refused(run: Run, etcd: EtcdServer, tmp_path: Path) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it:
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{it.server.port}")
            call = channel.stream_stream("/onward.coordinator.v1.CoordinatorService/Uplink")()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call.read()
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            await channel.close()

    run(body())


def test_a_stream_that_does_not_begin_with_hello_is_refused(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it:
            one = Edge(f"127.0.0.1:{it.server.port}", edge_id=0)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await one.open()
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            await one.channel.close()

    run(body())


def test_a_publish_is_answered_and_a_repeat_as_the_first_was(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            assert one.hello is not None and one.hello.partitions == 4
            epoch, _ = owned(it, "/a")
            first = await one.publish(it, "/a", "x", "y")
            again = await one.publish(it, "/a", "y", "z")
            assert [(a.accepted.seq, a.accepted.epoch, a.accepted.duplicate) for a in first] == [
                (1, epoch, False),
                (2, epoch, False),
            ]
            assert [(a.accepted.seq, a.accepted.duplicate) for a in again] == [
                (2, True),
                (3, False),
            ]

    run(body())


def test_requests_for_another_epoch_are_not_taken(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            epoch, partition = owned(it, "/a")
            append = one.append(publish=publish("/a", "x", "p1"))
            watch = Watch(subject="/a")
            await one.ask(epoch - 1, partition, appends=[append], watches=[watch])
            (not_owner,) = await one.got("not_owner")
            assert (not_owner.partition, not_owner.epoch) == (partition, epoch - 1)
            await one.publish(it, "/a", "later")
            assert len(one.received.appended) == 1 and not one.received.watched

    run(body())


def test_a_watching_edge_gets_everything_above_the_head_in_order(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with (
            coordinator(etcd.address, tmp_path) as it,
            edge(it, 7) as publisher,
            edge(it, 8) as watcher,
        ):
            epoch, partition = owned(it, "/a")
            await publisher.publish(it, "/a", "t1", "t2")
            await watcher.ask(epoch, partition, watches=[Watch(subject="/a")])
            (watched,) = await watcher.got("watched")
            assert (watched.head, watched.floor, watched.epoch) == (2, 0, epoch)
            await publisher.publish(it, "/a", *(f"u{n}" for n in range(50)))
            deliveries = await watcher.got("deliveries", 50)
            assert [it.message.seq for it in deliveries] == list(range(3, 53))
            assert [it.pos for it in deliveries] == sorted(it.pos for it in deliveries)
            assert not publisher.received.deliveries
            await watcher.ask(epoch, partition, unwatches=["/a"])
            await watcher.publish(it, "/a", "unseen")
            assert len(watcher.received.deliveries) == 50

    run(body())


def test_a_watch_amid_a_stream_of_messages_misses_none_and_repeats_none(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with (
            coordinator(etcd.address, tmp_path) as it,
            edge(it, 7) as publisher,
            edge(it, 8) as watcher,
        ):
            epoch, partition = owned(it, "/a")

            async def flood() -> None:
                for n in range(100):
                    append = publisher.append(publish=publish("/a", "x", f"p{n}"))
                    await publisher.ask(epoch, partition, appends=[append])

            flooding = asyncio.create_task(flood())
            await publisher.got("appended", 20)
            await watcher.ask(epoch, partition, watches=[Watch(subject="/a")])
            await flooding
            (watched,) = await watcher.got("watched")
            deliveries = await watcher.got("deliveries", 100 - watched.head)
            assert [d.message.seq for d in deliveries] == list(range(watched.head + 1, 101))

    run(body())


def test_the_same_edge_opens_a_new_stream_and_the_old_one_ends(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as old, edge(it) as new:
            await asyncio.wait_for(old.ended.wait(), 5)
            assert (await new.publish(it, "/a", "x"))[0].accepted.seq == 1

    run(body())


def test_a_heartbeat_is_echoed(run: Run, etcd: EtcdServer, tmp_path: Path) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            await one.send(heartbeat=41)
            await until(lambda: one.received.heartbeat == 41)

    run(body())


def test_presence_events_are_recorded_and_a_stale_connect_is_refused(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            first = event(1, connected=connected("/a", "/b"))
            (answer, repeat) = await one.record(it, first, first)
            assert answer.recorded == repeat.recorded
            assert answer.recorded.generation == 1
            stale = event(1, session="s2", connected=connected(last=9))
            (answer,) = await one.record(it, stale)
            assert answer.refusal.code == Code.STALE_SESSION
            assert answer.refusal.generation == 1
            newer = event(1, session="s3", connected=connected("/c", last=1))
            (answer,) = await one.record(it, newer)
            assert answer.recorded.generation == 2
            assert await one.got("replaced_sessions") == ["s1"]
            late = event(2, session="s1", generation=1, disconnected=DISCONNECTED)
            (answer,) = await one.record(it, late)
            assert answer.recorded.pos == 3
            read = coordinator_pb2.ReadClient(request=1, user="ann", client_id="c")
            await one.ask(*owned(it, "ann"), read_clients=[read])
            (state,) = await one.got("clients")
            assert state == coordinator_pb2.ClientState(request=1, generation=2, follows=["/c"])

    run(body())


def test_an_edge_that_was_away_is_told_of_replaced_sessions_when_it_returns(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it, 8) as one:
            async with edge(it, 7) as away:
                await away.record(it, event(1, connected=connected()))
            newer = event(1, session="s2", edge_id=8, connected=connected(last=1))
            await one.record(it, newer)
            assert not one.received.replaced_sessions
            async with edge(it, 7) as back:
                assert await back.got("replaced_sessions") == ["s1"]

    run(body())


def test_the_sixty_fifth_client_of_a_user_is_refused(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            events = [
                event(1, client=f"c{n}", session=f"s{n}", connected=connected()) for n in range(65)
            ]
            answers = await one.record(it, *events)
            assert all(answer.HasField("recorded") for answer in answers[:64])
            assert answers[64].refusal.code == Code.TOO_MANY_CLIENTS

    run(body())


def test_a_queue_that_is_full_refuses_as_overloaded(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with (
            coordinator(etcd.address, tmp_path, queue_appends_max=1) as it,
            edge(it) as one,
        ):
            epoch, partition = owned(it, "/a")
            groups = [
                coordinator_pb2.PartitionRequests(
                    partition=partition,
                    epoch=epoch,
                    appends=[one.append(publish=publish("/a", "x", f"p{n}"))],
                )
                for n in range(5)
            ]
            await one.send(*groups)
            answers = await one.answers(1, 2, 3, 4, 5)
            codes = [a.refusal.code for a in answers if a.HasField("refusal")]
            assert codes and set(codes) == {Code.OVERLOADED}
            assert answers[0].accepted.seq == 1

    run(body())


def test_an_edge_too_far_behind_has_its_stream_closed(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with (
            coordinator(etcd.address, tmp_path, uplink_bytes_max=65_536) as it,
            edge(it, 7) as one,
            edge(it, 8) as other,
        ):
            epoch, partition = owned(it, "/a")
            await one.ask(epoch, partition, watches=[Watch(subject="/a")])
            await one.got("watched")
            await other.publish(it, "/a", *(f"{n}" + "x" * 8_000 for n in range(20)))
            await asyncio.wait_for(one.ended.wait(), 5)
            assert len(it.uplinks) == 1

    run(body())


def test_messages_and_tails_are_read_from_the_store(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            await one.publish(it, "/a", *(f"t{n}" for n in range(5)))
            request = coordinator_pb2.ReadMessagesRequest(subject="/a", after_seq=2, limit=2)
            page = await one.stub.ReadMessages(request)
            assert [m.message.content.text for m in page.messages] == ["t2", "t3"]
            assert (page.head, page.floor) == (5, 0)
            assert one.hello is not None and page.log_id == one.hello.log_id
            _, partition = owned(it, "/a")
            tails = await one.stub.ReadTails(coordinator_pb2.ReadTailsRequest())
            assert [(t.partition, t.pos) for t in tails.tails] == [
                (p, 5 if p == partition else 0) for p in range(4)
            ]

    run(body())


def test_a_transient_message_reaches_the_watchers_and_is_in_no_log(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it, 7) as one:
            epoch, partition = owned(it, "/a")
            await one.ask(epoch, partition, watches=[Watch(subject="/a")])
            typing = publish("/a", "typing", "t1")
            typing.transient = True
            appends = [one.append(publish=typing) for _ in range(2)]
            await one.ask(epoch, partition, appends=appends)
            answers = await one.answers(*(append.request for append in appends))
            assert [(a.accepted.seq, a.accepted.epoch) for a in answers] == [(0, epoch)] * 2
            relayed = await one.got("transients", 2)
            assert [(m.subject, m.seq, m.content.text) for m in relayed] == [
                ("/a", 0, "typing")
            ] * 2
            assert await it.status._store.read_tails([partition]) == {partition: 0}

    run(body())


def test_a_retained_message_can_be_read(run: Run, etcd: EtcdServer, tmp_path: Path) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            read = coordinator_pb2.ReadRetainedRequest(subject="/a")
            none = await one.stub.ReadRetained(read)
            assert not none.HasField("retained")
            assert one.hello is not None and none.log_id == one.hello.log_id
            for number, text in enumerate(("x", "y", "")):
                keep = publish("/a", text, f"p{number}")
                keep.retain = True
                append = one.append(publish=keep)
                await one.ask(*owned(it, "/a"), appends=[append])
                (answer,) = await one.answers(append.request)
                assert answer.accepted.seq == number + 1
                response = await one.stub.ReadRetained(read)
                assert response.HasField("retained") == bool(text)
                assert response.retained.message.content.text == text

    run(body())


def test_a_megabyte_where_a_name_belongs_is_refused_and_the_stream_goes_on(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            epoch, partition = owned(it, "/a")
            large = "x" * 1_000_000
            headers = publish("/a", "hi", "p1")
            headers.content.headers["title"] = large
            asked = [
                (publish("/" + large, "hi", "p1"), Code.SUBJECT_INVALID),
                (publish("/a", "hi", large), Code.PUBLICATION_ID_INVALID),
                (publish("/a", large, "p2"), Code.CONTENT_TOO_LARGE),
                (headers, Code.HEADERS_TOO_LARGE),
            ]
            appends = [one.append(publish=it) for it, _ in asked]
            watch = Watch(subject="/" + large)
            await one.ask(epoch, partition, appends=appends, watches=[watch])
            answers = await one.answers(*(append.request for append in appends))
            assert [a.refusal.code for a in answers] == [code for _, code in asked]
            (good,) = await one.publish(it, "/a", "still")
            assert good.accepted.seq == 1 and not one.received.watched

    run(body())


@pytest.mark.parametrize(
    "request_",
    [
        coordinator_pb2.ReadMessagesRequest(subject="a", limit=1),
        coordinator_pb2.ReadMessagesRequest(subject="/a", limit=0),
        coordinator_pb2.ReadMessagesRequest(subject="/a", limit=1_001),
        coordinator_pb2.ReadMessagesRequest(subject="/a", limit=1, after_seq=1 << 63),
        coordinator_pb2.ReadRetainedRequest(subject="a"),
        coordinator_pb2.ReadTailsRequest(partitions=[4]),
        coordinator_pb2.ReadTailsRequest(partitions=[0] * 1_025),
    ],
    ids=str,
)
def test_a_read_out_of_range_is_refused(
    run: Run, etcd: EtcdServer, tmp_path: Path, request_: object
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            name = type(request_).__name__.removesuffix("Request")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await getattr(one.stub, name)(request_)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(body())


def test_everything_is_there_after_a_restart_on_the_same_data(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            before, _ = owned(it, "/a")
            await one.publish(it, "/a", "x", "y")
            (connect,) = await one.record(it, event(1, connected=connected("/a")))
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            epoch, _ = owned(it, "/a")
            assert epoch > before
            (old, new) = await one.publish(it, "/a", "y", "z")
            assert (old.accepted.seq, old.accepted.epoch) == (2, before)
            assert (new.accepted.seq, new.accepted.epoch) == (3, epoch)
            (again,) = await one.record(it, event(1, connected=connected("/a")))
            assert again.recorded == connect.recorded

    run(body())


def test_a_forgotten_client_is_told_to_presence_and_may_return(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            await one.record(
                it,
                event(1, connected=connected("/a")),
                event(2, generation=1, disconnected=DISCONNECTED),
            )
            epoch, partition = owned(it, "ann")
            it.committer.forget(partition, epoch, [Forget("ann", "c", 1)])
            await it.committer.settled()
            stored = await it.status._store.read_entries(partition, 2, 9, 10_000)
            (entry,) = [entry_pb2.Entry.FromString(row.entry) for row in stored]
            assert entry.presence.WhichOneof("event") == "logged_out"
            assert entry.presence.generation == 2
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            back = connected(last=1, replaces=False)
            (stale,) = await one.record(it, event(1, session="s2", connected=back))
            assert stale.refusal.code == Code.STALE_SESSION and stale.refusal.generation == 2
            (again,) = await one.record(it, event(1, session="s3", connected=connected("/a")))
            assert again.recorded.generation == 3

    run(body())


def test_a_mark_is_appended_and_not_answered(run: Run, etcd: EtcdServer, tmp_path: Path) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path) as it, edge(it) as one:
            epoch, partition = owned(it, "/a")
            mark = entry_pb2.Mark(edge_id=7, round=1, pos=1)
            await one.ask(epoch, partition, appends=[one.append(mark=mark)])
            await one.publish(it, "/a", "x")
            tails = await one.stub.ReadTails(
                coordinator_pb2.ReadTailsRequest(partitions=[partition])
            )
            assert tails.tails[0].pos == 2
            assert [a.request for a in one.received.appended] == [2]

    run(body())
