"""Reads of the log through coordinators, over real gRPC."""

import grpc
import pytest

from services.chassis.errors import LogReplaced, Unavailable
from services.presence.log_reader import LogReader
from tests.presence.stage import PARTITIONS, SECRET, FakeLog

# What the contract allows in one call.
TAILS_MAX = 1_024


class StrictLog(FakeLog):
    """A log that refuses what a coordinator refuses, and counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.tail_calls = 0

    async def ReadTails(self, request, context):
        self.tail_calls += 1
        if len(request.partitions) > TAILS_MAX:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "too many partitions")
        return await super().ReadTails(request, context)


def with_reader(run, body):
    async def opened():
        log = StrictLog()
        address = await log.start()
        reader = LogReader(lambda: [address], SECRET, 2.0)
        try:
            await body(log, reader)
        finally:
            await reader.close()
            await log.stop()

    run(opened())


def test_tails_of_more_partitions_than_one_call_takes_are_asked_in_several(run):
    async def body(log, reader):
        log.publish("/a", "x")
        tails = await reader.tails(range(2 * TAILS_MAX + 1))
        assert len(tails) == 2 * TAILS_MAX + 1
        assert sum(tails.values()) == 1
        assert log.tail_calls == 3

    with_reader(run, body)


def test_no_tails_are_asked_for_no_partitions(run):
    async def body(log, reader):
        assert await reader.tails([]) == {}
        assert log.tail_calls == 0

    with_reader(run, body)


def test_another_log_and_a_log_that_is_down_are_faults(run):
    async def body(log, reader):
        reader.log_id = "another"
        with pytest.raises(LogReplaced):
            await reader.messages("/a", 0, 1)
        with pytest.raises(LogReplaced):
            await reader.tails(range(PARTITIONS))
        log.messages_down = True
        with pytest.raises(Unavailable, match="UNAVAILABLE"):
            await reader.messages("/a", 0, 1)

    with_reader(run, body)
