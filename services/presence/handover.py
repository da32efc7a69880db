"""Deciding a message for a user: live, and from the backlog of a follow that is handed over.

Rules (n is a message):
- Acknowledged, or answered for by a client: nothing is recorded. A client that answers has a
  handover of its own to come.
- Else, followed by an open follow with base < n: a notification is due.
- Else it was followed by the follow that is handed over, which has ended: suppressed, UNSUBSCRIBED.
  That is not the last word: the log is read to its head, and a follow that began since may stand in
  the part of the user's log that presence has not come to. Whoever finds the message due to that
  follow takes the place of the suppression.
- Under another policy than `user` neither an acknowledgement nor an answer leaves it out: a message
  that an open follow has is due, and the check at send says for which endpoints.

Knows: rows, marks, messages by subject, seq and pos. Must not know: content, policies, stores.
To drive it: a live message of the subject's log: for every user with a waiting row, `decide_live`
in the transaction of the partition's cursor (or a later one with a cursor of its own). A handover
row: read the log above `read_after`, never before the row is committed, then `decide_backlog` with
the row as it was before the read, in a transaction of its own; again until the row is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from services.presence import cover
from services.presence.plan import Policy
from services.presence.state import (
    DropFollow,
    DropHandover,
    Effect,
    Handover,
    Message,
    Notify,
    PutFollow,
    PutHandover,
    Reason,
    Suppress,
    UserState,
)

# Above every position: no mark reaches it.
_BEYOND = 1 << 63


def decide_live(state: UserState, message: Message) -> list[Effect]:
    """The record of a live message for a user who has a waiting row for its subject, if any.

    `state` has the follows of the subject, with their registers and marks.
    """
    return [Notify(message.subject, message.seq, message.pos)] if is_due(state, message) else []


def is_due(state: UserState, message: Message, policy: Policy = Policy.USER) -> bool:
    """Whether a live message is due to a user who has a waiting row for its subject; under another
    policy than `user`, to one who follows it."""
    if policy is not Policy.USER:
        return _is_followed(state, message)
    if cover.is_acknowledged(state, message) or cover.answering(state, message):
        return False
    # Else accepted before the waiting client's follow began. If an ended follow has it, that
    # follow's own handover decides.
    return _is_followed(state, message)


def read_after(state: UserState, row: Handover) -> int:
    """Where the backlog begins: the seq after which to read the subject's log. What was
    acknowledged since the row was written is read too: under some policies it is due all the same.
    """
    return row.after


def decide_backlog(
    state: UserState,
    row: Handover,
    messages: Sequence[Message],
    floor: int,
    last: bool,
    policy_of: Callable[[int], Policy] = lambda _: Policy.USER,
) -> list[Effect]:
    """Records for a stretch of a handover's backlog.

    `row` is the handover row as it stood before the log was read; `messages` are all kept messages
    above `read_after`, in order, or the first of them; `floor` is the seq up to which the log is
    trimmed; `last` says that they reach the head that was read; `policy_of(seq)` is a message's
    policy. If the row has changed since, the result is empty: read again. `state` has the follows
    of the subject, with their registers and marks, and its handovers.
    """
    if state.handovers.get(row.key) != row:
        return []
    effects: list[Effect] = []
    after = read_after(state, row)
    if after < floor:
        # Its position is not known, but below that of the first message kept, if there is one.
        last_lost = Message(row.key.subject, floor, messages[0].pos if messages else _BEYOND)
        effects += _decide_trimmed(state, after + 1, last_lost)
    for message in messages:
        if message.seq > after:
            effects += _decide_ended(state, message, policy_of(message.seq))
    if last:
        effects.append(DropHandover(row.key))
    elif messages:
        effects.append(PutHandover(replace(row, after=max(after, messages[-1].seq))))
    return effects


def backlog_of_new_follows(effects: Collection[Effect], pos: int) -> list[Effect]:
    """Handovers for the follows that an event at `pos` has opened, of subjects whose messages are
    due to users who are online: those accepted before the event took effect found no follow."""
    begun = {one.handover.key for one in effects if isinstance(one, PutHandover)}
    opened = {one.follow.key: one.follow for one in effects if isinstance(one, PutFollow)}
    return [
        PutHandover(Handover(key, follow.acked, 1))
        for key, follow in opened.items()
        if follow.opened == pos and not follow.ended and key not in begun
    ]


def prune(
    state: UserState, subject: str, floor_seq: int, floor_pos: int, pending: bool
) -> list[Effect]:
    """Drops ended follows that nothing can depend on any more.

    `floor_seq` is the subject's last trimmed message, `floor_pos` the partition's last trimmed
    position; `pending` says whether the user has any unsent delivery of the subject: an ended
    follow may be all that knows, or will be told, that one of its messages is acknowledged.
    """
    if pending:
        return []
    return [
        DropFollow(key)
        for key, follow in state.follows.items()
        if follow.subject == subject
        and follow.ended
        and follow.acked <= floor_seq
        and follow.acked_pos <= floor_pos
        and key not in state.handovers
    ]


def _is_followed(state: UserState, message: Message) -> bool:
    return any(
        follow.subject == message.subject and follow.base < message.seq and not follow.ended
        for follow in state.follows.values()
    )


def _decide_ended(state: UserState, message: Message, policy: Policy) -> list[Effect]:
    """The record of a message that the follow handed over had followed, if any."""
    if policy is not Policy.USER and _is_followed(state, message):
        return [Notify(message.subject, message.seq, message.pos)]
    if cover.is_acknowledged(state, message) or cover.answering(state, message):
        return []
    if _is_followed(state, message):
        return [Notify(message.subject, message.seq, message.pos)]
    return [Suppress(message.subject, message.seq, message.seq, Reason.UNSUBSCRIBED)]


def _decide_trimmed(state: UserState, first: int, last: Message) -> list[Effect]:
    """One record for messages that the log no longer has, from the first not acknowledged on.

    If a client answers for any of them there is none yet: its own handover will find them trimmed.
    """
    if cover.answering(state, last):
        return []
    if any(f.base < first and cover.covers(state, f, last) for f in state.follows.values()):
        return []
    first = cover.first_unacknowledged(state, last.subject, first, last.seq)
    if first > last.seq:
        return []
    return [Suppress(last.subject, first, last.seq, Reason.TRIMMED)]
