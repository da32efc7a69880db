"""Presence events, ends of graces and deaths of edges, as list equality."""

from __future__ import annotations

from dataclasses import replace

from services.presence import backend, events
from services.presence.change import ENDED_FOLLOWS_MAX
from services.presence.state import (
    DropEndpoint,
    DropWaiting,
    Endpoint,
    Follow,
    FollowKey,
    ForgetGone,
    Handover,
    PutEndpoint,
    PutFollow,
    PutHandover,
    PutRegister,
    PutWaiting,
    Register,
    ScheduleGrace,
    Standing,
    Wake,
)
from tests.presence.entries import (
    EDGE,
    Ann,
    connected,
    disconnected,
    endpoint_added,
    endpoint_removed,
    followed,
    logged_out,
    revoked,
    unfollowed,
)
from tests.presence.rows import GRACES


def test_a_connect_writes_the_register_and_opens_its_follows() -> None:
    ann = Ann()
    effects = ann.take(connected("a", 1, {"/s": 5}, round=3))
    register = Register("a", 1, "a-1", EDGE, Standing.ONLINE, number=1, connected=True, active=True)
    follow = Follow(
        "/s", "a", opened=1, base=5, acked=5, session_id="a-1", round=3,
        first_generation=1, last_generation=1, started=5,
    )  # fmt: skip
    assert effects[-2:] == [PutRegister(register), PutFollow(follow)]


def test_a_session_begins_when_the_log_has_it_however_late_that_is_processed() -> None:
    """Messages are dated by the log too: what was accepted after it was received live."""
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5}), at=30.0, now=90.0)
    register = ann.state.registers["a"]
    assert (register.connected_at, register.since) == (30.0, 90.0)
    ann.take(connected("a", 2, {"/s": 5}), at=40.0, now=90.0)
    assert ann.state.registers["a"].connected_at == 40.0


def test_an_event_of_an_unknown_kind_counts_as_seen_and_changes_nothing_else() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 0}))
    event = disconnected("a", 1, number=2)
    event.ClearField("event")
    register = replace(ann.state.registers["a"], number=2)
    assert ann.take(event) == [PutRegister(register)]


def test_a_revocation_ends_the_subject_for_all_clients_and_leaves_their_registers() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5, "/t": 0}))
    ann.take(connected("b", 1, {"/s": 0}))
    ann.take(disconnected("b", 1, number=2))
    before = dict(ann.state.registers)
    effects = ann.take(revoked("/s", "/none"))
    ended = [one.follow for one in effects if isinstance(one, PutFollow)]
    assert [(one.subject, one.client_id, one.ended) for one in ended] == [
        ("/s", "a", True), ("/s", "b", True),
    ]  # fmt: skip
    assert {one.handover.key.client_id for one in effects if isinstance(one, PutHandover)} == {
        "a", "b",
    }  # fmt: skip
    assert ann.state.registers == before
    assert ann.take(revoked("/s")) == []
    effects = ann.take(revoked())
    assert [one.follow.subject for one in effects if isinstance(one, PutFollow)] == ["/t"]


def test_what_a_session_says_after_a_revocation_counts_and_begins_nothing() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5}))
    ann.take(revoked("/s"))
    ann.take(unfollowed("a", 1, {"/s": 9}, number=2))
    follow = ann.follow("/s", "a")
    assert (follow.acked, follow.ended) == (9, True)
    assert ann.take(followed("a", 1, {"/s": 9}, number=3)), "whoever subscribes again follows again"
    assert not ann.follow("/s", "a").ended


def test_a_revocation_leaves_what_backends_have_added() -> None:
    ann = Ann()
    ann.apply(backend.follow(ann.state, "/s", 3, 100.0))
    assert ann.take(revoked()) == []


def test_a_disconnect_raises_acked_and_begins_the_grace() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5, "/t": 0}))
    effects = ann.take(disconnected("a", 1, {"/s": 9}, number=2), now=100.0)
    assert ann.follow("/s", "a").acked == 9
    assert ann.follow("/t", "a").acked == 0
    assert effects[-1] == ScheduleGrace("a", 1, 100.0 + GRACES.silent_s)
    assert ann.standing("a") is Standing.GRACE


def test_a_clean_disconnect_has_the_shorter_grace() -> None:
    ann = Ann()
    effects = ann.take(connected("a", 1, {}), disconnected("a", 1, clean=True))
    assert effects[-1] == ScheduleGrace("a", 1, GRACES.clean_s)


def test_acked_never_falls() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5}), disconnected("a", 1, {"/s": 9}))
    ann.take(connected("a", 2, {"/s": 7}))
    assert ann.follow("/s", "a").acked == 9
    assert ann.follow("/s", "a").base == 5


def test_the_grace_does_not_end_early_nor_for_another_generation() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 0}), disconnected("a", 1))
    assert events.on_grace_end(ann.state, "a", 1, 9.9) == []
    assert events.on_grace_end(ann.state, "a", 2, 99.0) == []
    assert events.on_grace_end(ann.state, "b", 1, 99.0) == []


def test_the_end_of_a_grace_waits_and_hands_over_every_open_follow() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5, "/t": 1}), disconnected("a", 1, {"/s": 9}))
    effects = ann.end_graces()
    register = replace(ann.state.registers["a"], standing=Standing.OFFLINE, grace_until=0.0)
    assert effects == [
        PutRegister(register),
        PutWaiting("/s", "a"),
        PutHandover(Handover(FollowKey("/s", "a", 1), after=9, run=1)),
        Wake("/s"),
        PutWaiting("/t", "a"),
        PutHandover(Handover(FollowKey("/t", "a", 1), after=1, run=1)),
        Wake("/t"),
    ]


def test_a_return_stops_waiting_and_leaves_the_handover_to_finish() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5}), disconnected("a", 1))
    ann.end_graces()
    effects = ann.take(connected("a", 2, {"/s": 5}))
    assert DropWaiting("/s", "a") in effects
    assert list(ann.state.handovers.values()) == [Handover(FollowKey("/s", "a", 1), 5, 1)]


def test_going_offline_again_begins_another_run_of_the_handover() -> None:
    ann = Ann()
    for generation in (1, 2):
        ann.take(connected("a", generation, {"/s": 5}), disconnected("a", generation))
        ann.end_graces()
    assert ann.state.handovers[FollowKey("/s", "a", 1)].run == 2


def test_an_unsubscribe_ends_the_follow_and_hands_it_over() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5, "/t": 0}))
    effects = ann.take(unfollowed("a", 1, {"/s": 7}, number=2))
    assert ann.follow("/s", "a").ended
    assert ann.follow("/s", "a").acked == 7
    assert not ann.follow("/t", "a").ended
    assert PutHandover(Handover(FollowKey("/s", "a", 1), 7, 1)) in effects


def test_a_list_ends_the_follows_that_it_does_not_name() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5, "/t": 0}), connected("b", 1, {"/s": 0}))
    ann.take(connected("a", 2, {"/t": 0, "/u": 3}, replaces=True))
    assert ann.follow("/s", "a").ended
    assert not ann.follow("/t", "a").ended
    assert ann.follow("/u", "a").base == 3
    assert not ann.follow("/s", "b").ended


def test_without_a_list_all_follows_stay() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5, "/t": 0}), connected("a", 2, {"/t": 0}))
    assert not ann.follow("/s", "a").ended


def test_following_anew_opens_another_follow_and_keeps_what_the_ended_one_knows() -> None:
    ann = Ann()
    ann.take(
        connected("a", 1, {"/s": 5}),
        unfollowed("a", 1, {"/s": 8}, number=2),
        followed("a", 1, {"/s": 6}, number=3),
    )
    old, new = ann.rows.follows
    assert (old.base, old.acked, old.ended) == (5, 8, True)
    assert (new.base, new.acked, new.ended, new.opened) == (6, 6, False, 3)


def test_an_ending_speaks_of_the_last_follow_its_session_had() -> None:
    ann = Ann()
    ann.take(
        connected("a", 1, {"/s": 5}),
        unfollowed("a", 1, {"/s": 6}, number=2),
        followed("a", 1, {"/s": 20}, number=3),
        disconnected("a", 1, {"/s": 25}),
    )
    old, new = ann.rows.follows
    assert (old.acked, new.acked) == (6, 25)


def test_an_older_ending_raises_the_follow_its_session_had_though_it_has_ended() -> None:
    ann = Ann()
    ann.take(
        connected("a", 1, {"/s": 5}),
        connected("a", 2, {}, replaces=True),
        followed("a", 2, {"/s": 20}, number=2),
    )
    before = ann.rows.registers
    ann.take(disconnected("a", 1, {"/s": 9}))
    old, new = ann.rows.follows
    assert (old.acked, old.ended, new.acked) == (9, True, 20)
    assert ann.rows.registers == before


def test_an_older_session_follows_unfollows_and_registers_nothing() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 5}), connected("a", 2, {"/s": 5}))
    assert ann.take(followed("a", 1, {"/t": 0}, number=2)) == []
    assert ann.take(endpoint_added("a", 1, "mailto:x@y", number=3)) == []
    ann.take(unfollowed("a", 1, {"/s": 6}, number=4))
    assert not ann.follow("/s", "a").ended
    assert ann.follow("/s", "a").acked == 6


def test_what_marks_cover_is_kept_before_a_register_moves() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 0}, round=3))
    ann.mark("/s", round=4, pos=70)
    ann.take(connected("a", 2, {"/s": 0}, round=4))
    assert ann.follow("/s", "a").acked_pos == 70
    assert ann.follow("/s", "a").round == 4


def test_what_marks_cover_is_kept_before_a_follow_ends() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 0}, round=3))
    ann.mark("/s", round=4, pos=70)
    ann.take(unfollowed("a", 1, {"/s": 2}, number=2))
    assert ann.follow("/s", "a").acked_pos == 70


def test_what_marks_cover_is_kept_before_the_same_session_subscribes_again() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 0}, round=3))
    ann.mark("/s", round=4, pos=70)
    ann.take(followed("a", 1, {"/s": 0}, number=2, round=9))
    follow = ann.follow("/s", "a")
    assert (follow.opened, follow.acked_pos, follow.round) == (1, 70, 9)


def test_a_dead_edge_puts_its_online_clients_in_grace_and_a_repeat_changes_nothing() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 0}))
    assert events.on_edge_dead(ann.state, EDGE + 1, 50.0, GRACES) == []
    effects = ann.apply(events.on_edge_dead(ann.state, EDGE, 50.0, GRACES))
    assert effects[-1] == ScheduleGrace("a", 1, 50.0 + GRACES.dead_edge_s)
    assert not ann.state.registers["a"].ended
    assert events.on_edge_dead(ann.state, EDGE, 60.0, GRACES) == []


def test_a_late_disconnect_neither_shortens_nor_restarts_the_grace_of_a_dead_edge() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 0}))
    ann.apply(events.on_edge_dead(ann.state, EDGE, 50.0, GRACES))
    ann.take(disconnected("a", 1, {"/s": 3}), now=51.0)
    register = ann.state.registers["a"]
    assert (register.standing, register.grace_until) == (Standing.GRACE, 65.0)
    assert register.ended
    assert ann.follow("/s", "a").acked == 3


def test_a_follow_of_a_session_already_taken_for_offline_is_handed_over_at_once() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {}))
    ann.apply(events.on_edge_dead(ann.state, EDGE, 0.0, GRACES))
    ann.end_graces()
    effects = ann.take(followed("a", 1, {"/s": 4}, number=2))
    assert PutWaiting("/s", "a") in effects
    assert PutHandover(Handover(FollowKey("/s", "a", 2), 4, 1)) in effects


def test_an_observer_is_offline_from_the_start() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 0}), connected("a", 2, {}, acknowledges=False))
    assert ann.standing("a") is Standing.OFFLINE
    assert ann.rows.waiting == (("/s", "a"),)
    ann.take(disconnected("a", 2))
    assert ann.standing("a") is Standing.OFFLINE


def test_endpoints_belong_to_the_clients_that_registered_them_and_go_with_the_last() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {}, endpoints=["mailto:x@y"]), now=1.0)
    ann.take(connected("b", 1, {}), endpoint_added("b", 1, "mailto:x@y", number=2), now=2.0)
    both = Endpoint("mailto:x@y", ("a", "b"), 2.0)
    assert ann.rows.endpoints == (both,)
    effects = ann.take(endpoint_removed("a", 1, "mailto:x@y", number=2))
    assert effects[-1] == PutEndpoint(replace(both, clients=("b",)))
    effects = ann.take(endpoint_added("b", 1, "fcm:1", number=3, replaces="mailto:x@y"), now=3.0)
    assert effects[-2:] == [
        DropEndpoint("mailto:x@y"),
        PutEndpoint(Endpoint("fcm:1", ("b",), 3.0)),
    ]


def test_a_connect_that_tells_of_gone_endpoints_forgets_them() -> None:
    effects = Ann().take(connected("a", 1, {}, gone_told=["fcm:old"]))
    assert effects[-1] == ForgetGone("a", "fcm:old")


def test_a_logout_ends_follows_and_leaves_endpoints_and_the_disconnect_after_it_is_harmless() -> (
    None
):
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 0}, endpoints=["fcm:1"]))
    ann.take(logged_out("a", 1, {"/s": 2}, number=2))
    assert ann.rows.endpoints == ()
    assert (ann.follow("/s", "a").ended, ann.follow("/s", "a").acked) == (True, 2)
    assert ann.standing("a") is Standing.OFFLINE
    ann.take(disconnected("a", 1, {"/s": 2}, number=3))
    assert ann.standing("a") is Standing.OFFLINE
    assert ann.rows.waiting == ()


def test_revoking_ends_the_follows_of_all_clients() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {"/s": 0, "/t": 0}), connected("b", 1, {"/s": 0}))
    ann.apply(events.revoke(ann.state, {"/s"}))
    assert [f.ended for f in ann.rows.follows if f.subject == "/s"] == [True, True]
    assert not ann.follow("/t", "a").ended
    ann.apply(events.revoke(ann.state))
    assert all(f.ended for f in ann.rows.follows)


def test_a_client_that_follows_and_leaves_for_ever_keeps_so_many_of_its_follows() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {}))
    for turn in range(100):
        ann.take(
            followed("a", 1, {"/s": turn}, number=2 * turn + 2),
            unfollowed("a", 1, {"/s": turn}, number=2 * turn + 3),
        )
        # The backlog of each is decided before the next.
        ann.rows = ann.rows._replace(handovers=())
    kept = sorted(follow.base for follow in ann.state.follows.values())
    assert kept == list(range(100 - ENDED_FOLLOWS_MAX, 100))


def test_a_follow_that_is_being_handed_over_is_kept_however_many_there_are() -> None:
    ann = Ann()
    ann.take(connected("a", 1, {}))
    for turn in range(40):
        ann.take(
            followed("a", 1, {"/s": turn}, number=2 * turn + 2),
            unfollowed("a", 1, {"/s": turn}, number=2 * turn + 3),
        )
    assert len(ann.state.follows) == 40


def test_an_entry_that_forgets_a_client_is_a_logout_of_a_session_above_all_others() -> None:
    ann = Ann()
    ann.take(connected("a", 4, {"/s": 0}, endpoints=["mailto:ann@example.org"]))
    ann.take(disconnected("a", 4, {"/s": 2}))
    ann.end_graces()
    forgotten = logged_out("a", 5, {}, number=1)
    forgotten.edge_id = 0
    since = ann.state.registers["a"].since
    ann.take(forgotten, now=since + 1_000.0)
    assert ann.standing("a") is Standing.OFFLINE
    assert ann.state.registers["a"].since == since, "to be forgotten is not to be there"
    assert ann.follow("/s", "a").ended
    assert not ann.state.endpoints
    assert ann.state.handovers, "its backlog is decided"
    assert ann.take(connected("a", 4, {"/s": 0})) == [], "an older session brings nothing back"
    ann.take(connected("a", 6, {"/s": 9}))
    assert ann.standing("a") is Standing.ONLINE
