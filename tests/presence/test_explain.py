"""The story of each message, in sentences."""

from dataclasses import replace

import pytest
from onward.presence.v1 import presence_pb2

from services.presence.explain import Facts, story
from services.presence.notifications import Delivery, DeliveryState, Span
from services.presence.plan import DEFAULT_PLAN, Plan, Policy, Priority, Quiet
from services.presence.state import Endpoint, Follow, Handover, Mark, Register, Standing, UserState
from services.presence.store_outbox import Attempt, Decided

NAME = presence_pb2.Outcome.State.Name


def user(standing=Standing.OFFLINE, base=0, acked=0) -> UserState:
    follow = Follow("/a", "c", 1, base, acked)
    register = Register("c", 4, "s", 7, standing)
    return UserState("ann", registers={"c": register}, follows={follow.key: follow})


def told(
    state=None,
    last=1,
    cursor_pos=100,
    decided=(),
    deliveries=(),
    attempts=(),
    served=True,
    accepted_at=None,
    members=1,
    plan=DEFAULT_PLAN,
    passed_over=None,
):
    facts = Facts(
        subject="/a",
        state=state or user(),
        first=1,
        last=last,
        positions={n: n * 10 for n in range(1, last + 1)},
        cursor_pos=cursor_pos,
        decided=decided,
        deliveries={"n": deliveries},
        attempts={"d": attempts},
        is_served=lambda _: served,
        accepted={} if accepted_at is None else dict.fromkeys(range(1, last + 1), accepted_at),
        told={"n": members},
        plans={"n": plan},
        passed_over=passed_over or {},
        now=60.0,
    )
    return [(o.from_seq, o.to_seq, NAME(o.state), o.text) for o in story(facts).outcomes]


def sent(state: DeliveryState, **changes) -> Delivery:
    values = {
        "id": "d", "notification_id": "n", "user": "ann", "subject": "/a", "expires_at": 9e9,
        "uri": "mailto:ann@example.org", "state": state, "due_at": None,
    }  # fmt: skip
    return Delivery(**(values | changes))


NOTIFIED = Decided(Span(1, 1, 10), "n", "", 50.0)


def test_a_message_without_a_record_is_told_by_how_the_clients_stand():
    assert told(user(acked=1)) == [(1, 1, "ACKNOWLEDGED", "Acknowledged by client c.")]
    answered = "Not acknowledged yet; client c (online, in the background) answers for it."
    assert told(user(Standing.ONLINE)) == [(1, 1, "ANSWERED_FOR", answered)]
    looking = user(Standing.ONLINE)
    register = replace(looking.registers["c"], active=True)
    looking = replace(looking, registers={"c": register})
    answered = "Not acknowledged yet; client c (online, in the foreground) answers for it."
    assert told(looking) == [(1, 1, "ANSWERED_FOR", answered)]
    answered = "Not acknowledged yet; client c (in its grace) answers for it."
    assert told(user(Standing.GRACE)) == [(1, 1, "ANSWERED_FOR", answered)]
    assert told(cursor_pos=5) == [(1, 1, "NOT_YET", "Presence has not come to it yet.")]
    pending = "The user is offline; the message is about to be decided."
    assert told() == [(1, 1, "PENDING", pending)]
    unfollowed = "The user did not follow the subject when it was published."
    assert told(user(base=1, acked=1)) == [(1, 1, "NOT_FOLLOWED", unfollowed)]


def test_what_is_said_of_headers_stands_behind_each_outcome_once():
    rows = [Decided(Span(2, 10, 40), "", "TRIMMED", 5.0)]
    said = {1: ["One."], 3: ["One.", "Two."], 4: ["Two."], 7: ["Three."]}
    first, rest = told(last=10, decided=rows, passed_over=said)
    assert first[3].endswith("about to be decided. One.")
    assert rest[3] == "Not sent: the log had trimmed it before it was decided. One. Two. Three."


def test_ranges_stand_among_single_messages_in_order():
    rows = [
        Decided(Span(2, 4, 40), "", "TRIMMED", 5.0),
        Decided(Span(6, 6, 60), "", "PUBLISHER", 5.0),
    ]
    assert [outcome[:3] for outcome in told(user(acked=5), 7, decided=rows)] == [
        (1, 1, "ACKNOWLEDGED"),
        (2, 4, "SUPPRESSED"),
        (5, 5, "ACKNOWLEDGED"),
        (6, 6, "SUPPRESSED"),
        (7, 7, "PENDING"),
    ]


def test_a_sent_notification_says_how_when_and_after_how_many_retries():
    tries = [Attempt("d", n, 10.0 * n, "email", "RETRY", 10.0 * n) for n in (1, 2)]
    tries.append(Attempt("d", 3, 30.0, "email", "ACCEPTED", 31.0))
    accepted = [sent(DeliveryState.ACCEPTED)]
    text = "Sent by mailto at 1970-01-01 00:00:31 UTC, after 2 retries."
    assert told(decided=[NOTIFIED], deliveries=accepted, attempts=tries) == [
        (1, 1, "NOTIFIED", text)
    ]


def test_one_held_back_says_by_whom():
    held = [sent(DeliveryState.PENDING, due_at=60.0, held=True)]
    text = "Held back from mailto, because client c answers for it."
    assert told(user(Standing.ONLINE), decided=[NOTIFIED], deliveries=held) == [
        (1, 1, "HELD", text)
    ]


def test_an_away_client_holds_nothing_back_and_its_standing_says_so():
    state = user(Standing.ONLINE)
    away = replace(state.registers["c"], away=True, since=20.0)
    busy = replace(state.registers["c"], client_id="b")
    other = Follow("/a", "b", 2, base=0, acked=0)
    state = replace(
        state,
        registers={"c": away, "b": busy},
        follows={**state.follows, other.key: other},
    )
    held = [sent(DeliveryState.PENDING, due_at=60.0, held=True)]
    text = "Held back from mailto, because client b answers for it."
    assert told(state, decided=[NOTIFIED], deliveries=held) == [(1, 1, "HELD", text)]
    facts = Facts("/a", state, 1, 0, {}, 0, [], {}, {})
    standings = {one.client_id: one for one in story(facts).clients}
    assert (standings["c"].away, standings["c"].since.seconds) == (True, 20)
    assert not standings["b"].away


def test_what_only_its_own_clients_silence_is_held_by_those_alone():
    state = user(Standing.ONLINE)
    other = Follow("/a", "b", 2, base=0, acked=0)
    uri = "mailto:ann@example.org"
    state = replace(
        state,
        registers={**state.registers, "b": replace(state.registers["c"], client_id="b")},
        follows={**state.follows, other.key: other},
        endpoints={uri: Endpoint(uri, ("b",), 0.0)},
    )
    held = [sent(DeliveryState.PENDING, due_at=60.0, held=True)]
    by_endpoint = Plan(policy=Policy.ENDPOINT)
    [(*_, text)] = told(state, decided=[NOTIFIED], deliveries=held, plan=by_endpoint)
    assert text == "Held back from mailto, because client b answers for it."


def test_a_notification_tells_its_plan_and_until_when():
    plan = Plan(policy=Policy.ENDPOINT, category="chat", priority=Priority.HIGH, quiet=Quiet.PASS)
    facts = Facts(
        "/a", user(), 1, 1, {1: 10}, 100, [NOTIFIED], {"n": [sent(DeliveryState.ACCEPTED)]}, {},
        plans={"n": plan},
    )  # fmt: skip
    [outcome] = story(facts).outcomes
    one = outcome.plan
    assert (one.policy, one.category, one.priority) == ("endpoint", "chat", "high")
    assert (one.quiet_hours, one.template, one.expires_at.seconds) == ("pass", "", 9_000_000_000)
    [undecided] = story(Facts("/a", user(), 1, 1, {1: 10}, 100, [], {}, {})).outcomes
    assert not undecided.HasField("plan")


def test_one_that_was_acknowledged_while_it_waited_says_that_nothing_will_be_sent():
    waits = [sent(DeliveryState.PENDING, due_at=60.0)]
    assert told(user(acked=1), decided=[NOTIFIED], deliveries=waits) == [
        (1, 1, "ACKNOWLEDGED", "Acknowledged by client c; nothing will be sent.")
    ]


def test_one_acknowledged_while_a_plugin_has_it_is_not_said_to_stay_unsent():
    sending = [sent(DeliveryState.SENDING)]
    [(*_, state, text)] = told(user(acked=1), decided=[NOTIFIED], deliveries=sending)
    assert state == "PENDING"
    assert text.startswith("Handed to the plugin for mailto")


def test_an_ended_follow_decides_nothing_more_once_it_is_handed_over():
    follow = Follow("/a", "c", 1, base=0, acked=0, ended=True)
    handed_over = UserState("ann", follows={follow.key: follow})
    assert told(handed_over)[0][2] == "NOT_FOLLOWED"
    handovers = {follow.key: Handover(follow.key, after=0, run=1)}
    assert told(replace(handed_over, handovers=handovers))[0][2] == "PENDING"


def test_one_that_no_plugin_serves_says_so():
    waits = [sent(DeliveryState.PENDING, due_at=60.0)]
    assert told(decided=[NOTIFIED], deliveries=waits, served=False) == [
        (1, 1, "PENDING", "Waiting: no plugin serves mailto.")
    ]


def test_one_that_waits_says_until_when():
    waits = [sent(DeliveryState.PENDING, due_at=60.0)]
    assert told(decided=[NOTIFIED], deliveries=waits) == [
        (1, 1, "PENDING", "To be sent by mailto from 1970-01-01 00:01:00 UTC on.")
    ]


def test_one_that_waits_for_more_says_so():
    waits = [sent(DeliveryState.PENDING, due_at=90.0)]
    text = "To be sent by mailto at 1970-01-01 00:01:30 UTC, with what else comes until then."
    assert told(decided=[NOTIFIED], deliveries=waits) == [(1, 1, "PENDING", text)]


def test_a_further_step_of_an_escalation_says_what_it_waits_for():
    first = sent(DeliveryState.ACCEPTED, id="f", uri="fcm:1")
    waits = sent(DeliveryState.PENDING, due_at=90.0, step=1)
    [(*_, state, text)] = told(decided=[NOTIFIED], deliveries=[first, waits])
    assert state == "NOTIFIED"
    assert "at 1970-01-01 00:01:30 UTC, unless it is known to have arrived before." in text


@pytest.mark.parametrize(
    ("reason", "words"),
    [("QUIET_HOURS", "the user's quiet hours"), ("RATE_CAPPED", "the cap on how many")],
)
def test_one_that_is_put_off_says_until_when_and_why(reason, words):
    waits = [sent(DeliveryState.PENDING, due_at=90.0, reason=reason)]
    [(*_, state, text)] = told(decided=[NOTIFIED], deliveries=waits)
    assert state == "DEFERRED"
    assert text.startswith(f"Put off until 1970-01-01 00:01:30 UTC by {words}")


def test_collapsed_messages_say_that_they_are_told_together():
    [(*_, text)] = told(decided=[NOTIFIED], deliveries=[sent(DeliveryState.ACCEPTED)], members=3)
    assert text.endswith("Told together with 2 other messages.")


def received(accepted_at: float, started: int) -> str:
    """How message 1 is told of, which client c acknowledged; it connected at 50."""
    state = user(acked=1)
    register = replace(state.registers["c"], connected_at=50.0, session_id="s")
    [(key, follow)] = state.follows.items()
    follow = replace(follow, session_id="s", started=started)
    state = replace(state, registers={"c": register}, follows={key: follow})
    [(*_, text)] = told(state, accepted_at=accepted_at)
    return text


def test_what_was_received_live_and_what_was_recovered_are_told_apart():
    assert received(60.0, started=0) == "Acknowledged by client c, received live."
    assert received(40.0, started=0) == (
        "Acknowledged by client c, recovered after it connected at 1970-01-01 00:00:50 UTC."
    )
    assert received(40.0, started=1) == "Acknowledged by client c.", "in a session before"


def test_an_acknowledgement_is_no_answer_where_it_silences_nobody():
    waits = [sent(DeliveryState.PENDING, due_at=60.0)]
    [(*_, state, _)] = told(user(acked=1), decided=[NOTIFIED], deliveries=waits)
    assert state == "ACKNOWLEDGED"
    always = Plan(policy=Policy.ALWAYS)
    [(*_, state, _)] = told(user(acked=1), decided=[NOTIFIED], deliveries=waits, plan=always)
    assert state == "PENDING"


@pytest.mark.parametrize(
    "reason",
    [
        "EXPIRED",
        "MUTED",
        "NO_ROUTE",
        "PREFERENCE",
        "QUIET_HOURS",
        "RATE_CAPPED",
        "PUBLISHER",
        "NO_ENDPOINT",
        "OPTED_OUT",
        "UNSUBSCRIBED",
        "REVOKED",
        "TRIMMED",
        "NOT_ENTITLED",
        "ENDPOINT_REMOVED",
        "ENDPOINT_MOVED",
        "ENDPOINT_GONE",
        "RECEIPTED",
    ],
)
def test_every_suppression_has_a_sentence_of_its_own(reason):
    [(*_, state, text)] = told(decided=[Decided(Span(1, 1, 10), "", reason, 50.0)])
    assert state == "SUPPRESSED"
    assert reason not in text


def test_the_ends_of_deliveries_are_told_apart():
    def state_of(state: DeliveryState, reason: str = "") -> str:
        [outcome] = told(decided=[NOTIFIED], deliveries=[sent(state, reason=reason)])
        return outcome[2]

    assert state_of(DeliveryState.FAILED, "ENDPOINT_GONE") == "FAILED"
    assert state_of(DeliveryState.DEAD) == "FAILED"
    assert state_of(DeliveryState.EXPIRED) == "FAILED"
    assert state_of(DeliveryState.UNKNOWN) == "UNKNOWN"
    assert state_of(DeliveryState.CANCELLED, "ACKNOWLEDGED") == "ACKNOWLEDGED"
    assert state_of(DeliveryState.CANCELLED, "ENDPOINT_REMOVED") == "SUPPRESSED"


def test_each_client_stands_with_its_newest_follow():
    old, new = Follow("/a", "c", 1, 0, 3, ended=True), Follow("/a", "c", 9, 5, 8)
    state = UserState("ann", follows={old.key: old, new.key: new})
    facts = Facts("/a", state, 1, 0, {}, 0, [], {}, {})
    [client] = story(facts).clients
    assert (client.base, client.acked, client.ended, client.state) == (5, 8, False, "offline")


def test_what_a_mark_speaks_for_is_acknowledged_in_the_standing_too():
    state = user(Standing.ONLINE)
    [(key, follow)] = state.follows.items()
    state = replace(
        state,
        follows={key: replace(follow, session_id="s", round=1)},
        marks={(7, "/a"): Mark(round=2, pos=20)},
    )
    facts = Facts("/a", state, 1, 3, {1: 10, 2: 20, 3: 30}, 100, [], {}, {})
    [client] = story(facts).clients
    assert client.acked == 2


def test_deliveries_are_told_in_the_order_in_which_they_are_used():
    second = sent(DeliveryState.PENDING, id="a", uri="apns:1", due_at=90.0, step=1)
    first = sent(DeliveryState.ACCEPTED, id="z", uri="fcm:1")
    facts = Facts("/a", user(), 1, 1, {1: 10}, 100, [NOTIFIED], {"n": [second, first]}, {})
    [outcome] = story(facts).outcomes
    assert [one.channel for one in outcome.deliveries] == ["fcm", "apns"]
