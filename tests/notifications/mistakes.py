"""Mistakes that the stories must find: each makes presence break a promise, if rarely.

A run that finds none of them in its seeds has not looked. Each is a patch of the code under trial,
in force while it is entered.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

from services.presence import (
    answers,
    claims,
    cover,
    decision,
    endpoint_rows,
    escalation,
    handover,
    outbox,
    placing,
    processing,
    profile,
    routing,
)
from services.presence.crowd_rows import CrowdRows
from services.presence.endpoint_rows import EndpointRows
from services.presence.notifications import Answer, Outcome
from services.presence.outbox_rows import OutboxTables
from services.presence.plan import Policy, Priority, Quiet
from services.presence.profile_rows import ProfileTables
from services.presence.timers import Timers
from services.presence.user_rows import OneUserRows
from tests.simulation.presence_mistakes import (
    cursor_on_its_own,
    dead_edges_overlooked,
    doubt_is_repeated,
    handovers_are_forgotten,
    no_check_at_send,
    nothing_is_taken_over,
)

Made = Callable[[], Any]


def _made(name: str, *targets: tuple[Any, str, Any]) -> tuple[str, Made]:
    """A mistake of the name: each attribute replaced."""

    @contextmanager
    def made() -> Iterator[None]:
        patches = [patch.object(*target) for target in targets]
        for one in patches:
            one.start()
        try:
            yield
        finally:
            for one in patches:
                one.stop()

    return name, made


# -- what a user wants -----------------------------------------------------------------------------


def _recheck_with(change: Callable[[Any, Any], tuple[Any, Any]]) -> Any:
    recheck = claims.recheck

    def changed(subject: str, channel: str, plan: Any, wish: Any, *rest: Any) -> Any:
        plan, wish = change(plan, wish)
        return recheck(subject, channel, plan, wish, *rest)

    return changed


def _decide_with(**changes: Any) -> Any:
    decide = outbox.decide

    def changed(facts: Any) -> Any:
        of_profile = {n: v for n, v in changes.items() if hasattr(facts.profile, n)}
        of_facts = {n: v for n, v in changes.items() if n not in of_profile}
        return decide(replace(facts, profile=replace(facts.profile, **of_profile), **of_facts))

    return changed


def _moment_by_noon(wall: Any, zone: ZoneInfo) -> float:
    noon = (wall + timedelta(hours=12)).replace(tzinfo=zone)
    return float((wall - noon.utcoffset() - profile.datetime(1970, 1, 1)).total_seconds())


def _late_wake(limit: float) -> Any:
    return lambda self, used_up_to, now: self.after(used_up_to, now) <= now + limit * self.per_s


# -- who silences it -------------------------------------------------------------------------------


def _planned_as(was: Policy, becomes: Policy) -> Any:
    plan = routing.Routing.plan

    def changed(self: Any, subject: str, headers: Any = routing._NOTHING) -> Any:
        found = plan(self, subject, headers)
        return replace(found, policy=becomes) if found.policy is was else found

    return changed


def _answers_though_away(state: Any, follow: Any, message: Any) -> bool:
    if follow.ended or follow.subject != message.subject or follow.base >= message.seq:
        return False
    register = state.registers.get(follow.client_id)
    return register is not None and register.standing is not cover.Standing.OFFLINE


def _answers_without_base(state: Any, follow: Any, message: Any) -> bool:
    if follow.ended or follow.subject != message.subject:
        return False
    register = state.registers.get(follow.client_id)
    return (
        register is not None
        and not register.away
        and register.standing is not cover.Standing.OFFLINE
    )


def _marked_in_any_round(state: Any, follow: Any) -> int:
    register = state.registers.get(follow.client_id)
    if follow.ended or register is None or register.ended or register.away:
        return 0
    mark = state.marks.get((register.edge_id, follow.subject))
    return 0 if mark is None or follow.session_id != register.session_id else mark.pos


def _followers_without_ended() -> Any:
    load = OneUserRows.load_followers

    def changed(self: Any, users: Any, subject: str) -> Any:
        return {
            user: replace(state, follows={k: f for k, f in state.follows.items() if not f.ended})
            for user, state in load(self, users, subject).items()
        }

    return changed


# -- how it is placed ------------------------------------------------------------------------------


def _place_with(change: Callable[[Any], Any], last_sent: bool = True) -> Any:
    place = outbox.place

    def changed(arrival: Any, joinable: Any, sent_at: Any, now: float, limits: Any) -> Any:
        return place(change(arrival), joinable, sent_at if last_sent else None, now, limits)

    return changed


def _steps_at_once() -> Any:
    place = outbox.place

    def changed(*arguments: Any) -> Any:
        placed = place(*arguments)
        if isinstance(placed, placing.Begin):
            due_at = placed.notification.due_at
            placed = replace(
                placed, deliveries=tuple(replace(d, due_at=due_at) for d in placed.deliveries)
            )
        return placed

    return changed


def _judge_unexpired() -> Any:
    judge = claims._judge

    def changed(tx: Any, delivery: Any, rows: Any, rules: Any) -> Any:
        return judge(tx, replace(delivery, expires_at=tx.now() + 1e6), rows, rules)

    return changed


# -- what is written -------------------------------------------------------------------------------


def _forgotten(self: Any, *_: Any, **__: Any) -> None:
    """Nothing is written."""


def _gone_whenever(self: Any, user: str, uri: str, _: float) -> bool:
    return bool(remove_gone(self, user, uri, self.now() + 1.0))


remove_gone = EndpointRows.remove_gone_endpoint


def _accepted_unless_said() -> Any:
    of_response = answers.of_response

    def changed(response: Any, asked: Any) -> Any:
        said = {one.delivery_id for one in response.results}
        found = of_response(response, asked)
        return found | {own_id: Answer(Outcome.ACCEPTED) for own_id in asked if own_id not in said}

    return changed


def _one_page() -> Any:
    decide = processing.Processing._decide

    def changed(self: Any, tx: Any, fanout: Any, users: Any, news: Any) -> None:
        decide(self, tx, fanout, users, news)
        tx.drop_fanout(fanout.subject, fanout.seq)

    return changed


async def _never_idle(self: Any) -> float:
    return 60.0


MISTAKES: dict[str, Made] = dict(
    (
        _made("mutes_ignored_at_send", (claims, "recheck", _recheck_with(
            lambda plan, wish: (plan, replace(wish, mutes=()))))),
        _made("quiet_hours_ignored_at_send", (claims, "recheck", _recheck_with(
            lambda plan, wish: (plan, replace(wish, quiet=None)))),
            (decision, "_quiet_until", lambda facts: 0.0)),
        _made("preferences_ignored_at_send", (claims, "recheck", _recheck_with(
            lambda plan, wish: (replace(plan, allowed=True, silent=()),
                                replace(wish, preferences=()))))),
        _made("urgent_waits", (claims, "recheck", _recheck_with(
            lambda plan, wish: (replace(plan, priority=Priority.NORMAL), wish)))),
        _made("quiet_hours_pass_for_drop", (claims, "recheck", _recheck_with(
            lambda plan, wish: (replace(plan, quiet=Quiet.DEFER), wish)))),
        _made("mutes_ignored_when_decided", (outbox, "decide", _decide_with(mutes=()))),
        _made("own_messages_told", (outbox, "decide", _decide_with(publisher=None))),
        _made("zones_ignored", (profile, "zone_of", lambda name: ZoneInfo("UTC"))),
        _made("clock_changes_ignored", (profile, "_moment", _moment_by_noon)),
        _made("rates_not_counted", (ProfileTables, "put_paces", _forgotten)),
        _made("rates_one_too_many", (routing.Cap, "allows", _late_wake(1.5))),
        _made("expiry_not_read", (routing, "_moment", lambda text: None)),
        _made("always_as_user", (routing.Routing, "plan", _planned_as(Policy.ALWAYS, Policy.USER))),
        _made("endpoint_as_user", (claims, "voices", lambda state, policy, _: state)),
        _made("endpoint_as_always",
              (routing.Routing, "plan", _planned_as(Policy.ENDPOINT, Policy.ALWAYS))),
        _made("away_clients_answer", (cover, "answers", _answers_though_away)),
        _made("nobody_is_away", (Timers, "_idle", _never_idle)),
        _made("no_base", (cover, "answers", _answers_without_base)),
        _made("marks_of_any_round", (cover, "marked_pos", _marked_in_any_round)),
        _made("marks_ignored", (cover, "marked_pos", lambda state, follow: 0)),
        _made("ended_follows_forgotten",
              (OneUserRows, "load_followers", _followers_without_ended())),
        _made("new_follows_find_nothing",
              (processing, "backlog_of_new_follows", lambda effects, pos: [])),
        _made("ends_not_handed_over", (handover, "_decide_ended", lambda *_: [])),
        _made("receipts_ignored", (claims, "settled_as", lambda delivery, siblings: "")),
        _made("steps_at_once", (outbox, "place", _steps_at_once()),
              (claims, "wait_until", lambda *_: None), (claims, "postponed", lambda *_: [])),
        _made("next_step_not_hastened", (escalation, "_NOT_SENT", set()),),
        _made("digests_ignored", (outbox, "place", _place_with(
            lambda arrival: replace(arrival, plan=replace(arrival.plan, digest_s=0.0))))),
        _made("nothing_collapses", (outbox, "place", _place_with(lambda a: a, last_sent=False))),
        _made("joins_what_was_sent", (OutboxTables, "close_notifications", _forgotten)),
        _made("sent_though_expired", (claims, "_judge", _judge_unexpired())),
        _made("opting_out_forgotten", (EndpointRows, "opt_out", _forgotten)),
        _made("gone_whenever_registered", (EndpointRows, "remove_gone_endpoint", _gone_whenever)),
        _made("tokens_stay_with_both", (endpoint_rows, "moves", lambda uri: False),
              (processing, "moves", lambda uri: False)),
        _made("silence_is_acceptance", (answers, "of_response", _accepted_unless_said())),
        _made("only_one_page_of_a_crowd", (processing.Processing, "_decide", _one_page())),
        _made("cursors_of_crowds_forgotten", (CrowdRows, "put_fanout", _forgotten)),
    )
)  # fmt: skip
MISTAKES |= {
    made.__name__: made
    for made in (
        no_check_at_send,
        doubt_is_repeated,
        nothing_is_taken_over,
        handovers_are_forgotten,
        dead_edges_overlooked,
        cursor_on_its_own,
    )
}
