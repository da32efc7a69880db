"""The clock of a presence store that has none of its own."""

import time
from collections.abc import Callable

from services.chassis.lease import boottime


def steady() -> Callable[[], float]:
    """A clock in seconds that begins with the time of day and does not follow its jumps.

    What is due, the ends of graces and what is kept for how long are told by it: after a clock
    that was an hour ahead is set right, they must not wait for an hour. A machine whose time was
    wrong when the process began keeps it until the next start.
    """
    offset_s = time.time() - boottime()
    return lambda: offset_s + boottime()
