"""Times of messages as seconds. Pure.

Read by field: the conversions of protobuf raise for times out of their range, which anybody may
send. To drive it: `seconds_of(message.accepted_at)`.
"""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def seconds_of(time: Timestamp | Duration) -> float:
    """Since 1970, or of the duration; of one that is not set, 0."""
    return time.seconds + time.nanos / 1e9
