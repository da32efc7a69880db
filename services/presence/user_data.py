"""What those who serve users and their backends ask of the store: a part of `store.Transaction`.

Knows the shape of rows and calls. Must not know SQL, nor who asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from services.presence.state import Handover


@dataclass(frozen=True, slots=True)
class UserLimits:
    """How much a backend may give one user; the settings explain them."""

    follows_max: int = 10_000
    endpoints_max: int = 16


class Followed(NamedTuple):
    """An open follow of a user."""

    subject: str
    # BACKEND: a backend has added it.
    client_id: str
    base: int


class Follower(NamedTuple):
    """A client that follows a subject, and how it stands. BACKEND is always offline."""

    user: str
    client_id: str
    # A value of `Standing`.
    standing: str
    active: bool
    since: float


class UserDataRows(Protocol):
    """Rows of a user for whoever asks about them; followers of a subject; the end of a user."""

    def followed(self, user: str, after_subject: str, limit: int) -> Sequence[Followed]:
        """Open follows of subjects above `after_subject`, by subject and client; the last subject
        may be cut."""

    def followed_by_backends(self, users: Sequence[str]) -> Mapping[str, int]:
        """How many open follows backends have added, for each user who has any."""

    def drop_settled(self, handovers: Sequence[tuple[str, Handover]]) -> None:
        """Delete these handover rows, each of its user, if they still are as given."""

    def cancel_deliveries_of(self, user: str, subject: str | None, reason: str) -> None:
        """Cancel what was to be sent to the user: of a subject, or of all."""

    def followers(self, subject: str, after: tuple[str, str], limit: int) -> Sequence[Follower]:
        """Clients with an open follow of the subject, by (user, client), above `after`."""

    def erase_page(self, user: str, limit: int) -> int:
        """Delete rows of the user, about so many; returns how many. 0: none are left but those of
        what is being sent. Follows go first, so that nothing new comes of them."""

    def is_being_sent(self, user: str) -> bool:
        """Whether anything is in the hands of a plugin for the user."""
