"""What a client says of itself when it connects, and what it must say again: a pure core.

Knows the client id, the generation, the token and its expiry, external tokens and activity; must
not know subscriptions, requests or when to connect. Drive it: `opened` and `body` for each
connection, then `accepted`, or `stale`; `notice` when `notice_at` has come.
"""

from onward_sdk.effects import Effect, Emit, Identity, RenewToken
from onward_sdk.events import TokenExpiring
from onward_sdk.options import Options
from onward_sdk.protocol import Frame

NOTICE_LEAST_S = 1.0  # between two notices, whatever the tokens given say


class Introduction:
    """Who the client is. Times are on the clock of the caller's `now`."""

    def __init__(self, identity: Identity, options: Options) -> None:
        self.client_id = identity.client_id
        self.generation = identity.generation
        self.external_tokens: dict[str, None] = {}  # an ordered set
        self.active = True
        self.token = ""
        self.renews = False  # newer tokens are to be had from the application
        self.notice_at: float | None = None  # when to ask for a newer token
        self._expires_at = 0.0
        self._notice_s = options.token_notice_s
        self._info = dict(options.info or {})
        self._was_stale = False  # this connection has used its one more try

    def opened(self, token: str, now: float, expires_at: float | None, renews: bool) -> None:
        """A connection is open; it will be introduced with this token."""
        self.renews, self._was_stale = renews, False
        self.token_changed(token, now, expires_at)

    def token_changed(self, token: str, now: float, expires_at: float | None) -> None:
        """The client has another token, which expires at that time; None: never.

        One that expires soon is asked for again at half of its time.
        """
        self.token, self.notice_at = token, None
        if expires_at is not None:
            notice_s = min(self._notice_s, (expires_at - now) / 2)
            self.notice_at = max(expires_at - notice_s, now + NOTICE_LEAST_S)
            self._expires_at = expires_at

    def body(self, log_id: str) -> Frame:
        """The connect frame's body, without subscriptions."""
        body: Frame = {
            "clientId": self.client_id,
            "lastGeneration": str(self.generation),
            "logId": log_id,
            "acknowledges": "EXPLICIT",
        }
        if self.token:
            body["token"] = self.token
        if self.external_tokens:
            body["externalTokens"] = [{"uri": uri} for uri in self.external_tokens]
        if self._info:
            body["info"] = self._info
        return body

    def accepted(self, frame: Frame) -> None:
        """The server's `connected`: the session has begun."""
        self.generation = int(frame.get("generation", 0))
        self.client_id = str(frame.get("clientId") or self.client_id)
        for uri in frame.get("endpointsGone") or ():
            self.external_tokens.pop(uri, None)

    def stale(self, generation: int) -> bool:
        """Takes the number that the server gave; returns whether to try once more with it now."""
        self.generation = generation
        again, self._was_stale = not self._was_stale, True
        return again

    def replaced(self, fresh_id: str) -> None:
        """Somebody else is this client now: a copy of this program, or its successor."""
        self.client_id, self.generation = fresh_id, 0

    def notice(self, now: float) -> list[Effect]:
        """Asks for a newer token once it is time."""
        if self.notice_at is None or now < self.notice_at:
            return []
        self.notice_at = None
        left_s = max(0.0, self._expires_at - now)
        return [RenewToken(left_s) if self.renews else Emit(TokenExpiring(left_s))]
