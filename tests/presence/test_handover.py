"""Deciding messages, live and from a backlog, and forgetting ended follows."""

from __future__ import annotations

from services.presence import events, handover
from services.presence.plan import Policy
from services.presence.state import (
    DropFollow,
    DropHandover,
    FollowKey,
    Handover,
    Message,
    Notify,
    PutHandover,
    Reason,
    Suppress,
)
from tests.presence.entries import EDGE, GRACES, Ann, connected, disconnected, followed, unfollowed

KEY = FollowKey("/s", "a", 1)


def messages(*seqs: int) -> list[Message]:
    return [Message("/s", seq, seq * 10) for seq in seqs]


def offline(*more: object) -> Ann:
    """Client a follows /s after 5, has acknowledged 6, and is offline."""
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5}), *more, disconnected("a", 1, {"/s": 6}))
    ann.end_graces()
    return ann


def test_a_live_message_is_due_to_a_user_who_waits() -> None:
    ann = offline()
    assert handover.decide_live(ann.state, messages(7)[0]) == [Notify("/s", 7, 70)]


def test_a_live_message_at_or_below_the_base_is_nothing_to_the_user() -> None:
    assert handover.decide_live(offline().state, messages(5)[0]) == []


def test_a_message_of_another_subject_is_not_confused() -> None:
    ann = offline()
    ann.take(connected("b", 1, {"/t": 0}))
    assert handover.decide_live(ann.state, messages(7)[0]) == [Notify("/s", 7, 70)]


def test_a_backlog_is_decided_from_what_is_acknowledged_on_and_ends_the_handover() -> None:
    ann = offline()
    row = ann.state.handovers[KEY]
    assert handover.read_after(ann.state, row) == 6
    effects = handover.decide_backlog(ann.state, row, messages(7, 8), floor=0, last=True)
    assert effects == [Notify("/s", 7, 70), Notify("/s", 8, 80), DropHandover(KEY)]


def test_a_backlog_in_several_stretches_keeps_its_place() -> None:
    ann = offline()
    row = ann.state.handovers[KEY]
    effects = handover.decide_backlog(ann.state, row, messages(7), floor=0, last=False)
    assert effects[-1] == PutHandover(Handover(KEY, after=7, run=1))
    ann.apply(effects)
    assert handover.read_after(ann.state, ann.state.handovers[KEY]) == 7


def test_what_was_read_for_an_earlier_run_decides_nothing() -> None:
    ann = offline()
    stale = ann.state.handovers[KEY]
    ann.take(connected("a", 2, {"/s": 6}), disconnected("a", 2))
    ann.end_graces()
    assert handover.decide_backlog(ann.state, stale, messages(7), floor=0, last=True) == []


def test_a_client_that_has_returned_leaves_the_backlog_to_its_next_handover() -> None:
    ann = offline()
    row = ann.state.handovers[KEY]
    ann.take(connected("a", 2, {"/s": 6}))
    effects = handover.decide_backlog(ann.state, row, messages(7), floor=0, last=True)
    assert effects == [DropHandover(KEY)]


def test_another_client_answers_only_above_its_base() -> None:
    ann = offline(connected("b", 1, {"/s": 7}))
    row = ann.state.handovers[KEY]
    effects = handover.decide_backlog(ann.state, row, messages(7, 8), floor=0, last=True)
    assert effects == [Notify("/s", 7, 70), DropHandover(KEY)]


def test_what_another_client_or_an_ended_follow_has_acknowledged_is_not_decided() -> None:
    ann = offline(connected("b", 1, {"/s": 6}), unfollowed("b", 1, {"/s": 7}, number=2))
    row = ann.state.handovers[KEY]
    effects = handover.decide_backlog(ann.state, row, messages(7, 8), floor=0, last=True)
    assert effects == [Notify("/s", 8, 80), DropHandover(KEY)]


def test_the_backlog_of_the_last_follow_is_suppressed_when_it_has_ended() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5}), unfollowed("a", 1, {"/s": 6}, number=2))
    row = ann.state.handovers[KEY]
    effects = handover.decide_backlog(ann.state, row, messages(7), floor=0, last=True)
    assert effects == [Suppress("/s", 7, 7, Reason.UNSUBSCRIBED), DropHandover(KEY)]


def test_following_anew_below_what_was_left_takes_the_rest_over() -> None:
    ann = Ann()
    ann.take(
        connected("a", 1, {"/s": 5}),
        unfollowed("a", 1, {"/s": 6}, number=2),
        followed("a", 1, {"/s": 6}, number=3),
    )
    row = ann.state.handovers[KEY]
    effects = handover.decide_backlog(ann.state, row, messages(7), floor=0, last=True)
    assert effects == [DropHandover(KEY)]


def test_a_trimmed_backlog_is_one_record() -> None:
    ann = offline()
    row = ann.state.handovers[KEY]
    effects = handover.decide_backlog(ann.state, row, messages(21), floor=20, last=True)
    assert effects == [
        Suppress("/s", 7, 20, Reason.TRIMMED),
        Notify("/s", 21, 210),
        DropHandover(KEY),
    ]


def test_what_was_trimmed_after_it_was_acknowledged_has_no_record() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5}, round=1))
    ann.mark("/s", round=2, pos=210)
    ann.apply(events.on_edge_dead(ann.state, EDGE, 0.0, GRACES))
    ann.end_graces()
    row = ann.state.handovers[KEY]
    assert handover.read_after(ann.state, row) == 5, "a mark tells no seq"
    effects = handover.decide_backlog(ann.state, row, messages(21, 22), floor=20, last=True)
    assert effects == [Notify("/s", 22, 220), DropHandover(KEY)]


def test_what_another_client_acknowledged_is_not_part_of_the_trimmed_record() -> None:
    ann = offline(connected("b", 1, {"/s": 6}), disconnected("b", 1, {"/s": 9}))
    row = ann.state.handovers[KEY]
    effects = handover.decide_backlog(ann.state, row, [], floor=20, last=True)
    assert effects == [Suppress("/s", 10, 20, Reason.TRIMMED), DropHandover(KEY)]
    effects = handover.decide_backlog(ann.state, row, [], floor=9, last=True)
    assert effects == [DropHandover(KEY)]


def test_a_trimmed_backlog_waits_for_a_client_that_answers() -> None:
    ann = offline(connected("b", 1, {"/s": 10}))
    row = ann.state.handovers[KEY]
    effects = handover.decide_backlog(ann.state, row, [], floor=20, last=True)
    assert effects == [DropHandover(KEY)]


def test_an_ended_follow_is_kept_until_nothing_depends_on_it() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5}, round=1))
    ann.mark("/s", round=2, pos=70)
    ann.take(unfollowed("a", 1, {"/s": 6}, number=2))
    assert handover.prune(ann.state, "/s", 9, 90, pending=False) == []
    ann.apply([DropHandover(KEY)])
    assert handover.prune(ann.state, "/s", 5, 90, pending=False) == []
    assert handover.prune(ann.state, "/s", 9, 60, pending=False) == []
    assert handover.prune(ann.state, "/s", 9, 90, pending=True) == []
    assert handover.prune(ann.state, "/t", 9, 90, pending=False) == []
    assert handover.prune(ann.state, "/s", 9, 90, pending=False) == [DropFollow(KEY)]


def test_an_open_follow_is_never_pruned() -> None:
    ann = offline()
    ann.apply([DropHandover(KEY)])
    assert handover.prune(ann.state, "/s", 99, 990, pending=False) == []


def test_revoking_one_subject_suppresses_what_was_left_of_it() -> None:
    ann = offline()
    ann.apply(events.revoke(ann.state, {"/s"}))
    row = ann.state.handovers[KEY]
    effects = handover.decide_backlog(ann.state, row, messages(7), floor=0, last=True)
    assert effects == [Suppress("/s", 7, 7, Reason.UNSUBSCRIBED), DropHandover(KEY)]


def new_follow() -> Ann:
    """A client follows /s after 5; the log has 6 and 7, which nobody has decided."""
    ann = Ann()
    effects = ann.take(connected("a", 1, {"/s": 5}))
    ann.apply(handover.backlog_of_new_follows(effects, ann.pos))
    return ann


def test_what_is_acknowledged_before_a_new_follow_is_handed_over_is_due_all_the_same() -> None:
    """Under a policy for which that silences nothing; live, nobody had followed it."""
    ann = new_follow()
    ann.take(connected("a", 2, {"/s": 7}))
    [row] = ann.state.handovers.values()
    assert handover.read_after(ann.state, row) == 5
    due = [Notify("/s", 6, 60), Notify("/s", 7, 70)]
    for policy, effects in ((Policy.ALWAYS, due), (Policy.USER, [])):
        found = handover.decide_backlog(
            ann.state, row, messages(6, 7), 0, True, lambda _, policy=policy: policy
        )
        assert found == [*effects, DropHandover(row.key)]


def test_a_handover_under_way_is_not_moved_on_by_another_end() -> None:
    ann = new_follow()
    ann.take(disconnected("a", 1, {"/s": 7}))
    ann.end_graces()
    [row] = ann.state.handovers.values()
    assert (row.after, row.run) == (5, 2)
