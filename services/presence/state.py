"""What presence knows of one user: the rows, and the writes that change them.

Knows: the shape of a user's registers, follows, waiting and handover rows, endpoints and holds, the
facts that come with them (marks, messages), and the effects by which cores ask for changes.
Must not know: how rows are stored, what a message contains, who sends.
To drive it: in one transaction, load a `UserState`, call one function of `events`, `handover` or
`sending` with it, and write the effects in their order. One user's transactions are serial, and
each is conditional on the epoch of the presence partition.

Seqs, positions, rounds, generations and edge ids are ints; times are seconds of the store's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

# Stands for a client in follows and endpoints that a backend has added. It has no register, so it
# never answers for anything; edges take no client id that begins with `@`.
BACKEND = "@backend"
# Stands likewise for a client in follows that users have added themselves, without one. Such a
# follow ends with time as those of clients do.
SELF = "@self"
# What numbers of follows that no client began are made of.
MS_PER_S = 1_000


class Standing(Enum):
    """How a client stands. It answers for its follows while it is ONLINE or in GRACE."""

    ONLINE = "online"
    GRACE = "grace"
    OFFLINE = "offline"


class Reason(Enum):
    """Why nothing is sent: the word that is recorded and told by `explain`."""

    ACKNOWLEDGED = "ACKNOWLEDGED"
    UNSUBSCRIBED = "UNSUBSCRIBED"
    TRIMMED = "TRIMMED"


@dataclass(frozen=True, slots=True)
class Register:
    """The newest session of a client. Primary key: (user, client_id)."""

    client_id: str
    # The join: a greater generation wins; of equal ones, offline wins.
    generation: int
    session_id: str
    edge_id: int
    standing: Standing
    # When the grace ends; 0 unless standing is GRACE.
    grace_until: float = 0.0
    # Highest number of this session's events that took effect; lower ones are repeats.
    number: int = 0
    # The session's own connect was processed (false only if its end came first).
    connected: bool = False
    # The session's own end was processed: `acked` is exact, and marks say nothing of it any more.
    ended: bool = False
    # False for an observer: it has no subscriptions and silences nobody.
    acknowledges: bool = True
    # A person looks at it, as its session said last; false unless standing is ONLINE.
    active: bool = False
    # When `standing` or `active` last changed.
    since: float = 0.0
    # Online, but nobody has looked at it for so long that it answers for nothing; what it
    # acknowledges meanwhile silences nobody until somebody looks again.
    away: bool = False
    # When its session's first event was appended, by the clock that dates messages.
    connected_at: float = 0.0
    # What the client said of itself when it connected: a JSON object of strings; empty: nothing.
    info: str = ""


class FollowKey(NamedTuple):
    """Names a follow for ever, also after the client has followed the subject anew."""

    subject: str
    client_id: str
    # Position, in the user's partition, of the event that opened the follow. Of BACKEND and SELF: a
    # number that rises, for want of an event.
    opened: int


@dataclass(frozen=True, slots=True)
class Follow:
    """One client's interest in one subject. Primary key: (user, subject, client_id, opened).

    At most one follow of a (subject, client) is open. An ended one is kept for what it says of
    acknowledged messages, until the log has trimmed them (`handover.prune`).
    """

    subject: str
    client_id: str
    opened: int
    # The first subscription started after this seq. Never changes.
    base: int
    # Everything in (base, acked] is acknowledged; also everything above base in the subject's
    # partition up to acked_pos. Neither ever falls.
    acked: int
    acked_pos: int = 0
    ended: bool = False
    # The session that last subscribed with it, and the edge's round when that event was formed.
    session_id: str = ""
    round: int = 0
    # Generations of the first and the last session that subscribed with it. Of SELF the last one is
    # when the user asked for it last, in milliseconds.
    first_generation: int = 0
    last_generation: int = 0
    # The last session that subscribed with it received what is above this seq.
    started: int = 0

    @property
    def asked_at(self) -> float:
        """Of SELF: when the user asked for it last."""
        return self.last_generation / MS_PER_S

    @property
    def key(self) -> FollowKey:
        """The primary key, without the user."""
        return FollowKey(self.subject, self.client_id, self.opened)


@dataclass(frozen=True, slots=True)
class Handover:
    """A backlog to decide, of a follow whose client went offline or which ended.

    Primary key: (user, subject, client_id, opened). There until its last decision is recorded;
    whoever owns the user's partition resumes every one it finds.
    """

    key: FollowKey
    # Everything up to this seq is decided or acknowledged.
    after: int
    # Rises when the client goes offline again before the row is gone: what was read for an earlier
    # run may end before messages that nobody found waiting, so only the newest run may finish.
    run: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One external token of the user. Primary key: uri."""

    uri: str
    # Client ids that registered it, sorted; never empty. BACKEND: a backend did.
    clients: tuple[str, ...]
    registered_at: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Since when a client holds a pending notification back, and how far it had acknowledged then.

    Primary key: (user, subject, first_seq, client_id); (subject, first_seq) names the notification.
    """

    subject: str
    first_seq: int
    client_id: str
    since: float
    acked: int
    acked_pos: int


@dataclass(frozen=True, slots=True)
class Mark:
    """The last mark of an edge in the partition of a subject. Neither number ever falls."""

    round: int
    pos: int


@dataclass(frozen=True, slots=True)
class Message:
    """What deciding needs to know of an accepted message."""

    subject: str
    seq: int
    pos: int


@dataclass(frozen=True, slots=True)
class Graces:
    """How long a client that is gone still answers for its follows, in seconds, each above 0."""

    silent_s: float = 10.0
    clean_s: float = 3.0
    dead_edge_s: float = 15.0


@dataclass(frozen=True, slots=True)
class UserState:
    """Everything of one user that a decision needs, as it was read in this transaction.

    A function that works on one subject may be given that subject's follows and handovers alone,
    ended follows included, but always with all registers and the marks of those follows.
    """

    user: str
    registers: Mapping[str, Register] = field(default_factory=dict)
    # Open and ended ones.
    follows: Mapping[FollowKey, Follow] = field(default_factory=dict)
    # (subject, client_id).
    waiting: frozenset[tuple[str, str]] = frozenset()
    handovers: Mapping[FollowKey, Handover] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    # By (edge_id, subject): for each open follow, the mark of its client's register's edge in the
    # partition of its subject, if there is one.
    marks: Mapping[tuple[int, str], Mark] = field(default_factory=dict)


# -- effects: every one is a write in the transaction that loaded the state --------------------


@dataclass(frozen=True, slots=True)
class PutRegister:
    """Insert or replace the register row."""

    register: Register


@dataclass(frozen=True, slots=True)
class DropRegister:
    """Delete the register row: the client is forgotten."""

    client_id: str


@dataclass(frozen=True, slots=True)
class PutFollow:
    """Insert or replace the follow row."""

    follow: Follow


@dataclass(frozen=True, slots=True)
class DropFollow:
    """Delete the follow row: the log holds nothing any more that it could speak of."""

    key: FollowKey


@dataclass(frozen=True, slots=True)
class PutWaiting:
    """Insert the waiting row if it is missing: live messages of the subject find the user by it."""

    subject: str
    client_id: str


@dataclass(frozen=True, slots=True)
class DropWaiting:
    """Delete the waiting row: the client answers again, or follows the subject no longer."""

    subject: str
    client_id: str


@dataclass(frozen=True, slots=True)
class PutHandover:
    """Insert or replace the handover row.

    AFTER the commit, and in other transactions, read the subject's messages above `after` from the
    log store and decide them (`handover.decide_backlog`), until the row is dropped.
    """

    handover: Handover


@dataclass(frozen=True, slots=True)
class DropHandover:
    """Delete the handover row: its last decision is in this transaction."""

    key: FollowKey


@dataclass(frozen=True, slots=True)
class PutEndpoint:
    """Insert or replace the endpoint row.

    A `fcm:`, `apns:` or `webpush:` token is taken away from every other user in the same
    transaction: it belongs to the last who registered it.
    """

    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class DropEndpoint:
    """Delete the endpoint row; its unsent deliveries end as `cancelled`."""

    uri: str


@dataclass(frozen=True, slots=True)
class ForgetGone:
    """Delete the notice that this endpoint is gone: the client has been told."""

    client_id: str
    uri: str


@dataclass(frozen=True, slots=True)
class ScheduleGrace:
    """At `at`, or when resumed after it, end the grace: `events.on_grace_end`.

    The register row holds the same time, so a restart finds it. Once due, first wait until the
    cursor of the user's partition has reached the tail that was known when it fell due: a return
    may be in the log already.
    """

    client_id: str
    generation: int
    at: float


@dataclass(frozen=True, slots=True)
class Wake:
    """Make the user's pending notifications of the subject due now.

    What held them back may have gone, or may have acknowledged them: `sending.may_send` decides.
    """

    subject: str


@dataclass(frozen=True, slots=True)
class Notify:
    """Record that the message is due to the user, unless (log id, user, subject, seq) has a record.

    The first writer wins. Policies that need more than presence (the publisher's own message,
    mute, no endpoint, expiry) are asked first and may record a suppression in its place.
    """

    subject: str
    seq: int
    pos: int


@dataclass(frozen=True, slots=True)
class Suppress:
    """Record that nothing is sent for these messages, for each that has no record yet.

    Both ends are included. A message that has a record keeps it.
    """

    subject: str
    from_seq: int
    to_seq: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class PutHold:
    """Insert or replace the hold row."""

    hold: Hold


Effect = (
    PutRegister
    | DropRegister
    | PutFollow
    | DropFollow
    | PutWaiting
    | DropWaiting
    | PutHandover
    | DropHandover
    | PutEndpoint
    | DropEndpoint
    | ForgetGone
    | ScheduleGrace
    | Wake
    | Notify
    | Suppress
    | PutHold
)


# -- the answer to a claim ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Claim the delivery now (`pending → sending`, in this transaction), with these messages.

    `acknowledged` are taken out of it first: they are `cancelled(ACKNOWLEDGED)`.
    """

    messages: tuple[Message, ...]
    acknowledged: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """A client answers for it: leave it pending, write the hold rows, and ask again by `until`.

    Asking earlier does no harm and finds an acknowledgement sooner. Nothing is sent before.
    """

    until: float
    holds: tuple[PutHold, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nothing is left to send: the delivery becomes `cancelled`, with the reason."""

    reason: Reason


Verdict = Send | Held | Cancel
