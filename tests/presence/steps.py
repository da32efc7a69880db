"""Everything that can happen next in a `World`.

Each function yields `Step`s: a label for the story, the world afterwards, and whether the step is
progress, which happens by itself sooner or later; a world without progress is at rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.presence.world import (
    PENDING,
    STRIDE,
    Bounds,
    Edge,
    Entry,
    Event,
    Session,
    Shell,
    Sub,
    World,
    bits,
    commit,
    process_event,
    process_mark,
    put,
)


class Step(NamedTuple):
    """One thing that can happen."""

    label: str
    world: World
    progress: bool


def steps(world: World, bounds: Bounds, shell: Shell) -> Iterator[Step]:
    """Everything that can happen next."""
    if world.accepted < bounds.messages:
        seq = world.accepted + 1
        log = (*world.subject_log, Entry(seq=seq))
        yield Step(
            f"message {seq} is accepted", world._replace(accepted=seq, subject_log=log), False
        )
    for client in range(len(bounds.sessions)):
        yield from _client_steps(world, bounds, client)
    for index, session in enumerate(world.sessions):
        yield from _session_steps(world, index, session)
    if bounds.rounds > 1 or bounds.edge_deaths:
        for index, edge in enumerate(world.edges):
            if edge.alive:
                yield from _edge_steps(world, bounds, index, edge)
    yield from _backend_steps(world, shell)
    yield from _presence_steps(world, bounds, shell)


def _open_sub(world: World, session: int) -> int:
    for index, sub in enumerate(world.subs):
        if sub.session == session and not sub.ending:
            return index
    return -1


# -- clients -------------------------------------------------------------------------------------


def _client_steps(world: World, bounds: Bounds, client: int) -> Iterator[Step]:
    mine = [i for i, s in enumerate(world.sessions) if s.client == client]
    current = next((i for i in mine if world.sessions[i].live), -1)
    if current < 0:
        if len(mine) < bounds.sessions[client]:
            yield from _connects(world, bounds, client)
        return
    session = world.sessions[current]
    silent = put(world.sessions, current, session._replace(live=False))
    yield Step(f"client {client} falls silent", world._replace(sessions=silent), False)
    if not session.generation:
        return
    sub = _open_sub(world, current)
    if sub < 0:
        yield from _follows(world, client, current)
        return
    if world.subs[sub].acked < world.accepted:
        seq = world.subs[sub].acked + 1
        after = world._replace(
            subs=put(world.subs, sub, world.subs[sub]._replace(acked=seq)),
            positions=put(world.positions, client, seq),
            truth=world.truth | 1 << (seq - 1),
        )
        yield Step(f"client {client} acknowledges {seq}", after, True)
    if world.ends_left:
        after = world._replace(ends_left=world.ends_left - 1)
        label = f"client {client} unsubscribes"
        yield Step(label, _ended(after, current, "unfollowed"), False)


def _connects(world: World, bounds: Bounds, client: int) -> Iterator[Step]:
    position = world.positions[client]
    starts = {world.accepted if position < 0 else position}
    if position >= 0 and world.skips_left:
        starts.add(world.accepted)
    if position > 0 and world.forgets_left:
        starts.add(position - 1)
    if position >= 0 and world.ends_left:
        starts.add(-1)
    # Edges that nobody has used are all alike.
    used = {session.edge for session in world.sessions}
    fresh = next((e for e in range(len(world.edges)) if e not in used and world.edges[e].alive), -1)
    for start in sorted(starts):
        for edge, state in enumerate(world.edges):
            if not state.alive or (edge not in used and edge != fresh):
                continue
            # A connect names the generation its client believes in: the newest when it is formed.
            believed = world.committed[client].generation
            index = len(world.sessions)
            form = Event("connected", client, index, believed, 1, edge, state.round, start)
            subs = world.subs
            positions = world.positions
            if start >= 0:
                subs = (*subs, Sub(index, state.round, start, start))
                positions = put(positions, client, start)
            after = world._replace(
                sessions=(*world.sessions, Session(client, edge, form=form)),
                subs=subs,
                positions=positions,
                skips_left=world.skips_left - (0 <= position < start),
                forgets_left=world.forgets_left - (0 <= start < position),
                ends_left=world.ends_left - (start < 0),
            )
            if not bounds.split_commits:
                after = _committed(after, index)
            yield Step(f"client {client} connects at edge {edge} after {start}", after, False)


def _follows(world: World, client: int, index: int) -> Iterator[Step]:
    position = world.positions[client]
    starts = {position}
    if world.skips_left:
        starts.add(world.accepted)
    for start in sorted(starts):
        session = world.sessions[index]
        stamp = world.edges[session.edge].round
        number = session.number + 1
        event = Event(
            "followed", client, index, session.generation, number, session.edge, stamp, start
        )
        after = world._replace(
            sessions=put(world.sessions, index, session._replace(number=number)),
            subs=(*world.subs, Sub(index, stamp, start, start)),
            positions=put(world.positions, client, start),
            skips_left=world.skips_left - (start != position),
        )
        yield Step(f"client {client} subscribes after {start}", commit(after, event), False)


# -- edges ---------------------------------------------------------------------------------------


def _committed(world: World, index: int) -> World:
    """A formed connect is committed, or refused because another one came first."""
    session = world.sessions[index]
    form = session.form
    assert form is not None
    newest = world.committed[session.client].generation
    if form.generation != newest:
        refused = Session(session.client, generation=-1, live=False, ended=True)
        return world._replace(
            sessions=put(world.sessions, index, refused),
            subs=tuple(sub for sub in world.subs if sub.session != index),
        )
    opened = session._replace(generation=newest + 1, number=1, form=None)
    world = world._replace(sessions=put(world.sessions, index, opened))
    return commit(world, form._replace(generation=newest + 1))


def _over(session: Session) -> Session:
    """A session of which nothing will be heard again."""
    return Session(session.client, session.edge, 1, 0, False, True)


def _ended(world: World, index: int, kind: str) -> World:
    """A subscription ends; with a disconnect its session does too."""
    session = world.sessions[index]
    number = session.number + 1
    event = Event(kind, session.client, index, session.generation, number, session.edge)
    sub = _open_sub(world, index)
    if sub >= 0:
        event = event._replace(since=world.subs[sub].start, acked=world.subs[sub].acked)
        ending = put(world.subs, sub, world.subs[sub]._replace(ending=number))
        world = world._replace(subs=ending)
    session = _over(session) if kind == "disconnected" else session._replace(number=number)
    return commit(world._replace(sessions=put(world.sessions, index, session)), event)


def _session_steps(world: World, index: int, session: Session) -> Iterator[Step]:
    alive = world.edges[session.edge].alive
    if session.form is not None:
        # Also after the death of its edge: the request may have been under way.
        label = f"the connect of session {index} is committed"
        yield Step(label, _committed(world, index), alive)
    elif alive and not session.live and not session.ended:
        label = f"edge {session.edge} notices the end of session {index}"
        yield Step(label, _ended(world, index, "disconnected"), True)


def _edge_steps(world: World, bounds: Bounds, index: int, edge: Edge) -> Iterator[Step]:
    mine = [sub for sub in world.subs if world.sessions[sub.session].edge == index]
    # A round in which no subscription was formed would tell nothing that the last one does not.
    if edge.round < bounds.rounds and any(sub.stamp == edge.round for sub in mine):
        began = edge._replace(round=edge.round + 1)
        after = world._replace(edges=put(world.edges, index, began))
        yield Step(f"edge {index} begins round {began.round}", after, False)
    if edge.round > 1:
        marked = (edge.round, _markable(world, bounds, edge, mine))
        # The marks of a partition never fall: a later round waits for those that owe.
        if marked[1] >= max(edge.marked[1], 1) and marked != edge.marked:
            after = world._replace(
                subject_log=(*world.subject_log, Entry(0, index, *marked)),
                edges=put(world.edges, index, edge._replace(marked=marked)),
            )
            yield Step(f"edge {index} appends mark(round, pos) = {marked}", after, False)
    if sum(not each.alive for each in world.edges) < bounds.edge_deaths:
        sessions = tuple(
            s if s.edge != index else s._replace(live=False) if s.form else _over(s)
            for s in world.sessions
        )
        after = world._replace(
            sessions=sessions,
            edges=put(world.edges, index, Edge(alive=False)),
            subs=tuple(sub for sub in world.subs if sub not in mine),
        )
        yield Step(f"edge {index} dies", after, False)


def _markable(world: World, bounds: Bounds, edge: Edge, mine: list[Sub]) -> int:
    """The last position of a message up to which nobody owes an acknowledgement."""
    upto = world.accepted
    for sub in mine:
        # A subscription is dropped from the world when presence has processed its ending.
        if sub.stamp < edge.round and not (sub.ending and bounds.forgets_committed_ends):
            upto = min(upto, sub.acked)
    return upto * STRIDE


# -- a backend -----------------------------------------------------------------------------------


def _backend_steps(world: World, shell: Shell) -> Iterator[Step]:
    """A backend has the user follow the subject: read the head, commit, read it again, settle."""
    if world.head >= 0:
        after = world._replace(
            rows=shell.follow(world.rows, world.head), backed=world.head, head=-1, again=-2
        )
        yield Step("the follow of a backend is committed", after, True)
    elif world.backs_left and world.backed < 0:
        after = world._replace(head=world.accepted, backs_left=world.backs_left - 1)
        yield Step(f"a backend reads the head, {world.accepted}", after, False)
    if world.again == -2:
        after = world._replace(again=world.accepted)
        yield Step(f"a backend reads the head again, {world.accepted}", after, False)
    elif world.again >= 0:
        rows = shell.settle(world.rows, world.backed, world.again)
        yield Step("a backend settles its follow", world._replace(rows=rows, again=-1), False)
    if world.backed >= 0 and world.unbacks_left:
        after = world._replace(
            rows=shell.unfollow(world.rows),
            owed=world.owed | bits(world.backed, world.accepted),
            backed=-1,
            again=-1,
            unbacks_left=world.unbacks_left - 1,
        )
        yield Step("a backend ends its follow", after, False)


# -- presence ------------------------------------------------------------------------------------


def _presence_steps(world: World, bounds: Bounds, shell: Shell) -> Iterator[Step]:
    if world.user_log:
        event = world.user_log[0]
        after = process_event(world, shell.event(world.rows, event))
        label = f"presence processes {event.kind} of session {event.session}"
        yield Step(label, after, True)
    if world.subject_log:
        entry = world.subject_log[0]
        if entry.seq:
            rows, records = shell.live(world.rows, entry.seq, entry.seq * STRIDE)
            after = world._replace(
                rows=rows,
                records=_recorded(world, records),
                subject_log=world.subject_log[1:],
            )
            yield Step(f"presence processes message {entry.seq}", after, True)
        else:
            after = process_mark(world, shell.mark(world.rows, entry))
            yield Step(f"presence processes a mark of edge {entry.edge}", after, True)
    for client in range(len(bounds.sessions)):
        rows = shell.grace_end(world.rows, client)
        if rows != world.rows:
            yield Step(f"the grace of client {client} ends", world._replace(rows=rows), True)
    for index, edge in enumerate(world.edges):
        rows = world.rows if edge.alive else shell.sweep(world.rows, index)
        if rows != world.rows:
            yield Step(f"presence sweeps dead edge {index}", world._replace(rows=rows), True)
    yield from _handover_steps(world, shell)
    yield from _send_steps(world, bounds, shell)


def _recorded(world: World, records: tuple[tuple[int, str], ...]) -> tuple[str, ...]:
    """The records with new ones added: the first writer wins."""
    kept = list(world.records)
    for seq, state in records:
        kept[seq - 1] = kept[seq - 1] or state
    return tuple(kept)


def _handover_steps(world: World, shell: Shell) -> Iterator[Step]:
    """A handover reads the log, and decides in another transaction."""
    reading = {row for row, _ in world.reads}
    for row in shell.handovers(world.rows):
        if row not in reading:
            reads = (*world.reads, (row, world.accepted))
            label = f"{row} reads up to {world.accepted}"
            yield Step(label, world._replace(reads=reads), True)
    for index, (row, upto) in enumerate(world.reads):
        backlog = tuple((seq, seq * STRIDE) for seq in range(1, upto + 1))
        rows, records = shell.backlog(world.rows, row, backlog)
        after = world._replace(
            rows=rows,
            records=_recorded(world, records),
            reads=(*world.reads[:index], *world.reads[index + 1 :]),
        )
        yield Step(f"{row} decides", after, True)


def _send_steps(world: World, bounds: Bounds, shell: Shell) -> Iterator[Step]:
    if PENDING not in world.records:
        return
    if bounds.hold_ends and not world.late:
        yield Step("the time of holds is over", world._replace(late=True), False)
    for seq, record in enumerate(world.records, 1):
        if record != PENDING:
            continue
        rows, state = shell.send(world.rows, seq, seq * STRIDE, world.late)
        if rows == world.rows and state == record:
            continue
        records = put(world.records, seq - 1, state)
        after = world._replace(rows=rows, records=records)
        yield Step(f"message {seq}: {state}", after, True)
