"""What the presence service asks of its store: rows, transactions, and the fence.

A `Store` runs a piece of work in one transaction: `await store.write(lambda tx: …)`. The work is
a plain function of a `Transaction`; it takes effect whole or not at all, and not at all once the
term in which this process works is closed (`Deposed`). Works of a process run one at a time, and
those of several exclude each other by the users that they lock: so one user's events, timers,
handovers and claims are serial by construction.

Knows the shape of rows and calls. Must not know SQL, cores' rules, or plugins. The rows of users
are those of `state`, the rows of the outbox those of `notifications`; the rest stand here. Times
are seconds of the store's clock, `Transaction.now()`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from services.presence import state
from services.presence.happenings import HappeningRows
from services.presence.plan import DEFAULT_PLAN, Plan
from services.presence.profile import Profile
from services.presence.state import Handover, Hold, UserState
from services.presence.store_deliveries import HandedRows
from services.presence.store_outbox import OutboxRows
from services.presence.user_data import UserDataRows

T = TypeVar("T")

# Whoever holds this partition keeps house for all: forgets what nobody can ask for any more.
HOUSEKEEPERS = 0


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a partition of the log has taken effect, and the epoch of its last entry."""

    pos: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Mine:
    """What this process works on. `term`: under which it writes; 0: it may only read."""

    term: int = 0
    # Whose users' graces, handovers and lost sessions are its to see to, and whose log is reported
    # to it.
    partitions: Collection[int] = frozenset()


NOTHING = Mine()


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
    plan: Plan = DEFAULT_PLAN


@dataclass(frozen=True, slots=True)
class Touched:
    """What a transaction may have changed, for those who watch."""

    users: set[str] = field(default_factory=set)
    # Whose cursors moved.
    partitions: set[int] = field(default_factory=set)
    # To which extensions may have to be told something.
    happenings: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows there are; kept with every write, not counted."""

    # By state; `held` for those held back. States without any are left out.
    deliveries: Mapping[str, int]
    clients_online: int
    clients_in_grace: int
    # Offline, and following something.
    clients_waiting: int
    clients_known: int
    handovers: int
    fanouts: int


class UserRows(Protocol):
    """Registers, follows, waiting, handovers, endpoints, holds and marks."""

    def load_user(self, user: str, subject: str | None = None) -> UserState:
        """The user's rows; with `subject`, only that subject's follows, waiting and handovers."""

    def load_followers(self, users: Sequence[str], subject: str) -> Mapping[str, UserState]:
        """For each user, what a decision about a message of the subject needs: registers, the
        subject's follows, their marks. The other rows are left out."""

    def write_user(self, user: str, effect: state.Effect) -> None:
        """Write one effect of a core. `Notify` and `Suppress` are not for here but for `outbox`."""

    def users_waiting(
        self, subject: str, after_user: str = "", limit: int = 1_000
    ) -> Sequence[str]:
        """Users with a waiting row for the subject, in order, above `after_user`."""

    def users_following(
        self, subject: str, after_user: str = "", limit: int = 1_000
    ) -> Sequence[str]:
        """Users with an open follow of the subject, in order, above `after_user`."""

    def crowds(
        self, subjects: Sequence[str], limit: int, following: Collection[str] = ()
    ) -> Mapping[str, Sequence[str]]:
        """The first users who wait, of each of the subjects, as `users_waiting`; of those in
        `following`, the first users who follow it."""

    def waiting_subjects(self, subjects: Sequence[str]) -> frozenset[str]:
        """Those of the subjects that anybody waits for, by one query."""

    def put_fanout(self, fanout: FanOut) -> None:
        """Insert or replace; its remaining users are decided in further transactions."""

    def drop_fanout(self, subject: str, seq: int) -> None:
        """Delete: all users are decided."""

    def open_fanouts(self, limit: int) -> Sequence[FanOut]:
        """Messages in partitions of this process of which users remain."""

    def graces_due(self, limit: int) -> Sequence[GraceDue]:
        """Graces of users in partitions of this process that have run out, oldest first."""

    def next_grace(self) -> float | None:
        """When the next of these graces runs out; None if there is none."""

    def edges_online(self) -> Sequence[int]:
        """Edges that hold a session, as far as the registers say."""

    def clients_of_edge(self, edge_id: int, limit: int) -> Sequence[tuple[str, str]]:
        """(user, client_id) of sessions that the registers say are online at the edge, of users
        in partitions of this process."""

    def count_clients_of_edge(self, edge_id: int, at_most: int) -> int:
        """How many sessions the registers say are online at the edge, of all users."""

    def clients_idle(
        self, before: float, after: tuple[float, str, str], limit: int
    ) -> Sequence[tuple[float, str, str]]:
        """(since, user, client_id) of those online at which nobody has looked since before a time,
        and which are not away yet, of users in partitions of this process; behind `after`."""

    def open_handovers(self, limit: int) -> Sequence[tuple[str, Handover]]:
        """Handover rows of users in partitions of this process, each with its user."""

    def clients_unseen(
        self, before: float, after: tuple[float, str, str], limit: int
    ) -> Sequence[tuple[float, str, str]]:
        """(since, user, client_id) of clients offline since before a time, in order, above
        `after`."""

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

    def users_of(self, uris: Sequence[str]) -> Sequence[str]:
        """Who has one of these endpoints."""

    def uris(self, user: str) -> Mapping[str, bool]:
        """The user's endpoints, in order; true for those that refuse to be sent anything."""

    def uris_of(self, users: Sequence[str]) -> Mapping[str, Mapping[str, bool]]:
        """As `uris`, for each user who has any."""

    def registrants(self, users: Sequence[str]) -> Mapping[tuple[str, str], Sequence[str]]:
        """By (user, URI), the clients that registered the users' endpoints."""

    def opt_out(self, user: str, uri: str) -> None:
        """Note that an endpoint refuses to be sent anything."""

    def remove_gone_endpoint(self, user: str, uri: str, before: float) -> bool:
        """Delete the endpoint if registered before a time, and note it for each of its clients."""


class ProfileRows(Protocol):
    """What users want, and how often they were disturbed."""

    def profiles(self, users: Sequence[str]) -> Mapping[str, Profile]:
        """The profile of each user who has one, by one query."""

    def put_profile(self, user: str, profile: Profile) -> None:
        """Replace the user's profile; an empty one is no row."""

    def paces(self, users: Sequence[str]) -> Mapping[tuple[str, str], float]:
        """By (user, channel): up to when the notifications sent so far use up the cap."""

    def put_paces(self, paces: Mapping[tuple[str, str], float]) -> None:
        """Replace these."""


class TermRows(Protocol):
    """Terms and partitions; `term_rows` says what they are."""

    def open_terms(self) -> Mapping[int, str]:
        """Terms that are not closed, with the names of their services."""

    def forget_terms(self) -> None:
        """Delete closed terms that have left nothing."""


class Transaction(
    UserRows,
    OutboxRows,
    HandedRows,
    ProfileRows,
    UserDataRows,
    HappeningRows,
    TermRows,
    Protocol,
):
    """One transaction: all of it, or nothing."""

    @property
    def mine(self) -> Mine:
        """What this process works on."""

    def now(self) -> float:
        """The store's clock when the transaction began."""

    def lock(self, users: Collection[str], tokens: Collection[str] = ()) -> bool:
        """Until the transaction ends, no other one writes rows of these users, or moves one of
        these external tokens; whoever does has locked them. Once in a transaction: whoever locked
        more later could wait for somebody who waits for him. True: others may have changed what was
        read before."""

    def locked(self, user: str) -> bool:
        """Whether the user's rows may be written in this transaction."""

    def log_id(self) -> str:
        """The log that the rows belong to; empty: none yet."""

    def adopt_log(self, log_id: str) -> None:
        """The rows belong to this log from now on. Only while there is none."""

    def read_in_advance(self, partitions: Sequence[int], subjects: Sequence[str]) -> None:
        """Read at once what will be asked for: cursors, whether anybody waits for the
        subjects, and whether there are extensions, as it is now. Each of them once in its list."""

    def read_users_in_advance(self, users: Sequence[str]) -> None:
        """Read the users with all of their rows at once, for `load_user`. After they were
        locked."""

    def cursor(self, partition: int) -> Cursor:
        """How far a partition has taken effect."""

    def put_cursor(self, partition: int, cursor: Cursor) -> None:
        """Move it. In the same transaction as the effects."""

    def cursors(self) -> Mapping[int, Cursor]:
        """All cursors, by partition in order."""

    def counts(self) -> Counts:
        """How many rows there are."""


class Store(Protocol):
    """A store of presence: in SQLite, for one process; in PostgreSQL, for several."""

    @property
    def full_since(self) -> float | None:
        """Since when nothing could be written for want of space; None: the last write was."""

    @property
    def unanswered_since(self) -> float | None:
        """Since when (time.monotonic) nothing was answered; None: the last transaction was."""

    @property
    def mine(self) -> Mine:
        """What this process works on, as of the last transaction that changed it."""

    async def begin(self, term: int, name: str, partitions: int) -> None:
        """Work under this term from now on, with no partition yet; what was open under the name is
        closed. Raises Unavailable, StoreFull.

        `partitions` is the frozen count: it says which partition a key is in.
        """

    async def claim(self, epochs: Mapping[int, int]) -> frozenset[int]:
        """Make partitions this process's: those of them whose epoch is above the stored one. Terms
        that still have one of them are closed. Raises as `write`."""

    def drop(self, partitions: Collection[int]) -> None:
        """Work on these partitions no more; whoever takes them closes this term."""

    async def release(self, partitions: Collection[int]) -> None:
        """Let these partitions go, for others to take while this term goes on. Raises as
        `write`."""

    async def close_terms(self, terms: Collection[int]) -> None:
        """Nothing of these terms commits any more. Raises as `write`."""

    async def end(self) -> None:
        """Close the term: what is left of it is for others. Raises as `write`."""

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one transaction. Raises Deposed, StoreFull, Unavailable; the work's own
        exceptions undo it. Where a commit's outcome is not known the term ends with it."""

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work`, which changes nothing, on what is committed. Needs no term."""

    async def term_ended(self) -> None:
        """Return once nothing can be written under the term: begin another one. Noticed with the
        first write that finds it so."""

    def on_commit(self, listener: Callable[[Touched], None]) -> None:
        """Call `listener` in the event loop after each commit of `write`. One whose caller was
        cancelled meanwhile may be missed."""

    async def close(self) -> None:
        """End; nothing is lost."""
