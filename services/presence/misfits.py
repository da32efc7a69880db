"""Deliveries that fail as a whole channel does, though it serves others. Pure.

Anybody may register an endpoint that makes a plugin say so: that it is set up wrongly, or that its
provider takes nothing, as a mail server may answer for one recipient alone. Such a delivery must
neither open the breaker of its channel each time, nor be the one that probes it: it waits by
itself, longer and longer, and what it comes to says nothing of the plugin.

Knows outcomes. Must not know breakers or plugins. To drive it: `learn` what every call came to,
then ask which are `in` it. It is kept in memory: a new process learns it anew.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from services.presence.notifications import Answer, Delivery, Outcome

# Of one channel; beyond it the oldest are forgotten, and learnt again.
KEPT_MAX = 1_000
_OF_THE_WHOLE = (Outcome.MISCONFIGURED, Outcome.PROVIDER_UNAVAILABLE)


class Misfits:
    """Those of one channel."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()
        # Those that failed so, whether others were served or not.
        self._once: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, delivery_id: str) -> bool:
        return delivery_id in self._known

    def learn(
        self, tried: Sequence[Delivery], answers: Mapping[str, Answer], others_served: bool
    ) -> None:
        """What became of deliveries, as they were claimed. `others_served`: something was, since
        the channel last failed as a whole."""
        for one in tried:
            if answers[one.id].outcome is Outcome.NOT_BEGUN:
                pass  # Nothing was learnt of it.
            elif answers[one.id].outcome not in _OF_THE_WHOLE:
                self._known.pop(one.id, None)
                self._once.pop(one.id, None)
            else:
                again = one.id in self._once
                kept = self._known if again and others_served else self._once
                kept[one.id] = None
                if len(kept) > KEPT_MAX:
                    kept.popitem(last=False)
