"""What an operator should know of, and since when.

Knows names and sentences; must not know what they are about. Drive it: call `tell` with
everything that is wrong, often enough for `since` to mean something, and show `present`.
"""

from collections.abc import Mapping

from google.protobuf import timestamp_pb2
from onward.types.v1 import alarm_pb2


class Alarms:
    """The alarms of one process, in the order of their beginning."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._texts: dict[str, str] = {}

    def tell(self, raised: Mapping[str, str], wall: float) -> list[str]:
        """What is wrong now: name → sentence, without content or tokens. `wall`: seconds since
        1970. An alarm that is not named is over. Returns the names that are new.
        """
        for name in self._since.keys() - raised.keys():
            del self._since[name]
        new = [name for name in raised if name not in self._since]
        for name in new:
            self._since[name] = wall
        self._texts = dict(raised)
        return new

    @property
    def present(self) -> list[alarm_pb2.Alarm]:
        """What is wrong now."""
        return [
            alarm_pb2.Alarm(
                name=name,
                text=self._texts[name],
                since=timestamp_pb2.Timestamp(
                    seconds=int(wall), nanos=int(wall % 1 * 1000) * 1_000_000
                ),
            )
            for name, wall in self._since.items()
        ]
