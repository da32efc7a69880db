"""When each client of an edge that stops is to leave, and when it is sent away. Pure.

Knows numbers and seconds; must not know sockets or clocks. All of them fit into the time that a
stop gives clients: first the window over which the reconnects are spread, evenly, so that the
edges that stay are not overrun; then a moment for those who do not leave when they are told; then
a moment for their close handshakes, after which whoever is left is cut.
"""

from dataclasses import dataclass
from typing import Final

_OVERSTAY_S: Final = 0.5  # what a client is given to leave by itself, once its time has come
_CLOSE_S: Final = 1.0  # what the last close handshakes are given
# Where the whole time is short, so are these: each at most this part of it.
_PART_MAX: Final = 0.25


@dataclass(frozen=True, slots=True)
class Departures:
    """The times of `count` clients, in seconds since the stop; clients are numbered from 0."""

    count: int
    window_s: float  # the reconnects are spread over it
    overstay_s: float
    end_s: float  # whoever is left is cut

    def leaves_s(self, number: int) -> float:
        """When that client is to leave, and to connect elsewhere."""
        return self.window_s * number / self.count

    def is_sent_away_s(self, number: int) -> float:
        """When it is closed with 4000 if it has not left by itself."""
        return self.leaves_s(number) + self.overstay_s


def departures(count: int, in_all_s: float, per_s: int) -> Departures:
    """At most `per_s` clients leave in a second, unless more must so that all go in `in_all_s`."""
    overstay_s = min(_OVERSTAY_S, in_all_s * _PART_MAX)
    close_s = min(_CLOSE_S, in_all_s * _PART_MAX)
    window_s = min(count / per_s, in_all_s - overstay_s - close_s)
    return Departures(count, window_s, overstay_s, window_s + overstay_s + close_s)
