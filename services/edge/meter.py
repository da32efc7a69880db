"""How much one client may send, in frames and in bytes: two token buckets. Pure.

Knows amounts and the time; must not know sockets or frames. A client is given its allowance in
portions, so that nothing is reckoned for each frame: drive it with `next_portion` each time a
portion is used up, or now and then.
"""

from dataclasses import dataclass
from typing import Final

# A portion is also what one client gets before the others have their turn.
PORTION_FRAMES: Final = 64
PORTION_BYTES: Final = 32 * 1024


@dataclass(frozen=True, slots=True)
class InputLimits:
    """What a client may send over time, and at once. Beyond it the socket is not read."""

    frames_per_s: float = 300
    frames_burst: int = 2_000
    bytes_per_s: float = 2 * 1024 * 1024
    bytes_burst: int = 4 * 1024 * 1024


class Meter:
    """The two buckets of one client, full at first. `now`: seconds of any steady clock."""

    __slots__ = ("_at", "_bytes", "_frames")

    def __init__(self, limits: InputLimits, now: float) -> None:
        self._frames: float = limits.frames_burst
        self._bytes: float = limits.bytes_burst
        self._at = now

    def next_portion(self, limits: InputLimits, frames: int, size: int, now: float) -> int:
        """Counts `frames` and `size` bytes that came; returns how many frames may come next.

        At most `PORTION_FRAMES`; 0: nothing more for now.
        """
        elapsed = max(0.0, now - self._at)
        self._at = now
        filled = self._frames + limits.frames_per_s * elapsed
        self._frames = min(limits.frames_burst, filled) - frames
        filled = self._bytes + limits.bytes_per_s * elapsed
        self._bytes = min(limits.bytes_burst, filled) - size
        return min(PORTION_FRAMES, int(self._frames)) if self._bytes > 0 < self._frames else 0
