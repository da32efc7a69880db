"""What a subject lacks, and what waits until it is there. Pure.

A hole is open while messages are missing behind `Channel.last`: everything up to `hole_to` is
being read from the store, and what came meanwhile waits in `ahead`, in order. Knows one subject
at a time; must not know who subscribed. What waits is bounded by `messages_max` and `bytes_max`:
beyond it nothing is lost, it is read from the store once more.
"""

from services.edge.channel import Channel, Entry
from services.edge.hub_effects import FillHole


class Holes:
    """The holes of an edge's subjects."""

    __slots__ = ("_bytes_max", "_messages_max", "again", "opened")

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self.opened = 0  # so many, ever
        self.again = 0  # messages that waited in vain

    def open(self, channel: Channel, to: int) -> list[FillHole]:
        """Messages up to `to` are missing: has them read, unless a read is under way."""
        reading = channel.hole_to > channel.last
        channel.hole_to = max(channel.hole_to, to)
        if reading:
            return []
        self.opened += 1
        return [FillHole(channel.subject, channel.last)]

    def hold(self, channel: Channel, entry: Entry) -> None:
        """Keeps what came while a hole is open; if that is too much, it is read again later."""
        full = len(channel.ahead) >= self._messages_max
        if full or channel.ahead_bytes + entry.size > self._bytes_max:
            self.again += len(channel.ahead)
            channel.ahead.clear()
            channel.ahead_bytes = 0
        if channel.hole_to and not channel.ahead:
            channel.hole_to = max(channel.hole_to, entry.seq - 1)
        channel.ahead.append(entry)
        channel.ahead_bytes += entry.size

    def close(self, channel: Channel) -> tuple[list[Entry], int]:
        """Nothing is missing up to `last`: gives what waited and follows it.

        The second is the end of a further hole, 0 if there is none; what waits behind that stays.
        """
        channel.hole_to = 0
        ahead, channel.ahead = channel.ahead, []
        channel.ahead_bytes = 0
        ready: list[Entry] = []
        last = channel.last
        for at, entry in enumerate(ahead):
            if entry.seq == last + 1:
                ready.append(entry)
                last = entry.seq
            elif entry.seq > last:
                channel.ahead = ahead[at:]
                channel.ahead_bytes = sum(one.size for one in channel.ahead)
                return ready, entry.seq - 1
        return ready, 0
