"""N1, N2, N3, P2: what a user did not acknowledge becomes one notification. Pure.

Keeps the follows of users and the mails; asks `check_log` about messages. What became of each
message is told at the end, by `explained`, and held against what clients said and mails show.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.check_log import LogRules

Event = dict[str, Any]

# How long an acknowledgement that was answered may take to be known where it is asked for, while
# nothing is broken: a round of marks, and what a busy machine adds.
KNOWN_AFTER_S = 6.0
LISTED_MAX = 10  # a mail lists so many of its newest messages
ANSWERED_MAX = 5_000  # answered acknowledgements kept per follow; older ones prove nothing then
_IN_DOUBT = frozenset({"UNKNOWN", "CALL_BROKEN", "CALL_TIMED_OUT", ""})
_SENT = frozenset({"accepted", "delivered"})


@dataclass(slots=True)
class Follow:
    """One client's interest in one subject."""

    low: int  # its base is not below it
    base: int | None = None  # once a subscription was answered: its base is not above it
    acked: int = 0  # at most this was acknowledged
    end: int | None = None  # accepted messages above it may come after its end
    answered: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=ANSWERED_MAX))

    def may_cover(self, seq: int) -> bool:
        return self.low < seq <= self.acked

    def surely_follows(self, seq: int) -> bool:
        return self.base is not None and self.base < seq and (self.end is None or seq <= self.end)


@dataclass(slots=True)
class Mail:
    """A mail as it first came."""

    address: str
    count: int
    texts: list[str]
    last_texts: list[str]  # as it came last, if it was sent again


@dataclass(slots=True)
class Place:
    """A user and a subject."""

    user: str
    subject: str
    follows: list[Follow]

    def __str__(self) -> str:
        return f"{self.user} on {self.subject}"

    def may_be_acknowledged(self, seq: int) -> bool:
        return any(follow.may_cover(seq) for follow in self.follows)


class NoticeRules:
    """Follows, mails, and what explain tells."""

    def __init__(self, log: LogRules, broken: Callable[[str, str], None]) -> None:
        self._log = log
        self._break = broken
        self._follows: dict[tuple[str, str], list[Follow]] = defaultdict(list)  # client, subject
        self._places: dict[tuple[str, str], Place] = {}  # user, subject
        self._endpoints: dict[str, dict[str, float]] = defaultdict(dict)
        self._mails: dict[str, Mail] = {}
        self._mailed: dict[tuple[str, str], str] = {}  # (address, text): mail id
        self._repeats: list[str] = []
        self._faults: list[float] = []
        # Ranges that explain called acknowledged, with the time when it first did.
        self._told: dict[tuple[str, str], list[tuple[float, int, int]]] = defaultdict(list)
        self._deliveries: dict[str, str] = {}  # id: "doubt" if an outcome of it is in doubt
        self.checked = 0  # messages of users that were decided upon

    # -- following ----------------------------------------------------------------------------

    def _open(self, e: Event) -> Follow | None:
        follows = self._follows[e["client"], e["subject"]]
        return follows[-1] if follows and follows[-1].end is None else None

    def on_subscribing(self, e: Event) -> None:
        follow = self._open(e)
        if follow is None:
            follow = Follow(self._log.subject(e["subject"]).accepted_head)
            self._follows[e["client"], e["subject"]].append(follow)
            self._place(e["user"], e["subject"]).follows.append(follow)
        if e["after"] is not None:
            follow.acked = max(follow.acked, e["after"])

    def on_subscribed(self, e: Event) -> None:
        follow = self._open(e)
        if follow is None:
            return
        if follow.base is None:
            follow.base = e["seq"]
        if not e["recovered"]:
            follow.acked = max(follow.acked, e["seq"])

    def on_unsubscribing(self, e: Event) -> None:
        follow = self._open(e)
        if follow is not None:
            follow.end = self._log.subject(e["subject"]).accepted_head

    def on_ack(self, e: Event) -> None:
        follow = self._open(e)
        if follow is not None:
            follow.acked = max(follow.acked, e["seq"])

    def on_acknowledged(self, e: Event) -> None:
        follow = self._open(e)
        if follow is not None:
            follow.answered.append((e["at"], e["seq"]))

    def on_endpoint(self, e: Event) -> None:
        self._endpoints[e["user"]].setdefault(e["address"], e["at"])

    # -- sending ------------------------------------------------------------------------------

    def on_fault(self, e: Event) -> None:
        self._faults.append(e["at"])

    def on_disturbed(self, e: Event) -> None:
        self._faults.append(e["at"])

    def on_mail(self, e: Event) -> None:
        if e["id"] in self._mails:
            self._repeats.append(e["id"])
            self._mails[e["id"]].last_texts = e["texts"]
            return
        self._mails[e["id"]] = Mail(e["address"], e["count"], e["texts"], e["texts"])
        for text in e["texts"]:
            other = self._mailed.setdefault((e["address"], text), e["id"])
            if other != e["id"]:
                self._break("N2", f"{text} was mailed to {e['address']} as {other} and {e['id']}")

    def on_told(self, e: Event) -> None:
        self._told[e["user"], e["subject"]] += [(e["at"], low, high) for low, high in e["ranges"]]

    # -- what became of everything ------------------------------------------------------------

    def on_explained(self, e: Event) -> None:
        place = self._place(e["user"], e["subject"])
        head = self._log.subject(place.subject).log_head or 0
        outcomes: dict[int, Event] = {}
        members: dict[str, list[int]] = defaultdict(list)
        for outcome in e["outcomes"]:
            for delivery in outcome["deliveries"]:
                self._note_delivery(delivery)
            for seq in range(outcome["from"], outcome["to"] + 1):
                if seq in outcomes:
                    self._break("P2", f"{place}: {seq} has two outcomes")
                outcomes[seq] = outcome
                if outcome["state"] == "NOTIFIED":
                    for delivery in outcome["deliveries"]:
                        members[delivery["id"]].append(seq)
        for seq in range(max(1, e["first"]), head + 1):
            if any(follow.surely_follows(seq) for follow in place.follows):
                self.checked += 1
                self._check_one(place, seq, outcomes.get(seq))
        for delivery_id, seqs in members.items():
            if min(seqs) > e["first"]:  # else the first of it may not have been told
                self._check_mail(place, delivery_id, sorted(seqs))

    def _note_delivery(self, delivery: Event) -> None:
        doubt = any(one["outcome"] in _IN_DOUBT for one in delivery["attempts"])
        retried = len(delivery["attempts"]) > 1
        self._deliveries[delivery["id"]] = "doubt" if doubt else "retried" if retried else ""

    def _check_one(self, place: Place, seq: int, outcome: Event | None) -> None:
        what = f"{place}, {seq}"
        state, reason = (outcome["state"], outcome["reason"]) if outcome else ("unknown", "")
        acknowledged = place.may_be_acknowledged(seq)
        if state == "ACKNOWLEDGED":
            if not acknowledged:
                self._break("N1", f"{what} is called acknowledged, but no client has said so")
        elif state == "SUPPRESSED" and reason == "PUBLISHER":
            if self._log.publisher(place.subject, seq) != place.user:
                self._break("N1", f"{what} was suppressed as the user's own")
        elif state == "SUPPRESSED":
            stays = [f for f in place.follows if f.surely_follows(seq) and f.end is None]
            if reason != "UNSUBSCRIBED" or stays:
                self._break("N1", f"{what} was suppressed ({reason}), but is followed")
        elif state == "NOTIFIED":
            assert outcome is not None
            self._check_notified(place, seq, outcome, acknowledged)
            self._check_acknowledged_before(place, seq, outcome)
        else:
            self._break("N1", f"{what} ends as {state} {reason}".rstrip())

    def _check_notified(self, place: Place, seq: int, outcome: Event, acknowledged: bool) -> None:
        reached = set()
        for delivery in outcome["deliveries"]:
            mail = self._mails.get(delivery["id"])
            if mail is not None:
                reached.add(mail.address)
            elif delivery["state"] in _SENT:
                text = f"{place}, {seq} is called notified by {delivery['id']}, never mailed"
                self._break("N1", text)
        sent_at = self._log.sent_at(place.subject, seq)
        for address, since in self._endpoints[place.user].items():
            if since < sent_at and address not in reached and not acknowledged:
                self._break("N1", f"{place}, {seq} was not mailed to {address}")

    def _check_acknowledged_before(self, place: Place, seq: int, outcome: Event) -> None:
        claims = [at for d in outcome["deliveries"] if (at := self._claimed(place, seq, d))]
        if not claims:
            return
        claimed = max(claims)
        for at, low, high in self._told[place.user, place.subject]:
            if low <= seq <= high and at < claimed:
                text = f"{place}, {seq} was mailed after explain had called it acknowledged"
                self._break("N3", text)
                return
        for follow in place.follows:
            for at, upto in follow.answered:
                surely = follow.base is not None and follow.base < seq <= upto
                if surely and claimed - at > KNOWN_AFTER_S and self._calm(at - 0.5, claimed):
                    late = f"{claimed - at:.1f} s after its acknowledgement was answered"
                    self._break("N3", f"{place}, {seq} was mailed {late}")
                    return

    def _claimed(self, place: Place, seq: int, delivery: Event) -> float | None:
        """When a delivery was claimed with this message in it: the last time that is sure."""
        attempts, mail = delivery["attempts"], self._mails.get(delivery["id"])
        if not attempts:
            return None
        again = mail is not None and self._log.text(place.subject, seq) in mail.last_texts
        # A retry leaves out what was acknowledged meanwhile; what it lists it was claimed with.
        return float(attempts[-1 if again and delivery["state"] in _SENT else 0]["at"])

    def _calm(self, begin: float, end: float) -> bool:
        return not any(begin <= at <= end for at in self._faults)

    def _check_mail(self, place: Place, delivery_id: str, seqs: Sequence[int]) -> None:
        """The mail of a delivery says what explain says of it."""
        mail = self._mails.get(delivery_id)
        if mail is None:
            return
        left_out = {seq for seq in seqs if self._may_be_left_out(place, delivery_id, seq)}
        newest = {self._log.text(place.subject, seq) for seq in seqs[-LISTED_MAX:]
                  if seq not in left_out}  # fmt: skip
        says = f"{place}: the mail {delivery_id} says {mail.count} and lists {mail.texts}"
        told = f"explain counts {len(seqs)}, the last {sorted(map(str, newest))}"
        if mail.count > len(seqs):
            self._break("P2", f"{says}; {told}")
        elif mail.count < len(seqs) - len(left_out) or not newest <= set(mail.texts):
            self._break("N1", f"{says}; {told}")

    def _may_be_left_out(self, place: Place, delivery_id: str, seq: int) -> bool:
        """A retry leaves out what was acknowledged since the first try. A long backlog counts the
        user's own messages, and does not list them."""
        if self._log.publisher(place.subject, seq) == place.user:
            return True
        return bool(self._deliveries[delivery_id]) and place.may_be_acknowledged(seq)

    # -- the end ------------------------------------------------------------------------------

    def finish(self) -> None:
        """A mail came again only where its outcome was in doubt."""
        for mail in self._repeats:
            if self._deliveries.get(mail) != "doubt":
                self._break("N2", f"the mail {mail} was sent again without a doubt")

    def _place(self, user: str, subject: str) -> Place:
        return self._places.setdefault((user, subject), Place(user, subject, []))
