"""The seam between who a client is and what its session does: one value, made by authentication.

`tokens` (with `entitlement`) makes an `Identity` from a connect frame's token and the handshake;
the session core asks it and knows neither tokens nor claims.
"""

from collections.abc import Callable
from typing import Protocol

from services.chassis.refusals import Refusal


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


Identify = Callable[[str, str, str], Identity | Refusal]  # token, `?user=`, client id


class Identification:
    """Who the client of one handshake is. Every session has one; a closure is larger by far."""

    __slots__ = ("_identify", "_user")

    def __init__(self, identify: Identify, user: str) -> None:
        self._identify = identify
        self._user = user

    def __call__(self, token: str, client_id: str) -> Identity | Refusal:
        return self._identify(token, self._user, client_id)
