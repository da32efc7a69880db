"""Subject → sessions: takes deliveries, keeps the newest, and writes them to who subscribed.

Knows channels and sockets; must not know frames' fields, uplinks or sessions. No I/O but
`Socket.send`, which never blocks. Drive it from the event loop's thread: carry out the effects
that its methods return, in order, and call `pump` until it is done whenever `busy`.

1. A subject is watched once, for its first subscription, and unwatched a while after its last.
2. A message goes on only if everything before it did. A hole (found at a watch, or between two
   deliveries) is read from the store first; meanwhile what comes waits.
3. A subscription is live, or `sent` says how far it is; then it is refilled from the ring as its
   socket takes more. If the ring has moved on, it is too far behind.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from onward.client.v1 import client_pb2
from onward.coordinator.v1 import coordinator_pb2

from services.chassis.subjects import partition_of
from services.edge.channel import NOTES_MAX, Channel, Entry, Ring, Subscription
from services.edge.effects import Begin
from services.edge.frames import entry_of, replay_frame, server_frame
from services.edge.socket import Socket

State = client_pb2.SubscriptionState
ServerFrame = client_pb2.ServerFrame

NOTHING_OWED: Final = 1 << 63  # above every pos
PUMP_WRITES: Final = 512  # writes between two breaths of the event loop


@dataclass(frozen=True, slots=True)
class HubLimits:
    """What the hub keeps."""

    ring_messages: int = 256  # per subject; a session further behind is closed (4001)
    ring_bytes: int = 1024 * 1024  # per subject, likewise
    rings_bytes: int = 256 * 1024 * 1024  # of all; above it a subject keeps its newest only
    notes_max: int = NOTES_MAX  # rounds, per subject; must last for a session's `ack_s`
    linger_s: float = 10.0  # a subject nobody subscribes to is watched this much longer


@dataclass(frozen=True, slots=True)
class StartWatch:
    """Watch the subject at its owner, until StopWatch; tell `watched` each time it answers."""

    partition: int
    subject: str


@dataclass(frozen=True, slots=True)
class StopWatch:
    """Watch it no longer."""

    partition: int
    subject: str


@dataclass(frozen=True, slots=True)
class FillHole:
    """Read messages with seq > `after_seq` from the store; tell `filled`."""

    subject: str
    after_seq: int


@dataclass(frozen=True, slots=True)
class Joined:
    """A subscription's subject is watched; tell its session."""

    subscription: Subscription
    head: int
    floor: int


@dataclass(frozen=True, slots=True)
class TooFar:
    """The session is too far behind to be refilled: close it (4001)."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Reached:
    """Everything up to `pos` that this edge watches in the partition has come."""

    partition: int
    pos: int
    moved: bool  # by a message


HubEffect = StartWatch | StopWatch | FillHole | Joined | TooFar | Reached


@dataclass(slots=True)
class _FanOut:
    channel: Channel
    entries: list[Entry]
    targets: list[Subscription]
    next: int = 0


@dataclass(slots=True)
class _Partition:
    channels: dict[str, Channel] = field(default_factory=dict)
    high: int = 0  # the highest pos that came


class Hub:
    """All subjects of this edge. `partitions`: how many the cluster has; 0: not known yet."""

    def __init__(self, partitions: int, limits: HubLimits) -> None:
        self.partitions = partitions
        self._limits = limits
        self._channels: dict[str, Channel] = {}
        self._partitions: dict[int, _Partition] = {}
        self._joining: dict[str, list[Subscription]] = {}
        self._fan_outs: deque[_FanOut] = deque()
        self._moved: set[Channel] = set()  # since the last round
        self._idle: dict[Channel, None] = {}  # nobody subscribes to them
        self._ring_bytes = 0
        self.subscriptions = 0
        self.delivered = 0  # writes of messages to sockets

    def __len__(self) -> int:
        return len(self._channels)

    @property
    def busy(self) -> bool:
        """Whether a fan-out is not finished."""
        return bool(self._fan_outs)

    def channel(self, subject: str) -> Channel | None:
        """The subject, if it is known here."""
        return self._channels.get(subject)

    def partition(self, subject: str) -> int:
        """The partition of a subject, or of a user."""
        return partition_of(subject, self.partitions)

    # Subscriptions.

    def join(
        self, subject: str, session_id: str, socket: Socket, counts: bool
    ) -> tuple[Subscription, list[HubEffect]]:
        """Attaches a session that holds its messages back; `Joined` follows, perhaps at once."""
        effects: list[HubEffect] = []
        channel = self._channels.get(subject)
        if channel is None:
            number = self.partition(subject)
            ring = Ring(self._limits.ring_messages, self._limits.ring_bytes)
            channel = self._channels[subject] = Channel(
                subject, number, ring, self._limits.notes_max
            )
            partition = self._partitions.setdefault(number, _Partition())
            partition.channels[subject] = channel
            effects.append(StartWatch(number, subject))
        subscription = Subscription(channel, socket, session_id, counts)
        channel.subscriptions[subscription] = None
        self._idle.pop(channel, None)
        self.subscriptions += 1
        return subscription, effects + self.await_watch(subscription)

    def await_watch(self, subscription: Subscription) -> list[HubEffect]:
        """`Joined` as soon as its subject is watched without a hole."""
        channel = subscription.channel
        if channel.established:
            return [Joined(subscription, channel.last, channel.floor)]
        self._joining.setdefault(channel.subject, []).append(subscription)
        return []

    def leave(self, subscription: Subscription, now: float) -> None:
        """Detaches a session from a subject."""
        channel = subscription.channel
        if subscription not in channel.subscriptions:
            return
        del channel.subscriptions[subscription]
        channel.live.pop(subscription, None)
        subscription.live = subscription.begun = False
        subscription.backlog = None
        self.subscriptions -= 1
        if not channel.subscriptions:
            channel.idle_since = now
            self._idle[channel] = None

    def begin(self, subscription: Subscription, begin: Begin, now: float) -> list[HubEffect]:
        """Starts sending: the backlog, what came meanwhile, then everything as it comes."""
        subscription.channel.live.pop(subscription, None)
        subscription.live = False
        subscription.begun = True
        subscription.begun_at = now
        subscription.sent = subscription.replayed_to = begin.position
        subscription.backlog = None
        if begin.backlog:
            replay = (replay_frame(entry, begin.kind) for entry in begin.backlog)
            subscription.backlog = deque(replay)
        subscription.synced_due = begin.synced
        return self.advance(subscription)

    def pause(self, subscription: Subscription) -> None:
        """Its socket is full: from here on only `sent` is kept."""
        if subscription.live:
            subscription.live = False
            del subscription.channel.live[subscription]

    def advance(self, subscription: Subscription) -> list[HubEffect]:
        """Sends what a subscription that is not live lacks, as long as its socket takes it."""
        if not subscription.begun or subscription.live:
            return []
        channel, socket = subscription.channel, subscription.socket
        while not socket.paused:
            if subscription.backlog:
                socket.send(subscription.backlog.popleft())
                subscription.backlog = subscription.backlog or None
            elif subscription.sent < channel.last:
                entry = channel.ring.get(subscription.sent + 1)
                if entry is None:
                    return [TooFar(subscription.session_id)]
                subscription.sent = entry.seq
                socket.send(entry.live)
            else:
                if subscription.synced_due:
                    subscription.synced_due = False
                    synced = client_pb2.Synced(subject=channel.subject, seq=subscription.sent)
                    socket.send(server_frame(ServerFrame(synced=synced)))
                subscription.live = True
                channel.live[subscription] = None
                return []
            self.delivered += 1
        return []

    # Messages.

    def deliver(self, deliveries: Iterable[coordinator_pb2.Delivery]) -> list[HubEffect]:
        """Takes messages as their owners sent them."""
        effects: list[HubEffect] = []
        news: dict[Channel, list[Entry]] = {}
        for delivery in deliveries:
            channel = self._channels.get(delivery.message.subject)
            if channel is None:
                continue  # unwatched meanwhile
            seq = delivery.message.seq
            if seq <= channel.last:
                continue  # told again
            entry = entry_of(delivery)
            if not channel.established:
                self._hold(channel, entry)
            elif seq == channel.last + 1:
                self._apply(channel, entry, news)
            else:
                self._open_hole(channel, seq - 1, effects)
                self._hold(channel, entry)
        return effects + self._spread(news)

    def watched(self, watched: coordinator_pb2.Watched) -> list[HubEffect]:
        """Takes the owner's answer to a watch."""
        channel = self._channels.get(watched.subject)
        effects: list[HubEffect] = []
        if channel is None:
            return effects
        channel.answered = True
        channel.floor = watched.floor
        if channel.last < 0:
            channel.last = watched.head
        if max(watched.head, channel.hole_to) > channel.last:
            self._open_hole(channel, watched.head, effects)
            return effects
        return self._close_hole(channel)

    def filled(self, subject: str, entries: Sequence[Entry], floor: int) -> list[HubEffect]:
        """Takes what `FillHole` read."""
        channel = self._channels.get(subject)
        if channel is None or channel.hole_to <= max(channel.last, 0):
            return []  # also if the subject was unwatched meanwhile, and then watched anew
        if floor > channel.last:
            self._skip(channel, floor)
        news: dict[Channel, list[Entry]] = {}
        for entry in entries:
            if entry.seq == channel.last + 1:
                self._apply(channel, entry, news)
        effects = self._spread(news)
        if channel.last < channel.hole_to:
            return [*effects, FillHole(subject, channel.last)]
        return effects + self._close_hole(channel)

    def interrupted(self, partition: int) -> None:
        """Messages may be missed: the partition changes hands, or its owner cannot be reached."""
        if (held := self._partitions.get(partition)) is not None:
            for channel in held.channels.values():
                channel.answered = channel.established = False

    def reached(self, partition: int, tail: int) -> None:
        """Everything up to `tail` that is watched in the partition has been taken."""
        if (held := self._partitions.get(partition)) is not None:
            held.high = max(held.high, tail)

    def after(self, subject: str, after_seq: int, up_to: int, limit: int) -> tuple[Entry, ...]:
        """What the ring has of (after_seq, up_to]; empty unless it has it all, or `limit` of it."""
        channel = self._channels.get(subject)
        entries = channel.ring.after(after_seq, limit) if channel else None
        if entries and (entries[-1].seq >= up_to or len(entries) == limit):
            return entries
        return ()

    def pump(self, writes: int = PUMP_WRITES) -> bool:
        """Goes on with the fan-outs, for about so many writes; True if there is more to do."""
        while self._fan_outs and writes > 0:
            job = self._fan_outs[0]
            entries, targets = job.entries, job.targets
            end = min(len(targets), job.next + max(1, writes // len(entries)))
            for at in range(job.next, end):
                target = targets[at]
                for entry in entries:
                    if not target.live:
                        break
                    if target.sent < entry.seq:
                        target.sent = entry.seq
                        target.socket.send(entry.live)
            count = (end - job.next) * len(entries)
            self.delivered += count
            writes -= count
            job.next = end
            if end == len(targets):
                self._fan_outs.popleft()
                job.channel.jobs -= 1
        return bool(self._fan_outs)

    # Rounds and marks.

    def begin_round(self, now: float, round_number: int) -> list[HubEffect]:
        """Notes what moved, and stops watching what nobody wanted for a while."""
        for channel in self._moved:
            channel.note(round_number, now)
        self._moved.clear()
        effects: list[HubEffect] = []
        for channel in list(self._idle):
            assert channel.idle_since is not None
            if now - channel.idle_since >= self._limits.linger_s:
                del self._idle[channel]
                if self._channels.get(channel.subject) is not channel:
                    continue  # of a log that was replaced
                del self._channels[channel.subject]
                self._joining.pop(channel.subject, None)
                del self._partitions[channel.partition].channels[channel.subject]
                self._ring_bytes -= channel.ring.bytes
                effects.append(StopWatch(channel.partition, channel.subject))
        return effects

    def high(self, partition: int) -> int:
        """The highest pos of the partition that came."""
        held = self._partitions.get(partition)
        return held.high if held else 0

    def owed_from(self, partition: int) -> int | None:
        """The pos up to which every subscription has acknowledged; None: not known now.

        `NOTHING_OWED` if all that came is acknowledged.
        """
        least = NOTHING_OWED
        held = self._partitions.get(partition)
        for channel in held.channels.values() if held else ():
            if not channel.established:
                return None
            for subscription in channel.subscriptions:
                if subscription.owes and subscription.round is not None:
                    pos = subscription.floor_pos()
                    if pos is None:
                        return None
                    least = min(least, pos)
        return least

    # Parts.

    def _apply(self, channel: Channel, entry: Entry, news: dict[Channel, list[Entry]]) -> None:
        ring = channel.ring
        before = ring.bytes
        ring.add(entry)
        self._ring_bytes += ring.bytes - before
        if self._ring_bytes > self._limits.rings_bytes:
            self._ring_bytes -= ring.shrink()
        channel.last = entry.seq
        self._moved.add(channel)
        news.setdefault(channel, []).append(entry)

    def _spread(self, news: dict[Channel, list[Entry]]) -> list[HubEffect]:
        """Fans out what came, and tells how far each partition has come."""
        reached: dict[int, int] = {}
        for channel, entries in news.items():
            held = self._partitions[channel.partition]
            held.high = max(held.high, entries[-1].pos)
            reached[channel.partition] = held.high
            if channel.live:
                channel.jobs += 1
                self._fan_outs.append(_FanOut(channel, entries, list(channel.live)))
        return [Reached(partition, pos, True) for partition, pos in reached.items()]

    def _hold(self, channel: Channel, entry: Entry) -> None:
        """Keeps what came while a hole is open; if that is too much, it is read again later."""
        if len(channel.ahead) >= self._limits.ring_messages:
            channel.ahead.clear()
        if channel.hole_to and not channel.ahead:
            channel.hole_to = max(channel.hole_to, entry.seq - 1)
        channel.ahead.append(entry)

    def _open_hole(self, channel: Channel, to: int, effects: list[HubEffect]) -> None:
        channel.established = False
        reading = channel.hole_to > channel.last
        channel.hole_to = max(channel.hole_to, to)
        if not reading:
            effects.append(FillHole(channel.subject, channel.last))

    def _close_hole(self, channel: Channel) -> list[HubEffect]:
        """Nothing is missing up to `last`: goes on with what waited."""
        channel.hole_to = 0
        ahead, channel.ahead = channel.ahead, []
        news: dict[Channel, list[Entry]] = {}
        effects: list[HubEffect] = []
        for at, entry in enumerate(ahead):
            if entry.seq == channel.last + 1:
                self._apply(channel, entry, news)
            elif entry.seq > channel.last:
                self._open_hole(channel, entry.seq - 1, effects)
                channel.ahead = ahead[at:]
                break
        effects = self._spread(news) + effects
        if not channel.hole_to and channel.answered:
            channel.established = True
            for subscription in self._joining.pop(channel.subject, ()):
                if subscription in channel.subscriptions:
                    effects.append(Joined(subscription, channel.last, channel.floor))
        return effects

    def _skip(self, channel: Channel, floor: int) -> None:
        """Messages up to `floor` are no longer kept: says so to those who would have got them."""
        gap = client_pb2.Gap(
            subject=channel.subject,
            from_seq=channel.last + 1,
            to_seq=floor,
            reason=State.TRIMMED,
        )
        frame = server_frame(ServerFrame(gap=gap))
        while self.busy:
            self.pump()  # the gap comes after what came before it
        for subscription in list(channel.live):
            subscription.sent = floor
            subscription.socket.send(frame)
        channel.last = floor
        self._ring_bytes -= channel.ring.bytes
        channel.ring.clear()
