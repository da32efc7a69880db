"""The seam between who a client is and what its session does: one value, made by authentication.

`tokens` (with `entitlement`) makes an `Identity` from a connect frame's token and the handshake;
the session core asks it and knows neither tokens nor claims.
"""

from typing import Protocol


class Identity(Protocol):
    """Who a client is, and what it may do."""

    @property
    def user(self) -> str:
        """Its name."""

    @property
    def expires_at(self) -> float | None:
        """Until when this is so, in seconds since 1970; None: for ever."""

    def may_subscribe(self, subject: str) -> bool:
        """Whether it may subscribe to `subject`."""

    def may_publish(self, subject: str) -> bool:
        """Whether it may publish to `subject`."""

    def may_register(self, uri: str) -> bool:
        """Whether it may register the external token `uri`."""
