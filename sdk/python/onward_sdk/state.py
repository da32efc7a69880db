"""What a client does, as a pure core: applications' wishes and frames in, effects out.

Knows subscriptions, positions, acknowledgements, requests and generations; must not know sockets,
clocks or chance: `now` (seconds, any zero), chance (0 to 1) and fresh names are arguments. Drive
it like this, and carry out the effects of every call, in order, before the next call:

1. Before or during a connection: `subscribe`, `unsubscribe`, `publish`, `request`.
2. When a connection is open: `opened`; for each frame: `received`; when it is over, or could not
   be opened: `closed`. A connection that the shell gave up is reported once.
3. When the application has handled an event: `handled`, with as many as it handled.
4. At `next_deadline()`: `tick`. At the end: `disconnect`, then `closed`.

A session goes OFFLINE → CONNECTING (the connect frame is out) → ONLINE → OFFLINE …, and from any
of them to OVER. Requests made offline wait; when the session is ONLINE they go out in order.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onward_sdk.effects import (
    Close,
    Effect,
    Emit,
    Fail,
    Identity,
    Keep,
    Reconnect,
    Send,
    Settle,
    Stop,
)
from onward_sdk.errors import Closed, OnwardError, OutcomeUnknown, QueueFull, Refused
from onward_sdk.events import (
    Connected,
    Disconnected,
    EndpointGone,
    Event,
    TokenExpiring,
)
from onward_sdk.pending import PendingRequests, Request
from onward_sdk.protocol import (
    CLOSE_FINAL_MIN,
    CLOSE_NORMAL,
    CLOSE_REASONS,
    CLOSE_REPLACED,
    RETRYABLE_CODES,
    Frame,
    Subscription,
    ack_frame,
    read_message,
    read_refusal,
    read_states,
    subscription_frame,
)
from onward_sdk.retries import Retries
from onward_sdk.subscriptions import Subscriptions

__all__ = ["Identity", "Options", "Phase", "State"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a client behaves."""

    ack_delay_s: float = 1.0  # longest wait of an acknowledgement for a frame to ride on
    pending_max: int = 1_000  # requests without an answer; beyond it `QueueFull`
    publish_age_max_s: float = 3_600.0  # until the server told how long it remembers ids
    token_notice_s: float = 30.0  # how long before its expiry `TokenExpiring` tells of a token
    info: Mapping[str, str] | None = None  # facts about the program


class Phase(enum.Enum):
    """Where the session stands."""

    OFFLINE = enum.auto()
    CONNECTING = enum.auto()
    ONLINE = enum.auto()
    OVER = enum.auto()


class State:
    """One client: its identity, its subscriptions, and the session it has now, if any."""

    def __init__(self, identity: Identity, options: Options) -> None:
        self.phase = Phase.OFFLINE
        self._options = options
        self._client_id = identity.client_id
        self._generation = identity.generation
        self._subscriptions = Subscriptions(identity.log_id, identity.positions)
        self._pending = PendingRequests(options.pending_max)
        self._publish_age_max_s = options.publish_age_max_s
        self._external_tokens: dict[str, None] = {}  # an ordered set
        self._last_id = 0
        self._connect_id = ""
        self._asking_again: dict[str, str] = {}  # by request: subjects with a hole
        self._token = ""
        self._token_notice_at: float | None = None
        self._was_stale = False  # this connection has used its one more try
        self._refusal: Refused | None = None  # of this connection's `connect`
        self._retries = Retries()
        self._ack_at: float | None = None

    # What the application wants.

    def subscribe(
        self, subscriptions: Sequence[Subscription], now: float
    ) -> tuple[str, list[Effect]]:
        """Adds subscriptions; one that exists starts anew if it says where. Returns a request."""
        frames = [subscription_frame(self._subscriptions.add(one)) for one in subscriptions]
        return self.request("subscribe", {"subscriptions": frames}, now)

    def unsubscribe(self, subjects: Sequence[str], now: float) -> tuple[str, list[Effect]]:
        """Ends subscriptions and follows, and forgets their positions."""
        request_id, effects = self.request("unsubscribe", {"subjects": list(subjects)}, now)
        self._subscriptions.remove(subjects)  # after the request: their acknowledgement rides on it
        return request_id, [*effects, Keep(self.identity)]

    def set_external_token(self, uri: str, replaces: str, now: float) -> tuple[str, list[Effect]]:
        """Registers an external token, now and with each connect."""
        self._external_tokens.pop(replaces, None)
        self._external_tokens[uri] = None
        body = {"uri": uri} | ({"replaces": replaces} if replaces else {})
        return self.request("setExternalToken", body, now)

    def remove_external_token(self, uri: str, now: float) -> tuple[str, list[Effect]]:
        """Takes the client off an external token."""
        self._external_tokens.pop(uri, None)
        return self.request("removeExternalToken", {"uri": uri}, now)

    def logout(self, now: float) -> tuple[str, list[Effect]]:
        """Forgets this client at the server, and every position here."""
        self._subscriptions.clear()
        self._external_tokens.clear()
        request_id, effects = self.request("logout", {}, now)
        return request_id, [*effects, Keep(self.identity)]

    def request(self, kind: str, body: Frame, now: float) -> tuple[str, list[Effect]]:
        """Asks for something; the answer comes as Settle or Fail of the returned id.

        Raises QueueFull if too many requests wait, Closed if the client is over.
        """
        if self.phase is Phase.OVER:
            raise Closed("the client is closed")
        if self._pending.full:
            raise QueueFull(f"{len(self._pending)} requests wait for an answer")
        request = Request(self._next_id(), {kind: body}, made_at=now)
        self._pending.add(request)
        if self.phase is not Phase.ONLINE:
            return request.request_id, []
        return request.request_id, [self._send_request(request)]

    def disconnect(self) -> list[Effect]:
        """Ends the client: acknowledges what was handled, then closes; follows stay."""
        if self.phase is Phase.OVER:
            return []
        effects = self._ack()
        self.phase = Phase.OVER
        effects += self._fail_all(Closed("the client was closed"))
        return [*effects, Close(CLOSE_NORMAL, "goodbye")]

    # What happens to the connection.

    @property
    def identity(self) -> Identity:
        """What to keep."""
        return Identity(
            self._client_id,
            self._generation,
            self._subscriptions.log_id,
            self._subscriptions.positions(),
        )

    def opened(self, token: str, now: float, expires_at: float | None = None) -> list[Effect]:
        """A connection is open. `expires_at`: when the token does, on the clock of `now`."""
        self.phase = Phase.CONNECTING
        self._token, self._was_stale, self._refusal = token, False, None
        self.token_changed(expires_at)
        self._subscriptions.lost_connection()
        self._asking_again.clear()
        return [self._connect_frame()]

    def token_changed(self, expires_at: float | None) -> None:
        """The session has another token, which expires at a time of the clock of `now`."""
        notice_s = self._options.token_notice_s
        self._token_notice_at = None if expires_at is None else expires_at - notice_s

    def closed(
        self, code: int, reason: str, now: float, chance: float, fresh_id: str
    ) -> list[Effect]:
        """The connection is over (close `code`), or could not be opened (`code` 0).

        `fresh_id`: the client id to take if another session has taken the present one.
        """
        if self.phase is Phase.OVER:
            return [Stop(None)]
        self.phase = Phase.OFFLINE
        refusal, self._refusal = self._refusal, None
        reason = str(refusal) if refusal else CLOSE_REASONS.get(code, reason)
        if code == CLOSE_REPLACED:
            # Somebody else is this client now: a copy of this program, or its successor.
            self._client_id, self._generation = fresh_id, 0
        elif refusal and refusal.code not in RETRYABLE_CODES and refusal.code != "STALE_SESSION":
            return self._end(refusal, code, reason)
        elif code >= CLOSE_FINAL_MIN:
            return self._end(Closed(reason), code, reason)
        self._ack_at = self._token_notice_at = None
        advice_ms = refusal.retry_after_ms if refusal else 0
        delay_s, other_edge = self._retries.after_close(code, advice_ms, now, chance)
        return [
            Emit(Disconnected(reason, True, code, delay_s)),
            Reconnect(delay_s, other_edge),
        ]

    def received(self, frame: Frame, now: float) -> list[Effect]:
        """A frame has come."""
        request_id = str(frame.get("id", ""))
        if "message" in frame:
            return self._on_message(frame["message"])
        if "synced" in frame:
            return self._again(self._subscriptions.synced(frame["synced"]))
        if "gap" in frame:
            return self._subscriptions.gap(frame["gap"])
        if "error" in frame:
            return self._on_refusal(request_id, read_refusal(frame["error"]))
        if "connected" in frame:
            return self._on_connected(frame["connected"], now)
        if "goingAway" in frame:
            after_ms = int(frame["goingAway"].get("reconnectAfterMs", 0))
            self._retries.edge_leaves(now + after_ms / 1_000)
            return []
        return self._on_answer(request_id, frame)

    def handled(self, events: Sequence[Event], now: float) -> list[Effect]:
        """The application is done with these events. Keep comes before any acknowledgement."""
        if not self._subscriptions.done_with(events):
            return []
        effects: list[Effect] = [Keep(self.identity)]
        if self.phase is Phase.ONLINE and self._ack_at is None:
            self._ack_at = now + self._options.ack_delay_s
        return effects + self.tick(now)

    def next_deadline(self) -> float | None:
        """When to call `tick`; None: not until something happens."""
        oldest = self._pending.oldest_publish_at()
        times = (
            self._ack_at,
            self._retries.leave_at,
            self._token_notice_at,
            None if oldest is None else oldest + self._publish_age_max_s,
        )
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> list[Effect]:
        """Does what has fallen due."""
        effects: list[Effect] = []
        for request in self._pending.aged(now - self._publish_age_max_s):
            effects.append(Fail(request.request_id, _aged(request)))
        if self._token_notice_at is not None and now >= self._token_notice_at:
            self._token_notice_at = None
            effects.append(Emit(TokenExpiring(self._options.token_notice_s)))
        if self._ack_at is not None and now >= self._ack_at:
            effects += self._ack()
        if self._retries.leaves(now):
            effects += [*self._ack(), Close(CLOSE_NORMAL, "the edge is going away")]
        return effects

    # Frames.

    def _on_connected(self, frame: Frame, now: float) -> list[Effect]:
        self.phase = Phase.ONLINE
        self._retries.connected()
        self._generation = int(frame.get("generation", 0))
        self._client_id = str(frame.get("clientId") or self._client_id)
        window_ms = int((frame.get("limits") or {}).get("dedupeWindowMs", 0))
        if window_ms:
            self._publish_age_max_s = window_ms / 1_000
        log_id = str(frame.get("logId", ""))
        replaced = self._subscriptions.use_log(log_id)
        states = read_states(frame)
        told = self._subscriptions.answered(states)
        connected = Connected(
            session_id=str(frame.get("sessionId", "")),
            generation=self._generation,
            client_id=self._client_id,
            user=str(frame.get("user", "")),
            log_id=log_id,
            edge_id=str(frame.get("edgeId", "")),
            log_replaced=replaced,
        )
        effects: list[Effect] = [Keep(self.identity), Emit(connected)]
        for uri in frame.get("endpointsGone") or ():
            self._external_tokens.pop(uri, None)
            effects.append(Emit(EndpointGone(uri)))
        effects += told
        effects += self.tick(now)  # what is too old must not go out again
        for request in self._pending.covered():
            effects.append(Settle(request.request_id, {}))
        if self._subscriptions.has_unacked:
            self._ack_at = now + self._options.ack_delay_s
        return effects + [self._send_request(request) for request in self._pending.in_order()]

    def _on_message(self, frame: Frame) -> list[Effect]:
        return self._again(
            self._subscriptions.message(read_message(frame, self._subscriptions.log_id))
        )

    def _on_answer(self, request_id: str, frame: Frame) -> list[Effect]:
        effects: list[Effect] = []
        self._asking_again.pop(request_id, None)
        if "subscribed" in frame:
            effects = self._subscriptions.answered(read_states(frame["subscribed"]))
            effects = [Keep(self.identity), *effects]
        if self._pending.answered(request_id) is None:
            return effects
        answer = frame.get("published") or frame.get("subscribed") or {}
        return [*effects, Settle(request_id, answer)]

    def _on_refusal(self, request_id: str, refusal: Refused) -> list[Effect]:
        if self.phase is Phase.CONNECTING and request_id == self._connect_id:
            return self._on_connect_refused(refusal)
        if (subject := self._asking_again.pop(request_id, None)) is not None:
            self._subscriptions.still_missing(subject)
        request = self._pending.answered(request_id)
        if request is None:
            return []
        for one in request.frame.get("subscribe", {}).get("subscriptions", ()):
            self._subscriptions.refused(one["subject"])
        if "setExternalToken" in request.frame:
            self._external_tokens.pop(request.frame["setExternalToken"]["uri"], None)
        return [Fail(request_id, refusal)]

    def _on_connect_refused(self, refusal: Refused) -> list[Effect]:
        if refusal.code == "STALE_SESSION" and refusal.generation is not None:
            self._generation = refusal.generation
            if not self._was_stale:
                self._was_stale = True
                return [self._connect_frame()]
        self._refusal = refusal
        return [Close(CLOSE_NORMAL, "connect was refused")]

    # What goes out.

    def _connect_frame(self) -> Send:
        self._connect_id = self._next_id()
        body: Frame = {
            "clientId": self._client_id,
            "lastGeneration": str(self._generation),
            "logId": self._subscriptions.log_id,
            "acknowledges": "EXPLICIT",
        }
        if self._token:
            body["token"] = self._token
        if self._external_tokens:
            body["externalTokens"] = [{"uri": uri} for uri in self._external_tokens]
        if self._options.info:
            body["info"] = dict(self._options.info)
        wanted = self._subscriptions.wanted()
        self._pending.cover(wanted is not None, self._external_tokens)
        if wanted is not None:
            body["subscriptions"] = {"list": [subscription_frame(one) for one in wanted]}
        return Send({"id": self._connect_id, "connect": body})

    def _send_request(self, request: Request) -> Send:
        request.sent = True
        return Send({"id": request.request_id, **request.frame, **self._riding_ack()})

    def _again(self, told: list[Effect] | Subscription) -> list[Effect]:
        """Passes effects on; a subscription instead means that messages are missing."""
        if not isinstance(told, Subscription):
            return told
        request_id = self._next_id()
        self._asking_again[request_id] = told.subject
        body = {"subscriptions": [subscription_frame(told)]}
        return [Send({"id": request_id, "subscribe": body, **self._riding_ack()})]

    def _riding_ack(self) -> Frame:
        self._ack_at = None
        positions = self._subscriptions.unacked()
        return {"ack": ack_frame(positions)} if positions else {}

    def _ack(self) -> list[Effect]:
        frame = self._riding_ack() if self.phase is Phase.ONLINE else {}
        return [Send(frame)] if frame else []

    # Ends.

    def _end(self, error: OnwardError, code: int, reason: str) -> list[Effect]:
        self.phase = Phase.OVER
        return [*self._fail_all(error), Emit(Disconnected(reason, False, code)), Stop(error)]

    def _fail_all(self, error: OnwardError) -> list[Effect]:
        return [Fail(request.request_id, error) for request in self._pending.take_all()]

    def _next_id(self) -> str:
        self._last_id += 1
        return str(self._last_id)


def _aged(request: Request) -> OnwardError:
    if request.sent:
        return OutcomeUnknown("the publish was not answered before the server forgot its id")
    return Closed("the publish waited too long for a connection; it was not sent")
