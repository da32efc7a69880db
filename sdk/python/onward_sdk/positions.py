"""The order of one subject: what to hand over, what to drop, when something is missing. Pure.

Knows seqs; must not know frames, connections or other subjects. A subscription holds two numbers:
`received`, the last seq handed over to the application's queue, and `handled`, the last one the
application is done with. Their rules:

1. A message at or below `received` is a duplicate: drop it.
2. A message at `received` + 1 is next: hand it over.
3. A message above that shows a hole: ask again for everything after `handled`, once, and drop
   what is out of order until the answer has come.
4. Only `handled` is ever told to the server, as an acknowledgement or as a place to recover from;
   otherwise a crash would lose what was still in the queue.
5. Without a position (both are None) the server's answer gives one; nothing live is taken before.
6. HISTORY and SNAPSHOT lie below the position and do not move it; they have an order of their own,
   so that each comes at most once for a start of the subscription.
7. TRANSIENT has no seq: it is handed over as it comes, and nothing of it is ever acknowledged.
"""

import enum

from onward_sdk.protocol import Subscription, SubscriptionState


class Verdict(enum.Enum):
    """What to do with a message."""

    HAND_OVER = enum.auto()
    DROP = enum.auto()
    ASK_AGAIN = enum.auto()


class Track:
    """One subscription's order, across connections."""

    __slots__ = (
        "_asked",
        "_below",
        "_start",
        "acked",
        "granted",
        "handled",
        "received",
        "recovered",
    )

    def __init__(self, start: Subscription) -> None:
        self._start = start
        self._asked = False  # a hole was seen and the answer to asking again has not come
        self._below = 0  # the last seq of HISTORY or SNAPSHOT handed over
        self.received = start.after_seq
        self.handled = start.after_seq
        self.acked = start.after_seq or 0  # as this connection's edge knows it
        self.recovered = 0  # messages since recovery began
        self.granted = False  # the server has let the client have the subject

    def subscription(self) -> Subscription:
        """How to subscribe now: after the position if there is one, else as first asked."""
        if self.handled is None:
            return self._start
        return Subscription(self._start.subject, after_seq=self.handled)

    def lost_connection(self) -> None:
        """Nothing asked for before will be answered."""
        self._asked = False
        self.recovered = 0
        self.acked = self.handled or 0

    def take(self, kind: str, seq: int) -> Verdict:
        """Judges a message."""
        if kind == "TRANSIENT":
            return Verdict.HAND_OVER
        if kind in ("HISTORY", "SNAPSHOT"):
            if seq <= self._below:
                return Verdict.DROP
            self._below = seq
            return Verdict.HAND_OVER
        if self.received is None or seq <= self.received:
            return Verdict.DROP
        if seq > self.received + 1:
            return self.missing()
        self.received = seq
        if kind == "RECOVERED":
            self.recovered += 1
        return Verdict.HAND_OVER

    def missing(self) -> Verdict:
        """Something is known to be missing: asks again, unless that was done already."""
        if self._asked:
            return Verdict.DROP
        self._asked = True
        self.recovered = 0
        return Verdict.ASK_AGAIN

    def may_ask(self) -> None:
        """Asking was in vain; what shows the hole again asks again."""
        self._asked = False

    def answered(self, state: SubscriptionState) -> tuple[int, int] | None:
        """Takes the server's answer to a subscription; returns the range that will not come.

        (0, 0): what is lost cannot be told, because positions themselves have changed.
        """
        self._asked = False
        self.granted = True
        if state.recovered or (state.recovered is None and self.received is not None):
            return None
        if self.received is None:
            self.received = self.handled = self.acked = state.seq
            return None
        if state.seq < self.received or state.reason in ("LOG_REPLACED", "AHEAD"):
            self.received = self.handled = self.acked = state.seq
            return (0, 0)
        return self.skip(state.seq)

    def skip(self, seq: int) -> tuple[int, int] | None:
        """Goes on after `seq`; returns the range passed over, if any.

        `handled` follows when the application has been told.
        """
        if self.received is not None and seq <= self.received:
            return None
        lost = ((self.received or 0) + 1, seq)
        self.received = seq
        return lost

    def done_with(self, seq: int) -> None:
        """The application has handled everything up to `seq`."""
        if self.handled is not None and seq > self.handled:
            self.handled = seq
