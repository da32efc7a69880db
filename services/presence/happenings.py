"""What extensions are told: how a user's client is seen from outside, and what changes of that.

A *happening* is one thing that extensions are told: a message that was accepted, by reference, or
a change of a user's presence, as a serialized `UserPresence`. Happenings of a partition have
numbers without a hole, in the order in which their transactions took effect.

Rules:
- A client in its grace counts as gone; that its grace ends then changes nothing.
- What changes nothing that can be seen (a repeat, an event of an older generation, an
  acknowledgement, a grace's end) is no happening.
- What changes of the user as a whole (external tokens, whether anybody is there) is told with the
  client that it changed with.

Knows: rows of a user. Must not know: how happenings are stored, or who is told. To drive it:
`changes(before, effects)` with the state that a core was given and the effects that it returned.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from onward.extension.v1 import extension_pb2

from services.presence import state
from services.presence.state import Register, Standing, UserState


@dataclass(frozen=True, slots=True)
class Happening:
    """One row. Primary key: (partition, number)."""

    partition: int
    number: int
    # Of a message; empty and 0 of a presence event.
    subject: str
    seq: int
    # A serialized `UserPresence` without its position and time; empty of a message.
    payload: bytes
    at: float


@dataclass(frozen=True, slots=True)
class Happened:
    """What is to become a happening. `key`: the subject or the user whose partition it is in."""

    key: str
    seq: int = 0
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Page:
    """What an extension is to be told next of one partition."""

    partition: int
    # The last number that it has acknowledged.
    after: int
    # The last number that there is.
    tail: int
    # In order, above `after`; without those that were deleted.
    rows: Sequence[Happening] = ()


class HappeningRows(Protocol):
    """Happenings, and how far each extension is."""

    def is_observed(self) -> bool:
        """Whether any extension is registered: happenings are written."""

    def append_happenings(self, happened: Sequence[Happened]) -> None:
        """Append them, in their order within each partition. Once in a transaction, at its end:
        until it commits, nobody else appends to these partitions."""

    def happenings_after(
        self, extension: str, partitions: Collection[int], limit: int, bytes_max: int
    ) -> Sequence[Page]:
        """The next page of each of the partitions that the extension has a position in: at most
        `limit` rows, of which all but the first fit into `bytes_max` of payload."""

    def partitions_behind(self, extension: str) -> Sequence[int]:
        """Partitions of this process that have happenings above the extension's position."""

    def move_extension(self, extension: str, numbers: Mapping[int, int]) -> None:
        """Raise its positions, in those of the partitions that are this process's; one that it
        does not have stays away, and a higher one stays."""

    def register_extension(self, extension: str) -> None:
        """Give it a position in every partition, at the end of what there is, unless it has one."""

    def forget_extension(self, extension: str) -> bool:
        """Delete its positions; whether it had any."""

    def extensions_behind(self) -> Mapping[str, int]:
        """By extension: how many happenings are above its positions, in all partitions."""

    def presence_after(
        self, partition: int, number: int, limit: int
    ) -> Sequence[tuple[int, bytes]]:
        """The next changes of presence in a partition, anybody's: numbers and payloads."""

    def drop_happenings(self, partition: int, numbers: Collection[int]) -> None:
        """Delete these; to who was not told them they are a gap."""

    def happenings_kept(self) -> Sequence[tuple[int, int]]:
        """How many are kept of each of this process's partitions that has any, and about how many
        bytes of payload."""

    def trim_happenings(self, before: float, keep_max: int, bytes_max: int, limit: int) -> int:
        """Delete happenings of this process's partitions that every extension has acknowledged,
        those from before a time, and the oldest beyond so many, or so many bytes of payload, of a
        partition. At most about `limit`; returns how many."""


def fair_bound(kept: Sequence[int], most: int) -> int:
    """What each partition may keep, so that together they keep at most `most`: those that keep
    little leave room to the others."""
    left = most
    for place, size in enumerate(sorted(kept)):
        share = left // (len(kept) - place)
        if size > share:
            return share
        left -= size
    return most


def changes(
    before: UserState, effects: Sequence[state.Effect], client_id: str = ""
) -> list[extension_pb2.UserPresence]:
    """What the effects of a core change that can be seen, by client. `client_id`: whose event it
    was, for what changes of the user alone."""
    if not effects:
        return []
    now = after(before, effects)
    clients = sorted(_clients(before) | _clients(now))
    changed = [one for one in clients if _own(before, one, before) != _own(now, one, before)]
    if not changed and clients and _whole(before) != _whole(now):
        changed = [client_id if client_id in clients else clients[0]]
    return [_seen(now, one, before) for one in changed]


def after(before: UserState, effects: Sequence[state.Effect]) -> UserState:
    """The registers, follows and endpoints that the effects leave."""
    registers = dict(before.registers)
    follows = dict(before.follows)
    endpoints = dict(before.endpoints)
    for effect in effects:
        match effect:
            case state.PutRegister(register):
                registers[register.client_id] = register
            case state.DropRegister(client_id):
                registers.pop(client_id, None)
            case state.PutFollow(follow):
                follows[follow.key] = follow
            case state.DropFollow(key):
                follows.pop(key, None)
            case state.PutEndpoint(endpoint):
                endpoints[endpoint.uri] = endpoint
            case state.DropEndpoint(uri):
                endpoints.pop(uri, None)
            case _:
                pass
    return replace(before, registers=registers, follows=follows, endpoints=endpoints)


def tells_of(payload: bytes, user: str) -> bool:
    """Whether a change of presence is this user's, and tells more than that nothing is left."""
    seen = extension_pb2.UserPresence.FromString(payload)
    more = seen.external_tokens or seen.subjects or seen.additional_info or not seen.is_offline
    return seen.user == user and bool(more)


def info_text(info: Mapping[str, str]) -> str:
    """What a client said of itself, as registers keep it."""
    return json.dumps(dict(info), sort_keys=True, separators=(",", ":")) if info else ""


def _clients(now: UserState) -> set[str]:
    open_follows = {follow.client_id for follow in now.follows.values() if not follow.ended}
    return {*now.registers, *open_follows}


def _subjects(now: UserState, client_id: str) -> list[str]:
    mine = (one for one in now.follows.values() if one.client_id == client_id and not one.ended)
    return sorted(follow.subject for follow in mine)


def _register(now: UserState, client_id: str, before: UserState) -> Register | None:
    """A client that was forgotten is known by what it was."""
    return now.registers.get(client_id) or before.registers.get(client_id)


def _is_offline(now: UserState, client_id: str) -> bool:
    register = now.registers.get(client_id)
    return register is None or register.standing is not Standing.ONLINE


def _own(now: UserState, client_id: str, before: UserState) -> tuple[object, ...]:
    """What can be seen of a client."""
    register = _register(now, client_id, before)
    named = (register.generation, register.session_id, register.info) if register else (0, "", "")
    return (*named, _is_offline(now, client_id), _subjects(now, client_id))


def _whole(now: UserState) -> tuple[object, ...]:
    """What can be seen of the user as a whole."""
    return sorted(now.endpoints), all(_is_offline(now, one) for one in now.registers)


def _seen(now: UserState, client_id: str, before: UserState) -> extension_pb2.UserPresence:
    register = _register(now, client_id, before)
    tokens, nobody_there = _whole(now)
    assert isinstance(tokens, list)
    return extension_pb2.UserPresence(
        user=now.user,
        session_id=register.session_id if register else "",
        client_id=client_id,
        generation=register.generation if register else 0,
        external_tokens=tokens,
        subjects=_subjects(now, client_id),
        is_offline=bool(nobody_there),
        client_offline=_is_offline(now, client_id),
        additional_info=json.loads(register.info) if register and register.info else {},
    )
