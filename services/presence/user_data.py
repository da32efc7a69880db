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
    # BACKEND: a backend has added it; SELF: the user has, without a client.
    client_id: str
    base: int


class Follower(NamedTuple):
    """A client that follows a subject, and how it stands."""

    user: str
    client_id: str
    # A value of `Standing`.
    standing: str
    active: bool
    since: float
    # Online, and looked at by nobody for long.
    away: bool = False


class UserDataRows(Protocol):
    """Rows of a user for whoever asks about them; followers of a subject; the end of a user."""

    def followed(self, user: str, after_subject: str, limit: int) -> Sequence[Followed]:
        """Open follows of subjects above `after_subject`, by subject and client; the last subject
        may be cut."""

    def followed_without_client(self, users: Sequence[str]) -> Mapping[str, int]:
        """How many open follows are of BACKEND or SELF, for each user who has any."""

    def own_follows_asked(
        self, before: float, after: tuple[int, str, str], limit: int
    ) -> Sequence[tuple[int, str, str]]:
        """Open follows of SELF that were asked for last before a time, by (milliseconds, user,
        subject), above `after`."""

    def drop_settled(self, handovers: Sequence[tuple[str, Handover]]) -> None:
        """Delete these handover rows, each of its user, if they still are as given."""

    def cancel_deliveries_of(self, user: str, subject: str | None, reason: str) -> None:
        """Cancel what was to be sent to the user: of a subject, or of all."""

    def count_followers(
        self, subject: str, after: tuple[str, str], limit: int
    ) -> tuple[int, int, tuple[str, str] | None]:
        """Of the next `limit` open follows of the subject, by (user, client) above `after`: how
        many are of clients that are there, how many of clients that are not (what was added
        without a client is neither), and the last of them; None: there were fewer."""

    def followers_there(
        self, subject: str, after: tuple[str, str], limit: int
    ) -> tuple[Sequence[Follower], tuple[str, str] | None]:
        """Of the same follows: those of clients that are there, and the last likewise."""

    def erase_page(self, user: str, limit: int) -> int:
        """Delete rows of the user, about so many; returns how many. 0: none are left but those of
        what is being sent. Follows go first, so that nothing new comes of them."""

    def is_being_sent(self, user: str) -> bool:
        """Whether anything is in the hands of a plugin for the user."""
