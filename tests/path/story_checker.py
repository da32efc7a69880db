"""Decides from a history, in one pass, whether what must hold for messages held. Pure.

It knows the promises and the history; it knows nothing of how they are kept. The rules that it
names: L1 accepted is kept, L2 one contiguous order, L3 one publication one seq, L5 a publisher's
order; D1 in order and once, D2 recovered and live are the log; N1 acknowledged, mailed or
suppressed, N2 mailed once, N3 nothing mailed that was known to be acknowledged.

A history is a list of events in order of time, each a dict with `event`, `at` (seconds) and:

    publish(publication, publisher, number, subject, text)      accepted(publication, subject, seq)
    refused(publication)                                        killed(service)
    subscribing(user, client, subject, after)                   unsubscribing(user, client, subject)
    subscribed(user, client, subject, seq, recovered)           endpoint(user, address)
    seen(client, subject, seq, text)      gap(client, subject, to)      synced(client, subject, seq)
    ack(user, client, subject, seq)       acknowledged(user, client, subject, seq): it was answered
    mail(address, id, count, texts)       told(user, subject, seqs): are acknowledged, says explain
    settled(user, client, subject, seq)   log(subject, floor, texts)    explained(user, subject,
        outcomes): at the end; an outcome has from, to, state, reason, and deliveries with id, state
        and attempts of at and outcome

`subscribing` and `ack` stand before the frame is sent; `subscribed`, `endpoint`, `acknowledged`
and `accepted` after its answer. Where the history leaves open what happened, nothing is claimed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]

# How long an acknowledgement that was answered may take to be known where it is asked for, while
# nothing is killed: a round of marks, and what a busy machine adds.
KNOWN_AFTER_S = 6.0
# An edge gives up a publish after 10 s. If its publisher has lost the connection by then, nobody
# reads that, and what was sent again in a later session may stand behind newer messages.
WAITED_S = 8.0
LISTED_MAX = 10  # a mail lists so many of its newest messages
_IN_DOUBT = frozenset({"UNKNOWN", "CALL_BROKEN", "CALL_TIMED_OUT", ""})


def check(history: Iterable[Event]) -> list[str]:
    """Every promise that the history breaks, as `L1: what happened`; empty: none."""
    story = _Story()
    for event in history:
        getattr(story, "on_" + event["event"])(event)
    story.finish()
    return story.broken


@dataclass(slots=True)
class _Follow:
    """One client's interest in one subject."""

    user: str
    client: str
    low: int  # its base is not below it
    base: int | None = None  # once a subscription was answered: its base is not above it
    acked: int = 0  # at most this was acknowledged
    end: int | None = None  # accepted messages above it may come after its end
    answered: list[tuple[float, int]] = field(default_factory=list)

    def may_cover(self, seq: int) -> bool:
        return self.low < seq <= self.acked

    def surely_follows(self, seq: int) -> bool:
        return self.base is not None and self.base < seq and (self.end is None or seq <= self.end)


@dataclass(slots=True)
class _Mail:
    address: str
    count: int
    texts: list[str]
    at: list[float]


class _Story:
    def __init__(self) -> None:
        self.broken: list[str] = []
        self._published: dict[str, Event] = {}
        self._published_at: dict[str, float] = {}  # by text
        self._publisher: dict[str, str] = {}  # by text
        self._refused: set[str] = set()
        self._seqs: dict[str, int] = {}  # publication: seq
        self._accepted: dict[tuple[str, int], str] = {}  # text by (subject, seq)
        self._head: Counter[str] = Counter()  # highest accepted seq so far
        self._last: dict[tuple[str, str], int] = {}  # (client, subject): position
        self._follows: dict[tuple[str, str], list[_Follow]] = defaultdict(list)
        self._by_user: dict[tuple[str, str], list[_Follow]] = defaultdict(list)
        self._seen: list[Event] = []
        self._endpoints: dict[str, dict[str, float]] = defaultdict(dict)
        self._mails: dict[str, _Mail] = {}
        self._mailed: dict[tuple[str, str], str] = {}  # (address, text): mail id
        self._kills: list[tuple[float, str]] = []
        self._told: dict[tuple[str, str, int], float] = {}
        self._logs: dict[str, dict[int, str]] = {}
        self._repeats: list[tuple[str, float]] = []
        self._deliveries: dict[str, Event] = {}
        self._explained: list[Event] = []
        self._settled: list[Event] = []

    def _break(self, rule: str, text: str) -> None:
        self.broken.append(f"{rule}: {text}")

    # Publishing.

    def on_publish(self, e: Event) -> None:
        self._published.setdefault(e["publication"], e)
        self._published_at.setdefault(e["text"], e["at"])
        self._publisher[e["text"]] = e["publisher"]

    def on_accepted(self, e: Event) -> None:
        publication, place = e["publication"], (e["subject"], e["seq"])
        text = self._published[publication]["text"]
        before = self._seqs.setdefault(publication, e["seq"])
        if before != e["seq"]:
            self._break("L3", f"{publication} was accepted as {before} and as {e['seq']}")
        if self._accepted.setdefault(place, text) != text:
            self._break("L2", f"{place} was given to {self._accepted[place]} and to {text}")
        if e["at"] - self._published[publication]["at"] > WAITED_S:
            self._refused.add(publication)
        self._head[e["subject"]] = max(self._head[e["subject"]], e["seq"])

    def on_refused(self, e: Event) -> None:
        # Those before and behind it may have been refused too, with answers that nobody read.
        publisher = self._published[e["publication"]]["publisher"]
        self._refused |= {
            one
            for one, publish in self._published.items()
            if publish["publisher"] == publisher and one not in self._seqs
        }

    def on_killed(self, e: Event) -> None:
        self._kills.append((e["at"], e["service"]))

    # Subscribing and receiving.

    def _open(self, e: Event) -> _Follow | None:
        follows = self._follows[e["client"], e["subject"]]
        return follows[-1] if follows and follows[-1].end is None else None

    def on_subscribing(self, e: Event) -> None:
        follow = self._open(e)
        if follow is None:
            follow = _Follow(e["user"], e["client"], self._head[e["subject"]])
            self._follows[e["client"], e["subject"]].append(follow)
            self._by_user[e["user"], e["subject"]].append(follow)
        if e["after"] is not None:
            key = (e["client"], e["subject"])
            if e["after"] > self._last.get(key, 0):
                self._break("D2", f"{key} claims {e['after']} after {self._last.get(key)}")
            self._last[key] = e["after"]
            follow.acked = max(follow.acked, e["after"])

    def on_subscribed(self, e: Event) -> None:
        follow, key = self._open(e), (e["client"], e["subject"])
        if follow is None:
            return
        if follow.base is None:
            follow.base = e["seq"]
        if not e["recovered"]:
            follow.acked = max(follow.acked, e["seq"])
            self._last[key] = e["seq"]

    def on_unsubscribing(self, e: Event) -> None:
        follow = self._open(e)
        if follow is not None:
            follow.end = self._head[e["subject"]]

    def on_seen(self, e: Event) -> None:
        key, seq = (e["client"], e["subject"]), e["seq"]
        last = self._last.get(key, 0)
        if seq <= last:
            self._break("D1", f"{key} got {seq} after {last}: twice, or out of order")
        elif seq > last + 1:
            self._break("D1", f"{key} got {seq} after {last}: a hole that was not announced")
        self._last[key] = max(last, seq)
        self._seen.append(e)

    def on_gap(self, e: Event) -> None:
        self._last[e["client"], e["subject"]] = e["to"]

    def on_synced(self, e: Event) -> None:
        last = self._last.get((e["client"], e["subject"]), 0)
        if last != e["seq"]:
            who = f"{e['client']} on {e['subject']}"
            self._break("D2", f"{who} is told to be synced at {e['seq']}, but has {last}")

    def on_settled(self, e: Event) -> None:
        self._settled.append(e)

    def on_ack(self, e: Event) -> None:
        follow = self._open(e)
        if follow is not None:
            follow.acked = max(follow.acked, e["seq"])

    def on_acknowledged(self, e: Event) -> None:
        follow = self._open(e)
        if follow is not None:
            follow.answered.append((e["at"], e["seq"]))

    # Notifying.

    def on_endpoint(self, e: Event) -> None:
        self._endpoints[e["user"]].setdefault(e["address"], e["at"])

    def on_mail(self, e: Event) -> None:
        known = self._mails.get(e["id"])
        if known is not None:
            known.at.append(e["at"])
            self._repeats.append((e["id"], e["at"]))
            return
        self._mails[e["id"]] = _Mail(e["address"], e["count"], e["texts"], [e["at"]])
        for text in e["texts"]:
            other = self._mailed.setdefault((e["address"], text), e["id"])
            if other != e["id"]:
                self._break("N2", f"{text} was mailed to {e['address']} as {other} and {e['id']}")

    def on_told(self, e: Event) -> None:
        for seq in e["seqs"]:
            self._told.setdefault((e["user"], e["subject"], seq), e["at"])

    def on_explained(self, e: Event) -> None:
        self._explained.append(e)
        for outcome in e["outcomes"]:
            for delivery in outcome["deliveries"]:
                self._deliveries[delivery["id"]] = delivery

    def on_log(self, e: Event) -> None:
        texts = {int(seq): text for seq, text in e["texts"].items()}
        self._logs[e["subject"]] = texts
        if sorted(texts) != list(range(e["floor"] + 1, e["floor"] + 1 + len(texts))):
            self._break("L2", f"{e['subject']} is not contiguous from {e['floor']}")
        for text, times in Counter(texts.values()).items():
            if times > 1:
                self._break("L3", f"{text} is in {e['subject']} {times} times")

    # The end.

    def finish(self) -> None:
        self._check_log()
        self._check_order()
        for e in self._seen:
            kept = self._logs.get(e["subject"], {}).get(e["seq"])
            if kept != e["text"]:
                place = f"{e['seq']} of {e['subject']}"
                self._break("L2", f"{e['client']} saw {e['text']} as {place}, the log has {kept}")
        for e in self._settled:
            head = max(self._logs.get(e["subject"], {}), default=0)
            if e["seq"] != head:
                who = f"{e['client']} on {e['subject']}"
                self._break("D2", f"{who} came to rest at {e['seq']}, the head is {head}")
        self._check_repeats()
        for e in self._explained:
            self._check_outcomes(e)

    def _check_log(self) -> None:
        for (subject, seq), text in self._accepted.items():
            kept = self._logs.get(subject, {}).get(seq)
            if kept != text:
                self._break("L1", f"{text} was accepted as {seq} of {subject}, there is {kept}")

    def _check_order(self) -> None:
        """A publisher's messages stand in the order in which they were sent."""
        numbers = {e["text"]: e for e in self._published.values()}
        for subject, texts in self._logs.items():
            last: dict[str, int] = {}
            for _, text in sorted(texts.items()):
                e = numbers.get(text)
                if e is None:
                    self._break("L1", f"{text} in {subject} was published by nobody")
                    continue
                if e["publication"] in self._refused:
                    continue  # it was sent again, later
                if e["number"] < last.get(e["publisher"], 0):
                    self._break("L5", f"{text} stands behind a later one in {subject}")
                last[e["publisher"]] = e["number"]

    def _check_repeats(self) -> None:
        for mail, at in self._repeats:
            attempts = self._deliveries.get(mail, {}).get("attempts", [])
            in_doubt = any(one["outcome"] in _IN_DOUBT for one in attempts)
            restarts = any(
                when <= at and who in ("presence", "notifier") for when, who in self._kills
            )
            if not in_doubt and not restarts:
                self._break("N2", f"the mail {mail} was sent again without a doubt")

    def _check_outcomes(self, e: Event) -> None:
        user, subject = e["user"], e["subject"]
        outcomes: dict[int, Event] = {}
        members: dict[str, list[int]] = defaultdict(list)
        for outcome in e["outcomes"]:
            for seq in range(outcome["from"], outcome["to"] + 1):
                outcomes[seq] = outcome
                if outcome["state"] == "NOTIFIED":
                    for delivery in outcome["deliveries"]:
                        members[delivery["id"]].append(seq)
        follows = self._by_user[user, subject]
        for seq in self._logs.get(subject, {}):
            if any(follow.surely_follows(seq) for follow in follows):
                self._check_one(user, subject, seq, outcomes.get(seq), follows)
        for delivery_id, seqs in members.items():
            self._check_mail(user, subject, delivery_id, sorted(seqs))

    def _check_one(
        self, user: str, subject: str, seq: int, outcome: Event | None, follows: list[_Follow]
    ) -> None:
        what = f"{user}, {seq} of {subject}"
        state, reason = (outcome["state"], outcome["reason"]) if outcome else ("unknown", "")
        acknowledged = any(follow.may_cover(seq) for follow in follows)
        if state == "ACKNOWLEDGED":
            if not acknowledged:
                self._break("N1", f"{what} is called acknowledged, but no client has said so")
        elif state == "SUPPRESSED" and reason == "PUBLISHER":
            if self._publisher.get(self._logs[subject][seq]) != user:
                self._break("N1", f"{what} was suppressed as the user's own")
        elif state == "SUPPRESSED":
            stays = [f for f in follows if f.surely_follows(seq) and f.end is None]
            if reason != "UNSUBSCRIBED" or stays:
                self._break("N1", f"{what} was suppressed ({reason}), but is followed")
        elif state == "NOTIFIED":
            assert outcome is not None
            self._check_notified(user, subject, seq, outcome, acknowledged)
            self._check_acknowledged_before(what, outcome, follows, (user, subject, seq))
        else:
            self._break("N1", f"{what} ends as {state} {reason}".rstrip())

    def _check_notified(
        self, user: str, subject: str, seq: int, outcome: Event, acknowledged: bool
    ) -> None:
        what = f"{user}, {seq} of {subject}"
        reached = set()
        for delivery in outcome["deliveries"]:
            mail = self._mails.get(delivery["id"])
            if mail is not None:
                reached.add(mail.address)
            elif delivery["state"] in ("accepted", "delivered"):
                self._break("N1", f"{what} is called notified by {delivery['id']}, never mailed")
        published = self._published_at.get(self._logs[subject][seq], 0.0)
        for address, since in self._endpoints[user].items():
            if since < published and address not in reached and not acknowledged:
                self._break("N1", f"{what} was not mailed to {address}")

    def _check_acknowledged_before(
        self, what: str, outcome: Event, follows: list[_Follow], key: tuple[str, str, int]
    ) -> None:
        claims = [d["attempts"][0]["at"] for d in outcome["deliveries"] if d["attempts"]]
        if not claims:
            return
        claimed = max(claims)
        if self._told.get(key, claimed) < claimed:
            self._break("N3", f"{what} was mailed after explain had called it acknowledged")
        for follow in follows:
            for at, upto in follow.answered:
                calm = not any(at - 0.5 <= when <= claimed for when, _ in self._kills)
                surely = follow.base is not None and follow.base < key[2] <= upto
                if surely and calm and claimed - at > KNOWN_AFTER_S:
                    late = f"{claimed - at:.1f} s after its acknowledgement was answered"
                    self._break("N3", f"{what} was mailed {late}")
                    return

    def _check_mail(self, user: str, subject: str, delivery_id: str, seqs: list[int]) -> None:
        """The mail of a delivery says what explain says of it."""
        mail = self._mails.get(delivery_id)
        if mail is None:
            return
        left_out = {seq for seq in seqs if self._may_be_left_out(user, subject, delivery_id, seq)}
        log = self._logs[subject]
        newest = [log.get(seq, "") for seq in seqs[-LISTED_MAX:] if seq not in left_out]
        fits = len(seqs) - len(left_out) <= mail.count <= len(seqs)
        if not fits or not set(newest) <= set(mail.texts):
            says = f"says {mail.count} and lists {mail.texts}"
            told = f"explain counts {len(seqs)}, the last {newest}"
            self._break("N1", f"{user} on {subject}: the mail {delivery_id} {says}; {told}")

    def _may_be_left_out(self, user: str, subject: str, delivery_id: str, seq: int) -> bool:
        """A retry leaves out what was acknowledged since the first try. A long backlog counts the
        user's own messages, and does not list them."""
        if self._publisher.get(self._logs[subject].get(seq, "")) == user:
            return True
        if len(self._deliveries[delivery_id]["attempts"]) < 2:
            return False
        return any(follow.may_cover(seq) for follow in self._by_user[user, subject])
