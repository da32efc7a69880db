"""What operators are told: the numbers, and what is wrong."""

from pathlib import Path

import pytest
from onward.coordinator.v1 import coordinator_pb2

from services.coordinator.status import Standing, raised
from tests.coordinator.harness import Run, coordinator, edge, owned, publish
from tests.real_etcd import EtcdServer
from tests.waiting import until

FINE = Standing(log_bytes=50, log_bytes_max=100, queue_max=100)


def test_nothing_is_wrong() -> None:
    assert raised(FINE) == {}


@pytest.mark.parametrize(
    ("standing", "name"),
    [
        (Standing(lease=False), "NO_LEASE"),
        (Standing(store_full=True), "STORE_FULL"),
        (Standing(log_bytes=101, log_bytes_max=100, bytes_exceeded=True), "LOG_BYTES_EXCEEDED"),
        (Standing(queue=90, queue_max=100), "QUEUE_FULL"),
        (Standing(presence_silent_s=5.1), "PRESENCE_UNREACHABLE"),
        (Standing(missed=1), "PRESENCE_MISSED_ENTRIES"),
        (Standing(lag=10_001), "REPORT_LAGS"),
        (Standing(claims_refused=("the epoch is old",)), "CLAIM_REFUSED"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_an_alarm_says_what_is_wrong_and_what_helps(standing: Standing, name: str) -> None:
    alarms = raised(standing)
    assert list(alarms) == [name] and alarms[name].endswith(".")


def test_the_log_says_whether_it_still_takes_messages() -> None:
    grows = Standing(bytes_exceeded=True)
    stops = Standing(bytes_exceeded=True, bytes_refused=True)
    assert "it grows" in raised(grows)["LOG_BYTES_EXCEEDED"]
    assert "nothing is accepted" in raised(stops)["LOG_BYTES_EXCEEDED"]


def test_the_status_tells_partitions_edges_and_bytes(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with coordinator(etcd.address, tmp_path, retain_bytes=2**20) as it, edge(it) as one:
            epoch, partition = owned(it, "/a")
            watch = coordinator_pb2.Watch(subject="/a")
            await one.ask(epoch, partition, watches=[watch])
            await one.publish(it, "/a", "x", "y")
            status = await one.stub.GetStatus(coordinator_pb2.GetStatusRequest())
            assert one.hello is not None
            assert (status.name, status.log_id) == ("c1", one.hello.log_id)
            assert [held.partition for held in status.partitions] == [0, 1, 2, 3]
            held = status.partitions[partition]
            assert (held.epoch, held.tail, held.cursor) == (epoch, 2, 0)
            assert [(e.edge_id, e.watches) for e in status.edges] == [(7, 1)]
            assert 0 < status.log_bytes < status.log_bytes_max == 2**20
            assert status.queue == 0
            assert not {alarm.name for alarm in status.alarms} & {"STORE_FULL", "NO_LEASE"}

    run(body())


def test_queues_limits_batches_and_times_are_measured(
    run: Run, etcd: EtcdServer, tmp_path: Path
) -> None:
    async def body() -> None:
        async with (
            coordinator(etcd.address, tmp_path, uplink_transient_bytes_max=0) as it,
            edge(it) as one,
        ):
            epoch, partition = owned(it, "/a")
            await one.ask(epoch, partition, watches=[coordinator_pb2.Watch(subject="/a")])
            await one.publish(it, "/a", "x", "y")
            typing = publish("/a", "t", "t1")
            typing.transient = True
            await one.ask(epoch, partition, appends=[one.append(publish=typing)])
            await one.publish(it, "a", "refused")
            request = coordinator_pb2.ReadMessagesRequest(subject="/a", limit=1)
            await one.stub.ReadMessages(request)

            def value(metric: str, **labels: str) -> float:
                sample = f"onward_coordinator_{metric}"
                return it.seen.registry.get_sample_value(sample, labels) or 0

            assert (value("accepted_total"), value("relayed_total")) == (2, 1)
            assert value("refused_total", code="SUBJECT_INVALID") == 1
            assert value("batch_requests_sum") == 5 and value("batch_bytes_sum") > 0
            assert value("queue_seconds_count") == value("commit_seconds_count") > 0
            assert value("read_seconds_count", call="messages") == 1
            assert value("limit", name="uplink_transient_bytes") == 0
            assert (value("watches"), value("uplinks"), value("partitions_held")) == (1, 1, 4)
            await until(lambda: value("transients_dropped_total") == 1, 5)
            assert value("log_bytes") > 0 and value("report_lag_entries") == 2

    run(body())
