"""Where messages that are due go: into which notification, at which endpoints, when."""

from dataclasses import replace

import pytest

from services.presence.notifications import (
    Delivery,
    DeliveryState,
    Limits,
    Notification,
    delivery_id,
    notification_id,
)
from services.presence.placing import Arrival, Begin, Join, Joinable, in_turn, place
from services.presence.plan import DEFAULT_PLAN, Plan, Priority

LIMITS = Limits(collapse_s=30, expiry_s=1_000)
MAIL, PHONE, PUSH = "mailto:ann@example.org", "tel:+491700000000", "fcm:1"


def placed(
    joinable=None,
    last_sent_at=None,
    now=100.0,
    seq=7,
    plan=DEFAULT_PLAN,
    uris=(MAIL,),
    not_before=0.0,
    bulk=False,
    named=(),
):
    """`joinable`: a notification that waits for MAIL."""
    arrival = Arrival("log", "ann", "/a", seq, uris, plan, not_before, bulk, named)
    waits = None if joinable is None else Joinable(joinable, frozenset({MAIL}))
    return place(arrival, waits, last_sent_at, now, LIMITS)


def begun(**given) -> Begin:
    begin = placed(**given)
    assert isinstance(begin, Begin)
    return begin


def test_the_first_notification_of_a_subject_goes_at_once():
    own_id = notification_id("log", "ann", "/a", 7)
    assert placed() == Begin(
        Notification(own_id, "ann", "/a", 7, 100.0, 100.0, 1_100.0),
        (
            Delivery(
                id=delivery_id(own_id, MAIL),
                notification_id=own_id,
                user="ann",
                subject="/a",
                uri=MAIL,
                state=DeliveryState.PENDING,
                due_at=100.0,
                expires_at=1_100.0,
            ),
        ),
    )


def test_a_later_one_waits_until_the_collapse_time_after_the_last_send():
    begin = placed(last_sent_at=90.0)
    assert isinstance(begin, Begin)
    assert begin.deliveries[0].due_at == begin.notification.due_at == 120.0


def test_one_long_after_the_last_send_goes_at_once():
    begin = placed(last_sent_at=10.0)
    assert isinstance(begin, Begin)
    assert begin.deliveries[0].due_at == 100.0


def test_a_message_joins_an_open_notification():
    begin = placed()
    assert isinstance(begin, Begin)
    assert placed(joinable=begin.notification, seq=8) == Join(begin.notification.id)


@pytest.mark.parametrize("change", [{"joinable": False}, {"expires_at": 100.0}])
def test_a_message_does_not_join_what_was_sent_or_has_expired(change):
    begin = placed()
    assert isinstance(begin, Begin)
    other = placed(joinable=replace(begin.notification, **change), seq=8)
    assert isinstance(other, Begin)
    assert other.notification.id == notification_id("log", "ann", "/a", 8)


def test_nothing_joins_what_has_an_expiry_of_its_own():
    begin = begun(plan=Plan(expires_at=160.0))
    assert not begin.notification.joinable
    assert isinstance(placed(joinable=begin.notification, seq=8), Begin)


def test_nothing_joins_what_would_expire_long_before_its_time():
    old = begun().notification
    assert isinstance(placed(joinable=old, seq=8, now=600.0), Join)
    assert isinstance(placed(joinable=old, seq=8, now=601.0), Begin)


def test_nothing_joins_what_does_not_go_everywhere_where_it_is_due():
    waits_for_mail = begun().notification
    assert isinstance(placed(joinable=waits_for_mail, seq=8, uris=(MAIL, PUSH)), Begin)


def test_only_the_first_step_waits_for_the_user():
    plan = Plan(steps=(("fcm",), ("mailto",)), escalate_s=60)
    begin = begun(plan=plan, uris=(MAIL, PUSH), not_before=5_000.0)
    assert [(one.step, one.reason) for one in begin.deliveries] == [(1, ""), (0, "QUIET_HOURS")]


def test_a_message_of_another_plan_joins_nothing():
    other = replace(begun().notification, plan=Plan(category="news"))
    assert isinstance(placed(joinable=other, seq=8), Begin)


def test_a_message_of_another_category_that_a_publisher_made_up_joins_unless_the_user_names_it():
    news, talk = Plan(category="news", free=True), Plan(category="talk", free=True)
    other = replace(begun().notification, plan=news)
    of_none = replace(news, category="")
    assert placed(joinable=other, seq=8, plan=news) == Join(other.id)
    assert placed(joinable=other, seq=8, plan=talk) == Join(other.id, of_none)
    mixed = replace(other, plan=of_none)
    assert placed(joinable=mixed, seq=8, plan=talk) == Join(other.id), "it has none already"
    assert isinstance(placed(joinable=other, seq=8, plan=talk, named={"talk"}), Begin)
    assert isinstance(placed(joinable=other, seq=8, plan=replace(talk, expires_at=150.0)), Begin)


def test_a_message_with_its_own_expiry_begins_a_notification_that_ends_with_it():
    begin = begun(joinable=begun().notification, seq=8, plan=Plan(expires_at=160.0))
    assert begin.notification.expires_at == begin.deliveries[0].expires_at == 160.0
    assert begin.notification.plan == DEFAULT_PLAN, "its expiry is kept with the notification"


def test_the_plans_expiry_takes_the_place_of_the_settings():
    assert begun(plan=Plan(expiry_s=60)).notification.expires_at == 160.0
    assert begun(plan=Plan(expiry_s=60, expires_at=130.0)).notification.expires_at == 130.0
    assert begun(plan=Plan(expiry_s=60, expires_at=999.0)).notification.expires_at == 160.0


def test_a_digest_waits_for_its_time_also_at_first():
    assert begun(plan=Plan(digest_s=600)).deliveries[0].due_at == 700.0


def test_quiet_hours_put_it_off():
    assert begun(not_before=5_000.0).deliveries[0].due_at == 5_000.0


def test_what_is_urgent_waits_for_nothing():
    plan = Plan(priority=Priority.URGENT, digest_s=600)
    assert begun(plan=plan, last_sent_at=99.0, not_before=5_000.0).deliveries[0].due_at == 100.0


def test_the_plans_collapse_time_takes_the_place_of_the_settings():
    assert begun(plan=Plan(collapse_s=0), last_sent_at=99.0).deliveries[0].due_at == 100.0


def test_further_steps_of_an_escalation_are_due_later():
    plan = Plan(steps=(("fcm",), ("mailto",), ("tel",)), escalate_s=60)
    begin = begun(plan=plan, uris=(MAIL, PHONE, PUSH))
    at = {one.uri: (one.step, one.due_at) for one in begin.deliveries}
    assert at == {PUSH: (0, 100.0), MAIL: (1, 160.0), PHONE: (2, 220.0)}


def test_steps_for_which_the_user_has_no_endpoint_are_not_waited_for():
    plan = Plan(steps=(("fcm",), ("mailto",), ("tel",)), escalate_s=60)
    begin = begun(plan=plan, uris=(PHONE, MAIL))
    at = {one.uri: (one.step, one.due_at) for one in begin.deliveries}
    assert at == {MAIL: (0, 100.0), PHONE: (1, 160.0)}


@pytest.mark.parametrize(
    ("priority", "bulk", "rank"),
    [
        (Priority.URGENT, True, 0),
        (Priority.HIGH, True, 1),
        (Priority.NORMAL, False, 2),
        (Priority.NORMAL, True, 3),
        (Priority.LOW, False, 3),
    ],
)
def test_the_usual_ones_of_a_crowd_come_after_all_other_usual_ones(priority, bulk, rank):
    assert begun(plan=Plan(priority=priority), bulk=bulk).deliveries[0].rank == rank


def ranked(*counts: int) -> list[list[Delivery]]:
    [one] = begun().deliveries
    return [
        [replace(one, id=f"{rank}/{n}", rank=rank) for n in range(count)]
        for rank, count in enumerate(counts)
    ]


def ids(deliveries) -> list[str]:
    return [one.id for one in deliveries]


def test_lower_ranks_are_taken_first():
    assert ids(in_turn(ranked(1, 0, 2, 2), 4)) == ["0/0", "2/0", "2/1", "3/0"]


def test_a_quarter_of_the_room_is_left_to_those_behind():
    taken = in_turn(ranked(0, 0, 100, 100), 8)
    assert [one.rank for one in taken] == [2] * 6 + [3] * 2


def test_room_that_nobody_behind_wants_is_used():
    assert len(in_turn(ranked(0, 0, 100, 0), 8)) == 8
    assert len(in_turn(ranked(0, 0, 1, 100), 8)) == 8


def test_a_room_of_one_goes_to_the_lowest_rank():
    assert ids(in_turn(ranked(0, 1, 1, 1), 1)) == ["1/0"]


def test_quiet_hours_hold_back_the_first_step_and_later_ones_wait_for_it():
    """So that they do not wait any more once it has ended with nothing sent."""
    plan = Plan(steps=(("fcm",), ("mailto",)), escalate_s=60)
    begin = begun(plan=plan, uris=(PUSH, MAIL), not_before=600.0)
    waits = {one.uri: (one.due_at, one.reason) for one in begin.deliveries}
    assert waits == {PUSH: (600.0, "QUIET_HOURS"), MAIL: (660.0, "")}
