"""What a double says to requests for one addressee, whatever others ask of it meanwhile.

A double that has `scripts` names the addressee of each request. To drive it:

    double.scripts.say("device-1", busy, busy)          # its next two requests; then as usual
    double.scripts.say("device-2", wrong, stands=True)  # the last one again and again, until …
    double.scripts.mend("device-2")
    assert double.scripts.asked["device-1"] == 3
"""

import threading
from collections import Counter
from typing import Generic, TypeVar

A = TypeVar("A")


class Scripts(Generic[A]):
    """One script per addressee; safe in threads."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()  # requests per addressee, scripted or not
        self._lines: dict[str, list[A]] = {}
        self._standing: set[str] = set()
        self._lock = threading.Lock()

    def say(self, to: str, *answers: A, stands: bool = False) -> None:
        """Say these to the next requests for `to`. `stands`: the last one until `mend`."""
        with self._lock:
            self._lines[to] = list(answers)
            if stands:
                self._standing.add(to)

    def mend(self, to: str) -> None:
        """From now on as usual."""
        with self._lock:
            self._lines.pop(to, None)
            self._standing.discard(to)

    def next(self, to: str) -> A | None:
        """What is said to the request for `to` that has just come; None: the usual."""
        with self._lock:
            self.asked[to] += 1
            lines = self._lines.get(to)
            if not lines:
                return None
            return lines[0] if len(lines) == 1 and to in self._standing else lines.pop(0)
