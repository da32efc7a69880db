"""Writes what cores decided, inside a transaction: rows of users, decisions, notifications.

Knows which effect goes where, and asks `decision` and `placing` about messages that are due.
Must not know logs, timers or plugins. To drive it: `Outbox(…).write(tx, user, effects, …)` with the
effects of one core call in their order; then, after the commit, act on the `News` it returns.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from onward.types.v1 import entry_pb2

from services.presence import metrics, state
from services.presence.decision import Due, Facts, decide
from services.presence.notifications import Limits, Span
from services.presence.placing import Arrival, Begin, place
from services.presence.plan import DEFAULT_PLAN, Plan
from services.presence.profile import NO_PROFILE, Profile
from services.presence.store import Transaction
from services.presence.store_outbox import Decided

# One page of what was decided before in a range; ranges are read page by page.
_PAGE = 1_000
_NONE: frozenset[str] = frozenset()


@dataclass(slots=True)
class News:
    """What others should look at after the commit."""

    # Something may be due on any channel; or on these.
    deliveries: bool = False
    schemes: set[str] = field(default_factory=set)
    graces: bool = False
    handovers: bool = False
    fanouts: bool = False
    # Messages that somebody is likely to be notified of soon.
    messages: list[entry_pb2.Message] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose message it is, and how it is to be notified."""

    # None for the rest of a long backlog, whose publishers are not looked up.
    publisher: str | None = None
    plan: Plan = DEFAULT_PLAN
    # One for a crowd of more than one page.
    bulk: bool = False


UNKNOWN_ORIGIN = Origin()


class Outbox:
    """Records decisions. The settings give its limits and the window of suppressions."""

    def __init__(self, limits: Limits, suppression_window_s: float) -> None:
        self._limits = limits
        self._window_s = suppression_window_s

    def write(
        self,
        tx: Transaction,
        user: str,
        effects: Sequence[state.Effect],
        origin_of: Callable[[int], Origin] = lambda _: UNKNOWN_ORIGIN,
        news: News | None = None,
    ) -> News:
        """Write the effects in their order. `origin_of(seq)` tells of a message that is due."""
        news = news or News()
        for effect in effects:
            match effect:
                case state.Notify(subject, seq, pos):
                    span = Span(seq, seq, pos)
                    self.notify(tx, user, subject, span, origin_of(seq), news)
                case state.Suppress(subject, from_seq, to_seq, reason):
                    for span in undecided(tx, user, subject, Span(from_seq, to_seq, 0)):
                        self._suppress(tx, user, subject, span, reason.value)
                case _:
                    tx.write_user(user, effect)
                    news.graces |= isinstance(effect, state.ScheduleGrace)
                    news.handovers |= isinstance(effect, state.PutHandover)
                    news.deliveries |= isinstance(effect, state.Wake)
        return news

    def notify(
        self, tx: Transaction, user: str, subject: str, due: Span, origin: Origin, news: News
    ) -> None:
        """Decide messages that are due as far as presence goes; those decided before stay so, but
        for what was suppressed because a follow of them had ended: a follow that began meanwhile
        has them, and presence had not come to it yet."""
        for span in undecided(tx, user, subject, due):
            self._decide(tx, [user], subject, span, origin, news)
        for row in _unsubscribed(tx, user, subject, due):
            part = overlap(due, row.span)
            tx.replace_decided(
                user, subject, row, [replace(row, span=one) for one in rest(row.span, part)]
            )
            self._decide(tx, [user], subject, part, origin, news)

    def notify_all(
        self,
        tx: Transaction,
        users: Sequence[str],
        subject: str,
        due: Span,
        origin: Origin,
        news: News,
    ) -> None:
        """As `notify`, of one message, for many users at once: few statements for all of them."""
        decided_before = tx.decided_users(users, subject, due.to_seq)
        left = [user for user in users if user not in decided_before]
        self._decide(tx, left, subject, due, origin, news)
        for user, reason in decided_before.items():
            if reason == state.Reason.UNSUBSCRIBED.value:
                self.notify(tx, user, subject, due, origin, news)

    def _decide(
        self,
        tx: Transaction,
        users: Sequence[str],
        subject: str,
        span: Span,
        origin: Origin,
        news: News,
    ) -> None:
        """Decide one span for users for whom it is undecided."""
        if not users:
            return
        uris_of, profiles = tx.uris_of(users), tx.profiles(users)
        due: list[tuple[str, Due]] = []
        for user in users:
            decided = decide(_facts(tx, user, subject, origin, uris_of, profiles))
            if isinstance(decided, Due):
                due.append((user, decided))
            else:
                self._suppress(tx, user, subject, span, decided.reason)
        if due:
            named = (
                {user: profiles[user].categories() for user in profiles} if origin.plan.free else {}
            )
            self._place(tx, due, subject, span, origin, news, named)

    def _place(
        self,
        tx: Transaction,
        due: Sequence[tuple[str, Due]],
        subject: str,
        span: Span,
        origin: Origin,
        news: News,
        named: Mapping[str, frozenset[str]],
    ) -> None:
        """Have these users notified at these endpoints. `named`: categories that preferences of
        users name, where that matters."""
        users = {user: named.get(user, _NONE) for user, _ in due}
        joinables = tx.joinables(users, subject, origin.plan)
        last_sent = tx.last_sent(list(users), subject)
        log_id, now = tx.log_id(), tx.now()
        begun: list[Begin] = []
        replanned: dict[str, Plan] = {}
        decided: list[tuple[str, Decided]] = []
        for user, where in due:
            arrival = Arrival(
                log_id,
                user,
                subject,
                span.from_seq,
                where.uris,
                origin.plan,
                where.not_before,
                origin.bulk,
                users[user],
            )
            placed = place(arrival, joinables.get(user), last_sent.get(user), now, self._limits)
            if isinstance(placed, Begin):
                begun.append(placed)
                own_id = placed.notification.id
            else:
                own_id = placed.notification_id
                if placed.plan is not None:
                    replanned[own_id] = placed.plan
            decided.append((user, Decided(span, own_id, "", now)))
        deliveries = [delivery for one in begun for delivery in one.deliveries]
        news.schemes.update(delivery.scheme for delivery in deliveries)
        tx.begin_all([one.notification for one in begun], deliveries)
        tx.put_plans(replanned)
        tx.put_all_decided(subject, decided)
        metrics.notifications.inc(len(begun))
        metrics.decisions.labels("DUE").inc(span.count * len(due))

    def _suppress(self, tx: Transaction, user: str, subject: str, span: Span, reason: str) -> None:
        tx.put_decided(user, subject, Decided(span, "", reason, tx.now()))
        tx.suppress(user, subject, reason, span, self._window_s)
        metrics.decisions.labels(reason).inc(span.count)


def _facts(
    tx: Transaction,
    user: str,
    subject: str,
    origin: Origin,
    uris_of: Mapping[str, Mapping[str, bool]],
    profiles: Mapping[str, Profile],
) -> Facts:
    uris = uris_of.get(user, {})
    return Facts(
        user,
        origin.publisher,
        tuple(uris),
        frozenset(uri for uri, opted_out in uris.items() if opted_out),
        subject,
        origin.plan,
        profiles.get(user, NO_PROFILE),
        tx.now(),
    )


def _unsubscribed(tx: Transaction, user: str, subject: str, due: Span) -> list[Decided]:
    """Suppressions in the span, of messages of a follow that had ended."""
    found: list[Decided] = []
    first = due.from_seq
    while first <= due.to_seq:
        page = tx.decided_in(user, subject, first, due.to_seq, _PAGE)
        found += [
            row
            for row in page
            if row.reason == state.Reason.UNSUBSCRIBED.value and not row.notification_id
        ]
        if len(page) < _PAGE:
            break
        first = page[-1].span.to_seq + 1
    return found


def overlap(due: Span, row: Span) -> Span:
    """What is due of a row's span. Rows of suppressions know no position; that of the last message
    that is due is right, or too high, which at worst leaves a mark unused."""
    return Span(max(due.from_seq, row.from_seq), min(due.to_seq, row.to_seq), due.pos)


def rest(whole: Span, part: Span) -> list[Span]:
    """What is left of a span without a part of it."""
    parts = (
        Span(whole.from_seq, part.from_seq - 1, whole.pos),
        Span(part.to_seq + 1, whole.to_seq, whole.pos),
    )
    return [one for one in parts if one.count > 0]


def undecided(tx: Transaction, user: str, subject: str, span: Span) -> Iterator[Span]:
    """The parts of `span` that nothing was decided of, in order."""
    first = span.from_seq
    while first <= span.to_seq:
        page = tx.decided_in(user, subject, first, span.to_seq, _PAGE)
        for row in page:
            if first < row.span.from_seq:
                # The position of its last message is not known; that of the whole stands above.
                yield Span(first, row.span.from_seq - 1, span.pos)
            first = row.span.to_seq + 1
        if len(page) < _PAGE:
            break
    if first <= span.to_seq:
        yield Span(first, span.to_seq, span.pos)
