"""What a presence event does to its client's register, and what its generation is. Pure.

Knows sessions, generations and limits of one user; must not know positions, epochs or edges'
streams. Presence joins the same events by its own rules; here they only keep connects honest:

- A connect that names a generation other than the stored one is STALE_SESSION. 0 names none.
- An accepted connect gets the stored generation + 1, and replaces the session before it.
- An event of an older generation is recorded and changes nothing here.
- A connect that gives no list brings what its edge has read here. What the client follows no
  longer, because its follows were ended in between, is left out.
- A register is never dropped by an event: a client that logged out, and an observer that left,
  keep their generation, so that a later session ranks above all former ones.
- A client that was not seen for long is forgotten: a session of the owner's own logs it out, so
  that presence ends what it follows, and its register goes. Generations of clients without a
  register begin above the partition's generation floor, which no forgotten one exceeds.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from onward.types.v1 import entry_pb2

from services.chassis.refusals import Code, Refusal, refuse
from services.coordinator.store import EventKey, Register


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one user may have; beyond it, a refusal."""

    clients_max: int = 64
    external_tokens_max: int = 16
    follows_max: int = 1_000


@dataclass(frozen=True, slots=True)
class Recorded:
    """The event is to be appended, with this generation."""

    generation: int
    # To store; None: nothing changes.
    register: Register | None = None
    # A session to close, (edge id, session id): it is not its client's newest.
    replaced: tuple[int, str] | None = None
    # Presence must process the event before the edge may count a debt as paid.
    ending: bool = False
    # Subjects that the event names and the client does not follow any more.
    lost: tuple[str, ...] = ()


def record(
    event: entry_pb2.PresenceEvent,
    registers: Mapping[str, Register],
    limits: Limits,
    generation_floor: int = 0,
) -> Recorded | Refusal:
    """Decide about one event. `registers`: the clients of its user, by client id."""
    kind = event.WhichOneof("event")
    stored = registers.get(event.client_id)
    if kind == "connected":
        return _connect(event, stored, registers, limits, generation_floor)
    ending = kind in ("disconnected", "unfollowed", "logged_out")
    if stored is None or event.generation != stored.generation:
        late = not ending and stored is not None and event.generation < stored.generation
        replaced = (event.edge_id, event.session_id) if late else None
        return Recorded(event.generation, None, replaced, ending)
    register = _changed(kind, event, stored)
    fault = _limit_fault(register, stored, registers, limits)
    if fault is not None:
        return fault
    return Recorded(event.generation, register if register != stored else None, None, ending)


def logout_of(register: Register) -> entry_pb2.PresenceEvent | None:
    """The event by which a client is forgotten; None: nothing is left to tell of it."""
    if register.forgotten:
        return None
    generation = register.generation + 1
    return entry_pb2.PresenceEvent(
        user=register.user,
        client_id=register.client_id,
        session_id=f"forgotten-{generation}",
        generation=generation,
        number=1,
        logged_out=entry_pb2.PresenceEvent.LoggedOut(),
    )


def revocation(
    user: str, call_id: str, subjects: Iterable[str]
) -> tuple[EventKey, entry_pb2.PresenceEvent]:
    """The event by which the user's clients stop following, and its id."""
    key = EventKey(call_id, 1)
    event = entry_pb2.PresenceEvent(user=user, session_id=key.session_id, number=key.number)
    event.revoked.subjects.extend(subjects)
    event.revoked.SetInParent()
    return key, event


def without(register: Register, subjects: Collection[str]) -> Register:
    """The register without these follows; empty: without any."""
    left = [one for one in register.follows if subjects and one not in subjects]
    return replace(register, follows=tuple(left))


def _connect(
    event: entry_pb2.PresenceEvent,
    stored: Register | None,
    registers: Mapping[str, Register],
    limits: Limits,
    generation_floor: int,
) -> Recorded | Refusal:
    connected = event.connected
    newest = stored.generation if stored else generation_floor
    if connected.last_generation not in (0, newest):
        refusal = refuse(Code.STALE_SESSION, "The client has a newer session.")
        refusal.generation = newest
        return refusal
    named = [follow.subject for follow in connected.follows]
    lost: tuple[str, ...] = ()
    if connected.restores:
        known_follows = stored.follows if stored else ()
        lost = tuple(subject for subject in named if subject not in known_follows)
        named = [subject for subject in named if subject not in lost]
    kept = () if connected.replaces_follows or not stored else stored.follows
    gone = set(connected.endpoints_gone_told)
    known = [uri for uri in (stored.endpoints if stored else ()) if uri not in gone]
    register = Register(
        user=event.user,
        client_id=event.client_id,
        generation=newest + 1,
        session_id=event.session_id,
        edge_id=event.edge_id,
        online=True,
        observer=not connected.acknowledges,
        forgotten=False,
        follows=_union(kept, named) if connected.acknowledges else (),
        endpoints=_union(known, connected.endpoints),
    )
    fault = _limit_fault(register, stored, registers, limits)
    if fault is not None:
        return fault
    replaced = None
    if stored is not None and stored.online and stored.session_id != event.session_id:
        replaced = (stored.edge_id, stored.session_id)
    return Recorded(newest + 1, register, replaced, connected.replaces_follows, lost)


def _changed(kind: str | None, event: entry_pb2.PresenceEvent, stored: Register) -> Register:
    if kind == "activity_changed":
        return stored
    if kind == "disconnected":
        return replace(stored, online=False, forgotten=stored.observer)
    if kind == "followed":
        named = [follow.subject for follow in event.followed.follows]
        return stored if stored.observer else replace(stored, follows=_union(stored.follows, named))
    if kind == "unfollowed":
        left = {position.subject for position in event.unfollowed.acked}
        return replace(stored, follows=tuple(s for s in stored.follows if s not in left))
    if kind == "endpoint_added":
        added = event.endpoint_added
        known = [uri for uri in stored.endpoints if uri != added.replaces]
        return replace(stored, endpoints=_union(known, [added.uri]))
    if kind == "endpoint_removed":
        gone = event.endpoint_removed.uri
        return replace(stored, endpoints=tuple(uri for uri in stored.endpoints if uri != gone))
    assert kind == "logged_out", kind
    return replace(stored, online=False, forgotten=True, follows=(), endpoints=())


def _limit_fault(
    register: Register,
    stored: Register | None,
    registers: Mapping[str, Register],
    limits: Limits,
) -> Refusal | None:
    """The refusal, if the change would raise something above its limit."""
    others = [it for it in registers.values() if it.client_id != register.client_id and counts(it)]
    new = counts(register) and not (stored is not None and counts(stored))
    if new and len(others) >= limits.clients_max:
        return refuse(
            Code.TOO_MANY_CLIENTS, f"A user has at most {limits.clients_max} clients; log one out."
        )
    before = stored.endpoints if stored else ()
    if set(register.endpoints) - set(before):
        uris = {uri for it in others for uri in it.endpoints} | set(register.endpoints)
        if len(uris) > limits.external_tokens_max:
            return refuse(
                Code.TOO_MANY_EXTERNAL_TOKENS,
                f"A user has at most {limits.external_tokens_max} external tokens; remove one.",
            )
    follows_before = len(stored.follows) if stored else 0
    if len(register.follows) > max(limits.follows_max, follows_before):
        return refuse(
            Code.TOO_MANY_SUBSCRIPTIONS, f"A client follows at most {limits.follows_max} subjects."
        )
    return None


def counts(register: Register) -> bool:
    """Whether a client counts as one of its user's.

    One that is away and has nothing to return to, such as a program that only published, does not:
    it would be in the way of others for ever.
    """
    if register.forgotten or register.observer:
        return False
    return register.online or bool(register.follows) or bool(register.endpoints)


def _union(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*first, *second]))
