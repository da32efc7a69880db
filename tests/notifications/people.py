"""Edges and clients of a story, as far as their words reach presence: events, acks, marks.

A `Client` knows what it has really received, and tells the judge (`acks`). A session's events are
appended in their order, each a little later than it was formed; an end that an edge notices late
comes after the next session's connect. `Edges` append a mark for a partition when every session
that subscribed at the edge before the round has acknowledged everything in it, or its end has taken
effect. An edge that dies says nothing more; what it had formed may be appended all the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from onward.types.v1 import entry_pb2

from services.chassis.subjects import partition_of
from tests.notifications.log import PARTITIONS

ROUND_S = 2.0


@dataclass(eq=False)
class Subscription:
    """One session's of one subject, until its end has taken effect."""

    client: "Client"
    subject: str
    start: int
    acked: int
    round: int
    live: bool = False  # its event is committed
    # Where its ending event stands; None: it has not been appended.
    end: tuple[int, int] | None = None


@dataclass(eq=False)
class Session:
    """A connection of a client to an edge."""

    client: "Client"
    edge: int
    generation: int = 0  # 0: its connect has not been appended
    number: int = 0
    open: bool = True
    busy_until: float = 0.0
    subs: dict[str, Subscription] = field(default_factory=dict)

    @property
    def session_id(self) -> str:
        return f"{self.client.name}/{self.generation}"


class Client:
    """One installation of a user. `positions`: its last seq of each subject that it follows."""

    def __init__(self, scene: Any, user: str, name: str) -> None:
        self.user, self.name = user, name
        self.session: Session | None = None
        self.generation = 0
        self.positions: dict[str, int] = {}
        self.uris: set[str] = set()
        self.frozen = False
        self._logging_out = False
        self._scene = scene

    # Coming and going.

    def connect(self, edge: int, subjects: Sequence[str], uris: Sequence[str] = ()) -> None:
        """Begin a session that subscribes to these, and to all that it follows already unless
        `subjects` replaces them."""
        random = self._scene.random
        if self._logging_out:
            return
        if self.session is not None:
            self.vanish(noticed_in_s=random.uniform(0.0, 3.0))
        self.session = session = Session(self, edge)
        replaces = random.random() < 0.5
        if not replaces:
            subjects = [*dict.fromkeys([*self.positions, *subjects])]
        starts = {subject: self._start(subject) for subject in subjects}
        self.frozen = random.random() < 0.25
        round_ = self._scene.edges.round(edge)
        for subject, start in starts.items():
            sub = Subscription(self, subject, start, start, round_)
            session.subs[subject] = sub
            self._scene.edges.opened(edge, sub)
        self.uris.update(uris)
        connected = entry_pb2.PresenceEvent.Connected(
            replaces_follows=replaces,
            follows=_starts(starts),
            endpoints=uris,
            acknowledges=True,
        )

        def begin() -> None:
            self.generation += 1
            session.generation = self.generation
            if replaces:
                for subject in [one for one in self.positions if one not in starts]:
                    del self.positions[subject]
            self._begins(session, starts)

        self._say(
            session, begin, round_, "connected", connected,
            {"replaces": replaces, "starts": starts, "uris": list(uris), "round": round_},
        )  # fmt: skip

    def _start(self, subject: str) -> int:
        """Where it goes on; a client that returns without recovering goes on at the head."""
        random, head = self._scene.random, self._scene.log.head(subject)
        known = self.positions.get(subject)
        return head if known is None or random.random() < 0.1 else known

    def _begins(self, session: Session, starts: Mapping[str, int]) -> None:
        """Its subscriptions are committed, and it is told."""
        for subject, start in starts.items():
            self.positions[subject] = max(start, self.positions.get(subject, start))
            if subject in session.subs:
                session.subs[subject].live = True

    def vanish(self, noticed_in_s: float = 0.0, clean: bool = False) -> None:
        """The session ends; its edge says so, if it lives then."""
        session, self.session = self.session, None
        if session is None:
            return
        session.open = False
        acked = _acked(session)
        event = entry_pb2.PresenceEvent.Disconnected(clean=clean, acked=_positions(acked))
        self._say(
            session, None, 0, "disconnected", event, {"clean": clean, "acked": acked},
            after_s=noticed_in_s, ends=list(session.subs.values()),
        )  # fmt: skip

    def lose(self) -> None:
        """The edge has died, and nobody says anything."""
        if self.session is not None:
            self.session.open = False
            self.session = None

    def lose_follows(self, subjects: Sequence[str] | None) -> None:
        """Its follows of these, or all, were revoked; its edge is told, and ends its subscriptions,
        also those of which presence has not heard."""
        open_ones = self.session.subs if self.session is not None else ()
        for subject in list({**self.positions, **dict.fromkeys(open_ones)}):
            if subjects is None or subject in subjects:
                self.unfollow(subject)
                self.positions.pop(subject, None)

    def log_out(self) -> None:
        session = self.session
        if session is None:
            return
        self.session = None
        session.open = False
        acked = _acked(session)
        event = entry_pb2.PresenceEvent.LoggedOut(acked=_positions(acked))
        event.SetInParent()
        # It waits for the answer, which comes once it is committed.
        self._logging_out = True

        def then(said: bool) -> None:
            self._logging_out = False
            if said:
                self.positions, self.uris = {}, set()

        self._say(
            session, None, 0, "logged_out", event, {"acked": acked},
            ends=list(session.subs.values()), then=then,
        )  # fmt: skip

    # While it is there.

    def receive(self, random: Random) -> None:
        """It acknowledges some of what there is."""
        if self.session is None or self.frozen:
            return
        some = {}
        for subject, sub in self.session.subs.items():
            head = self._scene.log.head(subject)
            if sub.live and sub.acked < head and random.random() < 0.8:
                sub.acked = head if random.random() < 0.7 else random.randint(sub.acked + 1, head)
                some[subject] = self.positions[subject] = sub.acked
        if some:
            self._acknowledge(some)

    def follow(self, subject: str) -> None:
        session = self.session
        if session is None or subject in session.subs:
            return
        start, round_ = self._start(subject), self._scene.edges.round(session.edge)
        session.subs[subject] = sub = Subscription(self, subject, start, start, round_)
        self._scene.edges.opened(session.edge, sub)
        event = entry_pb2.PresenceEvent.Followed(follows=_starts({subject: start}))
        told = {"starts": {subject: start}, "round": round_}

        def then(said: bool) -> None:
            if said:
                self._begins(session, {subject: start})

        self._say(session, None, round_, "followed", event, told, then=then)

    def unfollow(self, subject: str) -> None:
        session = self.session
        if session is None or subject not in session.subs:
            return
        sub = session.subs.pop(subject)
        acked = {subject: sub.acked}
        event = entry_pb2.PresenceEvent.Unfollowed(acked=_positions(acked))

        def then(said: bool) -> None:
            if said:
                self.positions.pop(subject, None)

        self._say(session, None, 0, "unfollowed", event, {"acked": acked}, ends=[sub], then=then)

    def look(self, active: bool) -> None:
        """Somebody looks at it, or nobody does."""
        if self.session is not None:
            event = entry_pb2.PresenceEvent.ActivityChanged(active=active)
            self._say(self.session, None, 0, "activity_changed", event, {"active": active})

    def add_endpoint(self, uri: str, replaces: str = "") -> None:
        if self.session is not None:
            self.uris.discard(replaces)
            self.uris.add(uri)
            event = entry_pb2.PresenceEvent.EndpointAdded(uri=uri, replaces=replaces)
            told = {"uri": uri, "replaces": replaces}
            self._say(self.session, None, 0, "endpoint_added", event, told)

    def remove_endpoint(self, uri: str) -> None:
        if self.session is not None:
            self.uris.discard(uri)
            event = entry_pb2.PresenceEvent.EndpointRemoved(uri=uri)
            self._say(self.session, None, 0, "endpoint_removed", event, {"uri": uri})

    # Words.

    def _acknowledge(self, positions: Mapping[str, int]) -> None:
        self._scene.record("acks", user=self.user, client=self.name, positions=dict(positions))

    def _say(
        self,
        session: Session,
        begin: Any,
        round_: int,
        kind: str,
        body: Any,
        told: Mapping[str, Any],
        after_s: float = 0.0,
        ends: Sequence[Subscription] = (),
        then: Callable[[bool], None] = lambda said: None,
    ) -> None:
        """Have an event appended, a little later, after those of its session before it; `then` is
        told whether it was, while the session was the client's newest."""
        scene, random = self._scene, self._scene.random
        at = max(session.busy_until, scene.loop.now + after_s + random.random() ** 3 * 0.3)
        session.busy_until = at

        def append() -> None:
            if session.edge not in scene.edges.live and (
                kind != "connected" or random.random() < 0.5
            ):
                then(False)
                return
            if begin is not None:
                begin()
            if not session.generation:
                then(False)
                return  # Its connect was lost with its edge.
            session.number += 1
            event = entry_pb2.PresenceEvent(
                user=self.user, client_id=self.name, session_id=session.session_id,
                number=session.number, generation=session.generation, edge_id=session.edge,
                round=round_, **{kind: body},
            )  # fmt: skip
            line = {
                "kind": kind, "user": self.user, "client": self.name, "number": event.number,
                "generation": event.generation, "edge": session.edge, **told,
            }  # fmt: skip
            where = scene.log.write(event, line)
            for sub in ends:
                sub.end = where
            then(session.generation == self.generation)
            if random.random() < 0.05:  # It is tried again, and was not in vain.
                scene.network.later(random.random(), scene.log.write, event, line)

        scene.network.later(at - scene.loop.now, append)


def _acked(session: Session) -> dict[str, int]:
    return {subject: sub.acked for subject, sub in session.subs.items() if sub.acked}


def _starts(starts: Mapping[str, int]) -> list[entry_pb2.FollowStart]:
    return [entry_pb2.FollowStart(subject=s, start=n) for s, n in starts.items()]


def _positions(acked: Mapping[str, int]) -> list[entry_pb2.Position]:
    return [entry_pb2.Position(subject=s, seq=n) for s, n in acked.items()]


class Edges:
    """All edges: which live, their rounds, and what was subscribed at them."""

    def __init__(self, scene: Any) -> None:
        self.live: set[int] = set()
        self._rounds: dict[int, int] = {}
        self._subs: dict[int, list[Subscription]] = {}
        self._marked: dict[tuple[int, int], int] = {}
        self._scene = scene
        self._made = 10

    def start(self) -> int:
        self._made += 1
        self.live.add(self._made)
        self._rounds[self._made] = 1
        self._subs[self._made] = []
        self._scene.network.later(ROUND_S, self._next_round, self._made)
        return self._made

    def die(self, edge: int) -> None:
        self.live.discard(edge)
        self._scene.record("edge_died", edge=edge)

    def round(self, edge: int) -> int:
        return self._rounds[edge]

    def opened(self, edge: int, sub: Subscription) -> None:
        self._subs[edge].append(sub)

    def _next_round(self, edge: int) -> None:
        if edge not in self.live:
            return
        scene = self._scene
        self._rounds[edge] += 1
        self._subs[edge] = [sub for sub in self._subs[edge] if not self._has_gone(sub)]
        for partition in range(PARTITIONS):
            subs = [
                sub
                for sub in self._subs[edge]
                if partition_of(sub.subject, PARTITIONS) == partition
            ]
            former = [sub for sub in subs if sub.round < self._rounds[edge]]
            tail = scene.log.tail(partition)
            moved = tail > self._marked.get((edge, partition), 0)
            if former and moved and all(self._has_all(sub) for sub in former):
                self._marked[edge, partition] = tail + 1
                scene.log.mark(edge, partition, self._rounds[edge])
        scene.network.later(ROUND_S, self._next_round, edge)

    def _has_all(self, sub: Subscription) -> bool:
        return sub.acked >= self._scene.log.head(sub.subject)

    def _has_gone(self, sub: Subscription) -> bool:
        """Its end has taken effect."""
        if sub.end is None:
            return False
        partition, pos = sub.end
        return bool(self._scene.log.cursors[partition] >= pos)
