"""The rings of all subjects of an edge, bounded together. Pure.

Above `bytes_max` the subject that moved longest ago gives its ring up; who lags there is too far
behind, and who returns reads the store. The newest message of the subject that moves stays.
"""

from services.edge.channel import Channel, Entry


class Rings:
    """Their order, and how many bytes they are in all."""

    __slots__ = ("_bytes_max", "_order", "bytes", "given_up")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._order: dict[Channel, None] = {}  # the one that moved longest ago is the first
        self.bytes = 0
        self.given_up = 0  # rings given up for want of room, ever

    def add(self, channel: Channel, entry: Entry) -> None:
        """Keeps the subject's next message."""
        ring = channel.ring
        before = ring.bytes
        ring.add(entry)
        self.bytes += ring.bytes - before
        self._order.pop(channel, None)
        self._order[channel] = None
        if self.bytes > self._bytes_max:
            self._make_room(channel)

    def clear(self, channel: Channel) -> None:
        """Gives up what a subject has."""
        self.bytes -= channel.ring.bytes
        channel.ring.clear()
        self._order.pop(channel, None)

    def _make_room(self, moving: Channel) -> None:
        while self.bytes > self._bytes_max:
            oldest = next(iter(self._order))
            if oldest is moving:
                self.bytes -= moving.ring.shrink()
                return
            self.clear(oldest)
            self.given_up += 1
