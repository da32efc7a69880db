"""Decides from what was recorded whether what must hold held. Pure; knows none of what is tried.

What is recorded, in order, each with `at`:

    claim(partition, epoch, owner)       append(partition, epoch, rows): as the database took them;
                                         a row is (pos, subject, seq, entry), the text in the entry
    publish(who, user, number, subject)        accepted(who, number, subject, seq)
    refused(who, numbers): their order is open from now on
    subscribed(who, session, subject, seq, recovered, asked)
    seen(who, session, subject, seq, text, epoch)     gap(who, session, subject, to)
    what `check_presence` names
    broken(who, fault): a process ended by a fault that is none of its promises

The text of a message is `<who>#<number>`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.simulation import check_presence
from tests.simulation.check_presence import PresenceRules

Record = Mapping[str, Any]
_KINDS = ("claim", "append", "publish", "accepted", "refused", "subscribed", "seen", "gap",
          "broken")  # fmt: skip


class Checker:
    """Takes records in order; `finish` tells the breaches, as `L1: what happened`."""

    def __init__(self, text_of: Callable[[bytes], str]) -> None:
        """`text_of` gives the text in a serialised entry."""
        self.broken: list[str] = []
        self._text_of = text_of
        self._claimed: dict[int, int] = {}  # partition: newest epoch
        self._tails: dict[int, int] = {}
        self._log: dict[str, list[str]] = {}  # subject: texts, from seq 1
        self._published: dict[str, str] = {}  # text: subject
        self._open: set[str] = set()
        self._accepted: dict[str, int] = {}
        self._positions: dict[tuple[str, int, str], int] = {}
        self._seen: list[tuple[str, str, int, str]] = []
        self._users: dict[str, str] = {}  # of clients who published
        self._presence = PresenceRules(self._break)

    def check(self, records: Iterable[Record]) -> list[str]:
        """Every breach of the records."""
        takers = {kind: getattr(self, f"_on_{kind}") for kind in _KINDS}
        rules = self._presence
        others = {kind: getattr(rules, f"on_{kind}") for kind in check_presence.KINDS}
        for record in records:
            if record["event"] in takers:
                takers[record["event"]](record)
            elif record["event"] in others:
                others[record["event"]](record)
        self._finish()
        return self.broken

    def _break(self, rule: str, text: str) -> None:
        self.broken.append(f"{rule}: {text}")

    # The log.

    def _on_claim(self, r: Record) -> None:
        p, epoch = r["partition"], r["epoch"]
        if epoch <= self._claimed.get(p, 0):
            self._break("L4", f"{p} was claimed in {epoch} after {self._claimed[p]}")
        self._claimed[p] = epoch

    def _on_append(self, r: Record) -> None:
        p, epoch = r["partition"], r["epoch"]
        if epoch != self._claimed.get(p):
            claimed = self._claimed.get(p)
            self._break("L4", f"an append to {p} in {epoch}, claimed in {claimed}")
        for pos, subject, seq, entry in r["rows"]:
            if pos != self._tails.get(p, 0) + 1:
                self._break("L2", f"pos {pos} of {p} follows {self._tails.get(p, 0)}")
            self._tails[p] = pos
            if subject is not None:
                log = self._log.setdefault(subject, [])
                if seq != len(log) + 1:
                    self._break("L2", f"seq {seq} of {subject} follows {len(log)}")
                log.append(self._text_of(entry))
        self._presence.on_append(r)

    # Publishers.

    def _on_publish(self, r: Record) -> None:
        self._published[f"{r['who']}#{r['number']}"] = r["subject"]
        self._users[r["who"]] = r.get("user", r["who"])

    def _on_accepted(self, r: Record) -> None:
        text, seq = f"{r['who']}#{r['number']}", r["seq"]
        if self._accepted.setdefault(text, seq) != seq:
            self._break("L3", f"{text} was accepted as {self._accepted[text]} and {seq}")
        log = self._log.get(r["subject"], [])
        if seq > len(log) or log[seq - 1] != text:
            self._break("L1", f"{text}, accepted as {seq} of {r['subject']}, is not there")

    def _on_refused(self, r: Record) -> None:
        self._open.update(f"{r['who']}#{number}" for number in r["numbers"])

    # Readers.

    def _on_subscribed(self, r: Record) -> None:
        at, seq, asked = (r["who"], r["session"], r["subject"]), r["seq"], r["asked"]
        if asked is not None and not r["recovered"]:
            self._break("D2", f"{at} asked for {asked} and was told {r['reason']}, {seq}")
        self._positions[at] = asked if r["recovered"] and asked is not None else seq
        self._presence.on_subscribed(r)

    def _on_seen(self, r: Record) -> None:
        at, seq = (r["who"], r["session"], r["subject"]), r["seq"]
        before = self._positions.get(at)
        if before is None:
            self._break("D1", f"{at} has not subscribed, and sees {seq}")
        elif seq != before + 1:
            self._break("D1", f"{at} sees {seq} after {before}")
        self._positions[at] = seq
        self._seen.append((r["who"], r["subject"], seq, r["text"]))

    def _on_gap(self, r: Record) -> None:
        self._positions[r["who"], r["session"], r["subject"]] = r["to"]

    # Processes.

    def _on_broken(self, r: Record) -> None:
        self._break("fault", f"{r['who']} ended by {r['fault']}")

    # The end.

    def _finish(self) -> None:
        self._presence.finish(self._log, self._users)
        for subject, texts in self._log.items():
            places: dict[str, int] = {}
            newest: dict[str, int] = {}
            for seq, text in enumerate(texts, 1):
                if self._published.get(text) != subject:
                    self._break("L1", f"{text} in {subject} was never published there")
                if text in places:
                    self._break("L3", f"{text} is {places[text]} and {seq} of {subject}")
                places[text] = seq
                who, _, number_text = text.rpartition("#")
                number = int(number_text)
                if text not in self._open:
                    if number < newest.get(who, 0):
                        self._break("L5", f"{text} stands behind {who}#{newest[who]} in {subject}")
                    newest[who] = max(number, newest.get(who, 0))
        for who, subject, seq, text in self._seen:
            log = self._log.get(subject, [])
            if seq > len(log) or log[seq - 1] != text:
                self._break("L2", f"{who} saw {text} as {seq} of {subject}; the log has another")
