"""Subject → sessions: takes deliveries, keeps the newest, and writes them to who subscribed.

Knows channels and sockets; must not know frames' fields, uplinks or sessions. No I/O but
`Socket.send`, which never blocks. Drive it from the event loop's thread: carry out the effects
that its methods return, in order, and call `pump` until it is done whenever `busy`.

1. A subject is watched once, for its first subscription, and unwatched a while after its last.
2. A message goes on only if everything before it did. A hole (found at a watch, or between two
   deliveries) is read from the store first; meanwhile what comes waits (`holes`).
3. A subscription is live, or `sent` says how far it is; then it is refilled from the ring as its
   socket takes more. If the ring has moved on, it is too far behind.
4. A transient message goes to who is live when it comes, and is counted where it is dropped.
5. Everything that waits here is bounded by `HubLimits`. While `congested`, take nothing more from
   the uplinks.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from onward.client.v1 import client_pb2
from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2

from services.chassis.subjects import partition_of
from services.edge.channel import Channel, Entry, Ring, Subscription
from services.edge.effects import Begin
from services.edge.fan_outs import PUMP_WRITES, FanOuts
from services.edge.frames import entry_of, replay_frame, server_frame, transient_frame
from services.edge.holding import NOTHING_OWED, Holding
from services.edge.holes import Holes
from services.edge.hub_effects import (
    FillHole,
    HubEffect,
    Joined,
    Reached,
    StartWatch,
    StopWatch,
    TooFar,
)
from services.edge.limits import HubLimits
from services.edge.rings import Rings
from services.edge.socket import Socket

State = client_pb2.SubscriptionState
ServerFrame = client_pb2.ServerFrame


class Hub:
    """All subjects of this edge. `partitions`: how many the cluster has; 0: not known yet."""

    def __init__(self, partitions: int, limits: HubLimits) -> None:
        self.partitions = partitions
        self._limits = limits
        self._channels: dict[str, Channel] = {}
        self._partitions: dict[int, Holding] = {}
        self._joining: dict[Channel, dict[Subscription, None]] = {}
        self._moved: set[Channel] = set()  # since the last round
        self._idle: dict[Channel, None] = {}  # nobody subscribes to them, since the longest first
        self.fan_outs = FanOuts()
        self.rings = Rings(limits.rings_bytes)
        self.holes = Holes(limits.ring_messages, limits.ring_bytes)
        self.subscriptions = 0
        self.joining = 0  # subscriptions that wait until their subject is watched
        self.backlog_bytes = 0  # recovered, and waiting for sockets

    def __len__(self) -> int:
        return len(self._channels)

    @property
    def busy(self) -> bool:
        """Whether a fan-out is not finished."""
        return bool(self.fan_outs)

    @property
    def congested(self) -> bool:
        """Whether more is to be written than may wait."""
        return self.fan_outs.writes > self._limits.writes_max

    @property
    def full(self) -> bool:
        """Whether no further subscription should be let in."""
        return self.subscriptions >= self._limits.subscriptions_max

    @property
    def lingering(self) -> int:
        """Subjects that nobody subscribes to any more."""
        return len(self._idle)

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
            self._partitions.setdefault(number, Holding()).add(channel)
            effects.append(StartWatch(number, subject))
        subscription = Subscription(channel, socket, session_id, counts)
        channel.subscriptions[subscription] = None
        self._partitions[channel.partition].may_owe(channel)
        self._idle.pop(channel, None)
        self.subscriptions += 1
        return subscription, effects + self.await_watch(subscription)

    def await_watch(self, subscription: Subscription) -> list[HubEffect]:
        """`Joined` as soon as its subject is watched without a hole."""
        channel = subscription.channel
        if channel.established:
            return [Joined(subscription, channel.last, channel.floor)]
        waiting = self._joining.setdefault(channel, {})
        if subscription not in waiting:
            waiting[subscription] = None
            self.joining += 1
        return []

    def leave(self, subscription: Subscription, now: float) -> list[HubEffect]:
        """Detaches a session from a subject."""
        channel = subscription.channel
        if subscription not in channel.subscriptions:
            return []
        if self._channels.get(channel.subject) is not channel:
            return []  # of a log that was replaced
        self.halt(subscription)
        del channel.subscriptions[subscription]
        self.subscriptions -= 1
        if channel in self._joining and subscription in self._joining[channel]:
            del self._joining[channel][subscription]
            self.joining -= 1
        if not channel.subscriptions:
            channel.idle_since = now
            self._idle[channel] = None
            if len(self._idle) > self._limits.lingering_max:
                return [self._unwatch(next(iter(self._idle)))]
        return []

    def halt(self, subscription: Subscription) -> None:
        """Sends it nothing more; what it owes, it goes on owing."""
        subscription.channel.live.pop(subscription, None)
        subscription.live = subscription.begun = False
        self._drop_backlog(subscription)

    def begin(self, subscription: Subscription, begin: Begin, now: float) -> list[HubEffect]:
        """Starts sending: the backlog, what came meanwhile, then everything as it comes."""
        subscription.channel.live.pop(subscription, None)
        subscription.live = False
        subscription.begun = True
        subscription.begun_at = now
        subscription.sent = subscription.replayed_to = begin.position
        self._drop_backlog(subscription)
        if begin.backlog:
            replay = (replay_frame(entry, begin.kind) for entry in begin.backlog)
            subscription.backlog = deque(replay)
            self.backlog_bytes += sum(len(frame) for frame in subscription.backlog)
        subscription.synced_due = begin.synced
        effects = self.advance(subscription)
        if subscription.backlog and self.backlog_bytes > self._limits.backlogs_bytes:
            self.halt(subscription)
            return [TooFar(subscription.session_id, "backlogs")]
        return effects

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
                frame = subscription.backlog.popleft()
                subscription.backlog = subscription.backlog or None
                self.backlog_bytes -= len(frame)
                socket.send(frame)
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
            self.fan_outs.delivered += 1
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
                self.holes.hold(channel, entry)
            elif seq == channel.last + 1:
                self._apply(channel, entry, news)
            else:
                effects += self._open_hole(channel, seq - 1)
                self.holes.hold(channel, entry)
        return effects + self._spread(news)

    def relay(self, messages: Iterable[entry_pb2.Message]) -> None:
        """Takes transient messages: for who is live now."""
        for message in messages:
            channel = self._channels.get(message.subject)
            if channel is None:
                continue  # unwatched meanwhile
            dropped = len(channel.subscriptions)
            if channel.live and not self.congested:
                dropped -= len(channel.live)
                self.fan_outs.add_transient(channel, transient_frame(message))
            self.fan_outs.transients_dropped += dropped

    def watched(self, watched: coordinator_pb2.Watched) -> list[HubEffect]:
        """Takes the owner's answer to a watch."""
        channel = self._channels.get(watched.subject)
        if channel is None:
            return []
        channel.answered = True
        channel.floor = watched.floor
        if channel.last < 0:
            channel.last = watched.head
        if max(watched.head, channel.hole_to) > channel.last:
            return [*self._open_hole(channel, watched.head)]
        return self._close_hole(channel)

    def filled(self, subject: str, entries: Sequence[Entry], floor: int) -> list[HubEffect]:
        """Takes what `FillHole` read."""
        channel = self._channels.get(subject)
        if channel is None or channel.hole_to <= max(channel.last, 0):
            return []  # also if the subject was unwatched meanwhile, and then watched anew
        before = channel.last
        if floor > channel.last:
            self._skip(channel, floor)
        news: dict[Channel, list[Entry]] = {}
        for entry in entries:
            if entry.seq == channel.last + 1:
                self._apply(channel, entry, news)
        effects = self._spread(news)
        if channel.last < channel.hole_to:
            return [*effects, FillHole(subject, channel.last, again=channel.last == before)]
        return effects + self._close_hole(channel)

    def interrupted(self, partition: int) -> None:
        """Messages may be missed: the partition changes hands, or its owner cannot be reached."""
        if (held := self._partitions.get(partition)) is not None:
            held.interrupt()

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
        return self.fan_outs.pump(writes)

    # Rounds and marks.

    def begin_round(self, now: float, round_number: int) -> list[HubEffect]:
        """Notes what moved, and stops watching what nobody wanted for a while."""
        for channel in self._moved:
            channel.note(round_number, now)
        self._moved.clear()
        due: list[Channel] = []
        for channel in self._idle:
            assert channel.idle_since is not None
            if now - channel.idle_since < self._limits.linger_s:
                break
            due.append(channel)
        return [self._unwatch(channel) for channel in due]

    def high(self, partition: int) -> int:
        """The highest pos of the partition that came."""
        held = self._partitions.get(partition)
        return held.high if held else 0

    def owed_from(self, partition: int) -> int | None:
        """The pos up to which every subscription has acknowledged; None: not known now.

        `NOTHING_OWED` if all that came is acknowledged.
        """
        held = self._partitions.get(partition)
        return held.owed_from() if held else NOTHING_OWED

    # Parts.

    def _apply(self, channel: Channel, entry: Entry, news: dict[Channel, list[Entry]]) -> None:
        self.rings.add(channel, entry)
        channel.last = entry.seq
        self._moved.add(channel)
        news.setdefault(channel, []).append(entry)

    def _spread(self, news: dict[Channel, list[Entry]]) -> list[HubEffect]:
        """Fans out what came, and tells how far each partition has come."""
        reached: dict[int, int] = {}
        for channel, entries in news.items():
            held = self._partitions[channel.partition]
            held.high = max(held.high, entries[-1].pos)
            held.may_owe(channel)
            reached[channel.partition] = held.high
            if channel.live:
                self.fan_outs.add(channel, entries)
        return [Reached(partition, pos, True) for partition, pos in reached.items()]

    def _unwatch(self, channel: Channel) -> StopWatch:
        """Forgets a subject that nobody subscribes to."""
        del self._idle[channel]
        del self._channels[channel.subject]
        self._joining.pop(channel, None)
        self._partitions[channel.partition].remove(channel)
        self.rings.clear(channel)
        return StopWatch(channel.partition, channel.subject)

    def _drop_backlog(self, subscription: Subscription) -> None:
        if subscription.backlog:
            self.backlog_bytes -= sum(len(frame) for frame in subscription.backlog)
        subscription.backlog = None

    def _open_hole(self, channel: Channel, to: int) -> list[FillHole]:
        self._partitions[channel.partition].settle(channel, False)
        return self.holes.open(channel, to)

    def _close_hole(self, channel: Channel) -> list[HubEffect]:
        """Nothing is missing up to `last`: goes on with what waited."""
        ready, further = self.holes.close(channel)
        news: dict[Channel, list[Entry]] = {}
        for entry in ready:
            self._apply(channel, entry, news)
        effects = self._spread(news)
        if further:
            effects += self._open_hole(channel, further)
        elif channel.answered:
            self._partitions[channel.partition].settle(channel, True)
            for subscription in self._joining.pop(channel, {}):
                self.joining -= 1
                effects.append(Joined(subscription, channel.last, channel.floor))
        return effects

    def _skip(self, channel: Channel, floor: int) -> None:
        """Messages up to `floor` are no longer kept: says so to those who would have got them.

        Who lags or is refilled finds the ring empty, is closed, and is told at its return.
        """
        first = channel.last + 1
        gap = client_pb2.Gap(
            subject=channel.subject, from_seq=first, to_seq=floor, reason=State.TRIMMED
        )
        frame = server_frame(ServerFrame(gap=gap))
        self.fan_outs.add_gap(channel, frame, first, floor)  # after what came before it
        channel.last = channel.floor = floor
        self._moved.add(channel)  # pongs acknowledge what will not come, too
        self.rings.clear(channel)
