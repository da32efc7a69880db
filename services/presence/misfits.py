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
            elif others_served and _failed_before(one):
                self._known[one.id] = None
                if len(self._known) > KEPT_MAX:
                    self._known.popitem(last=False)


def _failed_before(delivery: Delivery) -> bool:
    """Whether an earlier try met a fault of the plugin's: those are not among `tries`."""
    return delivery.attempts - delivery.tries > 1
