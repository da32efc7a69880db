"""Presence's rows of one user in memory: the smallest shell there can be around the cores.

`Rows` is a value; `write` applies effects to it as a store would. `MemoryShell` numbers the rows it
has seen, so that a search compares numbers, and never asks a core the same question twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from onward.types.v1 import entry_pb2

from services.presence import backend, events, handover, sending
from services.presence.state import (
    BACKEND,
    Cancel,
    DropEndpoint,
    DropFollow,
    DropHandover,
    DropWaiting,
    Effect,
    Endpoint,
    Follow,
    Graces,
    Handover,
    Held,
    Hold,
    Mark,
    Message,
    Notify,
    PutEndpoint,
    PutFollow,
    PutHandover,
    PutHold,
    PutRegister,
    PutWaiting,
    Register,
    Suppress,
    UserState,
)
from tests.presence.world import CANCELLED, PENDING, SENT, SUPPRESSED, Entry, Event, Records

SUBJECT = "/s"
GRACES = Graces()


class Rows(NamedTuple):
    """All rows of a user, sorted, so that equal rows are equal values."""

    registers: tuple[Register, ...] = ()
    follows: tuple[Follow, ...] = ()
    waiting: tuple[tuple[str, str], ...] = ()
    handovers: tuple[Handover, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    marks: tuple[tuple[tuple[int, str], Mark], ...] = ()
    holds: tuple[Hold, ...] = ()

    def state(self) -> UserState:
        """The rows as a transaction loads them."""
        return UserState(
            user="ann",
            registers={r.client_id: r for r in self.registers},
            follows={f.key: f for f in self.follows},
            waiting=frozenset(self.waiting),
            handovers={h.key: h for h in self.handovers},
            endpoints={e.uri: e for e in self.endpoints},
            marks=dict(self.marks),
        )


def write(rows: Rows, effects: Iterable[Effect]) -> tuple[Rows, Records]:
    """The rows after the effects, and the records that they ask for, as (seq, state)."""
    registers = {r.client_id: r for r in rows.registers}
    follows = {f.key: f for f in rows.follows}
    waiting = set(rows.waiting)
    handovers = {h.key: h for h in rows.handovers}
    endpoints = {e.uri: e for e in rows.endpoints}
    holds = {(h.subject, h.first_seq, h.client_id): h for h in rows.holds}
    records: list[tuple[int, str]] = []
    for effect in effects:
        match effect:
            case PutRegister(register):
                registers[register.client_id] = register
            case PutFollow(follow):
                follows[follow.key] = follow
            case DropFollow(key):
                del follows[key]
            case PutWaiting(subject, client):
                waiting.add((subject, client))
            case DropWaiting(subject, client):
                waiting.remove((subject, client))
            case PutHandover(row):
                handovers[row.key] = row
            case DropHandover(key):
                del handovers[key]
            case PutEndpoint(endpoint):
                endpoints[endpoint.uri] = endpoint
            case DropEndpoint(uri):
                del endpoints[uri]
            case PutHold(hold):
                holds[(hold.subject, hold.first_seq, hold.client_id)] = hold
            case Notify(_, seq, _):
                records.append((seq, PENDING))
            case Suppress(_, first, to, _):
                records += [(seq, SUPPRESSED) for seq in range(first, to + 1)]
            case _:
                pass  # timers and notices: the world ends graces and asks again by itself
    after = rows._replace(
        registers=tuple(registers[c] for c in sorted(registers)),
        follows=tuple(follows[k] for k in sorted(follows)),
        waiting=tuple(sorted(waiting)),
        handovers=tuple(handovers[k] for k in sorted(handovers)),
        endpoints=tuple(endpoints[u] for u in sorted(endpoints)),
        holds=tuple(holds[k] for k in sorted(holds)),
    )
    return after, tuple(records)


def presence_event(event: Event) -> entry_pb2.PresenceEvent:
    """A world's event as the log holds it."""
    proto = entry_pb2.PresenceEvent(
        user="ann",
        client_id=f"c{event.client}",
        session_id=f"s{event.session}",
        number=event.number,
        generation=event.generation,
        edge_id=event.edge + 1,
        round=event.round,
    )
    starts = [entry_pb2.FollowStart(subject=SUBJECT, start=event.start)] if event.start >= 0 else []
    acked = [entry_pb2.Position(subject=SUBJECT, seq=event.acked)] if event.since >= 0 else []
    if event.kind == "connected":
        proto.connected.acknowledges = True
        proto.connected.replaces_follows = True
        proto.connected.follows.extend(starts)
    elif event.kind == "followed":
        proto.followed.follows.extend(starts)
    elif event.kind == "unfollowed":
        proto.unfollowed.acked.extend(acked)
    else:
        proto.disconnected.acked.extend(acked)
    return proto


class MemoryShell:
    """A `world.Shell` over the cores."""

    def __init__(self) -> None:
        self._rows: list[Rows] = []
        self._numbers: dict[Rows, int] = {}
        self._states: list[UserState] = []
        self._answers: dict[tuple[Any, ...], Any] = {}
        self.number(Rows())

    def number(self, rows: Rows) -> int:
        """The number of these rows."""
        known = self._numbers.get(rows)
        if known is None:
            known = self._numbers[rows] = len(self._rows)
            self._rows.append(rows)
            self._states.append(rows.state())
        return known

    def _apply(self, rows: int, effects: list[Effect]) -> tuple[int, Records]:
        if not effects:
            return rows, ()
        after, records = write(self._rows[rows], effects)
        return self.number(after), records

    def event(self, rows: int, event: Event) -> int:
        question = ("event", rows, event)
        if question not in self._answers:
            # Any position will do that no follow was opened at.
            pos = 1 + max((f.opened for f in self._rows[rows].follows), default=0)
            proto = presence_event(event)
            effects = events.on_event(self._states[rows], proto, pos, 0.0, 0.0, GRACES)
            self._answers[question] = self._apply(rows, effects)[0]
        return self._answers[question]

    def live(self, rows: int, seq: int, pos: int) -> tuple[int, Records]:
        if not self._rows[rows].waiting:
            return rows, ()
        message = Message(SUBJECT, seq, pos)
        return self._apply(rows, handover.decide_live(self._states[rows], message))

    def mark(self, rows: int, entry: Entry) -> int:
        marks = dict(self._rows[rows].marks)
        marks[(entry.edge + 1, SUBJECT)] = Mark(entry.round, entry.pos)
        return self.number(self._rows[rows]._replace(marks=tuple(sorted(marks.items(), key=str))))

    def grace_end(self, rows: int, client: int) -> int:
        question = ("grace", rows, client)
        if question not in self._answers:
            register = self._states[rows].registers.get(f"c{client}")
            after = rows
            if register is not None:
                ended = events.on_grace_end(
                    self._states[rows], register.client_id, register.generation, 60.0
                )
                after = self._apply(rows, ended)[0]
            self._answers[question] = after
        return self._answers[question]

    def sweep(self, rows: int, edge: int) -> int:
        question = ("sweep", rows, edge)
        if question not in self._answers:
            effects = events.on_edge_dead(self._states[rows], edge + 1, 0.0, GRACES)
            self._answers[question] = self._apply(rows, effects)[0]
        return self._answers[question]

    def follow(self, rows: int, base: int) -> int:
        return self._apply(rows, backend.follow(self._states[rows], SUBJECT, base, 0.0))[0]

    def settle(self, rows: int, base: int, head: int) -> int:
        """The handover of the new follow goes, if it is as it was committed."""
        effects: list[Effect] = [
            DropHandover(row.key)
            for row in self._rows[rows].handovers
            if row.key.client_id == BACKEND
            and (row.after, row.run) == (base, backend._FIRST_RUN)
            and backend.is_settled(row, head)
        ]
        return self._apply(rows, effects)[0]

    def unfollow(self, rows: int) -> int:
        return self._apply(rows, backend.unfollow(self._states[rows], [SUBJECT]))[0]

    def handovers(self, rows: int) -> tuple[Handover, ...]:
        return self._rows[rows].handovers

    def backlog(
        self, rows: int, row: Handover, messages: tuple[tuple[int, int], ...]
    ) -> tuple[int, Records]:
        question = ("backlog", rows, row, messages)
        if question not in self._answers:
            backlog = [Message(SUBJECT, seq, pos) for seq, pos in messages]
            effects = handover.decide_backlog(self._states[rows], row, backlog, 0, True)
            self._answers[question] = self._apply(rows, effects)
        return self._answers[question]

    def send(self, rows: int, seq: int, pos: int, late: bool) -> tuple[int, str]:
        question = ("send", rows, seq, pos, late)
        if question not in self._answers:
            holds = {h.client_id: h for h in self._rows[rows].holds if h.first_seq == seq}
            verdict = sending.may_send(
                self._states[rows],
                [Message(SUBJECT, seq, pos)],
                holds,
                sending.HOLD_S if late else 0.0,
            )
            if isinstance(verdict, Held):
                answer = (self._apply(rows, list(verdict.holds))[0], PENDING)
            else:
                answer = (rows, CANCELLED if isinstance(verdict, Cancel) else SENT)
            self._answers[question] = answer
        return self._answers[question]
