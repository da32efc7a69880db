"""Which templates are not run for a while, since they used up their time again and again. Pure.

All deliveries wait for one process that runs templates. One that loops would cost each batch the
time that it is given, three times over; so it is remembered, and for a while its deliveries fail
at once.

Knows names and times. Must not know what a template is or does. To drive it: ask `out` before a
template is run, `learn` after each batch what its templates did.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping

from services.presence.render_process import STRIKES_MAX

# After its last strike a template is run again; what was mended has another key and need not wait.
KEPT_S = 60.0
KEPT_MAX = 500  # beyond it the oldest are forgotten

# A template's name, and the digest of the text that is run.
Key = tuple[str, bytes]


class Strikes:
    """Those of all batches. `clock`: seconds that do not jump."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # How many there were in a row, and when the last.
        self._known: OrderedDict[Key, tuple[int, float]] = OrderedDict()

    def out(self, key: Key) -> bool:
        """Whether it is not to be run now."""
        return self._count(key) >= STRIKES_MAX

    def learn(self, struck: Mapping[Key, int], rendered: Collection[Key]) -> None:
        """What one batch brought: strikes of each, and which also gave words. Those can work, so
        that it may be single messages at which they fail."""
        for key in rendered:
            self._known.pop(key, None)
        for key, count in struck.items():
            if count and key not in rendered:
                count += self._count(key)
                self._known.pop(key, None)
                self._known[key] = count, self._clock()
        while len(self._known) > KEPT_MAX:
            self._known.popitem(last=False)

    def _count(self, key: Key) -> int:
        count, at = self._known.get(key, (0, 0.0))
        return count if self._clock() - at < KEPT_S else 0
