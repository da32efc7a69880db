"""The check at send: whether a delivery that is due may be claimed now.

Rules:
- A message that a client of the user has acknowledged is never sent.
- While a client answers for a message of it, the delivery is held; one client holds one
  notification for `hold_s` at most, counted anew only when what it has acknowledged moves. So a
  client that comes and goes without ever acknowledging cannot hold it for ever.

Knows: rows, marks, holds. Must not know: endpoints, channels, retries.
To drive it: in the transaction that would turn `pending` or `retry` into `sending`, load the state
and the notification's holds, call `may_send`, and do what the verdict says in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.presence import cover
from services.presence.state import (
    Cancel,
    Follow,
    Held,
    Hold,
    Message,
    PutHold,
    Reason,
    Send,
    UserState,
    Verdict,
)

# How long one client may hold back one notification without acknowledging anything: long enough for
# the slowest recovery of a healthy client, short enough to be called a notification still.
HOLD_S = 120.0


def may_send(
    state: UserState,
    messages: Sequence[Message],
    holds: Mapping[str, Hold],
    now: float,
    hold_s: float = HOLD_S,
) -> Verdict:
    """Whether these messages (one delivery's, of one subject, in order, at least one) may go out.

    `state` has the follows of the subject, ended ones too, with all registers and their marks;
    `holds` are the notification's, by client id.
    """
    left = tuple(m for m in messages if not cover.is_acknowledged(state, m))
    if not left:
        return Cancel(Reason.ACKNOWLEDGED)
    until = now
    puts: list[PutHold] = []
    # A client that answers for any of them answers for the last: its base is below all it follows.
    for follow in cover.answering(state, left[-1]):
        hold = holds.get(follow.client_id)
        fresh = _hold(state, follow, messages[0].seq, now)
        if hold is None or _has_moved(hold, fresh):
            hold = fresh
            puts.append(PutHold(fresh))
        until = max(until, hold.since + hold_s)
    if until > now:
        return Held(until, tuple(puts))
    return Send(left, tuple(m for m in messages if m not in left))


def _hold(state: UserState, follow: Follow, first_seq: int, now: float) -> Hold:
    pos = max(follow.acked_pos, cover.marked_pos(state, follow))
    return Hold(follow.subject, first_seq, follow.client_id, now, follow.acked, pos)


def _has_moved(hold: Hold, fresh: Hold) -> bool:
    return fresh.acked > hold.acked or fresh.acked_pos > hold.acked_pos
