"""What all connections of this edge share, and where uplinks and sessions meet.

Up: appends go into the outbox, and each answer finds its way back. Down: deliveries go through
the hub to the sockets. Knows which session a fact is for; must not know what sessions do with it,
nor how streams are kept open. Everything here runs on the event loop's thread and returns at
once; what must be waited for is asked through `lookups`.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Final

from onward.client.v1 import client_pb2
from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2

from services.chassis import logs
from services.chassis.refusals import Code, Refusal, refuse
from services.edge.connection import Connection
from services.edge.effects import AppendPresence
from services.edge.hub import Hub
from services.edge.hub_effects import (
    FillHole,
    HubEffect,
    Joined,
    Reached,
    StartWatch,
    StopWatch,
    TooFar,
)
from services.edge.identity import Identification, Identify
from services.edge.limits import HubLimits, Limits
from services.edge.lookups import Lookups
from services.edge.marks import EventId, Marks
from services.edge.outbox import Outbox, OutboxLimits, Target
from services.edge.publishing import content_of
from services.edge.rates import RateLimits
from services.edge.readers import Readers
from services.edge.session import Session
from services.edge.session_state import Place
from services.edge.socket import CLOSE_SERVER_FAULT, Handshake, Socket
from services.edge.tallies import (
    DELIVERIES_TAKEN,
    EVENT_SECONDS,
    PUBLISH_SECONDS,
    UPLINK_PAUSES,
)

TICK_S: Final = 0.05
ENDS_PER_TICK: Final = 50  # ending events appended again; while the store takes none, others wait
_ACCEPTED: Final = PUBLISH_SECONDS.labels("accepted")
_PASSED_ON: Final = PUBLISH_SECONDS.labels("transient")
_REFUSED: Final = PUBLISH_SECONDS.labels("refused")

Published = Callable[[client_pb2.Published | Refusal], None]
log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class ExchangeLimits:
    """The limits of its parts."""

    session: Limits = field(default_factory=Limits)
    hub: HubLimits = field(default_factory=HubLimits)
    outbox: OutboxLimits = field(default_factory=OutboxLimits)
    http: RateLimits = field(default_factory=RateLimits)


class Exchange:
    """Implements `socket.Acceptor` and `uplink.Receiver`."""

    def __init__(
        self,
        limits: ExchangeLimits,
        identify: Identify,
        readers: Readers,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.limits = limits
        self.place = Place()
        self.hub = Hub(0, limits.hub)
        self.marks = Marks()
        self.outbox = Outbox(limits.outbox)
        self.connections: dict[str, Connection] = {}  # by session id, until the last event
        self.lagging: set[str] = set()  # ids of sessions whose socket is full
        self.refills = 0  # sessions that lagged and were refilled, ever
        self.wake: Callable[[], None] = lambda: None  # set to `Uplinks.wake`
        self.begin_anew: Callable[[], None] = lambda: None  # set to `Term.begin_anew`
        self.lookups = Lookups(self, readers, tasks)
        self._identify = identify
        self._appends: dict[int, Callable[[coordinator_pb2.Appended], None]] = {}
        # Ending events that are appended again a little later, in the order of their times.
        self._delayed: dict[EventId, tuple[float, Connection, AppendPresence]] = {}
        self._pumping = False
        self._uncongested = asyncio.Event()
        self._uncongested.set()

    @property
    def delayed(self) -> int:
        """Ending events that were turned down, and are appended again a little later."""
        return len(self._delayed)

    @property
    def open(self) -> bool:
        """Whether sessions can begin."""
        return bool(self.place.edge_id and self.place.log_id and self.hub.partitions)

    # The edge's life.

    def begin_term(self, edge_id: int) -> None:
        """The edge has a lease; `edge_id` is its name from now on."""
        self.place.edge_id = edge_id
        self.marks = Marks()

    def end_term(self) -> None:
        """The lease is lost: no session of this edge may go on."""
        self.place.edge_id = 0
        self.close_all("This edge has lost its lease.")

    def close_all(self, reason: str) -> None:
        """Closes every session with 4004."""
        for connection in list(self.connections.values()):
            connection.close(CLOSE_SERVER_FAULT, reason)

    def set_owner(self, partition: int, target: Target | None, revision: int) -> None:
        """Who owns a partition, as etcd had it at `revision`."""
        if self.outbox.owner(partition, target, revision):
            self.hub.interrupted(partition)
            self.marks.repeat(partition)
            self.wake()

    def tick(self, now: float) -> None:
        """To be called every `TICK_S`."""
        given_up = self.outbox.tick(now)
        refusal = refuse(Code.UNAVAILABLE, "No owner has answered in time; the outcome is unknown.")
        for request in given_up:
            answer = self._appends.pop(request, None)
            if answer is not None:
                answer(coordinator_pb2.Appended(request=request, refusal=refusal))
        due = [one for one in islice(self._delayed.values(), ENDS_PER_TICK) if one[0] <= now]
        for _, connection, effect in due:
            self.append_event(connection, effect)
        self.wake()

    # socket.Acceptor

    def accept(self, socket: Socket, handshake: Handshake) -> Connection:
        """Makes the session of a new socket."""
        identify = Identification(self._identify, handshake.user)
        now = asyncio.get_running_loop().time()
        session = Session(uuid.uuid4().hex, self.place, self.limits.session, identify, now)
        connection = Connection(self, socket, session)
        self.connections[session.session_id] = connection
        return connection

    def begin_round(self, now: float, round_number: int) -> None:
        """Takes the marks of the round, of all sessions at this moment, and the notes."""
        for partition, pos in self.marks.take(self.hub.high, self.hub.owed_from):
            mark = entry_pb2.Mark(edge_id=self.place.edge_id, round=round_number, pos=pos)
            if not self.place.edge_id or not self.outbox.mark(partition, mark):
                self.marks.repeat(partition)
        self.place.round = round_number
        self.carry_out(self.hub.begin_round(now, round_number))

    # uplink.Receiver

    def on_link_up(self, coordinator: str, hello: coordinator_pb2.UplinkResponse.Hello) -> None:
        if self.place.log_id and self.place.log_id != hello.log_id:
            log.error("log_replaced", former=self.place.log_id, present=hello.log_id)
            self.place.log_id = hello.log_id
            self.close_all("The log was replaced.")
            self.outbox.log_replaced()
            self.hub = Hub(hello.partitions, self.limits.hub)
            self.marks = Marks()
            self.begin_anew()
        self.place.log_id = hello.log_id
        self.hub.partitions = hello.partitions
        self._interrupted(self.outbox.link_up(coordinator))

    def on_link_down(self, coordinator: str) -> None:
        self._interrupted(self.outbox.link_down(coordinator))

    def on_batch(self, batch: coordinator_pb2.UplinkResponse.Batch) -> None:
        now = asyncio.get_running_loop().time()
        for refused in batch.not_owner:
            hint = None
            if refused.HasField("owner"):
                hint = Target(refused.owner.coordinator, refused.owner.epoch)
            if self.outbox.not_owner(refused.partition, refused.epoch, now, hint):
                self._interrupted([refused.partition])
        for appended in batch.appended:
            answer = self._appends.pop(appended.request, None)
            if self.outbox.appended(appended.request) and answer is not None:
                answer(appended)
            elif appended.HasField("refusal"):
                self._mark_refused(appended.request)
        tails: dict[int, int] = {}
        for watched in batch.watched:
            partition = self.hub.partition(watched.subject)
            if watched.epoch == self.outbox.epoch(partition):
                tails[partition] = max(watched.tail, tails.get(partition, 0))
                self.carry_out(self.hub.watched(watched))
        if batch.deliveries:
            DELIVERIES_TAKEN.observe(len(batch.deliveries))
            self.carry_out(self.hub.deliver(batch.deliveries))
        if batch.transients:
            self.hub.relay(batch.transients)
        for partition, tail in tails.items():
            self.hub.reached(partition, tail)
        for state in batch.clients:
            if (connection := self.lookups.end_client(state.request)) is not None:
                connection.on_client(state.follows)
        for session_id in batch.replaced_sessions:
            if (connection := self.connections.get(session_id)) is not None:
                connection.on_replaced()
        if batch.endings:
            self._end(batch.endings)
        for processed in batch.processed:
            self.outbox.processed(processed.partition, processed.pos)
            self.marks.processed(processed.partition, processed.pos)
        self.pump()
        self.wake()

    async def room(self) -> None:
        if not self._uncongested.is_set():
            UPLINK_PAUSES.inc()
            await self._uncongested.wait()

    # What connections ask.

    def publish(self, publisher: str, publish: client_pb2.Publish, answer: Published) -> None:
        """Publishes; `publish` has been checked. `answer` is called once."""
        if not self.hub.partitions:
            answer(refuse(Code.UNAVAILABLE, "This edge is starting.", 500))
            return
        partition = self.hub.partition(publish.subject)
        message = coordinator_pb2.Publish(
            subject=publish.subject,
            publisher=publisher,
            publication_id=publish.publication_id or uuid.uuid4().hex,
            content=content_of(publish),
            retain=publish.retain,
            transient=publish.transient,
        )
        now = asyncio.get_running_loop().time()
        request = self.outbox.publish(partition, message, now)
        if isinstance(request, Refusal):
            answer(request)
            return
        self._appends[request] = partial(_tell_published, answer, now)
        self.wake()

    def append_event(self, connection: Connection, effect: AppendPresence) -> None:
        """Makes a presence event durable; its connection is told."""
        event = effect.event
        now = asyncio.get_running_loop().time()
        self._delayed.pop(_event_id(event), None)
        if effect.after_s:
            again = AppendPresence(event, effect.ending)
            self._delayed[_event_id(event)] = (now + effect.after_s, connection, again)
            return
        partition = self.hub.partition(event.user)
        request = self.outbox.event(partition, event)
        if isinstance(request, Refusal):
            connection.on_appended(event, coordinator_pb2.Appended(refusal=request))
            return
        if effect.ending:
            floors = self._floors(connection, event)
            self.marks.ended(_event_id(event), partition, floors)
        else:
            self._want_marks(event)
        self._appends[request] = partial(self._tell_appended, connection, event, partition, now)
        self.wake()

    def forget(self, connection: Connection) -> None:
        """Its last event is durable, or it never had one."""
        session_id = connection.session.session_id
        self.connections.pop(session_id, None)
        self.lagging.discard(session_id)
        self.lookups.forget(session_id)

    # Parts.

    def carry_out(self, effects: Sequence[HubEffect]) -> None:
        """Does what the hub wants done, in order."""
        for effect in effects:
            if isinstance(effect, Reached):
                self.marks.moved(effect.partition, effect.pos)
            elif isinstance(effect, StartWatch):
                self.outbox.watch(effect.partition, effect.subject)
                self.wake()
            elif isinstance(effect, StopWatch):
                self.outbox.unwatch(effect.partition, effect.subject)
                self.wake()
            elif isinstance(effect, FillHole):
                self.lookups.fill(effect)
            elif isinstance(effect, Joined):
                connection = self.connections.get(effect.subscription.session_id)
                if connection is not None:
                    connection.on_joined(effect.subscription, effect.head, effect.floor)
            else:
                assert isinstance(effect, TooFar)
                if (connection := self.connections.get(effect.session_id)) is not None:
                    connection.on_too_far(effect.cause)

    def pump(self) -> None:
        """Goes on with fan-outs, a slice in each tick."""
        if self.hub.busy and not self._pumping and self.hub.pump():
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump_on)
        if self.hub.congested:
            self._uncongested.clear()
        elif not self._uncongested.is_set():
            self._uncongested.set()

    def _pump_on(self) -> None:
        self._pumping = False
        self.pump()

    def _end(self, endings: Sequence[coordinator_pb2.Ending]) -> None:
        # All of a batch in one pass: a backend may end something for a thousand users at a time.
        by_user: dict[str, list[coordinator_pb2.Ending]] = {}
        for ending in endings:
            by_user.setdefault(ending.user, []).append(ending)
        for session_id, connection in list(self.connections.items()):
            for ending in by_user.get(connection.session.user, ()):
                if ending.session_id in ("", session_id):
                    connection.on_ending(ending.subjects, ending.logged_out)

    def _interrupted(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            self.hub.interrupted(partition)
            self.marks.repeat(partition)

    def _mark_refused(self, request: int) -> None:
        partition = self.outbox.marked_by(request)
        if partition is not None:
            self.marks.repeat(partition)

    def _floors(self, connection: Connection, event: entry_pb2.PresenceEvent) -> dict[int, int]:
        """Per partition, the pos up to which what ends by `event` owes nothing."""
        body = event.WhichOneof("event")
        assert body in ("disconnected", "unfollowed", "logged_out")
        floors: dict[int, int] = {}
        for position in getattr(event, body).acked:
            subscription = connection.subscription(position.subject)
            if subscription is None:
                continue
            partition = subscription.channel.partition
            floor: int | None = 0
            if subscription.channel.established:
                floor = self.hub.high(partition)
                if subscription.owes:
                    floor = subscription.floor_pos()
            floors[partition] = min(floor or 0, floors.get(partition, floor or 0))
        return floors

    def _want_marks(self, event: entry_pb2.PresenceEvent) -> None:
        """A subscription with something to recover is marked anew."""
        for follow in (*event.connected.follows, *event.followed.follows):
            channel = self.hub.channel(follow.subject)
            if channel is not None and follow.start < channel.last:
                self.marks.want(channel.partition, self.hub.high(channel.partition))

    def _tell_appended(
        self,
        connection: Connection,
        event: entry_pb2.PresenceEvent,
        partition: int,
        since: float,
        outcome: coordinator_pb2.Appended,
    ) -> None:
        seconds = asyncio.get_running_loop().time() - since
        EVENT_SECONDS.labels(event.WhichOneof("event")).observe(seconds)
        event_id, pos = _event_id(event), outcome.recorded.pos
        recorded = outcome.HasField("recorded")
        if recorded and self.marks.recorded(event_id, pos):
            self.outbox.await_processed(partition, pos)
        connection.on_appended(event, outcome)
        if not recorded and event_id not in self._delayed:
            self.marks.dropped(event_id)


def _event_id(event: entry_pb2.PresenceEvent) -> EventId:
    return EventId(event.session_id, event.number)


def _tell_published(answer: Published, since: float, outcome: coordinator_pb2.Appended) -> None:
    seconds = asyncio.get_running_loop().time() - since
    if outcome.HasField("accepted"):
        accepted = outcome.accepted
        (_ACCEPTED if accepted.seq else _PASSED_ON).observe(seconds)
        answer(
            client_pb2.Published(
                seq=accepted.seq, epoch=accepted.epoch, duplicate=accepted.duplicate
            )
        )
    else:
        _REFUSED.observe(seconds)
        answer(outcome.refusal)
