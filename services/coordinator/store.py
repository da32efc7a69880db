"""What a log store is: its rows, and the calls that every store answers.

Knows shapes and promises, not SQL, and not how messages are decided. A store is the last judge of
ownership: an append names the epoch it is made in, and a partition that has another epoch by then
takes nothing, while the others of the same group are committed.

Drive it: `await store.append(terms, lookups, decide)` is the only way in. The store reads the
facts that were asked for, calls `decide` once per partition whose epoch is the one named, and
writes all that it returned in one commit. `decide` may be called on another thread and must touch
nothing but its arguments and what nobody else touches until `append` has returned. When `append`
returns, everything is durable; when it raises StoreFull, nothing was written; when it raises
Unavailable, the outcome is unknown: give up the partitions, claim them anew.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple, NewType, Protocol

MESSAGE, PRESENCE, MARK = 1, 2, 3  # kinds of entries

# What each message makes anew is a named tuple: those are made and hashed several times faster than
# frozen dataclasses.


@dataclass(frozen=True, slots=True)
class Part:
    """A partition as the store holds it."""

    epoch: int
    tail: int  # the last pos; 0: empty
    low: int  # entries at or below it may be gone
    seq_floor: int  # where the seqs of subjects without a head begin
    generation_floor: int = 0  # where the generations of clients without a register begin


class Head(NamedTuple):
    """The end of a subject. `low`: messages at or below it are not kept."""

    seq: int
    low: int


# What makes a publish the same as another: a digest, which takes a third of the room of what it is
# made of. Two that differ are as good as never found to be the same.
PublicationKey = NewType("PublicationKey", bytes)


def publication_key(subject: str, publisher: str, publication_id: str) -> PublicationKey:
    """The key; neither a subject nor a publication id has a NUL."""
    text = f"{subject}\0{publisher}\0{publication_id}"
    return PublicationKey(blake2b(text.encode(), digest_size=16).digest())


class Publication(NamedTuple):
    """A publish that was accepted. `digest` is of its content."""

    digest: bytes
    seq: int
    epoch: int


class EventKey(NamedTuple):
    """What makes a presence event the same as another."""

    session_id: str
    number: int


class RecordedEvent(NamedTuple):
    """A presence event in the log."""

    pos: int
    generation: int


@dataclass(frozen=True, slots=True)
class Register:
    """What the owner of a user's partition knows of one client. A forgotten one keeps only its
    generation, so that a later session of the client ranks above all former ones."""

    user: str
    client_id: str
    generation: int
    session_id: str
    edge_id: int
    online: bool
    observer: bool  # proves receipt of nothing, follows nothing, counts for no limit
    forgotten: bool
    follows: tuple[str, ...] = ()  # in order
    endpoints: tuple[str, ...] = ()  # in order of registration


@dataclass(frozen=True, slots=True)
class Lookup:
    """The facts wanted of one partition. `clients`: (user, client id); all other clients of such
    a user come too, forgotten ones and observers excepted. `users`: all clients, without exception.
    """

    subjects: Collection[str] = ()
    publications: Collection[PublicationKey] = ()
    events: Collection[EventKey] = ()
    clients: Collection[tuple[str, str]] = ()
    users: Collection[str] = ()


@dataclass(slots=True)
class Facts:
    """What the store holds of one partition. What is absent from a mapping does not exist."""

    part: Part
    heads: dict[str, Head] = field(default_factory=dict)
    publications: dict[PublicationKey, Publication] = field(default_factory=dict)
    events: dict[EventKey, RecordedEvent] = field(default_factory=dict)
    registers: dict[str, dict[str, Register]] = field(default_factory=dict)  # user: client: …


class LogRow(NamedTuple):
    """An entry to append. `entry` is the serialised onward.types.v1.Entry."""

    pos: int
    kind: int
    subject: str | None
    seq: int | None
    entry: bytes


@dataclass(slots=True)
class Writes:
    """What one partition's part of a commit adds. `rows` continue the tail without a hole."""

    rows: list[LogRow] = field(default_factory=list)
    heads: dict[str, int] = field(default_factory=dict)  # subject: its new last seq
    # subject: its retained message from now on, which is one of `rows`; None: it has none.
    retained: dict[str, LogRow | None] = field(default_factory=dict)
    publications: dict[PublicationKey, Publication] = field(default_factory=dict)
    events: dict[EventKey, RecordedEvent] = field(default_factory=dict)
    registers: dict[tuple[str, str], Register] = field(default_factory=dict)
    forgotten: set[tuple[str, str]] = field(default_factory=set)  # registers to remove
    generation_floor: int = 0  # raises the partition's, if it is below


@dataclass(frozen=True, slots=True)
class Stamp:
    """The moment of a commit. `wall_ms` is told to people; `steady_ms` counts ages, and does not
    jump while the process runs."""

    wall_ms: int
    steady_ms: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """The epoch has taken effect: nothing of an older one can be appended any more."""

    tail: int


@dataclass(frozen=True, slots=True)
class ClaimRefused:
    """The epoch has not taken effect, and will not until an operator decides."""

    reason: str


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as read. `entry` is the serialised onward.types.v1.Entry."""

    pos: int
    seq: int
    entry: bytes


@dataclass(frozen=True, slots=True)
class MessagePage:
    """A part of a subject, contiguous from the seq asked for, unless that is below the floor."""

    messages: Sequence[StoredMessage]
    head: int
    floor: int


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as read. `entry` is the serialised onward.types.v1.Entry."""

    pos: int
    entry: bytes


@dataclass(frozen=True, slots=True)
class Keep:
    """What a sweep leaves. Times are `steady_ms`; nothing above `below_pos` is removed."""

    since_ms: int  # entries younger than this stay
    messages: int  # so many of each subject stay
    young_since_ms: int  # whatever the number, messages younger than this stay
    below_pos: int


@dataclass(frozen=True, slots=True)
class Unseen:
    """A client that wrote nothing for long."""

    partition: int
    user: str
    client_id: str
    generation: int
    online: bool  # as far as was written: an edge that dies writes no end of its sessions
    edge_id: int


@dataclass(frozen=True, slots=True)
class UnseenPage:
    """A part of the clients. `after`: where the next part begins; None: this was the last."""

    clients: Sequence[Unseen]
    after: tuple[str, str] | None


class LogStore(Protocol):
    """A log store. All calls may raise Unavailable; those that write, StoreFull too."""

    @property
    def log_id(self) -> str:
        """The identity of the log: positions mean something only together with it."""

    async def claim(
        self, epochs: Mapping[int, int], owner: str, tails: Mapping[int, int]
    ) -> Mapping[int, Claimed | ClaimRefused]:
        """Make epochs (by partition) take effect. A partition whose stored epoch is not below the
        given one, or whose tail is below the one in `tails`, is refused."""

    async def append(
        self,
        stamp: Stamp,
        terms: Mapping[int, int],
        lookups: Mapping[int, Lookup],
        decide: Callable[[int, Facts], Writes],
    ) -> frozenset[int]:
        """Append to many partitions in one commit; see the module. `terms`: partition to epoch.
        Returns the deposed partitions, for which nothing was written."""

    async def read_messages(
        self, partition: int, subject: str, after_seq: int, limit: int, bytes_max: int
    ) -> MessagePage:
        """Messages with seq > `after_seq`, oldest first; stops before more than `bytes_max`, but
        always gives one if there is one."""

    async def read_retained(self, subject: str) -> StoredMessage | None:
        """The subject's retained message; it may be older than what the log keeps."""

    async def read_entries(
        self, partition: int, after_pos: int, limit: int, bytes_max: int
    ) -> Sequence[StoredEntry]:
        """Entries with pos > `after_pos`, in order; stops before more than `bytes_max`, but
        always gives one if there is one."""

    async def read_tails(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """The last pos of each partition; 0 where nothing was appended."""

    async def log_bytes(self) -> int:
        """Bytes of all entries in the log, with what their rows take besides."""

    async def forget_ids(self, before_ms: int, limit: int) -> int:
        """Remove publication ids and event ids recorded before that (`steady_ms`), at most
        `limit` of each; returns how many went. 0: none is left."""

    async def sweep(
        self,
        partition: int,
        epoch: int,
        keep: Keep,
        limit: int,
        bytes_enough: int | None = None,
    ) -> int:
        """Remove at most `limit` of a partition's oldest entries that need not be kept, and no
        more once `bytes_enough` went, raising the floors; returns how many went. 0: none is left,
        or the epoch is another."""

    async def oldest(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """When the first entry of each partition was appended (`steady_ms`); those without any are
        left out."""

    async def forget_subjects(
        self, terms: Mapping[int, int], after: str, before_ms: int, limit: int
    ) -> tuple[int, str | None]:
        """Look at `limit` subjects above `after`, and remove the heads and retained messages of
        those unused since `before_ms` whose log is empty, raising the seq floors of their
        partitions (`terms`: partition to epoch; others are left alone). Returns how many went, and
        where to go on; None: all were looked at."""

    async def unseen_clients(
        self, after: tuple[str, str], before_ms: int, limit: int
    ) -> UnseenPage:
        """Look at `limit` clients above `after` (user, client id) for those that wrote nothing
        since `before_ms`."""

    async def adopt_clock(self, boot_id: str, since_boot_ms: int, offset_ms: int) -> int:
        """What is added to the time since this boot to give `steady_ms`: what was adopted first in
        this boot, whichever process did it.

        The first, where one machine alone has the store, is `offset_ms`, or as much more as it
        takes for now, `since_boot_ms`, not to be before what was appended last. Where several
        share it, the first of each is one by which its steady time is that of the others."""

    async def probe(self) -> None:
        """Write a mebibyte that means nothing. Raises StoreFull if there is no room for it: a disk
        that takes a small message and not the next one is full all the same."""

    async def shorten(
        self, partition: int, epoch: int, subject: str, keep: Keep, limit: int
    ) -> int:
        """Remove at most `limit` of a subject's oldest messages beyond `keep.messages`."""

    async def close(self) -> None:
        """Finish what was begun and let go of everything."""
