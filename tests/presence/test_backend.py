"""Follows and endpoints that a backend adds: nobody answers for them, and they end as others do."""

from __future__ import annotations

from services.presence import backend, cover, events, explain, handover, sending
from services.presence.change import Change
from services.presence.state import (
    BACKEND,
    DropEndpoint,
    DropHandover,
    Endpoint,
    Follow,
    FollowKey,
    Handover,
    Message,
    Notify,
    PutEndpoint,
    PutFollow,
    PutHandover,
    PutWaiting,
    Reason,
    Send,
    Suppress,
)
from tests.presence.entries import EDGE, Ann, connected, disconnected, unfollowed
from tests.presence.rows import GRACES

NOW = 2.5
KEY = FollowKey("/s", BACKEND, 2_500)
MAIL = "mailto:ann@example.org"
MONTH = 30 * 86_400.0


def message(seq: int) -> Message:
    return Message("/s", seq, seq * 10)


def followed(base: int = 5) -> Ann:
    """A backend has had ann follow /s after a seq; its handover has found nothing to decide."""
    ann = Ann()
    ann.apply(backend.follow(ann.state, "/s", base, NOW))
    ann.apply([DropHandover(KEY)])
    return ann


# -- following ----------------------------------------------------------------------------------


def test_a_follow_waits_at_once_and_is_handed_over() -> None:
    follow = Follow("/s", BACKEND, opened=2_500, base=5, acked=5)
    assert backend.follow(Ann().state, "/s", 5, NOW) == [
        PutFollow(follow),
        PutWaiting("/s", BACKEND),
        PutHandover(Handover(KEY, after=5, run=0)),
    ]


def test_a_second_follow_of_the_subject_changes_nothing() -> None:
    assert backend.follow(followed().state, "/s", 9, NOW) == []


def test_a_follow_beside_that_of_a_client_is_another_one() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 0}))
    ann.apply(backend.follow(ann.state, "/s", 5, NOW))
    assert {f.client_id for f in ann.rows.follows} == {"a", BACKEND}


def test_a_follow_after_one_that_ended_in_the_same_moment_has_a_greater_number() -> None:
    ann = followed()
    ann.apply(backend.unfollow(ann.state, ["/s"]))
    ann.apply(backend.follow(ann.state, "/s", 9, NOW))
    assert [f.opened for f in ann.rows.follows] == [2_500, 2_501]


def test_a_handover_is_settled_if_the_head_has_not_moved() -> None:
    row = Handover(KEY, after=5, run=0)
    assert backend.is_settled(row, 5)
    assert not backend.is_settled(row, 6)


# -- what it is to the other cores ----------------------------------------------------------------


def test_a_message_after_the_base_is_due_and_one_before_is_not() -> None:
    ann = followed(base=5)
    assert handover.decide_live(ann.state, message(6)) == [Notify("/s", 6, 60)]
    assert handover.decide_live(ann.state, message(5)) == []


def test_what_came_between_the_read_of_the_head_and_the_commit_is_decided_by_the_handover() -> None:
    ann = Ann()
    ann.apply(backend.follow(ann.state, "/s", 5, NOW))
    row = ann.state.handovers[KEY]
    assert handover.read_after(ann.state, row) == 5
    effects = handover.decide_backlog(ann.state, row, [message(6)], floor=0, last=True)
    assert effects == [Notify("/s", 6, 60), DropHandover(KEY)]


def test_it_answers_for_nothing_and_holds_nothing_back() -> None:
    state = followed().state
    assert cover.answering(state, message(6)) == []
    assert not cover.is_acknowledged(state, message(6))
    assert sending.may_send(state, [message(6)], {}, NOW) == Send((message(6),))


def test_a_mark_does_not_speak_for_it() -> None:
    ann = followed()
    ann.mark("/s", round=9, pos=1_000)
    assert cover.marked_pos(ann.state, ann.follow("/s", BACKEND)) == 0


def test_a_client_of_the_user_that_is_online_answers_and_silences() -> None:
    ann = followed()
    ann.take(connected("a", 1, {"/s": 5}))
    assert handover.decide_live(ann.state, message(6)) == []
    ann.take(disconnected("a", 1, {"/s": 6}))
    ann.end_graces()
    assert cover.is_acknowledged(ann.state, message(6))
    assert handover.decide_live(ann.state, message(7)) == [Notify("/s", 7, 70)]


def test_what_a_client_leaves_undecided_is_due_while_a_backend_has_the_user_follow() -> None:
    ann = followed()
    ann.take(connected("a", 1, {"/s": 5}), unfollowed("a", 1, {"/s": 5}, number=2))
    row = ann.state.handovers[ann.follow("/s", "a").key]
    effects = handover.decide_backlog(ann.state, row, [message(6)], floor=0, last=True)
    assert effects[0] == Notify("/s", 6, 60)


def test_a_client_that_comes_and_goes_leaves_it_waiting() -> None:
    ann = followed()
    ann.take(connected("a", 1, {}, replaces=True), disconnected("a", 1))
    ann.end_graces()
    assert ("/s", BACKEND) in ann.rows.waiting
    assert not ann.follow("/s", BACKEND).ended


def test_a_dead_edge_is_nothing_to_it() -> None:
    assert events.on_edge_dead(followed().state, EDGE, NOW, GRACES) == []


def test_it_does_not_end_because_the_user_stays_away() -> None:
    ann = followed()
    ann.take(connected("a", 1, {"/s": 5, "/t": 0}), disconnected("a", 1))
    ann.end_graces(now=100.0)
    ann.apply(events.forget(ann.state, 100.0 + 2 * MONTH, MONTH, MONTH))
    ended = {(f.subject, f.client_id): f.ended for f in ann.rows.follows}
    assert ended == {("/s", BACKEND): False, ("/s", "a"): True, ("/t", "a"): True}
    assert events.forget(ann.state, 100.0 + 2 * MONTH, MONTH, 3 * MONTH) == []


def test_the_story_of_who_never_connected_can_be_told() -> None:
    facts = explain.Facts(
        "/s", followed().state, 5, 6, {5: 50, 6: 60}, 100, decided=(), deliveries={}, attempts={}
    )
    story = explain.story(facts)
    assert [one.state for one in story.outcomes] == [
        explain.State.NOT_FOLLOWED,
        explain.State.PENDING,
    ]
    [client] = story.clients
    assert (client.client_id, client.state, client.base) == (BACKEND, "offline", 5)
    assert not client.HasField("since")


# -- ending ---------------------------------------------------------------------------------------


def test_an_unfollow_ends_what_backends_have_added_and_no_more() -> None:
    ann = followed()
    ann.take(connected("a", 1, {"/s": 5}))
    ann.apply(backend.unfollow(ann.state, ["/s"]))
    assert ann.follow("/s", BACKEND).ended
    assert not ann.follow("/s", "a").ended
    assert ("/s", BACKEND) not in ann.rows.waiting
    assert KEY in ann.state.handovers


def test_an_unfollow_of_another_subject_changes_nothing() -> None:
    assert backend.unfollow(followed().state, ["/t"]) == []


def test_what_was_undecided_at_an_unfollow_is_suppressed() -> None:
    ann = followed()
    ann.apply(backend.unfollow(ann.state, ["/s"]))
    row = ann.state.handovers[KEY]
    effects = handover.decide_backlog(ann.state, row, [message(6)], floor=0, last=True)
    assert effects[0] == Suppress("/s", 6, 6, Reason.UNSUBSCRIBED)


def test_a_revocation_ends_it_with_those_of_the_clients() -> None:
    ann = followed()
    ann.take(connected("a", 1, {"/s": 5}))
    ann.apply(events.revoke(ann.state, ["/s"]))
    assert all(f.ended for f in ann.rows.follows)


def test_an_ended_one_is_dropped_once_the_log_has_trimmed_its_messages() -> None:
    ann = followed()
    ann.apply(backend.unfollow(ann.state, ["/s"]))
    ann.apply([DropHandover(KEY)])
    assert handover.prune(ann.state, "/s", 4, 40, pending=False) == []
    assert len(handover.prune(ann.state, "/s", 5, 50, pending=False)) == 1


# -- endpoints ------------------------------------------------------------------------------------


def test_a_backend_registers_an_endpoint_beside_the_clients() -> None:
    ann = Ann()
    added = backend.add_endpoint(ann.state, MAIL, NOW)
    assert added == [PutEndpoint(Endpoint(MAIL, (BACKEND,), NOW))]
    ann.take(connected("a", 1, {}, endpoints=[MAIL]))
    again = backend.add_endpoint(ann.state, MAIL, NOW)
    assert again == [PutEndpoint(Endpoint(MAIL, (BACKEND, "a"), NOW))]


def test_an_endpoint_of_a_backend_stays_when_a_client_leaves_it() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {}, endpoints=[MAIL]))
    ann.apply(backend.add_endpoint(ann.state, MAIL, NOW))
    left = Change(ann.state)
    left.leave_endpoint(MAIL, "a")
    assert left.effects == [PutEndpoint(Endpoint(MAIL, (BACKEND,), NOW))]


def test_an_endpoint_is_removed_whoever_registered_it() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {}, endpoints=[MAIL]))
    assert backend.remove_endpoint(ann.state, MAIL) == [DropEndpoint(MAIL)]
    assert backend.remove_endpoint(ann.state, "mailto:other@example.org") == []
