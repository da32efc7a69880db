"""Writes what came to all who are to get it, a slice at a time, in the order of its coming.

Knows subscriptions and their sockets; must not know where messages come from. No I/O but
`Socket.send`, which never blocks. Drive it: `add…`, and then `pump` until it is done.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.edge.channel import Channel, Entry, Subscription

PUMP_WRITES: Final = 512  # writes between two breaths of the event loop
# Messages that came together go out together: one call for each socket, and no queueing there. Not
# more than this, so that a socket that fills up is noticed in between.
_TOGETHER_BYTES_MAX: Final = 64 * 1024


@dataclass(slots=True)
class _FanOut:
    channel: Channel
    entries: Sequence[Entry]
    targets: list[Subscription]
    next: int = 0
    # All entries, one behind another; empty: they are too large for that. Without entries: a frame
    # that has no seq of its own, transient or a gap.
    frame: bytes = b""
    gap: tuple[int, int] | None = None  # the first and the last message that will not come


class FanOuts:
    """The fan-outs that are not finished."""

    __slots__ = (
        "_jobs",
        "delivered",
        "gaps",
        "slices",
        "transients",
        "transients_dropped",
        "writes",
    )

    def __init__(self) -> None:
        self._jobs: deque[_FanOut] = deque()
        self.writes = 0  # that are still to be done
        self.slices = 0  # pumped ever, and so on:
        self.delivered = 0  # writes to sockets
        self.gaps = 0
        self.transients = 0
        self.transients_dropped = 0  # not written, because a subscription was not live

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def add(self, channel: Channel, entries: Sequence[Entry]) -> None:
        """Messages, contiguous, for who is live now and stays so."""
        frame = entries[0].live
        if len(entries) > 1:
            size = sum(len(entry.live) for entry in entries)
            whole = size <= _TOGETHER_BYTES_MAX
            frame = b"".join([entry.live for entry in entries]) if whole else b""
        self._add(_FanOut(channel, entries, list(channel.live), frame=frame))

    def add_transient(self, channel: Channel, frame: bytes) -> None:
        """A transient message, likewise."""
        self._add(_FanOut(channel, (), list(channel.live), frame=frame))

    def add_gap(self, channel: Channel, frame: bytes, first: int, last: int) -> None:
        """Says, likewise, that messages will not come."""
        self._add(_FanOut(channel, (), list(channel.live), frame=frame, gap=(first, last)))

    def pump(self, writes: int = PUMP_WRITES) -> bool:
        """Goes on, for about so many writes; True if there is more to do."""
        self.slices += 1
        while self._jobs and writes > 0:
            job = self._jobs[0]
            entries, targets = job.entries, job.targets
            size = len(entries) or 1
            end = min(len(targets), job.next + max(1, writes // size))
            if entries:
                _send_entries(job, end)
            else:
                self._send_frame(job, end)
            count = (end - job.next) * size
            self.delivered += count
            self.writes -= count
            writes -= count
            job.next = end
            if end == len(targets):
                self._jobs.popleft()
                job.channel.jobs -= 1
        return bool(self._jobs)

    def _add(self, job: _FanOut) -> None:
        if job.targets:
            job.channel.jobs += 1
            self.writes += len(job.targets) * (len(job.entries) or 1)
            self._jobs.append(job)

    def _send_frame(self, job: _FanOut, end: int) -> None:
        for target in job.targets[job.next : end]:
            if job.gap is None:
                if target.live:
                    self.transients += 1
                    target.socket.send(job.frame)
                else:
                    self.transients_dropped += 1
            elif target.live:
                first, last = job.gap
                if target.acked == first - 1:
                    target.acked = last  # what will not come need not be acknowledged
                target.sent = max(target.sent, last)
                self.gaps += 1
                target.socket.send(job.frame)


def _send_entries(job: _FanOut, end: int) -> None:
    """The innermost loop of the edge: once for each message and subscriber."""
    entries, frame = job.entries, job.frame
    before, last = entries[0].seq - 1, entries[-1].seq
    for target in job.targets[job.next : end]:
        if not target.live:
            continue
        if frame and target.sent == before:
            target.sent = last
            target.socket.send(frame)
            continue
        for entry in entries:
            if not target.live:
                break
            if target.sent < entry.seq:
                target.sent = entry.seq
                target.socket.send(entry.live)
