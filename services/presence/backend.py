"""What a backend, or the user, changes in a user's rows without a client.

Rules:
- A follow that a backend adds is of the pseudo client BACKEND. That has no register, so it answers
  for nothing and acknowledges nothing: it waits from its first moment until it is ended.
- A follow that a user adds is of the pseudo client SELF, and otherwise the same; to be asked for
  again renews it, since it ends when the user was there for long neither so nor with a client
  (`events.forget`).
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
from dataclasses import replace

from services.presence.change import Change
from services.presence.state import (
    BACKEND,
    MS_PER_S,
    SELF,
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

# Others begin at 1. This row may go by two ways, and so while somebody still works on what was read
# for it; that must not be taken for the work on the row with which the follow ends.
_FIRST_RUN = 0


def follow(
    state: UserState, subject: str, base: int, now: float, client_id: str = BACKEND
) -> list[Effect]:
    """The user follows the subject after `base`, its head; `client_id`: BACKEND or SELF. One that
    is there already goes on, and one of SELF is renewed.

    `state` has at least the subject's follows.
    """
    mine = [
        one
        for one in state.follows.values()
        if (one.subject, one.client_id) == (subject, client_id)
    ]
    # Of milliseconds, so that a number whose follow was deleted is not used again.
    at = int(now * MS_PER_S)
    asked = at if client_id == SELF else 0
    for one in mine:
        if not one.ended:
            renewed = asked > one.last_generation
            return [PutFollow(replace(one, last_generation=asked))] if renewed else []
    opened = max([at, *(one.opened + 1 for one in mine)])
    new = Follow(
        subject=subject,
        client_id=client_id,
        opened=opened,
        base=base,
        acked=base,
        last_generation=asked,
    )
    return [
        PutFollow(new),
        PutWaiting(subject, client_id),
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
