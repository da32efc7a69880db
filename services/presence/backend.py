"""What a backend changes in a user's rows, who need never have connected.

Rules:
- A follow that a backend adds is of the pseudo client BACKEND. That has no register, so it answers
  for nothing and acknowledges nothing: it waits from its first moment until it is ended.
- It begins at the head of the subject, which was read before this transaction. Messages accepted in
  between find nobody waiting, so a handover row goes with it, and the log is read again after the
  commit: `is_settled` says whether there was one.
- It ends as every follow does: what is not decided yet is decided by its handover.

Knows: rows. Must not know: logs, stores, who may ask.
To drive it: in one transaction, load the user (or the user's rows of the subject), call a function,
write the effects in their order. What ends follows of all clients is `events.revoke`.
"""

from __future__ import annotations

from collections.abc import Collection

from services.presence.change import Change
from services.presence.state import (
    BACKEND,
    DropEndpoint,
    DropFollow,
    DropRegister,
    Effect,
    Follow,
    Handover,
    PutFollow,
    PutHandover,
    PutWaiting,
    UserState,
)

# Numbers of follows are made of milliseconds, so that one that was deleted is not used again.
_PER_S = 1_000
# Others begin at 1. This row may go by two ways, and so while somebody still works on what was read
# for it; that must not be taken for the work on the row with which the follow ends.
_FIRST_RUN = 0


def follow(state: UserState, subject: str, base: int, now: float) -> list[Effect]:
    """The user follows the subject after `base`, its head; nothing if a backend has it so already.

    `state` has at least the subject's follows.
    """
    mine = [
        one for one in state.follows.values() if (one.subject, one.client_id) == (subject, BACKEND)
    ]
    if not all(one.ended for one in mine):
        return []
    opened = max([int(now * _PER_S), *(one.opened + 1 for one in mine)])
    new = Follow(subject=subject, client_id=BACKEND, opened=opened, base=base, acked=base)
    return [
        PutFollow(new),
        PutWaiting(subject, BACKEND),
        PutHandover(Handover(new.key, base, _FIRST_RUN)),
    ]


def is_settled(handover: Handover, head: int) -> bool:
    """Whether the handover of a new follow has nothing to decide: `head` is that of its subject,
    read after the follow was committed."""
    return head <= handover.after


def unfollow(state: UserState, subjects: Collection[str]) -> list[Effect]:
    """Ends what backends have added; what clients follow stays.

    `state` has the follows, waiting rows and handovers of these subjects, and all registers.
    """
    change = Change(state)
    for one in change.open_follows(BACKEND):
        if one.subject in subjects:
            change.end_follow(one.key)
    return change.effects


def add_endpoint(state: UserState, uri: str, now: float) -> list[Effect]:
    """The backend registers the endpoint, beside clients that may have."""
    change = Change(state)
    change.add_endpoint(uri, BACKEND, now)
    return change.effects


def remove_endpoint(state: UserState, uri: str) -> list[Effect]:
    """The endpoint goes, whoever registered it."""
    return [DropEndpoint(uri)] if uri in state.endpoints else []


def erased(state: UserState) -> list[Effect]:
    """What the end of a user does to rows that can be seen; `state` has all of them."""
    return [
        *(DropRegister(client_id) for client_id in state.registers),
        *(DropFollow(key) for key in state.follows),
        *(DropEndpoint(uri) for uri in state.endpoints),
    ]
