"""One client's session as a pure core: frames, facts and `now` in; a list of effects out.

Knows the order of the client protocol; must not know JSON, sockets, tasks, or where a subject's
owner is. Drive it with the `on_…` methods and carry out each list in its order. The rules:

1. NEW → CONNECTING → OPEN → ENDED. A refused connect leads back to NEW; `on_closed` comes once.
2. What must be durable (connect, subscribe, unsubscribe, external tokens, logout) goes one at a
   time; such frames wait their turn. Publishes and acknowledgements do not.
3. Subscriptions form thus: watch, read what is missing, decide, append the event; after it is
   durable: answer, send the backlog, then what came meanwhile. A subscription is owed from the
   moment its event is formed.
4. A session whose event `connected` was formed ends with `disconnected` or `logged_out`, also if
   the socket is gone long before these can be appended.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from onward.client.v1 import client_pb2
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Code, Refusal, refuse
from services.chassis.subjects import subject_fault
from services.edge import acks
from services.edge.admission import (
    connect_refusal,
    external_token_refusal,
    subscriptions_refusal,
)
from services.edge.channel import Subscription
from services.edge.effects import (
    Answer,
    AppendPresence,
    AppendPublish,
    AskGone,
    Close,
    Effect,
    Finished,
    Leave,
    Ping,
    ReadClient,
    Watch,
)
from services.edge.identity import Identity
from services.edge.job import Job
from services.edge.limits import Limits
from services.edge.publishing import Rate, publish_refusal
from services.edge.recovery import Forming, Read
from services.edge.socket import (
    CLOSE_BAD_TOKEN,
    CLOSE_CONNECT_PROTOCOL,
    CLOSE_GOING_AWAY,
    CLOSE_LOGGED_OUT,
    CLOSE_NO_PONG,
    CLOSE_SERVER_FAULT,
    CLOSE_SLOW_CONSUMER,
    CLOSE_TOKEN_EXPIRED,
)

Event = entry_pb2.PresenceEvent
Connect = client_pb2.Connect
ServerFrame = client_pb2.ServerFrame

# What an ending event that was turned down waits before it is appended again.
_ENDING_RETRY_S: Final = 1.0
_MAY_PASS: Final = frozenset({Code.STORE_FULL, Code.OVERLOADED, Code.UNAVAILABLE, Code.NOT_OWNER})


class Phase(Enum):
    NEW = auto()
    CONNECTING = auto()
    OPEN = auto()
    ENDED = auto()  # logged out, or the socket is gone and the rest is bookkeeping


@dataclass(slots=True)
class Place:
    """Facts about this edge that the shell keeps up to date and all its sessions read."""

    edge_id: int = 0
    log_id: str = ""
    round: int = 0


class Session:
    """A client's session from its socket's opening to its last durable event."""

    def __init__(
        self,
        session_id: str,
        place: Place,
        limits: Limits,
        identify: Callable[[str, str], Identity | Refusal],
        now: float,
    ) -> None:
        """`identify(token, client_id)` says who the client is."""
        self.session_id = session_id
        self.phase = Phase.NEW
        self.subscriptions: dict[str, Subscription] = {}
        self.client_id = ""
        self._place = place
        self._limits = limits
        self._identify = identify
        self._identity: Identity | None = None
        self._acknowledges = Connect.PONG
        self._generation = 0
        self._opened_at = now
        self._number = 0  # of the newest event
        self._job: Job | None = None
        self._waiting: deque[client_pb2.ClientFrame] = deque()
        self._rate = Rate(limits.publishes_per_s, limits.publishes_burst)
        self._pings = acks.Pings()
        self._paused_since: float | None = None
        self._closing = False  # a close was asked for: nothing more is said
        self._gone_clean: bool | None = None  # set once the socket is gone
        self._ending = 0  # number of the ending event

    @property
    def user(self) -> str:
        return self._identity.user if self._identity else ""

    @property
    def observes(self) -> bool:
        """True: no follows and no events, and nobody waits for its acknowledgements."""
        return self._acknowledges == Connect.NONE

    # Frames.

    def on_frame(self, frame: client_pb2.ClientFrame, now: float) -> list[Effect]:
        """Takes a frame of the client."""
        if self._closing or self.phase is Phase.ENDED:
            return []
        kind = frame.WhichOneof("frame")
        if kind == "connect":
            if self.phase is Phase.NEW:
                return self._connect(frame.id, frame.connect)
            return self._refuse(
                frame.id, refuse(Code.ALREADY_CONNECTED, "This connection has its session.")
            )
        if self.phase is not Phase.OPEN:
            return self._refuse(
                frame.id, refuse(Code.CONNECT_REQUIRED, "The first frame is `connect`.")
            )
        if frame.HasField("ack"):
            acks.acknowledge(self.subscriptions, frame.ack.positions)
        if kind == "publish":
            return self._publish(frame.id, frame.publish, now)
        if kind is None or kind == "set_activity":
            return self._done(frame.id)
        if kind == "refresh":
            return self._refresh(frame.id, frame.refresh.token)
        if self._job is None:
            return self._start(frame)
        if len(self._waiting) >= self._limits.frames_waiting_max:
            return self._refuse(
                frame.id, refuse(Code.OVERLOADED, "Too many frames wait in this session.", 1000)
            )
        self._waiting.append(frame)
        return []

    def _start(self, frame: client_pb2.ClientFrame) -> list[Effect]:
        """Starts on a frame that must become durable."""
        kind = frame.WhichOneof("frame")
        if kind == "subscribe":
            return self._subscribe(frame.id, frame.subscribe.subscriptions)
        if kind == "unsubscribe":
            return self._unsubscribe(frame.id, frame.unsubscribe.subjects)
        if self.observes:
            if kind == "logout":
                return [*self._done(frame.id), *self._close(CLOSE_LOGGED_OUT, "Logged out.")]
            return self._refuse(
                frame.id, refuse(Code.UNSUPPORTED, "An observer has no external tokens.")
            )
        assert self._identity is not None
        event = Event()
        if kind == "set_external_token":
            token = frame.set_external_token
            if refusal := external_token_refusal(token.uri, self._identity):
                return self._refuse(frame.id, refusal)
            event.endpoint_added.uri = token.uri
            event.endpoint_added.replaces = token.replaces
        elif kind == "remove_external_token":
            event.endpoint_removed.uri = frame.remove_external_token.uri
        else:
            event.logged_out.acked.extend(self._acked(self.subscriptions))
        self._job = Job(frame.id)
        return [self._append(event, ending=event.HasField("logged_out"))]

    # Connect and subscribe.

    def _connect(self, frame_id: str, connect: client_pb2.Connect) -> list[Effect]:
        client_id = connect.client_id or f"c-{self.session_id}"
        if refusal := connect_refusal(connect, client_id, self._limits):
            return self._refuse(frame_id, refusal)
        identity = self._identify(connect.token, client_id)
        if isinstance(identity, Refusal):
            code = CLOSE_TOKEN_EXPIRED if identity.code == Code.TOKEN_EXPIRED else CLOSE_BAD_TOKEN
            return [*self._refuse(frame_id, identity), *self._close(code, "No valid token.")]
        for token in connect.external_tokens:
            if refusal := external_token_refusal(token.uri, identity):
                return self._refuse(frame_id, refusal)
        wanted = connect.subscriptions.list
        if refusal := subscriptions_refusal(wanted, (), identity, self._limits):
            return self._refuse(frame_id, refusal)
        self.phase = Phase.CONNECTING
        self.client_id = client_id
        self._identity = identity
        self._acknowledges = connect.acknowledges or Connect.PONG
        self._job = Job(frame_id, connect)
        if self.observes:
            self._job.gone = ()
            return self._form(wanted)
        ask = AskGone(identity.user, client_id)
        if connect.HasField("subscriptions"):
            self._job.replaces_follows = True
            return [ask, *self._form(wanted)]
        return [ask, ReadClient(identity.user, client_id)]

    def on_client(self, follows: Sequence[str]) -> list[Effect]:
        """What the client follows, as asked by `ReadClient`."""
        job = self._job
        if self.phase is not Phase.CONNECTING or job is None or self._gone_clean is not None:
            return []
        assert self._identity is not None
        allowed = [
            subject
            for subject in follows
            if subject_fault(subject) is None and self._identity.may_subscribe(subject)
        ]
        # What the token no longer grants is no longer followed.
        job.replaces_follows = len(allowed) < len(follows)
        return self._form([client_pb2.Subscription(subject=subject) for subject in allowed])

    def on_gone(self, uris: Sequence[str]) -> list[Effect]:
        """Endpoints that providers reported gone, as asked by `AskGone`."""
        if self._job is None or self._job.gone is not None:
            return []
        self._job.gone = tuple(uris)
        return self._settle()

    def _subscribe(self, frame_id: str, wanted: Sequence[client_pb2.Subscription]) -> list[Effect]:
        assert self._identity is not None
        refusal = subscriptions_refusal(wanted, self.subscriptions, self._identity, self._limits)
        if not wanted:
            refusal = refuse(Code.ARGUMENT_INVALID, "`subscriptions` is empty.")
        if refusal:
            return self._refuse(frame_id, refusal)
        self._job = Job(frame_id)
        return self._form(wanted)

    def _form(self, wanted: Iterable[client_pb2.Subscription]) -> list[Effect]:
        job = self._job
        assert job is not None
        connect = job.connect
        same_log = connect is None or connect.log_id in ("", self._place.log_id)
        job.forming = {one.subject: Forming(one, same_log, self._limits) for one in wanted}
        return [Watch(subject) for subject in job.forming] or self._settle()

    def on_watched(self, subscription: Subscription, head: int, floor: int) -> list[Effect]:
        """A subject is watched, as asked by `Watch`."""
        subject = subscription.channel.subject
        job = self._job
        forming = job.forming.get(subject) if job and job.forming else None
        if forming is None or forming.head >= 0 or self._gone_clean is not None:
            return []
        self.subscriptions[subject] = subscription
        if read := forming.watched(head, floor):
            return [read]
        return self._settle()

    def on_history(self, subject: str, read: Read | None) -> list[Effect]:
        """A part of a subject's log, as asked by `ReadHistory`; None: nobody could read it."""
        job = self._job
        forming = job.forming.get(subject) if job and job.forming else None
        if job is None or forming is None or forming.settled or self._gone_clean is not None:
            return []
        if read is None:
            return self._give_up(refuse(Code.UNAVAILABLE, "The log cannot be read now.", 1000))
        if more := forming.read(read):
            return [more]
        return self._settle()

    def _settle(self) -> list[Effect]:
        """Forms the event, if everything about the subscriptions is known."""
        job = self._job
        assert job is not None
        if not job.settled or self._gone_clean is not None:
            return []
        event = Event(round=self._place.round)
        for one in job.formed:
            subscription = self.subscriptions[one.subject]
            if not subscription.begun:
                subscription.acked = one.start
            subscription.round = self._place.round
        if self.observes:
            return self._begin()
        job.fill(event)
        return [self._append(event)]

    def _begin(self) -> list[Effect]:
        """The subscriptions of the job are durable."""
        job, self._job = self._job, None
        assert job is not None
        begins: list[Effect] = []
        states = []
        for one in job.formed:
            subscription = self.subscriptions[one.subject]
            subscription.acked = max(subscription.acked, one.start)
            assert one.begin is not None and one.state is not None
            begins.append(one.begin)
            states.append(one.state)
        if job.connect is None:
            subscribed = client_pb2.Subscribed(subscriptions=states)
            return [*self._answer(job.frame_id, subscribed=subscribed), *begins, *self._next()]
        self.phase = Phase.OPEN
        connected = client_pb2.Connected(
            session_id=self.session_id,
            generation=self._generation,
            log_id=self._place.log_id,
            edge_id=str(self._place.edge_id),
            user=self.user,
            client_id=self.client_id,
            ping_interval_ms=self._limits.ping_interval_ms,
            limits=client_pb2.Limits(
                content_bytes_max=self._limits.content_bytes_max,
                dedupe_window_ms=self._limits.dedupe_window_ms,
            ),
            endpoints_gone=job.gone,
            subscriptions=states,
        )
        return [Answer(ServerFrame(id=job.frame_id, connected=connected)), *begins]

    def _give_up(self, refusal: Refusal) -> list[Effect]:
        """The job cannot be done: what it attached leaves, and the client is told."""
        job, self._job = self._job, None
        assert job is not None
        new = tuple(
            subject
            for subject in job.forming or ()
            if subject not in self.subscriptions or not self.subscriptions[subject].begun
        )
        for subject in new:
            self.subscriptions.pop(subject, None)
        effects: list[Effect] = [Leave(new)] if new else []
        if job.connect is not None:
            self.phase = Phase.NEW
        return [*effects, *self._refuse(job.frame_id, refusal), *self._next()]

    # The other frames.

    def _unsubscribe(self, frame_id: str, subjects: Sequence[str]) -> list[Effect]:
        if not subjects:
            return self._refuse(frame_id, refuse(Code.ARGUMENT_INVALID, "`subjects` is empty."))
        leaving = tuple(dict.fromkeys(one for one in subjects if one in self.subscriptions))
        if self.observes:
            for subject in leaving:
                del self.subscriptions[subject]
            return [Leave(leaving), *self._done(frame_id)]
        if not leaving:
            return self._done(frame_id)
        event = Event()
        event.unfollowed.acked.extend(self._acked(leaving))
        self._job = Job(frame_id, leaving=leaving)
        return [self._append(event, ending=True)]

    def _publish(self, frame_id: str, publish: client_pb2.Publish, now: float) -> list[Effect]:
        assert self._identity is not None
        if wait_ms := self._rate.take(now):
            return self._refuse(
                frame_id, refuse(Code.RATE_LIMITED, "This session publishes too fast.", wait_ms)
            )
        if refusal := publish_refusal(publish, self._limits):
            return self._refuse(frame_id, refusal)
        if not self._identity.may_publish(publish.subject):
            return self._refuse(
                frame_id,
                refuse(
                    Code.SUBJECT_FORBIDDEN,
                    f"The subject {publish.subject} may not be published to.",
                ),
            )
        return [AppendPublish(frame_id, self._identity.user, publish)]

    def on_published(self, frame_id: str, outcome: client_pb2.Published | Refusal) -> list[Effect]:
        """What became of a publish."""
        if isinstance(outcome, Refusal):
            return self._refuse(frame_id, outcome)
        return self._answer(frame_id, published=outcome)

    def _refresh(self, frame_id: str, token: str) -> list[Effect]:
        identity = self._identify(token, self.client_id)
        if isinstance(identity, Refusal):
            return self._refuse(frame_id, identity)
        if identity.user != self.user:
            return self._refuse(
                frame_id, refuse(Code.TOKEN_INVALID, "The token is another user's.")
            )
        self._identity = identity
        lost = [one for one in self.subscriptions if not identity.may_subscribe(one)]
        effects = self._done(frame_id)
        if not lost:
            return effects
        for subject in lost:
            effects += self._refuse(
                "", refuse(Code.SUBJECT_FORBIDDEN, f"{subject} is no longer subscribed to.")
            )
        frame = client_pb2.ClientFrame(unsubscribe=client_pb2.Unsubscribe(subjects=lost))
        if self._job is None:
            return effects + self._start(frame)
        self._waiting.appendleft(frame)
        return effects

    # What became of events.

    def on_recorded(self, number: int, generation: int) -> list[Effect]:
        """An event is durable."""
        if self._ending == number and self._gone_clean is not None:
            return [Finished()]
        job = self._job
        if job is None or job.number != number:
            return []  # the socket went before the answer came
        if job.connect is not None:
            self._generation = generation
            if self._gone_clean is not None:
                self._job = None
                return self._disconnect(self._gone_clean)
            return self._begin()
        if job.forming is not None:
            return self._begin()
        self._job = None
        done = self._done(job.frame_id)
        if self._ending == number:
            return self._log_out(done)
        for subject in job.leaving:
            self.subscriptions.pop(subject, None)
        leave: list[Effect] = [Leave(job.leaving)] if job.leaving else []
        return [*leave, *done, *self._next()]

    def _log_out(self, done: list[Effect]) -> list[Effect]:
        leave = Leave(tuple(self.subscriptions))
        self.subscriptions.clear()
        close = self._close(CLOSE_LOGGED_OUT, "Logged out.")
        self.phase = Phase.ENDED
        return [leave, *done, *close]

    def on_refused(
        self, number: int, refusal: Refusal, event: entry_pb2.PresenceEvent
    ) -> list[Effect]:
        """An event was turned down; it is not in the log."""
        job = self._job
        if job is not None and job.number == number:
            self._ending = 0
            if self._gone_clean is None:
                if job.connect is not None:
                    self._number -= 1
                return self._give_up(refusal)
            self._job = None
            if job.connect is None:
                return self._disconnect(self._gone_clean)
            leave = Leave(tuple(self.subscriptions))
            self.subscriptions.clear()
            return [leave, Finished()]
        if self._ending != number:
            return []
        if refusal.code in _MAY_PASS:
            return [AppendPresence(event, ending=True, after_s=_ENDING_RETRY_S)]
        return [Finished()]

    # The socket's life.

    def on_pong(self, payload: bytes) -> list[Effect]:
        """Takes a pong."""
        number = self._pings.answered(payload)
        if number is not None and self._acknowledges == Connect.PONG:
            acks.acknowledge_by_pong(self.subscriptions.values(), number)
        return []

    def on_paused(self, now: float) -> None:
        """The socket is full."""
        self._paused_since = now

    def on_resumed(self) -> None:
        """The socket takes more."""
        self._paused_since = None

    def on_sweep(self, now: float, wall: float, round_number: int, in_turn: bool) -> list[Effect]:
        """Looks at the session's times. `now` is the loop's clock, `wall` seconds since 1970."""
        limits = self._limits
        if self._closing or self.phase is Phase.ENDED:
            return []
        if self.phase is not Phase.OPEN:
            if now - self._opened_at <= limits.connect_s:
                return []
            if self.phase is Phase.NEW:
                return self._close(CLOSE_CONNECT_PROTOCOL, "No session was opened in time.")
            return self._close(CLOSE_SERVER_FAULT, "The session could not be opened in time.")
        assert self._identity is not None
        if self._identity.expires_at is not None and wall >= self._identity.expires_at:
            return self._close(CLOSE_TOKEN_EXPIRED, "The token has expired.")
        subscriptions = self.subscriptions.values()
        oldest = acks.oldest_unacknowledged(subscriptions, now)
        if oldest is not None and now - oldest > limits.ack_s:
            return self._close(CLOSE_NO_PONG, "Messages are not acknowledged.")
        if self._paused_since is not None:
            if now - self._paused_since > limits.lag_s:
                return self._close(CLOSE_SLOW_CONSUMER, "The socket is not read.")
            return []
        if self._pings.late(now, limits.pong_s):
            return self._close(CLOSE_NO_PONG, "A pong is missing.")
        if self._acknowledges == Connect.PONG:
            if not (in_turn or oldest is not None) or not acks.may_vouch(subscriptions):
                return []
        elif not in_turn:
            return []
        self._pings.sent(round_number, now)
        return [Ping(round_number)]

    def drain(self, reconnect_after_ms: int) -> list[Effect]:
        """The edge is stopping."""
        if self._closing:
            return []
        frame = ServerFrame(going_away=client_pb2.GoingAway(reconnect_after_ms=reconnect_after_ms))
        return [Answer(frame), *self._close(CLOSE_GOING_AWAY, "This edge is stopping.")]

    def close(self, code: int, reason: str) -> list[Effect]:
        """Closes for a reason of the edge's own: replaced, lease lost, hopelessly behind."""
        return [] if self._closing else self._close(code, reason)

    def on_closed(self, clean: bool) -> list[Effect]:
        """The socket is gone; the rest is bookkeeping."""
        self._gone_clean = clean
        self._waiting.clear()
        job, phase = self._job, self.phase
        self.phase = Phase.ENDED
        if job is not None and job.number and (job.connect is not None or self._ending):
            return []  # what became of the event decides how the session ends
        self._job = None
        if phase is Phase.OPEN and not self.observes:
            return self._disconnect(clean)
        leave = Leave(tuple(self.subscriptions))
        self.subscriptions.clear()
        return [leave, Finished()]

    def _disconnect(self, clean: bool) -> list[Effect]:
        event = Event()
        event.disconnected.clean = clean
        event.disconnected.acked.extend(self._acked(self.subscriptions))
        append = self._append(event, ending=True)
        leave = Leave(tuple(self.subscriptions))
        self.subscriptions.clear()
        return [append, leave]

    # Parts.

    def _append(self, event: entry_pb2.PresenceEvent, *, ending: bool = False) -> AppendPresence:
        self._number += 1
        event.user = self.user
        event.client_id = self.client_id
        event.session_id = self.session_id
        event.number = self._number
        event.generation = self._generation
        event.edge_id = self._place.edge_id
        if self._job is not None:
            self._job.number = self._number
        if event.HasField("disconnected") or event.HasField("logged_out"):
            self._ending = self._number
        return AppendPresence(event, ending)

    def _acked(self, subjects: Iterable[str]) -> list[entry_pb2.Position]:
        return [
            entry_pb2.Position(subject=subject, seq=self.subscriptions[subject].acked)
            for subject in subjects
            if self.subscriptions[subject].round is not None
        ]

    def _next(self) -> list[Effect]:
        """Starts on the next frame that waits."""
        effects: list[Effect] = []
        while self._waiting and self._job is None and not self._closing:
            effects += self._start(self._waiting.popleft())
        return effects

    def _close(self, code: int, reason: str) -> list[Effect]:
        self._closing = True
        return [Close(code, reason)]

    def _refuse(self, frame_id: str, refusal: Refusal) -> list[Effect]:
        return [] if self._closing else [Answer(ServerFrame(id=frame_id, error=refusal))]

    def _done(self, frame_id: str) -> list[Effect]:
        return self._answer(frame_id, done=client_pb2.Done())

    def _answer(
        self,
        frame_id: str,
        *,
        subscribed: client_pb2.Subscribed | None = None,
        published: client_pb2.Published | None = None,
        done: client_pb2.Done | None = None,
    ) -> list[Effect]:
        if not frame_id or self._closing:
            return []
        return [
            Answer(ServerFrame(id=frame_id, subscribed=subscribed, published=published, done=done))
        ]
