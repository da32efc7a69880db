"""What a presence event, a grace's end and an edge's death change in a user's rows.

Rules:
- A register is a join: the greater generation wins; of equal ones, offline wins. An event of an
  older generation changes no register, follow or endpoint; but what it says was acknowledged raises
  `acked` of the follow its session had, ended or not.
- An event whose number is not above the last of its session is a repeat and changes nothing.
- Before a subscription ends or is replaced, for any reason, its follow keeps what the marks cover.
- A follow that ends is handed over; so is every follow of a client whose grace ends.
- Follows that are ended from elsewhere (`revoked`) end with all clients. What backends have added
  is in no log, and ended by `revoke` alone.
- A return cancels nothing.
- A client that is online and looked at by nobody for long is away: messages are decided as if it
  were offline, until somebody looks again. What it had acknowledged before stays acknowledged. When
  it goes it has no grace.

Knows: rows and events. Must not know: logs, timers, what a decision will be.
To drive it: in one transaction with the log cursor, `on_event` for each entry; `on_grace_end` and
`on_edge_dead` in transactions of their own. All return effects in the order they are to be written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from onward.types.v1 import entry_pb2

from services.presence.change import Change
from services.presence.happenings import info_text
from services.presence.state import (
    BACKEND,
    SELF,
    DropRegister,
    Effect,
    Follow,
    ForgetGone,
    Graces,
    Register,
    ScheduleGrace,
    Standing,
    UserState,
    Wake,
)


def on_event(
    state: UserState,
    event: entry_pb2.PresenceEvent,
    pos: int,
    at: float,
    now: float,
    graces: Graces,
) -> list[Effect]:
    """The effects of a log entry of the user's partition at `pos`, which was appended `at`.

    `state` has all of the user's registers, follows, waiting rows, handovers and endpoints.
    """
    if event.WhichOneof("event") == "revoked":
        # Of no session: it stands in the log once, and ends what is open there.
        clients = {one.client_id for one in state.follows.values()} - {BACKEND, SELF}
        return _end(state, clients, event.revoked.subjects or None)
    change = Change(state)
    register = state.registers.get(event.client_id)
    if register is not None and event.generation <= register.generation:
        if event.generation < register.generation or event.session_id != register.session_id:
            _raise_acked(change, event)
            return change.effects
        if _is_repeat(register, event):
            return []
    else:
        register = _begin(change, event, at, now)
    _take(change, register, event, pos, now, graces)
    return change.effects


def on_grace_end(state: UserState, client_id: str, generation: int, now: float) -> list[Effect]:
    """The client is offline now, unless it has returned or its grace has not ended."""
    register = state.registers.get(client_id)
    if register is None or register.generation != generation:
        return []
    if register.standing is not Standing.GRACE or now < register.grace_until:
        return []
    change = Change(state)
    change.put_register(_offline(register, now))
    _wait_and_hand_over(change, client_id)
    return change.effects


def on_edge_dead(state: UserState, edge_id: int, now: float, graces: Graces) -> list[Effect]:
    """Every client of the user that is online at this edge enters its grace.

    Safe to repeat, and it must be: a connect may be processed after its edge has died. `ended`
    stays false: presence has not seen the sessions' own ends, so marks still speak for them.
    """
    change = Change(state)
    for register in state.registers.values():
        if register.edge_id == edge_id and register.standing is Standing.ONLINE:
            _enter_grace(change, register, now, graces.dead_edge_s)
    return change.effects


def on_idle(state: UserState, client_id: str, now: float, away_after_s: float) -> list[Effect]:
    """The client is away now, unless somebody looks at it again, or it has gone."""
    register = state.registers.get(client_id)
    if register is None or not is_idle(register, now, away_after_s):
        return []
    change = Change(state)
    # Before marks stop to speak for it.
    for follow in change.open_follows(client_id):
        change.raise_to_marks(follow.key)
    change.put_register(replace(register, away=True))
    _wait_and_hand_over(change, client_id)
    return change.effects


def is_idle(register: Register, now: float, away_after_s: float) -> bool:
    """Whether nobody has looked at the client for long enough, and it is not away yet."""
    idle = register.standing is Standing.ONLINE and not register.active and not register.away
    return idle and register.since + away_after_s <= now


def revoke(state: UserState, subjects: Collection[str] | None = None) -> list[Effect]:
    """Ends the open follows of all of the user's clients, and those that backends have added: of
    these subjects, or all of them."""
    return _end(state, {follow.client_id for follow in state.follows.values()}, subjects)


def _end(
    state: UserState, client_ids: Collection[str], subjects: Collection[str] | None = None
) -> list[Effect]:
    change = Change(state)
    for client_id in sorted(client_ids):
        for follow in change.open_follows(client_id):
            if subjects is None or follow.subject in subjects:
                change.end_follow(follow.key)
    return change.effects


def forget(
    state: UserState, now: float, follows_keep_s: float, clients_keep_s: float
) -> list[Effect]:
    """What time makes of a user's rows; `state` has all of them.

    The follows of a user none of whose clients was there for `follows_keep_s` end, but for those
    that backends have added: nobody need be there for them, and backends end them. One that the
    user has added without a client stays also for as long after it was asked for. A client that
    was not there for `clients_keep_s`, and has nothing left (follows, endpoints, handovers), is
    forgotten: its register only guards against events older than any that may still come.
    """
    registers = state.registers.values()
    last_seen = max(
        (one.since if one.standing is Standing.OFFLINE else now for one in registers), default=now
    )
    keeps_from = now - follows_keep_s
    change = Change(state)
    for client_id in sorted({one.client_id for one in state.follows.values()} - {BACKEND}):
        for follow in change.open_follows(client_id):
            seen = last_seen
            if client_id == SELF:
                seen = max(follow.asked_at, last_seen if registers else 0.0)
            if seen < keeps_from:
                change.end_follow(follow.key)
    if change.effects:
        return change.effects
    needed = {key.client_id for key in (*state.follows, *state.handovers)}
    needed.update(client for one in state.endpoints.values() for client in one.clients)
    if change.open_follows(SELF):
        # They tell when the user was there last.
        needed.update(one.client_id for one in registers if one.since >= keeps_from)
    return [
        DropRegister(register.client_id)
        for register in registers
        if register.standing is Standing.OFFLINE
        and register.since < now - clients_keep_s
        and register.client_id not in needed
    ]


def _is_repeat(register: Register, event: entry_pb2.PresenceEvent) -> bool:
    # A session's end can come before its connect only when entries are put in another order than
    # a log has them. The connect then still brings its follows, and the register stays as it is.
    if event.WhichOneof("event") == "connected" and not register.connected:
        return False
    return event.number <= register.number


def _begin(change: Change, event: entry_pb2.PresenceEvent, at: float, now: float) -> Register:
    """The register moves to the event's session, which begins in the foreground; but that which
    only logs out a client that is away, as when the log's owner forgets it, is nobody's presence.
    """
    before = change.state.registers.get(event.client_id)
    away = before is not None and before.standing is Standing.OFFLINE
    stays_away = away and event.WhichOneof("event") == "logged_out"
    goes_on = before is not None and before.standing is Standing.ONLINE and before.active
    for follow in change.open_follows(event.client_id):
        change.raise_to_marks(follow.key)
    register = Register(
        client_id=event.client_id,
        generation=event.generation,
        session_id=event.session_id,
        edge_id=event.edge_id,
        standing=Standing.OFFLINE if stays_away else Standing.ONLINE,
        active=not stays_away,
        since=before.since if before is not None and (goes_on or stays_away) else now,
        connected_at=at,
    )
    change.put_register(register)
    for subject in change.waits_for(event.client_id):
        change.stop_waiting(subject, event.client_id)
    return register


def _take(
    change: Change,
    register: Register,
    event: entry_pb2.PresenceEvent,
    pos: int,
    now: float,
    graces: Graces,
) -> None:
    """An event of the register's own session, not seen before."""
    register = replace(register, number=max(register.number, event.number))
    change.put_register(register)
    kind = event.WhichOneof("event")
    if kind == "connected":
        _connected(change, register, event, pos, now)
    elif kind == "disconnected":
        _disconnected(change, register, event, now, graces)
    elif kind == "followed":
        _subscribe(change, register, event, event.followed.follows, pos)
    elif kind == "unfollowed":
        _raise_acked(change, event)
        for position in event.unfollowed.acked:
            follow = change.open_follow(position.subject, event.client_id)
            if follow is not None:
                change.end_follow(follow.key)
    elif kind == "endpoint_added":
        added = event.endpoint_added
        if added.replaces and added.replaces != added.uri:
            change.leave_endpoint(added.replaces, event.client_id)
        change.add_endpoint(added.uri, event.client_id, now)
    elif kind == "endpoint_removed":
        change.leave_endpoint(event.endpoint_removed.uri, event.client_id)
    elif kind == "logged_out":
        _logged_out(change, register, event, now)
    elif kind == "activity_changed":
        active = event.activity_changed.active
        if register.standing is Standing.ONLINE and register.active != active:
            change.put_register(replace(register, active=active, since=now, away=False))
            if register.away:
                _come_back(change, register.client_id)
    # An event of no kind, or of one that a newer program wrote, counts as seen and changes nothing.


def _connected(
    change: Change, register: Register, event: entry_pb2.PresenceEvent, pos: int, now: float
) -> None:
    connected = event.connected
    register = replace(
        register,
        connected=True,
        acknowledges=connected.acknowledges,
        info=info_text(connected.info),
    )
    if not connected.acknowledges:
        # An observer is offline from the start: it silences nobody, and messages of subjects that
        # its client goes on following are decided as if it were not there.
        register = _offline(register, now)
    change.put_register(register)
    if connected.replaces_follows:
        listed = {start.subject for start in connected.follows}
        for follow in change.open_follows(event.client_id):
            if follow.subject not in listed:
                change.end_follow(follow.key)
    _subscribe(change, register, event, connected.follows, pos)
    if register.standing is Standing.OFFLINE:
        _wait_and_hand_over(change, event.client_id)
    for uri in connected.endpoints:
        change.add_endpoint(uri, event.client_id, now)
    for uri in connected.endpoints_gone_told:
        change.effects.append(ForgetGone(event.client_id, uri))


def _subscribe(
    change: Change,
    register: Register,
    event: entry_pb2.PresenceEvent,
    starts: Iterable[entry_pb2.FollowStart],
    pos: int,
) -> None:
    """The session subscribes: new follows begin, open ones go on."""
    for start in starts:
        follow = change.open_follow(start.subject, event.client_id)
        if follow is None:
            follow = Follow(
                subject=start.subject,
                client_id=event.client_id,
                opened=pos,
                base=start.start,
                acked=start.start,
                first_generation=event.generation,
            )
        else:
            follow = change.raise_to_marks(follow.key)
        change.put_follow(
            replace(
                follow,
                acked=max(follow.acked, start.start),
                session_id=event.session_id,
                round=event.round,
                last_generation=event.generation,
                started=start.start,
            )
        )
        # An edge that was taken for dead may have had this entry in the log before it died.
        if register.standing is Standing.OFFLINE or register.away:
            change.wait(follow.subject, event.client_id)
            change.hand_over(follow.key)


def _disconnected(
    change: Change,
    register: Register,
    event: entry_pb2.PresenceEvent,
    now: float,
    graces: Graces,
) -> None:
    _raise_acked(change, event)
    register = replace(register, ended=True)
    change.put_register(register)
    # A client in grace (its edge was taken for dead) keeps the grace it has; offline stays offline.
    if register.standing is Standing.ONLINE:
        grace_s = graces.clean_s if event.disconnected.clean else graces.silent_s
        _enter_grace(change, register, now, grace_s)


def _logged_out(
    change: Change, register: Register, event: entry_pb2.PresenceEvent, now: float
) -> None:
    """The client is forgotten but for its register, which late events of it must still meet."""
    _raise_acked(change, event)
    for follow in change.open_follows(event.client_id):
        change.end_follow(follow.key)
    for uri in sorted(change.state.endpoints):
        change.leave_endpoint(uri, event.client_id)
    change.put_register(_offline(replace(register, ended=True), now))


def _offline(register: Register, now: float) -> Register:
    if register.standing is Standing.OFFLINE:
        return register
    return replace(
        register, standing=Standing.OFFLINE, grace_until=0.0, active=False, away=False, since=now
    )


def _enter_grace(change: Change, register: Register, now: float, grace_s: float) -> None:
    if register.away:
        change.put_register(_offline(register, now))
        _wait_and_hand_over(change, register.client_id)
        return
    until = now + grace_s
    change.put_register(
        replace(register, standing=Standing.GRACE, grace_until=until, active=False, since=now)
    )
    change.effects.append(ScheduleGrace(register.client_id, register.generation, until))


def _come_back(change: Change, client_id: str) -> None:
    """Somebody looks at it again: it answers for its follows, and its marks speak for it."""
    for subject in change.waits_for(client_id):
        change.stop_waiting(subject, client_id)
    for follow in change.open_follows(client_id):
        change.effects.append(Wake(follow.subject))


def _wait_and_hand_over(change: Change, client_id: str) -> None:
    for follow in change.open_follows(client_id):
        change.wait(follow.subject, client_id)
        change.hand_over(follow.key)


def _raise_acked(change: Change, event: entry_pb2.PresenceEvent) -> None:
    """Keeps what an ending says was acknowledged, in the follows that its session had.

    The session had a follow if its generation lies between those of the first and the last session
    that subscribed with it; if it had several of one subject, the last one is meant.
    """
    kind = event.WhichOneof("event")
    if kind == "disconnected":
        positions = event.disconnected.acked
    elif kind == "unfollowed":
        positions = event.unfollowed.acked
    elif kind == "logged_out":
        positions = event.logged_out.acked
    else:
        return
    for position in positions:
        had = [
            follow
            for follow in change.state.follows.values()
            if (follow.subject, follow.client_id) == (position.subject, event.client_id)
            and follow.first_generation <= event.generation <= follow.last_generation
        ]
        if had:
            follow = max(had, key=lambda each: each.opened)
            change.put_follow(replace(follow, acked=max(follow.acked, position.seq)))
