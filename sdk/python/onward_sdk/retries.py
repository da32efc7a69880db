"""When to connect again: after a failure, after a refusal, when an edge is going away. Pure.

Knows failures in a row and what servers advised; must not know frames. Failures wait with full
jitter, doubling, on top of what the server advised. At once, once, follow: an edge that is going
away (it says when to leave it), a session that was too slow, and one whose token has expired.
"""

from onward_sdk.edges import backoff_s
from onward_sdk.errors import Closed, OnwardError, Refused
from onward_sdk.protocol import (
    CLOSE_FINAL_MIN,
    CLOSE_GOING_AWAY,
    CLOSE_REPLACED,
    CLOSE_SLOW_CONSUMER,
    CLOSE_TOKEN_EXPIRED,
    RETRYABLE_CODES,
)


def end_of(code: int, reason: str, refusal: Refused | None, renews: bool) -> OnwardError | None:
    """What ends the client with its connection; None: it may connect again.

    `refusal`: of this connection's `connect`. `renews`: a newer token is to be had.
    """
    if code == CLOSE_REPLACED:
        return None  # under another client id
    if refusal is not None:
        passing = refusal.code in RETRYABLE_CODES or refusal.code == "STALE_SESSION"
        return None if passing or (refusal.code == "TOKEN_EXPIRED" and renews) else refusal
    return Closed(reason) if code >= CLOSE_FINAL_MIN else None


class Retries:
    """Counts failures since the last session; `leave_at`: when to leave the present edge."""

    def __init__(self) -> None:
        self.leave_at: float | None = None
        self._failures = 0
        self._left = False  # the connection ends because its edge is going away

    def connected(self) -> None:
        """A session is open."""
        self._failures = 0

    def edge_leaves(self, at: float) -> None:
        """The edge is going away; the client is to leave it then."""
        self.leave_at = at

    def leaves(self, now: float) -> bool:
        """Whether to leave the edge now; true once."""
        if self.leave_at is None or now < self.leave_at:
            return False
        self.leave_at, self._left = None, True
        return True

    def after_close(
        self, code: int, advice_ms: int, now: float, chance: float
    ) -> tuple[float, bool]:
        """How long to wait before the next attempt, and whether to ask another edge."""
        leaving = self._left or code == CLOSE_GOING_AWAY
        leave_at, self.leave_at, self._left = self.leave_at, None, False
        self._failures += 1
        if leaving and self._failures == 1:
            # Should the attempt that follows fail, it is a failure like any other.
            return max(0.0, (leave_at or now) - now), True
        if code in (CLOSE_SLOW_CONSUMER, CLOSE_TOKEN_EXPIRED) and self._failures == 1:
            return 0.0, False
        delay_s = advice_ms / 1_000 + backoff_s(self._failures, chance)
        return delay_s, leaving or code == 0
