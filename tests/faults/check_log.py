"""L1–L5: what was accepted is in the log, at one place, in its publisher's order. Pure.

Keeps, of each message, who published it and which number it had, by place and by publication: some
thirty bytes. Other rules ask it what stands at a place.
"""

from array import array
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]
Break = Callable[[str, str], None]

# An edge gives up a publish after 10 s. If its publisher has lost the connection by then, nobody
# reads that, and what was sent again in a later session may stand behind newer messages.
WAITED_S = 8.0
SEQ_MAX = 1 << 24  # a seq beyond it is no seq of a run
_ACCEPTED, _LOGGED = 1, 2


class Publisher:
    """What is known of one publisher's messages, by number."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent_at = array("d", [0.0])
        self.seq = array("L", [0])  # as accepted; 0: not
        self.logged = bytearray(1)
        self.open = bytearray(1)  # 1: its place among the publisher's others is open
        self.first_unanswered = 1

    def knows(self, number: int) -> bool:
        """Whether it has published a message of that number."""
        return 0 < number < len(self.seq)


class Subject:
    """Which message stands at which seq."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.publisher = array("L", [0])  # index + 1; 0: not known
        self.number = array("L", [0])
        self.flags = bytearray(1)
        self.accepted_head = 0  # the highest seq accepted so far
        self.log_head: int | None = None  # how far the log has been told
        self.last_of: dict[int, int] = {}  # publisher: its last number in the log

    def __len__(self) -> int:
        return len(self.number) - 1

    def reach(self, seq: int) -> None:
        """Make room up to a seq."""
        missing = seq + 1 - len(self.number)
        if missing > 0:
            self.publisher.extend([0] * missing)
            self.number.extend([0] * missing)
            self.flags.extend(bytes(missing))


class LogRules:
    """The log, as publishers and readers have seen it, and as it is at the end."""

    def __init__(self, broken: Break) -> None:
        self._break = broken
        self._publishers: list[Publisher] = []
        self._index: dict[str, int] = {}
        self.subjects: dict[str, Subject] = {}

    # -- what others ask ----------------------------------------------------------------------

    def subject(self, name: str) -> Subject:
        """All that is known of a subject."""
        return self.subjects.setdefault(name, Subject(name))

    def text(self, subject: str, seq: int) -> str | None:
        """What stands at a place."""
        found = self.subject(subject)
        if not 0 < seq < len(found.number) or not found.publisher[seq]:
            return None
        return f"{self._publishers[found.publisher[seq] - 1].name}#{found.number[seq]}"

    def publisher(self, subject: str, seq: int) -> str:
        """Who published what stands at a place; empty: not known."""
        text = self.text(subject, seq)
        return text.rpartition("#")[0] if text else ""

    def sent_at(self, subject: str, seq: int) -> float:
        """When what stands at a place was sent first; 0.0: not known."""
        found = self.subject(subject)
        if not 0 < seq < len(found.number) or not found.publisher[seq]:
            return 0.0
        return self._publishers[found.publisher[seq] - 1].sent_at[found.number[seq]]

    def observe(self, who: str, subject: str, seq: int, text: str) -> None:
        """Somebody has seen this message at this place."""
        self._place(who, self.subject(subject), seq, text)

    # -- publishing ---------------------------------------------------------------------------

    def on_publish(self, e: Event) -> None:
        publisher = self._publisher(e["publisher"])
        assert e["number"] == len(publisher.seq), "a publisher's numbers rise by one"
        publisher.sent_at.append(e["at"])
        publisher.seq.append(0)
        publisher.logged.append(0)
        publisher.open.append(0)

    def on_accepted(self, e: Event) -> None:
        publisher, number, seq = self._publisher(e["publisher"]), e["number"], e["seq"]
        text = f"{publisher.name}#{number}"
        before = publisher.seq[number]
        if before and before != seq:
            self._break("L3", f"{text} was accepted as {before} and as {seq}")
        publisher.seq[number] = seq
        if e["at"] - publisher.sent_at[number] > WAITED_S:
            publisher.open[number] = 1
        subject = self.subject(e["subject"])
        if self._place("its publisher", subject, seq, text):
            subject.flags[seq] |= _ACCEPTED
        subject.accepted_head = max(subject.accepted_head, seq)

    def on_refused(self, e: Event) -> None:
        # Those before and behind it may have been refused too, with answers that nobody read.
        publisher = self._publisher(e["publisher"])
        unanswered_yet = False
        for number in range(publisher.first_unanswered, len(publisher.seq)):
            if not publisher.seq[number]:
                publisher.open[number] = 1
                unanswered_yet = True
            elif not unanswered_yet:
                publisher.first_unanswered = number + 1

    # -- the log at the end -------------------------------------------------------------------

    def on_log(self, e: Event) -> None:
        subject = self.subject(e["subject"])
        if subject.log_head is None:
            subject.log_head = e["floor"]
        if e["after"] != subject.log_head:
            self._break("L2", f"{subject.name} goes on after {e['after']}, not {subject.log_head}")
        for seq, text in enumerate(e["texts"], e["after"] + 1):
            subject.log_head = seq
            if text is None:
                self._break("L2", f"{subject.name} has a hole at {seq}")
            elif self._place("the log", subject, seq, text):
                subject.flags[seq] |= _LOGGED
                self._check_logged(subject, text)

    def on_partition(self, e: Event) -> None:
        pos = epoch = 0
        for first, last, run_epoch in e["runs"]:
            if pos and first != pos + 1:
                self._break("L4", f"partition {e['partition']} goes on with {first} after {pos}")
            if run_epoch < epoch:
                text = f"{first} of epoch {run_epoch} stands behind {pos} of epoch {epoch}"
                self._break("L4", f"partition {e['partition']}: {text}")
            pos, epoch = last, run_epoch

    def _check_logged(self, subject: Subject, text: str) -> None:
        name, _, number_text = text.rpartition("#")
        index, number = self._index[name], int(number_text)
        publisher = self._publishers[index]
        if publisher.logged[number]:
            self._break("L3", f"{text} is in the log twice, the second time in {subject.name}")
        publisher.logged[number] = 1
        if publisher.open[number]:
            return  # it was sent again, later
        if number < subject.last_of.get(index, 0):
            self._break("L5", f"{text} stands behind a later one in {subject.name}")
        subject.last_of[index] = number

    def finish(self) -> None:
        """Nothing accepted is missing."""
        for subject in self.subjects.values():
            for seq in range(1, len(subject) + 1):
                if subject.flags[seq] & (_ACCEPTED | _LOGGED) == _ACCEPTED:
                    text = self.text(subject.name, seq)
                    self._break("L1", f"{text}, accepted as {seq} of {subject.name}, is not there")

    # -- parts --------------------------------------------------------------------------------

    def _publisher(self, name: str) -> Publisher:
        if name not in self._index:
            self._index[name] = len(self._publishers)
            self._publishers.append(Publisher(name))
        return self._publishers[self._index[name]]

    def _place(self, who: str, subject: Subject, seq: int, text: str) -> bool:
        """Whether the message may stand there, as far as others have seen."""
        name, _, number_text = text.rpartition("#")
        number = int(number_text) if number_text.isdigit() else 0
        if name not in self._index or not self._publisher(name).knows(number):
            self._break("L1", f"{text}, seen by {who} in {subject.name}, was published by nobody")
            return False
        if not 0 < seq < SEQ_MAX:
            self._break("L2", f"{text} in {subject.name} has the seq {seq}")
            return False
        subject.reach(seq)
        known = self.text(subject.name, seq)
        if known is None:
            subject.publisher[seq] = self._index[name] + 1
            subject.number[seq] = number
        elif known != text:
            self._break("L2", f"{seq} of {subject.name} is {known}, but {text} for {who}")
            return False
        return True
