"""A model of the world around presence, small enough to be searched exhaustively.

One user, some clients, one subject, some edges, and two logs that presence reads at its own pace:
the subject's (messages and marks) and the user's (presence events). The world knows the truth: what
each client really acknowledged, and which acknowledgements presence has been told of. It imports
nothing of the services. A `Shell` is passed in, which keeps presence's rows (numbers here) and asks
the cores. What can happen next is in `steps`, the search and its invariants are in `search`.

A world holds nothing that cannot matter any more (entries that presence has processed, endings that
are over), so that histories which come to the same are one world. Sets of seqs are bits of an int.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple, Protocol

PENDING, SENT, SUPPRESSED, CANCELLED = "pending", "sent", "suppressed", "cancelled"

# Messages stand ten positions apart, so that a core which mistakes a seq for a position is found.
STRIDE = 10


class Event(NamedTuple):
    """An entry of the user's log."""

    kind: str  # connected (its list replaces all follows), followed, unfollowed, disconnected
    client: int
    session: int
    generation: int
    number: int
    edge: int
    round: int = 0
    start: int = -1  # where the subscription starts; -1: there is none
    since: int = -1  # where the subscription that ends here had started; -1: there was none
    acked: int = 0  # what that subscription had acknowledged


class Entry(NamedTuple):
    """An entry of the subject's log: a message (`seq` > 0) or a mark."""

    seq: int = 0
    edge: int = 0
    round: int = 0
    pos: int = 0


class Session(NamedTuple):
    """A connection, as its edge has it."""

    client: int
    edge: int = 0
    generation: int = 0  # 0: its event is formed, and not committed
    number: int = 0
    live: bool = True  # the program at the other end is there
    ended: bool = False
    form: Event | None = None


class Sub(NamedTuple):
    """A subscription, as its edge has it, until presence has processed its end."""

    session: int
    stamp: int  # the edge's round when its event was formed
    start: int
    acked: int
    ending: int = 0  # number of its ending event; 0: it is open


class Edge(NamedTuple):
    """An edge: alive or dead, its round, and what it has marked last."""

    alive: bool = True
    round: int = 1
    marked: tuple[int, int] = (0, 0)


class Standing(NamedTuple):
    """What the user's log, up to some point, says of one client."""

    generation: int = 0
    ended: bool = False  # the newest session's own end is in it
    base: int = -1  # of the open follow; -1: there is none
    session_generation: int = 0  # of the session that last subscribed with it
    edge: int = 0
    stamp: int = 0


class World(NamedTuple):
    """Everything there is."""

    sessions: tuple[Session, ...]
    subs: tuple[Sub, ...]
    positions: tuple[int, ...]  # each client's own last seq; -1: it never had one
    edges: tuple[Edge, ...]
    accepted: int  # messages
    user_log: tuple[Event, ...]  # what presence has not processed
    subject_log: tuple[Entry, ...]  # likewise
    committed: tuple[Standing, ...]  # by client, at the end of the user's log
    processed: tuple[Standing, ...]  # by client, where presence is in it
    marks: tuple[tuple[int, int], ...]  # by edge: the last mark that presence has processed
    rows: int
    records: tuple[str, ...]  # by seq, from 1; "": none
    reads: tuple[tuple[Hashable, int], ...]  # handovers whose backlog was read: (row, head then)
    owed: int  # what follows that have ended had to have
    told: int  # whose acknowledgement presence was told of
    truth: int  # acknowledged by a client
    ends_left: int
    skips_left: int
    forgets_left: int
    late: bool  # the time of holds is over
    backs_left: int = 0
    unbacks_left: int = 0
    head: int = -1  # that a backend has read, before its follow is committed; -1: none
    backed: int = -1  # where the follow of a backend begins; -1: there is none
    again: int = -1  # the head read after that; -2: not yet; -1: it is settled, or never will be


class Bounds(NamedTuple):
    """What a search explores."""

    messages: int
    sessions: tuple[int, ...]  # by client
    edges: int = 1
    rounds: int = 1  # 1: no marks
    unsubscribes: int = 0  # unsubscribes, and lists that no longer name the subject
    skips: int = 0  # subscriptions without recovery, after the first
    forgets: int = 0  # returns of a client that has lost its position, after less than it had
    edge_deaths: int = 0
    hold_ends: bool = False
    backs: int = 0  # follows that a backend adds
    unbacks: int = 0  # and ends
    split_commits: bool = False  # a connect is formed and committed in two steps
    # A mistake of the edge: it owes nothing for a subscription whose end is committed, though
    # presence may not have processed it yet.
    forgets_committed_ends: bool = False


Records = tuple[tuple[int, str], ...]


class Shell(Protocol):
    """Presence: rows in, rows out; records are (seq, PENDING or SUPPRESSED), first writer wins."""

    def event(self, rows: int, event: Event) -> int: ...
    def live(self, rows: int, seq: int, pos: int) -> tuple[int, Records]: ...
    def mark(self, rows: int, entry: Entry) -> int: ...
    def grace_end(self, rows: int, client: int) -> int: ...
    def sweep(self, rows: int, edge: int) -> int: ...
    def follow(self, rows: int, base: int) -> int: ...
    def settle(self, rows: int, base: int, head: int) -> int: ...
    def unfollow(self, rows: int) -> int: ...
    def handovers(self, rows: int) -> tuple[Hashable, ...]: ...
    def backlog(
        self, rows: int, row: Hashable, messages: tuple[tuple[int, int], ...]
    ) -> tuple[int, Records]: ...
    def send(self, rows: int, seq: int, pos: int, late: bool) -> tuple[int, str]: ...


def begin(bounds: Bounds, rows: int) -> World:
    """The world before anything has happened."""
    clients = len(bounds.sessions)
    return World(
        sessions=(),
        subs=(),
        positions=(-1,) * clients,
        edges=(Edge(),) * bounds.edges,
        accepted=0,
        user_log=(),
        subject_log=(),
        committed=(Standing(),) * clients,
        processed=(Standing(),) * clients,
        marks=((0, 0),) * bounds.edges,
        rows=rows,
        records=("",) * bounds.messages,
        reads=(),
        owed=0,
        told=0,
        truth=0,
        ends_left=bounds.unsubscribes,
        skips_left=bounds.skips,
        forgets_left=bounds.forgets,
        late=False,
        backs_left=bounds.backs,
        unbacks_left=bounds.unbacks,
    )


def bits(after: int, upto: int) -> int:
    """The seqs in (after, upto]."""
    return ((1 << upto) - 1) & ~((1 << after) - 1) if upto > after else 0


def put(items: tuple, index: int, item: object) -> tuple:
    """The tuple with one item replaced."""
    return (*items[:index], item, *items[index + 1 :])


def fold(at: Standing, event: Event, accepted: int) -> tuple[Standing, int, int]:
    """One event further: the standing, what its client declares to have (or not to need) by
    starting after it, and what a follow that ends here had to have."""
    if event.generation < at.generation:
        return at, 0, 0
    if event.generation > at.generation:
        at = at._replace(generation=event.generation, ended=False)
    if event.kind == "disconnected":
        return at._replace(ended=True), 0, 0
    if event.start >= 0:
        base = at.base if at.base >= 0 else event.start
        after = Standing(at.generation, at.ended, base, event.generation, event.edge, event.round)
        return after, bits(base, event.start), 0
    if at.base < 0:
        return at, 0, 0
    return Standing(at.generation, at.ended), 0, bits(at.base, accepted)


def commit(world: World, event: Event) -> World:
    """The event is in the user's log."""
    at, declared, owed = fold(world.committed[event.client], event, world.accepted)
    return world._replace(
        user_log=(*world.user_log, event),
        committed=put(world.committed, event.client, at),
        truth=world.truth | declared,
        owed=world.owed | owed,
    )


def process_event(world: World, rows: int) -> World:
    """Presence has processed the next event of the user's log."""
    event = world.user_log[0]
    at, declared, _ = fold(world.processed[event.client], event, world.accepted)
    told = bits(event.since, event.acked) if event.since >= 0 else 0
    return _told_by_marks(
        world._replace(
            rows=rows,
            user_log=world.user_log[1:],
            processed=put(world.processed, event.client, at),
            told=world.told | declared | told,
            subs=tuple(
                sub
                for sub in world.subs
                if not (sub.ending == event.number and sub.session == event.session)
            ),
        )
    )


def process_mark(world: World, rows: int) -> World:
    """Presence has processed a mark."""
    entry = world.subject_log[0]
    return _told_by_marks(
        world._replace(
            rows=rows,
            subject_log=world.subject_log[1:],
            marks=put(world.marks, entry.edge, (entry.round, entry.pos)),
        )
    )


def _told_by_marks(world: World) -> World:
    told = world.told
    for at in world.processed:
        if at.base < 0 or at.ended or at.session_generation != at.generation:
            continue
        number, pos = world.marks[at.edge]
        if number > at.stamp:
            told |= bits(at.base, pos // STRIDE)
    # A mark of an edge that errs tells of acknowledgements that never were.
    told &= world.truth
    return world if told == world.told else world._replace(told=told)
