"""Looks at one session's times: connect, token, acknowledgements, a full socket, pings. Pure.

Knows how long each may take, and with which code the session is closed then; must not know how a
session goes on. What each close code means stands in `socket`.
"""

from onward.client.v1 import client_pb2

from services.edge import acks
from services.edge.effects import Effect, Ping
from services.edge.session_state import Phase, SessionState
from services.edge.socket import (
    CLOSE_CONNECT_PROTOCOL,
    CLOSE_NO_PONG,
    CLOSE_SERVER_FAULT,
    CLOSE_SLOW_CONSUMER,
    CLOSE_TOKEN_EXPIRED,
)

PONG = client_pb2.Connect.PONG


class Vigil:
    """The times of one session; `now` is the event loop's clock throughout."""

    __slots__ = ("_opened_at", "_paused_since", "_pings")

    def __init__(self, now: float) -> None:
        self._opened_at = now
        self._pings = acks.Pings()
        self._paused_since: float | None = None

    def on_paused(self, now: float) -> None:
        """The socket is full."""
        self._paused_since = now

    def on_resumed(self, now: float) -> None:
        """The socket takes more."""
        self._paused_since = None
        self._pings.restart(now)

    def on_pong(self, state: SessionState, payload: bytes) -> None:
        """Takes a pong; it acknowledges, if that is the session's proof."""
        number = self._pings.answered(payload)
        if number is not None and state.acknowledges == PONG:
            acks.acknowledge_by_pong(state.subscriptions.values(), number)

    def sweep(
        self, state: SessionState, now: float, wall: float, round_number: int, in_turn: bool
    ) -> list[Effect]:
        """What is due in this round. `wall`: seconds since 1970."""
        limits = state.limits
        if state.closing or state.phase is Phase.ENDED:
            return []
        if state.phase is not Phase.OPEN:
            if now - self._opened_at <= limits.connect_s:
                return []
            if state.phase is Phase.NEW:
                return state.close(CLOSE_CONNECT_PROTOCOL, "No session was opened in time.")
            return state.close(CLOSE_SERVER_FAULT, "The session could not be opened in time.")
        assert state.identity is not None
        if state.identity.expires_at is not None and wall >= state.identity.expires_at:
            return state.close(CLOSE_TOKEN_EXPIRED, "The token has expired.")
        subscriptions = state.subscriptions.values()
        oldest = acks.oldest_unacknowledged(subscriptions, now)
        if oldest is not None and now - oldest > limits.ack_s:
            return state.close(CLOSE_NO_PONG, "Messages are not acknowledged.")
        if self._paused_since is not None:
            if now - self._paused_since > limits.lag_s:
                return state.close(CLOSE_SLOW_CONSUMER, "The socket is not read.")
            return []
        if self._pings.late(now, limits.pong_s):
            return state.close(CLOSE_NO_PONG, "A pong is missing.")
        proof = state.acknowledges == PONG
        if not in_turn and not (proof and oldest is not None):
            return []
        if proof and not acks.may_vouch(subscriptions):
            return []
        self._pings.sent(round_number, now)
        return [Ping(round_number)]
