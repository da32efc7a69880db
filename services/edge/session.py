"""One client's session as a pure core: frames, facts and `now` in; a list of effects out.

Knows the order of the client protocol; must not know JSON, sockets, tasks, or where a subject's
owner is. Drive it with the `on_…` methods and carry out each list in its order. The rules:

1. NEW → CONNECTING → OPEN → ENDED. A refused connect leads back to NEW; `on_closed` comes once.
2. What must be durable (connect, subscribe, unsubscribe, external tokens, logout) goes one at a
   time; such frames wait their turn. Publishes and acknowledgements do not. What a client says of
   its activity is told as one event, when its time has come (`activity`).
3. Subscriptions form thus (`forming`): watch, read what is missing, decide, append the event;
   after it is durable: answer, send the backlog, then what came meanwhile. A subscription is
   owed from the moment its event is formed.
4. A session whose event `connected` was formed ends with `disconnected` or `logged_out`, also if
   the socket is gone long before these can be appended.
5. What may not go on (a newer token grants less; it was ended from elsewhere) is told and not sent
   any more at once, and left when its turn has come.
"""

from collections.abc import Callable, Sequence
from typing import Final

from onward.client.v1 import client_pb2
from onward.types.v1 import entry_pb2

from services.chassis.refusals import Code, Refusal, refuse
from services.edge import acks, forming
from services.edge.activity import Activity
from services.edge.admission import external_token_refusal
from services.edge.channel import Subscription
from services.edge.effects import (
    Answer,
    AppendPresence,
    AppendPublish,
    Effect,
    Finished,
    Halt,
    Leave,
)
from services.edge.external_token import external_token_fault
from services.edge.identity import Identity
from services.edge.job import Job
from services.edge.limits import Limits
from services.edge.publishing import Rate, publish_refusal
from services.edge.recovery import Read
from services.edge.session_state import Phase, Place, SessionState
from services.edge.socket import CLOSE_LOGGED_OUT, CLOSE_SERVER_FAULT
from services.edge.vigil import Vigil

Event = entry_pb2.PresenceEvent
ServerFrame = client_pb2.ServerFrame

# What an ending event that was turned down waits before it is appended again.
_ENDING_RETRY_S: Final = 1.0
_TOO_MANY_WAIT: Final = refuse(Code.OVERLOADED, "Too many frames wait in this session.", 1000)
_MAY_PASS: Final = frozenset({Code.STORE_FULL, Code.OVERLOADED, Code.UNAVAILABLE, Code.NOT_OWNER})


class Session:
    """A client's session from its socket's opening to its last durable event."""

    __slots__ = (
        "_activity",
        "_identify",
        "_rate",
        "_sent_away",
        "_state",
        "_untold",
        "_vigil",
        "_waiting",
    )

    def __init__(
        self,
        session_id: str,
        place: Place,
        limits: Limits,
        identify: Callable[[str, str], Identity | Refusal],
        now: float,
    ) -> None:
        """`identify(token, client_id)` says who the client is."""
        self._state = SessionState(session_id, place, limits)
        self._identify = identify
        # Most sessions are of people who read: what only others need is made when it is needed.
        self._waiting: tuple[client_pb2.ClientFrame, ...] = ()
        self._rate: Rate | None = None
        self._vigil = Vigil(now)
        self._activity: Activity | None = None  # until the client says something of it
        self._sent_away = False  # it was told that the edge is stopping
        self._untold = False  # something was ended while it was connecting

    @property
    def session_id(self) -> str:
        return self._state.session_id

    @property
    def user(self) -> str:
        """Whose it is; empty until its connect frame came."""
        return self._state.user

    @property
    def observes(self) -> bool:
        """True: nobody waits for its acknowledgements."""
        return self._state.observes

    @property
    def forming_bytes(self) -> int:
        """What was read for subscriptions that are not durable yet, and is kept for them."""
        job = self._state.job
        return job.held_bytes if job else 0

    @property
    def subscriptions_left(self) -> int:
        """How many subscriptions it still has; none after its end."""
        return len(self._state.subscriptions)

    # Frames.

    def on_frame(self, frame: client_pb2.ClientFrame, now: float) -> list[Effect]:
        """Takes a frame of the client."""
        state = self._state
        if state.closing or state.phase is Phase.ENDED:
            return []
        kind = frame.WhichOneof("frame")
        if kind == "connect":
            if state.phase is Phase.NEW:
                return forming.connect(state, frame.id, frame.connect, self._identify)
            return state.refuse(
                frame.id, refuse(Code.ALREADY_CONNECTED, "This connection has its session.")
            )
        if state.phase is not Phase.OPEN:
            return state.refuse(
                frame.id, refuse(Code.CONNECT_REQUIRED, "The first frame is `connect`.")
            )
        if frame.HasField("ack"):
            acks.acknowledge(state.subscriptions, frame.ack.positions)
        if kind == "publish":
            return self._publish(frame.id, frame.publish, now)
        if kind is None:
            return state.done(frame.id)
        if kind == "set_activity":
            return self._set_activity(frame.id, frame.set_activity.active, now)
        if kind == "refresh":
            return self._refresh(frame.id, frame.refresh.token)
        if state.job is None:
            return self._then_waiting(self._start(frame))
        size = frame.ByteSize() + sum(one.ByteSize() for one in self._waiting)
        full = len(self._waiting) >= state.limits.frames_waiting_max
        if full or size > state.limits.frames_waiting_bytes_max:
            return state.refuse(frame.id, _TOO_MANY_WAIT)
        self._waiting += (frame,)
        return []

    def _start(self, frame: client_pb2.ClientFrame) -> list[Effect]:
        """Starts on a frame that must become durable."""
        state = self._state
        kind = frame.WhichOneof("frame")
        if kind == "subscribe":
            return forming.subscribe(state, frame.id, frame.subscribe.subscriptions)
        if kind == "unsubscribe":
            return self._unsubscribe(frame.id, frame.unsubscribe.subjects)
        if kind == "logout":
            return self._log_out(frame.id)
        if state.observes:
            return state.refuse(
                frame.id, refuse(Code.UNSUPPORTED, "An observer has no external tokens.")
            )
        assert state.identity is not None
        event = Event()
        if kind == "set_external_token":
            token = frame.set_external_token
            if refusal := external_token_refusal(token.uri, state.identity):
                return state.refuse(frame.id, refusal)
            event.endpoint_added.uri = token.uri
            event.endpoint_added.replaces = token.replaces
        else:
            uri = frame.remove_external_token.uri
            if fault := external_token_fault(uri):
                return state.refuse(frame.id, refuse(Code.EXTERNAL_TOKEN_INVALID, fault))
            event.endpoint_removed.uri = uri
        state.job = Job(frame.id)
        return [state.append(event)]

    def _unsubscribe(self, frame_id: str, subjects: Sequence[str]) -> list[Effect]:
        state = self._state
        if not subjects:
            return state.refuse(frame_id, refuse(Code.ARGUMENT_INVALID, "`subjects` is empty."))
        leaving = tuple(dict.fromkeys(one for one in subjects if one in state.subscriptions))
        if state.ended:  # what could not be subscribed to is left already
            state.ended -= frozenset(subjects) - frozenset(leaving)
        if state.observes:
            return [*self._leave(leaving), *state.done(frame_id)]
        if not leaving:
            return state.done(frame_id)
        event = Event()
        event.unfollowed.acked.extend(state.acked(leaving))
        state.job = Job(frame_id, leaving=leaving)
        return [state.append(event, ending=True)]

    def _log_out(self, frame_id: str) -> list[Effect]:
        state = self._state
        if state.observes:
            return [*state.done(frame_id), *state.close(CLOSE_LOGGED_OUT, "Logged out.")]
        event = Event()
        event.logged_out.acked.extend(state.acked(state.subscriptions))
        event.logged_out.SetInParent()
        state.job = Job(frame_id)
        return [state.append(event, ending=True)]

    def _publish(self, frame_id: str, publish: client_pb2.Publish, now: float) -> list[Effect]:
        state = self._state
        assert state.identity is not None
        if self._rate is None:
            self._rate = Rate(state.limits.publishes_per_s, state.limits.publishes_burst)
        if wait_ms := self._rate.take(now):
            return state.refuse(
                frame_id, refuse(Code.RATE_LIMITED, "This session publishes too fast.", wait_ms)
            )
        refusal = publish_refusal(publish, state.limits)
        if refusal is None and not state.identity.may_publish(publish.subject):
            refusal = refuse(
                Code.SUBJECT_FORBIDDEN,
                f"The subject {publish.subject} may not be published to.",
            )
        if refusal:
            return state.refuse(frame_id, refusal)
        return [AppendPublish(frame_id, state.user, publish)]

    def on_published(self, frame_id: str, outcome: client_pb2.Published | Refusal) -> list[Effect]:
        """What became of a publish."""
        if isinstance(outcome, Refusal):
            return self._state.refuse(frame_id, outcome)
        return self._state.answer(frame_id, published=outcome)

    def _set_activity(self, frame_id: str, active: bool, now: float) -> list[Effect]:
        state = self._state
        if state.observes:
            return state.done(frame_id)
        activity = self._activity = self._activity or Activity()
        if activity.waiting >= state.limits.frames_waiting_max:
            return state.refuse(frame_id, _TOO_MANY_WAIT)
        activity.ask(frame_id, active)
        return self._tell_activity(now)

    def _tell_activity(self, now: float) -> list[Effect]:
        """Appends an event, if there is something to tell and the way is free."""
        state, activity = self._state, self._activity
        if activity is None or state.closing or state.phase is not Phase.OPEN:
            return []
        effects = state.done_all(activity.unchanged())
        if state.job is None and activity.due(now):
            event = Event()
            event.activity_changed.active = activity.tell(now, state.limits.activity_s)
            state.job = Job("", activity=True)
            effects.append(state.append(event))
        return effects

    def _refresh(self, frame_id: str, token: str) -> list[Effect]:
        state = self._state
        identity = self._identify(token, state.client_id)
        if isinstance(identity, Refusal):
            return state.refuse(frame_id, identity)
        if identity.user != state.user:
            return state.refuse(
                frame_id, refuse(Code.TOKEN_INVALID, "The token is another user's.")
            )
        state.identity = identity
        # What is being subscribed to at the moment was granted by the former token.
        denied = [one for one in self._held() if not identity.may_subscribe(one)]
        return self._deny(denied, state.done(frame_id))

    def on_ended(self, subjects: Sequence[str]) -> list[Effect]:
        """Subscriptions to these subjects (empty: to all) were ended from elsewhere."""
        state = self._state
        if state.closing or state.phase not in (Phase.CONNECTING, Phase.OPEN):
            return []
        ended = [one for one in self._held() if not subjects or one in subjects]
        state.ended |= frozenset(ended)
        if state.phase is Phase.CONNECTING:
            # The client may not know of them before `connected` names them.
            self._untold = True
            return []
        return self._deny(ended, [])

    def on_logged_out(self) -> list[Effect]:
        """The client was logged out from elsewhere."""
        state = self._state
        if state.closing or state.phase not in (Phase.CONNECTING, Phase.OPEN):
            return []
        held = self._held()
        state.ended |= frozenset(held)
        halt: list[Effect] = [Halt(held)] if held else []
        if not any(frame.HasField("logout") for frame in self._waiting) and not state.ending:
            logout = client_pb2.ClientFrame(logout=client_pb2.Logout())
            self._waiting = (logout, *self._waiting)
        return self._then_waiting(halt)

    def _held(self) -> tuple[str, ...]:
        """Subjects that it is subscribed to, or subscribes to at the moment."""
        job = self._state.job
        return tuple(dict.fromkeys((*self._state.subscriptions, *(job.subjects if job else ()))))

    def _deny(self, denied: Sequence[str], effects: list[Effect]) -> list[Effect]:
        """Ends what may not go on, and tells the client."""
        state = self._state
        forming_now = tuple(state.job.subjects) if state.job else ()
        going = self._going()
        lost = [one for one in denied if one not in going]
        for subject in lost:
            message = f"{subject} is no longer subscribed to."
            refusal = refuse(Code.SUBJECT_FORBIDDEN, message, subject=subject)
            effects += state.refuse("", refusal)
        if begun := tuple(one for one in denied if one not in forming_now):
            effects.append(Halt(begun))
        if not lost:
            return self._then_waiting(effects)
        unsubscribe = client_pb2.ClientFrame(unsubscribe=client_pb2.Unsubscribe(subjects=lost))
        self._waiting = (unsubscribe, *self._waiting)
        return self._then_waiting(effects)

    def _going(self) -> set[str]:
        """Subjects whose unsubscribe is being made durable, or waits for its turn."""
        job = self._state.job
        going = set(job.leaving if job else ())
        for frame in self._waiting:
            going.update(frame.unsubscribe.subjects)
        return going

    # Facts about subscriptions, as asked for.

    def on_client(self, follows: Sequence[str]) -> list[Effect]:
        """What the client follows, as asked by `ReadClient`."""
        return forming.on_client(self._state, follows)

    def on_gone(self, uris: Sequence[str]) -> list[Effect]:
        """Endpoints that providers reported gone, as asked by `AskGone`."""
        return forming.on_gone(self._state, uris)

    def on_watched(self, subscription: Subscription, head: int, floor: int) -> list[Effect]:
        """A subject is watched, as asked by `Watch`."""
        return self._then_waiting(forming.on_watched(self._state, subscription, head, floor))

    def on_history(self, subject: str, read: Read | None) -> list[Effect]:
        """A part of a subject's log, as asked by `ReadHistory`; None: nobody could read it."""
        return self._then_waiting(forming.on_history(self._state, subject, read))

    # What became of events.

    def on_recorded(self, number: int, generation: int) -> list[Effect]:
        """An event is durable."""
        state = self._state
        if state.ending == number and state.gone_clean is not None:
            return [*self._leave(tuple(state.subscriptions)), Finished()]
        job = state.job
        if job is None or job.number != number:
            return []  # the socket went before the answer came
        if job.connect is not None:
            state.generation = generation
            if state.gone_clean is not None:
                state.job = None
                return self._disconnect(state.gone_clean)
        if job.connect is not None or job.forming is not None:
            return self._then_waiting(forming.begin(state))
        state.job = None
        if job.activity:
            assert self._activity is not None
            answers = state.done_all(self._activity.recorded())
            return self._then_waiting([*answers, *state.done_all(self._activity.unchanged())])
        done = state.done(job.frame_id)
        if state.ending == number:
            state.phase = Phase.ENDED
            leave = self._leave(tuple(state.subscriptions))
            return [*leave, *done, *state.close(CLOSE_LOGGED_OUT, "Logged out.")]
        return self._then_waiting([*self._leave(job.leaving), *done])

    def on_refused(
        self, number: int, refusal: Refusal, event: entry_pb2.PresenceEvent
    ) -> list[Effect]:
        """An event was turned down; it is not in the log."""
        state = self._state
        job = state.job
        if job is not None and job.number == number:
            state.ending = 0
            if job.connect is not None:
                state.number -= 1
            if state.gone_clean is None:
                return self._then_waiting(self._give_up(job, refusal))
            state.job = None
            if job.connect is None:
                return self._disconnect(state.gone_clean)
            return [*self._leave(tuple(state.subscriptions)), Finished()]
        if state.ending != number:
            return []
        if refusal.code in _MAY_PASS:
            return [AppendPresence(event, ending=True, after_s=_ENDING_RETRY_S)]
        return [Finished()]

    def _give_up(self, job: Job, refusal: Refusal) -> list[Effect]:
        state = self._state
        if job.activity:
            assert self._activity is not None
            state.job = None
            frames = self._activity.refused()
            return [effect for one in frames for effect in state.refuse(one, refusal)]
        effects = forming.give_up(state, refusal)
        if any(not state.may_have(subject) for subject in job.leaving):
            # They may not go on; if that cannot be recorded, the return will tell.
            effects += state.close(CLOSE_SERVER_FAULT, "A subscription could not be ended.")
        return effects

    # The socket's life.

    def on_pong(self, payload: bytes) -> list[Effect]:
        """Takes a pong."""
        self._vigil.on_pong(self._state, payload)
        return []

    def on_paused(self, now: float) -> None:
        """The socket is full."""
        self._vigil.on_paused(now)

    def on_resumed(self, now: float) -> None:
        """The socket takes more."""
        self._vigil.on_resumed(now)

    def on_sweep(self, now: float, wall: float, round_number: int, in_turn: bool) -> list[Effect]:
        """Looks at the session's times. `now` is the loop's clock, `wall` seconds since 1970."""
        effects = self._vigil.sweep(self._state, now, wall, round_number, in_turn)
        return effects + self._tell_activity(now) if self._activity else effects

    def drain(self, reconnect_after_ms: int) -> list[Effect]:
        """The edge is stopping; the session goes on until its client leaves, or is closed."""
        if self._state.closing or self._sent_away:
            return []
        self._sent_away = True
        frame = ServerFrame(going_away=client_pb2.GoingAway(reconnect_after_ms=reconnect_after_ms))
        return [Answer(frame)]

    def close(self, code: int, reason: str) -> list[Effect]:
        """Closes for a reason of the edge's own: replaced, lease lost, hopelessly behind."""
        return [] if self._state.closing else self._state.close(code, reason)

    def on_closed(self, clean: bool) -> list[Effect]:
        """The socket is gone; the rest is bookkeeping."""
        state = self._state
        # Who goes because the edge does is looking for another, and is given the time for it.
        clean = clean and not self._sent_away
        state.gone_clean = clean
        state.closing = True
        self._waiting = ()
        job, phase = state.job, state.phase
        state.phase = Phase.ENDED
        if job is not None and job.number and (job.connect is not None or state.ending):
            return []  # what becomes of the event decides how the session ends
        state.job = None
        if phase is Phase.OPEN and not state.observes:
            return self._disconnect(clean)
        return [*self._leave(tuple(state.subscriptions)), Finished()]

    # Parts.

    def _disconnect(self, clean: bool) -> list[Effect]:
        state = self._state
        event = Event()
        event.disconnected.SetInParent()
        event.disconnected.clean = clean
        event.disconnected.acked.extend(state.acked(state.subscriptions))
        append = state.append(event, ending=True)
        return [append, *self._leave(tuple(state.subscriptions))]

    def _leave(self, subjects: tuple[str, ...]) -> list[Effect]:
        for subject in subjects:
            self._state.subscriptions.pop(subject, None)
        if self._state.ended:
            self._state.ended = self._state.ended.difference(subjects)
        return [Leave(subjects)] if subjects else []

    def _then_waiting(self, effects: list[Effect]) -> list[Effect]:
        """Goes on with frames that wait, if the way is free now."""
        state = self._state
        if state.phase is Phase.NEW:
            # A connect that was refused leaves nothing that was ended while it was under way.
            self._waiting, state.ended, self._untold = (), frozenset(), False
        elif self._untold and state.phase is Phase.OPEN:
            self._untold = False
            return self._deny([one for one in self._held() if one in state.ended], effects)
        while self._waiting and state.job is None and state.phase is Phase.OPEN:
            if state.closing:
                break
            frame, *waiting = self._waiting
            self._waiting = tuple(waiting)
            effects = effects + self._start(frame)
        return effects
