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
from collections.abc import Sequence

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
from onward_sdk.errors import Closed, OnwardError, Refused
from onward_sdk.events import (
    Connected,
    Disconnected,
    EndpointGone,
    Event,
    Limits,
    Unsubscribed,
)
from onward_sdk.introduction import Introduction
from onward_sdk.options import Options
from onward_sdk.outgoing import Outgoing
from onward_sdk.protocol import (
    CLOSE_NORMAL,
    CLOSE_REASONS,
    CLOSE_REPLACED,
    Frame,
    Subscription,
    read_limits,
    read_message,
    read_refusal,
    read_states,
    subscription_frame,
)
from onward_sdk.retries import Retries, end_of
from onward_sdk.subscriptions import Subscriptions

__all__ = ["Identity", "Options", "Phase", "State"]


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
        self._introduction = Introduction(identity, options)
        self._subscriptions = Subscriptions(identity.log_id, identity.positions)
        self._outgoing = Outgoing(self._subscriptions, options)
        self._connect_id = ""
        self._refusal: Refused | None = None  # of this connection's `connect`
        self._retries = Retries()

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
        self._introduction.external_tokens.pop(replaces, None)
        self._introduction.external_tokens[uri] = None
        body = {"uri": uri} | ({"replaces": replaces} if replaces else {})
        return self.request("setExternalToken", body, now)

    def remove_external_token(self, uri: str, now: float) -> tuple[str, list[Effect]]:
        """Takes the client off an external token."""
        self._introduction.external_tokens.pop(uri, None)
        return self.request("removeExternalToken", {"uri": uri}, now)

    def set_activity(self, active: bool, now: float) -> tuple[str, list[Effect]]:
        """Says whether a person looks at this client, now and in each session to come."""
        self._introduction.active = active
        return self.request("setActivity", {"active": active}, now)

    def refresh(self, token: str, now: float, expires_at: float | None) -> tuple[str, list[Effect]]:
        """A newer token of the same user: for the session, or for the next connect."""
        self._introduction.token_changed(token, now, expires_at)
        return self.request("refresh", {"token": token}, now)

    def logout(self, now: float) -> tuple[str, list[Effect]]:
        """Forgets this client at the server, and every position here."""
        self._subscriptions.clear()
        self._introduction.external_tokens.clear()
        request_id, effects = self.request("logout", {}, now)
        return request_id, [*effects, Keep(self.identity)]

    def request(self, kind: str, body: Frame, now: float) -> tuple[str, list[Effect]]:
        """Asks for something; the answer comes as Settle or Fail of the returned id.

        Raises QueueFull if too many requests wait, Closed if the client is over.
        """
        if self.phase is Phase.OVER:
            raise Closed("the client is closed")
        return self._outgoing.request(kind, body, now, self.phase is Phase.ONLINE)

    def disconnect(self) -> list[Effect]:
        """Ends the client: acknowledges what was handled, then closes; follows stay."""
        if self.phase is Phase.OVER:
            return []
        effects = self._acknowledge()
        self.phase = Phase.OVER
        effects += self._outgoing.end(Closed("the client was closed"))
        return [*effects, Close(CLOSE_NORMAL, "goodbye")]

    # What happens to the connection.

    @property
    def identity(self) -> Identity:
        """What to keep."""
        return Identity(
            self._introduction.client_id,
            self._introduction.generation,
            self._subscriptions.log_id,
            self._subscriptions.positions(),
        )

    @property
    def limits(self) -> Limits:
        """What the server takes, as the newest session was told."""
        return self._outgoing.limits

    def opened(
        self, token: str, now: float, expires_at: float | None = None, renews: bool = False
    ) -> list[Effect]:
        """A connection is open. `expires_at`: when the token does, on the clock of `now`.

        `renews`: the application can be asked for a newer one.
        """
        self.phase = Phase.CONNECTING
        self._refusal = None
        self._introduction.opened(token, now, expires_at, renews)
        self._subscriptions.lost_connection()
        return [self._connect_frame()]

    def closed(
        self,
        code: int,
        reason: str,
        now: float,
        chance: float,
        fresh_id: str,
        advice_ms: int = 0,
    ) -> list[Effect]:
        """The connection is over (close `code`), or could not be opened (`code` 0).

        `fresh_id`: the client id to take if another session has taken the present one.
        `advice_ms`: how long to wait at least, as an edge said that turned the connection away.
        """
        if self.phase is Phase.OVER:
            return [Stop(None)]
        self.phase = Phase.OFFLINE
        refusal, self._refusal = self._refusal, None
        reason = str(refusal) if refusal else CLOSE_REASONS.get(code, reason)
        if (error := end_of(code, reason, refusal, self._introduction.renews)) is not None:
            return self._end(error, code, reason)
        if code == CLOSE_REPLACED:
            self._introduction.replaced(fresh_id)
        self._introduction.notice_at = None
        advice_ms = refusal.retry_after_ms if refusal else advice_ms
        delay_s, other_edge = self._retries.after_close(code, advice_ms, now, chance)
        return [
            *self._outgoing.disconnected(),
            Emit(Disconnected(reason, True, code, delay_s)),
            Reconnect(delay_s, other_edge),
        ]

    def received(self, frame: Frame, now: float) -> list[Effect]:
        """A frame has come. After the end nothing of it counts, least of all `connected`."""
        if self.phase is Phase.OVER:
            return []
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
        if self.phase is Phase.ONLINE:
            self._outgoing.handled(now)
        return [Keep(self.identity), *self.tick(now)]

    def next_deadline(self) -> float | None:
        """When to call `tick`; None: not until something happens."""
        times = (
            self._outgoing.next_deadline(),
            self._retries.leave_at,
            self._introduction.notice_at,
        )
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> list[Effect]:
        """Does what has fallen due."""
        effects = self._outgoing.tick(now)
        if self.phase is Phase.ONLINE:
            effects += self._introduction.notice(now)
        if self._retries.leaves(now):
            effects += [*self._acknowledge(), Close(CLOSE_NORMAL, "the edge is going away")]
        return effects

    # Frames.

    def _on_connected(self, frame: Frame, now: float) -> list[Effect]:
        self.phase = Phase.ONLINE
        self._retries.connected()
        self._introduction.accepted(frame)
        log_id = str(frame.get("logId", ""))
        replaced = self._subscriptions.use_log(log_id)
        told = self._subscriptions.answered(read_states(frame))
        connected = Connected(
            session_id=str(frame.get("sessionId", "")),
            generation=self._introduction.generation,
            client_id=self._introduction.client_id,
            user=str(frame.get("user", "")),
            log_id=log_id,
            edge_id=str(frame.get("edgeId", "")),
            log_replaced=replaced,
            limits=read_limits(frame),
        )
        effects: list[Effect] = [Keep(self.identity), Emit(connected)]
        effects += [Emit(EndpointGone(uri)) for uri in frame.get("endpointsGone") or ()]
        effects += told
        effects += self._outgoing.resume(connected.limits, now)
        if not self._introduction.active and not self._outgoing.waits("setActivity"):
            # A session begins in the foreground.
            background = {"id": self._outgoing.next_id(), "setActivity": {"active": False}}
            effects.append(Send(background))
        return [*effects, *self._outgoing.send_all(), *self.tick(now)]

    def _on_message(self, frame: Frame) -> list[Effect]:
        return self._again(
            self._subscriptions.message(read_message(frame, self._subscriptions.log_id))
        )

    def _on_answer(self, request_id: str, frame: Frame) -> list[Effect]:
        effects: list[Effect] = []
        if "subscribed" in frame:
            effects = self._subscriptions.answered(read_states(frame["subscribed"]))
            effects = [Keep(self.identity), *effects]
        if self._outgoing.answered(request_id) is None:
            return effects
        answer = frame.get("published") or frame.get("subscribed") or {}
        return [*effects, Settle(request_id, answer)]

    def _on_refusal(self, request_id: str, refusal: Refused) -> list[Effect]:
        if self.phase is Phase.CONNECTING and request_id == self._connect_id:
            return self._on_connect_refused(refusal)
        request = self._outgoing.refused(request_id)
        if request is None:
            return [] if request_id or not refusal.subject else self._on_revoked(refusal)
        for one in request.frame.get("subscribe", {}).get("subscriptions", ()):
            self._subscriptions.refused(one["subject"])
        if "setExternalToken" in request.frame:
            uri = request.frame["setExternalToken"]["uri"]
            self._introduction.external_tokens.pop(uri, None)
        return [Fail(request_id, refusal)]

    def _on_connect_refused(self, refusal: Refused) -> list[Effect]:
        stale = refusal.code == "STALE_SESSION" and refusal.generation is not None
        if stale and self._introduction.stale(refusal.generation or 0):
            return [self._connect_frame()]
        if self._subscriptions.has_been_granted(refusal.subject):
            # The token has changed meanwhile; the other subscriptions go on.
            return [*self._on_revoked(refusal), self._connect_frame()]
        self._refusal = refusal
        return [Close(CLOSE_NORMAL, "connect was refused")]

    def _on_revoked(self, refusal: Refused) -> list[Effect]:
        self._subscriptions.refused(refusal.subject)
        return [Keep(self.identity), Emit(Unsubscribed(refusal.subject, refusal.message))]

    # What goes out.

    def _connect_frame(self) -> Send:
        self._connect_id = self._outgoing.next_id()
        introduction, wanted = self._introduction, self._subscriptions.wanted()
        body = introduction.body(self._subscriptions.log_id)
        tokens = introduction.external_tokens
        self._outgoing.introduced(wanted is not None, tokens, introduction.token)
        if wanted is not None:
            body["subscriptions"] = {"list": [subscription_frame(one) for one in wanted]}
        return Send({"id": self._connect_id, "connect": body})

    def _again(self, told: list[Effect] | Subscription) -> list[Effect]:
        """Passes effects on; a subscription instead means that messages are missing."""
        return [self._outgoing.ask_again(told)] if isinstance(told, Subscription) else told

    def _acknowledge(self) -> list[Effect]:
        return self._outgoing.acknowledge() if self.phase is Phase.ONLINE else []

    def _end(self, error: OnwardError, code: int, reason: str) -> list[Effect]:
        self.phase = Phase.OVER
        return [*self._outgoing.end(error), Emit(Disconnected(reason, False, code)), Stop(error)]
