"""What this edge has asked of the owners of partitions, and what of it is unanswered. Pure.

Knows partitions, owners and the order of requests; must not know streams or what becomes of an
answer. One lane per partition:

1. Appends are answered in their order, and kept until then. When the owner changes, when it says
   that it is none, or when its stream breaks, the whole unanswered list is sent again, in order,
   before anything newer. The receiver knows a repeat by its ids. A transient message is sent at
   most once: it does not wait for an owner, and is given up where others are sent again.
2. Watches, look-ups and awaited positions are kept likewise. Marks are not: the next makes good.
3. A publish waits for a bounded time, and there is a bounded number and size of them. A presence
   event waits for ever, but a session's first is refused when too many wait.

Drive it: `batch(coordinator, now)` gives the next write of a stream, until it gives None.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2

from services.chassis.cluster import revision_of
from services.chassis.refusals import Code, Refusal, refuse
from services.edge.former_log import forget_positions

Append = coordinator_pb2.Append
Batch = coordinator_pb2.UplinkRequest.Batch
PartitionRequests = coordinator_pb2.PartitionRequests

# A key in etcd is seen a moment before its owner has claimed the store: ask again soon, and a
# little later each time.
NOT_OWNER_FIRST_RETRY_S: Final = 0.02
NOT_OWNER_RETRY_S: Final = 0.1
# Positions awaited in one partition; beyond it the lowest are forgotten, because whoever is told of
# a higher one knows of them too, only later.
_AWAITED_MAX: Final = 1_000
_BATCH_APPENDS_MAX: Final = 5_000
_BATCH_BYTES_MAX: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """What waits for owners."""

    publishes_max: int = 20_000  # above: OVERLOADED
    publish_bytes_max: int = 64 * 1024 * 1024  # above: OVERLOADED
    publish_wait_s: float = 10.0  # above: UNAVAILABLE, outcome unknown
    events_max: int = 20_000  # above: new sessions are refused, OVERLOADED


@dataclass(frozen=True, slots=True)
class Target:
    """Who takes a partition's requests."""

    coordinator: str
    epoch: int


@dataclass(slots=True)
class _Lane:
    partition: int
    target: Target | None = None
    # The target was told by another coordinator, and began at this revision of etcd; 0: by etcd.
    hinted_at: int = 0
    held_until: float = 0.0  # the target says that it is none: not before then
    turned_away: int = 0  # how often it has said so
    appends: dict[int, coordinator_pb2.Append] = field(default_factory=dict)
    unsent: deque[int] = field(default_factory=deque)
    transient: set[int] = field(default_factory=set)  # those of `appends` never to be sent again
    marks: list[coordinator_pb2.Append] = field(default_factory=list)
    watches: dict[str, None] = field(default_factory=dict)
    unsent_watches: dict[str, None] = field(default_factory=dict)
    unsent_unwatches: dict[str, None] = field(default_factory=dict)
    awaited: set[int] = field(default_factory=set)
    unsent_awaited: set[int] = field(default_factory=set)
    reads: dict[int, coordinator_pb2.ReadClient] = field(default_factory=dict)
    unsent_reads: deque[int] = field(default_factory=deque)

    def rewind(self) -> None:
        """Everything unanswered is to be sent again."""
        self.unsent = deque(self.appends)
        self.marks.clear()
        self.unsent_watches = dict(self.watches)
        self.unsent_unwatches.clear()
        self.unsent_awaited = set(self.awaited)
        self.unsent_reads = deque(self.reads)

    @property
    def dirty(self) -> bool:
        return bool(
            self.unsent
            or self.marks
            or self.unsent_watches
            or self.unsent_unwatches
            or self.unsent_awaited
            or self.unsent_reads
        )


class Outbox:
    """The lanes of all partitions."""

    def __init__(self, limits: OutboxLimits) -> None:
        self._limits = limits
        self._lanes: dict[int, _Lane] = {}
        self._links: set[str] = set()  # coordinators whose stream is up
        self._dirty: dict[str, dict[int, None]] = {}
        self._held: set[int] = set()  # lanes that wait for `held_until`
        self._lane_of: dict[int, _Lane] = {}  # request → its lane
        self._newest_marks: dict[int, int] = {}  # partition → request
        self._deadlines: deque[tuple[float, int]] = deque()  # of publishes
        self._given_up: list[int] = []  # transient publishes, not told yet
        self._request = 0
        self.publishes = 0
        self.publish_bytes = 0
        self.events = 0

    def __len__(self) -> int:
        """Appends that are not answered."""
        return self.publishes + self.events

    @property
    def fill(self) -> float:
        """How full the fullest of its bounded parts is, 0 to 1."""
        limits = self._limits
        return max(
            self.publishes / limits.publishes_max,
            self.publish_bytes / limits.publish_bytes_max,
            min(self.events / limits.events_max, 1.0),
        )

    # Owners and streams.

    def owner(self, partition: int, target: Target | None, revision: int) -> bool:
        """Who owns a partition, as etcd had it at `revision`. True: it is another than before, and
        its messages may have been missed. What a hint told of a later term stands."""
        lane = self._lane(partition)
        if lane.hinted_at > revision:
            return False
        lane.hinted_at = 0
        return self._go_to(lane, target)

    def not_owner(self, partition: int, epoch: int, now: float, hint: Target | None = None) -> bool:
        """The target says that it does not own the partition in that epoch; `hint`: who does, as
        far as it knows. Of two terms the later counts, if that owner can be reached."""
        lane = self._lane(partition)
        if lane.target is None or lane.target.epoch != epoch:
            return False
        if hint is not None and hint.epoch > epoch and hint.coordinator in self._links:
            lane.hinted_at = revision_of(hint.epoch)
            return self._go_to(lane, hint)
        self._mark_clean(lane)
        self._rewind(lane)
        wait_s = NOT_OWNER_FIRST_RETRY_S * 2.0 ** min(lane.turned_away, 8)
        lane.turned_away += 1
        lane.held_until = now + min(wait_s, NOT_OWNER_RETRY_S)
        self._held.add(partition)
        return True

    def link_up(self, coordinator: str) -> list[int]:
        """A stream is open. Returns its partitions; everything of theirs is sent again."""
        self._links.add(coordinator)
        return self._rewind_all(coordinator)

    def link_down(self, coordinator: str) -> list[int]:
        """A stream is broken. Returns its partitions: their messages may be missed."""
        self._links.discard(coordinator)
        return self._rewind_all(coordinator)

    def log_replaced(self) -> None:
        """The log is another one: what was watched and awaited in the former is of no interest, and
        its positions mean nothing."""
        for lane in self._lanes.values():
            for append in lane.appends.values():
                if append.HasField("presence"):
                    forget_positions(append.presence)
            for subject in list(lane.watches):
                self.unwatch(lane.partition, subject)
            lane.awaited.clear()
            lane.unsent_awaited.clear()

    def epoch(self, partition: int) -> int:
        """The epoch that the partition's requests are meant for; 0: nobody is there."""
        target = self._lane(partition).target
        return target.epoch if target else 0

    # Requests.

    def publish(
        self, partition: int, publish: coordinator_pb2.Publish, now: float
    ) -> int | Refusal:
        """Holds a message until it is answered; returns the number of the request."""
        limits = self._limits
        size = publish.ByteSize()
        if (
            self.publishes >= limits.publishes_max
            or self.publish_bytes + size > limits.publish_bytes_max
        ):
            return refuse(Code.OVERLOADED, "Too many messages wait for their owners.", 1000)
        lane = self._lane(partition)
        if publish.transient and (not self._reached(lane) or partition in self._held):
            return refuse(Code.UNAVAILABLE, "Nobody can pass the message on now.", 500)
        self.publishes += 1
        self.publish_bytes += size
        request = self._add(lane, Append(publish=publish))
        if publish.transient:
            lane.transient.add(request)
        self._deadlines.append((now + limits.publish_wait_s, request))
        return request

    def event(self, partition: int, event: entry_pb2.PresenceEvent) -> int | Refusal:
        """Holds a presence event until it is answered; returns the number of the request."""
        if event.HasField("connected") and self.events >= self._limits.events_max:
            return refuse(Code.OVERLOADED, "Too many sessions wait for their owners.", 1000)
        self.events += 1
        return self._add(self._lane(partition), Append(presence=event))

    def mark(self, partition: int, mark: entry_pb2.Mark) -> bool:
        """Sends a mark if the owner can be reached; False: it is dropped."""
        lane = self._lane(partition)
        if not self._reached(lane):
            return False
        self._request += 1
        self._newest_marks[partition] = self._request
        lane.marks.append(Append(request=self._request, mark=mark))
        self._mark_dirty(lane)
        return True

    def marked_by(self, request: int) -> int | None:
        """The partition whose newest mark `request` is; None: it is no mark, or an older one."""
        marks = self._newest_marks.items()
        return next((partition for partition, newest in marks if newest == request), None)

    def watch(self, partition: int, subject: str) -> None:
        """Has a subject streamed, now and after every change of owner or stream."""
        lane = self._lane(partition)
        lane.watches[subject] = lane.unsent_watches[subject] = None
        lane.unsent_unwatches.pop(subject, None)
        self._mark_dirty(lane)

    def unwatch(self, partition: int, subject: str) -> None:
        """Has it streamed no longer."""
        lane = self._lane(partition)
        lane.watches.pop(subject, None)
        lane.unsent_watches.pop(subject, None)
        if self._reached(lane):  # a new stream knows of no watch
            lane.unsent_unwatches[subject] = None
            self._mark_dirty(lane)

    def read_client(self, partition: int, user: str, client_id: str) -> int:
        """Asks for what a client follows; returns the number of the request."""
        lane = self._lane(partition)
        self._request += 1
        request = self._request
        lane.reads[request] = coordinator_pb2.ReadClient(
            request=request, user=user, client_id=client_id
        )
        lane.unsent_reads.append(request)
        self._lane_of[request] = lane
        self._mark_dirty(lane)
        return request

    def await_processed(self, partition: int, pos: int) -> None:
        """Asks, and asks again on every new stream, to be told when presence has come to `pos`.

        Told unasked on the stream that appended the event; but an event that was sent again may
        have been appended on another.
        """
        lane = self._lane(partition)
        lane.awaited.add(pos)
        lane.unsent_awaited.add(pos)
        if len(lane.awaited) > _AWAITED_MAX:
            lane.awaited.discard(min(lane.awaited))
            lane.unsent_awaited &= lane.awaited
        self._mark_dirty(lane)

    # Answers.

    def appended(self, request: int) -> bool:
        """An append is answered. False: it was before, or is not waited for any more."""
        lane = self._lane_of.pop(request, None)
        append = lane.appends.pop(request, None) if lane else None
        if append is None or lane is None:
            return False
        lane.transient.discard(request)
        if append.HasField("publish"):
            self.publishes -= 1
            self.publish_bytes -= append.publish.ByteSize()
        else:
            self.events -= 1
        return True

    def client_read(self, request: int) -> bool:
        """A look-up is answered, or nobody waits for it any more. False: it was before."""
        lane = self._lane_of.pop(request, None)
        return lane is not None and lane.reads.pop(request, None) is not None

    def processed(self, partition: int, pos: int) -> None:
        """Presence has come to `pos`."""
        lane = self._lane(partition)
        lane.awaited = {awaited for awaited in lane.awaited if awaited > pos}
        lane.unsent_awaited &= lane.awaited

    # Writing.

    def waiting(self) -> Iterable[str]:
        """Coordinators that have something to be sent, and a stream."""
        return [name for name, lanes in self._dirty.items() if lanes and name in self._links]

    def batch(self, coordinator: str) -> coordinator_pb2.UplinkRequest.Batch | None:
        """Takes what is to be sent to a coordinator next; None: nothing."""
        lanes = self._dirty.get(coordinator)
        if not lanes or coordinator not in self._links:
            return None
        batch = Batch()
        appends, size = 0, 0
        while lanes and appends < _BATCH_APPENDS_MAX and size < _BATCH_BYTES_MAX:
            partition = next(iter(lanes))
            lane = self._lanes[partition]
            requests = batch.partitions.add(partition=partition)
            self._fill(requests, lane)
            while lane.unsent and appends < _BATCH_APPENDS_MAX and size < _BATCH_BYTES_MAX:
                append = lane.appends.get(lane.unsent.popleft())
                if append is not None:
                    requests.appends.append(append)
                    appends += 1
                    size += append.ByteSize()
            if not lane.unsent:
                requests.appends.extend(lane.marks)
                lane.marks.clear()
                del lanes[partition]
        return batch

    def tick(self, now: float) -> list[int]:
        """Asks owners again that were none, and gives up publishes; returns the requests of those
        whose outcome is not known."""
        for partition in [one for one in self._held if self._lanes[one].held_until <= now]:
            self._held.discard(partition)
            self._mark_dirty(self._lanes[partition])
        given_up, self._given_up = self._given_up, []
        while self._deadlines:
            due, request = self._deadlines[0]
            if due > now and request in self._lane_of:
                break
            self._deadlines.popleft()
            if self.appended(request):
                given_up.append(request)
        return given_up

    # Parts.

    def _lane(self, partition: int) -> _Lane:
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = _Lane(partition)
        return lane

    def _go_to(self, lane: _Lane, target: Target | None) -> bool:
        if lane.target == target:
            return False
        self._mark_clean(lane)
        lane.target = target
        lane.turned_away = 0
        self._rewind(lane)
        self._mark_dirty(lane)
        return True

    def _reached(self, lane: _Lane) -> bool:
        return lane.target is not None and lane.target.coordinator in self._links

    def _add(self, lane: _Lane, append: coordinator_pb2.Append) -> int:
        self._request += 1
        append.request = self._request
        lane.appends[self._request] = append
        lane.unsent.append(self._request)
        self._lane_of[self._request] = lane
        self._mark_dirty(lane)
        return self._request

    def _mark_dirty(self, lane: _Lane) -> None:
        if lane.target is not None and lane.partition not in self._held and lane.dirty:
            self._dirty.setdefault(lane.target.coordinator, {})[lane.partition] = None

    def _mark_clean(self, lane: _Lane) -> None:
        self._held.discard(lane.partition)
        if lane.target is not None:
            self._dirty.get(lane.target.coordinator, {}).pop(lane.partition, None)

    def _rewind(self, lane: _Lane) -> None:
        for request in sorted(lane.transient):
            self.appended(request)
            self._given_up.append(request)
        lane.rewind()

    def _rewind_all(self, coordinator: str) -> list[int]:
        self._dirty.pop(coordinator, None)
        partitions = []
        for lane in self._lanes.values():
            if lane.target is not None and lane.target.coordinator == coordinator:
                self._rewind(lane)
                self._mark_dirty(lane)
                partitions.append(lane.partition)
        return partitions

    def _fill(self, requests: coordinator_pb2.PartitionRequests, lane: _Lane) -> None:
        """Everything of a lane but its appends."""
        assert lane.target is not None
        requests.epoch = lane.target.epoch
        for subject in lane.unsent_watches:
            requests.watches.add(subject=subject)
        requests.unwatches.extend(lane.unsent_unwatches)
        requests.await_processed.extend(sorted(lane.unsent_awaited))
        while lane.unsent_reads:
            read = lane.reads.get(lane.unsent_reads.popleft())
            if read is not None:
                requests.read_clients.append(read)
        lane.unsent_watches.clear()
        lane.unsent_unwatches.clear()
        lane.unsent_awaited.clear()
