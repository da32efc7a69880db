"""What became of deliveries, under their ids, for whoever asks again.

What was sent is remembered, so that it is not sent twice; of those the oldest are forgotten first.
What ended after its caller had been answered is kept apart until somebody hears of it, since it may
be asked for many minutes later, and there may be many successes meanwhile. A failure is told once:
who comes again then wants it tried again.

Knows results. Must not know channels or who sends. To drive it: `keep(…)` when a send has ended,
`get(id)` when one is asked for, `told(id)` when its result was an answer.
"""

from collections import OrderedDict

from onward.notifier.v1 import notifier_pb2

Result = notifier_pb2.Result

_SENT = (Result.ACCEPTED, Result.DELIVERED)


class Remembered:
    """At most `most` of each kind."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._sent: OrderedDict[str, Result] = OrderedDict()
        self._untold: OrderedDict[str, Result] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sent) + len(self._untold)

    def get(self, delivery_id: str) -> Result | None:
        """What became of it, if that is known."""
        return self._untold.get(delivery_id) or self._sent.get(delivery_id)

    def keep(self, delivery_id: str, result: Result, *, untold: bool) -> None:
        """It has ended so. `untold`: nobody waits for its result any more."""
        if untold:
            self._put(self._untold, delivery_id, result)
        elif result.outcome in _SENT:
            self._put(self._sent, delivery_id, result)

    def told(self, delivery_id: str) -> None:
        """Somebody has heard of it."""
        result = self._untold.pop(delivery_id, None)
        if result is not None:
            self.keep(delivery_id, result, untold=False)

    def _put(self, kept: OrderedDict[str, Result], delivery_id: str, result: Result) -> None:
        kept[delivery_id] = result
        if len(kept) > self._most:
            kept.popitem(last=False)
