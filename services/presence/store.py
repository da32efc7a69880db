"""What the presence service asks of its store: rows, transactions, and the fence.

A `Store` runs a piece of work in one transaction: `await store.write(lambda tx: …)`. The work is
a plain function of a `Transaction`; it takes effect whole or not at all, and not at all once
another process has claimed the store with a higher epoch (`Deposed`). Works run one at a time,
so one user's events, timers and handovers are serial by construction.

Knows the shape of rows and calls. Must not know SQL, cores' rules, or plugins. The rows of users
are those of `state`, the rows of the outbox those of `notifications`; the rest stand here. Times
are seconds of the store's clock, `Transaction.now()`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from services.presence import state
from services.presence.notifications import Delivery, Notification, Span
from services.presence.state import FollowKey, Handover, Hold, UserState

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a partition of the log has taken effect, and the epoch of its last entry."""

    pos: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class GraceDue:
    """A grace that has run out and was not ended yet."""

    user: str
    client_id: str
    generation: int
    until: float


@dataclass(frozen=True, slots=True)
class FanOut:
    """A message of more waiting users than one transaction decides. Primary key: (subject, seq)."""

    subject: str
    seq: int
    pos: int
    publisher: str
    # Users up to this one, in their order, are decided.
    after_user: str


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


class UserRows(Protocol):
    """Registers, follows, waiting, handovers, endpoints, holds and marks."""

    def load_user(self, user: str, subject: str | None = None) -> UserState:
        """The user's rows; with `subject`, only that subject's follows, waiting and handovers."""

    def write_user(self, user: str, effect: state.Effect) -> None:
        """Write one effect of a core. `Notify` and `Suppress` are not for here but for `outbox`."""

    def users_waiting(
        self, subject: str, after_user: str = "", limit: int = 1_000
    ) -> Sequence[str]:
        """Users with a waiting row for the subject, in order, above `after_user`."""

    def waiting_subjects(self, subjects: Sequence[str]) -> frozenset[str]:
        """Those of the subjects that anybody waits for, by one query."""

    def put_fanout(self, fanout: FanOut) -> None:
        """Insert or replace; its remaining users are decided in further transactions."""

    def drop_fanout(self, subject: str, seq: int) -> None:
        """Delete: all users are decided."""

    def open_fanouts(self, limit: int) -> Sequence[FanOut]:
        """Messages of which users remain."""

    def graces_due(self, limit: int) -> Sequence[GraceDue]:
        """Graces that have run out, oldest first."""

    def next_grace(self) -> float | None:
        """When the next grace runs out; None if there is none."""

    def edges_online(self) -> Sequence[int]:
        """Edges that hold a session, as far as the registers say."""

    def clients_of_edge(self, edge_id: int, limit: int) -> Sequence[tuple[str, str]]:
        """(user, client_id) of sessions that the registers say are online at the edge."""

    def open_handovers(self, limit: int) -> Sequence[tuple[str, Handover]]:
        """Handover rows, each with its user."""

    def handover(self, user: str, key: FollowKey) -> Handover | None:
        """One handover row, if it is still there."""

    def holds(self, user: str, subject: str, first_seq: int) -> Mapping[str, Hold]:
        """The holds of one notification, by client."""

    def put_mark(self, edge_id: int, partition: int, round_: int, pos: int) -> None:
        """Raise the edge's mark in a partition; a lower one changes nothing."""

    def prune_marks(self, live_edges: Sequence[int], older_than: float) -> int:
        """Delete marks of edges that are gone, unused, and were last raised before a time."""

    def subjects_with_ended_follows(self, after: str, limit: int) -> Sequence[str]:
        """Subjects, in order above `after`, that have ended follows."""

    def users_with_ended_follows(self, subject: str, after: str, limit: int) -> Sequence[str]:
        """Users, in order above `after`, who have an ended follow of the subject."""

    def gone_endpoints(self, user: str, client_id: str) -> Sequence[str]:
        """Tokens of a client that were reported gone and that it was not told of, oldest first."""

    def endpoint_is_known(self, user: str, uri: str) -> bool:
        """Whether the user still has the endpoint and it takes notifications."""

    def uris(self, user: str) -> Mapping[str, bool]:
        """The user's endpoints, in order; true for those that refuse to be sent anything."""

    def opt_out(self, user: str, uri: str) -> None:
        """Note that an endpoint refuses to be sent anything."""

    def remove_gone_endpoint(self, user: str, uri: str, before: float) -> bool:
        """Delete the endpoint if registered before a time, and note it for each of its clients."""


class OutboxRows(Protocol):
    """Decisions, notifications, deliveries and attempts."""

    def decided_in(
        self, user: str, subject: str, from_seq: int, to_seq: int, limit: int = 1_000
    ) -> Sequence[Decided]:
        """What was decided of messages in [from_seq, to_seq], in order."""

    def put_decided(self, user: str, subject: str, decided: Decided) -> bool:
        """Insert; False, and nothing done, if its last message has been decided before."""

    def take_out(self, user: str, subject: str, to_seq: int, reason: str) -> None:
        """Take a decided message out of its notification: nothing of it will be sent."""

    def members(self, notification_id: str, limit: int = 1_000) -> Sequence[Span]:
        """The messages that a notification stands for, in order; the newest, if it is many."""

    def suppress(self, user: str, subject: str, reason: str, span: Span, window_s: float) -> None:
        """Add messages to the suppression of this reason in the present window."""

    def suppressions(self, user: str, subject: str, limit: int) -> Sequence[Suppression]:
        """The newest suppressions of a user on a subject."""

    def joinable(self, user: str, subject: str) -> Notification | None:
        """The notification that messages may still join, if there is one."""

    def last_sent_at(self, user: str, subject: str) -> float | None:
        """When anything of the subject was last handed to a plugin for this user."""

    def begin(self, notification: Notification, deliveries: Sequence[Delivery]) -> None:
        """Insert a notification and its deliveries."""

    def notification(self, notification_id: str) -> Notification | None:
        """One notification."""

    def close_notification(self, notification_id: str, sent: bool) -> None:
        """No message may join any more; with `sent`, something of it goes to a plugin now."""

    def delivery(self, delivery_id: str) -> Delivery | None:
        """One delivery."""

    def deliveries_of(self, notification_id: str) -> Sequence[Delivery]:
        """The deliveries of a notification."""

    def put_delivery(self, delivery: Delivery) -> None:
        """Replace a delivery."""

    def deliveries_due(self, schemes: Sequence[str], limit: int) -> Sequence[Delivery]:
        """Deliveries of these channels that are due, longest due first."""

    def next_due(self, schemes: Sequence[str]) -> float | None:
        """When the next delivery of these channels is due; None if there is none."""

    def schemes_open(self) -> Sequence[str]:
        """Channels of all deliveries that are not at their end."""

    def deliveries_expired(self, limit: int) -> Sequence[Delivery]:
        """Deliveries not at their end whose time has run out."""

    def has_open_deliveries(self, user: str, subject: str) -> bool:
        """Whether anything of the subject may yet be sent to the user."""

    def deliveries_sending(self, limit: int) -> Sequence[Delivery]:
        """Deliveries that some process has claimed and not settled."""

    def begin_attempt(self, attempt: Attempt) -> None:
        """Insert a try that is about to be made."""

    def end_attempt(self, attempt: Attempt) -> None:
        """Replace a try by what it came to."""

    def attempts(self, delivery_id: str) -> Sequence[Attempt]:
        """The tries of a delivery, in order."""

    def expire_records(self, before: float, limit: int) -> int:
        """Delete records of before a time, at their end, oldest first; returns how many."""


class Transaction(UserRows, OutboxRows, Protocol):
    """One transaction: all of it, or nothing."""

    def now(self) -> float:
        """The store's clock when the transaction began."""

    def log_id(self) -> str:
        """The log that the rows belong to; empty: none yet."""

    def adopt_log(self, log_id: str) -> None:
        """The rows belong to this log from now on. Only while there is none."""

    def cursor(self, partition: int) -> Cursor:
        """How far a partition has taken effect."""

    def put_cursor(self, partition: int, cursor: Cursor) -> None:
        """Move it. In the same transaction as the effects."""

    def epoch(self) -> int:
        """The epoch under which the store was last claimed; 0: never."""


class Store(Protocol):
    """A store of presence. One implementation knows SQLite; others stand beside it."""

    async def claim(self, epoch: int, partitions: int) -> None:
        """Take the store for this process. Raises Deposed unless `epoch` is above the stored one.

        `partitions` is the frozen count: it says which partition a subject's marks are in.
        """

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one transaction. Raises Deposed, StoreFull; the work's own exceptions
        undo it."""

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work`, which changes nothing, on what is committed. Needs no claim."""

    async def close(self) -> None:
        """End; nothing is lost."""
