"""The handover holds N1 and N3 in every history within bounds; left without any of its parts, not.

The bounds are small, so that each search is exhaustive in seconds; together they cover two clients,
half-open replacements, unsubscribes and lists, several messages, marks, two edges, an edge's death,
connects committed late, lost positions and the end of a hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from services.presence import backend, cover, events, handover, sending
from services.presence.change import Change
from services.presence.state import (
    BACKEND,
    Cancel,
    Handover,
    Held,
    Mark,
    PutHandover,
    PutWaiting,
    Reason,
    Send,
    Standing,
)
from tests.presence.rows import MemoryShell
from tests.presence.search import Violation, search
from tests.presence.world import Bounds

# Seconds of computing each; a machine that computes much else makes minutes of them.
pytestmark = pytest.mark.timeout(900)

HOLDING = {
    "one client returns, unsubscribes, follows anew": Bounds(1, (2,), unsubscribes=1, skips=1),
    "two clients, one unsubscribes": Bounds(1, (1, 1), unsubscribes=1),
    "two clients, one returns": Bounds(1, (2, 1)),
    "two messages, two clients": Bounds(2, (1, 1)),
    "a client that has lost its position": Bounds(1, (2,), forgets=1, rounds=2),
    "marks and two clients": Bounds(1, (1, 1), rounds=2),
    "marks, and connects committed late at two edges": Bounds(
        1, (2,), edges=2, rounds=2, split_commits=True
    ),
    "marks and the death of an edge": Bounds(1, (2,), edges=2, rounds=2, edge_deaths=1),
    "marks and the end of a hold": Bounds(1, (2,), rounds=3, hold_ends=True),
    "a backend, of a user who never connects": Bounds(2, (), backs=2, unbacks=1),
    "a backend, beside a client that unsubscribes": Bounds(1, (1,), backs=1, unsubscribes=1),
    "a backend, beside a client that returns": Bounds(1, (2,), backs=1),
    "a backend that leaves, beside a client": Bounds(1, (1,), backs=1, unbacks=1),
    "a backend, beside marks": Bounds(1, (1,), rounds=2, backs=1),
}


@pytest.mark.parametrize("bounds", HOLDING.values(), ids=HOLDING.keys())
def test_every_followed_message_is_acknowledged_or_has_one_record(bounds: Bounds) -> None:
    assert search(bounds, MemoryShell()) > 1_000


# -- the same with a part left out ---------------------------------------------------------------

Patch = Callable[[Any, str, Any], None]

follow = backend.follow
covers, answers, marked_pos = cover.covers, cover.answers, cover.marked_pos
may_send, decide_backlog, raise_acked = (
    sending.may_send,
    handover.decide_backlog,
    events._raise_acked,
)


def no_base(patch: Patch) -> None:
    patch(cover, "answers", lambda state, f, m: answers(state, replace(f, base=-1), m))


def no_closing_handover(patch: Patch) -> None:
    def end_follow(change: Change, key: Any) -> None:
        change.put_follow(replace(change.raise_to_marks(key), ended=True))
        change.stop_waiting(key.subject, key.client_id)

    patch(Change, "end_follow", end_follow)


def no_handover_row(patch: Patch) -> None:
    patch(Change, "hand_over", lambda change, key: None)


def no_waiting_row(patch: Patch) -> None:
    patch(Change, "wait", lambda change, subject, client_id: None)


def no_check_at_send(patch: Patch) -> None:
    patch(sending, "may_send", lambda state, messages, *rest: Send(tuple(messages)))


def ended_follows_forgotten(patch: Patch) -> None:
    patch(cover, "covers", lambda state, f, m: not f.ended and covers(state, f, m))


def older_endings_forgotten(patch: Patch) -> None:
    def only_of_the_register(change: Change, event: Any) -> None:
        if event.generation == change.state.registers[event.client_id].generation:
            raise_acked(change, event)

    patch(events, "_raise_acked", only_of_the_register)


def cancel_on_return(patch: Patch) -> None:
    def cancels(*given: Any) -> Any:
        verdict = may_send(*given)
        return Cancel(Reason.ACKNOWLEDGED) if isinstance(verdict, Held) else verdict

    patch(sending, "may_send", cancels)


def a_stale_read_finishes_the_handover(patch: Patch) -> None:
    def decides(state: Any, row: Handover, *rest: Any) -> Any:
        row = state.handovers.get(row.key)
        return decide_backlog(state, row, *rest) if row else []

    patch(handover, "decide_backlog", decides)


def marks_speak_for_ended_sessions(patch: Patch) -> None:
    def marked(state: Any, follow: Any) -> int:
        registers = {c: replace(r, ended=False) for c, r in state.registers.items()}
        return marked_pos(replace(state, registers=registers), follow)

    patch(cover, "marked_pos", marked)


def marks_speak_for_any_session(patch: Patch) -> None:
    def marked(state: Any, follow: Any) -> int:
        register = state.registers[follow.client_id]
        return marked_pos(state, replace(follow, session_id=register.session_id))

    patch(cover, "marked_pos", marked)


def marks_of_any_round(patch: Patch) -> None:
    patch(cover, "marked_pos", lambda state, follow: marked_pos(state, replace(follow, round=-1)))


def marks_are_not_kept_when_a_subscription_ends(patch: Patch) -> None:
    patch(Change, "raise_to_marks", lambda change, key: change.state.follows[key])


def the_end_of_a_hold_ignores_marks(patch: Patch) -> None:
    def ignores(state: Any, messages: Any, holds: Any, now: float) -> Any:
        return may_send(replace(state, marks={}) if now else state, messages, holds, now)

    patch(sending, "may_send", ignores)


def the_edge_owes_nothing_for_a_committed_end(patch: Patch) -> None:
    """The mistake is in the bounds, not in the core."""


def the_backlog_is_read_before_offline(patch: Patch) -> None:
    def handovers(shell: MemoryShell, rows: int) -> tuple[Handover, ...]:
        state = shell._states[rows]
        soon = dict(state.handovers)
        for key, follow in state.follows.items():
            if state.registers[key.client_id].standing is Standing.GRACE and not follow.ended:
                before = state.handovers.get(key)
                soon[key] = Handover(key, follow.acked, before.run + 1 if before else 1)
        return tuple(soon.values())

    patch(MemoryShell, "handovers", handovers)


def a_sweep_that_runs_once(patch: Patch) -> None:
    every_time = MemoryShell.sweep
    done = ((0, "swept"), Mark(0, 0))

    def sweep(shell: MemoryShell, rows: int, edge: int) -> int:
        if done in shell._rows[rows].marks:
            return rows
        swept = shell._rows[every_time(shell, rows, edge)]
        return shell.number(swept._replace(marks=(*swept.marks, done)))

    patch(MemoryShell, "sweep", sweep)


def _follow_without(kind: type, patch: Patch) -> None:
    patch(
        backend,
        "follow",
        lambda *given: [effect for effect in follow(*given) if not isinstance(effect, kind)],
    )


def a_backends_follow_has_no_handover(patch: Patch) -> None:
    _follow_without(PutHandover, patch)


def a_backends_follow_does_not_wait(patch: Patch) -> None:
    _follow_without(PutWaiting, patch)


def a_backends_handover_is_like_any_other(patch: Patch) -> None:
    patch(backend, "_FIRST_RUN", 1)


def a_backends_follow_is_always_settled(patch: Patch) -> None:
    patch(backend, "is_settled", lambda row, head: True)


def a_backends_follow_answers(patch: Patch) -> None:
    def answering(state: Any, follow: Any, message: Any) -> bool:
        backed = follow.client_id == BACKEND and not follow.ended and follow.base < message.seq
        return backed or answers(state, follow, message)

    patch(cover, "answers", answering)


ONE, TWO = Bounds(1, (2,)), Bounds(1, (1, 1), unsubscribes=1)
MARKS = Bounds(1, (2,), rounds=2)
BACKED = Bounds(2, (), backs=1)
BREAKING: list[tuple[Callable[[Patch], None], Bounds]] = [
    (no_base, TWO),
    (no_closing_handover, TWO),
    (no_handover_row, ONE),
    (no_waiting_row, ONE),
    (no_check_at_send, ONE),
    (ended_follows_forgotten, TWO),
    (older_endings_forgotten, Bounds(1, (2,), forgets=1)),
    (cancel_on_return, ONE),
    (a_stale_read_finishes_the_handover, ONE),
    (marks_speak_for_ended_sessions, MARKS),
    (marks_speak_for_any_session, MARKS),
    (marks_of_any_round, MARKS),
    (marks_are_not_kept_when_a_subscription_ends, Bounds(1, (2,), forgets=1, rounds=2)),
    (the_end_of_a_hold_ignores_marks, MARKS._replace(hold_ends=True)),
    (the_edge_owes_nothing_for_a_committed_end, MARKS._replace(forgets_committed_ends=True)),
    (the_backlog_is_read_before_offline, ONE),
    (a_sweep_that_runs_once, Bounds(1, (1,), edge_deaths=1)),
    (a_backends_follow_has_no_handover, BACKED),
    (a_backends_follow_does_not_wait, BACKED),
    (a_backends_handover_is_like_any_other, BACKED._replace(unbacks=1)),
    (a_backends_follow_is_always_settled, BACKED),
    (a_backends_follow_answers, BACKED),
]


@pytest.mark.parametrize(("flaw", "bounds"), BREAKING, ids=[f.__name__ for f, _ in BREAKING])
def test_the_search_finds_a_core_without(
    flaw: Callable[[Patch], None], bounds: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaw(monkeypatch.setattr)
    with pytest.raises(Violation, match=r"N[13]: message"):
        search(bounds, MemoryShell())


def test_the_bounds_that_find_flaws_hold_without_them() -> None:
    faithful = {bounds for _, bounds in BREAKING if not bounds.forgets_committed_ends}
    for bounds in faithful - set(HOLDING.values()):
        search(bounds, MemoryShell())
