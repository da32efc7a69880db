"""Decides from a history, in one pass, whether what must hold for messages held. Pure.

It knows the promises and the history; it knows nothing of how they are kept, and imports nothing
that keeps them. The rules that it names: L1 accepted is kept, L2 one contiguous order, L3 one
publication one seq, L4 terms of ownership in order, L5 a publisher's order (`check_log`); D1 in
order and once, D2 recovered and live are the log (`check_readers`); N1 acknowledged, notified or
suppressed, N2 notified once, N3 nothing sent that was known to be acknowledged, P2 every entry took
effect once (`check_notices`).

A history is a stream of events in order of time, each with `event`, `at` (seconds) and:

    publish(publisher, number, subject): is about to be sent    refused(publisher, number, code)
    accepted(publisher, number, subject, seq)                   unknown(publisher, numbers)
    subscribing(user, client, subject, after)                   unsubscribing(user, client, subject)
    subscribed(user, client, subject, seq, recovered, reason, asked)  endpoint(user, address)
    seen(client, subject, seq, text)     gap(client, subject, to)      synced(client, subject, seq)
    ack(user, client, subject, seq)      acknowledged(user, client, subject, seq): it was answered
    mail(address, id, count, texts)      told(user, subject, ranges): are acknowledged, says explain
    fault(fault, service): injected       settled(user, client, subject, seq)
    disturbed(): the fault lasts         partition(partition, runs): of the store, at the end: its
        entries in order, as runs of (first pos, last pos, epoch)
    log(subject, floor, after, texts): a page of the log at the end, in order
    explained(user, subject, first, outcomes): at the end, of the messages from `first` on, after
        the log; an outcome has from, to, state, reason, and deliveries with id, state and attempts
        of at and outcome

The text of a message is `<publisher>#<number>`, which is its publication id too; a publisher's
numbers begin with 1 and rise. `subscribing`, `ack` and `publish` stand before the frame is sent;
`subscribed`, `endpoint`, `acknowledged` and `accepted` after its answer. Other events are remarks
for people (`REMARKS`). Where the history leaves open what happened, nothing is claimed.

In memory stand a few bytes per message (who published it, where it is, when it was sent), and
otherwise what grows with subjects, users and mails.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from tests.faults.check_log import LogRules
from tests.faults.check_notices import NoticeRules
from tests.faults.check_readers import ReaderRules

Event = dict[str, Any]
# Told for whoever reads a history, or tallies it.
REMARKS = frozenset(
    {"run", "connected", "disconnected", "unknown", "output", "done_to", "stuck", "turned_away",
     "turned_down", "told_else", "surprised", "up_again", "settled_down", "going_away",
     "injected", "in_effect", "healed", "recorded", "moved"}
)  # fmt: skip
SHOWN_MAX = 1_000  # breaches of a rule beyond this are counted only


class Broken:
    """The promises found broken: `counts` by rule, and the first of each in words."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.lines: list[str] = []

    def add(self, rule: str, text: str) -> None:
        """A breach of a rule."""
        self.counts[rule] += 1
        if self.counts[rule] <= SHOWN_MAX:
            self.lines.append(f"{rule}: {text}")


class Checker:
    """Takes events in order of time; `finish` after the last."""

    def __init__(self) -> None:
        self.broken = Broken()
        self.log = LogRules(self.broken.add)
        self.readers = ReaderRules(self.log, self.broken.add)
        self.notices = NoticeRules(self.log, self.broken.add)
        self._takers: dict[str, list[Callable[[Event], None]]] = {name: [] for name in REMARKS}
        for part in (self.log, self.readers, self.notices):
            for name in dir(part):
                if name.startswith("on_"):
                    self._takers.setdefault(name[3:], []).append(getattr(part, name))

    def take(self, event: Event) -> None:
        """The next event. Raises KeyError for one that is not known."""
        for taker in self._takers[event["event"]]:
            taker(event)

    def finish(self) -> Broken:
        """What was found, in all."""
        for part in (self.log, self.readers, self.notices):
            part.finish()
        return self.broken


def check(history: Iterable[Event]) -> list[str]:
    """Every promise that the history breaks, as `L1: what happened`; empty: none."""
    checker = Checker()
    for event in history:
        checker.take(event)
    return checker.finish().lines
