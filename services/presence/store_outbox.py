"""What presence asks of its store about decisions, notifications and deliveries: a part of `store`.

Knows the shape of rows and calls. Must not know SQL, or why anything is decided.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from services.presence.notifications import Delivery, Notification, Span
from services.presence.placing import Joinable
from services.presence.plan import Plan

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided of one message, or of the rest of a long backlog."""

    span: Span
    # The notification that it is part of; empty: it was suppressed, or acknowledged since.
    notification_id: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a delivery. Primary key: (delivery_id, number)."""

    delivery_id: str
    number: int
    at: float
    plugin: str
    # Empty while the call is under way.
    outcome: str = ""
    ended_at: float | None = None
    provider_id: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Suppression:
    """How much was suppressed for one reason in one window of time."""

    reason: str
    from_seq: int
    to_seq: int
    count: int
    at: float


class OutboxRows(Protocol):
    """Decisions, notifications, deliveries and attempts.

    A delivery is sent by the process that wrote it last, its keeper; what is due, open or expired
    is told of those that this process keeps.
    """

    def decided_in(
        self, user: str, subject: str, from_seq: int, to_seq: int, limit: int = 1_000
    ) -> Sequence[Decided]:
        """What was decided of messages in [from_seq, to_seq], in order."""

    def put_decided(self, user: str, subject: str, decided: Decided) -> None:
        """Insert; nothing is done if its last message has been decided before."""

    def put_all_decided(self, subject: str, decided: Sequence[tuple[str, Decided]]) -> None:
        """Insert for (user, what was decided); those decided before stay so."""

    def replace_decided(
        self, user: str, subject: str, row: Decided, parts: Sequence[Decided]
    ) -> None:
        """Put parts of a suppression in the place of the whole."""

    def decided_users(self, users: Sequence[str], subject: str, seq: int) -> Mapping[str, str]:
        """Users for whom this message has been decided: why it was suppressed, or empty."""

    def take_out(self, user: str, subject: str, to_seq: int, reason: str) -> None:
        """Take a decided message out of its notification: nothing of it will be sent."""

    def shorten(self, user: str, subject: str, rest: Span, reason: str) -> None:
        """Take the first messages of a span out of its notification, all but the rest of it."""

    def members(self, notification_id: str, limit: int = 1_000) -> Sequence[Span]:
        """The messages that a notification stands for, in order; the newest, if it is many."""

    def members_of(self, notification_ids: Sequence[str]) -> Mapping[str, Sequence[Span]]:
        """As `members`, for each of them."""

    def suppress(self, user: str, subject: str, reason: str, span: Span, window_s: float) -> None:
        """Add messages to the suppression of this reason in the present window."""

    def suppressions(self, user: str, subject: str, limit: int) -> Sequence[Suppression]:
        """The newest suppressions of a user on a subject."""

    def joinables(
        self, users: Mapping[str, Collection[str]], subject: str, plan: Plan
    ) -> Mapping[str, Joinable]:
        """The notification that messages of the plan may still join, for each user who has one.
        `users`: with the categories that their preferences name."""

    def last_sent(self, users: Sequence[str], subject: str) -> Mapping[str, float]:
        """When anything of the subject was last handed to a plugin, for each user for whom
        something was."""

    def begin_all(
        self, notifications: Sequence[Notification], deliveries: Sequence[Delivery]
    ) -> None:
        """Insert notifications and their deliveries."""

    def put_plans(self, plans: Mapping[str, Plan]) -> None:
        """Give notifications, by id, other plans."""

    def notifications(self, notification_ids: Sequence[str]) -> Mapping[str, Notification]:
        """Those that there are, by id."""

    def close_notifications(self, notification_ids: Sequence[str], sent: bool) -> None:
        """No message may join any more; with `sent`, something of them goes to a plugin now."""

    def deliveries(self, delivery_ids: Sequence[str]) -> Sequence[Delivery]:
        """Those that there are, in the order of their ids here."""

    def deliveries_of(self, notification_id: str) -> Sequence[Delivery]:
        """The deliveries of a notification."""

    def deliveries_of_all(
        self, notification_ids: Sequence[str]
    ) -> Mapping[str, Sequence[Delivery]]:
        """As `deliveries_of`, for each of them that has any."""

    def wake_deferred(self, user: str) -> None:
        """Make due what was put off for a reason of the user's."""

    def put_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        """Insert or replace."""

    def deliveries_due(self, schemes: Sequence[str], limit: int) -> Sequence[Delivery]:
        """Deliveries of these channels that are due: by rank, as `placing.in_turn` shares the
        room, and longest due first."""

    def next_due(self, schemes: Sequence[str]) -> float | None:
        """When the next delivery of these channels is due; None if there is none."""

    def schemes_open(self) -> Sequence[str]:
        """Channels of all deliveries that are not at their end."""

    def deliveries_expired(self, limit: int) -> Sequence[Delivery]:
        """Deliveries not at their end whose time has run out."""

    def has_open_deliveries(self, user: str, subject: str) -> bool:
        """Whether anything of the subject may yet be sent to the user."""

    def due_now(self, schemes: Sequence[str], at_most: int) -> int:
        """How many deliveries of these channels are due; counted up to a bound."""

    def deliveries_left(self, limit: int) -> Sequence[Delivery]:
        """Deliveries that are not at their end, of keepers whose terms are closed."""

    def put_attempts(self, attempts: Sequence[Attempt]) -> None:
        """Insert tries that are about to be made, or replace them by what they came to."""

    def attempts(self, delivery_id: str) -> Sequence[Attempt]:
        """The tries of a delivery, in order."""

    def expire_records(self, before: float, limit: int) -> int:
        """Delete records of before a time, at their end, oldest first; returns how many."""
