"""Presence events as a log holds them, in one line each, and a user to feed them to.

Client `a` in its session of generation 2 at edge 7: `connected("a", 2, follows={"/s": 5})`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onward.types.v1 import entry_pb2

from services.presence import events
from services.presence.state import Effect, Follow, Mark, Standing, UserState
from tests.presence.rows import GRACES, Rows, write

EDGE = 7


def _event(client: str, generation: int, number: int, round_: int = 0) -> entry_pb2.PresenceEvent:
    return entry_pb2.PresenceEvent(
        user="ann",
        client_id=client,
        session_id=f"{client}-{generation}",
        number=number,
        generation=generation,
        edge_id=EDGE,
        round=round_,
    )


def _starts(follows: Mapping[str, int]) -> list[entry_pb2.FollowStart]:
    return [entry_pb2.FollowStart(subject=s, start=n) for s, n in follows.items()]


def _positions(acked: Mapping[str, int]) -> list[entry_pb2.Position]:
    return [entry_pb2.Position(subject=s, seq=n) for s, n in acked.items()]


def connected(
    client: str,
    generation: int,
    follows: Mapping[str, int],
    *,
    replaces: bool = False,
    round: int = 1,
    acknowledges: bool = True,
    endpoints: Sequence[str] = (),
    gone_told: Sequence[str] = (),
) -> entry_pb2.PresenceEvent:
    event = _event(client, generation, 1, round)
    event.connected.acknowledges = acknowledges
    event.connected.replaces_follows = replaces
    event.connected.follows.extend(_starts(follows))
    event.connected.endpoints.extend(endpoints)
    event.connected.endpoints_gone_told.extend(gone_told)
    return event


def revoked(*subjects: str) -> entry_pb2.PresenceEvent:
    """Of no client: the log's owner writes it."""
    event = entry_pb2.PresenceEvent(user="ann", session_id="call", number=1)
    event.revoked.subjects.extend(subjects)
    event.revoked.SetInParent()
    return event


def disconnected(
    client: str,
    generation: int,
    acked: Mapping[str, int] | None = None,
    *,
    number: int = 99,
    clean: bool = False,
) -> entry_pb2.PresenceEvent:
    event = _event(client, generation, number)
    event.disconnected.clean = clean
    event.disconnected.acked.extend(_positions(acked or {}))
    return event


def followed(
    client: str, generation: int, follows: Mapping[str, int], *, number: int, round: int = 1
) -> entry_pb2.PresenceEvent:
    event = _event(client, generation, number, round)
    event.followed.follows.extend(_starts(follows))
    return event


def unfollowed(
    client: str, generation: int, acked: Mapping[str, int], *, number: int
) -> entry_pb2.PresenceEvent:
    event = _event(client, generation, number)
    event.unfollowed.acked.extend(_positions(acked))
    return event


def logged_out(
    client: str, generation: int, acked: Mapping[str, int], *, number: int
) -> entry_pb2.PresenceEvent:
    event = _event(client, generation, number)
    event.logged_out.acked.extend(_positions(acked))
    event.logged_out.SetInParent()
    return event


def endpoint_added(
    client: str, generation: int, uri: str, *, number: int, replaces: str = ""
) -> entry_pb2.PresenceEvent:
    event = _event(client, generation, number)
    event.endpoint_added.uri = uri
    event.endpoint_added.replaces = replaces
    return event


def endpoint_removed(
    client: str, generation: int, uri: str, *, number: int
) -> entry_pb2.PresenceEvent:
    event = _event(client, generation, number)
    event.endpoint_removed.uri = uri
    return event


def activity(client: str, generation: int, active: bool, *, number: int) -> entry_pb2.PresenceEvent:
    event = _event(client, generation, number)
    event.activity_changed.active = active
    return event


class Ann:
    """A user whose events take effect in memory; every event stands at the next position."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.pos = 0

    @property
    def state(self) -> UserState:
        return self.rows.state()

    def take(
        self, *taken: entry_pb2.PresenceEvent, now: float = 0.0, at: float | None = None
    ) -> list[Effect]:
        """Feeds the events, appended `at` or `now`; the effects of the last one."""
        at = now if at is None else at
        effects: list[Effect] = []
        for event in taken:
            self.pos += 1
            effects = self.apply(events.on_event(self.state, event, self.pos, at, now, GRACES))
        return effects

    def apply(self, effects: list[Effect]) -> list[Effect]:
        self.rows = write(self.rows, effects)[0]
        return effects

    def end_graces(self, now: float = 1000.0) -> list[Effect]:
        """Ends every grace that is over; the effects of the last one."""
        effects: list[Effect] = []
        for register in self.rows.registers:
            effects = self.apply(
                events.on_grace_end(self.state, register.client_id, register.generation, now)
            )
        return effects

    def mark(self, subject: str, round: int, pos: int) -> None:
        marks = dict(self.rows.marks)
        marks[(EDGE, subject)] = Mark(round, pos)
        self.rows = self.rows._replace(marks=tuple(marks.items()))

    def standing(self, client: str) -> Standing:
        return self.state.registers[client].standing

    def follow(self, subject: str, client: str) -> Follow:
        """The newest follow of the client."""
        found = [f for f in self.rows.follows if (f.subject, f.client_id) == (subject, client)]
        return max(found, key=lambda follow: follow.opened)
