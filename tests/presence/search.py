"""The search: every reachable world, breadth first, and the invariants that each must keep.

N1: every followed message is acknowledged by a client of the user, or there is exactly one record
    of its having been sent or suppressed, once the world is at rest. (One record, because a record
    has the message as its key and the first writer wins.) Nothing is cancelled unacknowledged.
N3: nothing is sent whose acknowledgement presence had been told of.
"""

from __future__ import annotations

from collections import deque

from tests.presence.steps import steps
from tests.presence.world import (
    CANCELLED,
    PENDING,
    SENT,
    SUPPRESSED,
    Bounds,
    Shell,
    World,
    begin,
    bits,
)


class Violation(AssertionError):
    """An invariant is broken; the message is the shortest history that breaks it."""


def search(bounds: Bounds, shell: Shell, rows: int = 0) -> int:
    """Walks every reachable world; their number. Raises Violation."""
    first = begin(bounds, rows)
    came_from: dict[World, tuple[World, str] | None] = {first: None}
    queue = deque([first])
    while queue:
        world = queue.popleft()
        at_rest = True
        for label, after, progress in steps(world, bounds, shell):
            at_rest = at_rest and not progress
            if after.records != world.records and (wrong := _wrong(world, after)):
                came_from[after] = (world, label)
                raise Violation(_story(came_from, after, wrong))
            settled = _settled(after, bounds)
            known = len(came_from)
            came_from.setdefault(settled, (world, label))
            if len(came_from) > known:
                queue.append(settled)
        if at_rest and (wrong := _lost(world)):
            raise Violation(_story(came_from, world, wrong))
    return len(came_from)


def _settled(world: World, bounds: Bounds) -> World:
    """The world without what cannot matter any more."""
    told, truth = world.told, world.truth
    for index, record in enumerate(world.records):
        if record and record != PENDING:
            told &= ~(1 << index)
            if record != CANCELLED:
                truth |= 1 << index
    positions = world.positions
    if len(world.sessions) == sum(bounds.sessions):
        positions = tuple(
            position if any(s.live and s.client == client for s in world.sessions) else 0
            for client, position in enumerate(positions)
        )
    late = world.late and PENDING in world.records
    if (told, truth, positions, late) == (world.told, world.truth, world.positions, world.late):
        return world
    return world._replace(told=told, truth=truth, positions=positions, late=late)


def _wrong(before: World, after: World) -> str:
    """What is wrong about a step that changed a record; empty: nothing."""
    for seq, (old, new) in enumerate(zip(before.records, after.records, strict=True), 1):
        if new == SENT != old and before.told >> (seq - 1) & 1:
            return f"N3: message {seq} is sent, though presence was told of its acknowledgement"
        if new == CANCELLED != old and not before.truth >> (seq - 1) & 1:
            return f"N1: message {seq} is cancelled, and nobody has acknowledged it"
    return ""


def _lost(world: World) -> str:
    """What is wrong about a world at rest; empty: nothing."""
    owed = world.owed | (bits(world.backed, world.accepted) if world.backed >= 0 else 0)
    for at in world.committed:
        owed |= bits(at.base, world.accepted) if at.base >= 0 else 0
    for seq, record in enumerate(world.records, 1):
        have = world.truth >> (seq - 1) & 1 or record in (SENT, SUPPRESSED)
        if owed >> (seq - 1) & 1 and not have:
            return f"N1: message {seq} is followed and lost ({record or 'no record'})"
    return ""


def _story(came_from: dict[World, tuple[World, str] | None], world: World, wrong: str) -> str:
    lines: list[str] = []
    link = came_from[world]
    while link is not None:
        lines.append(link[1])
        link = came_from[link[0]]
    return "\n".join([wrong, *(f"  {n}. {line}" for n, line in enumerate(reversed(lines), 1))])
