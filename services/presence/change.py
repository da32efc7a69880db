"""A working copy of a user's rows, which remembers every write made to it.

Knows: how one row is replaced by another, so that a core sees its own earlier writes.
Must not know: when anything should change; `events` does.
To drive it: make one from the `UserState` of the transaction, call its verbs, return `effects`.
A write that changes nothing is not remembered.
"""

from __future__ import annotations

from dataclasses import replace

from services.presence import cover
from services.presence.state import (
    DropEndpoint,
    DropFollow,
    DropWaiting,
    Effect,
    Endpoint,
    Follow,
    FollowKey,
    Handover,
    PutEndpoint,
    PutFollow,
    PutHandover,
    PutRegister,
    PutWaiting,
    Register,
    UserState,
    Wake,
)

# Of one client and one subject. An ended follow is needed while something it acknowledged may still
# be sent; more than a few at a time are made by a loop.
ENDED_FOLLOWS_MAX = 16


class Change:
    """The rows of one user, and the effects that made them so."""

    __slots__ = (
        "_endpoints",
        "_follows",
        "_handovers",
        "_registers",
        "_waiting",
        "effects",
        "state",
    )

    def __init__(self, state: UserState) -> None:
        self.effects: list[Effect] = []
        self._registers = dict(state.registers)
        self._follows = dict(state.follows)
        self._waiting = set(state.waiting)
        self._handovers = dict(state.handovers)
        self._endpoints = dict(state.endpoints)
        # The same rows as a core reads them; it sees every later write but those of `waiting`.
        self.state = replace(
            state,
            registers=self._registers,
            follows=self._follows,
            handovers=self._handovers,
            endpoints=self._endpoints,
        )

    def put_register(self, register: Register) -> None:
        """Replaces the client's register."""
        if self._registers.get(register.client_id) != register:
            self._registers[register.client_id] = register
            self.effects.append(PutRegister(register))

    def put_follow(self, follow: Follow) -> None:
        """Replaces the follow of the same key."""
        if self._follows.get(follow.key) != follow:
            self._follows[follow.key] = follow
            self.effects.append(PutFollow(follow))

    def open_follows(self, client_id: str) -> list[Follow]:
        """The client's open follows, by subject."""
        mine = [f for f in self._follows.values() if f.client_id == client_id and not f.ended]
        return sorted(mine, key=lambda follow: follow.subject)

    def open_follow(self, subject: str, client_id: str) -> Follow | None:
        """The client's open follow of the subject, if there is one."""
        for follow in self._follows.values():
            if follow.subject == subject and follow.client_id == client_id and not follow.ended:
                return follow
        return None

    def raise_to_marks(self, key: FollowKey) -> Follow:
        """Keeps in the follow what the marks say of its subscription, which is about to end."""
        follow = self._follows[key]
        raised = max(follow.acked_pos, cover.marked_pos(self.state, follow))
        self.put_follow(replace(follow, acked_pos=raised))
        return self._follows[key]

    def hand_over(self, key: FollowKey) -> None:
        """Has the follow's backlog decided, from what is acknowledged on; or from where a handover
        that is under way has come to, which may owe messages that nothing silences."""
        before, acked = self._handovers.get(key), self._follows[key].acked
        handover = (
            Handover(key, min(before.after, acked), before.run + 1)
            if before
            else Handover(key, acked, 1)
        )
        self._handovers[key] = handover
        self.effects.append(PutHandover(handover))
        self.effects.append(Wake(key.subject))

    def end_follow(self, key: FollowKey) -> None:
        """Ends an open follow and hands it over."""
        self.put_follow(replace(self.raise_to_marks(key), ended=True))
        self.stop_waiting(key.subject, key.client_id)
        self.hand_over(key)
        self._forget_oldest(key.subject, key.client_id)

    def _forget_oldest(self, subject: str, client_id: str) -> None:
        """A client that follows and leaves a subject again and again keeps so many of its follows.

        What an older one says of acknowledged messages is lost with it.
        """
        ended = [
            follow.key
            for follow in self._follows.values()
            if (follow.subject, follow.client_id, follow.ended) == (subject, client_id, True)
        ]
        for key in sorted(ended)[:-ENDED_FOLLOWS_MAX]:
            if key not in self._handovers:
                del self._follows[key]
                self.effects.append(DropFollow(key))

    def wait(self, subject: str, client_id: str) -> None:
        """From now on live messages of the subject are decided for this user."""
        if (subject, client_id) not in self._waiting:
            self._waiting.add((subject, client_id))
            self.effects.append(PutWaiting(subject, client_id))

    def stop_waiting(self, subject: str, client_id: str) -> None:
        """The client answers again, or has ended the follow."""
        if (subject, client_id) in self._waiting:
            self._waiting.remove((subject, client_id))
            self.effects.append(DropWaiting(subject, client_id))

    def waits_for(self, client_id: str) -> list[str]:
        """The subjects the client waits for, sorted."""
        return sorted(subject for subject, client in self._waiting if client == client_id)

    def add_endpoint(self, uri: str, client_id: str, now: float) -> None:
        """The client registers the endpoint, for the first time or again.

        Again counts as new: a report that it was gone before now says nothing about it.
        """
        before = self._endpoints.get(uri)
        clients = {client_id, *(before.clients if before else ())}
        endpoint = Endpoint(uri, tuple(sorted(clients)), now)
        self._endpoints[uri] = endpoint
        self.effects.append(PutEndpoint(endpoint))

    def leave_endpoint(self, uri: str, client_id: str) -> None:
        """The client takes itself off the endpoint, which goes with its last client."""
        before = self._endpoints.get(uri)
        if before is None or client_id not in before.clients:
            return
        rest = tuple(client for client in before.clients if client != client_id)
        if rest:
            self._endpoints[uri] = replace(before, clients=rest)
            self.effects.append(PutEndpoint(self._endpoints[uri]))
        else:
            del self._endpoints[uri]
            self.effects.append(DropEndpoint(uri))
