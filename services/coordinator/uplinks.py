"""The edges that are connected: what waits to be sent to each, and what each watches.

Knows streams by number, subjects and positions; must not know how anything is decided, nor gRPC.
An outbox is one batch that grows while the last write is in flight, so batching needs no timer.
It is bounded: an edge too far behind has its stream closed, and resumes from what it has, which
costs this process nothing.

Drive it: `uplink = uplinks.open(edge_id)` per stream; its owner loops on `await uplink.next()`
and writes what comes until that returns None; then `uplinks.close(uplink)`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2, refusal_pb2

from services.chassis import logs
from services.chassis.claimants import Owner

log = logs.get(__name__)

OwnerOf = Callable[[int], Owner | None]

# Replaced sessions remembered for edges without a stream; beyond it the oldest edge's are
# forgotten, and their next event says it again.
_ABSENT_EDGES_MAX = 256
_REPLACED_MAX = 10_000
# Endings remembered for each edge without a stream; beyond it the newest are forgotten, and
# whoever asked for them may ask again.
_ENDINGS_MAX = 1_000
# Positions awaited by one edge in one partition; beyond it the lowest are forgotten, because the
# notice about a higher one covers them.
_AWAITED_MAX = 10_000
TRANSIENT_BYTES_MAX = 1024 * 1024
_ANSWER_BYTES = 32  # about what one answer takes


class Uplink:
    """One edge's stream, and what waits to be sent on it."""

    def __init__(
        self, number: int, edge_id: int, bytes_max: int, transient_max: int, owner: OwnerOf
    ) -> None:
        self.number = number
        self.edge_id = edge_id
        self.closed = False
        self.fell_behind = False
        self.subjects: dict[str, int] = {}  # watched: subject to partition
        # Of partitions that had no owner here: the epoch asked for, and the last append of it.
        self._turned_away: dict[int, tuple[int, int]] = {}
        self._bytes_max = bytes_max
        self._transient_max = transient_max
        self._owner = owner
        self._bytes = 0
        self._frame = coordinator_pb2.UplinkResponse()
        self._batch = self._frame.batch
        self._ready = asyncio.Event()
        self._idle = asyncio.Event()

    @property
    def waiting_bytes(self) -> int:
        """Bytes gathered that no write has taken yet."""
        return self._bytes

    async def next(self) -> coordinator_pb2.UplinkResponse | None:
        """Whatever has gathered, once there is something; None once the uplink is closed."""
        if not self._ready.is_set():
            self._idle.set()
        await self._ready.wait()
        if self.closed:
            return None
        frame, self._frame = self._frame, coordinator_pb2.UplinkResponse()
        self._batch = self._frame.batch
        self._bytes = 0
        self._ready.clear()
        return frame

    async def flushed(self) -> None:
        """Returns when everything gathered has been written, or the uplink is closed."""
        await self._idle.wait()

    def close(self) -> None:
        """End the stream; what waits is not sent."""
        self.closed = True
        self._ready.set()
        self._idle.set()

    def turn_away(self, asked: coordinator_pb2.PartitionRequests) -> None:
        """Say that the partition is not owned in that epoch, and remember what was asked."""
        lasting = [append.request for append in asked.appends if not append.HasField("mark")]
        if lasting:
            self._turned_away[asked.partition] = (asked.epoch, lasting[-1])
        self.add_not_owner(asked.partition, asked.epoch)

    def overtakes(self, asked: coordinator_pb2.PartitionRequests) -> bool:
        """Whether this stands behind appends that were turned away and have not come again.

        An edge writes on before it reads that it was turned away, and the epoch may have taken
        effect meanwhile: the newer messages must not be accepted before the older ones. An edge
        that has read it sends all again, the oldest first; requests are numbered as they are made.
        """
        epoch, last = self._turned_away.get(asked.partition, (0, 0))
        first = next((it.request for it in asked.appends if not it.HasField("mark")), None)
        if not last or first is None:
            return False
        if asked.epoch == epoch and first > last:
            return True
        del self._turned_away[asked.partition]
        return False

    def add_not_owner(self, partition: int, epoch: int) -> None:
        """With who has it in a later term, if that is known: the edge may hear it here first."""
        not_owner = self._batch.not_owner.add(partition=partition, epoch=epoch)
        owner = self._owner(partition)
        if owner is not None and owner.epoch > epoch:
            not_owner.owner.coordinator = owner.name
            not_owner.owner.address = owner.address
            not_owner.owner.epoch = owner.epoch
        self._grow(_ANSWER_BYTES)

    def add_answer(self, appended: coordinator_pb2.Appended) -> None:
        self._batch.appended.append(appended)
        self._grow(_ANSWER_BYTES)

    def add_accepted(self, request: int, seq: int, epoch: int, duplicate: bool) -> None:
        accepted = self._batch.appended.add(request=request).accepted
        accepted.seq, accepted.epoch, accepted.duplicate = seq, epoch, duplicate
        self._grow(_ANSWER_BYTES)

    def add_refusal(self, request: int, refusal: refusal_pb2.Refusal) -> None:
        self._batch.appended.add(request=request, refusal=refusal)
        self._grow(_ANSWER_BYTES)

    def add_watched(self, watched: coordinator_pb2.Watched) -> None:
        self._batch.watched.append(watched)
        self._grow(_ANSWER_BYTES + len(watched.subject))

    def add_delivery(self, entry: entry_pb2.Entry, size: int) -> None:
        self._batch.deliveries.add(pos=entry.pos, message=entry.message)
        self._grow(size)

    def add_transient(self, message: entry_pb2.Message, size: int) -> bool:
        """False: the edge lags, and is sent none."""
        if self._bytes + size > self._transient_max:
            return False
        self._batch.transients.append(message)
        self._grow(size)
        return True

    def add_client(self, state: coordinator_pb2.ClientState) -> None:
        self._batch.clients.append(state)
        self._grow(state.ByteSize())

    def add_replaced(self, session_id: str) -> None:
        self._batch.replaced_sessions.append(session_id)
        self._grow(len(session_id))

    def add_ending(self, ending: coordinator_pb2.Ending) -> None:
        self._batch.endings.append(ending)
        self._grow(ending.ByteSize())

    def add_processed(self, partition: int, pos: int) -> None:
        self._batch.processed.add(partition=partition, pos=pos)
        self._grow(_ANSWER_BYTES)

    def add_heartbeat(self, number: int) -> None:
        self._batch.heartbeat = number
        self._grow(0)

    def _grow(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._bytes_max and not self.closed:
            log.warning("uplink_too_far_behind", edge_id=self.edge_id, bytes=self._bytes)
            self.fell_behind = True
            self.close()
        if self.closed:
            # Its write may be stuck for as long as the peer does not read: gather nothing.
            self._batch.Clear()
            return
        self._idle.clear()
        self._ready.set()


class Uplinks:
    """All streams; who watches what; who awaits which position."""

    def __init__(
        self,
        bytes_max: int,
        transient_max: int = TRANSIENT_BYTES_MAX,
        owner: OwnerOf = lambda partition: None,
    ) -> None:
        """`bytes_max`: what may wait for one edge. `transient_max`: while more waits, it is sent
        no transient messages. `owner`: who has a partition, for edges that ask in vain."""
        self.transients_dropped = 0
        self.fell_behind = 0
        self._bytes_max = bytes_max
        self._transient_max = transient_max
        self._owner = owner
        self._next_number = 1
        self._by_number: dict[int, Uplink] = {}
        self._by_edge: dict[int, Uplink] = {}
        # partition: subject: number: uplink
        self._watchers: dict[int, dict[str, dict[int, Uplink]]] = defaultdict(dict)
        self._awaited: dict[int, dict[int, list[int]]] = defaultdict(dict)  # partition: number: …
        self._cursors: dict[int, int] = {}
        self._replaced: dict[int, list[str]] = {}  # of edges that have no stream
        self._endings: dict[int, list[coordinator_pb2.Ending]] = {}  # likewise

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[Uplink]:
        return iter(list(self._by_number.values()))

    def watches(self) -> int:
        """Subjects that are watched, counted for each stream that does."""
        return sum(len(uplink.subjects) for uplink in self._by_number.values())

    def open(self, edge_id: int) -> Uplink:
        """A stream of this edge has begun; a former one of the same edge ends."""
        former = self._by_edge.get(edge_id)
        if former is not None:
            self.close(former)
        uplink = Uplink(
            self._next_number, edge_id, self._bytes_max, self._transient_max, self._owner
        )
        self._next_number += 1
        self._by_number[uplink.number] = uplink
        self._by_edge[edge_id] = uplink
        for session_id in self._replaced.pop(edge_id, ()):
            uplink.add_replaced(session_id)
        for ending in self._endings.pop(edge_id, ()):
            uplink.add_ending(ending)
        return uplink

    def close(self, uplink: Uplink) -> None:
        """The stream has ended, or must."""
        uplink.close()
        if self._by_number.pop(uplink.number, None) is not None:
            self.fell_behind += uplink.fell_behind
        if self._by_edge.get(uplink.edge_id) is uplink:
            del self._by_edge[uplink.edge_id]
        for subject in list(uplink.subjects):
            self.unwatch(uplink.number, subject, uplink)
        for awaited in self._awaited.values():
            awaited.pop(uplink.number, None)

    def close_all(self) -> None:
        """End every stream."""
        for uplink in list(self._by_number.values()):
            self.close(uplink)

    async def flush(self) -> None:
        """Returns when everything gathered so far has been handed to the streams."""
        await asyncio.gather(*(uplink.flushed() for uplink in self._by_number.values()))

    def get(self, number: int) -> Uplink | None:
        """The stream, if it is still there."""
        return self._by_number.get(number)

    def watch(self, number: int, partition: int, watched: coordinator_pb2.Watched) -> None:
        """From now on the stream gets the subject's deliveries."""
        uplink = self._by_number.get(number)
        if uplink is not None:
            self._watchers[partition].setdefault(watched.subject, {})[number] = uplink
            uplink.subjects[watched.subject] = partition
            uplink.add_watched(watched)

    def unwatch(self, number: int, subject: str, closed: Uplink | None = None) -> None:
        """The stream gets the subject's deliveries no longer."""
        uplink = closed or self._by_number.get(number)
        partition = uplink.subjects.pop(subject, None) if uplink is not None else None
        if partition is not None:
            watchers = self._watchers[partition].get(subject, {})
            watchers.pop(number, None)
            if not watchers:
                self._watchers[partition].pop(subject, None)

    def deliver(self, entry: entry_pb2.Entry, size: int) -> None:
        """Send the message of the entry, which has `size` bytes, to all that watch its subject."""
        watchers = self._watchers[entry.partition].get(entry.message.subject)
        if watchers:
            for uplink in watchers.values():
                uplink.add_delivery(entry, size)

    def relay(self, partition: int, message: entry_pb2.Message) -> None:
        """Send a transient message to all that watch its subject and do not lag."""
        watchers = self._watchers[partition].get(message.subject)
        if watchers:
            size = message.ByteSize()
            for uplink in watchers.values():
                if not uplink.add_transient(message, size):
                    self.transients_dropped += 1

    def replace(self, edge_id: int, session_id: str) -> None:
        """Tell the edge, now or when it opens a stream, that the session is replaced."""
        uplink = self._by_edge.get(edge_id)
        if uplink is not None:
            uplink.add_replaced(session_id)
            return
        sessions = self._replaced.setdefault(edge_id, [])
        if len(sessions) < _REPLACED_MAX:
            sessions.append(session_id)
        if len(self._replaced) > _ABSENT_EDGES_MAX:
            del self._replaced[next(iter(self._replaced))]

    def end(self, ending: coordinator_pb2.Ending, edges: Iterable[int]) -> None:
        """Tell all edges what sessions may not go on with; `edges` also when they open a stream."""
        for uplink in self._by_number.values():
            uplink.add_ending(ending)
        for edge_id in edges:
            if edge_id not in self._by_edge:
                kept = self._endings.setdefault(edge_id, [])
                if len(kept) < _ENDINGS_MAX and ending not in kept:
                    kept.append(ending)
                if len(self._endings) > _ABSENT_EDGES_MAX:
                    del self._endings[next(iter(self._endings))]

    def await_processed(self, number: int, partition: int, pos: int) -> None:
        """Tell the stream when presence has processed the partition up to `pos`."""
        uplink = self._by_number.get(number)
        if uplink is None:
            return
        cursor = self._cursors.get(partition, 0)
        if pos <= cursor:
            uplink.add_processed(partition, cursor)
            return
        awaited = self._awaited[partition].setdefault(number, [])
        awaited.append(pos)
        if len(awaited) > _AWAITED_MAX:
            awaited.sort()
            del awaited[: _AWAITED_MAX // 2]

    def processed(self, partition: int, cursor: int) -> None:
        """Presence has processed the partition up to `cursor`."""
        self._cursors[partition] = cursor
        waiting = self._awaited.get(partition)
        if not waiting:
            return
        for number, awaited in list(waiting.items()):
            left = [pos for pos in awaited if pos > cursor]
            if len(left) < len(awaited):
                self._by_number[number].add_processed(partition, cursor)
            if left:
                waiting[number] = left
            else:
                del waiting[number]

    def drop(self, partition: int) -> None:
        """The partition is not held any more: its edges watch at the next owner.

        What they await stays: this process may be the next owner, and their streams the same.
        """
        for subject, watchers in self._watchers.pop(partition, {}).items():
            for uplink in watchers.values():
                uplink.subjects.pop(subject, None)
        self._cursors.pop(partition, None)
