"""Seconds of protobuf's times."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.times import seconds_of


def test_a_time_and_a_duration_are_seconds() -> None:
    assert seconds_of(Timestamp(seconds=1_000, nanos=500_000_000)) == 1_000.5
    assert seconds_of(Duration(seconds=-2, nanos=-250_000_000)) == -2.25
    assert seconds_of(Timestamp()) == 0.0


def test_what_is_out_of_range_is_told_all_the_same() -> None:
    assert seconds_of(Timestamp(seconds=10**17)) == 1e17
