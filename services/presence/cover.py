"""Who has acknowledged a message, and who answers for it: the questions under every decision.

Rules:
- A follow with base < n covers n if n ≤ acked, or if n stands at or below acked_pos or at or below
  the mark that speaks for its subscription. Ended follows cover what they covered.
- A mark speaks for a subscription if it is of the edge, alive or dead, of the client's register;
  if the follow was last subscribed by that register's session, whose end presence has not
  processed; and if the mark's round is above the round in which the subscription was formed.
- A client answers for n if it follows the subject with base < n, and is online or in grace, but
  not while it is away: online, and looked at by nobody for long. Meanwhile no mark speaks for it.
- Who counts is a question of policy: all clients of the user, for an endpoint only those that
  registered it, or none (`voices`).

Knows: rows and marks. Must not know: what is done about the answers.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from services.presence.plan import Policy
from services.presence.state import Follow, Message, Standing, UserState


def marked_pos(state: UserState, follow: Follow) -> int:
    """How far, in the subject's partition, a mark speaks for the follow; 0: none does."""
    register = state.registers.get(follow.client_id)
    if follow.ended or register is None or register.ended or register.away:
        return 0
    if follow.session_id != register.session_id:
        return 0
    mark = state.marks.get((register.edge_id, follow.subject))
    if mark is None or mark.round <= follow.round:
        return 0
    return mark.pos


def covers(state: UserState, follow: Follow, message: Message) -> bool:
    """Whether the follow's client has acknowledged the message."""
    if follow.subject != message.subject or follow.base >= message.seq:
        return False
    if message.seq <= follow.acked or message.pos <= follow.acked_pos:
        return True
    return message.pos <= marked_pos(state, follow)


def answers(state: UserState, follow: Follow, message: Message) -> bool:
    """Whether the follow's client answers for the message."""
    if follow.ended or follow.subject != message.subject or follow.base >= message.seq:
        return False
    register = state.registers.get(follow.client_id)
    if register is None or register.away:
        return False
    return register.standing is not Standing.OFFLINE


def voices(state: UserState, policy: Policy, registrants: Collection[str]) -> UserState:
    """The state with those follows alone that may silence a delivery under the policy;
    `registrants` are the clients that registered its endpoint."""
    if policy is Policy.USER:
        return state
    heard = registrants if policy is Policy.ENDPOINT else ()
    follows = {key: one for key, one in state.follows.items() if one.client_id in heard}
    return replace(state, follows=follows)


def is_acknowledged(state: UserState, message: Message) -> bool:
    """Whether any client of the user has acknowledged the message, as far as presence knows."""
    return any(covers(state, follow, message) for follow in state.follows.values())


def first_unacknowledged(state: UserState, subject: str, from_seq: int, to_seq: int) -> int:
    """The first of these messages of which no follow's `acked` speaks; to_seq + 1 if all have it.

    For a range whose positions are not known, so marks do not count.
    """
    first = from_seq
    # Each pass that moves it uses up a follow, so this ends.
    while True:
        beyond = [
            follow.acked + 1
            for follow in state.follows.values()
            if follow.subject == subject and follow.base < first <= follow.acked
        ]
        if not beyond or first > to_seq:
            return min(first, to_seq + 1)
        first = max(beyond)


def answering(state: UserState, message: Message) -> list[Follow]:
    """The follows whose clients answer for the message, by client."""
    found = [follow for follow in state.follows.values() if answers(state, follow, message)]
    return sorted(found, key=lambda follow: follow.client_id)
