"""The seam between who a client is and what its session does: one value, made by authentication.

`entitlement` (with `tokens`) makes an `Identity` from a connect frame's token and the handshake;
the session core asks it and knows neither tokens nor claims.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is, and what it may do."""

    user: str
    expires_at: float | None  # seconds since 1970; None: never
    may_subscribe: Callable[[str], bool]  # takes a subject
    may_publish: Callable[[str], bool]  # takes a subject
    may_register: Callable[[str], bool]  # takes an external token
