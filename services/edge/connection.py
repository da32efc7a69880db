"""One client: carries out what its session core decides, on its socket and the exchange.

Joins socket, codec, session and exchange; decides nothing. All of it happens on the event loop's
thread, and none of it waits: what takes time comes back as a call. It outlives its socket until
the session's last event is durable.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from onward.client.v1 import client_pb2
from onward.coordinator.v1 import coordinator_pb2
from onward.types.v1 import entry_pb2

from services.chassis import logs
from services.chassis.refusals import Code, Refusal, code_name, refuse
from services.edge import codec
from services.edge.channel import Subscription
from services.edge.effects import (
    Answer,
    AppendPresence,
    AppendPublish,
    AskGone,
    Begin,
    Close,
    Effect,
    Finished,
    Halt,
    Leave,
    Ping,
    ReadClient,
    ReadHistory,
    ReadRetained,
    Watch,
)
from services.edge.frames import server_frame
from services.edge.metrics import PONGS
from services.edge.recovery import Read
from services.edge.session import Session
from services.edge.socket import (
    CLOSE_GOING_AWAY,
    CLOSE_REPLACED,
    CLOSE_SERVER_FAULT,
    CLOSE_SLOW_CONSUMER,
    Socket,
)
from services.edge.tallies import CLOSES, FORMING_SECONDS, REFUSALS, STARTS

if TYPE_CHECKING:
    from services.edge.exchange import Exchange

ClientFrame = client_pb2.ClientFrame
ServerFrame = client_pb2.ServerFrame
log = logs.get(__name__)

# What takes as long as a small frame does: so many bytes of lists, or so many of their entries.
_CHARGED_BYTES: Final = 32
_CHARGED_ENTRIES: Final = 8


class Connection:
    """Implements `socket.Connection` for one socket."""

    __slots__ = ("_effects", "_exchange", "_held", "_performing", "_since", "_socket", "session")

    def __init__(self, exchange: "Exchange", socket: Socket, session: Session) -> None:
        self.session = session
        self._exchange = exchange
        self._socket = socket
        self._held: dict[str, Subscription] = {}  # attached to the hub
        self._effects: list[Effect] = []
        self._performing = False
        self._since = 0.0  # its first frame came; 0: none came yet

    # What the socket and the sweep call.

    def on_text(self, text: bytes) -> None:
        if not self._exchange.open:
            self._socket.close(CLOSE_SERVER_FAULT, "This edge cannot work now.")
            return
        frame = codec.decode(text)
        if len(text) >= _CHARGED_BYTES:
            self._socket.charge(_cost(frame, len(text)))
        if not self._since:
            self._since = _now()
        if isinstance(frame, ServerFrame):
            self._answer(frame)
        else:
            self._tell(self.session.on_frame, frame, _now())

    def on_binary(self) -> None:
        error = refuse(Code.FRAME_MALFORMED, "Frames are JSON in text messages.")
        self._answer(ServerFrame(error=error))

    def on_pong(self, payload: bytes) -> None:
        PONGS.inc()
        self._tell(self.session.on_pong, payload)

    def on_paused(self) -> None:
        self.session.on_paused(_now())
        self._exchange.lagging.add(self.session.session_id)
        for subscription in self._held.values():
            self._exchange.hub.pause(subscription)

    def on_resumed(self) -> None:
        self.session.on_resumed(_now())
        self._exchange.lagging.discard(self.session.session_id)
        self._exchange.refills += 1
        for subscription in list(self._held.values()):
            self._exchange.carry_out(self._exchange.hub.advance(subscription))

    def on_sweep(self, now: float, round_number: int, in_turn: bool) -> None:
        self._tell(self.session.on_sweep, now, time.time(), round_number, in_turn)

    def drain(self, reconnect_after_ms: int) -> None:
        self._tell(self.session.drain, reconnect_after_ms)

    def dismiss(self) -> None:
        self.close(CLOSE_GOING_AWAY, "This edge is stopping.")

    def on_closed(self, clean: bool, code: int) -> None:
        self._exchange.lagging.discard(self.session.session_id)
        self._tell(self.session.on_closed, clean)

    # What the exchange calls.

    def close(self, code: int, reason: str) -> None:
        """Ends the session for a reason of the edge's own."""
        self._tell(self.session.close, code, reason)

    def on_replaced(self) -> None:
        """A newer session of this client is durable."""
        self.close(CLOSE_REPLACED, "Replaced by a newer session of this client.")

    def on_ending(self, subjects: Sequence[str], logged_out: bool) -> None:
        """The owner of the user's partition ends subscriptions, or the session."""
        if logged_out:
            self._tell(self.session.on_logged_out)
        else:
            self._tell(self.session.on_ended, subjects)

    def on_too_far(self, cause: str) -> None:
        """It cannot be refilled; `cause` as in `hub_effects.TooFar`."""
        reason = "Too far behind." if cause == "ring" else "Too much is waiting to be recovered."
        self.close(CLOSE_SLOW_CONSUMER, reason)

    def on_joined(self, subscription: Subscription, head: int, floor: int) -> None:
        self._tell(self.session.on_watched, subscription, head, floor)

    def on_client(self, follows: Sequence[str]) -> None:
        self._tell(self.session.on_client, follows)

    def on_gone(self, uris: Sequence[str]) -> None:
        self._tell(self.session.on_gone, uris)

    def on_history(self, subject: str, read: Read | None) -> None:
        self._tell(self.session.on_history, subject, read)

    def on_appended(
        self, event: entry_pb2.PresenceEvent, outcome: coordinator_pb2.Appended
    ) -> None:
        if outcome.HasField("recorded"):
            self._tell(self.session.on_recorded, event.number, outcome.recorded.generation)
        else:
            self._tell(self.session.on_refused, event.number, outcome.refusal, event)
            self._exchange.lookups.recount(self)

    def subscription(self, subject: str) -> Subscription | None:
        """Its attachment to a subject."""
        return self._held.get(subject)

    # Carrying out.

    def _tell(self, hear: Callable[..., Sequence[Effect]], *facts: Any) -> None:
        """Tells the session, and carries out what it decides, in order.

        What comes back meanwhile is carried out after that.
        """
        try:
            self._effects.extend(hear(*facts))
            if not self._performing:
                self._perform()
        except Exception:  # one session's bug must not end the others
            log.exception("session_failed", session=self.session.session_id)
            self._effects.clear()
            self._socket.close(CLOSE_SERVER_FAULT, "A fault of this edge.")

    def _perform(self) -> None:
        self._performing = True
        try:
            while self._effects:
                effects, self._effects = self._effects, []
                for effect in effects:
                    self._carry_out(effect)
        finally:
            self._performing = False

    def _carry_out(self, effect: Effect) -> None:
        exchange, socket = self._exchange, self._socket
        if isinstance(effect, Answer):
            self._answer(effect.frame)
        elif isinstance(effect, AppendPublish):
            exchange.publish(effect.publisher, effect.publish, self._publish_answer(effect))
        elif isinstance(effect, Ping):
            socket.ping(b"%d" % effect.round)
        elif isinstance(effect, Begin):
            exchange.lookups.settled(self.session.session_id)
            subscription = self._held[effect.subject]
            exchange.carry_out(exchange.hub.begin(subscription, effect, _now()))
        elif isinstance(effect, Watch):
            self._watch(effect.subject)
        elif isinstance(effect, ReadHistory):
            exchange.lookups.read_history(self, effect)
        elif isinstance(effect, ReadRetained):
            exchange.lookups.read_retained(self, effect)
        elif isinstance(effect, AppendPresence):
            exchange.append_event(self, effect)
        elif isinstance(effect, ReadClient):
            exchange.lookups.read_client(self, effect)
            exchange.wake()
        elif isinstance(effect, AskGone):
            exchange.lookups.ask_gone(self, effect)
        elif isinstance(effect, Halt):
            for subject in effect.subjects:
                if (halted := self._held.get(subject)) is not None:
                    exchange.hub.halt(halted)
        elif isinstance(effect, Leave):
            exchange.lookups.settled(self.session.session_id)
            for subject in effect.subjects:
                self._leave(subject)
        elif isinstance(effect, Close):
            CLOSES.labels(str(effect.code), effect.reason).inc()
            log.debug("session_closed", session=self.session.session_id, code=effect.code)
            socket.close(effect.code, effect.reason)
        else:
            assert isinstance(effect, Finished)
            for subject in list(self._held):
                self._leave(subject)
            exchange.forget(self)

    def _answer(self, frame: client_pb2.ServerFrame) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "error":
            REFUSALS.labels(code_name(frame.error)).inc()
            log.debug("frame_refused", session=self.session.session_id, code=code_name(frame.error))
        elif kind == "connected":
            FORMING_SECONDS.observe(_now() - self._since)
            _count_starts(frame.connected.subscriptions)
            log.debug("session_opened", session=self.session.session_id)
        elif kind == "subscribed":
            _count_starts(frame.subscribed.subscriptions)
        self._socket.send(server_frame(frame))

    def _watch(self, subject: str) -> None:
        hub = self._exchange.hub
        subscription = self._held.get(subject)
        if subscription is not None:
            self._exchange.carry_out(hub.await_watch(subscription))
            return
        counts = not self.session.observes
        subscription, effects = hub.join(subject, self.session.session_id, self._socket, counts)
        self._held[subject] = subscription
        self._exchange.place.full = hub.full
        self._exchange.carry_out(effects)

    def _leave(self, subject: str) -> None:
        subscription = self._held.pop(subject, None)
        if subscription is not None:
            hub = self._exchange.hub
            self._exchange.carry_out(hub.leave(subscription, _now()))
            self._exchange.place.full = hub.full

    def _publish_answer(
        self, effect: AppendPublish
    ) -> Callable[[client_pb2.Published | Refusal], None]:
        def answer(outcome: client_pb2.Published | Refusal) -> None:
            self._tell(self.session.on_published, effect.frame_id, outcome)

        return answer


def _count_starts(states: Iterable[client_pb2.SubscriptionState]) -> None:
    for state in states:
        outcome = "live"
        if state.HasField("recovered"):
            reason = client_pb2.SubscriptionState.Reason.Name(state.reason)
            outcome = "recovered" if state.recovered else reason
        STARTS.labels(outcome).inc()


def _cost(frame: ClientFrame | ServerFrame, size: int) -> int:
    """How many small frames take as long as this one of `size` bytes took to decode.

    The content of a message costs next to nothing, and a position of an acknowledgement little;
    everything else is lists.
    """
    if isinstance(frame, ClientFrame) and frame.WhichOneof("frame") in (None, "publish"):
        return (len(frame.publish.headers) + len(frame.ack.positions)) // _CHARGED_ENTRIES
    return size // _CHARGED_BYTES


def _now() -> float:
    return asyncio.get_running_loop().time()
