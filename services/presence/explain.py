"""Tells what became of each message for a user, in plain sentences.

Pure: takes what the log and the store say (`Facts`) and returns the answer. Names clients, channels
and reasons; never a whole token, never content.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from onward.presence.v1 import presence_pb2 as pb

from services.presence import cover
from services.presence.notifications import Delivery, DeliveryState
from services.presence.plan import DEFAULT_PLAN, Plan, Policy
from services.presence.receipts import Kind, Receipt
from services.presence.state import Follow, Message, Register, Standing, UserState
from services.presence.store_outbox import Attempt, Decided

State = pb.Outcome.State

_SENT = {DeliveryState.ACCEPTED, DeliveryState.DELIVERED}
_WAITING = (State.PENDING, State.HELD, State.DEFERRED)
_SUPPRESSED = {
    "PUBLISHER": "Not sent: the user published it.",
    "NO_ENDPOINT": "Not sent: the user had no external token.",
    "OPTED_OUT": "Not sent: none of the user's external tokens takes notifications.",
    "UNSUBSCRIBED": "Not sent: the user had unsubscribed.",
    "REVOKED": "Not sent: the user may not read the subject any more.",
    "TRIMMED": "Not sent: the log had trimmed it before it was decided.",
    "NOT_ENTITLED": "Not sent: the user may not read the subject any more.",
    "ENDPOINT_REMOVED": "Not sent: the external token was removed before.",
    "ENDPOINT_MOVED": "Not sent: another user registered the external token before.",
    "ENDPOINT_GONE": "Not sent: the provider had reported the external token gone.",
    "EXPIRED": "Not sent: it had expired before it was decided.",
    "MUTED": "Not sent: the user had muted the subject.",
    "NO_ROUTE": "Not sent: the user has no external token on a channel that is used for it.",
    "PREFERENCE": "Not sent: the user does not want this category on any channel there is.",
    "QUIET_HOURS": "Not sent: it came in the user's quiet hours, and is dropped then.",
    "RATE_CAPPED": "Not sent: the user had as many notifications on the channel as the cap allows.",
    "RECEIPTED": "Not sent: it had arrived on another channel before.",
}
# Why a delivery that was never tried waits, by its reason.
_DEFERRED = {
    "QUIET_HOURS": "the user's quiet hours",
    "RATE_CAPPED": "the cap on how many the user gets there",
    "ENTITLEMENT_UNKNOWN": "the entitlement hook, which gave no word",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a story is told from, for messages first to last of one subject."""

    subject: str
    state: UserState
    first: int
    last: int
    # Kept messages: seq to position in the subject's partition.
    positions: Mapping[int, int]
    # How far presence has come in that partition.
    cursor_pos: int
    decided: Sequence[Decided]
    # By notification id, and by delivery id.
    deliveries: Mapping[str, Sequence[Delivery]]
    attempts: Mapping[str, Sequence[Attempt]]
    # Whether a plugin serves a channel, and does not say that it is unable to.
    is_served: Callable[[str], bool] = lambda _: True
    is_serving: Callable[[str], bool] = lambda _: True
    # By delivery id.
    receipts: Mapping[str, Sequence[Receipt]] = field(default_factory=dict)
    # When kept messages were accepted, by seq.
    accepted: Mapping[int, float] = field(default_factory=dict)
    # How many messages a notification stands for, by its id.
    told: Mapping[str, int] = field(default_factory=dict)
    # Of each notification, by its id.
    plans: Mapping[str, Plan] = field(default_factory=dict)
    # What is to be said of headers of kept messages, by seq.
    passed_over: Mapping[int, Sequence[str]] = field(default_factory=dict)
    now: float = 0.0


def story(facts: Facts) -> pb.ExplainResponse:
    """The outcomes in order of seq, and how each client stands."""
    outcomes = _outcomes(facts)
    noted = sorted(facts.passed_over)
    for one in outcomes:
        within = noted[bisect_left(noted, one.from_seq) : bisect_right(noted, one.to_seq)]
        # The same is said once, of however many messages.
        said = dict.fromkeys(words for seq in within for words in facts.passed_over[seq])
        one.text = " ".join((one.text, *said))
    return pb.ExplainResponse(
        outcomes=outcomes,
        clients=[_standing(facts, follow) for follow in _newest_follows(facts.state)],
    )


def _outcomes(facts: Facts) -> list[pb.Outcome]:
    outcomes: list[pb.Outcome] = []
    rows = {row.span.to_seq: row for row in facts.decided}
    ends = sorted(rows)
    seq = facts.first
    while seq <= facts.last:
        while ends and ends[0] < seq:
            ends.pop(0)
        row = rows[ends[0]] if ends else None
        if row is not None and row.span.from_seq <= seq:
            outcomes.append(_of_row(facts, row))
            seq = row.span.to_seq + 1
        else:
            outcomes.append(_undecided(facts, seq))
            seq += 1
    return outcomes


# -- messages without a record -------------------------------------------------------------------


def _undecided(facts: Facts, seq: int) -> pb.Outcome:
    if seq not in facts.positions:
        return _outcome(seq, seq, State.NOT_FOUND, "", "The log does not have this message.")
    state = facts.state
    message = Message(facts.subject, seq, facts.positions[seq])
    follows = _by_client(state)
    covering = [follow for follow in follows if cover.covers(state, follow, message)]
    if covering:
        return _acknowledged(facts, seq, covering)
    answering = cover.answering(state, message)
    if answering:
        who = ", ".join(_who(state, follow) for follow in answering)
        text = f"Not acknowledged yet; {who} answers for it."
        return _outcome(seq, seq, State.ANSWERED_FOR, "", text)
    if message.pos > facts.cursor_pos:
        return _outcome(seq, seq, State.NOT_YET, "", "Presence has not come to it yet.")
    # An ended follow whose handover is done has nothing more to decide.
    open_to = (f for f in follows if not f.ended or f.key in state.handovers)
    if any(follow.base < seq for follow in open_to):
        text = "The user is offline; the message is about to be decided."
        return _outcome(seq, seq, State.PENDING, "", text)
    text = "The user did not follow the subject when it was published."
    return _outcome(seq, seq, State.NOT_FOLLOWED, "", text)


def _acknowledged(facts: Facts, seq: int, covering: Sequence[Follow]) -> pb.Outcome:
    """By whom, and whether it was received live or recovered, where the newest session tells."""
    text = f"Acknowledged by {_names(covering)}"
    word = ""
    accepted_at = facts.accepted.get(seq)
    for follow in covering:
        register = facts.state.registers.get(follow.client_id)
        if register is None or not register.connected_at or accepted_at is None:
            continue
        if seq <= follow.started or register.session_id != follow.session_id:
            continue  # It had been received before this session began.
        if accepted_at >= register.connected_at:
            return _outcome(seq, seq, State.ACKNOWLEDGED, "LIVE", f"{text}, received live.")
        word = "RECOVERED"
        text = (
            f"Acknowledged by {_names(covering)}, recovered after it connected at "
            f"{_time(register.connected_at)}"
        )
    return _outcome(seq, seq, State.ACKNOWLEDGED, word, f"{text}.")


# -- messages with a record ----------------------------------------------------------------------


def _of_row(facts: Facts, row: Decided) -> pb.Outcome:
    span = row.span
    if not row.notification_id:
        if row.reason == "ACKNOWLEDGED":
            text = "Acknowledged before the notification was sent, and taken out of it."
            return _outcome(span.from_seq, span.to_seq, State.ACKNOWLEDGED, "", text, row.at)
        text = _SUPPRESSED.get(row.reason, f"Not sent: {row.reason}.")
        return _outcome(span.from_seq, span.to_seq, State.SUPPRESSED, row.reason, text, row.at)
    # In the order in which they are used.
    deliveries = sorted(
        facts.deliveries.get(row.notification_id, ()), key=lambda one: (one.step, one.scheme)
    )
    state, reason, text = _notified(facts, deliveries)
    last = Message(facts.subject, span.to_seq, span.pos)
    acked_by = _names(f for f in _by_client(facts.state) if cover.covers(facts.state, f, last))
    sending = any(delivery.state is DeliveryState.SENDING for delivery in deliveries)
    silences = facts.plans.get(row.notification_id, DEFAULT_PLAN).policy is Policy.USER
    if acked_by and silences and not sending and state in _WAITING:
        # It is found when the delivery falls due; until then its row does not know.
        state, reason = State.ACKNOWLEDGED, ""
        text = f"Acknowledged by {acked_by}; nothing will be sent."
    others = facts.told.get(row.notification_id, span.count) - span.count
    if others > 0 and state is not State.ACKNOWLEDGED:
        text = f"{text} Told together with {_count(others, 'other message', 'other messages')}."
    outcome = _outcome(span.from_seq, span.to_seq, state, reason, text, row.at)
    outcome.notification_id = row.notification_id
    outcome.plan.CopyFrom(_plan(facts, row.notification_id))
    outcome.deliveries.extend(_delivery(facts, delivery) for delivery in deliveries)
    return outcome


def _notified(facts: Facts, deliveries: Sequence[Delivery]) -> tuple[State.ValueType, str, str]:
    """State, reason and sentence of a notification: its most hopeful delivery speaks for it."""
    text = " ".join(_sentence(facts, delivery) for delivery in deliveries)
    if any(delivery.state in _SENT for delivery in deliveries):
        return State.NOTIFIED, "", text
    waiting = [d for d in deliveries if d.due_at is not None or d.state is DeliveryState.SENDING]
    if waiting:
        if all(delivery.held for delivery in waiting):
            return State.HELD, "", text
        if not any(facts.is_served(delivery.scheme) for delivery in waiting):
            return State.PENDING, "NO_CHANNEL", text
        reason = waiting[0].reason
        if all(_is_deferred(delivery) for delivery in waiting):
            return State.DEFERRED, reason, text
        if not any(facts.is_serving(delivery.scheme) for delivery in waiting):
            return State.PENDING, "PLUGIN_NOT_SERVING", text
        return State.PENDING, reason, text
    if any(delivery.state is DeliveryState.UNKNOWN for delivery in deliveries):
        return State.UNKNOWN, "", text
    reason = deliveries[0].reason if deliveries else ""
    if all(delivery.state is DeliveryState.CANCELLED for delivery in deliveries):
        if reason == "ACKNOWLEDGED":
            return State.ACKNOWLEDGED, "", text
        return State.SUPPRESSED, reason, text
    return State.FAILED, reason, text


def _sentence(facts: Facts, delivery: Delivery) -> str:
    opened = _receipt(facts, delivery, Kind.OPENED)
    told = f" Opened at {_time(opened.at)}." if opened else ""
    return _fate(facts, delivery) + told


def _fate(facts: Facts, delivery: Delivery) -> str:
    channel = delivery.scheme or "an unknown channel"
    attempts = facts.attempts.get(delivery.id, ())
    retries = f", after {_count(len(attempts) - 1, 'retry', 'retries')}" if attempts[1:] else ""
    ended = _time(attempts[-1].ended_at or attempts[-1].at) if attempts else ""
    match delivery.state:
        case DeliveryState.ACCEPTED:
            return f"Sent by {channel} at {ended}{retries}."
        case DeliveryState.DELIVERED:
            arrived = _receipt(facts, delivery, Kind.DELIVERED, Kind.OPENED)
            at = _time(arrived.at) if arrived else ended
            return f"Delivered by {channel} at {at}{retries}."
        case DeliveryState.SENDING:
            return f"Handed to the plugin for {channel} at {ended}, which has not answered yet."
        case DeliveryState.FAILED if delivery.reason == "DROPPED":
            return f"Given up by {channel}{retries}, and dropped by an operator."
        case DeliveryState.FAILED:
            failed = _receipt(facts, delivery, Kind.FAILED, Kind.ENDPOINT_GONE)
            at = _time(failed.at) if failed else ended
            return f"Failed by {channel} at {at}{retries}: {delivery.reason}."
        case DeliveryState.DEAD:
            return f"Given up by {channel} at {ended}{retries}: {delivery.reason}."
        case DeliveryState.EXPIRED:
            return f"Expired before it could be sent by {channel}{retries}."
        case DeliveryState.CANCELLED if delivery.reason == "ACKNOWLEDGED":
            return f"Not sent by {channel}: acknowledged before."
        case DeliveryState.CANCELLED:
            told = _SUPPRESSED.get(delivery.reason, f"Not sent: {delivery.reason}.")
            return told.replace("Not sent", f"Not sent by {channel}", 1)
        case DeliveryState.UNKNOWN if delivery.due_at is None:
            return f"It is unknown whether it was sent by {channel}; it is not repeated there."
    return _waiting_sentence(facts, delivery, channel, attempts)


def _is_deferred(delivery: Delivery) -> bool:
    return not delivery.held and delivery.due_at is not None and delivery.reason in _DEFERRED


def _waiting_sentence(
    facts: Facts, delivery: Delivery, channel: str, attempts: Sequence[Attempt]
) -> str:
    if delivery.held:
        names = _names(_holding(facts, delivery))
        return f"Held back from {channel}, because {names or 'a client'} answers for it."
    if not facts.is_served(delivery.scheme):
        return f"Waiting: no plugin serves {channel}."
    due = _time(delivery.due_at or 0.0)
    if _is_deferred(delivery):
        return f"Put off until {due} by {_DEFERRED[delivery.reason]}; then sent by {channel}."
    if not attempts and delivery.step:
        return f"To be sent by {channel} at {due}, unless it is known to have arrived before."
    if not attempts and (delivery.due_at or 0.0) > facts.now:
        return f"To be sent by {channel} at {due}, with what else comes until then."
    if not facts.is_serving(delivery.scheme):
        return f"Waiting: the plugin for {channel} says that it does not serve now."
    if not attempts:
        return f"To be sent by {channel} from {due} on."
    if delivery.reason == "REPLAYED":
        return f"To be sent again by {channel} from {due} on, as an operator asked."
    tried = _count(len(attempts), "try", "tries")
    return f"To be tried again by {channel} from {due} on, after {tried}: {delivery.reason}."


def _holding(facts: Facts, delivery: Delivery) -> Iterable[Follow]:
    """The follows whose clients may hold the delivery back."""
    plan = facts.plans.get(delivery.notification_id, DEFAULT_PLAN)
    endpoint = facts.state.endpoints.get(delivery.uri)
    heard = cover.voices(facts.state, plan.policy, endpoint.clients if endpoint else ())
    for follow in _by_client(heard):
        register = heard.registers.get(follow.client_id)
        if register is None or register.standing is Standing.OFFLINE:
            continue
        if not follow.ended and not register.away:
            yield follow


def _receipt(facts: Facts, delivery: Delivery, *kinds: Kind) -> Receipt | None:
    """The first receipt of one of these kinds."""
    receipts = facts.receipts.get(delivery.id, ())
    return next((one for one in receipts if one.kind in kinds), None)


# -- parts of the answer -------------------------------------------------------------------------


def _outcome(
    first: int, last: int, state: State.ValueType, reason: str, text: str, at: float | None = None
) -> pb.Outcome:
    outcome = pb.Outcome(from_seq=first, to_seq=last, state=state, reason=reason, text=text)
    if at is not None:
        outcome.at.FromNanoseconds(int(at * 1e9))
    return outcome


def _plan(facts: Facts, notification_id: str) -> pb.PlanStory:
    plan = facts.plans.get(notification_id, DEFAULT_PLAN)
    told = pb.PlanStory(
        policy=plan.policy.value,
        category=plan.category,
        priority=plan.priority.name.lower(),
        quiet_hours=plan.quiet.value,
        template=plan.template,
    )
    for delivery in facts.deliveries.get(notification_id, ()):
        # All of a notification have the same.
        told.expires_at.FromNanoseconds(int(delivery.expires_at * 1e9))
        break
    return told


def _reason(facts: Facts, delivery: Delivery) -> str:
    if delivery.state is DeliveryState.SENDING:
        return ""  # An early word is not a reason yet.
    waits = delivery.due_at is not None and not delivery.held
    if waits and not delivery.reason and not facts.is_served(delivery.scheme):
        return "NO_CHANNEL"
    return delivery.reason


def _delivery(facts: Facts, delivery: Delivery) -> pb.DeliveryStory:
    told = pb.DeliveryStory(
        delivery_id=delivery.id,
        channel=delivery.scheme,
        state=delivery.state.value,
        reason=_reason(facts, delivery),
    )
    if delivery.due_at is not None:
        told.due_at.FromNanoseconds(int(delivery.due_at * 1e9))
    for attempt in facts.attempts.get(delivery.id, ()):
        one = told.attempts.add(outcome=attempt.outcome, detail=attempt.detail)
        one.at.FromNanoseconds(int(attempt.at * 1e9))
    for receipt in facts.receipts.get(delivery.id, ()):
        kept = told.receipts.add(kind=receipt.kind.value, detail=receipt.detail)
        kept.at.FromNanoseconds(int(receipt.at * 1e9))
    return told


def _by_client(state: UserState) -> list[Follow]:
    return sorted(state.follows.values(), key=lambda follow: follow.client_id)


def _newest_follows(state: UserState) -> list[Follow]:
    newest: dict[str, Follow] = {}
    for follow in sorted(state.follows.values(), key=lambda follow: follow.opened):
        newest[follow.client_id] = follow
    return [newest[client_id] for client_id in sorted(newest)]


def _standing(facts: Facts, follow: Follow) -> pb.ClientStanding:
    state = facts.state
    # Of what a mark alone speaks for, only positions are known: those of the messages told of.
    marked = (
        seq
        for seq, pos in facts.positions.items()
        if cover.covers(state, follow, Message(facts.subject, seq, pos))
    )
    register = state.registers.get(follow.client_id)
    return pb.ClientStanding(
        client_id=follow.client_id,
        state=_stands(state, follow).value,
        generation=register.generation if register else 0,
        base=follow.base,
        acked=max((follow.acked, *marked)),
        ended=follow.ended,
        active=register is not None and register.active,
        away=_is_away(register),
        since=_timestamp(register.since) if register else None,
        grace_until=_timestamp(register.grace_until)
        if register and register.standing is Standing.GRACE
        else None,
    )


def _stands(state: UserState, follow: Follow) -> Standing:
    register = state.registers.get(follow.client_id)
    return register.standing if register else Standing.OFFLINE


def _is_away(register: Register | None) -> bool:
    return register is not None and register.away


def _who(state: UserState, follow: Follow) -> str:
    """A client that answers, and whether a person looks at it."""
    register = state.registers[follow.client_id]
    if register.standing is Standing.GRACE:
        return f"client {follow.client_id} (in its grace)"
    place = "foreground" if register.active else "background"
    return f"client {follow.client_id} (online, in the {place})"


def _timestamp(at: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(int(at * 1e9))
    return stamp


def _names(follows: Iterable[Follow]) -> str:
    names = dict.fromkeys(follow.client_id for follow in follows)
    return ", ".join(f"client {name}" for name in names)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
