"""Decides whether presence did what it must: N1, N2, N3, P2. Pure; part of `checker`.

What is recorded, beside what `checker` names; what the store notes comes in the order of commits:

    acks(who, user, positions): a client said so, which may not have come to anybody
    token(user, uri): registered, and answered           there(who): online at the end
    reported(partition, pos, entry)                      cursor(partition, pos)
    term(term, name)  term_closed(term)  taken(partition, epoch, term): term 0 lets it go
    commit(who, term): before what it changed; term 0 for a term that begins
    known(user, subject, base, acked): a follow's acknowledgements, as committed
    claimed(delivery, attempt, user, subject): to be sent, as committed
    handed(delivery, attempt, uri, user, subject, first, last, count, seqs, repeats): to the
        plugin; `repeats`: what is in doubt may be sent again on this channel
    answered(delivery, attempt, outcome): by the plugin; who asked may not have heard it
    fault(what), killed(who)
    at the end: decided(user, subject, first, last, notification, reason)
                delivery(delivery, notification, user, subject, uri, state, reason)
                attempt(delivery, attempt, outcome)
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

Record = Mapping[str, Any]
KINDS = ("acks", "token", "there", "reported", "cursor", "term", "term_closed", "taken", "commit",
         "known", "claimed", "handed", "answered", "fault", "killed", "decided", "delivery",
         "attempt")  # fmt: skip
_IN_DOUBT = frozenset({"UNKNOWN", "CALL_BROKEN", "CALL_TIMED_OUT", ""})
_HANDED = frozenset({"accepted", "unknown", "dead", "delivered"})  # ends behind a call


class PresenceRules:
    """Takes records in order; `finish` looks at what became of every message."""

    def __init__(self, broken: Callable[[str, str], None]) -> None:
        self._break = broken
        self._bases: dict[str, dict[str, tuple[str, int]]] = defaultdict(dict)  # subject: who
        self._acks: dict[tuple[str, str], int] = defaultdict(int)
        self._tokens: dict[str, dict[str, int]] = defaultdict(dict)  # user: uri: heads known then
        self._there: set[str] = set()
        self._tails: dict[int, int] = defaultdict(int)
        self._entries: dict[tuple[int, int], bytes] = {}
        self._cursors: dict[int, int] = defaultdict(int)
        self._reported: set[tuple[int, int]] = set()
        # Terms and partitions.
        self._open: dict[int, str] = {}
        self._holders: dict[int, tuple[int, int]] = {}  # partition: epoch and term
        # Deliveries.
        self._known: dict[tuple[str, str], set[tuple[int, int]]] = defaultdict(set)
        self._claims: dict[tuple[str, int], set[tuple[int, int]]] = {}
        self._handed: dict[str, list[Record]] = defaultdict(list)
        self._told: dict[tuple[str, str, int], str] = {}  # uri, subject, seq: delivery
        self._answers: dict[tuple[str, int], str] = {}
        self._outcomes: dict[tuple[str, int], str] = {}
        self._faults = False
        self._decided: dict[tuple[str, str], list[Record]] = defaultdict(list)
        self._deliveries: dict[str, list[Record]] = defaultdict(list)  # by notification
        self.checked = 0  # messages of users that were not acknowledged, and were decided

    # The log, as `checker` sees it.

    def on_append(self, r: Record) -> None:
        for pos, _, _, entry in r["rows"]:
            self._tails[r["partition"]] = pos
            self._entries[r["partition"], pos] = entry

    def on_subscribed(self, r: Record) -> None:
        who, subject = r["who"], r["subject"]
        self._bases[subject].setdefault(who, (r.get("user", who), r["seq"]))
        if not r["recovered"]:
            self._ack(who, subject, r["seq"])

    # What clients said.

    def on_acks(self, r: Record) -> None:
        for subject, seq in r["positions"].items():
            self._ack(r["who"], subject, seq)

    def _ack(self, who: str, subject: str, seq: int) -> None:
        self._acks[who, subject] = max(seq, self._acks[who, subject])

    def on_token(self, r: Record) -> None:
        self._tokens[r["user"]].setdefault(r["uri"], 0)

    def on_there(self, r: Record) -> None:
        self._there.add(r["who"])

    # What presence was told, and how far it says it came.

    def on_reported(self, r: Record) -> None:
        p, pos = r["partition"], r["pos"]
        self._reported.add((p, pos))
        if self._entries.get((p, pos)) != r["entry"]:
            self._break("L2", f"presence was told another entry {pos} of {p} than the log has")

    def on_cursor(self, r: Record) -> None:
        p, pos = r["partition"], r["pos"]
        if pos < self._cursors[p]:
            self._break("P2", f"presence took {pos} of {p} after {self._cursors[p]}")
        if pos > self._tails[p]:
            self._break("P2", f"presence took {pos} of {p}, which ends at {self._tails[p]}")
        passed = range(self._cursors[p] + 1, pos + 1)
        if any((p, one) not in self._reported for one in passed):
            self._break("P2", f"presence passed over entries of {p} before {pos}, never told them")
        self._cursors[p] = pos

    # Terms: whoever takes a partition that was not let go closes the term that has it.

    def on_term(self, r: Record) -> None:
        self._open = {term: name for term, name in self._open.items() if name != r["name"]}
        self._open[r["term"]] = r["name"]

    def on_term_closed(self, r: Record) -> None:
        self._open.pop(r["term"], None)

    def on_taken(self, r: Record) -> None:
        p, term = r["partition"], r["term"]
        epoch, before = self._holders.get(p, (0, 0))
        if term and r["epoch"] <= epoch:
            self._break("P2", f"{p} of presence was taken in {r['epoch']} after {epoch}")
        if term and before not in (0, term):
            self._open.pop(before, None)
        self._holders[p] = (r["epoch"], term)

    def on_commit(self, r: Record) -> None:
        if r["term"] and r["term"] not in self._open:
            self._break("P2", f"{r['who']} committed in term {r['term']}, which is closed")

    # Sending.

    def on_known(self, r: Record) -> None:
        self._known[r["user"], r["subject"]].add((r["base"], r["acked"]))

    def on_claimed(self, r: Record) -> None:
        known = set(self._known[r["user"], r["subject"]])
        self._claims[r["delivery"], r["attempt"]] = known

    def on_handed(self, r: Record) -> None:
        own_id, attempt = r["delivery"], r["attempt"]
        what = f"{r['subject']} to {r['uri']}"
        claim = self._claims.get((own_id, attempt))
        if claim is None:
            self._break("P2", f"{what} was sent as {own_id}, {attempt}, and never claimed")
        for seq in r["seqs"]:
            if any(base < seq <= acked for base, acked in claim or ()):
                self._break("N3", f"{seq} of {what} was known to be acknowledged when claimed")
            other = self._told.setdefault((r["uri"], r["subject"], seq), own_id)
            if other != own_id:
                self._break("N2", f"{seq} of {what} was sent as {other} and {own_id}")
        self._handed[own_id].append({**r, "faults": self._faults})

    def on_answered(self, r: Record) -> None:
        self._answers[r["delivery"], r["attempt"]] = r["outcome"]

    def on_fault(self, _: Record) -> None:
        self._faults = True

    def on_killed(self, _: Record) -> None:
        self._faults = True

    # What became of it.

    def on_decided(self, r: Record) -> None:
        self._decided[r["user"], r["subject"]].append(r)

    def on_delivery(self, r: Record) -> None:
        self._deliveries[r["notification"]].append(r)

    def on_attempt(self, r: Record) -> None:
        self._outcomes[r["delivery"], r["attempt"]] = r["outcome"]

    def finish(self, log: Mapping[str, Sequence[str]], users: Mapping[str, str]) -> None:
        """`log`: the texts of each subject; `users`: whose clients publish."""
        for own_id, calls in self._handed.items():
            self._check_repeats(own_id, calls)
        for subject, follows in self._bases.items():
            for user in sorted({user for user, _ in follows.values()}):
                own = {who: base for who, (of, base) in follows.items() if of == user}
                for seq, text in enumerate(log.get(subject, ()), 1):
                    followers = [who for who, base in own.items() if base < seq]
                    if followers:
                        publisher = users.get(text.rpartition("#")[0])
                        self._check_one(user, subject, seq, followers, publisher)

    def _check_repeats(self, own_id: str, calls: Sequence[Record]) -> None:
        """A further try needs one before it that was refused, or in doubt. A call that was claimed
        before may be made later, by who was stopped meanwhile."""
        for former, call in pairwise(sorted(calls, key=lambda call: int(call["attempt"]))):
            attempt = former["attempt"]
            what = f"{own_id} to {call['uri']}"
            if call["attempt"] == attempt:
                self._break("N2", f"{what} was sent twice as {attempt}")
            elif not call["repeats"] and self._answers.get((own_id, attempt)) != "RETRY":
                self._break("N2", f"{what} was sent again after {attempt}, which may have come")
            elif self._answers.get((own_id, attempt)) == "ACCEPTED":
                doubt = self._outcomes.get((own_id, attempt), "") in _IN_DOUBT
                if not doubt or not call["faults"]:
                    self._break("N2", f"{what} was sent again after {attempt} was accepted")

    def _check_one(
        self, user: str, subject: str, seq: int, followers: Sequence[str], publisher: str | None
    ) -> None:
        what = f"{seq} of {subject} for {user}"
        acked = any(self._acks[who, subject] >= seq for who in followers)
        found = [r for r in self._decided[user, subject] if r["first"] <= seq <= r["last"]]
        if len(found) > 1:
            self._break("N1", f"{what} was decided {len(found)} times")
        if not found:
            if not acked and not self._there.intersection(followers):
                self._break("N1", f"{what} was neither acknowledged nor decided")
            return
        self.checked += 1
        notification, reason = found[0]["notification"], found[0]["reason"]
        if notification:
            self._check_notified(what, user, seq, notification, acked)
        elif reason == "PUBLISHER":
            if publisher != user:
                self._break("N1", f"{what} was suppressed as the user's own")
        elif reason == "ACKNOWLEDGED":
            if not acked:
                self._break("N1", f"{what} is called acknowledged, and nobody said so")
        elif reason != "NO_ENDPOINT" or self._tokens[user]:
            self._break("N1", f"{what} was suppressed ({reason})")

    def _check_notified(
        self, what: str, user: str, seq: int, notification: str, acked: bool
    ) -> None:
        deliveries = self._deliveries[notification]
        missing = set(self._tokens[user]) - {r["uri"] for r in deliveries}
        if missing:
            self._break("N1", f"{what} goes to nobody at {sorted(missing)}")
        for r in deliveries:
            calls = self._handed[r["delivery"]]
            told = any(call["first"] <= seq <= call["last"] for call in calls)
            if r["state"] == "cancelled":
                if not acked:
                    self._break("N1", f"{what} was cancelled ({r['reason']})")
            elif r["state"] not in _HANDED:
                self._break("N1", f"{what} is {r['state']} at the end")
            elif r["state"] == "accepted" and not told and not acked:
                self._break("N1", f"{what} was never told to the plugin")
